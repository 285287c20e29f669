//go:build linux && !portable

package top

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A holder shows every few seconds that it lives: nobody looks at the lock for that.
func TestABeatIsNoNews(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	notice, state := filepath.Join(dir, ".x.lock"), filepath.Join(dir, ".x.lock.d")
	require.NoError(t, os.Mkdir(state, 0o700))
	files := map[string]*os.File{}
	for _, name := range []string{beaten, "history.jsonl"} {
		f, err := os.Create(filepath.Join(state, name))
		require.NoError(t, err)
		defer f.Close()
		files[name] = f
	}
	w := newWatcher()
	var of watches
	b := newBell()
	require.True(t, w.add(notice, state, &of, b))
	defer w.forget(&of)
	_, _ = files[beaten].WriteString("x")
	_, _ = files["history.jsonl"].WriteString("x")
	select {
	case <-b.changed:
	case <-time.After(10 * time.Second):
		t.Fatal("a line of history is news")
	}
	for range 3 {
		_, _ = files[beaten].WriteString("x")
		select {
		case <-b.changed:
			t.Fatal("a beat is none")
		case <-time.After(3 * pause):
		}
	}
}
