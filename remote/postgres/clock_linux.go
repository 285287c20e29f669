package postgres

import (
	"time"

	"golang.org/x/sys/unix"
)

// now is the time on a clock that goes on while the machine sleeps.
func now() time.Duration {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) != nil {
		return time.Since(started)
	}
	return time.Duration(t.Nano())
}
