package cli

import (
	"fmt"

	"github.com/dblock-dev/dblock/internal/say"
)

// Voice is how much is said about the lock.
type Voice struct {
	Quiet   Quiet `short:"q" help:"Say nothing about waiting; given twice, nothing about giving up and losing the lock either."`
	Verbose bool  `short:"v" help:"Also say when the lock was acquired, and after how long."`
}

// Tell says something about the lock.
func (v Voice) Tell(format string, args ...any) {
	if v.Quiet < Silent {
		fmt.Fprintf(say.Stderr, "dblock: "+format+"\n", args...)
	}
}
