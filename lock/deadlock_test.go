package lock

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dblock-dev/dblock/internal/portable"
	"github.com/dblock-dev/dblock/internal/tree"
	"github.com/dblock-dev/dblock/lock/internal/inode"
	"github.com/dblock-dev/dblock/lock/internal/proc"
)

// Only one that sleeps, and has started something that it may wait for, is taken for stuck.
func TestWhoMayGoOnIsADoubt(t *testing.T) {
	t.Parallel()
	shell := tree.Process{PID: 10, Group: 10, Front: -1, State: 'S'}
	child := tree.Process{PID: 11, Parent: 10, Group: 10, Front: -1, State: 'S'}
	job := child
	job.Group, job.Front = 11, 11
	background := job
	background.Front = 10
	running := shell
	running.State = 'R'
	for _, c := range []struct {
		why    string
		p      tree.Process
		others []tree.Process
		waits  bool
	}{
		{"a script's child", shell, []tree.Process{child}, true},
		{"what a terminal listens to", shell, []tree.Process{job}, true},
		{"a job in the background", shell, []tree.Process{background}, false},
		{"both", shell, []tree.Process{child, background}, false},
		{"it has started nothing", shell, nil, false},
		{"it works", running, []tree.Process{child}, false},
	} {
		among := append([]tree.Process{c.p}, c.others...)
		require.Equal(t, c.waits, (&view{}).waitsForChildren(c.p, among), c.why)
	}
}

func TestDeadlockSaysWhoWaitsForWhom(t *testing.T) {
	t.Parallel()
	err := error(&DeadlockError{Cycle: []Deadlocked{
		{Process{PID: 1}, "a.db", "b.db"}, {Process{PID: 2}, "b.db", "a.db"},
	}})
	require.EqualError(t, err, "deadlock: this process holds a.db and waits for b.db; process 2 holds b.db and waits for a.db")
	require.ErrorIs(t, err, ErrDeadlock)
	require.ErrorIs(t, err, ErrHeld)
}

// A place in the queue of what we wait for is no hold: others may wait behind it, and would wait for
// the same without us.
func TestDeadlockBehindUs(t *testing.T) {
	portable.Needs(t, portable.Queue)
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("no table of locks")
	}
	dir := t.TempDir()
	me, files, ids := os.Getpid(), map[string]string{}, map[string][]inode.ID{}
	for _, name := range []string{"outer.db", "wanted.db"} {
		l := New(filepath.Join(dir, name), Options{})
		require.NoError(t, l.Acquire(context.Background()))
		defer l.Release()
		n := l.Grants()[0].Names
		ids[name] = n.queueFiles()
		room, err := n.identifyRoom()
		require.NoError(t, err)
		require.Eventually(t, func() bool {
			locks, _ := proc.AllLocks()
			all := locks.Flocks()
			at := slices.IndexFunc(all, func(f proc.Flock) bool { return proc.Is(f.File, room) })
			if at >= 0 {
				files[name] = all[at].File
			}
			return at >= 0
		}, 20*time.Second, time.Millisecond)
	}
	v := &view{me: me, queue: ids["wanted.db"], waits: map[int][]proc.Flock{me: {{File: files["wanted.db"]}}}}
	hops, stuck := v.stuckHolder(files["wanted.db"], me)
	require.True(t, stuck)
	require.Empty(t, hops, "a circle of others")
	hops, stuck = v.stuckHolder(files["outer.db"], me)
	require.True(t, stuck)
	require.Len(t, hops, 1, "ours")
}
