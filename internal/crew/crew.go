// Package crew ends a process that works under a lock, with what it has started: a shell that
// holds one, a program that has one by a session.
package crew

import (
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/internal/tree"
)

const (
	// FirstPause is how soon one looks again at what ends.
	FirstPause = 2 * time.Millisecond
	// LookEvery is how often one looks at a process where nothing tells of its end.
	LookEvery = 250 * time.Millisecond
)

// Crew is a process and what it has started, in its session: what works under its lock. When
// it has ended nobody can tell any more what it had started, so that is remembered.
type Crew struct {
	Leader  *Process
	members []member
}

// member is a process and no later one with the same number.
type member struct {
	*Process
	told unix.Signal // last
}

// Look remembers those who are there.
func (c *Crew) Look() {
	all := tree.Whole(c.Leader.PID)
	if c.Leader.Gone() {
		return
	}
	below := tree.Below(all, tree.IsDblock)
	for _, p := range all {
		known := func(m member) bool { return m.PID == p.PID && !m.Gone() }
		// Not who ends them, nor its witness.
		if p.PID == c.Leader.PID || p.PID == os.Getpid() || p.Parent == os.Getpid() || slices.ContainsFunc(c.members, known) {
			continue
		}
		s, err := Open(p.PID)
		if err != nil {
			continue
		}
		if now, ok := tree.Look(p.PID); !ok || now.Started != p.Started {
			s.Close()
			continue
		}
		m := member{Process: s}
		if below[p.PID] {
			m.told = unix.SIGTERM // by the dblock that it runs under
		}
		c.members = append(c.members, m)
	}
}

// Tell sends a signal to the leader and to those of the others who have not got it yet. Who is
// stopped must go on to hear it.
func (c *Crew) Tell(sig unix.Signal) {
	c.Look()
	all := append([]member{{Process: c.Leader}}, c.members...)
	for i, m := range all {
		if i > 0 && m.told != 0 && sig != unix.SIGKILL || m.Gone() {
			continue
		}
		m.Send(sig)
		m.Send(unix.SIGCONT)
		if i > 0 {
			c.members[i-1].told = sig
		}
	}
}

// Lives reports whether any of those whom the leader has started has not ended.
func (c *Crew) Lives() bool {
	return slices.ContainsFunc(c.members, func(m member) bool { return !m.Gone() })
}
