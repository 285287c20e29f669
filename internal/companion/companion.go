// Package companion is what the programs share that dblock comes with: `dblock stats` is
// dblock-stats. They parse their arguments, say what is wrong and end as dblock does.
package companion

import (
	"bytes"
	"errors"
	"os"

	"github.com/alecthomas/kong"

	"github.com/dblock-dev/dblock/internal/cli"
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
	var death *cli.SignalError
	if errors.As(err, &death) {
		signals.Die(death.Signal)
		return 128 + int(death.Signal)
	}
	return cli.Report(os.Stderr, err)
}
