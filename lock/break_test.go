//go:build linux

package lock

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/internal/portable"
	"github.com/dblock-dev/dblock/lock/internal/notice"
	"github.com/dblock-dev/dblock/lock/internal/proc"
	"github.com/dblock-dev/dblock/lock/internal/queue"
)

func yes(*Report) bool { return true }

// A lock file is anybody's text: what it names is not ended for it. Not by root
// either, who may end everybody's processes.
// A keeper works for its shell, which is ended with it, and so is what that has started; but a
// command line can say anything, and be it that it works for somebody else's process.
func TestBreakEndsWhomAKeeperIsFor(t *testing.T) {
	portable.Needs(t, portable.Processes)
	t.Parallel()
	users := []uint32{uint32(os.Getuid())}
	if os.Getuid() == 0 {
		users = append(users, 65534)
	}
	for _, uid := range users {
		shell := exec.Command("sh", "-c", "sleep 1000; true")
		shell.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: &syscall.Credential{Uid: uid, Gid: uid, NoSetGroups: true}}
		require.NoError(t, shell.Start())
		pid := shell.Process.Pid
		ended := make(chan struct{})
		go func() { _ = shell.Wait(); close(ended) }()
		t.Cleanup(func() { _ = syscall.Kill(-pid, syscall.SIGKILL); <-ended })
		require.True(t, eventually(func() bool { return proc.FirstChild(pid) != 0 }))
		sleep := proc.FirstChild(pid)

		db, n := database(t)
		h := prepare(t, "hold", config{DB: db, Deaf: true})
		h.Args = append(h.Args, "hold", "--for", strconv.Itoa(pid))
		h.run(t)
		require.True(t, strings.HasPrefix(h.line(t), "held "))
		b, err := Break(t.Context(), db, BreakOptions{Consent: yes, KillAfter: 50 * time.Millisecond})
		require.NoError(t, err)
		require.NoFileExists(t, n.Notice)
		if uid != uint32(os.Getuid()) {
			require.Equal(t, []int{h.Process.Pid}, b.Ended)
			require.Equal(t, proc.Alive, proc.Look(pid))
			continue
		}
		<-ended
		require.Subset(t, b.Ended, []int{h.Process.Pid, pid, sleep})
		require.Equal(t, proc.Gone, proc.Look(sleep))
	}
}

func TestBreakSparesWhoHasNoLock(t *testing.T) {
	t.Parallel()
	users := []uint32{uint32(os.Getuid())}
	if os.Getuid() == 0 {
		users = append(users, 65534)
	}
	for _, mode := range []string{notice.Exclusive, notice.Shared} {
		for _, uid := range users {
			db, n := database(t)
			require.NoError(t, attemptOnce(t, db, Options{}))
			// It even has the room, and the notice, open; but no lock of the one, and
			// the other only to read.
			room, err := os.OpenFile(n.room(), os.O_RDWR, 0)
			require.NoError(t, err)
			defer room.Close()
			require.NoError(t, os.WriteFile(n.Notice, nil, 0o644))
			read, err := os.Open(n.Notice)
			require.NoError(t, err)
			defer read.Close()
			innocent := exec.Command("sleep", "1000")
			innocent.ExtraFiles = []*os.File{room, read}
			innocent.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid, NoSetGroups: true}}
			require.NoError(t, innocent.Start())
			pid := innocent.Process.Pid
			t.Cleanup(func() { _ = innocent.Process.Kill(); _ = innocent.Wait() })

			started, _ := statOf(pid)
			require.NoError(t, os.WriteFile(n.Notice, []byte(dblockNotice(t, func(i *notice.Info) {
				i.PID, i.Dblock.Started, i.Dblock.UID, i.Dblock.Mode = pid, started, int(uid), mode
			})), 0o644))
			b, err := Break(t.Context(), db, BreakOptions{Consent: yes, KillAfter: time.Second})
			require.NoError(t, err)
			require.Equal(t, proc.Alive, proc.Look(pid), "it has no lock")
			require.Empty(t, b.Ended)
			if b.Report.State == StateHeld || b.Report.State == StateShared {
				require.Equal(t, pid, b.Spared)
			}
			require.NoFileExists(t, n.Notice)
		}
	}
}

