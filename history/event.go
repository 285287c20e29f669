// Package history is the record of what happened to a lock: one JSON object a line, in the
// file history.jsonl of its state directory, and before that in history.1.jsonl.
//
// Lines are appended by whoever the event happened to, and by one who finds out what happened
// to somebody who was killed. The same hold can be told of twice: it is known by its token,
// and [File.Holds] knows which of the two counts. Readers skip what they do not understand:
// lines that are torn, kinds and members that a later version has added. docs/history.md
// describes the format.
package history

import "time"

// Version is that of the format, in each line. It changes when a reader of the old one would
// misunderstand the new one.
const Version = 1

// The names of the files in the state directory.
const (
	Name  = "history.jsonl"
	Older = "history.1.jsonl"
)

// MaxLine is the size that no line exceeds, in bytes, with its newline.
const MaxLine = 4096

// Kind is what happened.
type Kind string

// The kinds of events.
const (
	Hold     Kind = "hold"      // a hold is over: it was released, or lost
	GaveUp   Kind = "gave-up"   // somebody wanted the lock and did not get it
	Killed   Kind = "killed"    // a dblock was killed in the middle of its hold; told by the next one
	TookOver Kind = "took-over" // another program's lock file was stale, and has been replaced
	Healed   Kind = "healed"    // somebody had removed the lock file of a hold; it was put back
	Lost     Kind = "lost"      // a hold was lost while its command ran; its Hold line follows
	Forced   Kind = "forced"    // an operator has ended a hold or removed a lock file
)

// Ended says how a hold, or a wait, came to its end.
type Ended string

// The ends of holds (Hold), and of waits (GaveUp).
const (
	Exited   Ended = "exited"     // its command ended by itself: see Code
	Signaled Ended = "signaled"   // its command died of a signal: see Signal
	Released Ended = "released"   // by a program, or a shell, that had it for itself
	Late     Ended = "time-limit" // its command was ended since its time was up
	LostIt   Ended = "lost"       // somebody else took it

	TimedOut    Ended = "timed-out"   // waited as long as it would
	Busy        Ended = "busy"        // would not wait
	Interrupted Ended = "interrupted" // was ended while it waited
	Deadlocked  Ended = "deadlock"    // waited for somebody who waited for it
)

// Party is somebody else who had a part in an event. What is not known is zero.
type Party struct {
	PID     int
	UID     int // -1 if it is not known
	Process string
	Command string // base name
	Token   int64  // of its hold
}

// Blocker is somebody who had the lock while another waited.
type Blocker struct {
	Party
	For time.Duration // how much of that wait
}

// Event is one line. Times are the wall clock's, in milliseconds since the epoch; what is not
// known, or has no meaning for the kind, is zero.
type Event struct {
	Version int
	Kind    Kind
	At      int64 // when it happened

	// Whose event it is. For Killed and TookOver that is the one who was replaced.
	Token    int64 // fencing number of the hold; 0 if it never had the lock
	Process  string
	Info     string
	PID      int
	Host     string
	UID      int
	Command  string // base name, never arguments
	Shared   bool
	Priority string // low or high; empty for normal

	Requested, Acquired, Released int64
	// Waited and Held are measured on the monotonic clock, to the microsecond. Who got the lock
	// at once has not waited.
	Waited, Held time.Duration

	Ended  Ended
	Code   int    // exit code
	Signal int    // number
	Heals  int    // how often the lock file was put back
	By     *Party // who has taken it, forced it, or told of it

	// Blockers had the lock while this one waited, those who had it longest first; at most
	// MaxBlockers. Ahead is the number of all of them.
	Blockers []Blocker
	Ahead    int
}

// MaxBlockers is how many are named.
const MaxBlockers = 8
