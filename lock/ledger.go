package lock

import (
	"errors"
	"io/fs"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/dblock-dev/dblock/lock/internal/judge"
	"github.com/dblock-dev/dblock/lock/internal/notice"
	"github.com/dblock-dev/dblock/lock/internal/queue"
)

// Courtesy towards peers that poll every 100 ms: dblocks hand the lock over in
// microseconds, and such a peer would never find the path free.
const (
	gapFor   = 120 * time.Millisecond // how long the path is left free for them
	gapEvery = 500 * time.Millisecond // how often, while they have been met lately
	gapSoon  = 250 * time.Millisecond // how often, while one is polling right now
	lately   = time.Hour

	crowd         = 10 * time.Second      // two peers within this time of each other are several
	crowdedSettle = 20 * time.Millisecond // how long a peer may need from one step to the next
	pollsWithin   = 3 * time.Second       // two reads of the notice within this time are a poll
)

// ledger is what one hold leaves to the next, in the file "token". Who holds the
// room and the last turnstile may write it. All times are ms since the epoch.
type ledger struct {
	token   int64 // the last fencing number
	peer    int64 // when a foreign peer was last met
	gap     int64 // when the path was last left free for polling peers, or one had its turn
	idle    int64 // not kept: when the path was last free by itself, before this hold
	release int64 // the last release; kept only while peers have been met lately
	booted  int64 // when this kernel was booted, by the clock as it was at the last hold
	boot    int64 // which boot that was
	who     int64 // the pid of that peer
	several int64 // when another peer than the one before was met shortly after it
	read    int64 // when somebody has read the notice who was not known to poll
}

// errNoLedger says that somebody may have led the ledger's name to another file.
var errNoLedger = errors.New("it has other things in it than numbers")

const (
	ledgerSize = 9 * 21
	oldLedger  = 6 // numbers in that of older versions
)

// numbers are those that are kept, in the file's order.
func (led *ledger) numbers() [9]*int64 {
	return [9]*int64{&led.token, &led.peer, &led.gap, &led.release, &led.booted, &led.boot, &led.who, &led.several, &led.read}
}

// parseLedger reads what append has written; anything else counts as empty.
func parseLedger(text string) ledger {
	var led ledger
	fields := strings.Fields(text)
	for i, n := range led.numbers() {
		var err error
		if i < len(fields) {
			*n, err = strconv.ParseInt(fields[i], 10, 64)
		}
		if i >= len(fields) && i < oldLedger || err != nil {
			return ledger{}
		}
	}
	return led
}

// lastLedger is what the last hold has left; empty if that cannot be read.
func lastLedger(n Names) ledger {
	dir, err := notice.OpenDir(n.State)
	if err != nil {
		return ledger{}
	}
	defer dir.Close()
	seen, err := dir.At(tokenName).Read() // whatever is there, this does not block
	if err != nil {
		return ledger{}
	}
	return parseLedger(string(seen.Bytes))
}

// append appends the numbers, each in 20 columns and followed by a space, the last
// one by a newline.
func (led *ledger) append(b []byte) []byte {
	var digits [20]byte
	for _, n := range led.numbers() {
		d := strconv.AppendInt(digits[:0], *n, 10)
		b = append(b, "                    "[len(d):]...)
		b = append(append(b, d...), ' ')
	}
	b[len(b)-1] = '\n'
	return b
}

// amendLedger reads the file, lets change alter it, and stores it in place, in
// one call within one page. A file that is missing or damaged counts as empty:
// tokens go on from the clock then. Where others can put something in its place,
// nothing is written over but numbers.
func amendLedger(name notice.Name, change func(*ledger)) error {
	f, err := queue.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	var b [ledgerSize]byte
	n, err := whole(func() (int, error) { return syscall.Pread(f.Fd(), b[:], 0) })
	if err != nil {
		return &fs.PathError{Op: "read", Path: name.String(), Err: err}
	}
	if !name.Dir().Private() && strings.Trim(string(b[:n]), "-0123456789 \n\x00") != "" { // check: numbers-only
		return &fs.PathError{Op: "write", Path: name.String(), Err: errNoLedger}
	}
	led := parseLedger(string(b[:n]))
	change(&led)
	out := led.append(b[:0])
	n, err = whole(func() (int, error) { return syscall.Pwrite(f.Fd(), out, 0) })
	if err == nil && n < len(out) {
		err = syscall.ENOSPC
	}
	if err != nil {
		return &fs.PathError{Op: "write", Path: name.String(), Err: err}
	}
	return nil
}

// whole repeats a call that a signal interrupted.
func whole(call func() (int, error)) (int, error) {
	for {
		if n, err := call(); err != syscall.EINTR {
			return n, err
		}
	}
}

// peersLately reports whether a peer was met within the last hour.
func (led ledger) peersLately(now int64) bool {
	return led.peer != 0 && now-led.peer < lately.Milliseconds()
}

// meet notes that a peer has the lock.
func (led *ledger) meet(pid int, now int64) {
	if led.who != 0 && led.who != int64(pid) && notice.Since(now, led.peer).Abs() < crowd {
		led.several = now
	}
	led.peer, led.who = now, int64(pid)
}

// crowded reports whether several peers are about at present. They do to one another
// what they cannot do to us alone: one deletes a file, another creates the next.
func (led ledger) crowded(now int64) bool {
	return led.several != 0 && notice.Since(now, led.several).Abs() < crowd
}

// single reports whether all that was met lately is one peer.
func (led ledger) single(now int64) bool {
	return led.peersLately(now) && led.who != 0 && notice.Since(now, led.several).Abs() > lately
}

// owesGap reports whether polling peers have had no chance for that long.
func (led ledger) owesGap(now int64, every time.Duration) bool {
	last := max(led.gap, led.idle)
	return led.peersLately(now) && (now-last > every.Milliseconds() || now < last)
}

// clockMoved reports whether the wall clock may have been set since the last hold of
// this boot. When it was, times that were written down by it before say nothing
// about which of two things came first. Where no hold is known nor is the clock.
func (led ledger) clockMoved(booted, boot int64) bool {
	if led.boot == 0 { // check: no-ledger
		return boot != 0
	}
	return led.boot == boot && max(led.booted-booted, booted-led.booted) > 2*judge.ClockSlack.Milliseconds()
}
