package journal

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dblock-dev/dblock/history"
	"github.com/dblock-dev/dblock/lock/internal/inode"
	"github.com/dblock-dev/dblock/lock/internal/queue"
)

func stateDir(t *testing.T) (*inode.Dir, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), ".x.lock.d")
	_, err := queue.MakeDir(path)
	require.NoError(t, err)
	dir, err := inode.OpenDir(path)
	require.NoError(t, err)
	t.Cleanup(dir.Close)
	return dir, path
}

func lines(t *testing.T, path string) (all []history.Event) {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	for line := range bytes.Lines(text) {
		e, err := history.Parse(line)
		if err == nil {
			all = append(all, e)
		}
	}
	return all
}

func TestAppend(t *testing.T) {
	t.Parallel()
	dir, path := stateDir(t)
	for i := range 3 {
		Append(dir, &history.Event{Kind: history.Hold, Token: int64(i + 1)})
	}
	got := lines(t, filepath.Join(path, history.Name))
	require.Len(t, got, 3)
	require.EqualValues(t, 3, got[2].Token)
	Append(nil, &history.Event{})
}

// One who was killed in the middle of a line spoils no other.
func TestAppendAfterATornLine(t *testing.T) {
	t.Parallel()
	dir, path := stateDir(t)
	name := filepath.Join(path, history.Name)
	Append(dir, &history.Event{Kind: history.Hold, Token: 1})
	text, err := os.ReadFile(name)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(name, append(text, text[:len(text)/2]...), 0o600))
	Append(dir, &history.Event{Kind: history.Hold, Token: 2})
	got := lines(t, name)
	require.Len(t, got, 2)
	require.EqualValues(t, 2, got[1].Token)
}

// Rotation loses no line, however many are at it.
func TestRotation(t *testing.T) {
	t.Parallel()
	dir, path := stateDir(t)
	name, older := filepath.Join(path, history.Name), filepath.Join(path, history.Older)
	const writers = 8
	// Two files hold some 14,000 lines of this size.
	each := 1000
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for i := range each {
				Append(dir, &history.Event{Kind: history.Hold, Token: int64(w*each + i + 1), Process: "some-label-of-ordinary-length", Host: "host"})
			}
		})
	}
	all.Wait()
	seen := map[int64]bool{}
	for _, p := range []string{older, name} {
		for _, e := range lines(t, p) {
			require.False(t, seen[e.Token], "twice")
			seen[e.Token] = true
		}
	}
	require.Len(t, seen, writers*each)
	info, err := os.Stat(older)
	require.NoError(t, err)
	require.Greater(t, info.Size(), int64(MaxSize)-1)
	require.Less(t, info.Size(), 2*int64(MaxSize))
}

// The second of two who find the file too large leaves the new one where it is.
func TestRotatedByAnother(t *testing.T) {
	t.Parallel()
	dir, path := stateDir(t)
	Append(dir, &history.Event{Kind: history.Hold, Token: 1})
	f, err := queue.Open(dir.At(history.Name))
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, os.Rename(filepath.Join(path, history.Name), filepath.Join(path, history.Older)))
	Append(dir, &history.Event{Kind: history.Hold, Token: 2})
	rotate(dir, f)
	require.EqualValues(t, 1, lines(t, filepath.Join(path, history.Older))[0].Token)
	require.EqualValues(t, 2, lines(t, filepath.Join(path, history.Name))[0].Token)
}

func TestBlockers(t *testing.T) {
	t.Parallel()
	dir, path := stateDir(t)
	const ms = time.Millisecond
	hold := func(token, from, to int64, process string) {
		Append(dir, &history.Event{Kind: history.Hold, Token: token, At: to, Acquired: from, Released: to, Process: process, PID: int(token)})
	}
	for i := range int64(100) {
		hold(i+1, 100+i, 101+i, "long before")
	}
	hold(1001, 1000, 1990, "before")
	hold(1002, 1990, 2050, `a "acquired":1,"released":9`)
	hold(1003, 2050, 2350, "b")
	for i := range int64(10) {
		hold(2000+i, 2350+i, 2351+i, "short")
	}
	e := &history.Event{Kind: history.Hold, Token: 3000, Requested: 2000, Acquired: 2360, Released: 2400, At: 2400, Waited: 360 * ms}
	Append(dir, e)
	all := lines(t, filepath.Join(path, history.Name))
	got := all[len(all)-1]
	require.Equal(t, 12, got.Ahead)
	require.Len(t, got.Blockers, history.MaxBlockers)
	require.Equal(t, history.Blocker{Party: history.Party{PID: 1003, Process: "b", Token: 1003}, For: 300 * ms}, got.Blockers[0])
	require.Equal(t, 50*ms, got.Blockers[1].For)
	require.Equal(t, fmt.Sprintf("%v", ms), got.Blockers[2].For.String())
	// Who has not waited asks nobody.
	Append(dir, &history.Event{Kind: history.Hold, Token: 3001, Requested: 2000, Acquired: 2360, Waited: worthAsking - 1})
	all = lines(t, filepath.Join(path, history.Name))
	require.Zero(t, all[len(all)-1].Ahead)
}

func BenchmarkAppend(b *testing.B) {
	path := filepath.Join(b.TempDir(), ".x.lock.d")
	_, _ = queue.MakeDir(path)
	dir, err := inode.OpenDir(path)
	require.NoError(b, err)
	defer dir.Close()
	for name, waited := range map[string]time.Duration{"free": 0, "after eight": time.Second} {
		b.Run(name, func(b *testing.B) {
			for i := range int64(b.N) {
				Append(dir, &history.Event{Kind: history.Hold, Token: i, At: i * 10, Requested: i*10 - 80, Acquired: i*10 - 10, Released: i * 10, Waited: waited, Process: "cli", Command: "true", Host: "host"})
			}
		})
	}
}
