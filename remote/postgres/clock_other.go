//go:build !linux

package postgres

import "time"

// now is the time on the clock that the system has for this.
func now() time.Duration { return time.Since(started) }
