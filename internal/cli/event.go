package cli

import (
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/history"
	"github.com/dblock-dev/dblock/internal/term"
)

// Event says what happened, for people, in a line without its end.
func Event(e *history.Event) string {
	return party(&history.Party{PID: e.PID, Process: e.Process, Command: e.Command}) + " " + what(e)
}

func what(e *history.Event) string {
	by := "somebody else"
	if e.By != nil {
		by = party(e.By)
	}
	switch e.Kind {
	case history.Hold:
		return held(e)
	case history.GaveUp:
		return gaveUp(e)
	case history.Killed:
		s := "was killed"
		if e.Held > 0 {
			s += fmt.Sprintf(" after it had held the lock for %s or more", short(e.Held))
		}
		return s + "; told by " + by
	case history.TookOver:
		return "had left its lock behind, which was taken over by " + by
	case history.Healed:
		return "had its lock file removed by somebody, and put it back"
	case history.Lost:
		return "lost the lock to " + by
	case history.Forced:
		if e.By != nil && e.By.UID >= 0 {
			by += ", user " + UserName(e.By.UID)
		}
		return "had its lock removed by force, by " + by
	}
	return term.Clean(string(e.Kind))
}

func held(e *history.Event) string {
	s := "held the lock for " + short(e.Held)
	if e.Shared {
		s = "shared the lock for " + short(e.Held)
	}
	switch e.Ended {
	case history.Exited:
		s += fmt.Sprintf(", exit code %d", e.Code)
	case history.Signaled:
		s += ", ended by " + signalName(e.Signal)
	case history.Late:
		s += ", ended since its time was up"
	case history.LostIt:
		s += ", and lost it"
	}
	if e.Heals > 1 {
		s += fmt.Sprintf("; its lock file was put back %d times", e.Heals)
	}
	if e.Waited > 0 {
		s += "; waited " + short(e.Waited) + Blockers(" for ", e)
	}
	return s
}

func gaveUp(e *history.Event) string {
	switch e.Ended {
	case history.Busy:
		return "did not wait" + Blockers(" for ", e)
	case history.Interrupted:
		return "was interrupted when it had waited " + short(e.Waited) + Blockers(" for ", e)
	case history.Deadlocked:
		return "gave up after " + short(e.Waited) + ": a deadlock"
	}
	return "gave up after it had waited " + short(e.Waited) + Blockers(" for ", e)
}

// Blockers names who had the lock while somebody waited, and for how long; empty if nobody is
// known.
func Blockers(begin string, e *history.Event) string {
	var s []string
	for i := range e.Blockers {
		b := &e.Blockers[i]
		one := party(&b.Party)
		if e.Ahead > 1 {
			one += " " + short(b.For)
		}
		s = append(s, one)
	}
	if more := e.Ahead - len(s); more > 0 && len(s) > 0 {
		s = append(s, fmt.Sprintf("%d more", more))
	}
	if len(s) == 0 {
		return ""
	}
	return begin + strings.Join(s, ", ")
}

// party is somebody as a message names him: label (command, pid N).
func party(p *history.Party) string {
	label, command := term.Clean(p.Process), term.Clean(p.Command)
	switch {
	case label == "" && command == "":
		return fmt.Sprintf("pid %d", p.PID)
	case label == "":
		return fmt.Sprintf("%s (pid %d)", command, p.PID)
	case command == "" || command == label:
		return fmt.Sprintf("%s (pid %d)", label, p.PID)
	}
	return fmt.Sprintf("%s (%s, pid %d)", label, command, p.PID)
}

// short renders a length of time that can be one of milliseconds.
func short(d time.Duration) string {
	switch {
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1fms", float64(d.Microseconds())/1000)
	case d < 100*time.Millisecond:
		return fmt.Sprintf("%dms", d.Milliseconds())
	}
	return term.Ago(d)
}

func signalName(n int) string {
	if name := unix.SignalName(unix.Signal(n)); name != "" {
		return name
	}
	return fmt.Sprintf("signal %d", n)
}
