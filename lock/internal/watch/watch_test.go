//go:build linux && !portable

package watch

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
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

// instances is how many inotify instances this process has.
func instances(t *testing.T) (n int) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	for _, fd := range fds {
		if to, _ := os.Readlink("/proc/self/fd/" + fd.Name()); to == "anon_inode:inotify" {
			n++
		}
	}
	return n
}

// A program may hold hundreds of locks, and a user have 128 instances.
func TestOneInstanceForAll(t *testing.T) {
	t.Parallel()
	var ws []*Watcher
	var paths []string
	for range 300 {
		w, path := watched(t, Moved)
		ws, paths = append(ws, w), append(paths, path)
	}
	require.Equal(t, 1, instances(t))
	for i, w := range ws {
		require.NoError(t, os.Remove(paths[i]))
		must(t, w)
	}
}

// Each of two who watch one file is told what he has asked for, for as long as he watches.
func TestTwoWatchOneFile(t *testing.T) {
	t.Parallel()
	one, path := watched(t, Moved)
	other, err := New()
	require.NoError(t, err)
	defer other.Close()
	require.NoError(t, other.Add(path, Written))
	require.NoError(t, os.WriteFile(path, []byte("y"), 0o644))
	require.NotZero(t, must(t, other)&Written)
	what, err := one.Wait(time.Now().Add(time.Millisecond))
	require.NoError(t, err)
	require.Zero(t, what)
	other.Close()
	require.NoError(t, os.Link(path, path+".other"))
	require.NotZero(t, must(t, one)&Moved)
	// The file goes, and with it the watch; another one gets its name.
	require.NoError(t, os.Remove(path))
	require.NoError(t, os.Remove(path+".other"))
	must(t, one)
	require.NoError(t, os.WriteFile(path, []byte("z"), 0o644))
	require.NoError(t, one.Add(path, Moved))
	for what := What(1); what != 0; {
		what, err = one.Wait(time.Now().Add(time.Millisecond)) // the end of the old one
		require.NoError(t, err)
	}
	require.NoError(t, os.Remove(path))
	must(t, one)
}

func TestAppears(t *testing.T) {
	t.Parallel()
	for name, do := range map[string]func(path string) error{
		"created": func(p string) error { return os.WriteFile(p, nil, 0o644) },
		"linked":  func(p string) error { return os.Link(filepath.Join(filepath.Dir(p), "other"), p) },
		"renamed": func(p string) error { return os.Rename(filepath.Join(filepath.Dir(p), "other"), p) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			w, err := New()
			require.NoError(t, err)
			t.Cleanup(w.Close)
			require.NoError(t, w.AddName(dir, "notice"))
			// A busy database in it.
			require.NoError(t, os.WriteFile(filepath.Join(dir, "other"), []byte("x"), 0o644))
			require.NoError(t, os.WriteFile(filepath.Join(dir, "notice.journal"), nil, 0o644))
			what, err := w.Wait(time.Now().Add(10 * time.Millisecond))
			require.NoError(t, err)
			require.Zero(t, what)
			require.NoError(t, do(filepath.Join(dir, "notice")))
			must(t, w)
		})
	}
	w, err := New()
	require.NoError(t, err)
	t.Cleanup(w.Close)
	require.Error(t, w.AddName(filepath.Join(t.TempDir(), "none"), "notice"))
}

func TestClosed(t *testing.T) {
	t.Parallel()
	w, path := watched(t, Closed)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	_, err = os.ReadFile(path) // who only reads is none of them
	require.NoError(t, err)
	what, err := w.Wait(time.Now().Add(10 * time.Millisecond))
	require.NoError(t, err)
	require.Zero(t, what)
	require.NoError(t, f.Close())
	must(t, w)
}

func TestForget(t *testing.T) {
	t.Parallel()
	w, path := watched(t, Written)
	other, err := New()
	require.NoError(t, err)
	t.Cleanup(other.Close)
	require.NoError(t, other.Add(path, Written))
	w.Forget()
	require.NoError(t, os.WriteFile(path, []byte("y"), 0o644))
	must(t, other) // which has its own part in the watch
	what, err := w.Wait(time.Now().Add(10 * time.Millisecond))
	require.NoError(t, err)
	require.Zero(t, what)
	require.NoError(t, w.Add(path, Written), "it can be used again")
	require.NoError(t, os.WriteFile(path, []byte("z"), 0o644))
	must(t, w)
}
