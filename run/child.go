package run

import (
	"errors"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/internal/cli"
	"github.com/dblock-dev/dblock/internal/tree"
	"github.com/dblock-dev/dblock/lock"
	"github.com/dblock-dev/dblock/signals"
)

// brief is how long a command may be without being attended to: see lock.Options.
const brief = lock.MaxUnattended

const (
	// How often one looks at what an ended command has left, where nothing tells that
	// it has gone: a grandchild that starts another, or leaves the session.
	firstPause, lastPause = 2 * time.Millisecond, 250 * time.Millisecond
	// reportAfter is when people are told what is being waited for.
	reportAfter = time.Second
)

// child is the running command, and all that it has started.
type child struct {
	pid    int
	before []int // children that we had already

	mu     sync.Mutex
	reaped bool            // its pid may be another process's from now on
	ending syscall.Signal  // the last signal that ends and that reached the command; 0: none
	typed  bool            // the terminal sent it to our whole process group
	word   syscall.Signal  // what the rest of an ended command is told; 0: nothing
	told   map[member]bool // who has been told
}

// member is a process and no later one with the same number.
type member struct {
	pid     int
	started uint64
}

// signal sends the command a signal, or what is left of it when it has ended.
func (ch *child) signal(sig syscall.Signal) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if !ch.reaped {
		_ = unix.Kill(ch.pid, sig)
		return
	}
	for _, p := range ch.rest() {
		_ = unix.Kill(p.PID, sig)
	}
}

// pass passes a signal on. One that the terminal sent has reached the command
// already, and what is left of it, too, as far as it is in our process group.
func (ch *child) pass(sig syscall.Signal, typed bool) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if signals.Ends(sig) {
		ch.ending, ch.typed = sig, typed
	}
	if !ch.reaped {
		if !typed {
			_ = unix.Kill(ch.pid, sig)
		}
		return
	}
	for _, p := range ch.rest() {
		if !typed || p.Group != unix.Getpgrp() {
			_ = unix.Kill(p.PID, sig)
		}
	}
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

// tellRest tells those of the rest who do not know yet. What runs under another dblock
// hears it from that one, and twice might mean something else to it; but that one cannot
// pass on SIGKILL.
func (ch *child) tellRest(rest []tree.Process) {
	if ch.word == 0 {
		return
	}
	informed := tree.Below(rest, isDblock)
	for _, p := range rest {
		m := member{p.PID, p.Started}
		if p.PID == ch.pid || ch.told[m] || ch.typed && p.Group == unix.Getpgrp() || informed[p.PID] && ch.word != unix.SIGKILL {
			continue
		}
		ch.told[m] = true
		hear(p.PID, ch.word)
	}
}

// isDblock reports whether a process runs the same program as this one.
func isDblock(p tree.Process) bool {
	mine, err1 := os.Stat("/proc/self/exe")
	its, err2 := os.Stat("/proc/" + strconv.Itoa(p.PID) + "/exe")
	return err1 == nil && err2 == nil && os.SameFile(mine, its)
}

// hear sends a signal to a process that may be stopped, which must go on to hear it.
func hear(pid int, sig syscall.Signal) {
	_ = unix.Kill(pid, sig)
	_ = unix.Kill(pid, unix.SIGCONT)
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

// rest is what the command has started, and itself, as far as it lives.
func (ch *child) rest() []tree.Process {
	rest, _ := tree.Of(os.Getpid(), ch.pid, ch.before...)
	return rest
}

// gone reports whether the command itself has ended.
func (ch *child) gone() bool {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	return ch.reaped
}

// hasEnded reaps the command if it has ended.
func (ch *child) hasEnded() (status syscall.WaitStatus, ended bool) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	pid, err := syscall.Wait4(ch.pid, &status, syscall.WNOHANG, nil)
	ch.reaped = err == nil && pid == ch.pid
	return status, ch.reaped
}

