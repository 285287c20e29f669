// Package journal appends to the history of a lock, in its state directory.
package journal

import (
	"bytes"
	"cmp"
	"errors"
	"io/fs"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/history"
	"github.com/dblock-dev/dblock/lock/internal/inode"
	"github.com/dblock-dev/dblock/lock/internal/queue"
)

// MaxSize is the size in bytes from which on a new file is begun.
const MaxSize = 1 << 20

// How much of the history is looked at to find who had the lock during a wait: most need
// little.
const (
	shortTail = 4 << 10
	longTail  = 16 << 10
)

// Append appends an event. What cannot be written is not: a lock does not depend on its
// history. If the event has waited for long enough to be asked for whom, those of whom the
// history tells are added to its blockers.
//
// Each line is one write to a file that is open for appending, which the kernel does not mix
// with others'. A process that is killed in the middle of it may leave half a line, so the next
// one begins a new line.
func Append(dir *inode.Dir, e *history.Event) {
	if dir == nil {
		return
	}
	open := queue.Open
	if e.Kind == history.Lost || e.Ended == history.LostIt {
		if _, err := dir.At(queue.Room).Identify(); err != nil {
			// Somebody removes the directory: nothing new is to stand in his way.
			open = queue.Existing
		}
	}
	f, err := open(dir.At(history.Name))
	if err != nil {
		return
	}
	defer f.Close()
	size, err := f.Appending()
	if err != nil {
		return
	}
	tail := read(f, make([]byte, 1), size)
	if e.Waited >= worthAsking {
		space := make([]byte, longTail)
		for _, n := range []int{shortTail, longTail} {
			tail = read(f, space[:n], size)
			found, all, whole := blockers(tail, size > int64(n), e)
			if !whole && n != longTail {
				continue
			}
			e.Ahead += all
			e.Blockers = longest(e.Blockers, named(found))
			break
		}
	}
	line := make([]byte, 0, 1024)
	if len(tail) > 0 && tail[len(tail)-1] != '\n' {
		line = append(line, '\n') // check: torn-line: line = append(line, '\n') -> _ = line
	}
	line = history.Append(line, e)
	if _, err := unix.Write(f.Fd(), line); err != nil || size+int64(len(line)) < MaxSize {
		return
	}
	rotate(dir, f)
}

// read reads the last bytes of a file of that size.
func read(f *queue.File, b []byte, size int64) []byte {
	from := max(0, size-int64(len(b)))
	n, _ := unix.Pread(f.Fd(), b[:size-from], from)
	return b[:max(n, 0)]
}

// rotate begins a new file. Whoever has the old one open still appends to that: nothing is
// lost. Only one who has it locked, and finds it in its place, moves it: a second one would
// move the new file over the old.
//
// In a sticky directory only its owner can move it. Others give up what is in it once it is four
// times as large, so that it does not grow for ever.
func rotate(dir *inode.Dir, f *queue.File) {
	if ok, err := f.Try(queue.Exclusive); !ok || err != nil {
		return
	}
	name := dir.At(history.Name)
	now, err := name.Identify()
	if mine, ierr := f.ID(); err != nil || ierr != nil || now != mine { // check: rotate-once: now != mine -> now == mine && false
		return
	}
	err = inode.Rename(name, dir.At(history.Older))
	if size, serr := f.Appending(); errors.Is(err, fs.ErrPermission) && serr == nil && size >= 4*MaxSize {
		_ = unix.Ftruncate(f.Fd(), 0)
	}
}

// worthAsking is how long one must have waited for somebody to be asked for whom.
const worthAsking = time.Millisecond

// earlier is how many lines in a row must be of earlier holds for those before to be so, too:
// the order of two that are written at the same moment is any.
const earlier = 4

// What the lines have at their beginning that tell of the end of a hold.
var (
	holds = []byte(`"event":"` + string(history.Hold) + `"`)
	kills = []byte(`"event":"` + string(history.Killed) + `"`)
)

// stay is a line of a hold that lasted during a wait, and for how much of that.
type stay struct {
	line []byte
	For  time.Duration
}

// blockers finds in the last lines who had the lock while somebody waited, the longest of them
// first, and how many there are; whole is false if there may be more before them.
func blockers(tail []byte, cut bool, e *history.Event) (found []stay, all int, whole bool) {
	if cut {
		_, tail, _ = bytes.Cut(tail, []byte("\n"))
	}
	until := e.Acquired
	if until == 0 {
		until = e.At
	}
	found = make([]stay, 0, history.MaxBlockers)
	before := 0
	for len(tail) > 0 && before < earlier {
		begin := bytes.LastIndexByte(tail[:len(tail)-1], '\n') + 1
		line := tail[begin:]
		tail = tail[:begin]
		if !bytes.Contains(line[:min(len(line), 32)], holds) && !bytes.Contains(line[:min(len(line), 32)], kills) {
			continue // the others are not about the end of a hold
		}
		acquired, released := number(line, `,"acquired":`), number(line, `,"released":`)
		overlap := time.Duration(min(released, until)-max(acquired, e.Requested)) * time.Millisecond
		switch {
		case acquired == 0 || released == 0:
			continue
		case released <= e.Requested:
			before++
			continue
		}
		before = 0
		if acquired > until {
			continue
		}
		all++
		at := len(found)
		for at > 0 && found[at-1].For < overlap {
			at--
		}
		if at == cap(found) {
			continue
		}
		found = slices.Insert(found[:min(len(found), cap(found)-1)], at, stay{line, overlap})
	}
	return found, all, !cut || before == earlier
}

// named are those whose lines they are.
func named(found []stay) (all []history.Blocker) {
	for _, s := range found {
		if p, err := history.Who(s.line); err == nil {
			all = append(all, history.Blocker{Party: p, For: max(0, s.For)})
		}
	}
	return all
}

// longest are those of both that were there for longest, in that order.
func longest(a, b []history.Blocker) []history.Blocker {
	if len(a) == 0 {
		return b
	}
	all := append(append([]history.Blocker(nil), a...), b...)
	slices.SortStableFunc(all, func(x, y history.Blocker) int { return cmp.Compare(y.For, x.For) })
	return all[:min(len(all), history.MaxBlockers)]
}

// number is that of a member of a line. No text in a line can look like one: its quotes would
// be escaped.
func number(line []byte, key string) int64 {
	_, rest, ok := bytes.Cut(line, []byte(key))
	if !ok {
		return 0
	}
	end := 0
	for end < len(rest) && rest[end] >= '0' && rest[end] <= '9' {
		end++
	}
	n, _ := strconv.ParseInt(string(rest[:end]), 10, 64)
	return n
}
