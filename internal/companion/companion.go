// Package companion is what the programs share that dblock comes with: `dblock stats` is
// dblock-stats. They parse their arguments, say what is wrong and end as dblock does.
package companion

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/dblock-dev/dblock/internal/cli"
	"github.com/dblock-dev/dblock/internal/term"
	"github.com/dblock-dev/dblock/lock"
	"github.com/dblock-dev/dblock/signals"
)

// Parse parses the arguments of `dblock NAME` by a grammar with one command of that name. More
// is printed below the help on its flags.
func Parse(grammar any, name string, args []string, more string) (*kong.Context, error) {
	own := []string{name}
	for _, arg := range args {
		if len(arg) > 2 && arg[0] == '-' && arg[1] != '-' && arg[2] == '=' {
			return nil, cli.EqualsBehind(arg[1:2], cli.Escape(arg[3:]))
		}
		own = append(own, cli.Escape(arg))
	}
	return cli.Parse(grammar, own, kong.Help(func(options kong.HelpOptions, ctx *kong.Context) error {
		var all bytes.Buffer
		out := ctx.Stdout
		ctx.Stdout = &all
		options.Compact = true
		err := kong.DefaultHelpPrinter(options, ctx)
		ctx.Stdout = out
		if err != nil {
			return err
		}
		_, err = out.Write(append(all.Bytes(), more...))
		return err
	}))
}

// Code says what is wrong and returns the exit code for that. If a signal is to end the process,
// that does.
func Code(err error) int {
	var (
		exit     *cli.ExitError
		usage    *cli.UsageError
		conflict *cli.ConflictError
		death    *cli.SignalError
		path     *fs.PathError
		link     *os.LinkError
		engine   *lock.EngineError
	)
	switch {
	case err == nil:
		return 0
	case errors.As(err, &death):
		signals.Die(death.Signal)
		return 128 + int(death.Signal)
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
	case errors.Is(err, fs.ErrPermission):
		return tell(cli.ExitDenied, err.Error(), cli.WhyDenied(err))
	case errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.ENOTDIR):
		problem, hint := cli.WhyMissing(err)
		return tell(cli.ExitCannotCreate, problem, hint)
	case errors.As(err, &path), errors.As(err, &link):
		return tell(cli.ExitCannotCreate, err.Error(), "")
	}
	return tell(cli.ExitFault, err.Error(), "this is a fault in dblock; please report it")
}

func tell(code int, problem, hint string) int {
	fmt.Fprintf(os.Stderr, "dblock: %s\n", term.Path(problem))
	if hint != "" {
		fmt.Fprintf(os.Stderr, "hint: %s\n", term.Path(hint))
	}
	return code
}
