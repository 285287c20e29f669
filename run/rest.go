package run

import (
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/internal/tree"
	"github.com/dblock-dev/dblock/lock"
)

const (
	// How often one looks at what an ended command has left, where nothing tells that
	// it has gone: a grandchild that starts another, or leaves the session.
	firstPause, lastPause = 2 * time.Millisecond, 250 * time.Millisecond
	// reportAfter is when people are told what is being waited for.
	reportAfter = time.Second
)

// leaves reports whether a command that was ended may have left something running.
func (ch *child) leaves(status syscall.WaitStatus) bool {
	_, was := ch.wasEnded(status)
	return was && !childless()
}

// outlast keeps the lock until all has gone that an ended command has started. Two
// commands would work at once if the next one came in before that.
func (c *Command) outlast(ch *child, l Holder, by syscall.Signal) {
	l.Ending()
	ch.spread(by)
	var kill <-chan time.Time
	if by == unix.SIGKILL && time.Duration(c.KillAfter) != lock.Forever {
		kill = time.After(time.Duration(c.KillAfter))
	}
	report := time.After(reportAfter)
	news := make(chan struct{}, 1)
	listening := false
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		rest, complete := ch.remaining()
		if len(rest) == 0 && (complete || !ch.hidden()) {
			if !complete {
				l.Bequeath()
			}
			return
		}
		if !listening {
			listening = true
			go func() {
				childNews()
				news <- struct{}{}
			}()
		}
		select {
		case <-news:
			listening, pause = false, firstPause
		case <-time.After(pause):
		case <-kill:
			ch.tell(unix.SIGKILL)
		case <-report:
			c.reportRest(rest)
		}
	}
}

// remaining is what is left of a command that has ended. What is new there is told. Only
// a look during which none of our own children ended has seen everything: what
// those had started is ours from then on.
func (ch *child) remaining() (rest []tree.Process, complete bool) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	for reap(); !childless(); {
		rest, complete = tree.Of(os.Getpid(), ch.pid, ch.before...)
		ch.tellRest(rest)
		if reap() == 0 {
			return rest, complete
		}
	}
	return nil, true
}

// hidden reports whether something is left that cannot be seen: a process of another user's,
// or one whose program may not be read, where /proc hides those. A child of ours in our
// process group has not left the session.
func (ch *child) hidden() bool { return len(ch.before) == 0 && childInGroup() }

// rest is what the command has started, and itself, as far as it lives.
func (ch *child) rest() []tree.Process {
	rest, _ := tree.Of(os.Getpid(), ch.pid, ch.before...)
	return rest
}

// spread has the rest of a command told by what it was ended, unless something else
// is to be told already. A crash is the command's own affair, and whoever killed it left
// the others no time: they are asked to end.
func (ch *child) spread(by syscall.Signal) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if ch.word != 0 {
		return
	}
	switch by {
	case unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM:
		ch.word = by
	default:
		ch.word = unix.SIGTERM
	}
	ch.typed = ch.typed && ch.ending == by
	ch.told = map[member]bool{}
}

// tell makes sig what the command and all that it has started are told, now and
// when they are found later.
func (ch *child) tell(sig syscall.Signal) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if ch.word != sig {
		ch.word, ch.told, ch.typed = sig, map[member]bool{}, false
	}
	if !ch.reaped {
		hear(ch.pid, sig)
	}
	ch.tellRest(ch.rest())
}

// tellRest tells those of the rest who do not know yet. What runs under another dblock
// hears it from that one, and twice might mean something else to it; but that one cannot
// pass on SIGKILL.
func (ch *child) tellRest(rest []tree.Process) {
	if ch.word == 0 {
		return
	}
	informed := tree.Below(rest, tree.IsDblock)
	for _, p := range rest {
		m := member{p.PID, p.Started}
		if p.PID == ch.pid || ch.told[m] || ch.typed && p.Group == unix.Getpgrp() || informed[p.PID] && ch.word != unix.SIGKILL {
			continue
		}
		ch.told[m] = true
		hear(p.PID, ch.word)
	}
}

// hear sends a signal to a process that may be stopped, which must go on to hear it.
func hear(pid int, sig syscall.Signal) {
	_ = unix.Kill(pid, sig)
	_ = unix.Kill(pid, unix.SIGCONT)
}
