package cli

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/dblock-dev/dblock/lock"
)

// Duration is a length of time on the command line: a number of seconds, a Go
// duration, or "forever".
type Duration time.Duration

// UnmarshalText parses it; negative ones and those that are no number are errors.
func (d *Duration) UnmarshalText(text []byte) error {
	s := strings.TrimSpace(string(text))
	if s == "forever" {
		*d = Duration(lock.Forever)
		return nil
	}
	if secs, err := strconv.ParseFloat(s, 64); err == nil && !strings.ContainsAny(s, "xXpP_") {
		switch {
		case math.IsNaN(secs) || math.IsInf(secs, 0) || secs < 0:
			return badDuration(s)
		case secs >= float64(lock.Forever/time.Second):
			*d = Duration(lock.Forever)
		default:
			*d = Duration(secs * float64(time.Second))
		}
		return nil
	}
	v, err := time.ParseDuration(s)
	if err != nil || v < 0 {
		return badDuration(s)
	}
	*d = Duration(v)
	return nil
}

// StaleTimeout is a Duration of at least a second: a holder shows that it lives six
// times within it, and a machine that is busy must be able to follow.
type StaleTimeout time.Duration

// UnmarshalText parses it.
func (s *StaleTimeout) UnmarshalText(text []byte) error {
	var d Duration
	if err := d.UnmarshalText(text); err != nil {
		return err
	}
	if time.Duration(d) < time.Second || time.Duration(d) == lock.Forever {
		return Usage(fmt.Sprintf("%q is no time after which a lock can count as abandoned", text), "give 1s or more, like 30s")
	}
	*s = StaleTimeout(d)
	return nil
}

func badDuration(s string) error {
	return Usage(fmt.Sprintf("%q is not a length of time", s), "give seconds like 2.5, or 90s, 5m, forever")
}
