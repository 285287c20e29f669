//go:build linux

package storm

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dblock-dev/dblock/internal/portable"
)

// increment is a read-modify-write without any care of its own: what a lost
// update loses is missing from the sum.
const increment = `read n < "$1"; echo $((n + 1)) > "$1"`

func newCounter(t testing.TB, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "counter")
	if err := os.WriteFile(path, []byte("0\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func counted(t testing.TB, path string) int {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestContainers has two containers work on one directory: with a pid namespace
// each, with and without a name of their own.
func TestContainers(t *testing.T) {
	needRoot(t)
	needTool(t, "unshare")
	for _, named := range []bool{false, true} {
		t.Run(fmt.Sprintf("own host name %v", named), func(t *testing.T) {
			contained := func(host string, args ...string) *exec.Cmd {
				if !named {
					return exec.Command("unshare", append([]string{"-pf", "--kill-child", "--mount-proc", "--"}, args...)...)
				}
				return exec.Command("unshare", append([]string{"-pfu", "--kill-child", "--mount-proc", "--",
					"sh", "-c", `hostname "$0" && exec "$@"`, host}, args...)...)
			}
			probe := run(t, contained("probe", "true"))
			need(t, probe.code == 0, "cannot make namespaces: %v", probe)
			db := database(t)

			// Exclusion: both count, nothing is lost.
			counter := newCounter(t, filepath.Dir(db))
			const turns = 40
			var wg sync.WaitGroup
			for _, host := range []string{"one", "two"} {
				for range 2 {
					cmd := contained(host, "sh", "-c",
						`i=0; while [ $i -lt "$1" ]; do "$2" -w 60 -d "$3" -- sh -c "$4" sh "$5" || exit; i=$((i + 1)); done`,
						"sh", strconv.Itoa(turns), dblock, db, increment, counter)
					wg.Go(func() {
						if out, err := cmd.CombinedOutput(); err != nil {
							t.Errorf("%v: %s", err, out)
						}
					})
				}
			}
			wg.Wait()
			if n := counted(t, counter); n != 4*turns {
				t.Errorf("counted %d, want %d", n, 4*turns)
			}

			// A dblock in one container is alive, however little the other sees of it.
			h := holding(t, db, contained("one", dblock, "-d", db, "--stale-timeout", "1s", "--", self))
			r := run(t, contained("two", dblock, "-w", "1.5", "--stale-timeout", "1s", "-d", db, "--", "true"))
			if r.code != 75 {
				t.Errorf("the other container is not kept out: %v", r)
			}
			if code := h.end(); code != 0 {
				t.Errorf("exit code %d, stderr %q", code, h.stderr)
			}

			if named {
				// The other host may be another machine, where no boot has a name.
				portable.Needs(t, portable.Linux)
			}

			// Killed, it has left the kernel's queue, and that is seen everywhere.
			run(t, contained("one", "sh", "-c", `"$@"; :`, "sh", dblock, "-d", db, "--", "sh", "-c", "kill -9 $PPID; kill -9 $$"))
			if inode(noticeOf(db)) == 0 {
				t.Fatal("the killed dblock has left no notice")
			}
			if r := run(t, contained("two", dblock, "-n", "-d", db, "--", "true")); r.code != 0 || r.stderr != "" {
				t.Errorf("not taken over at once: %v", r)
			}
			usable(t, db)

			// The whole container killed, while others wait in the second.
			h = holding(t, db, contained("one", dblock, "-d", db, "--", self))
			w := contained("two", dblock, "-w", "30", "-d", db, "--", "true")
			done := make(chan result, 1)
			go func() {
				out, _ := w.CombinedOutput()
				done <- result{code: codeOf(w.ProcessState), stderr: string(out)}
			}()
			eventually(t, 10*time.Second, "one waits", func() bool {
				b, _ := os.ReadFile("/proc/locks")
				return strings.Contains(string(b), fmt.Sprintf(":%d 0 EOF", inode(noticeOf(db)+".d/room"))) &&
					strings.Contains(string(b), "-> FLOCK")
			})
			_ = h.cmd.Process.Kill()
			select {
			case r := <-done:
				if r.code != 0 {
					t.Errorf("the waiter: %v", r)
				}
			case <-time.After(10 * time.Second):
				t.Error("the waiter was not granted the lock")
			}
			<-h.done
			usable(t, db)

			portable.Needs(t, portable.Linux) // no other system has namespaces of pids

			// A peer in the other container, whose pid is nobody's here. What can be
			// known of it depends on its host name alone.
			host := "two"
			if !named {
				host, _ = os.Hostname()
			}
			text := fmt.Sprintf(`{"pid":%d,"timestamp":%d,"host":%q,"process":"mcp-server"}`, deadPID(t), time.Now().UnixMilli(), host)
			if err := os.WriteFile(noticeOf(db), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			r = run(t, contained("one", dblock, "-w", "0.3", "-d", db, "--", "true"))
			if r.code != 75 {
				t.Errorf("a peer in another container was judged by a pid that means nothing here: %v", r)
			}
			r = run(t, contained("one", dblock, "-w", "5", "--stale-timeout", "1s", "-d", db, "--", "true"))
			if r.code != 0 {
				t.Errorf("not taken over when it was old: %v", r)
			}
			usable(t, db)
		})
	}
}
