package run

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/dblock-dev/dblock/internal/cli"
	"github.com/dblock-dev/dblock/internal/term"
	"github.com/dblock-dev/dblock/lock"
)

// situation is why one has to wait, for people.
type situation struct {
	what  string // the whole of it, without the queue
	who   string // the holder's label, or whatever one waits for
	pid   int    // 0 if there is none
	queue string // how many are ahead of us, or wait if we do not; empty: nobody
}

// Situation says who has the lock, and how many wait.
func Situation(r *lock.Report) string { return situationOf(r, 0).String() }

func situationOf(r *lock.Report, self int) situation {
	s := situation{what: "held", who: "its holder"}
	switch {
	case r.State == lock.StateFree && len(r.Stopped) > 0:
		s.of(r.Stopped, "not held, but %s, which is stopped, blocks the queue")
	case r.State == lock.StateFree && !r.WaitersKnown:
		s.what, s.who = "just released, or locked by what a killed dblock has left running", "its release"
	case r.State == lock.StateFree:
		s.what, s.who = "just released", "its release"
	case r.State == lock.StateInvalid:
		s.what, s.who = "not a valid lock file, perhaps one that is being written", "an invalid lock file"
	case r.State == lock.StateOrphaned:
		s.what, s.who = cli.Orphaned(r), "an orphaned command"
		if len(r.Orphans) > 0 {
			s.pid = r.Orphans[0]
		}
	case len(r.Owners) > 0:
		s.of(r.Owners, "locked, without a lock file, by %s")
	case r.State == lock.StateStale && r.Holder != nil && r.Holder.Dblock && !r.WaitersKnown:
		s.what = fmt.Sprintf("held by what %s has left running, or is being taken over", cli.Who(r.Holder))
		s.who, s.pid = term.Clean(r.Holder.Process), r.Holder.PID
	case r.Holder != nil:
		s.what = fmt.Sprintf("held by %s for %s", cli.Who(r.Holder), term.Ago(r.Age)) + cli.Info(r.Holder.Info)
		s.who, s.pid = term.Clean(r.Holder.Process), r.Holder.PID
		if n := len(r.Readers); n > 1 {
			s.what += fmt.Sprintf(" and %d more reader%s", n-1, plural(n-1))
		}
		if len(r.Remaining) > 0 {
			s.what += fmt.Sprintf("; its command has ended, but still running: %s", cli.NamesOf(r.Remaining))
		}
		if len(r.Stopped) > 0 {
			s.what += fmt.Sprintf("; stopped: %s", cli.NamesOf(r.Stopped))
		}
	}
	at := slices.IndexFunc(r.Waiters, func(w lock.Process) bool { return w.PID == self && w.Host == "" })
	switch n := len(r.Waiters); {
	case at > 0:
		s.queue = fmt.Sprintf(", %d ahead", at)
	case at < 0 && n > 0:
		s.queue = fmt.Sprintf(", %d waiting", n)
	}
	return s
}

func plural(n int) string {
	if n == 1 {
		return ""
	}
	return "s"
}

func (s *situation) of(ps []lock.Process, format string) {
	s.what = fmt.Sprintf(format, cli.NamesOf(ps))
	s.who, s.pid = term.Clean(ps[0].Command), ps[0].PID
}

func (s situation) String() string { return s.what + s.queue }

// wide is from how many columns on a line on a terminal has room for the program's name.
const wide = 60

// line is the situation on a terminal that wide, after so long a wait. What is missing on
// a narrow one goes in this order: the beginning of the path, since when and where, all of the
// path, the end of the label. Who it is, the pid and the place in the queue remain.
func (s situation) line(waited, path string, columns int) string {
	whole := fmt.Sprintf("dblock: waiting %s, %s", waited, s)
	if term.Fit(whole, columns) == whole {
		return withPath(whole, path, columns)
	}
	tail := s.queue
	if s.pid != 0 {
		tail = " (pid " + strconv.Itoa(s.pid) + ")" + tail
	}
	head := fmt.Sprintf("waiting %s: ", waited)
	who := cmp.Or(s.who, "somebody")
	if line := "dblock: " + head + who + tail; columns >= wide || term.Fit(line, columns) == line {
		head = "dblock: " + head
	}
	room := max(columns-len(head)-len(tail), 2)
	return withPath(term.Shorten(head+term.Shorten(who, room)+tail, columns), path, columns)
}

// withPath adds the path to a line, or the end of it, if there is room for its last element.
func withPath(line, path string, columns int) string {
	room := columns - term.Columns(line+": ")
	if base := path[strings.LastIndexByte(path, '/')+1:]; room < term.Columns(base) {
		return line
	}
	return line + ": " + term.ShortenPath(path, room)
}
