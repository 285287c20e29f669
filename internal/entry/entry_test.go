//go:build linux && !portable && (amd64 || arm64)

package entry

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

// The runtime runs one goroutine at a time, unless the user has said how many. Of what it
// is spared at its start nothing is left behind, for the program and for those that it starts.
func TestStart(t *testing.T) {
	script, err := os.ReadFile("../../install.sh")
	require.NoError(t, err)
	flag := regexp.MustCompile(`-E [\w./-]+\.start`).FindString(string(script))
	require.NotEmpty(t, flag)
	probe := filepath.Join(t.TempDir(), "probe")
	build := exec.Command("go", "build", "-ldflags", flag, "-o", probe, "./testdata/probe")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	slack, err := os.ReadFile("/proc/self/timerslack_ns")
	require.NoError(t, err)
	for _, c := range []struct {
		env        []string
		says       string
		soft, hard int
		closed     string
	}{
		{[]string{}, "true true 1 1 0", 60, 90, ""},
		{[]string{"A=1", "B=2"}, "true true 1 3 0", 90, 90, ""},
		{[]string{"A=1", "GOMAXPROCS=9000"}, "true false 9000 2 0", 20, 90, ""},
		{[]string{}, "true true 1 1 0", 60, 90, "<&-"}, // the runtime opens /dev/null in its place
	} {
		run := exec.Command("/bin/sh", "-c", fmt.Sprintf(`ulimit -Sn %d && ulimit -Hn %d && exec env -i "$@" 3>&- 4>&- 5>&- 6>&- %s`, c.soft, c.hard, c.closed), "sh")
		run.Args = append(append(run.Args, c.env...), probe)
		out, err := run.CombinedOutput()
		require.NoError(t, err, "%s", out)
		free := "3" // and not one after those in which the runtime found limits of processors
		if c.closed != "" {
			free = `\d`
		}
		require.Regexp(t, fmt.Sprintf(`^%s %s\nfirst free descriptor %s <nil>\n%d\n%d\n%s$`, c.says, bytes.TrimSpace(slack), free, c.soft, c.hard, slack), string(out))
	}
}
