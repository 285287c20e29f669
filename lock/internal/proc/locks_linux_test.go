package proc

import (
	"testing"

	"github.com/stretchr/testify/require"
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
