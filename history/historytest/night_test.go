package historytest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dblock-dev/dblock/history"
)

// What is made up could have happened: holds exclude each other, lines can be written and read,
// and those who waited did so for somebody.
func TestItCouldHaveHappened(t *testing.T) {
	t.Parallel()
	for _, events := range [][]history.Event{Night(), Busy(2000)} {
		var free, shared int64
		kinds := map[history.Kind]int{}
		for _, e := range events {
			kinds[e.Kind]++
			got, err := history.Parse(history.Append(nil, &e))
			require.NoError(t, err)
			require.Equal(t, e, got)
			if e.Kind == history.GaveUp || e.Kind == history.Hold {
				require.Equal(t, e.Waited.Milliseconds() > 0, e.Ahead > 0, "%+v", e)
			}
			if e.Kind != history.Hold && e.Kind != history.Killed && e.Kind != history.TookOver {
				continue
			}
			if e.Shared {
				require.GreaterOrEqual(t, e.Acquired, shared)
			} else {
				require.GreaterOrEqual(t, e.Acquired, free)
				shared = e.Released
			}
			free = max(free, e.Released)
		}
		require.Greater(t, kinds[history.Hold], 800)
	}
	kinds := map[history.Kind]bool{}
	for _, e := range Night() {
		kinds[e.Kind] = true
	}
	for _, kind := range []history.Kind{history.Hold, history.GaveUp, history.Killed, history.TookOver, history.Lost, history.Forced, history.Healed} {
		require.True(t, kinds[kind], kind)
	}
}
