package inode

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/internal/portable"
)

func TestPlaces(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	f, err := os.Create(a)
	require.NoError(t, err)
	defer f.Close()
	moved, err := Link(Path(a), Path(b))
	require.NoError(t, err)
	require.False(t, moved)
	_, err = Link(Path(a), Path(b))
	require.ErrorIs(t, err, fs.ErrExist)
	_, err = Link(Path(filepath.Join(dir, "missing")), Path(filepath.Join(dir, "c")))
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NoError(t, Remove(b))
	require.NoError(t, Remove(b), "gone already")
	require.Error(t, Remove(dir))
	portable.Needs(t, portable.Exchange)
	require.Equal(t, unix.ENOENT, Swap(Path(a), Path(b)))
	g, err := os.Create(b)
	require.NoError(t, err)
	defer g.Close()
	if err := Swap(Path(a), Path(b)); errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINVAL) {
		t.Skip("files cannot be exchanged here")
	}
	id, err := Identify(a)
	require.NoError(t, err)
	var st unix.Stat_t
	require.NoError(t, unix.Fstat(int(g.Fd()), &st))
	require.Equal(t, IDOf(&st), id)
	_, err = Identify(filepath.Join(dir, "missing"))
	require.ErrorIs(t, err, fs.ErrNotExist)
}
