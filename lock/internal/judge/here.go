package judge

import (
	"time"

	"github.com/dblock-dev/dblock/lock/internal/proc"
)

// Here are the processes of this host, as they are at the moment when they are asked
// about.
type Here struct{}

// Look is proc.Look.
func (Here) Look(pid int) proc.Life { return proc.Look(pid) }

// Stat is proc.Stat.
func (Here) Stat(pid int) (proc.Status, bool) { return proc.Stat(pid) }

// Age is proc.Age.
func (Here) Age(started uint64) (time.Duration, bool) { return proc.Age(started) }

// Seen is proc.Seen.
func (Here) Seen() bool { return proc.Seen() }
