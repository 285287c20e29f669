package cli

import (
	"fmt"

	"github.com/dblock-dev/dblock/lock"
)

// Priority is a lock.Priority.
type Priority lock.Priority

// UnmarshalText parses it.
func (p *Priority) UnmarshalText(text []byte) error {
	var class lock.Priority
	if err := class.UnmarshalText(text); err != nil {
		return Usage(fmt.Sprintf("%q is not a priority", text), "give low, normal or high")
	}
	*p = Priority(class)
	return nil
}

// Values are those that it accepts.
func (Priority) Values() []string { return []string{"low", "normal", "high"} }
