package run

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/dblock-dev/dblock/internal/cli"
	"github.com/dblock-dev/dblock/internal/term"
)

// misplaced tells somebody who has written a subcommand behind its flags, where a command
// begins. A program of that name is run behind "--".
func (c *Command) misplaced(k *kong.Context) error {
	if len(c.Argv) == 0 || c.Argv[0] != "status" && c.Argv[0] != "force" || c.certain(k) {
		return nil
	}
	name := c.Argv[0]
	selector := c.selectorAsGiven(k)
	return cli.Usage(name+" comes before its flags",
		fmt.Sprintf("`dblock %s%s%s`, or, to run a program of that name, `dblock%s -- %s%[3]s`", name, selector, list(c.Argv[1:]), selector, name))
}

// mistaken is the error of a command line that names no database or no program, and whose
// first word may have been meant for dblock.
func (c *Command) mistaken(k *kong.Context, err error) error {
	var usage *cli.UsageError
	var start *StartError
	if len(c.Argv) == 0 || c.Command != "" || strings.Contains(c.Argv[0], "/") || c.certain(k) || !errors.As(err, &usage) && !(errors.As(err, &start) && start.Code == cli.ExitNotFound) {
		return err
	}
	if _, lookErr := look(c.Argv[0]); lookErr == nil {
		return err
	}
	typed, rest := c.Argv[0], c.Argv[1:]
	var meant string
	switch word := cli.Near(typed, []string{"status", "force", "run", "help", "version"}); word {
	case "help", "version":
		meant = " --" + word
		if len(rest) > 0 && slices.Contains([]string{"run", "status", "force"}, rest[0]) {
			meant = " " + rest[0] + meant
		}
	case "status", "force":
		meant = " " + word + c.selectorAsGiven(k) + list(rest)
	case "run":
		// What looks like it is a program's name more often, unless flags follow.
		if len(rest) == 0 || rest[0] == "" || rest[0][0] != '-' {
			return err
		}
		meant = " run" + list(rest)
	default:
		return err
	}
	return cli.Usage(term.Clean(typed)+" is neither a subcommand nor a program", fmt.Sprintf("did you mean `dblock%s`?", meant))
}

// certain reports whether the first word cannot be meant for dblock.
func (c *Command) certain(k *kong.Context) bool {
	return c.explicit || k != nil && len(k.Args) > 0 && k.Args[0] == "run"
}

// selectorAsGiven names the database if it was named on the command line.
func (c *Command) selectorAsGiven(k *kong.Context) string {
	if given := cli.Given(k); given("db") || given("lock-file") {
		return " " + c.Selector()
	}
	return ""
}

// list is arguments as a shell reads them.
func list(args []string) (s string) {
	for _, arg := range args {
		s += " " + cli.Quote(arg)
	}
	return s
}
