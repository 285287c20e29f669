//go:build linux

package storm

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// endWitnesses ends those that keep the locks of sessions that were killed, of a certain
// environment, until it is over. They would wait for the end of what has started the session: here
// that is strace, which waits for them.
func endWitnesses(env string, over <-chan struct{}) {
	for {
		select {
		case <-over:
			return
		case <-time.After(20 * time.Millisecond):
		}
		all, _ := filepath.Glob("/proc/[0-9]*/environ")
		for _, path := range all {
			b, _ := os.ReadFile(path)
			if !slices.Contains(strings.Split(string(b), "\x00"), env) {
				continue
			}
			dir := filepath.Dir(path)
			stat, _ := os.ReadFile(filepath.Join(dir, "stat"))
			rest := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
			if len(rest) < 2 || !bytes.Contains(stat, []byte("(dblock)")) {
				continue
			}
			parent, err := os.ReadFile(filepath.Join("/proc", rest[1], "comm"))
			if pid, perr := strconv.Atoi(filepath.Base(dir)); err == nil && perr == nil && string(parent) != "dblock\n" && string(parent) != "strace\n" && string(parent) != "sh\n" && string(parent) != "node\n" && !bytes.HasPrefix(parent, []byte("python")) {
				_ = unix.Kill(pid, unix.SIGKILL)
			}
		}
	}
}

// TestClientsWhoseSessionIsKilled kills the session of a client at its system calls, while the
// client has the lock again and again, with and without lingering. The client is told in
// words that it knows, its next use of the lock has a new session, and nothing is left.
func TestClientsWhoseSessionIsKilled(t *testing.T) {
	needTool(t, "strace", "node", "python3")
	need(t, run(t, exec.Command("strace", "-o", os.DevNull, "true")).code == 0, "strace does not work here")
	client, err := filepath.Abs("../../clients/node/dist/index.mjs")
	if err != nil {
		t.Fatal(err)
	}
	_, err = os.Stat(client)
	need(t, err == nil, "the Node client was not built: npm run build in clients/node")
	python, err := filepath.Abs("../../clients/python/src")
	if err != nil {
		t.Fatal(err)
	}
	// The first session is to die, and no later one.
	wrapper := filepath.Join(scratch(t), "dblock")
	script := `#!/bin/sh
mkdir "$KILLED_DIR/first" 2>/dev/null || exec "$KILLED_DBLOCK" "$@"
strace -f -o /dev/null -e signal=none -e "inject=$KILLED_AT:signal=KILL" -- "$KILLED_DBLOCK" "$@" 2>/dev/null
code=$?
[ "$code" != 137 ] || mkdir "$KILLED_DIR/died"
exit "$code"
`
	if err := os.WriteFile(wrapper, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, command := range map[string][]string{"Node": {"node", "testdata/killed.mjs"}, "Python": {"python3", "testdata/killed.py"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			told := map[string]int{}
			runs, died := 0, 0
			shoot := func(call string, n int) bool {
				db := database(t)
				dir := filepath.Dir(db)
				work := scratch(t)
				cmd := exec.Command(command[0], command[1:]...)
				cmd.Env = append(os.Environ(), "KILLED_DB="+db, "KILLED_DIR="+work, fmt.Sprintf("KILLED_AT=%s:when=%d", call, n), "KILLED_DBLOCK="+dblock,
					"KILLED_CLIENT="+client, "DBLOCK_BINARY="+wrapper, "PYTHONPATH="+python, "PYTHONDONTWRITEBYTECODE=1")
				over := make(chan struct{})
				go endWitnesses("KILLED_DIR="+work, over)
				r := run(t, cmd)
				close(over)
				killed := inode(filepath.Join(work, "died")) != 0
				lines := strings.Split(strings.TrimSpace(r.stdout), "\n")
				if r.code != 0 || lines[len(lines)-1] != "done" || r.stderr != "" {
					t.Errorf("%s, the %d. time: %v", call, n, r)
				}
				for _, line := range lines[:len(lines)-1] {
					code, message, _ := strings.Cut(line, "\t")
					if !slices.Contains([]string{"check: lost", "lost", "ended", "session", "not-found"}, code) || !killed || message == "" {
						t.Errorf("%s, the %d. time, killed %t: the client was told %q", call, n, killed, line)
					}
					told[code]++
				}
				usable(t, db)
				os.RemoveAll(dir)
				runs++
				if killed {
					died++
				}
				return killed
			}
			for _, call := range []string{"flock", "linkat", "unlinkat", "pwrite64", "renameat2", "mkdirat", "openat", "fcntl", "write", "read", "ppoll"} {
				step := 100
				if *full {
					step = 1
				}
				for n := 1; shoot(call, n) && !t.Failed(); n += step {
				}
			}
			t.Logf("%d runs, the session died in %d; the client was told %v", runs, died, told)
			if died == 0 || len(told) == 0 {
				t.Error(slices.Collect(maps.Keys(told)), "nothing was killed")
			}
		})
	}
}
