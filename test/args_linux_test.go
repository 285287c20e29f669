package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// every byte that an argument can have, those of invalid UTF-8 included.
func everyByte() string {
	b := make([]byte, 0, 256)
	for c := 1; c < 256; c++ {
		b = append(b, byte(c))
	}
	return string(b)
}

func TestBytesPassThrough(t *testing.T) {
	all := everyByte()
	name := strings.ReplaceAll(all, "/", "")[:120] + "\xff\xfe\U0010FF41" // for a file
	for what, c := range map[string]struct {
		env, args []string
		want      string
	}{
		"an argument before --":     {nil, []string{"-d", "x.db", "printf", "%s", all}, all},
		"an argument behind --":     {nil, []string{"-d", "x.db", "--", "printf", "%s", all}, all},
		"with the whole grammar":    {nil, []string{"run", "-d", "x.db", "printf", "%s", all}, all},
		"with the flags of all":     {nil, []string{"-x", "-d", "x.db", "printf", "%s", all}, all},
		"-c":                        {nil, []string{"-d", "x.db", "-c", "printf '%s' '" + strings.ReplaceAll(all, "'", "") + "'"}, strings.ReplaceAll(all, "'", "")},
		"DBLOCK_COMMAND":            {[]string{"DBLOCK_COMMAND=printf '%s' '" + strings.ReplaceAll(all, "'", "") + "'"}, []string{"-d", "x.db"}, strings.ReplaceAll(all, "'", "")},
		"-d":                        {nil, []string{"-d", name, "sh", "-c", `printf %s "${DBLOCK_HOLD_DB##*/}"`}, name},
		"-d and a letter":           {nil, []string{"-nd" + name, "sh", "-c", `printf %s "${DBLOCK_HOLD_DB##*/}"`}, name},
		"--db=":                     {nil, []string{"--db=" + name, "sh", "-c", `printf %s "${DBLOCK_HOLD_DB##*/}"`}, name},
		"DBLOCK_DB":                 {[]string{"DBLOCK_DB=" + name}, []string{"sh", "-c", `printf %s "${DBLOCK_HOLD_DB##*/}"`}, name},
		"--lock-file":               {nil, []string{"--lock-file", name, "sh", "-c", `printf %s "${DBLOCK_HOLD_LOCK_FILE##*/}"`}, name},
		"DBLOCK_LOCK_FILE":          {[]string{"DBLOCK_LOCK_FILE=" + name}, []string{"sh", "-c", `printf %s "${DBLOCK_HOLD_LOCK_FILE##*/}"`}, name},
		"-p":                        {nil, []string{"-d", "x.db", "-p", all, "sh", "-c", `printf %s "$DBLOCK_HOLD_PROCESS"`}, all},
		"DBLOCK_PROCESS":            {[]string{"DBLOCK_PROCESS=" + all}, []string{"-d", "x.db", "sh", "-c", `printf %s "$DBLOCK_HOLD_PROCESS"`}, all},
		"the enclosing hold's name": {nil, []string{"-d", name, binary, "-n", "sh", "-c", `printf %s "${DBLOCK_HOLD_DB##*/}"`}, name},
	} {
		t.Run(what, func(t *testing.T) {
			r := finish(t, with(command(t, t.TempDir(), c.args...), c.env...))
			require.Equal(t, c.want, r.stdout, r.stderr)
		})
	}
	dir := t.TempDir()
	r := execute(t, dir, "status", "-d", "a\xff/x.db")
	require.NotContains(t, r.stdout+r.stderr, "\uFFFD")
	r = execute(t, dir, "run", "-d", name, "--", "true")
	require.Zero(t, r.code(), r.stderr)
	r = execute(t, dir, "status", "--json", "--lock-file", filepath.Join(dir, "."+name[:strings.LastIndex(name, ".")]+".lock"))
	require.Zero(t, r.code(), r.stderr)
}

func TestWhyDenied(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs another user")
	}
	require.NoError(t, os.Chmod(filepath.Dir(binary), 0o755))
	nobody := func(dir string, args ...string) result {
		c := exec.Command("setpriv", append([]string{"--reuid", "65534", "--regid", "65534", "--clear-groups", binary}, args...)...)
		c.Dir = dir
		return finish(t, c)
	}
	top, err := os.MkdirTemp("", "dblock-denied")
	require.NoError(t, err)
	defer os.RemoveAll(top)
	require.NoError(t, os.Chmod(top, 0o755))
	r := nobody(top, "-d", "x.db", "--", "true")
	require.Equal(t, 77, r.code())
	require.Contains(t, r.stderr, "belongs to another user (uid 0)")
	own := filepath.Join(top, "own")
	require.NoError(t, os.Mkdir(own, 0o555))
	require.NoError(t, os.Chown(own, 65534, 65534))
	r = nobody(top, "-d", "own/x.db", "--", "true")
	require.Equal(t, 77, r.code())
	require.Contains(t, r.stderr, "is your own, but its mode (dr-xr-xr-x)")
	require.NoError(t, os.Chmod(own, 0o644))
	r = nobody(top, "-d", "own/x.db", "--", "true")
	require.Equal(t, 77, r.code(), "no search permission")
	require.Contains(t, r.stderr, "is your own, but its mode (drw-r--r--)")
}
