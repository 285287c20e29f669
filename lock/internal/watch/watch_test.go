//go:build linux

package watch

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

const patience = 20 * time.Second

func watched(t *testing.T, what What) (w *Watcher, path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "notice")
	require.NoError(t, os.WriteFile(path, []byte("x"), 0o644))
	w, err := New()
	require.NoError(t, err)
	t.Cleanup(w.Close)
	require.NoError(t, w.Add(path, what))
	return w, path
}

func must(t *testing.T, w *Watcher) What {
	t.Helper()
	what, err := w.Wait(time.Now().Add(patience))
	require.NoError(t, err)
	require.NotZero(t, what, "nothing was told")
	return what
}

func TestMoved(t *testing.T) {
	t.Parallel()
	for name, do := range map[string]func(path string) error{
		"removed":  os.Remove,
		"renamed":  func(p string) error { return os.Rename(p, p+".old") },
		"linked":   func(p string) error { return os.Link(p, p+".other") },
		"replaced": func(p string) error { return os.Rename(filepath.Join(filepath.Dir(p), "new"), p) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, path := watched(t, Moved)
			require.NoError(t, os.WriteFile(filepath.Join(filepath.Dir(path), "new"), nil, 0o644))
			require.NoError(t, do(path))
			must(t, w)
		})
	}
}

func TestWritten(t *testing.T) {
	t.Parallel()
	w, path := watched(t, Moved|Written)
	require.NoError(t, os.WriteFile(path, []byte("y"), 0o644))
	require.NotZero(t, must(t, w)&Written)
}

func TestWatchesNothingElse(t *testing.T) {
	t.Parallel()
	w, path := watched(t, Moved)
	// A busy database beside it, our own beats, and readers.
	require.NoError(t, os.WriteFile(path+".db", []byte("y"), 0o644))
	require.NoError(t, os.WriteFile(path, []byte("y"), 0o644))
	_, err := os.ReadFile(path)
	require.NoError(t, err)
	what, err := w.Wait(time.Now().Add(10 * time.Millisecond))
	require.NoError(t, err)
	require.Zero(t, what)
}

func TestCloseEndsTheWait(t *testing.T) {
	t.Parallel()
	w, _ := watched(t, Moved)
	got := make(chan error, 1)
	go func() {
		_, err := w.Wait(time.Time{})
		got <- err
	}()
	w.Close()
	select {
	case err := <-got:
		require.Error(t, err)
	case <-time.After(patience):
		require.FailNow(t, "it waits")
	}
	require.Error(t, w.Add(os.DevNull, Moved))
}

func TestAddMissing(t *testing.T) {
	t.Parallel()
	w, err := New()
	require.NoError(t, err)
	defer w.Close()
	require.ErrorIs(t, w.Add(filepath.Join(t.TempDir(), "missing"), Moved), os.ErrNotExist)
}

// instances counts the inotify instances of this process.
func instances(t *testing.T) (n int) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	for _, fd := range fds {
		if name, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && name == "anon_inode:inotify" {
			n++
		}
	}
	return n
}

// Many watchers share one instance, and each hears of its own files and for what it has asked,
// also where several watch one file, and after one of these has been closed.
func TestWatchersShareAnInstance(t *testing.T) {
	t.Parallel()
	var all []*Watcher
	var paths []string
	for range 200 {
		w, path := watched(t, Moved)
		all, paths = append(all, w), append(paths, path)
	}
	require.LessOrEqual(t, instances(t), 2, "others may just be closing theirs")
	both, err := New()
	require.NoError(t, err)
	require.NoError(t, both.Add(paths[0], Written))
	require.NoError(t, os.WriteFile(paths[0], []byte("y"), 0o644))
	require.NotZero(t, must(t, both)&Written)
	both.Close()
	for i, w := range all {
		what, err := w.Wait(time.Now().Add(-time.Second))
		require.NoError(t, err)
		require.Zero(t, what, "%d", i)
	}
	for i, path := range paths {
		require.NoError(t, os.Remove(path))
		require.NotZero(t, must(t, all[i]))
	}
}

// When the kernel has lost events, everybody must look.
func TestLostEventsConcernEverybody(t *testing.T) { // not beside the other tests, which would hear of it
	one, _ := watched(t, Moved)
	other, _ := watched(t, Moved)
	one.instance.tell(-1, unix.IN_Q_OVERFLOW)
	require.NotZero(t, must(t, one))
	require.NotZero(t, must(t, other))
}

func TestInterruptEndsAWaitOnce(t *testing.T) {
	t.Parallel()
	w, _ := watched(t, Moved)
	w.Interrupt()
	what, err := w.Wait(time.Now().Add(patience))
	require.NoError(t, err)
	require.Zero(t, what)
	w.Close()
	w.Close()
}
