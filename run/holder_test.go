package run

import (
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dblock-dev/dblock/internal/cli"
	"github.com/dblock-dev/dblock/lock"
	"github.com/dblock-dev/dblock/signals"
)

// elsewhere holds a lock that is in no file, and notes what it is told.
type elsewhere struct {
	mu    sync.Mutex
	calls []string
	lost  chan struct{}
	at    string // the call at which the lock is lost
}

func (e *elsewhere) call(name string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.calls = append(e.calls, name)
	if name == e.at {
		close(e.lost)
	}
}

func (e *elsewhere) Grant() (lock.Grant, bool) { return lock.Grant{}, true }
func (e *elsewhere) Lost() <-chan struct{}     { return e.lost }
func (e *elsewhere) Check() error              { e.call("check"); return e.Err() }
func (e *elsewhere) Descriptor() int           { return -1 }
func (e *elsewhere) Attend()                   { e.call("attend") }
func (e *elsewhere) Suspend()                  { e.call("suspend") }
func (e *elsewhere) Resume()                   { e.call("resume") }
func (e *elsewhere) Ending()                   { e.call("ending") }
func (e *elsewhere) Bequeath()                 { e.call("bequeath") }
func (e *elsewhere) Release() error            { e.call("release"); return e.Err() }

func (e *elsewhere) Err() error {
	select {
	case <-e.lost:
		return &lock.LostError{Path: "elsewhere", Reason: "it was taken"}
	default:
		return nil
	}
}

// A command needs no more of what holds its lock than a Holder has.
func TestCommandUnderAnyHolder(t *testing.T) {
	sigs := signals.Listen(0)
	for _, c := range []struct {
		argv  []string
		at    string
		want  error
		calls []string
	}{
		{[]string{"true"}, "", nil, []string{"check"}},
		{[]string{"sh", "-c", "exit 3"}, "", &cli.ExitError{Code: 3}, []string{"check"}},
		{[]string{"sleep", "60"}, "attend", &cli.SignalError{Signal: syscall.SIGTERM}, []string{"check", "attend"}},
		{[]string{"sh", "-c", "kill -STOP $$; sleep 60"}, "attend", &cli.SignalError{Signal: syscall.SIGTERM}, []string{"check", "attend"}},
		{[]string{"true"}, "check", &lock.LostError{Path: "elsewhere", Reason: "it was taken"}, []string{"check"}},
	} {
		e := &elsewhere{lost: make(chan struct{}), at: c.at}
		cmd := &Command{Argv: c.argv, OnLost: "term", KillAfter: cli.Duration(10 * time.Second), Orphan: "term"}
		path, err := exec.LookPath(c.argv[0])
		require.NoError(t, err)
		require.Equal(t, c.want, cmd.supervise(e, path, nil, sigs), "%q", c.argv)
		e.mu.Lock()
		calls := slices.Compact(slices.DeleteFunc(e.calls, func(s string) bool { return s == "attend" && c.at == "" }))
		e.mu.Unlock()
		require.Equal(t, c.calls, calls, "%q", c.argv)
	}
}
