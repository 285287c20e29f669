//go:build linux

package storm

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/history"
	"github.com/dblock-dev/dblock/lock"
	"github.com/dblock-dev/dblock/signals"
)

// The oracle is who works under the lock: the command, or one of the processes that it has
// started. It knows nothing of dblock but the variables that every command gets. It takes
// a kernel lock of its own on a byte of another file, without waiting, which those of one
// tree can have together; then it looks whether anybody has one on a byte of another tree's.
// Of two who meet at least the one that comes second sees the other, and writes that down.
//
// They are POSIX record locks and not another flock, because of what happens when
// a killed process is taken apart: its record locks go while its descriptors are
// being closed, and the flock that it inherited from dblock goes after that. With
// two flocks the order would be the kernel's whim, and the next command could find
// the lock of a process that is already dead.
func oracle() int {
	me := place{token: number("DBLOCK_HOLD_TOKEN"), turn: number("STORM_TURN"), shared: os.Getenv("DBLOCK_HOLD_MODE") == "shared"}
	me.closed = os.Getenv("STORM_CLOSES") != ""
	if me.closed {
		closeRoom()
	} else {
		me.closed = !hasRoom()
	}
	log, err := os.OpenFile(os.Getenv("STORM_LOG"), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return complain(98, "%v", err)
	}
	f, err := os.OpenFile(os.Getenv("STORM_ORACLE"), os.O_RDWR, 0)
	if err != nil {
		return complain(98, "%v", err)
	}
	told := make(chan os.Signal, 8)
	signal.Notify(told, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT)
	if err := unix.FcntlFlock(f.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_RDLCK, Start: me.byte(), Len: 1}); err != nil {
		return complain(98, "%v", err)
	}
	for _, other := range me.company(int(f.Fd())) {
		me.write(log, "MET", other.String())
	}
	me.write(log, "S", "")
	if fd, err := strconv.Atoi(os.Getenv("STORM_FD")); err == nil {
		_, _ = unix.Write(fd, fmt.Appendf(nil, "w %d\n", os.Getpid()))
	}
	me.work(told)
	me.write(log, "E", "")
	return 0
}

// work works for as long as it was told to. Who is stubborn does not let himself be ended in
// the middle of it, as databases do not.
func (me place) work(told <-chan os.Signal) {
	done := time.After(time.Duration(number("STORM_HOLD_US")) * time.Microsecond)
	for stubborn := os.Getenv("STORM_STUBBORN") != ""; ; {
		select {
		case <-done:
			return
		case sig := <-told:
			if !stubborn {
				signals.Die(sig.(syscall.Signal))
			}
		}
	}
}

func number(name string) int64 {
	n, _ := strconv.ParseInt(os.Getenv(name), 10, 64)
	return n
}

// place is where somebody works: which hold that is, and of which kind.
type place struct {
	token, turn    int64
	shared, closed bool // in the mode; without the lock's descriptor
}

// A byte says which hold it is, and of which kind: its number is the token, which are
// milliseconds, and above that two bits.
const (
	kindClosed = 1 << 60
	kindShared = 1 << 61
)

func (me place) byte() int64 {
	at := me.token
	if me.closed {
		at |= kindClosed
	}
	if me.shared {
		at |= kindShared
	}
	return at
}

func placeOf(at int64) place {
	return place{token: at &^ (kindClosed | kindShared), closed: at&kindClosed != 0, shared: at&kindShared != 0}
}

func (me place) String() string {
	return fmt.Sprintf("%d %t %t", me.token, me.shared, me.closed)
}

// company lists who else is at work and must not be: the bytes that are locked of other
// holds, without those who share with us.
func (me place) company(fd int) (others []place) {
	for from := int64(0); ; {
		l := unix.Flock_t{Type: unix.F_WRLCK, Start: from}
		if err := unix.FcntlFlock(uintptr(fd), unix.F_GETLK, &l); err != nil || l.Type == unix.F_UNLCK {
			return others
		}
		if other := placeOf(l.Start); other.token != me.token && !(me.shared && other.shared) {
			others = append(others, other)
		}
		from = l.Start + 1
	}
}