// Nor is somebody who has locked another file, which was given the name of the room.
func TestBreakSparesWhoHasAnotherLock(t *testing.T) {
	portable.Needs(t, portable.Processes)
	t.Parallel()
	db, n := database(t)
	require.NoError(t, os.Chmod(filepath.Dir(db), 0o777))
	require.NoError(t, attemptOnce(t, db, Options{}))
	other := filepath.Join(filepath.Dir(db), "other")
	require.NoError(t, os.WriteFile(other, nil, 0o666))
	require.NoError(t, os.Remove(n.room()))
	require.NoError(t, os.Link(other, n.room()))
	innocent := exec.Command("flock", other, "-c", "echo; exec sleep 1000")
	out, err := innocent.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, innocent.Start())
	t.Cleanup(func() {
		_ = unix.Kill(proc.FirstChild(innocent.Process.Pid), unix.SIGKILL)
		_ = innocent.Process.Kill()
		_ = innocent.Wait()
	})
	_, err = out.Read(make([]byte, 1))
	require.NoError(t, err)
	pid := innocent.Process.Pid
	started, _ := statOf(pid)
	put(t, n.Notice, dblockNotice(t, func(i *notice.Info) { i.PID, i.Dblock.Started = pid, started }))
	require.Equal(t, StateHeld, inspected(t, db, Options{}).State)
	_, err = Break(t.Context(), db, BreakOptions{Consent: yes, KillAfter: time.Second})
	require.ErrorIs(t, err, queue.ErrLinks)
	require.Equal(t, proc.Alive, proc.Look(pid))
}

// Who has the room and announces nothing is named, and only ended with consent.
func TestLockedWithoutNotice(t *testing.T) {
	portable.Needs(t, portable.Queue)
	t.Parallel()
	db, n := database(t)
	require.NoError(t, attemptOnce(t, db, Options{}))
	other := exec.Command("flock", "--no-fork", n.room(), "sh", "-c", "echo; exec sleep 1000")
	out, err := other.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, other.Start())
	ended := make(chan struct{})
	go func() { defer close(ended); _, _ = other.Process.Wait() }()
	t.Cleanup(func() { _ = other.Process.Kill(); <-ended })
	_, err = out.Read(make([]byte, 1))
	require.NoError(t, err)

	r := inspected(t, db, Options{})
	require.Equal(t, StateHeld, r.State)
	require.Nil(t, r.Holder)
	require.Len(t, r.Owners, 1)
	require.Equal(t, other.Process.Pid, r.Owners[0].PID)
	_, err = Break(t.Context(), db, BreakOptions{})
	mustHeld(t, err)
	require.Equal(t, proc.Alive, proc.Look(other.Process.Pid))
	b, err := Break(t.Context(), db, BreakOptions{KillAfter: patience, Consent: yes})
	require.NoError(t, err)
	require.Equal(t, []int{other.Process.Pid}, b.Ended)
	require.NoError(t, attemptOnce(t, db, Options{}))
}

// A holder that does not let go, though it has nothing to wait for, is killed, and then
// what it has left with its lock.
func TestBreakStuck(t *testing.T) {
	portable.NeedsWord(t)
	t.Parallel()
	for _, what := range []string{"hold", "wrap"} {
		db, n := database(t)
		h := start(t, what, config{DB: db, Run: "daemon", Deaf: true})
		h.line(t)
		var left []int
		if what == "wrap" {
			for _, p := range proc.Holding(inodeOf(t, n.room())) {
				if p.PID != h.Process.Pid {
					left = append(left, p.PID)
				}
			}
			require.NotEmpty(t, left)
		}
		var steps []BreakStep
		b, err := Break(t.Context(), db, BreakOptions{KillAfter: 100 * time.Millisecond, Consent: yes, Tell: func(s BreakStep, _ []Process) { steps = append(steps, s) }})
		require.NoError(t, err)
		require.True(t, b.Removed)
		require.Contains(t, b.Ended, h.Process.Pid)
		require.Contains(t, steps, BreakWaiting)
		for _, pid := range left {
			require.NotEqual(t, proc.Alive, proc.Look(pid))
		}
		require.NoFileExists(t, n.Notice)
		require.NoError(t, attemptOnce(t, db, Options{}))
	}
}