// wasEnded tells by which signal a command was ended that did not end of its own
// accord: it died of one, or one was passed on to it that asks to end. Others that end
// who does not care (SIGUSR1) were news to a command that went on after them, unless its
// exit code names them. A code that names one that asks to end, or kills, says that somebody
// sent it without us, to the command or to what that has waited for; but a shell that
// was told to exit may have been interrupted long ago.
func (ch *child) wasEnded(status syscall.WaitStatus) (by syscall.Signal, was bool) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if status.Signaled() {
		return status.Signal(), true
	}
	named := syscall.Signal(status.ExitStatus() - 128)
	switch ch.ending {
	case 0:
	case unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT:
		return ch.ending, true
	case named:
		return named, true
	}
	switch named {
	case unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGKILL:
		return unix.SIGTERM, true
	}
	return 0, false
}

// supervise starts the command and passes signals on until it, and what it has
// started if it was ended, has gone.
func (c *Command) supervise(l *lock.Lock, path string, env []string, sigs *signals.Listener) error {
	// A signal that came after the lock was had and before there is a command is
	// still one that ends the wait.
	for _, sig := range sigs.Arrived() {
		if signals.Ends(sig.Signal) {
			return &SignalError{sig.Signal}
		}
	}
	ch, err := c.start(l, path, env)
	if err != nil {
		return err
	}
	sigs.Started(func(sig syscall.Signal) { ch.pass(sig, false) })
	// Who looks at what has arrived has seen the news of a quick command's end, too.
	status, ended := ch.hasEnded()
	if !ended {
		sigs.Rest(brief)
		status, ended = ch.hasEnded()
	}
	if !ended || ch.leaves(status) {
		status = c.attendTo(ch, l, sigs, status)
	}
	if status.Signaled() {
		return &SignalError{status.Signal()}
	}
	if code := status.ExitStatus(); code != 0 {
		return &cli.ExitError{Code: code}
	}
	return nil
}

// leaves reports whether a command that was ended may have left something running.
func (ch *child) leaves(status syscall.WaitStatus) bool {
	_, was := ch.wasEnded(status)
	return was && !childless()
}

// attendTo does what there is to do until the command has ended, and what it has left
// if it was ended. One that ends while dblock rests does not need it: neither the
// threads nor the heartbeat.
func (c *Command) attendTo(ch *child, l *lock.Lock, sigs *signals.Listener, status syscall.WaitStatus) syscall.WaitStatus {
	l.Attend()
	ended := make(chan struct{})
	idle := make(chan struct{})
	stopped := make(chan syscall.Signal, 1)
	go func() {
		defer close(idle)
		c.attend(ch, l, sigs, stopped, ended)
	}()
	if !ch.gone() {
		status = ch.wait(stopped)
	}
	if by, was := ch.wasEnded(status); (was || c.punishes(l)) && !childless() {
		c.outlast(ch, l, by)
	}
	close(ended)
	<-idle
	return status
}

