// Package holdertest is what every run.Holder must do, as a suite: whatever is to guard
// commands, local or elsewhere, runs it in a test of its own.
package holdertest

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/lock"
	"github.com/dblock-dev/dblock/run"
)

// Hold is a hold that was just acquired, and what the suite may do about it from outside.
type Hold struct {
	Holder run.Holder
	// Lose takes the lock away, as somebody does who does not cooperate.
	Lose func(t *testing.T)
	// Free reports whether others could acquire the lock now; nil where the hold is not
	// the one that keeps them out.
	Free func(t *testing.T) bool
}

// patience is how long a loss may take to be noticed.
const patience = 10 * time.Second

// Conforms runs the suite. acquire is called for each part of it.
func Conforms(t *testing.T, acquire func(t *testing.T) Hold) {
	t.Run("is described", func(t *testing.T) {
		h := acquire(t)
		require.NotEmpty(t, h.Holder.Grants())
		for _, g := range h.Holder.Grants() {
			require.NotEmpty(t, g.Holder.Process, "others see who it is")
		}
		require.NoError(t, h.Holder.Release())
		require.Empty(t, h.Holder.Grants(), "there is no hold any more")
	})
	t.Run("keeps others out until it is released", func(t *testing.T) {
		h := acquire(t)
		if h.Free == nil {
			require.NoError(t, h.Holder.Release())
			t.Skip("another hold keeps them out")
		}
		require.False(t, h.Free(t))
		h.Holder.Attend()
		h.Holder.Attend()
		require.NoError(t, h.Holder.Check())
		h.Holder.Suspend()
		require.False(t, h.Free(t), "while this process is stopped, too")
		h.Holder.Resume()
		h.Holder.Ending()
		require.False(t, h.Free(t), "and while what the command has left is waited for")
		held(t, h.Holder)
		require.NoError(t, h.Holder.Release())
		require.True(t, h.Free(t))
	})
	t.Run("is inherited on demand only", func(t *testing.T) {
		h := acquire(t)
		defer func() { require.NoError(t, h.Holder.Release()) }()
		for _, fd := range h.Holder.Descriptors() {
			flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
			require.NoError(t, err)
			require.NotZero(t, flags&unix.FD_CLOEXEC)
		}
	})
	t.Run("ends once", func(t *testing.T) {
		h := acquire(t)
		h.Holder.Attend()
		require.NoError(t, h.Holder.Release())
		require.NoError(t, h.Holder.Release())
		over(t, h.Holder)
	})
	t.Run("leaves nothing to nobody", func(t *testing.T) {
		h := acquire(t)
		h.Holder.Bequeath()
		require.NoError(t, h.Holder.Release())
		// A process that another test starts just now has inherited it until its program is executed.
		for end := time.Now().Add(patience); h.Free != nil && !h.Free(t); time.Sleep(time.Millisecond) {
			require.True(t, time.Now().Before(end), "nobody has inherited it")
		}
	})
	t.Run("tells of its loss", func(t *testing.T) {
		h := acquire(t)
		h.Holder.Attend()
		held(t, h.Holder)
		lost := h.Holder.Lost()
		h.Lose(t)
		select {
		case <-lost:
		case <-time.After(patience):
			t.Fatal("the loss was not noticed")
		}
		require.ErrorIs(t, h.Holder.Err(), lock.ErrLost)
		require.ErrorIs(t, h.Holder.Check(), lock.ErrLost)
		// What a command's life goes through after a loss changes nothing about it.
		h.Holder.Suspend()
		h.Holder.Resume()
		h.Holder.Ending()
		require.ErrorIs(t, h.Holder.Err(), lock.ErrLost)
		var detail *lock.LostError
		err := h.Holder.Release()
		require.ErrorIs(t, err, lock.ErrLost)
		require.True(t, errors.As(err, &detail))
		require.NotEmpty(t, detail.Reason)
		over(t, h.Holder)
	})
	t.Run("finds its loss right before the start", func(t *testing.T) {
		h := acquire(t)
		h.Lose(t)
		require.ErrorIs(t, h.Holder.Check(), lock.ErrLost)
		require.ErrorIs(t, h.Holder.Release(), lock.ErrLost)
	})
}

// held requires that nothing was lost.
func held(t *testing.T, h run.Holder) {
	t.Helper()
	require.NoError(t, h.Err())
	select {
	case <-h.Lost():
		t.Fatal("it says that it was lost")
	default:
	}
}

// over requires that a hold which was released can be told anything.
func over(t *testing.T, h run.Holder) {
	t.Helper()
	h.Attend()
	h.Suspend()
	h.Resume()
	h.Ending()
	h.Bequeath()
	require.NoError(t, h.Check())
	require.NoError(t, h.Err())
	require.Empty(t, h.Descriptors())
	require.NoError(t, h.Release())
}

// Memory is the simplest run.Holder: its lock is in this process only. It notes what it is told.
type Memory struct {
	mu       sync.Mutex
	calls    []string
	released bool
	taken    bool
	lost     chan struct{}
	loseAt   string
}

var _ run.Holder = (*Memory)(nil)

// NewMemory is a hold that is lost when the method of that name is called, or never if it is
// empty.
func NewMemory(loseAt string) *Memory {
	return &Memory{lost: make(chan struct{}), loseAt: loseAt}
}

// Calls are the methods that were called, of those that change something or look.
func (m *Memory) Calls() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.calls)
}

// Lose takes the lock away.
func (m *Memory) Lose() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lose()
}

func (m *Memory) lose() {
	if !m.taken {
		m.taken = true
		close(m.lost)
	}
}

// Held reports whether the hold is neither lost nor released.
func (m *Memory) Held() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return !m.taken && !m.released
}

func (m *Memory) call(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls = append(m.calls, name)
	if name == m.loseAt {
		m.lose()
	}
}

// Grants describes a hold that names nothing but itself.
func (m *Memory) Grants() []lock.Grant {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.released {
		return nil
	}
	return []lock.Grant{{Holder: lock.Holder{Process: "memory"}}}
}

// Lost is closed when it is lost.
func (m *Memory) Lost() <-chan struct{} { return m.lost }

// Err is why it was lost.
func (m *Memory) Err() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.taken && !m.released {
		return errTaken
	}
	return nil
}

// Check notes the call.
func (m *Memory) Check() error { m.call("check"); return m.Err() }

// Descriptors are none.
func (m *Memory) Descriptors() []int { return nil }

// Attend notes the call.
func (m *Memory) Attend() { m.call("attend") }

// Suspend notes the call.
func (m *Memory) Suspend() { m.call("suspend") }

// Resume notes the call.
func (m *Memory) Resume() { m.call("resume") }

// Ending notes the call.
func (m *Memory) Ending() { m.call("ending") }

// Bequeath notes the call.
func (m *Memory) Bequeath() { m.call("bequeath") }

// Release ends the hold.
func (m *Memory) Release() error {
	m.call("release")
	err := m.Err()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.released = true
	return err
}

// errTaken is why a Memory was lost.
var errTaken = &lock.LostError{Path: "memory", Reason: "it was taken"}