// A holder whose state directory was deleted has no lock of the room that others
// see, but its notice open.
func TestBreakHolderWithoutRoom(t *testing.T) {
	portable.NeedsWord(t)
	t.Parallel()
	db, n := database(t)
	h := holding(t, config{DB: db})
	require.NoError(t, h.Process.Signal(unix.SIGSTOP)) // or it would find out and end
	require.True(t, eventually(func() bool { return allStopped(h.Process.Pid) }))
	require.NoError(t, os.RemoveAll(n.State))
	b, err := Break(t.Context(), db, BreakOptions{Consent: yes})
	require.NoError(t, err)
	require.Equal(t, []int{h.Process.Pid}, b.Ended)
	require.NoFileExists(t, n.Notice)
}

// One that waits and is stopped keeps the turnstiles that it has passed: nobody gets
// in, though nobody holds the lock.
func TestStoppedWaiter(t *testing.T) {
	portable.Needs(t, portable.Processes)
	t.Parallel()
	db, n := database(t)
	h := holding(t, config{DB: db})
	w := start(t, "hold", config{DB: db, Wait: Forever})
	waiting(t, n, 1)
	require.NoError(t, w.Process.Signal(unix.SIGSTOP))
	require.True(t, eventually(func() bool { return allStopped(w.Process.Pid) }))
	h.say(t, "release")
	require.NoError(t, h.Wait())

	held := mustHeld(t, attemptOnce(t, db, Options{}))
	require.Len(t, held.Report.Stopped, 1, "who waits is told")
	r := inspected(t, db, Options{})
	require.Equal(t, StateFree, r.State)
	require.Len(t, r.Stopped, 1)
	require.Equal(t, w.Process.Pid, r.Stopped[0].PID)
	require.True(t, r.Stopped[0].Stopped)

	_, err := Break(t.Context(), db, BreakOptions{})
	mustHeld(t, err)
	_, err = Break(t.Context(), db, BreakOptions{IfStale: true})
	mustHeld(t, err)
	b, err := Break(t.Context(), db, BreakOptions{Consent: yes})
	require.NoError(t, err)
	require.True(t, b.Removed)
	require.Equal(t, []int{w.Process.Pid}, b.Ended)
	require.NoError(t, attemptOnce(t, db, Options{}))
	require.Empty(t, inspected(t, db, Options{}).Stopped)
}

// allStopped reports whether all threads of a process are stopped: the one that waits in the
// kernel's queue is not the one whose state is the process's.
func allStopped(pid int) bool {
	stats, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	for _, path := range stats {
		if b, err := os.ReadFile(path); err == nil && !strings.Contains(string(b), ") T ") {
			return false
		}
	}
	return len(stats) > 0
}

// A live dblock in a container is not ended from outside, and puts its notice back:
// that is not called a success.
func TestBreakInAnotherNamespace(t *testing.T) {
	t.Parallel()
	if exec.Command("unshare", "--pid", "--fork", "true").Run() != nil {
		t.Skip("no pid namespace can be made here")
	}
	db, n := database(t)
	h := start(t, "hold", config{DB: db}, "unshare", "--pid", "--fork", "--kill-child")
	require.Contains(t, h.line(t), "held ")
	require.True(t, eventually(func() bool { return contents(t, n.Notice) != "" }))
	_, err := Break(t.Context(), db, BreakOptions{})
	mustHeld(t, err)
	require.FileExists(t, n.Notice)
	var steps []BreakStep
	b, err := Break(t.Context(), db, BreakOptions{Consent: yes, Tell: func(s BreakStep, _ []Process) { steps = append(steps, s) }})
	mustHeld(t, err)
	require.True(t, b.Restored)
	require.Equal(t, []BreakStep{BreakLooking}, steps)
	require.True(t, eventually(func() bool { return inspected(t, db, Options{}).State == StateHeld }))
	h.say(t, "release")
	require.Contains(t, h.line(t), "released <nil>")
}

// The state directory was removed while the holder, in another container, is stopped
// and cannot notice it: a lock of the new room proves nothing about that one.
func TestRoomRemovedUnderAHolderElsewhere(t *testing.T) {
	portable.Needs(t, portable.Processes)
	t.Parallel()
	if exec.Command("unshare", "--pid", "--fork", "true").Run() != nil {
		t.Skip("no pid namespace can be made here")
	}
	db, n := database(t)
	h := start(t, "hold", config{DB: db}, "unshare", "--pid", "--fork", "--kill-child")
	require.Contains(t, h.line(t), "held ")
	holder := proc.FirstChild(h.Process.Pid)
	require.NoError(t, unix.Kill(holder, unix.SIGSTOP))
	require.True(t, eventually(func() bool { return proc.Stopped(holder) }))
	require.NoError(t, os.RemoveAll(n.State))
	id := inodeOf(t, n.Notice)
	mustHeld(t, attemptOnce(t, db, Options{}))
	require.Equal(t, id, inodeOf(t, n.Notice))
	begin := time.Now()
	l := New(db, Options{StaleTimeout: time.Second, Wait: patience})
	require.NoError(t, l.Acquire(t.Context()), "it gives no sign of life")
	require.GreaterOrEqual(t, time.Since(begin), time.Second)
	require.NoError(t, l.Release())
}

