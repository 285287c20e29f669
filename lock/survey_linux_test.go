package lock

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dblock-dev/dblock/internal/portable"
)

func TestSurveyLeavesTheKernelsOwn(t *testing.T) {
	t.Parallel()
	w := newWalk("/", false)
	require.Equal(t, portable.Half, w.follows("/proc"))
	require.True(t, w.follows("/usr"))
	// Where the system does not tell what is mounted, the device does.
	for _, one := range []bool{false, true} {
		w := newWalk("/", one)
		w.mounts = nil
		require.True(t, w.follows("/proc"))
		entries, err := w.read("/")
		require.NoError(t, err)
		require.NotEmpty(t, entries)
		entries, err = w.read("/proc")
		require.NoError(t, err)
		require.Equal(t, one, len(entries) == 0)
	}
}
