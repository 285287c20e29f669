package run

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/internal/cli"
	"github.com/dblock-dev/dblock/internal/entry"
	"github.com/dblock-dev/dblock/internal/tree"
)

// StartError says that the command could not be started: exit code 126 or 127.
type StartError struct {
	Code    int
	Command string
	Err     error
}

func (e *StartError) Error() string { return fmt.Sprintf("%s: %v", e.Command, e.Err) }

// Unwrap returns the cause.
func (e *StartError) Unwrap() error { return e.Err }

// lookByDefault finds a program where execvp looks for it when there is no PATH.
func lookByDefault(name string) (path string, err error) {
	for _, dir := range []string{"/bin/", "/usr/bin/"} {
		if path, err = exec.LookPath(dir + name); err == nil {
			break
		}
	}
	return path, err
}

// look finds the program before anything is locked for it.
func look(name string) (string, error) {
	path, err := exec.LookPath(name)
	if _, set := os.LookupEnv("PATH"); !set && !strings.Contains(name, "/") {
		path, err = lookByDefault(name)
	}
	if errors.Is(err, exec.ErrDot) {
		err = nil // PATH says so, and exec does as PATH says
	}
	if err == nil {
		return path, nil
	}
	var lookup *exec.Error
	if errors.As(err, &lookup) {
		err = lookup.Err
	}
	code := cli.ExitNotFound
	if errors.Is(err, os.ErrPermission) || errors.Is(err, syscall.EISDIR) {
		code = cli.ExitNotExecutable
	}
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
		err = errors.New("command not found")
	}
	return "", &StartError{code, name, err}
}

// start starts the command in our own process group, with our descriptors. It
// uses the system call and not os/exec, which would probe for pidfds, and close
// nothing that we were started with but what it knows.
func (c *Command) start(l Holder, path string, env []string) (*child, error) {
	ch := &child{}
	if tree.Adopt() == nil && !childless() {
		ch.before = tree.Children()
	}
	for _, fd := range l.Descriptors() {
		if c.Close {
			break
		}
		// Only for the moment of the start: nothing else is started meanwhile.
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err == nil {
			defer unix.FcntlInt(uintptr(fd), unix.F_SETFD, unix.FD_CLOEXEC)
		}
	}
	attr := &syscall.ProcAttr{Env: env, Files: []uintptr{0, 1, 2}, Sys: c.deathSignal()}
	for fd := range attr.Files {
		if entry.Closed(fd) {
			attr.Files[fd] = ^uintptr(0) // what writes to it is to fail, as without us
		}
	}
	for tries := 0; ; tries++ {
		// The last look: nothing that could take long comes between it and the start.
		if err := l.Check(); err != nil {
			return nil, err
		}
		var err error
		entry.Restore()
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
		code := cli.ExitNotExecutable
		if errors.Is(err, os.ErrNotExist) {
			code = cli.ExitNotFound
		}
		return nil, &StartError{code, c.Argv[0], err}
	}
}
