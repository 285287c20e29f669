package hold

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/internal/cli"
	"github.com/dblock-dev/dblock/internal/crew"
	"github.com/dblock-dev/dblock/internal/entry"
	"github.com/dblock-dev/dblock/signals"
)

// envKeeper tells a keeper that it is one. It has the number of the descriptor by which the
// shell is known, or -1.
const envKeeper = "DBLOCK_KEEPER"

// The descriptors of a keeper beside the first three: its front, and its shell.
const (
	frontFD = 3
	shellFD = 4
)

// unfinished is what a front prints first. If it is killed before it has printed the rest, what
// the shell evaluates is no complete command, and fails; `eval ""` would succeed.
const unfinished = "(exit 137) ||\n"

// The words between a keeper and its front.
const (
	granted = "granted" // the lock is held; what follows is the shell's environment
	taken   = "taken"   // the front prints it now: the keeper works for the shell from then on
)

// front is what a user calls: it starts the keeper, waits until that has the lock, and prints
// what the shell is to evaluate.
type front struct {
	shell *crew.Process
	reads bool // it is the one that reads what is printed
	sigs  *signals.Listener

	keeper int      // its pid
	link   *os.File // to the keeper; whoever of the two ends, the other one sees it
}

func (f *front) run() error {
	if _, err := os.Stdout.WriteString(unfinished); err != nil {
		return err
	}
	if err := f.start(); err != nil {
		return err
	}
	defer f.link.Close()
	env, err := f.await()
	if err != nil {
		return err
	}
	if f.reads && !stillReads(f.shell.PID) {
		return errNotRead
	}
	// From here on the keeper does not give up when this process ends: the other order would
	// have a shell that believes in a lock which was released.
	if _, err := f.link.WriteString(taken); err != nil {
		return f.ended()
	}
	// And not before the keeper can be killed without the lock being free: see package witness.
	if err := f.settled(); err != nil {
		return err
	}
	if _, err := os.Stdout.WriteString(":\n" + exports(env)); err != nil {
		_ = unix.Kill(f.keeper, releases)
		return err
	}
	return nil
}

// start starts the keeper. It has our process group until it has the lock, since it waits at
// the terminal like any command; of what else we have it inherits only the messages' way.
func (f *front) start() error {
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return os.NewSyscallError("socketpair", err)
	}
	defer unix.Close(ends[1])
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		unix.Close(ends[0])
		return err
	}
	defer null.Close()
	files := []uintptr{null.Fd(), null.Fd(), 2, frontFD: uintptr(ends[1])}
	if entry.Closed(2) {
		files[2] = null.Fd()
	}
	fd := f.shell.Descriptor()
	if fd >= 0 {
		files, fd = append(files, uintptr(fd)), shellFD
	}
	inheritNothing()
	f.link = os.NewFile(uintptr(ends[0]), "keeper")
	args := append([]string{"dblock", "hold", "--for", strconv.Itoa(f.shell.PID)}, os.Args[2:]...)
	env := append(os.Environ(), envKeeper+"="+strconv.Itoa(fd))
	entry.Restore()
	f.keeper, err = syscall.ForkExec(program(), args, &syscall.ProcAttr{Env: env, Files: files})
	if err != nil {
		f.link.Close()
		return os.NewSyscallError("fork", err)
	}
	return nil
}

// program is the path of this program. By its own name a keeper is found in lists of processes;
// if something else has that by now, by the kernel's.
func program() string {
	const own = "/proc/self/exe"
	path, err := os.Executable()
	if err != nil { // no /proc
		if path, err = exec.LookPath(os.Args[0]); err != nil {
			return own
		}
	}
	now, err1 := os.Stat(path)
	mine, err2 := os.Stat(own)
	if err2 == nil && (err1 != nil || !os.SameFile(now, mine)) {
		return own
	}
	return path
}

// await waits until the keeper has the lock, or has given up. A signal ends the wait, and this
// process; the keeper sees that.
func (f *front) await() (env []string, err error) {
	answer := make(chan []string, 1)
	go func() {
		var all []byte
		for b := make([]byte, 4096); ; {
			n, err := f.link.Read(b)
			all = append(all, b[:n]...)
			// The answer ends with an empty string.
			if err != nil || bytes.HasSuffix(all, []byte("\x00\x00")) {
				break
			}
		}
		answer <- strings.Split(strings.TrimSuffix(string(all), "\x00\x00"), "\x00")
	}()
	for {
		select {
		case lines := <-answer:
			if lines[0] != granted {
				return nil, f.ended()
			}
			return lines[1:], nil
		case sig := <-f.sigs.C():
			switch {
			case signals.Stops(sig.Signal):
				signals.Stop(sig.Signal, func() bool {
					for _, later := range f.sigs.Arrived() {
						if later.Signal == unix.SIGCONT || signals.Ends(later.Signal) {
							return true
						}
					}
					return false
				})
			case signals.Ends(sig.Signal):
				return nil, &cli.SignalError{Signal: sig.Signal}
			}
		}
	}
}

// settled waits until the keeper has ended the link. One that has ended may have a
// witness that has that end, too.
func (f *front) settled() error {
	keeper, err := crew.Open(f.keeper)
	if err != nil {
		return err
	}
	defer keeper.Close()
	keeper.Await(int(f.link.Fd()))
	if keeper.Gone() {
		return f.ended()
	}
	return nil
}

// ended is how a keeper has ended that does not have the lock: it has said why.
func (f *front) ended() error {
	var status syscall.WaitStatus
	for {
		_, err := syscall.Wait4(f.keeper, &status, 0, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		switch {
		case err != nil:
			return err
		case status.Signaled():
			return &cli.SignalError{Signal: status.Signal()}
		case status.ExitStatus() != 0:
			return &cli.ExitError{Code: status.ExitStatus()}
		}
		return io.ErrUnexpectedEOF
	}
}
