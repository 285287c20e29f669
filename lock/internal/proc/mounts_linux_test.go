//go:build linux && !portable

package proc

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMounts(t *testing.T) {
	t.Parallel()
	mounts := Mounts()
	require.Contains(t, mounts, "/")
	require.False(t, mounts["/"].Kernel)
	require.True(t, mounts["/proc"].Kernel)
	require.NotEqual(t, mounts["/"].Device, mounts["/proc"].Device)
	require.Equal(t, "/a b\\c\n", unescape([]byte(`/a\040b\134c\012`)))
	require.Equal(t, `/a\04`, unescape([]byte(`/a\04`)))
}
