package run

import (
	"fmt"
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
	ahead int    // of us in the queue
}

func situationOf(r *lock.Report, self int) situation {
	s := situation{what: "held", who: "its holder"}
	switch {
	case r.State == lock.StateFree && len(r.Stopped) > 0:
		s.of(r.Stopped, "not held, but %s, which is stopped, blocks the queue")
	case r.State == lock.StateFree:
		s.what, s.who = "just released", "its release"
	case r.State == lock.StateInvalid:
		s.what, s.who = "held by an invalid lock file", "an invalid lock file"
	case r.State == lock.StateOrphaned && len(r.Orphans) > 0:
		s.what = "held by what a killed dblock left running: " + numbers(r.Orphans)
		s.who, s.pid = "a killed dblock's command", r.Orphans[0]
	case len(r.Owners) > 0:
		s.of(r.Owners, "locked, without a lock file, by %s")
	case r.Holder != nil:
		s.what = fmt.Sprintf("held by %s for %s", cli.Who(r.Holder), term.Ago(r.Age))
		s.who, s.pid = term.Clean(r.Holder.Process), r.Holder.PID
		if n := len(r.Readers); n > 1 {
			s.what += fmt.Sprintf(" and %d more readers", n-1)
		}
		if len(r.Remaining) > 0 {
			s.what += fmt.Sprintf("; its command has ended, but still running: %s", cli.NamesOf(r.Remaining))
		}
		if len(r.Stopped) > 0 {
			s.what += fmt.Sprintf("; stopped: %s", cli.NamesOf(r.Stopped))
		}
	}
	for _, w := range r.Waiters {
		if w.PID == self {
			break
		}
		s.ahead++
	}
	return s
}

func (s *situation) of(ps []lock.Process, format string) {
	s.what = fmt.Sprintf(format, cli.NamesOf(ps))
	s.who, s.pid = term.Clean(ps[0].Command), ps[0].PID
}

// numbers lists pids, the first of many.
func numbers(pids []int) string {
	var ps []lock.Process
	for _, pid := range pids {
		ps = append(ps, lock.Process{PID: pid})
	}
	return cli.NamesOf(ps)
}

func (s situation) String() string {
	if s.ahead > 0 {
		return fmt.Sprintf("%s, %d ahead of us", s.what, s.ahead)
	}
	return s.what
}

// wide is from how many columns on a line on a terminal has room for the program's name.
const wide = 60

// line is the situation on a terminal that wide, after so long a wait. What is missing on
// a narrow one goes in this order: the beginning of the path, all of it, since when and where,
// the end of the label. Who it is, the pid and the place in the queue remain.
func (s situation) line(waited, path string, columns int) string {
	whole := fmt.Sprintf("dblock: waiting %s, %s", waited, s)
	base := path[strings.LastIndexByte(path, '/')+1:]
	if room := columns - len([]rune(whole)) - 2; term.Fit(whole, columns) == whole && room >= len([]rune(base)) {
		return term.Fit(whole+": "+term.ShortenPath(path, room), columns)
	}
	if term.Fit(whole, columns) == whole {
		return whole
	}
	tail := ""
	if s.pid != 0 {
		tail = " (pid " + strconv.Itoa(s.pid) + ")"
	}
	if s.ahead > 0 {
		tail += fmt.Sprintf(", %d ahead", s.ahead)
	}
	head := fmt.Sprintf("waiting %s: ", waited)
	who := s.who
	if who == "" {
		who = "somebody"
	}
	if line := "dblock: " + head + who + tail; columns >= wide || term.Fit(line, columns) == line {
		head = "dblock: " + head
	}
	room := max(columns-len(head)-len(tail), 2)
	return term.Shorten(head+term.Shorten(who, room)+tail, columns)
}
