//go:build linux && !portable && (amd64 || arm64)

package entry

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

// The runtime runs one goroutine at a time, unless the user has said how many; the
// environment is the user's in any case.
func TestOneAtATime(t *testing.T) {
	script, err := os.ReadFile("../../install.sh")
	require.NoError(t, err)
	flag := regexp.MustCompile(`-E [\w./-]+\.start`).FindString(string(script))
	require.NotEmpty(t, flag)
	probe := filepath.Join(t.TempDir(), "probe")
	build := exec.Command("go", "build", "-ldflags", flag, "-o", probe, "./testdata/probe")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	for _, c := range []struct {
		env  []string
		want string
	}{
		{[]string{}, "true 1  0\n"},
		{[]string{"A=1", "B=2"}, "true 1  2\n"},
		{[]string{"A=1", "GOMAXPROCS=9000"}, "true 9000 9000 2\n"},
	} {
		run := exec.Command(probe)
		run.Env = c.env
		out, err := run.CombinedOutput()
		require.NoError(t, err, "%s", out)
		require.Equal(t, c.want, string(out), "%q", c.env)
	}
}