func (me place) write(log *os.File, what, more string) {
	fmt.Fprintf(log, "%s %v %d %d %s\n", what, me, me.turn, os.Getpid(), more)
}

// rooms are the descriptors of dblock's that were inherited.
func rooms() (fds []int) {
	all, _ := os.ReadDir("/proc/self/fd")
	for _, e := range all {
		fd, _ := strconv.Atoi(e.Name())
		if to, _ := os.Readlink("/proc/self/fd/" + e.Name()); fd > 2 && filepath.Base(strings.TrimSuffix(to, " (deleted)")) == "room" {
			fds = append(fds, fd)
		}
	}
	return fds
}

func hasRoom() bool { return len(rooms()) > 0 }

func closeRoom() {
	for _, fd := range rooms() {
		_ = unix.Close(fd)
	}
}

func complain(code int, format string, args ...any) int {
	fmt.Fprintf(os.Stderr, "oracle: "+format+"\n", args...)
	return code
}

// entry is a line of the log.
type entry struct {
	line, what string
	me, other  place
	pid        int
}

// verdict is what the log of those who worked shows.
type verdict struct {
	trees, starts, ends int
	excused             map[string]int // trees that worked on beside others, by the reason
}

// judge reads what those who worked have written. The log is appended to while one has the
// oracle's lock, so who has ended before the next one came in says so before that one.
func (w *world) judge() verdict {
	w.t.Helper()
	v := verdict{excused: map[string]int{}}
	log, err := os.ReadFile(w.log)
	if err != nil {
		w.t.Fatal(err)
	}
	turns := map[int64]int64{} // by token
	late := map[int64]bool{}   // turns that worked on beside others
	var last, lastExclusive int64
	var unexpected []string
	names, err := lock.Resolve(w.db, "")
	if err != nil {
		w.t.Fatal(err)
	}
	state := names.State
	blame := func(who place, line string) {
		tr, _ := w.trials.Load(who.turn)
		done, _ := tr.(*trial)
		if done != nil && done.signaled {
			// Its line is written before the lock is released.
			e := history.Find(state, who.token, done.pid)
			done.released = e != nil && e.Ended == history.Exited && e.Signal == 0
		}
		why := done.excuse(who.closed)
		if why == "" {
			unexpected = append(unexpected, fmt.Sprintf("%s: turn %d, %+v", line, who.turn, done))
		} else if !late[who.turn] {
			late[who.turn] = true
			v.excused[why]++
		}
	}
	var entries []entry
	for line := range strings.Lines(string(log)) {
		e := entry{line: strings.TrimSpace(line)}
		n, _ := fmt.Sscan(line, &e.what, &e.me.token, &e.me.shared, &e.me.closed, &e.me.turn, &e.pid, &e.other.token, &e.other.shared, &e.other.closed)
		if n < 6 || n < 9 && e.what == "MET" {
			w.t.Fatalf("damaged log line %q", line)
		}
		turn, known := turns[e.me.token]
		if !known {
			turns[e.me.token] = e.me.turn
			v.trees++
		} else if turn != e.me.turn {
			w.t.Errorf("token %d was used for two commands, in the turns %d and %d", e.me.token, turn, e.me.turn)
		}
		entries = append(entries, e)
	}
	for _, e := range entries {
		what, me, other, line := e.what, e.me, e.other, e.line
		// Who has a smaller token than one that excludes him has begun before that.
		outdated := me.token < lastExclusive || !me.shared && me.token < last
		switch what {
		case "MET":
			// Who had the lock first should not be there any more.
			if me.token > other.token {
				other.turn = turns[other.token]
				blame(other, line)
			} else {
				blame(me, line)
			}
		case "S":
			v.starts++
			if outdated {
				blame(me, line)
			}
			last = max(last, me.token)
			if !me.shared {
				lastExclusive = max(lastExclusive, me.token)
			}
		case "E":
			v.ends++
			if outdated {
				blame(me, line)
			}
		}
	}
	for _, what := range unexpected[:min(len(unexpected), 20)] {
		w.t.Errorf("two trees at once: %s", what)
	}
	return v
}
