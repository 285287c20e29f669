package queue

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func request(state string) Request {
	return Request{State: state, How: Exclusive, Patience: &Patience{None: true}, Discard: func(*File) {}, Step: func(string) {}, Delay: func() {}}
}

func TestEnterAndLeave(t *testing.T) {
	t.Parallel()
	state := filepath.Join(t.TempDir(), ".x.lock.d")
	p, err := Enter(t.Context(), request(state))
	require.NoError(t, err)
	require.True(t, p.Locked())
	require.True(t, p.Stands())
	require.False(t, p.Gone())
	require.NoError(t, p.Degraded())
	p.OpenLast()
	require.Empty(t, p.turnstiles, "nobody waits, so nobody must be let in by and by")

	_, err = Enter(t.Context(), request(state))
	require.ErrorIs(t, err, ErrBusy)
	begun := 0
	r := request(state)
	r.Patience = &Patience{End: time.Now().Add(20 * time.Millisecond), Begin: func() { begun++ }}
	_, err = Enter(t.Context(), r)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Equal(t, 1, begun)
	require.True(t, r.Patience.Waited())
	r.Patience.Stop()

	require.NoError(t, os.RemoveAll(state))
	require.True(t, p.Gone())
	require.False(t, p.Stands())
	require.NoError(t, p.Leave(false))
}

func TestAbandonLeavesNothing(t *testing.T) {
	t.Parallel()
	state := filepath.Join(t.TempDir(), ".x.lock.d")
	r := request(state)
	discarded := 0
	r.Discard = func(*File) { discarded++ }
	p, err := Enter(t.Context(), r)
	require.NoError(t, err)
	p.Abandon()
	require.Equal(t, 1, discarded)
	require.NoDirExists(t, state)
}

func TestReadersShareTheRoom(t *testing.T) {
	t.Parallel()
	state := filepath.Join(t.TempDir(), ".x.lock.d")
	r := request(state)
	r.How = Shared
	first, err := Enter(t.Context(), r)
	require.NoError(t, err)
	first.OpenLast()
	second, err := Enter(t.Context(), r)
	require.NoError(t, err)
	second.OpenLast()
	require.False(t, first.SuccessorWaits())
	require.False(t, first.LastOut())
	require.NoError(t, first.Leave(false))
	require.True(t, second.LastOut())
	require.NoError(t, second.Leave(false))
}

// A room that was inherited is locked by the same open file, or not at all.
func TestInheritedRoom(t *testing.T) {
	t.Parallel()
	state := filepath.Join(t.TempDir(), ".x.lock.d")
	require.Nil(t, OpenRoom(state))
	outer, err := Enter(t.Context(), request(state))
	require.NoError(t, err)
	outer.OpenLast()
	r := request(state)
	r.Inherited = OpenRoom(state)
	require.NotNil(t, r.Inherited)
	_, err = Enter(t.Context(), r)
	require.ErrorIs(t, err, ErrBusy)
	require.Equal(t, -1, r.Inherited.Fd(), "it is closed in any case")

	r.Inherited = OpenRoom(state)
	require.NoError(t, outer.Leave(false))
	fd := r.Inherited.Fd()
	own, err := Enter(t.Context(), r)
	require.NoError(t, err)
	require.Equal(t, fd, own.Descriptor())
	require.NoError(t, own.Leave(false))
}

// Who cannot use the room that a command has inherited leaves it locked by that.
func TestAbandonedInheritedRoomIsTheCommands(t *testing.T) {
	t.Parallel()
	state := filepath.Join(t.TempDir(), ".x.lock.d")
	outer, err := Enter(t.Context(), request(state))
	require.NoError(t, err)
	outer.OpenLast()
	r := request(state)
	r.Inherited = OpenRoom(state)
	command, err := unix.Dup(r.Inherited.Fd())
	require.NoError(t, err)
	require.NoError(t, outer.Leave(false))
	own, err := Enter(t.Context(), r)
	require.NoError(t, err)
	own.Abandon()
	_, err = Enter(t.Context(), request(state))
	require.ErrorIs(t, err, ErrBusy)
	require.NoError(t, unix.Close(command))
	next, err := Enter(t.Context(), request(state))
	require.NoError(t, err)
	next.OpenLast()
	require.NoError(t, next.Leave(false))
}

func TestClasses(t *testing.T) {
	t.Parallel()
	require.Equal(t, "turnstile-low turnstile-normal turnstile-high", Turnstile(Low)+" "+Turnstile(Normal)+" "+Turnstile(High))
}

// What was locked and cannot be used is free at once, whoever has a copy of it just then.
func TestAbandonUnlocksWhoeverHasACopy(t *testing.T) {
	t.Parallel()
	state := filepath.Join(t.TempDir(), ".x.lock.d")
	first, err := Enter(t.Context(), request(state))
	require.NoError(t, err)
	first.OpenLast()
	require.NoError(t, first.Leave(false))
	p, err := Enter(t.Context(), request(state))
	require.NoError(t, err)
	fd, err := unix.Dup(p.room.fd)
	require.NoError(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	p.Abandon()
	p, err = Enter(t.Context(), request(state))
	require.NoError(t, err)
	p.OpenLast()
	require.NoError(t, p.Leave(false))
}

// A process that is started at this moment has copies of our open files until it is executed.
func TestTurnstilesOpenWhoeverHasACopy(t *testing.T) {
	t.Parallel()
	state := filepath.Join(t.TempDir(), ".x.lock.d")
	p, err := Enter(t.Context(), request(state))
	require.NoError(t, err)
	for _, f := range p.turnstiles {
		fd, err := unix.Dup(f.fd)
		require.NoError(t, err)
		defer unix.Close(fd)
	}
	p.OpenLast()
	require.NoError(t, p.Leave(false))
	p, err = Enter(t.Context(), request(state))
	require.NoError(t, err)
	p.OpenLast()
	require.NoError(t, p.Leave(false))
}
