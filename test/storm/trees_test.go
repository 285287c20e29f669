//go:build linux

package storm

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/internal/portable"
)

// laborer writes a line again and again, LINES times. When it is told to end it says so,
// and has something to finish yet.
const laborer = `trap 'echo told >>told' TERM HUP INT QUIT
n=0
while [ $n -lt $LINES ]; do
	echo old >>writes
	sleep 0.02
	n=$((n+1))
	[ ! -s told ] || n=$((n+10))
done`

// stubbornLaborer cannot be told anything.
const stubbornLaborer = `trap '' TERM HUP INT QUIT
n=0
while [ $n -lt $LINES ]; do
	echo old >>writes
	sleep 0.02
	n=$((n+1))
done`

// trees are commands as people have them. Who works is no direct child of dblock's.
var trees = []struct {
	name     string
	command  []string
	stubborn bool // who works is not to be told
}{
	{"`sh -c`", []string{"sh", "-c", "sh worker.sh; echo done"}, false},
	{"`npm run`", []string{"npm", "run", "--silent", "work"}, false},
	{"Python's `subprocess`", []string{"python3", "-c", `import subprocess; subprocess.call(["sh", "worker.sh"])`}, false},
	{"Node's `child_process`", []string{"node", "-e", `require("child_process").spawn("sh", ["worker.sh"], {stdio: "inherit"})`}, false},
	{"`timeout`", []string{"timeout", "60", "sh", "-c", "sh worker.sh; true"}, false},
	{"one that cannot be told", []string{"sh", "-c", "sh stubborn.sh; true"}, true},
}

// wrapping is a program that runs a command under a lock.
type wrapping struct {
	name string
	args []string
}

var (
	byDblock = wrapping{"dblock", []string{"-d", "app.db", "-q", "-w", "60"}}
	byFlock  = wrapping{"flock", []string{"app.lock"}}
	byFlockO = wrapping{"flock -o", []string{"-o", "app.lock"}}
)

func (w wrapping) command(dir string, command []string) *exec.Cmd {
	program, args := "flock", append([]string{}, w.args...)
	if w.name == "dblock" {
		program, args = dblock, append(args, "--")
	}
	c := exec.Command(program, append(args, command...)...)
	c.Dir = dir
	return c
}

var events = []string{"TERM", "HUP", "QUIT", "KILL to the command", "the lock is lost"}

// outcome is what an ended tree did.
type outcome struct {
	writes int // after the next command had begun
	told   bool
}

func (o outcome) String() string {
	if o.told {
		return fmt.Sprintf("%d, told", o.writes)
	}
	return strconv.Itoa(o.writes)
}

// TestTrees ends commands that have children in every way, and counts what the children
// write after the next command has begun. Not one line with dblock, and they are told.
func TestTrees(t *testing.T) {
	needTool(t, "sh")
	ways := []wrapping{byDblock}
	if *full {
		needTool(t, "npm", "node", "python3", "timeout", "flock")
		ways = append(ways, byFlock, byFlockO)
	}
	var mu sync.Mutex
	results := map[string]outcome{}
	key := func(tree string, w wrapping, event string) string { return tree + w.name + event }
	t.Run("all", func(t *testing.T) {
		slots := make(chan struct{}, 6)
		for _, tree := range trees {
			if !*full && tree.command[0] != "sh" {
				continue
			}
			for _, w := range ways {
				for _, event := range events {
					if w.name != "dblock" && event == "the lock is lost" {
						continue
					}
					t.Run(tree.name+", "+w.name+", "+event, func(t *testing.T) {
						t.Parallel()
						slots <- struct{}{}
						defer func() { <-slots }()
						got := endTree(t, w, tree.command, event)
						// What a command has started is told only where that is known.
						told := !tree.stubborn && !portable.Half
						if w.name == "dblock" && (got.writes > 0 || got.told != told) {
							t.Errorf("%d writes beside the next command, told: %t", got.writes, got.told)
						}
						mu.Lock()
						defer mu.Unlock()
						results[key(tree.name, w, event)] = got
					})
				}
			}
		}
	})
	if !*full {
		return
	}
	table := "\n| command | under | " + strings.Join(events, " | ") + " |\n|---|---|" + strings.Repeat("---|", len(events)) + "\n"
	for _, tree := range trees {
		for _, w := range ways {
			table += fmt.Sprintf("| %s | %s |", tree.name, w.name)
			for _, event := range events {
				if got, there := results[key(tree.name, w, event)]; there {
					table += fmt.Sprintf(" %v |", got)
				} else {
					table += " |"
				}
			}
			table += "\n"
		}
	}
	t.Log(table)
}

// endTree starts a command, ends it, lets the next one in, and waits until nobody is left
// of the first.
func endTree(t *testing.T, w wrapping, command []string, event string) outcome {
	dir := scratch(t)
	for name, text := range map[string]string{
		"worker.sh": laborer, "stubborn.sh": stubbornLaborer, "package.json": `{"scripts":{"work":"sh worker.sh; true"}}`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	there := func(name string) func() bool {
		return func() bool { return inode(filepath.Join(dir, name)) != 0 }
	}
	all, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer all.Close()
	first := w.command(dir, command)
	first.Stdout = out
	lines := 25
	if *full {
		lines = 100 // two seconds
	}
	first.Env = append(first.Environ(), fmt.Sprintf("LINES=%d", lines))
	first.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	out.Close()
	gone := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, all)
		_ = first.Wait()
		close(gone)
	}()
	eventually(t, time.Minute, "somebody works", there("writes"))
	happen(t, first.Process.Pid, filepath.Join(dir, "app.db"), event)

	next := w.command(dir, []string{"sh", "-c", "echo next >>writes; touch in; until [ -e go ]; do sleep 0.01; done"})
	if err := next.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, "the next one is in", there("in"))
	if !within(gone, time.Minute) {
		t.Error("the first one's tree has not ended")
	}
	if err := os.WriteFile(filepath.Join(dir, "go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := next.Wait(); err != nil {
		t.Error(err)
	}
	written, err := os.ReadFile(filepath.Join(dir, "writes"))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(written), "next\n")
	return outcome{strings.Count(after, "old"), there("told")()}
}

// happen ends the command of a wrapper.
func happen(t *testing.T, wrapper int, db, event string) {
	t.Helper()
	switch event {
	case "the lock is lost":
		peer := db + ".peer"
		host, _ := os.Hostname()
		text := fmt.Appendf(nil, `{"pid":%d,"timestamp":%d,"host":%q,"process":"peer"}`, 1<<22+1, time.Now().UnixMilli(), host)
		if err := os.WriteFile(peer, text, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(peer, noticeOf(db)); err != nil {
			t.Fatal(err)
		}
	case "KILL to the command":
		var command int
		eventually(t, time.Minute, "the command is there", func() bool {
			lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", wrapper))
			for _, list := range lists {
				b, _ := os.ReadFile(list)
				if n, _ := fmt.Sscan(string(b), &command); n == 1 {
					return true
				}
			}
			return false
		})
		if err := unix.Kill(command, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
	default:
		if err := unix.Kill(wrapper, unix.SignalNum("SIG"+event)); err != nil {
			t.Fatal(err)
		}
	}
}
