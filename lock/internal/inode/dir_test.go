package inode

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestOpenDir(t *testing.T) {
	above := t.TempDir()
	path := filepath.Join(above, "state")
	_, err := OpenDir(path)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NoError(t, os.Mkdir(path, 0o755))
	d, err := OpenDir(path)
	require.NoError(t, err)
	require.True(t, d.Private())
	require.Equal(t, path, d.Path())
	fd, err := d.At("notice").Open(unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o644)
	require.NoError(t, err)
	var st unix.Stat_t
	require.NoError(t, unix.Fstat(fd, &st))
	require.NoError(t, unix.Close(fd))
	require.FileExists(t, filepath.Join(path, "notice"))

	// Whatever takes its place, the names are those of what was opened.
	require.NoError(t, os.Rename(path, path+".old"))
	require.NoError(t, os.Mkdir(path, 0o755))
	id, err := d.At("notice").Identify()
	require.NoError(t, err)
	require.Equal(t, IDOf(&st), id)
	names, err := d.Names()
	require.NoError(t, err)
	require.Equal(t, []string{"notice"}, slices.Sorted(slices.Values(names)))
	require.NoError(t, d.At("notice").Remove())
	require.NoFileExists(t, filepath.Join(path+".old", "notice"))

	// A name in a directory that is not open any more, or never was, is nothing: not
	// one in the working directory.
	t.Chdir(above)
	require.NoError(t, os.WriteFile("notice", nil, 0o644))
	d.Close()
	d.Close()
	var none *Dir
	none.Close()
	for _, closed := range []Name{d.At("notice"), none.At("notice")} {
		_, err = closed.Identify()
		require.Error(t, err)
		require.Error(t, closed.Remove())
	}
	require.FileExists(t, "notice")
}

func TestPrivate(t *testing.T) {
	t.Parallel()
	for mode, private := range map[fs.FileMode]bool{0o700: true, 0o755: true, 0o775: false, 0o757: false} {
		path := filepath.Join(t.TempDir(), "state")
		require.NoError(t, os.Mkdir(path, 0o700))
		require.NoError(t, os.Chmod(path, mode))
		d, err := OpenDir(path)
		require.NoError(t, err)
		require.Equal(t, private, d.Private(), mode)
		d.Close()
	}
}

func TestOpenDirRefusesLinks(t *testing.T) {
	t.Parallel()
	above := t.TempDir()
	path := filepath.Join(above, "state")
	require.NoError(t, os.Mkdir(filepath.Join(above, "else"), 0o755))
	require.NoError(t, os.Symlink("else", path))
	_, err := OpenDir(path)
	require.ErrorIs(t, err, ErrLinked)
	require.NoError(t, os.Remove(path))
	require.NoError(t, os.WriteFile(path, nil, 0o644))
	_, err = OpenDir(path)
	require.Error(t, err)
	require.NotErrorIs(t, err, ErrLinked)
}

func TestOpenDirOfAnotherUser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("for root only")
	}
	for _, c := range []struct {
		above  fs.FileMode
		owners [2]int // of the directory above, of the state directory
		opens  bool
	}{
		{0o777 | fs.ModeSticky, [2]int{0, 12345}, false},
		{0o777 | fs.ModeSticky, [2]int{12345, 12345}, true},
		{0o777 | fs.ModeSticky, [2]int{65534, 12345}, false},
		{0o777 | fs.ModeSticky, [2]int{12345, 0}, true},
		{0o755, [2]int{12345, 12345}, true},
		{0o775, [2]int{0, 12345}, true},
	} {
		above := t.TempDir()
		path := filepath.Join(above, "state")
		require.NoError(t, os.Mkdir(path, 0o755))
		require.NoError(t, os.Chown(path, c.owners[1], -1))
		require.NoError(t, os.Chown(above, c.owners[0], -1))
		require.NoError(t, os.Chmod(above, c.above))
		d, err := OpenDir(path)
		if c.opens {
			require.NoError(t, err, "%v", c)
			require.Equal(t, c.owners[1] == 0, d.Private())
			d.Close()
			continue
		}
		require.ErrorIs(t, err, fs.ErrPermission, "%v", c)
		require.ErrorContains(t, err, "user 12345")
	}
}
