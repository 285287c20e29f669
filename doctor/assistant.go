package doctor

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/internal/cli"
)

// Assistant is the argument behind doctor by which a doctor starts this program once more: some
// things show only between two processes.
const Assistant = "--be-the-other-process"

// probeName is what the names of the directories begin with that are made for the probes.
const probeName = ".dblock-doctor"

// The files in such a directory.
var probeFiles = []string{"file", "link", "other", "new"}

// room is a directory for the probes, of this user and closed to all others.
type room struct {
	path string
	fd   int
}

// enter opens the directory, if it is one that this user has made: others may be able to put
// something in its place.
func enter(path string) (*room, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || !mine(int(st.Uid)) || st.Mode&0o077 != 0 {
		_ = unix.Close(fd)
		return nil, unix.ESTALE
	}
	return &room{path, fd}, nil
}

func (r *room) open(name string, flags int) (int, error) {
	return unix.Openat(r.fd, name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0o600)
}

func (r *room) rename(from, to string) error { return unix.Renameat(r.fd, from, r.fd, to) }

func (r *room) remove(name string) error { return unix.Unlinkat(r.fd, name, 0) }

// clear removes the directory and what may be in it.
func (r *room) clear() {
	for _, name := range probeFiles {
		_ = r.remove(name)
	}
	_ = unix.Close(r.fd)
	_ = unix.Rmdir(r.path)
}

// Assist is the other process: it does what it is told, a line for each thing, and answers each with
// a line: 0, or the number of the error. When the doctor has ended, however it did, it removes
// what that has made. Its exit code is 0, or that of wrong usage if nobody is at the other end.
func Assist() error {
	// What ends the doctor must not end who cleans up behind it.
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGTSTP, syscall.SIGPIPE)
	var st unix.Stat_t
	if unix.Fstat(0, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO {
		return cli.Usage(Assistant+" is for dblock doctor itself", "")
	}
	var a other
	in := bufio.NewReader(os.Stdin)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			break
		}
		op, arg, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		fmt.Println(number(a.do(op, arg)))
	}
	if a.room == nil && a.path != "" {
		a.room, _ = enter(a.path) // it was made after we were told, and we were not told again
	}
	if a.room != nil && a.owned {
		a.room.clear()
	}
	return nil
}

// other is what the other process has.
type other struct {
	path  string
	room  *room
	fd    int
	owned bool // it cleans up
}

func (a *other) do(op, arg string) (err error) {
	switch op {
	case "guard":
		a.owned = true
		a.path, err = strconv.Unquote(arg)
	case "enter":
		if a.path, err = strconv.Unquote(arg); err == nil {
			a.room, err = enter(a.path)
		}
	case "flock", "ofd":
		if a.fd, err = a.room.open("file", unix.O_RDWR); err != nil {
			return err
		}
		if err = unix.Flock(a.fd, unix.LOCK_EX|unix.LOCK_NB); op == "ofd" {
			err = ofdLock(a.fd)
		}
		if err != nil {
			_ = unix.Close(a.fd)
		}
	case "drop":
		err = unix.Close(a.fd)
	case "write":
		fd, err := a.room.open("file", unix.O_RDWR)
		if err == nil {
			_, err = unix.Pwrite(fd, []byte("x"), 0)
			_ = unix.Close(fd)
		}
		return err
	case "remove":
		err = a.room.remove(arg)
	case "rename":
		err = a.room.rename("new", arg)
	default:
		err = unix.EINVAL
	}
	return err
}

func number(err error) int {
	var errno syscall.Errno
	switch {
	case err == nil:
		return 0
	case errors.As(err, &errno):
		return int(errno)
	}
	return int(unix.EIO)
}

// assistant is the other process, as the doctor sees it.
type assistant struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func newAssistant() (*assistant, error) {
	self, err := os.Executable()
	if err != nil { // no /proc
		self, err = exec.LookPath(os.Args[0])
	}
	if err != nil {
		return nil, err
	}
	a := &assistant{cmd: exec.Command(self, "doctor", Assistant)}
	if a.in, err = a.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := a.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	a.out = bufio.NewReader(out)
	return a, a.cmd.Start()
}

// errSilent says that the other process does not answer.
var errSilent = errors.New("the other process does not answer")

// ask lets the other process do something. The error is what came of it there.
func (a *assistant) ask(op string) error {
	if _, err := io.WriteString(a.in, op+"\n"); err != nil {
		return errSilent
	}
	line, err := a.out.ReadString('\n')
	n, nerr := strconv.Atoi(strings.TrimSpace(line))
	switch {
	case err != nil || nerr != nil:
		return errSilent
	case n != 0:
		return syscall.Errno(n)
	}
	return nil
}

// kill kills the process, and waits until it has gone.
func (a *assistant) kill() {
	_ = a.cmd.Process.Kill()
	_ = a.cmd.Wait()
}

// dismiss lets it clean up and end.
func (a *assistant) dismiss() {
	_ = a.in.Close()
	timer := time.AfterFunc(patience, func() { _ = a.cmd.Process.Kill() })
	defer timer.Stop()
	_ = a.cmd.Wait()
}
