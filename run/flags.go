// Package run is the life of one command under the lock: acquire, start, pass
// signals on, wait, release.
package run

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/alecthomas/kong"

	"github.com/dblock-dev/dblock/internal/cli"
	"github.com/dblock-dev/dblock/lock"
)

// Command is the grammar of `dblock run`.
type Command struct {
	cli.Database

	Wait             cli.Duration `short:"w" placeholder:"D" help:"How long to wait for the lock: seconds (2.5), 90s, 5m, 0 (do not wait), forever. By default retries times delay, 5s."`
	Nonblock         bool         `short:"n" help:"Do not wait."`
	MaxRetries       Count        `default:"50" placeholder:"N" help:"The longest wait, as a number of retries (${default})."`
	RetryDelay       Delay        `default:"100ms" placeholder:"D" help:"The time between two retries (${default})."`
	ConflictExitCode ExitCode     `short:"E" default:"75" placeholder:"N" help:"The exit code when the lock was not acquired (${default})."`
	Shared           bool         `short:"s" help:"Share the lock with other readers."`
	Exclusive        bool         `short:"x" help:"Hold the lock alone (the default)."`
	Priority         cli.Priority `default:"normal" placeholder:"CLASS" help:"Who goes first of those who wait: low, normal or high (${default})."`
	Process          string       `short:"p" default:"dblock" placeholder:"LABEL" help:"The label that others see (${default})."`
	Info             string       `placeholder:"TEXT" help:"What others are to know, in the lock file: a reason, a ticket, an address."`
	cli.Foreign
	OnLost      OnLost       `default:"term" placeholder:"ACTION" help:"What to do with the command when the lock is lost: term, kill or warn (${default})."`
	KillAfter   cli.Duration `default:"10s" placeholder:"D" help:"How long after SIGTERM to send SIGKILL (${default})."`
	TimeLimit   cli.Duration `placeholder:"D" help:"How long the command may run: 90s, 5m. Then it is ended with all that it has started, and the exit code is 124. 0 or nothing: as long as it takes."`
	OnTimeLimit OnTimeLimit  `default:"term" placeholder:"ACTION" help:"What to do with the command when its time is up: term, kill or warn (${default})."`
	Orphan      Orphan       `default:"term" placeholder:"ACTION" help:"What becomes of the command if dblock is killed: term or keep (${default})."`
	Close       bool         `short:"o" help:"Do not let the command inherit the lock's descriptor."`
	Command     string       `short:"c" placeholder:"STRING" help:"Run STRING with $$SHELL -c."`
	Quiet       cli.Quiet    `short:"q" help:"Say nothing about waiting; given twice, nothing about giving up and losing the lock either."`
	Verbose     bool         `short:"v" help:"Also say when the lock was acquired, and after how long."`

	Argv []string `arg:"" optional:"" passthrough:"partial" name:"command" help:"The command and its arguments."`

	explicit bool   // the command stood behind "--"
	longer   string // how one waits longer than this, for who gives up
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
	var o lock.Options
	if err := c.Check(given); err != nil {
		if c.DB == "" && c.LockFile == "" {
			return o, cli.Usage(err.Error(), "dblock -d PATH -- COMMAND, or set DBLOCK_DB; `dblock --help` shows more")
		}
		return o, err
	}
	for _, pair := range [][2]string{{"nonblock", "wait"}, {"shared", "exclusive"}, {"quiet", "verbose"}} {
		if given(pair[0]) && given(pair[1]) {
			return o, cli.Usage(fmt.Sprintf("--%s and --%s exclude each other", pair[0], pair[1]), "give one of them")
		}
	}
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

	if c.Quiet > 0 && c.Verbose {
		if given("verbose") {
			c.Quiet = 0
		} else {
			c.Verbose = false
		}
	}

	o = c.Options(c.Foreign)
	o.Process, o.Info = c.Process, c.Info
	o.Priority = lock.Priority(c.Priority)
	o.RetryDelay = time.Duration(c.RetryDelay)
	if c.Shared && !given("exclusive") {
		o.Mode = lock.Shared
	}
	if base := filepath.Base(c.Argv[0]); base != "." {
		o.Command = base
	}
	o.Wait = c.patience(given)
	switch {
	case o.Wait != lock.NoWait:
		c.longer = "wait longer with --wait"
	case given("nonblock"):
		c.longer = "wait for it with -w 60 in place of -n"
	default:
		c.longer = "wait for it with -w 60"
	}
	return o, nil
}

func (c *Command) patience(given func(string) bool) time.Duration {
	set := os.Getenv("DBLOCK_WAIT") != ""
	var d time.Duration
	switch {
	case given("wait"):
		d = time.Duration(c.Wait)
	case given("nonblock") && c.Nonblock:
		return lock.NoWait
	case given("max-retries") || given("retry-delay"):
		d = retries(int(c.MaxRetries), time.Duration(c.RetryDelay))
	case c.Nonblock:
		return lock.NoWait
	case set:
		d = time.Duration(c.Wait)
	default:
		d = retries(int(c.MaxRetries), time.Duration(c.RetryDelay))
	}
	if d == 0 {
		return lock.NoWait
	}
	return d
}

func retries(n int, delay time.Duration) time.Duration {
	if n > 0 && delay > lock.Forever/time.Duration(n) {
		return lock.Forever
	}
	return time.Duration(n) * delay
}
