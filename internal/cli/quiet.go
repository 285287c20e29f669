package cli

import (
	"fmt"

	"github.com/alecthomas/kong"
)

// Quiet is how much is not said: 0, or one of the constants.
type Quiet int

// How quiet one can be.
const (
	NoWaiting Quiet = 1 // nothing is said about waiting, and about giving up only one line
	Silent    Quiet = 2 // nothing at all is said about the lock
)

// Decode counts how often the flag is given. A variable has the number, or says yes or no.
func (q *Quiet) Decode(ctx *kong.DecodeContext) error {
	if ctx.Scan.Peek().Type != kong.FlagValueToken {
		*q++
		return nil
	}
	switch value := ctx.Scan.Pop().String(); value {
	case "true", "yes", "1":
		*q = NoWaiting
	case "2":
		*q = Silent
	case "false", "no", "0":
		*q = 0
	default:
		return Usage(fmt.Sprintf("%q is not how quiet one can be", value), "give true, or 2 to be silent about giving up as well")
	}
	return nil
}

// IsBool says that the flag needs no value.
func (q *Quiet) IsBool() bool { return true }
