// Package ledger is what one hold leaves to the next, in the file "token" of the state
// directory: the last fencing number, and what is known of the peers that are about.
package ledger

import (
	"bytes"
	"errors"
	"io/fs"
	"strconv"
	"syscall"
	"time"

	"github.com/dblock-dev/dblock/lock/internal/inode"
	"github.com/dblock-dev/dblock/lock/internal/judge"
	"github.com/dblock-dev/dblock/lock/internal/notice"
	"github.com/dblock-dev/dblock/lock/internal/queue"
)

const (
	lately = time.Hour        // for as long as this a peer that was met counts
	crowd  = 10 * time.Second // two peers within this time of each other are several
)

// Ledger is the file's content. Who holds the room and the last turnstile may write it.
// All times are ms since the epoch.
type Ledger struct {
	Token   int64 // the last fencing number
	Peer    int64 // when a foreign peer was last met
	Gap     int64 // when the path was last left free for polling peers, or one had its turn
	Idle    int64 // not kept: when the path was last free by itself, before this hold
	Release int64 // the last release; kept only while peers have been met lately
	Booted  int64 // when this kernel was booted, by the clock as it was at the last hold
	Boot    int64 // which boot that was
	Who     int64 // the pid of that peer
	Several int64 // when another peer than the one before was met shortly after it
	Read    int64 // when somebody has read the notice who was not known to poll
}

// ErrNoLedger says that somebody may have led the ledger's name to another file.
var ErrNoLedger = errors.New("it has other things in it than numbers")

const (
	size       = 9 * 21
	oldNumbers = 6 // in that of older versions
	blanks     = " \n"
)

// numbers are those that are kept, in the file's order.
func (led *Ledger) numbers() [9]*int64 {
	return [9]*int64{&led.Token, &led.Peer, &led.Gap, &led.Release, &led.Booted, &led.Boot, &led.Who, &led.Several, &led.Read}
}

// parse reads what append has written; anything else counts as empty.
func parse(text []byte) (led Ledger) {
	for i, n := range led.numbers() {
		text = bytes.TrimLeft(text, blanks)
		if len(text) == 0 && i >= oldNumbers {
			break
		}
		end := bytes.IndexAny(text, blanks)
		if end < 0 {
			end = len(text)
		}
		var err error
		if *n, err = strconv.ParseInt(string(text[:end]), 10, 64); err != nil {
			return Ledger{}
		}
		text = text[end:]
	}
	return led
}

// Last is what the last hold has left in the state directory at that path; empty if
// that cannot be read.
func Last(state string) Ledger {
	dir, err := inode.OpenDir(state)
	if err != nil {
		return Ledger{}
	}
	defer dir.Close()
	seen, err := notice.ReadAt(dir.At(queue.Token)) // whatever is there, this does not block
	if err != nil {
		return Ledger{}
	}
	return parse(seen.Bytes)
}

// append appends the numbers, each in 20 columns and followed by a space, the last
// one by a newline.
func (led *Ledger) append(b []byte) []byte {
	var digits [20]byte
	for _, n := range led.numbers() {
		d := strconv.AppendInt(digits[:0], *n, 10)
		b = append(b, "                    "[len(d):]...)
		b = append(append(b, d...), ' ')
	}
	b[len(b)-1] = '\n'
	return b
}

// Amend reads the file with that name, lets change alter it, and stores it in place, in
// one call within one page. A file that is missing or damaged counts as empty:
// tokens go on from the clock then. Where others can put something in its place,
// nothing is written over but numbers.
func Amend(name inode.Name, change func(*Ledger)) error {
	f, err := queue.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	var b [size]byte
	n, err := whole(func() (int, error) { return syscall.Pread(f.Fd(), b[:], 0) })
	if err != nil {
		return &fs.PathError{Op: "read", Path: name.String(), Err: err}
	}
	if !name.Dir().Private() && len(bytes.Trim(b[:n], "-0123456789 \n\x00")) > 0 { // check: numbers-only
		return &fs.PathError{Op: "write", Path: name.String(), Err: ErrNoLedger}
	}
	led := parse(b[:n])
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

// PeersLately reports whether a peer was met within the last hour.
func (led Ledger) PeersLately(now int64) bool {
	return led.Peer != 0 && now-led.Peer < lately.Milliseconds()
}

// Meet notes that a peer has the lock.
func (led *Ledger) Meet(pid int, now int64) {
	if led.Who != 0 && led.Who != int64(pid) && notice.Since(now, led.Peer).Abs() < crowd {
		led.Several = now
	}
	led.Peer, led.Who = now, int64(pid)
}

// Crowded reports whether several peers are about at present. They do to one another
// what they cannot do to us alone: one deletes a file, another creates the next.
func (led Ledger) Crowded(now int64) bool {
	return led.Several != 0 && notice.Since(now, led.Several).Abs() < crowd
}

// Single reports whether all that was met lately is one peer.
func (led Ledger) Single(now int64) bool {
	return led.PeersLately(now) && led.Who != 0 && notice.Since(now, led.Several).Abs() > lately
}

// OwesGap reports whether polling peers have had no chance for that long.
func (led Ledger) OwesGap(now int64, every time.Duration) bool {
	last := max(led.Gap, led.Idle)
	return led.PeersLately(now) && (now-last > every.Milliseconds() || now < last)
}

// ClockMoved reports whether the wall clock may have been set since the last hold of
// this boot. When it was, times that were written down by it before say nothing
// about which of two things came first. Where no hold is known nor is the clock.
func (led Ledger) ClockMoved(booted, boot int64) bool {
	if led.Boot == 0 { // check: no-ledger
		return boot != 0
	}
	return led.Boot == boot && max(led.Booted-booted, booted-led.Booted) > 2*judge.ClockSlack.Milliseconds()
}
