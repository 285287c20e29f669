package run

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/dblock-dev/dblock/internal/cli"
	"github.com/dblock-dev/dblock/internal/term"
)

// meant are the words that may be meant for dblock.
func meant() []string {
	return slices.Concat([]string{"help", "version"}, cli.Subcommands, cli.Companions)
}

// misplaced tells somebody who has written a subcommand behind its flags, where a command
// begins. A program of that name is run behind "--".
func (c *Command) misplaced(k *kong.Context) error {
	if len(c.Argv) == 0 || c.Argv[0] != "status" && c.Argv[0] != "force" && c.Argv[0] != "stats" || c.certain(k) {
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
	if len(c.Argv) == 0 || c.Command != "" || c.explicit {
		return err
	}
	_, lookErr := look(c.Argv[0])
	if c.DB == "" && c.LockFile == "" {
		if why := c.unnamed(lookErr == nil); why != nil {
			return why
		}
	}
	if lookErr == nil || strings.Contains(c.Argv[0], "/") || c.certain(k) || !errors.As(err, &usage) && !(errors.As(err, &start) && start.Code == cli.ExitNotFound) {
		return err
	}
	typed, rest := c.Argv[0], c.Argv[1:]
	var right string
	switch word := cli.Near(typed, meant()); word {
	case "help", "version":
		right = " --" + word
		if len(rest) > 0 && slices.Contains(cli.Subcommands, rest[0]) {
			right = " " + rest[0] + right
		} else if len(rest) > 0 && typed == "help" {
			return cli.Usage(fmt.Sprintf("there is no help on %s", term.Clean(rest[0])), "`dblock --help` is on running a command; on the rest `dblock help status`, `force`, `hold`, `release` or `session`")
		}
	case "status", "force", "log", "hold", "release", "stats", "top":
		right = " " + word + c.selectorAsGiven(k) + list(rest)
	case "completion":
		right = " " + word + list(rest)
	case "run":
		// What looks like it is a program's name more often, unless flags follow.
		if len(rest) == 0 || rest[0] == "" || rest[0][0] != '-' {
			return err
		}
		right = " run" + list(rest)
	default:
		return err
	}
	return cli.Usage(term.Clean(typed)+" is neither a subcommand nor a program", fmt.Sprintf("did you mean `dblock%s`?", right))
}

// unnamed tells somebody who has named the database where the command's arguments are, or,
// as for flock(1), by the first word alone; nil if neither is to be seen.
func (c *Command) unnamed(program bool) error {
	typed, rest := c.Argv[0], c.Argv[1:]
	if !program && cli.Near(typed, meant()) != "" {
		return nil
	}
	own := rest
	if at := slices.Index(rest, "--"); at >= 0 {
		own = rest[:at]
	}
	for i, arg := range own {
		flag, path, whole := strings.Cut(arg, "=")
		if flag != "-d" && flag != "--db" && flag != "--lock-file" || flag == "-d" && whole {
			continue
		}
		end := i + 1
		if !whole && end < len(own) {
			path, end = own[end], end+1
		}
		if path == "" {
			return nil
		}
		d := cli.Database{DB: path}
		if flag == "--lock-file" {
			d = cli.Database{LockFile: path}
		}
		others := list(slices.Concat(rest[:i], rest[end:]))
		hint := fmt.Sprintf("`dblock %s -- %s%s`", d.Selector(), cli.Quote(typed), others)
		switch {
		case program:
		case typed == "unlock":
			hint = fmt.Sprintf("`dblock force %s`", d.Selector())
		case len(own) < len(rest): // a word for dblock, and the command behind "--"
			hint = fmt.Sprintf("`dblock %s%s`", d.Selector(), others)
		}
		return cli.Usage(fmt.Sprintf(`%s must come before the command: what follows "%s" belongs to it`, flag, term.Clean(typed)), hint)
	}
	if program {
		return nil
	}
	if _, err := os.Stat(typed); err != nil && filepath.Ext(typed) == "" {
		return nil
	}
	command := " COMMAND"
	if len(own) == 0 && len(rest) > 0 {
		rest = rest[1:]
	}
	if len(rest) > 0 {
		command = list(rest)
	}
	return cli.Usage("no database is named", fmt.Sprintf("if %s is the database: `dblock %s --%s`", term.Clean(typed), cli.Database{DB: typed}.Selector(), command))
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
