package hold

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/internal/cli"
	"github.com/dblock-dev/dblock/internal/crew"
	"github.com/dblock-dev/dblock/internal/say"
	"github.com/dblock-dev/dblock/internal/term"
	"github.com/dblock-dev/dblock/internal/witness"
	"github.com/dblock-dev/dblock/lock"
	"github.com/dblock-dev/dblock/run"
	"github.com/dblock-dev/dblock/signals"
)

// keeper has the lock for a shell. It has a session of its own, keeps nothing that the shell
// uses (no terminal, pipe, directory), and ends with it.
type keeper struct {
	c     *Command
	shell *crew.Process
	sigs  *signals.Listener

	holder run.Holder
	state  *state
	crew   crew.Crew

	witness witness.Witness

	ending syscall.Signal // that the shell was told; 0: none
	late   string         // why it was told that, if its time was up
}

// kept is the shell of this process, if it was started as a keeper.
func kept(pid int) (s *crew.Process, keeps bool) {
	value, keeps := os.LookupEnv(envKeeper)
	if !keeps {
		return nil, false
	}
	_ = os.Unsetenv(envKeeper)
	fd, err := strconv.Atoi(value)
	if _, sockErr := unix.GetsockoptInt(frontFD, unix.SOL_SOCKET, unix.SO_TYPE); err != nil || sockErr != nil || pid == 0 {
		return nil, false
	}
	unix.CloseOnExec(frontFD)
	return crew.Inherited(pid, fd), true
}

// errAlone says that nobody is left for whom the lock would be.
var errAlone = errors.New("the shell has ended")

// run gets the lock, tells the front, and keeps the lock until the shell has ended or
// releases it.
func (k *keeper) run(opts lock.Options) error {
	opts.For = k.shell.PID
	opts.Outcome = func() lock.Outcome { return lock.Outcome{Own: true, Late: k.late != ""} }
	ctx, cancel := context.WithCancelCause(context.Background())
	go func() {
		k.shell.Await(frontFD)
		cancel(errAlone)
	}()
	undone := "it is not held"
	if name := lock.Program(k.shell.PID); name != "" {
		undone += " for " + term.Clean(name)
	}
	l, err := k.c.Acquire(ctx, k.c.Voice, opts, undone, k.sigs)
	switch {
	case errors.Is(err, errAlone):
		return &cli.ExitError{Code: cli.ExitConflict}
	case err != nil:
		return err
	}
	k.holder = l
	l.Attend()
	if err := k.handOver(); err != nil {
		if rerr := l.Release(); rerr != nil && err != errAlone {
			k.c.Tell("%s", run.Loss(rerr))
		}
		if err == errAlone {
			err = &cli.ExitError{Code: cli.ExitConflict}
		}
		return err
	}
	return k.attend()
}

// handOver lets go of what belongs to the shell, and tells the front that the lock is held.
// The front must have taken that: else nobody knows of the lock.
func (k *keeper) handOver() error {
	if err := k.holder.Check(); err != nil {
		k.c.Tell("%s; it is not held", run.Loss(err))
		return err
	}
	// One that came when the lock had been acquired still ends the wait.
	for _, sig := range k.sigs.Arrived() {
		if signals.Ends(sig.Signal) {
			return &cli.SignalError{Signal: sig.Signal}
		}
	}
	grants := k.holder.Grants()
	say.Stderr.Flush(crew.LookEvery)
	detach()
	k.state = newState(grants[0].Names.Notice)
	var answer strings.Builder
	answer.WriteString(granted + "\x00")
	for _, v := range append(lock.Variables(grants), [2]string{envPID, strconv.Itoa(os.Getpid())}) {
		answer.WriteString(v[0] + "=" + v[1] + "\x00")
	}
	answer.WriteString("\x00")
	for text := []byte(answer.String()); len(text) > 0; {
		n, err := unix.Write(frontFD, text)
		if err != nil && err != unix.EINTR {
			return errAlone
		}
		text = text[max(n, 0):]
	}
	var b [len(taken)]byte
	for have := 0; have < len(b); {
		// Until then nothing but the end of one of them can come.
		k.shell.Await(frontFD)
		if k.shell.Gone() {
			return errAlone
		}
		n, err := unix.Read(frontFD, b[have:])
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return errAlone
		}
		have += n
	}
	k.witness = witness.Attest(k.shell.PID, false)
	// The front waits for that. A thread that still polls the link would keep it open.
	_ = unix.Shutdown(frontFD, unix.SHUT_RDWR)
	unix.Close(frontFD)
	return nil
}

