package program

import (
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/dblock-dev/dblock/doctor"
	"github.com/dblock-dev/dblock/internal/cli"
	"github.com/dblock-dev/dblock/run"
	"github.com/dblock-dev/dblock/signals"
)

// deaf are the subcommands that a signal does to what it does to any program.
var deaf = []string{"status", "force", "release", "ls", "doctor", "log", "completion"}

// helps may stand before a subcommand's name to ask for its help.
var helps = []string{"help", "--help", "-h"}

// dispatch parses the arguments. What stands behind the first "--" is the
// command's, whatever it looks like; kong would take it for flags or commands.
func dispatch(args []string, sigs *signals.Listener) error {
	if len(args) == 2 && args[0] == "doctor" && args[1] == doctor.Assistant {
		return doctor.Assist()
	}
	own, rest := args, []string(nil)
	if at := slices.Index(args, "--"); at >= 0 {
		own, rest = args[:at], args[at:]
	}
	switch {
	case len(args) == 1 && args[0] == "help":
		own = []string{"--help"}
	case len(args) == 2 && slices.Contains(helps, args[0]) && slices.Contains(cli.Subcommands, args[1]):
		own = []string{args[1], "--help"}
	}
	own, err := run.Own(own)
	if err != nil {
		return err
	}
	if command, ctx := run.Quick(own); command != nil {
		command.Behind(rest)
		return command.Run(ctx, sigs)
	}
	var g grammar
	ctx, err := cli.Parse(&g, own, kong.Bind(sigs), kong.Vars{"version": "dblock " + details()}, kong.Help(help))
	if err != nil {
		return err
	}
	if rest != nil && !strings.HasPrefix(ctx.Command(), "run") {
		return cli.Usage(strings.Fields(ctx.Command())[0]+" takes no command", "`dblock -d PATH -- COMMAND` runs one")
	}
	g.Run.Unescape()
	g.Status.Unescape()
	g.Force.Unescape()
	g.Log.Unescape()
	g.Ls.Unescape()
	g.Session.Unescape()
	g.Session.Called(number())
	g.Doctor.Unescape()
	g.Doctor.Called(details())
	g.Hold.Unescape()
	g.Release.Unescape()
	g.Run.Behind(rest)
	return ctx.Run()
}
