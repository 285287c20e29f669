//go:build linux && !portable

package proc

import (
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// What one reading of the table has left out is in the other one; what is twice in both is
// there twice, and not four times.
func TestTwoReadingsOfTheTable(t *testing.T) {
	t.Parallel()
	one := parseLocks([]byte("1: FLOCK  ADVISORY  WRITE 11 fe:01:131 0 EOF\n2: FLOCK  ADVISORY  READ 12 fe:01:132 0 EOF\n3: FLOCK  ADVISORY  READ 12 fe:01:132 0 EOF\n"))
	two := parseLocks([]byte("1: FLOCK  ADVISORY  READ 12 fe:01:132 0 EOF\n2: FLOCK  ADVISORY  READ 12 fe:01:132 0 EOF\n3: FLOCK  ADVISORY  READ 13 fe:01:132 0 EOF\n3: -> FLOCK  ADVISORY  WRITE 14 fe:01:132 0 EOF\n"))
	both := one.with(two)
	require.Len(t, both, 5)
	require.Equal(t, Claim{PID: 11}, both[0].claim)
	require.Equal(t, Claim{PID: 13, Shared: true}, both[3].claim)
	require.Equal(t, Claim{PID: 14, Waiting: true}, both[4].claim)
}

// A table that does not fit into a page may leave out a line that is there all the time.
func TestALongTableIsReadAgain(t *testing.T) {
	t.Parallel()
	const line = "1: FLOCK  ADVISORY  WRITE 11 fe:01:131 0 EOF\n"
	for _, c := range []struct {
		whole bool
		found int
	}{{false, 1}, {true, 0}} {
		reads := 0
		all, known := readLocks(func() ([]byte, bool, error) {
			if reads++; reads < readings {
				return nil, c.whole, nil
			}
			return []byte(line), c.whole, nil
		})
		require.True(t, known)
		require.Len(t, all, c.found)
	}
}

func TestSameDevice(t *testing.T) {
	t.Parallel()
	dev := unix.Mkdev(0xfe, 0x12)
	require.True(t, sameDevice("fe", "12", dev))
	require.False(t, sameDevice("fe", "13", dev))
	require.False(t, sameDevice("fd", "12", dev))
	require.False(t, sameDevice("", "", dev))
	require.False(t, sameDevice("x", "12", dev))
	require.True(t, sameDevice("00", "2a", unix.Mkdev(0, 0x30)), "btrfs shows another minor number")
}
