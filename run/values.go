package run

import (
	"fmt"
	"strconv"
	"time"

	"github.com/dblock-dev/dblock/internal/cli"
	"github.com/dblock-dev/dblock/lock"
)

// The values of flags, each with its own way to say what it accepts.

// Count is how often something is done: 0 or more.
type Count int

// UnmarshalText parses it.
func (c *Count) UnmarshalText(text []byte) error {
	n, err := strconv.Atoi(string(text))
	if err != nil || n < 0 {
		return cli.Usage(fmt.Sprintf("%q is not a number of times", text), "give a whole number, 0 or larger")
	}
	*c = Count(n)
	return nil
}

// ExitCode is what a process can end with: 0 to 255.
type ExitCode int

// UnmarshalText parses it.
func (c *ExitCode) UnmarshalText(text []byte) error {
	n, err := strconv.Atoi(string(text))
	if err != nil || n < 0 || n > 255 {
		return cli.Usage(fmt.Sprintf("%q is not an exit code", text), "give a whole number from 0 to 255")
	}
	*c = ExitCode(n)
	return nil
}

// Delay is a Duration that is longer than nothing, and ends.
type Delay time.Duration

// UnmarshalText parses it.
func (d *Delay) UnmarshalText(text []byte) error {
	var given cli.Duration
	if err := given.UnmarshalText(text); err != nil || given <= 0 || time.Duration(given) == lock.Forever {
		return cli.Usage(fmt.Sprintf("%q is not how long a retry can be", text), "give a time like 100ms")
	}
	*d = Delay(given)
	return nil
}

// OnLost is what happens to the command when the lock is taken away: "term", "kill" or "warn".
type OnLost string

// UnmarshalText parses it.
func (o *OnLost) UnmarshalText(text []byte) error {
	return cli.Choose(o, text)
}

// Grace is how long a command may go on, by that, when it has been told of the loss; less than 0:
// not at all.
func (o OnLost) Grace(killAfter cli.Duration) time.Duration {
	if o == "kill" || killAfter <= 0 {
		return -1
	}
	return time.Duration(killAfter)
}

// Values are those that it accepts.
func (OnLost) Values() []string { return []string{"term", "kill", "warn"} }

// Orphan is what becomes of the command if dblock is killed: "term" or "keep".
type Orphan string

// UnmarshalText parses it.
func (o *Orphan) UnmarshalText(text []byte) error { return cli.Choose(o, text) }

// Values are those that it accepts.
func (Orphan) Values() []string { return []string{"term", "keep"} }

// OnTimeLimit is what happens to a command that takes longer than it may: "term", "kill" or "warn".
type OnTimeLimit string

// UnmarshalText parses it.
func (o *OnTimeLimit) UnmarshalText(text []byte) error {
	return cli.Choose(o, text)
}

// Values are those that it accepts.
func (OnTimeLimit) Values() []string { return []string{"term", "kill", "warn"} }
