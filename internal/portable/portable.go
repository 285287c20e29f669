// Package portable is for tests. It tells them which half of the program they run: that for
// Linux, or that for all other systems, which the build tag of this name selects on Linux as well.
package portable

import (
	"os"
	"strings"
	"testing"
)

// What the other half does not have, which docs/reliability.md says under "On other systems than
// Linux". A test that needs it is left out there for that reason and no other.
const (
	Processes = "the system does not tell of other processes than that they live"
	Queue     = "the system does not tell who has a lock and who waits for it"
	Signs     = "there are no signs in the queue"
	Traces    = "who looks at a lock file leaves a trace, as a peer does"
	Exchange  = "a lock file is replaced in steps"
	Events    = "a lock file is looked at from time to time"
	Tree      = "what an ended command has started is not known"
	Orphans   = "a command does not hear that its dblock was killed"
	Witness   = "the lock of a keeper or a session that is killed is free"
	Signals   = "os/signal does not tell who has sent a signal, what was ignored, nor in which order signals came"
	Keeper    = "a keeper cannot tell what becomes of its hold, nor see who reads what it prints"
	Streams   = "a standard stream that was closed is /dev/null for the command"
	Threads   = "no single thread can be spoken to"
	Word      = "root ends nobody whom only a lock file names"
	Linux     = "it is about a system call or a file that only the half for Linux uses"
)

// Needs leaves a test out where the limit is one.
func Needs(t testing.TB, limit string) {
	t.Helper()
	if Half {
		t.Skip("not on this system: " + limit)
	}
}

// NeedsWord leaves a test out where this user does not end whom a lock file names.
func NeedsWord(t testing.TB) {
	t.Helper()
	if os.Geteuid() == 0 {
		Needs(t, Word)
	}
}

// Build makes what tests build be of the same half as they are.
func Build() {
	if tagged {
		os.Setenv("GOFLAGS", strings.TrimSpace(os.Getenv("GOFLAGS")+" -tags=portable"))
	}
}
