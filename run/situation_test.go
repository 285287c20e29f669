package run

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dblock-dev/dblock/internal/term"
	"github.com/dblock-dev/dblock/lock"
)

func TestLineOnTerminals(t *testing.T) {
	t.Setenv("LC_ALL", "C.UTF-8")
	held := &lock.Report{State: lock.StateHeld, Age: 185 * time.Second, Holder: &lock.Holder{PID: 12345, Host: "laptop", Process: "mcp-server"}}
	queue := *held
	queue.Waiters = []lock.Process{{PID: 1}, {PID: 2}, {PID: 3}}
	long := *held
	long.Holder = &lock.Holder{PID: 4194304, Host: "a-host-with-a-long-name", Process: "größe-with-a-label-that-is-far-too-long"}
	long.Waiters = queue.Waiters
	nameless := &lock.Report{State: lock.StateHeld, Holder: &lock.Holder{PID: 7, Host: "h"}}
	for _, c := range []struct {
		report  *lock.Report
		columns int
		want    string
	}{
		{held, 120, "dblock: waiting 12s, held by mcp-server (pid 12345 on laptop) for 3m05s: /home/me/project/data/.astrolabe.lock"},
		{held, 100, "dblock: waiting 12s, held by mcp-server (pid 12345 on laptop) for 3m05s: …/data/.astrolabe.lock"},
		{held, 79, "dblock: waiting 12s, held by mcp-server (pid 12345 on laptop) for 3m05s"},
		{&queue, 100, "dblock: waiting 12s, held by mcp-server (pid 12345 on laptop) for 3m05s, 2 ahead: …/.astrolabe.lock"},
		{&queue, 79, "dblock: waiting 12s: mcp-server (pid 12345), 2 ahead: …/data/.astrolabe.lock"},
		{held, 39, "waiting 12s: mcp-server (pid 12345)"},
		{&queue, 39, "waiting 12s: mcp-… (pid 12345), 2 ahead"},
		{&long, 79, "dblock: waiting 12s: größe-with-a-label-that-is-far-too… (pid 4194304), 2 ahead"},
		{&long, 39, "waiting 12s: gr… (pid 4194304), 2 ahead"},
		{&long, 20, "waiting 12s: g… (pi…"},
		{nameless, 30, "waiting 12s: somebody (pid 7)"},
		{&lock.Report{State: lock.StateFree, WaitersKnown: true}, 40, "dblock: waiting 12s, just released"},
		{&lock.Report{State: lock.StateFree}, 90, "dblock: waiting 12s, just released, or locked by what a killed dblock has left running"},
		{&lock.Report{State: lock.StateStale, Holder: &lock.Holder{PID: 7, Host: "h", Process: "p", Dblock: true}}, 90, "dblock: waiting 12s, held by what p (pid 7 on h) has left running, or is being taken over"},
		{&lock.Report{State: lock.StateInvalid}, 39, "waiting 12s: an invalid lock file"},
		{&lock.Report{State: lock.StateFree, Stopped: []lock.Process{{PID: 9, Command: "node"}}}, 39, "dblock: waiting 12s: node (pid 9)"},
		{&lock.Report{State: lock.StateOrphaned, Orphans: []int{5, 6}}, 60, "dblock: waiting 12s: an orphaned command (pid 5)"},
	} {
		line := situationOf(c.report, 3).line("12s", "/home/me/project/data/.astrolabe.lock", c.columns)
		require.Equal(t, c.want, line)
		require.Equal(t, line, term.Fit(line, c.columns))
	}
	shared := *held
	shared.State = lock.StateShared
	for n, want := range map[int]string{1: "", 2: " and 1 more reader", 3: " and 2 more readers"} {
		shared.Readers = make([]lock.Process, n)
		require.Equal(t, "held by mcp-server (pid 12345 on laptop) for 3m05s"+want, situationOf(&shared, 1).String())
	}
	// Who does not wait, or not any more, has nobody ahead.
	require.Equal(t, "held by mcp-server (pid 12345 on laptop) for 3m05s, 3 waiting", situationOf(&queue, 4).String())
	require.Equal(t, "held by mcp-server (pid 12345 on laptop) for 3m05s", situationOf(&queue, 1).String())
}
