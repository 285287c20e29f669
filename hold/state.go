package hold

import (
	"strconv"
	"strings"
)

// The words of a keeper about its hold, for who releases it.
const (
	isHeld      = "held"
	wasLost     = "lost"
	wasLate     = "late" // held for longer than it may, and the shell told to end for that
	wasReleased = "released"
)

// note is what a keeper leaves in its state.
type note struct {
	path string // the lock file
	word string
	text string // for people; empty if there is nothing to say
}

func (n note) String() string {
	return strconv.Quote(n.path) + "\n" + n.word + "\n" + n.text + "\n"
}

// read is the opposite of String; of what no keeper wrote it makes an empty note.
func read(s string) (n note) {
	lines := strings.SplitN(s, "\n", 3)
	if len(lines) < 3 {
		return n
	}
	path, err := strconv.Unquote(lines[0])
	if err != nil {
		return n
	}
	return note{path, lines[1], strings.TrimSuffix(lines[2], "\n")}
}
