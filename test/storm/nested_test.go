//go:build linux

package storm

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestNestedInTurmoil runs commands inside a shared hold while other programs
// lock and unlock files of their own all the time. The kernel's table of locks
// cannot be read in one piece then, and the enclosing hold must be found in it all
// the same: what is not found is waited for, or counts as lost.
func TestNestedInTurmoil(t *testing.T) {
	needTool(t, "taskset")
	need(t, runtime.NumCPU() > 1, "needs two processors")
	db := database(t)
	stop := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		// The kernel lists the locks by the processor on which they were taken, so
		// what comes and goes on the first one moves all that follows.
		runtime.LockOSThread()
		pin(0)
		var files []*os.File
		for i := range 40 {
			f, err := os.Create(filepath.Join(filepath.Dir(db), fmt.Sprint("other", i)))
			if err != nil {
				t.Error(err)
				return
			}
			defer f.Close()
			files = append(files, f)
		}
		for {
			for _, how := range []int{unix.LOCK_EX, unix.LOCK_UN} {
				for _, f := range files {
					_ = unix.Flock(int(f.Fd()), how)
				}
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	}()
	times := 200
	if *full {
		times = 5000
	}
	// A second wrapper inside is given the enclosing one's token, a stranger its own.
	r := run(t, exec.Command("taskset", "-c", "1", dblock, "--shared", "-d", db, "--", "sh", "-c",
		`i=0; while [ $i -lt "$1" ]; do "$2" --shared -- sh -c 'echo $DBLOCK_HOLD_TOKEN'; i=$((i + 1)); done`,
		"sh", fmt.Sprint(times), dblock))
	close(stop)
	<-ended
	tokens := map[string]int{}
	for line := range strings.Lines(r.stdout) {
		tokens[line]++
	}
	if r.code != 0 || len(tokens) != 1 {
		t.Errorf("%d times under one hold, and %d different tokens; exit code %d, stderr %.500s", times, len(tokens), r.code, r.stderr)
	}
	usable(t, db)
}

// pin keeps the calling thread on one processor.
func pin(cpu int) {
	var set unix.CPUSet
	set.Set(cpu)
	_ = unix.SchedSetaffinity(0, &set)
}

// TestNestedInOrphan starts a dblock in a command whose own dblock was killed. The
// command still keeps the lock by the descriptor that it inherited, and so does
// the new dblock itself: it must not wait for what only its own end can free.
func TestNestedInOrphan(t *testing.T) {
	db := database(t)
	out := filepath.Join(scratch(t), "out")
	cmd := exec.Command(dblock, "--orphan", "keep", "-d", db, "--", "sh", "-c",
		`kill -9 $PPID; exec "$1" -w forever -d "$2" -- true 2> "$3"`, "sh", dblock, db, out)
	_ = cmd.Run()
	start := time.Now()
	for run(t, exec.Command(dblock, "-q", "-n", "-d", db, "--", "true")).code != 0 {
		if time.Since(start) > 3*time.Second {
			b, _ := os.ReadFile(out)
			r := run(t, exec.Command(dblock, "force", "--yes", "--kill-after", "1s", "-d", db))
			t.Fatalf("the lock is not free after 3 s; the inner dblock says %q; force: %v", b, r)
		}
	}
	usable(t, db)
}
