// Package hold holds a lock in the middle of a shell script. `dblock hold` leaves a process
// behind, the keeper, which has the lock for as long as the shell lives, and prints what the
// shell is to evaluate; `dblock release` ends that early.
package hold

import (
	"fmt"
	"os"
	"strconv"

	"github.com/alecthomas/kong"
	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/internal/cli"
	"github.com/dblock-dev/dblock/internal/crew"
	"github.com/dblock-dev/dblock/run"
	"github.com/dblock-dev/dblock/signals"
)

// Command is the grammar of `dblock hold`.
type Command struct {
	run.Asking
	OnLost      run.OnLost      `default:"term" placeholder:"ACTION" help:"What to do with the shell, and what it has started, when the lock is lost: term, kill or warn (${default})."`
	KillAfter   cli.Duration    `default:"10s" placeholder:"D" help:"How long after SIGTERM to send SIGKILL (${default})."`
	TimeLimit   cli.Duration    `placeholder:"D" help:"How long the lock may be held: 90s, 5m. Then the shell is ended with all that it has started. 0 or nothing: as long as it takes."`
	OnTimeLimit run.OnTimeLimit `default:"term" placeholder:"ACTION" help:"What to do with the shell, and what it has started, when that time is up: term, kill or warn (${default})."`
	For         PID             `placeholder:"PID" help:"The process that the lock is held for, where it is not the shell that evaluates what this prints."`
	cli.Voice
}

// PID is a process's number.
type PID int

// UnmarshalText parses it.
func (p *PID) UnmarshalText(text []byte) error {
	n, err := strconv.Atoi(string(text))
	if err != nil || n <= 0 {
		return cli.Usage(fmt.Sprintf("%q is not the number of a process", text), "give a shell's own as --for $$")
	}
	*p = PID(n)
	return nil
}

// example is how a lock is held.
const example = "`eval \"$(dblock hold -d PATH)\"`"

// releases is the signal by which a keeper is told to release the lock. Others are for the
// shell: who ends a keeper means what works under its lock.
const releases = unix.SIGUSR1

// Heeded is the set of signals that stay ignored, of those that were at the start: a keeper
// hears what its shell, who may have left out that signal for itself, tells it.
func Heeded(args []string, ignored signals.Set) signals.Set {
	if len(args) > 0 && args[0] == "hold" {
		return ignored &^ (1 << (releases - 1))
	}
	return ignored
}

// Run gets the lock and prints what the shell is to evaluate.
func (c *Command) Run(k *kong.Context, sigs *signals.Listener) error {
	given := cli.Given(k)
	if err := c.Check(given); err != nil {
		return cli.Usage(err.Error(), example+", or set DBLOCK_DB")
	}
	opts, err := c.Request(&c.Voice, given)
	if err != nil {
		return err
	}
	opts.Grace = c.OnLost.Grace(c.KillAfter)
	if c.ConflictExitCode == 0 {
		return cli.Usage("0 cannot be the exit code when the lock was not acquired: the script would go on without it", "`eval ... || exit 0` ends the script")
	}
	if s, keeps := kept(int(c.For)); keeps {
		k := &keeper{c: c, shell: s, sigs: sigs}
		return k.run(opts)
	}
	s, err := c.find()
	if err != nil {
		return err
	}
	defer s.Close()
	f := &front{shell: s, reads: c.For == 0, sigs: sigs}
	return f.run()
}

// find finds the process that the lock is to be held for.
func (c *Command) find() (*crew.Process, error) {
	if !evaluable() {
		return nil, cli.Usage("what this prints is for a shell to evaluate", example)
	}
	pid := int(c.For)
	if pid == 0 {
		var err error
		if pid, err = reader(); err != nil {
			return nil, err
		}
	}
	switch err := unix.Kill(pid, 0); err {
	case unix.ESRCH:
		return nil, cli.Usage(fmt.Sprintf("--for: there is no process %d", pid), "")
	case unix.EPERM:
		return nil, cli.Usage(fmt.Sprintf("--for: process %d belongs to another user", pid), "")
	}
	s, err := crew.Open(pid)
	if err != nil {
		return nil, err
	}
	// What had that number when it was found may have ended before it was opened.
	if c.For == 0 && !above(pid) {
		s.Close()
		return nil, cli.Usage(fmt.Sprintf("the shell, process %d, has ended", pid), "")
	}
	return s, nil
}

// Fail prints what makes the evaluation of what hold and release print fail: without that
// `eval "$(dblock hold ...)"` would succeed, and the script go on without the lock.
func Fail(args []string, code int) {
	if code == 0 || len(args) == 0 {
		return
	}
	if args[0] == "hold" && evaluable() || args[0] == "release" && evaluated() {
		_, _ = os.Stdout.WriteString("(exit " + strconv.Itoa(code) + ")\n")
	}
}

// evaluable reports whether a shell may evaluate what this process prints: it goes to a pipe
// or a file.
func evaluable() bool {
	var st unix.Stat_t
	if unix.Fstat(unix.Stdout, &st) != nil {
		return false
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFIFO, unix.S_IFREG, unix.S_IFSOCK:
		return true
	}
	return false
}

// evaluated reports whether a shell, or another process that has started this one, reads what
// it prints from a pipe.
func evaluated() bool {
	var st unix.Stat_t
	if unix.Fstat(unix.Stdout, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO {
		return false
	}
	_, err := reader()
	return err == nil
}
