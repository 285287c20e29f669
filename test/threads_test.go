//go:build linux

package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/internal/portable"
)

// A command that forks until its user may have no more processes takes away the threads that
// dblock would start when there is something to do.
const forksToTheLimit = `
import os, sys, time
children = []
while True:
    try:
        pid = os.fork()
    except OSError:
        break
    if pid == 0:
        while not os.path.exists("go"): time.sleep(0.01)
        os._exit(0)
    children.append(pid)
open("full", "w").close()
for pid in children: os.waitpid(pid, 0)
`

func TestACommandThatUsesUpTheProcesses(t *testing.T) {
	portable.Needs(t, portable.Linux) // where threads count as processes
	needRoot(t)
	need(t, "python3", "bash")
	require.NoError(t, os.Chmod(filepath.Dir(binary), 0o755))
	for round := range 9 {
		dir, err := os.MkdirTemp("", "dblock-limit")
		require.NoError(t, err)
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		require.NoError(t, os.Chmod(dir, 0o777))
		c := exec.Command("bash", "-c", `ulimit -u 40; exec "$0" "$@"`, binary, "-d", "app.db", "--stale-timeout", "1", "--", "python3", "-c", forksToTheLimit)
		c.Dir = dir
		// A user of its own, also beside another run of the tests: the limit counts all that
		// the user has.
		uid := uint32(1_000_000 + os.Getpid()*16 + round)
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid, NoSetGroups: true}}
		start(t, c)
		await(t, "there are no more processes", func() bool { return exists(dir, "full") })
		notice := filepath.Join(dir, ".app.lock")
		before := statusOf(t, dir, "app.db").Holder
		require.NotNil(t, before)
		switch round % 3 {
		case 0: // heartbeats
			await(t, "it beats", func() bool {
				h := statusOf(t, dir, "app.db").Holder
				return h != nil && h.Timestamp > before.Timestamp
			})
		case 1: // healing
			require.NoError(t, os.Remove(notice))
			await(t, "it heals", func() bool { return exists(notice) })
		case 2: // the end of a tree
			require.NoError(t, c.Process.Signal(unix.SIGTERM))
		}
		if round%3 != 2 {
			letGo(t, dir)
		}
		err = c.Wait()
		if round%3 == 2 {
			require.Equal(t, unix.SIGTERM, c.ProcessState.Sys().(syscall.WaitStatus).Signal())
		} else {
			require.NoError(t, err)
		}
	}
}
