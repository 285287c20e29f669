//go:build linux

package queue

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// making is the name under which the state directory is made.
func making(t *testing.T, state string) string {
	t.Helper()
	probe := filepath.Join(t.TempDir(), filepath.Base(state))
	require.NoError(t, os.WriteFile(probe, nil, 0o600)) // it cannot be moved there
	w, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	require.NoError(t, err)
	defer unix.Close(w)
	_, err = unix.InotifyAddWatch(w, filepath.Dir(probe), unix.IN_CREATE)
	require.NoError(t, err)
	_, err = MakeDir(probe)
	require.NoError(t, err)
	buf := make([]byte, 4096)
	n, err := unix.Read(w, buf)
	require.NoError(t, err)
	return filepath.Join(filepath.Dir(state), strings.TrimRight(string(buf[unix.SizeofInotifyEvent:n]), "\x00"))
}

func TestMakeDirLeavesNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	state := filepath.Join(dir, "state")
	made, err := MakeDir(state)
	require.NoError(t, err)
	require.True(t, made)
	require.NoError(t, os.WriteFile(filepath.Join(state, "room"), nil, 0o600))
	made, err = MakeDir(state)
	require.NoError(t, err)
	require.False(t, made)
	require.FileExists(t, filepath.Join(state, "room"))
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 1)
}

func TestMakeDirGoesOnWithWhatAKilledOneLeft(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o777))
	state := filepath.Join(dir, "state")
	require.NoError(t, os.Mkdir(making(t, state), 0o700))
	made, err := MakeDir(state)
	require.NoError(t, err)
	require.True(t, made)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 1)
	st, err := os.Stat(state)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o777), st.Mode().Perm())
}

// Somebody moves a directory of ours to the name under which the state directory is
// made: it must not be given to him.
func TestMakeDirGivesAwayNothingOld(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("for root only")
	}
	dir := t.TempDir()
	require.NoError(t, os.Chown(dir, 12345, 12345))
	state := filepath.Join(dir, "state")
	ours := making(t, state)
	require.NoError(t, os.Mkdir(ours, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(ours, "key"), nil, 0o600))
	made, err := MakeDir(state)
	require.NoError(t, err)
	require.True(t, made)
	var st unix.Stat_t
	require.NoError(t, unix.Stat(ours, &st))
	require.Zero(t, st.Uid)
	require.NoError(t, unix.Stat(state, &st))
	require.Equal(t, uint32(12345), st.Uid)
	require.NoFileExists(t, filepath.Join(state, "key"))
}

func TestMakeDirByMany(t *testing.T) {
	t.Parallel()
	for range 20 {
		dir := t.TempDir()
		state := filepath.Join(dir, "state")
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 10 {
					if _, err := MakeDir(state); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Len(t, entries, 1, "nothing but the directory")
	}
}

// A state file that a killed one was making does not stay.
func TestOpenCleansUp(t *testing.T) {
	t.Parallel()
	path := file(t)
	left := path + Passing()
	require.NoError(t, os.WriteFile(left, nil, 0o600))
	open(t, path).Close()
	require.NoFileExists(t, left)
}
