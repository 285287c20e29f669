package hold

import (
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/internal/tree"
)

// firstPause is how soon one looks again at what ends.
const firstPause = 2 * time.Millisecond

// crew is a shell and what it has started, in its session: what works under its lock. When
// the shell has ended nobody can tell any more what it had started, so that is remembered.
type crew struct {
	shell   *shell
	members []member
}

// member is a process and no later one with the same number.
type member struct {
	*shell
	told unix.Signal // last
}

// look remembers those who are there.
func (c *crew) look() {
	all := tree.Whole(c.shell.pid)
	if c.shell.gone() {
		return
	}
	below := tree.Below(all, tree.IsDblock)
	for _, p := range all {
		known := func(m member) bool { return m.pid == p.PID && !m.gone() }
		if p.PID == c.shell.pid || slices.ContainsFunc(c.members, known) {
			continue
		}
		s, err := open(p.PID)
		if err != nil {
			continue
		}
		if now, ok := tree.Look(p.PID); !ok || now.Started != p.Started {
			s.close()
			continue
		}
		m := member{shell: s}
		if below[p.PID] {
			m.told = unix.SIGTERM // by the dblock that it runs under
		}
		c.members = append(c.members, m)
	}
}

// tell sends a signal to the shell and to those of the others who have not got it yet. Who is
// stopped must go on to hear it.
func (c *crew) tell(sig unix.Signal) {
	c.look()
	all := append([]member{{shell: c.shell}}, c.members...)
	for i, m := range all {
		if i > 0 && m.told != 0 && sig != unix.SIGKILL || m.gone() {
			continue
		}
		m.send(sig)
		m.send(unix.SIGCONT)
		if i > 0 {
			c.members[i-1].told = sig
		}
	}
}

// living are the members that have not ended.
func (c *crew) living() []member {
	return slices.DeleteFunc(slices.Clone(c.members), func(m member) bool { return m.gone() })
}
