package status

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dblock-dev/dblock/lock"
)

func TestStateOnOneLine(t *testing.T) {
	holder := &lock.Holder{PID: 7, Host: "laptop", Process: "cli\x1b"}
	two := []lock.Process{{PID: 8, Command: "sh"}, {PID: 9, Command: "make"}}
	for _, c := range []struct {
		report lock.Report
		line   string
		free   bool
	}{
		{lock.Report{State: lock.StateFree}, "free", true},
		{lock.Report{State: lock.StateFree, Waiters: two}, "free, 2 waiting", false},
		{lock.Report{State: lock.StateFree, Waiters: two, Stopped: two[:1]}, "free: not held, but sh (pid 8), which is stopped, blocks the queue, 2 waiting", false},
		{lock.Report{State: lock.StateStale, Holder: holder, Evidence: "process 7 has gone"}, "stale: process 7 has gone", true},
		{lock.Report{State: lock.StateStale, Holder: holder, Evidence: "process 7 has gone", Waiters: two[:1]}, "stale: process 7 has gone, 1 waiting", false},
		{lock.Report{State: lock.StateHeld, Holder: holder, Age: time.Minute, Waiters: two}, "held by cli? (pid 7 on laptop) for 1m00s, 2 waiting", false},
		{lock.Report{State: lock.StateHeld, Owners: two[:1]}, "held: locked, without a lock file, by sh (pid 8)", false},
		{lock.Report{State: lock.StateShared, Holder: holder, Readers: two}, "shared: held by cli? (pid 7 on laptop) for 0s and 1 more reader", false},
		{lock.Report{State: lock.StateForeign, Holder: holder}, "foreign: held by cli? (pid 7 on laptop) for 0s", false},
		{lock.Report{State: lock.StateOrphaned, Holder: holder, Left: two}, "orphaned: held by an orphaned command: the dblock that held it was killed; its command runs on: sh (pid 8), make (pid 9)", false},
		{lock.Report{State: lock.StateInvalid}, "invalid: not a valid lock file, perhaps one that is being written", false},
	} {
		require.Equal(t, c.line, state(&c.report))
		require.Equal(t, c.free, isFree(&c.report), c.line)
	}
}

func TestHolderInATable(t *testing.T) {
	two := []lock.Process{{PID: 8, Command: "sh"}, {PID: 9, Command: "make"}}
	for _, c := range []struct {
		report lock.Report
		name   string
	}{
		{lock.Report{State: lock.StateFree}, ""},
		{lock.Report{State: lock.StateHeld, Holder: &lock.Holder{PID: 7, Host: hostName(), Process: "cli"}}, "cli (pid 7)"},
		{lock.Report{State: lock.StateForeign, Holder: &lock.Holder{PID: 7, Host: "else\nwhere"}}, "somebody (pid 7 on else?where)"},
		{lock.Report{State: lock.StateForeign, Holder: &lock.Holder{Host: hostName(), Process: "cli"}}, "cli"},
		{lock.Report{State: lock.StateShared, Holder: &lock.Holder{PID: 8, Host: hostName(), Process: "cli"}, Readers: two}, "cli (pid 8) and 1 more"},
		{lock.Report{State: lock.StateOrphaned, Holder: &lock.Holder{PID: 7}, Left: two}, "sh (pid 8), make (pid 9)"},
		{lock.Report{State: lock.StateHeld, Owners: two[:1]}, "sh (pid 8)"},
		{lock.Report{State: lock.StateFree, Stopped: two[:1]}, "stopped: sh (pid 8)"},
		{lock.Report{State: lock.StateInvalid, Evidence: "it is not a regular file"}, "it is not a regular file"},
	} {
		require.Equal(t, c.name, holderName(&c.report))
	}
}
