package run

import (
	"errors"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/internal/entry"
	"github.com/dblock-dev/dblock/lock"
	"github.com/dblock-dev/dblock/signals"
)

// brief is how long a command may be without being attended to: see lock.Options.
const brief = lock.MaxUnattended

// child is the running command.
type child struct {
	pid int

	mu     sync.Mutex
	reaped bool // its pid may be another process's from now on
}

// signal sends the command a signal, unless it has been reaped.
func (ch *child) signal(sig syscall.Signal) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if !ch.reaped {
		_ = unix.Kill(ch.pid, sig)
	}
}

// hasEnded reaps the command if it has ended.
func (ch *child) hasEnded() (status syscall.WaitStatus, ended bool) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	pid, err := syscall.Wait4(ch.pid, &status, syscall.WNOHANG, nil)
	ch.reaped = err == nil && pid == ch.pid
	return status, ch.reaped
}

// supervise starts the command and passes signals on until it has ended.
func (c *Command) supervise(l *lock.Lock, path string, env []string, sigs *signals.Listener) error {
	// A signal that came after the lock was had and before there is a command is
	// still one that ends the wait.
	for {
		sig, ok := sigs.Next()
		if !ok {
			break
		}
		if signals.Ends(sig.Signal) {
			return &SignalError{sig.Signal}
		}
	}
	pid, err := c.start(l, path, env)
	if err != nil {
		return err
	}
	ch := &child{pid: pid}
	sigs.Rest(brief)
	status, ended := ch.hasEnded()
	if !ended {
		status = c.attendTo(ch, l, sigs)
	}
	if status.Signaled() {
		return &SignalError{status.Signal()}
	}
	if code := status.ExitStatus(); code != 0 {
		return &ExitError{code}
	}
	return nil
}

// attendTo does what there is to do until the command has ended. One that ends
// while dblock rests does not need it: neither the threads nor the heartbeat.
func (c *Command) attendTo(ch *child, l *lock.Lock, sigs *signals.Listener) syscall.WaitStatus {
	l.Attend()
	ended := make(chan struct{})
	idle := make(chan struct{})
	stopped := make(chan syscall.Signal, 1)
	go func() {
		defer close(idle)
		c.attend(ch, l, sigs, stopped, ended)
	}()
	entry.Spread()
	status := ch.wait(stopped)
	close(ended)
	<-idle
	return status
}

// start starts the command in our own process group, with our descriptors. It
// uses the system call and not os/exec, which would probe for pidfds, and close
// nothing that we were started with but what it knows.
func (c *Command) start(l *lock.Lock, path string, env []string) (int, error) {
	if fd := l.Descriptor(); fd >= 0 && !c.Close {
		// Only for the moment of the start: nothing else is started meanwhile.
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err == nil {
			defer unix.FcntlInt(uintptr(fd), unix.F_SETFD, unix.FD_CLOEXEC)
		}
	}
	attr := &syscall.ProcAttr{Env: env, Files: []uintptr{0, 1, 2}, Sys: c.deathSignal()}
	for tries := 0; ; tries++ {
		pid, err := syscall.ForkExec(path, c.Argv, attr)
		switch {
		case err == nil:
			return pid, nil
		case err == syscall.ETXTBSY && tries < 100:
			time.Sleep(time.Millisecond) // it is just being written
			continue
		case err == syscall.ENOEXEC:
			// A script without a #! line: execvp runs it with sh.
			argv := append([]string{"/bin/sh", path}, c.Argv[1:]...)
			if pid, err = syscall.ForkExec("/bin/sh", argv, attr); err == nil {
				return pid, nil
			}
		}
		code := 126
		if errors.Is(err, os.ErrNotExist) {
			code = 127
		}
		return 0, &StartError{code, c.Argv[0], err}
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
			case !sig.FromTerminal():
				ch.signal(sig.Signal)
			}
		case sig := <-stopped:
			// We stop when the command does, and only then: it may have its own
			// mind about a SIGTSTP, and it may stop by itself (less, vi), when the
			// shell must get its terminal back. Not for a SIGSTOP: whoever sent it
			// to the command alone will continue the command alone.
			if signals.Stops(sig) {
				paused = true
				c.pause(l, sig)
			}
		case <-lost:
			lost = nil
			kill = c.punish(ch, l)
		case <-kill:
			ch.signal(unix.SIGKILL)
		case <-ended:
			return
		}
	}
}

// pause stops dblock itself, with a notice that outlives the stop.
func (c *Command) pause(l *lock.Lock, sig syscall.Signal) {
	l.Suspend()
	signals.Stop(sig)
	l.Resume()
}

// punish does what --on-lost says.
func (c *Command) punish(ch *child, l *lock.Lock) <-chan time.Time {
	c.tell("%s", sentence(l.Err()))
	switch c.OnLost {
	case "kill":
		ch.signal(unix.SIGKILL)
	case "term":
		ch.signal(unix.SIGTERM)
		ch.signal(unix.SIGCONT) // a stopped command could not hear it
		if time.Duration(c.KillAfter) != lock.Forever {
			return time.After(time.Duration(c.KillAfter))
		}
	}
	return nil
}
