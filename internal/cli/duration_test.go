package cli

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dblock-dev/dblock/lock"
)

func TestDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0": 0, "2.5": 2500 * time.Millisecond, "90s": 90 * time.Second, "5m": 5 * time.Minute, "100ms": 100 * time.Millisecond,
		"forever": lock.Forever, "1e300": lock.Forever, " 3 ": 3 * time.Second, "1h30m": 90 * time.Minute,
	} {
		var d Duration
		require.NoError(t, d.UnmarshalText([]byte(text)), text)
		require.Equal(t, want, time.Duration(d), text)
	}
	for _, text := range []string{"", "-1", "-5s", "abc", "NaN", "Inf", "-Inf", "0x10", "5 m", "1_000", "s"} {
		var d Duration
		require.Error(t, d.UnmarshalText([]byte(text)), text)
	}
}
