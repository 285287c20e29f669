// Package run is the life of one command under the lock: acquire, start, pass
// signals on, wait, release.
package run

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/dblock-dev/dblock/lock"
)

// Database is which lock is meant; all commands share it.
type Database struct {
	DB       string `name:"db" short:"d" placeholder:"PATH" help:"The database: a file or a directory, which need not exist."`
	LockFile string `placeholder:"PATH" help:"The lock file itself, where its name does not follow from the database's."`
}

// Check finds out which lock is named. fromFlag tells which flags were given on
// the command line: they win over variables, --db also over DBLOCK_LOCK_FILE, which
// would name another database's lock. Where nothing names one, inside a hold the
// enclosing lock is meant.
func (d *Database) Check(fromFlag func(string) bool) error {
	if fromFlag("db") && !fromFlag("lock-file") {
		d.LockFile = ""
	}
	if d.DB == "" && d.LockFile == "" {
		d.DB, d.LockFile = os.Getenv(lock.EnvDB), os.Getenv(lock.EnvLockFile)
	}
	if d.DB == "" && d.LockFile == "" {
		return &UsageError{"no database is named", "dblock -d PATH -- COMMAND, or set DBLOCK_DB"}
	}
	return nil
}

// Foreign is how foreign locks are judged; run, status and force share it.
type Foreign struct {
	StaleTimeout StaleTimeout `default:"30s" placeholder:"D" help:"The age from which a foreign lock may count as abandoned (${default})."`
	Stale        string       `enum:"dead,age" default:"dead" placeholder:"RULE" help:"When it counts as abandoned: 'dead', when its process has gone; 'age', whenever it is older than that (${default})."`
}

// Options are the lock's options for these flags.
func (d Database) Options(f Foreign) lock.Options {
	o := lock.Options{LockFile: d.LockFile, StaleTimeout: time.Duration(f.StaleTimeout)}
	if f.Stale == "age" {
		o.Stale = lock.StaleAge
	}
	return o
}

// Command is the grammar of `dblock run`.
type Command struct {
	Database

	Wait             Duration      `short:"w" placeholder:"D" help:"How long to wait for the lock: seconds (2.5), 90s, 5m, 0 (do not), forever. By default retries times delay, 5s."`
	Nonblock         bool          `short:"n" help:"Do not wait."`
	MaxRetries       int           `default:"50" placeholder:"N" help:"How many retries the wait is long (${default})."`
	RetryDelay       Duration      `default:"100ms" placeholder:"D" help:"How long a retry is (${default})."`
	ConflictExitCode int           `short:"E" default:"75" placeholder:"N" help:"The exit code when the lock was not had (${default})."`
	Shared           bool          `short:"s" help:"Share the lock with other readers."`
	Exclusive        bool          `short:"x" help:"Have the lock alone (the default)."`
	Priority         lock.Priority `default:"normal" placeholder:"CLASS" help:"Who goes first among those who wait: low, normal or high (${default})."`
	Process          string        `short:"p" default:"dblock" placeholder:"LABEL" help:"Who the lock file says we are (${default})."`
	Foreign
	OnLost    string   `enum:"term,kill,warn" default:"term" placeholder:"ACTION" help:"What to do with the command when the lock is taken away: term, kill or warn (${default})."`
	KillAfter Duration `default:"10s" placeholder:"D" help:"How long after SIGTERM to send SIGKILL (${default})."`
	Orphan    string   `enum:"term,keep" default:"term" placeholder:"ACTION" help:"What becomes of the command if dblock is killed: term or keep (${default})."`
	Close     bool     `short:"o" help:"Do not let the command inherit the lock's descriptor."`
	Command   string   `short:"c" placeholder:"STRING" help:"Run STRING with $$SHELL -c."`
	Quiet     bool     `short:"q" help:"Say nothing about waiting."`
	Verbose   bool     `short:"v" help:"Also say when and after how long the lock was had."`

	Argv []string `arg:"" optional:"" passthrough:"partial" name:"command" help:"The command and its arguments."`
}

// Behind adds what stood behind the first "--". If a command had begun before it,
// it is an argument like any other.
func (c *Command) Behind(rest []string) {
	if len(c.Argv) == 0 && len(rest) > 0 {
		rest = rest[1:]
	}
	c.Argv = append(c.Argv, rest...)
}

// Environment finds the value of a flag that was not given: DBLOCK_ and its name.
// An empty variable is one that is not set.
var Environment kong.ResolverFunc = func(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	if flag.Name == "help" || flag.Name == "version" {
		return nil, nil
	}
	if v := os.Getenv("DBLOCK_" + strings.ToUpper(strings.ReplaceAll(flag.Name, "-", "_"))); v != "" {
		return escape(v), nil
	}
	return nil, nil
}

