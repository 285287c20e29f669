// Package program is dblock, the program: the grammar of its arguments, and how it ends. Of those
// that are made of it each links other engines.
package program

import (
	"errors"
	"os"
	"slices"
	"time"

	"github.com/alecthomas/kong"

	"github.com/dblock-dev/dblock/completion"
	"github.com/dblock-dev/dblock/doctor"
	"github.com/dblock-dev/dblock/hold"
	"github.com/dblock-dev/dblock/internal/cli"
	"github.com/dblock-dev/dblock/internal/entry"
	"github.com/dblock-dev/dblock/internal/say"
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
	if entry.Narrowed() {
		_ = os.Unsetenv("GOMAXPROCS")
	}
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
	var start *run.StartError
	if errors.As(err, &start) {
		return cli.Tell(say.Stderr, start.Code, err.Error(), "")
	}
	return cli.Report(say.Stderr, err)
}
