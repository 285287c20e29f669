package test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dblock-dev/dblock/internal/portable"
)

// list is the JSON of dblock ls.
type list struct {
	Locks []struct {
		State    string
		Locked   bool
		LockFile string `json:"lock_file"`
		Error    string
	}
	Errors []struct{ Path, Error string }
}

func listOf(t *testing.T, text string) (l list) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(text), &l), text)
	return l
}

// What may not be read is said, and the rest is listed.
func TestLsOfWhatMayNotBeRead(t *testing.T) {
	t.Parallel()
	needRoot(t)
	need(t, "setpriv")
	dir := t.TempDir()
	for path := dir; path != "/tmp" && path != "/"; path = filepath.Dir(path) {
		require.NoError(t, os.Chmod(path, 0o755))
	}
	reachable := filepath.Join(dir, "dblock")
	program, err := os.ReadFile(binary)
	require.NoError(t, err)
	executable(t, reachable, program)
	foreign(t, dir, 1, "elsewhere", 0)
	nobody := func(args ...string) result {
		c := exec.Command("setpriv", append([]string{"--reuid", "65534", "--regid", "65534", "--clear-groups", reachable, "ls"}, args...)...)
		c.Dir = dir
		return finish(t, with(c, "LC_ALL=C"))
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, ".secret.lock"), nil, 0o600))
	r := nobody()
	require.Zero(t, r.code(), r.stderr)
	require.Regexp(t, `\nunreadable +permission denied +\.secret\.lock\nforeign +[0-9.]+s +mcp-server \(pid 1 on elsewhere\) +\.x\.lock\n$`, r.stdout)
	require.Equal(t, 1, nobody("-q", "--exit-code", "-a").code())

	require.NoError(t, os.MkdirAll(filepath.Join(dir, "closed"), 0o700))
	r = nobody("--json")
	require.Equal(t, 77, r.code())
	require.Equal(t, "dblock: open "+dir+"/closed: permission denied\n", r.stderr)
	l := listOf(t, r.stdout)
	require.Len(t, l.Locks, 2)
	require.Equal(t, "unreadable", l.Locks[0].State)
	require.Equal(t, "permission denied", l.Locks[0].Error)
	require.True(t, l.Locks[0].Locked)
	require.Equal(t, dir+"/.x.lock", l.Locks[1].LockFile)
	require.Len(t, l.Errors, 1)
	require.Equal(t, dir+"/closed", l.Errors[0].Path)
	require.Equal(t, "permission denied", l.Errors[0].Error)
	require.Equal(t, 77, nobody("-q", "--exit-code").code())
	r = nobody("closed")
	require.Equal(t, 77, r.code())
	require.Empty(t, r.stdout)
	require.Regexp(t, `^dblock: open /.*/closed: permission denied\nhint: /.*/closed belongs to another user`, r.stderr)
}

// With -x no other filesystem is looked at, not even one that never answers.
func TestLsStaysInOneFilesystem(t *testing.T) {
	t.Parallel()
	needRoot(t)
	need(t, "unshare", "python3")
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "below/m m"), 0o755))
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "bound"), 0o755))
	foreign(t, dir, 1, "elsewhere", 0)
	x := exec.Command("unshare", "--mount", "sh", "-c", `mount -t tmpfs none "below/m m" && cp .x.lock "below/m m/.y.lock" && mount --bind . bound && "$0" ls && echo && "$0" ls -x && cd "below/m m" && echo && "$0" ls -x`, binary)
	x.Dir = dir
	r := finish(t, x)
	if r.stdout == "" {
		t.Skip("nothing can be mounted here: ", r.stderr)
	}
	var found []string
	for line := range strings.Lines(r.stdout) {
		if at := strings.LastIndex(line, ")  "); at > 0 {
			found = append(found, strings.TrimSpace(line[at+1:]))
		} else if line == "\n" {
			found = append(found, "")
		}
	}
	require.Equal(t, []string{".x.lock", "below/m m/.y.lock", "bound/.x.lock", "", ".x.lock", "bound/.x.lock", "", ".y.lock"}, found, r.stdout)

	t.Run("FUSE", func(t *testing.T) {
		portable.Needs(t, portable.Linux) // it tells what is mounted without a look at it
		x := exec.Command("unshare", "--mount", "python3", "-c", `import ctypes, os, subprocess, sys
fd = os.open("/dev/fuse", os.O_RDWR)
if ctypes.CDLL(None, use_errno=True).mount(b"none", b"bound", b"fuse", 0, b"fd=%d,rootmode=40000,user_id=0,group_id=0" % fd) != 0:
    sys.exit("no FUSE here")
sys.exit(subprocess.run(sys.argv[1:], pass_fds=[fd]).returncode)`, "timeout", "-s", "KILL", "20", binary, "ls", "-x", "--json")
		x.Dir = dir
		begin := time.Now()
		r := finish(t, x)
		if strings.Contains(r.stderr, "FUSE") || strings.Contains(r.stderr, "/dev/fuse") {
			t.Skip(r.stderr)
		}
		require.Zero(t, r.code(), r.stderr)
		require.Len(t, listOf(t, r.stdout).Locks, 1)
		require.Less(t, time.Since(begin), 20*time.Second)
	})
}

// The table fits the terminal: the paths are cut at their beginning, and where there is
// no room for a table each lock has lines of its own.
func TestLsOnTerminals(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	deep := filepath.Join(dir, "a-directory-with-a-name/and-another-one-below-it")
	require.NoError(t, os.MkdirAll(deep, 0o755))
	foreign(t, deep, 1, "elsewhere", 0)
	h := hold(t, deep, "-d", "held.db", "-p", "größe")
	start(t, command(t, deep, "-q", "-w", "1000", "-d", "held.db", "--", "true"))
	await(t, "one waits", func() bool { return waiters(t, deep, "held.db") == 1 })
	for _, c := range []struct {
		columns uint16
		want    string
	}{
		{200, `STATE +AGE +WAITING +HOLDER +LOCK FILE\r\n` +
			`\x1b\[31mheld +\x1b\[0m[0-9ms.]+ +1 +größe \(pid \d+\) +a-directory-with-a-name/and-another-one-below-it/\.held\.lock\r\n` +
			`\x1b\[31mforeign +\x1b\[0m[0-9ms.]+ +mcp-server \(pid 1 on elsewhere\)  a-directory-with-a-name/and-another-one-below-it/\.x\.lock\r\n`},
		{80, `STATE +AGE +WAITING +HOLDER +LOCK FILE\r\n.*größe \(pid \d+\) +…/\.held\.lock\r\n.*mcp-server \(pid 1 on elsewhere\)  …/\.x\.lock\r\n`},
		{40, `…/and-another-one-below-it/\.held\.lock\r\n  held: größe \(pid \d+\), [0-9ms.]+,\s+1\s+waiting\r\n` +
			`…/and-another-one-below-it/\.x\.lock\r\n  foreign: mcp-server \(pid 1 on\r\n    elsewhere\), [0-9ms.]+\r\n`},
	} {
		if portable.Half { // which does not know who waits
			c.want = strings.NewReplacer(` +1 +größe`, ` +größe`, `,\s+1\s+waiting`, ``).Replace(c.want)
		}
		tm := newTerminal(t, dir, c.columns)
		tm.typed("dblock ls\n")
		tm.expect(c.want)
	}
	letGo(t, deep)
	require.NoError(t, h.Wait())
}