// UsageError is a fault of the caller's: exit code 64.
type UsageError struct{ Problem, Hint string }

func (e *UsageError) Error() string { return e.Problem }

// options checks the flags against each other and makes the lock's options of
// them. A flag wins over an environment variable, also over that of its opposite.
func (c *Command) options(k *kong.Context) (lock.Options, error) {
	given := GivenOn(k)
	var o lock.Options
	if err := c.Check(given); err != nil {
		return o, err
	}
	for _, pair := range [][2]string{{"nonblock", "wait"}, {"shared", "exclusive"}, {"quiet", "verbose"}} {
		if given(pair[0]) && given(pair[1]) {
			return o, &UsageError{fmt.Sprintf("--%s and --%s exclude each other", pair[0], pair[1]), "give one of them"}
		}
	}
	if c.ConflictExitCode < 0 || c.ConflictExitCode > 255 {
		return o, &UsageError{fmt.Sprintf("--conflict-exit-code %d is not an exit code", c.ConflictExitCode), "give one from 0 to 255"}
	}
	if c.MaxRetries < 0 {
		return o, &UsageError{fmt.Sprintf("--max-retries %d is negative", c.MaxRetries), ""}
	}
	if c.RetryDelay <= 0 || time.Duration(c.RetryDelay) == lock.Forever {
		return o, &UsageError{"--retry-delay must be longer than nothing, and end", "give a time like 100ms"}
	}
	switch {
	case c.Command != "" && len(c.Argv) > 0:
		return o, &UsageError{"both --command and a command are given", "give one of them"}
	case c.Command != "":
		shell := os.Getenv("SHELL")
		if shell == "" {
			shell = "/bin/sh"
		}
		c.Argv = []string{shell, "-c", c.Command}
	case len(c.Argv) == 0:
		return o, &UsageError{"no command is given", "dblock -d PATH -- COMMAND"}
	}

	if c.Quiet && c.Verbose {
		c.Quiet = !given("verbose")
		c.Verbose = !c.Quiet
	}

	o = c.Options(c.Foreign)
	o.Process = c.Process
	o.Priority = c.Priority
	o.RetryDelay = time.Duration(c.RetryDelay)
	if c.Shared && !given("exclusive") {
		o.Mode = lock.Shared
	}
	if base := filepath.Base(c.Argv[0]); base != "." {
		o.Command = base
	}
	o.Wait = c.patience(given)
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
		d = retries(c.MaxRetries, time.Duration(c.RetryDelay))
	case c.Nonblock:
		return lock.NoWait
	case set:
		d = time.Duration(c.Wait)
	default:
		d = retries(c.MaxRetries, time.Duration(c.RetryDelay))
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

// GivenOn tells which flags were given on the command line, by name; those set
// by the environment do not count.
func GivenOn(k *kong.Context) func(string) bool {
	return func(name string) bool {
		if k == nil {
			return name == "db" // a plain run
		}
		for _, p := range k.Path {
			if p.Flag != nil && !p.Resolved && p.Flag.Name == name {
				return true
			}
		}
		return false
	}
}

// Duration is a length of time on the command line: a number of seconds, a Go
// duration, or "forever".
type Duration time.Duration

// UnmarshalText parses it; negative ones and those that are no number are errors.
func (d *Duration) UnmarshalText(text []byte) error {
	s := strings.TrimSpace(string(text))
	if s == "forever" {
		*d = Duration(lock.Forever)
		return nil
	}
	if secs, err := strconv.ParseFloat(s, 64); err == nil && !strings.ContainsAny(s, "xXpP_") {
		switch {
		case math.IsNaN(secs) || math.IsInf(secs, 0) || secs < 0:
			return badDuration(s)
		case secs >= float64(lock.Forever/time.Second):
			*d = Duration(lock.Forever)
		default:
			*d = Duration(secs * float64(time.Second))
		}
		return nil
	}
	v, err := time.ParseDuration(s)
	if err != nil || v < 0 {
		return badDuration(s)
	}
	*d = Duration(v)
	return nil
}

// StaleTimeout is a Duration of at least a second: a holder shows that it lives six
// times within it, and a machine that is busy must be able to follow.
type StaleTimeout time.Duration

// UnmarshalText parses it.
func (s *StaleTimeout) UnmarshalText(text []byte) error {
	var d Duration
	if err := d.UnmarshalText(text); err != nil {
		return err
	}
	if time.Duration(d) < time.Second || time.Duration(d) == lock.Forever {
		return fmt.Errorf("%q is no time after which a lock can count as abandoned: give 1s or more, like 30s", text)
	}
	*s = StaleTimeout(d)
	return nil
}

func badDuration(s string) error {
	return fmt.Errorf("%q is not a length of time: give seconds like 2.5, or 90s, 5m, forever", s)
}
