package cli

import (
	"fmt"
	"strings"
	"time"
)

// Moment is a time on the command line: how long ago, or a date, or a time of day. Zero is none.
type Moment struct{ time.Time }

// UnmarshalText parses it: 2h, 90m, 3d; 2026-03-01, "2026-03-01 04:30", both with seconds or a
// zone as in RFC 3339; 04:30, the last one that has been. Times without a zone are local.
func (m *Moment) UnmarshalText(text []byte) error {
	s := strings.TrimSpace(string(text))
	now := time.Now()
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02", "2006-01-02 15:04", "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02T15:04:05"} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			m.Time = t
			return nil
		}
	}
	for _, layout := range []string{"15:04", "15:04:05"} {
		if t, err := time.Parse(layout, s); err == nil {
			m.Time = time.Date(now.Year(), now.Month(), now.Day(), t.Hour(), t.Minute(), t.Second(), 0, time.Local)
			if m.After(now) {
				m.Time = m.AddDate(0, 0, -1)
			}
			return nil
		}
	}
	var days int
	if n, err := fmt.Sscanf(s, "%dd", &days); n == 1 && err == nil && s == fmt.Sprintf("%dd", days) && days >= 0 {
		m.Time = now.AddDate(0, 0, -days)
		return nil
	}
	var d Duration
	if err := d.UnmarshalText(text); err != nil || s == "forever" {
		return Usage(fmt.Sprintf("%q is no time", s), "give how long ago, like 90m, 2h or 3d, or a time, like 04:30 or 2026-03-01 04:30")
	}
	m.Time = now.Add(-time.Duration(d))
	return nil
}
