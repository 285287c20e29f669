package cli

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestMoment(t *testing.T) {
	t.Parallel()
	now := time.Now()
	midnight := time.Date(now.Year(), now.Month(), now.Day(), 0, 0, 0, 0, time.Local)
	for text, want := range map[string]time.Time{
		"2h":                        now.Add(-2 * time.Hour),
		"90":                        now.Add(-90 * time.Second),
		"3d":                        now.AddDate(0, 0, -3),
		"2026-03-01":                time.Date(2026, 3, 1, 0, 0, 0, 0, time.Local),
		"2026-03-01 04:30":          time.Date(2026, 3, 1, 4, 30, 0, 0, time.Local),
		"2026-03-01T04:30:05+02:00": time.Date(2026, 3, 1, 2, 30, 5, 0, time.UTC),
		"00:00":                     midnight,
		"23:59:59":                  midnight.Add(-time.Second),
	} {
		var m Moment
		require.NoError(t, m.UnmarshalText([]byte(text)))
		require.WithinDuration(t, want, m.Time, time.Minute, text)
	}
	for _, bad := range []string{"", "x", "-2h", "forever", "3 d", "25:00", "2026-13-01", "-1d"} {
		var m Moment
		require.Error(t, m.UnmarshalText([]byte(bad)), bad)
	}
}
