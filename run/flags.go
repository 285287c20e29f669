// Package run is the life of one command under the lock: acquire, start, pass
// signals on, wait, release.
package run

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/alecthomas/kong"

	"github.com/dblock-dev/dblock/internal/cli"
	"github.com/dblock-dev/dblock/lock"
)

// Command is the grammar of `dblock run`.
type Command struct {
	Asking
	OnLost      OnLost       `default:"term" placeholder:"ACTION" help:"What to do with the command when the lock is lost: term, kill or warn (${default})."`
	KillAfter   cli.Duration `default:"10s" placeholder:"D" help:"How long after SIGTERM to send SIGKILL (${default})."`
	TimeLimit   cli.Duration `placeholder:"D" help:"How long the command may run: 90s, 5m. Then it is ended with all that it has started, and the exit code is 124. 0 or nothing: as long as it takes."`
	OnTimeLimit OnTimeLimit  `default:"term" placeholder:"ACTION" help:"What to do with the command when its time is up: term, kill or warn (${default})."`
	Orphan      Orphan       `default:"term" placeholder:"ACTION" help:"What becomes of the command if dblock is killed: term or keep (${default})."`
	Slow        cli.Duration `placeholder:"D" help:"Say afterwards whom the command has waited for, if that was longer. 0 or nothing: do not."`
	Close       bool         `short:"o" help:"Do not let the command inherit the lock's descriptor."`
	Command     string       `short:"c" placeholder:"STRING" help:"Run STRING with $$SHELL -c."`
	cli.Voice

	Argv []string `arg:"" optional:"" passthrough:"partial" name:"command" help:"The command and its arguments."`

	explicit bool         // the command stood behind "--"
	outcome  lock.Outcome // how it has ended
	mourned  bool         // it was said that the lock was lost
}

// Behind adds what stood behind the first "--". If a command had begun before it,
// it is an argument like any other.
func (c *Command) Behind(rest []string) {
	if len(c.Argv) == 0 && len(rest) > 0 {
		rest, c.explicit = rest[1:], true
	}
	c.Argv = append(c.Argv, rest...)
}

// options checks the flags against each other and makes the lock's options of
// them. A flag wins over an environment variable, also over that of its opposite.
func (c *Command) options(k *kong.Context) (lock.Options, error) {
	given := cli.Given(k)
	if err := c.Check(given); err != nil {
		if c.DB == "" && c.LockFile == "" {
			return lock.Options{}, cli.Usage(err.Error(), "dblock -d PATH -- COMMAND, or set DBLOCK_DB; `dblock --help` shows more")
		}
		return lock.Options{}, err
	}
	o, err := c.Request(&c.Voice, given)
	if err != nil {
		return o, err
	}
	o.Outcome = func() lock.Outcome { return c.outcome }
	o.Grace = c.OnLost.Grace(c.KillAfter)
	switch {
	case c.Command != "" && len(c.Argv) > 0:
		return o, cli.Usage("both --command and a command are given", "give one of them")
	case c.Command != "":
		shell := os.Getenv("SHELL")
		if shell == "" {
			shell = "/bin/sh"
		}
		c.Argv = []string{shell, "-c", c.Command}
	case given("command"):
		return o, cli.Usage("--command is empty", "give what the shell is to run, as in -c 'node export.js | gzip > export.gz'")
	case len(c.Argv) == 0:
		own := " " + c.Selector()
		if k != nil {
			own = ""
			for _, arg := range k.Args {
				own += " " + cli.Quote(cli.Unescape(arg))
			}
		}
		return o, cli.Usage("no command is given", fmt.Sprintf("`dblock%s -- COMMAND`", own))
	}
	if base := filepath.Base(c.Argv[0]); base != "." {
		o.Command = base
	}
	return o, nil
}
