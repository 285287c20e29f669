package lock

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dblock-dev/dblock/internal/tree"
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