// Without a ledger nobody knows whether the clock was set since a living peer dated
// its notice.
func TestClockSetBeforeTheFirstHold(t *testing.T) {
	portable.Needs(t, portable.Processes)
	t.Parallel()
	needsSight(t)
	for _, ledger := range []string{"", "damaged"} {
		db, n := database(t)
		peer := live(t)
		var clock clock
		put(t, n.Notice, peerNotice(peer.Process.Pid, host(), ms(clock.now())))
		if ledger != "" {
			require.NoError(t, os.Mkdir(n.State, 0o700))
			require.NoError(t, os.WriteFile(n.token(), []byte(ledger), 0o600))
		}
		clock.jump(time.Hour)
		require.Equal(t, StateForeign, inspected(t, db, Options{Now: clock.now}).State)
		mustHeld(t, attemptOnce(t, db, Options{Now: clock.now}))
		require.FileExists(t, n.Notice)
		// From the first hold on the clock is known.
		require.NoError(t, os.Remove(n.Notice))
		require.NoError(t, attemptOnce(t, db, Options{Now: clock.now}))
		put(t, n.Notice, peerNotice(peer.Process.Pid, host(), ms(clock.now())-3600_000))
		require.NoError(t, attemptOnce(t, db, Options{Now: clock.now}), "its number was given to another process")
	}
}

// What came in between and cannot be read goes back, like what can.
func TestTakeOverPutsBackWhatItCannotRead(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can arrange this")
	}
	db, n := database(t)
	dir := filepath.Dir(db)
	require.NoError(t, os.Chmod(filepath.Dir(dir), 0o755))
	require.NoError(t, os.Chown(dir, 65534, 65534))
	require.NoError(t, attemptOnce(t, db, Options{})) // the state directory is that user's, too
	done := make(chan error)
	go func() {
		// Root reads everything. The thread is another user from here on, and ends
		// with this goroutine.
		runtime.LockOSThread()
		_ = unix.Setfsgid(65534)
		_ = unix.Setfsuid(65534)
		_ = os.WriteFile(n.Notice, []byte(peerNotice(1, "elsewhere", 1)), 0o644)
		l := at(New(db, Options{Wait: NoWait}), "judged", func() {
			_ = os.WriteFile(n.Notice+".tmp", []byte("somebody's"), 0)
			_ = os.Rename(n.Notice+".tmp", n.Notice)
		})
		done <- l.Acquire(context.Background())
	}()
	require.ErrorIs(t, <-done, fs.ErrPermission)
	require.Equal(t, "somebody's", contents(t, n.Notice))
}

// What a holder waits for whose command was ended is named; not what other readers run.
func TestInspectNamesWhatRemains(t *testing.T) {
	portable.Needs(t, portable.Processes)
	t.Parallel()
	for _, mode := range []Mode{Exclusive, Shared} {
		db, n := database(t)
		run := func(ending bool) int {
			h := start(t, "wrap", config{DB: db, Run: "linger", Mode: mode, Ending: ending})
			var pid int
			_, err := fmt.Sscanf(h.line(t), "running %d", &pid)
			require.NoError(t, err)
			t.Cleanup(func() { _ = unix.Kill(pid, unix.SIGKILL) })
			return pid
		}
		if mode == Shared {
			run(false)
			require.Empty(t, inspected(t, db, Options{}).Remaining)
		}
		pid := run(true)
		r := inspected(t, db, Options{})
		require.Len(t, r.Remaining, 1)
		require.Equal(t, pid, r.Remaining[0].PID)
		require.NotEmpty(t, r.Remaining[0].Command)
		require.False(t, proc.Signs(os.Getpid(), inodeOf(t, n.room()), int(queue.Ending)))
	}
}
