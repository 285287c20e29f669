// Package program is dblock, the program: the grammar of its arguments, and how it ends. Of those
// that are made of it each links other engines.
package program

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/dblock-dev/dblock/completion"
	"github.com/dblock-dev/dblock/doctor"
	"github.com/dblock-dev/dblock/hold"
	"github.com/dblock-dev/dblock/internal/cli"
	"github.com/dblock-dev/dblock/internal/entry"
	"github.com/dblock-dev/dblock/internal/say"
	"github.com/dblock-dev/dblock/internal/term"
	"github.com/dblock-dev/dblock/lock"
	"github.com/dblock-dev/dblock/run"
	"github.com/dblock-dev/dblock/session"
	"github.com/dblock-dev/dblock/signals"
	"github.com/dblock-dev/dblock/status"
)

type grammar struct {
	Run        run.Command        `cmd:"" default:"withargs" help:"Run a command while holding the lock (the default)."`
	Status     status.Command     `cmd:"" help:"Show who holds the lock, since when, and who waits."`
	Force      status.Force       `cmd:"" help:"Remove a lock that is stuck."`
	Log        status.Log         `cmd:"" help:"Show what has happened to the lock."`
	Hold       hold.Command       `cmd:"" help:"Hold the lock in a shell script: eval \"$(dblock hold -d PATH)\"."`
	Release    hold.Release       `cmd:"" help:"Release what this shell holds."`
	Session    session.Command    `cmd:"" help:"Serve a program in any language, by lines of JSON."`
	Ls         status.List        `cmd:"" help:"List all locks below a directory."`
	Doctor     doctor.Command     `cmd:"" help:"Find out whether locking works here."`
	Completion completion.Command `cmd:"" help:"Print what makes a shell complete the arguments of dblock."`
	Version    kong.VersionFlag   `help:"Print the version."`
}

// Main is the program. version is what its sources say that they are, where their repository does
// not tell.
func Main(sources string) {
	version = sources
	if err := companion(os.Args[1:]); err != nil {
		code := report(err)
		say.Stderr.Flush(patience)
		os.Exit(code)
	}
	var sigs *signals.Listener
	if len(os.Args) < 2 || !slices.Contains(deaf, os.Args[1]) {
		sigs = signals.Listen(hold.Heeded(os.Args[1:], signals.Set(entry.Ignored())))
	}
	err := dispatch(os.Args[1:], sigs)
	var death *cli.SignalError
	if errors.As(err, &death) {
		say.Stderr.Flush(patience)
		hold.Fail(os.Args[1:], 128+int(death.Signal))
		signals.Die(death.Signal)
		os.Exit(128 + int(death.Signal))
	}
	code := report(err)
	say.Stderr.Flush(patience)
	hold.Fail(os.Args[1:], code)
	os.Exit(code)
}

// patience is how long the last words wait for their reader.
const patience = 2 * time.Second

// report tells the user about an error and returns the exit code for it.
func report(err error) int {
	var (
		exit     *cli.ExitError
		usage    *cli.UsageError
		conflict *cli.ConflictError
		start    *run.StartError
		engine   *lock.EngineError
		lost     *lock.LostError
		path     *fs.PathError
	)
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.Code
	case errors.As(err, &usage):
		return tell(cli.ExitUsage, usage.Problem, usage.Hint)
	case errors.Is(err, lock.ErrName):
		return tell(cli.ExitUsage, err.Error(), "name the lock file with --lock-file")
	case errors.As(err, &conflict):
		return conflict.Tell(tell)
	case errors.As(err, &engine):
		return tell(cli.ExitOf(engine), engine.Error(), engine.Hint)
	case errors.As(err, &lost):
		return cli.ExitLost // told when it happened
	case errors.As(err, &start):
		return tell(start.Code, err.Error(), "")
	case errors.Is(err, fs.ErrPermission):
		return tell(cli.ExitDenied, err.Error(), cli.WhyDenied(err))
	case errors.Is(err, syscall.EROFS):
		return tell(cli.ExitCannotCreate, err.Error(), "the filesystem is read-only; the lock file must be beside the database, or elsewhere with --lock-file")
	case errors.Is(err, lock.ErrNotRegular), errors.Is(err, lock.ErrNotLockFile):
		return tell(cli.ExitCannotCreate, err.Error(), "move it away, or name another lock file with --lock-file")
	case errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.ENOTDIR):
		problem, hint := cli.WhyMissing(err)
		return tell(cli.ExitCannotCreate, problem, hint)
	case errors.As(err, &path):
		return tell(cli.ExitCannotCreate, err.Error(), "")
	}
	return tell(cli.ExitFault, err.Error(), "this is a fault in dblock; please report it")
}

func tell(code int, problem, hint string) int {
	problem, hint = cli.Redact(problem), cli.Redact(hint)
	fmt.Fprintf(say.Stderr, "dblock: %s\n", term.Path(problem))
	if hint != "" {
		fmt.Fprintf(say.Stderr, "hint: %s\n", term.Path(hint))
	}
	return code
}