// outlast keeps the lock until all has gone that an ended command has started. Two
// commands would work at once if the next one came in before that.
func (c *Command) outlast(ch *child, l *lock.Lock, by syscall.Signal) {
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
		if len(rest) == 0 {
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

// start starts the command in our own process group, with our descriptors. It
// uses the system call and not os/exec, which would probe for pidfds, and close
// nothing that we were started with but what it knows.
func (c *Command) start(l *lock.Lock, path string, env []string) (*child, error) {
	ch := &child{}
	if tree.Adopt() == nil && !childless() {
		ch.before = tree.Children()
	}
	if fd := l.Descriptor(); fd >= 0 && !c.Close {
		// Only for the moment of the start: nothing else is started meanwhile.
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err == nil {
			defer unix.FcntlInt(uintptr(fd), unix.F_SETFD, unix.FD_CLOEXEC)
		}
	}
	attr := &syscall.ProcAttr{Env: env, Files: []uintptr{0, 1, 2}, Sys: c.deathSignal()}
	for tries := 0; ; tries++ {
		// The last look: nothing that could take long comes between it and the start.
		if err := l.Check(); err != nil {
			return nil, err
		}
		var err error
		ch.pid, err = syscall.ForkExec(path, c.Argv, attr)
		switch {
		case err == nil:
			return ch, nil
		case err == syscall.ETXTBSY && tries < 100:
			time.Sleep(time.Millisecond) // it is just being written
			continue
		case err == syscall.ENOEXEC:
			// A script without a #! line: execvp runs it with sh.
			argv := append([]string{"/bin/sh", path}, c.Argv[1:]...)
			if ch.pid, err = syscall.ForkExec("/bin/sh", argv, attr); err == nil {
				return ch, nil
			}
		}
		code := 126
		if errors.Is(err, os.ErrNotExist) {
			code = 127
		}
		return nil, &StartError{code, c.Argv[0], err}
	}
}

// attend passes on signals, deals with the loss of the lock, and stops with the
// command, until it has ended.
func (c *Command) attend(ch *child, l *lock.Lock, sigs *signals.Listener, stopped <-chan syscall.Signal, ended <-chan struct{}) {
	lost := l.Lost()
	var kill <-chan time.Time
	paused := false
	for {
		select {
		case sig := <-sigs.C():
			switch {
			case sig.Signal == unix.SIGCONT:
				// A shell continues the whole process group: then the command runs
				// already. Somebody who continued only us means the command.
				if !paused || ch.isStopped() {
					ch.signal(unix.SIGCONT)
				}
				paused = false
				l.Resume()
			case signals.Stops(sig.Signal) && ch.gone():
				// Nobody is left whose stop we would follow.
				ch.pass(sig.Signal, sig.FromTerminal())
				c.pause(ch, l, sigs, sig.Signal)
			default:
				ch.pass(sig.Signal, sig.FromTerminal())
			}
		case sig := <-stopped:
			// We stop when the command does, and only then: it may have its own
			// mind about a SIGTSTP, and it may stop by itself (less, vi), when the
			// shell must get its terminal back. Not for a SIGSTOP: whoever sent it
			// to the command alone will continue the command alone.
			if signals.Stops(sig) && ch.isStopped() {
				paused = c.pause(ch, l, sigs, sig)
			}
		case <-lost:
			lost = nil
			kill = c.punish(ch, l)
		case <-kill:
			ch.tell(unix.SIGKILL)
		case <-ended:
			return
		}
	}
}

// continues passes on what has arrived since a stop, and reports whether that was to be
// continued. Nobody sends a second SIGCONT: we would stay stopped, and keep the lock.
func (ch *child) continues(sigs *signals.Listener) (yes bool) {
	for _, sig := range sigs.Arrived() {
		if sig.Signal == unix.SIGCONT {
			yes = true
			ch.signal(unix.SIGCONT)
		} else {
			ch.pass(sig.Signal, sig.FromTerminal())
		}
	}
	return yes
}

// pause stops dblock itself, with a notice that outlives the stop, unless it is to go on
// already.
func (c *Command) pause(ch *child, l *lock.Lock, sigs *signals.Listener, sig syscall.Signal) (paused bool) {
	l.Suspend()
	defer l.Resume()
	signals.Stop(sig, func() bool {
		paused = !ch.continues(sigs)
		return !paused
	})
	return paused
}

// punish does what --on-lost says.
func (c *Command) punish(ch *child, l *lock.Lock) <-chan time.Time {
	c.tell("%s", sentence(l.Err()))
	switch c.OnLost {
	case "kill":
		ch.tell(unix.SIGKILL)
	case "term":
		ch.tell(unix.SIGTERM)
		if time.Duration(c.KillAfter) != lock.Forever {
			return time.After(time.Duration(c.KillAfter))
		}
	}
	return nil
}

// punishes reports whether the lock was lost, and the command is ended for that.
func (c *Command) punishes(l *lock.Lock) bool { return l.Err() != nil && c.OnLost != "warn" }