// detach leaves the shell's session, directory and messages.
func detach() {
	_, _ = unix.Setsid()
	_ = unix.Chdir("/")
	if fd, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0); err == nil {
		_ = dup2(fd, unix.Stderr)
		unix.Close(fd)
	}
}

// attend keeps the lock until the shell has ended, or says that it is to be released. The
// shell is what works under the lock: who tells the keeper to end means that, and the lock
// is kept until it has.
func (k *keeper) attend() error {
	k.crew.Leader = k.shell
	gone := make(chan struct{})
	go func() {
		for !k.shell.Gone() {
			k.shell.Await(-1)
		}
		close(gone)
	}()
	lost, late := k.holder.Lost(), k.timeIsUp()
	var kill <-chan time.Time
	for {
		select {
		case <-gone:
			if k.ending != 0 {
				k.outlast(kill)
			}
			return k.release()
		case sig := <-k.sigs.C():
			switch sig.Signal {
			case releases:
				return k.release()
			case unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT:
				k.end(sig.Signal, false)
			case unix.SIGCONT:
				k.holder.Resume()
			}
		case <-lost:
			lost = nil
			if then := k.punish(); kill == nil {
				kill = then
			}
		case <-late:
			late = nil
			if then := k.endLate(); kill == nil {
				kill = then
			}
		case <-kill:
			k.crew.Tell(unix.SIGKILL)
		}
	}
}

// end has the shell end, with all that it has started or by itself; the lock is kept until
// all of that has gone.
func (k *keeper) end(by syscall.Signal, all bool) {
	k.ending = by
	k.crew.Look()
	if all {
		k.crew.Tell(by)
	} else {
		k.shell.Send(by)
	}
}

// outlast waits for what the shell has left that was told to end.
func (k *keeper) outlast(kill <-chan time.Time) {
	k.crew.Tell(k.ending)
	for pause := crew.FirstPause; k.crew.Lives(); pause = min(2*pause, crew.LookEvery) {
		select {
		case <-kill:
			k.crew.Tell(unix.SIGKILL)
		case sig := <-k.sigs.C():
			if sig.Signal == releases {
				return
			}
		case <-time.After(pause):
		}
	}
}

// punish does what --on-lost says.
func (k *keeper) punish() (kill <-chan time.Time) {
	text := run.Loss(k.holder.Err())
	k.state.set(wasLost, text)
	return k.act(string(k.c.OnLost), text)
}

// timeIsUp tells when the lock has been held for as long as it may; never, if that is as long
// as it takes.
func (k *keeper) timeIsUp() <-chan time.Time {
	if d := time.Duration(k.c.TimeLimit); d > 0 && d != lock.Forever {
		return time.After(d)
	}
	return nil
}

// endLate does what --on-time-limit says.
func (k *keeper) endLate() (kill <-chan time.Time) {
	text := fmt.Sprintf("%s has been held for %s, as long as it may", term.Path(k.holder.Grants()[0].Names.Shown()), term.Ago(time.Duration(k.c.TimeLimit)))
	if k.c.OnTimeLimit != "warn" {
		k.late = text
		k.state.set(wasLate, text)
	}
	return k.act(string(k.c.OnTimeLimit), text)
}

// act ends the shell that way, or does not, tells who works with it, and says when to kill
// what has not ended.
func (k *keeper) act(how, text string) (kill <-chan time.Time) {
	screen := complain(k.shell.PID)
	then := "the shell goes on"
	switch how {
	case "kill":
		k.end(unix.SIGKILL, true)
		then = "the shell is being killed"
	case "term":
		k.end(unix.SIGTERM, true)
		then = "the shell is being ended"
		if time.Duration(k.c.KillAfter) != lock.Forever {
			kill = time.After(time.Duration(k.c.KillAfter))
		}
	}
	if screen >= 0 {
		if k.c.Quiet < cli.Silent {
			_, _ = unix.Write(screen, fmt.Appendf(nil, "dblock: %s; %s\n", text, then))
		}
		unix.Close(screen)
	}
	return kill
}

// release ends the hold, and leaves word for who has told it to.
func (k *keeper) release() error {
	err := k.holder.Release()
	k.witness.Dismiss()
	switch {
	case errors.Is(err, lock.ErrLost):
		k.state.set(wasLost, run.Loss(err))
	case err != nil:
		k.state.set(wasReleased, fmt.Sprintf("the lock file was not removed: %v", err))
	case k.late != "":
		k.state.set(wasLate, k.late)
	default:
		k.state.set(wasReleased, "")
	}
	return nil
}
