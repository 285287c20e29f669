package tree

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func pids(ps []Process) []int {
	out := []int{}
	for _, p := range ps {
		out = append(out, p.PID)
	}
	return out
}

// The tree is what descends from the root and has not left the session.
func TestMembers(t *testing.T) {
	all := []Process{
		{PID: 1, Parent: 0, Session: 1, State: 'S'},
		{PID: 10, Parent: 1, Session: 5, State: 'S'}, // the root
		{PID: 11, Parent: 10, Session: 5, State: 'S'},
		{PID: 12, Parent: 11, Session: 5, State: 'T'},
		{PID: 13, Parent: 12, Session: 13, State: 'S'}, // a daemon
		{PID: 14, Parent: 13, Session: 13, State: 'S'}, // and what it started
		{PID: 15, Parent: 13, Session: 5, State: 'S'},  // started before the daemon left
		{PID: 16, Parent: 10, Session: 5, State: 'Z', Threads: 1},
		{PID: 18, Parent: 10, Session: 5, State: 'Z', Threads: 2}, // one of its threads works on
		{PID: 17, Parent: 10, Session: 17, State: 'S'},            // a daemon whose parent has ended
		{PID: 20, Parent: 10, Session: 5, State: 'S'},             // there before the command
		{PID: 21, Parent: 20, Session: 5, State: 'S'},
		{PID: 30, Parent: 1, Session: 5, State: 'S'}, // somebody else in the session
		{PID: 9, Parent: 15, Session: 5, State: 'S'}, // numbers start again
	}
	require.Equal(t, []int{11, 18, 12, 15, 9}, pids(members(all, 10, 0, []int{20})))
	require.Equal(t, []int{11, 18, 17, 20, 12, 21, 15, 9}, pids(members(all, 10, 17, nil)), "a command that leads its own session")
	require.Empty(t, members(all, 99, 0, nil))
	require.True(t, all[3].Stopped())
	require.False(t, all[2].Stopped())
}

func TestBelow(t *testing.T) {
	all := []Process{{PID: 2, Parent: 1}, {PID: 3, Parent: 2, Name: "x"}, {PID: 4, Parent: 3}, {PID: 5, Parent: 4}, {PID: 6, Parent: 2}}
	below := Below(all, func(p Process) bool { return p.Name == "x" })
	for pid, want := range map[int]bool{2: false, 3: false, 4: true, 5: true, 6: false} {
		require.Equal(t, want, below[pid], "%d", pid)
	}
}
