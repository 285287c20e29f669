package lock

import (
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dblock-dev/dblock/lock/internal/proc"
	"github.com/dblock-dev/dblock/lock/internal/queue"
)

// The same files under another name, as a directory has that is mounted twice.
func TestNestedThroughAnotherMount(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("mounting is root's")
	}
	db, n := database(t)
	other := t.TempDir()
	require.NoError(t, syscall.Mount(filepath.Dir(db), other, "", syscall.MS_BIND, ""))
	defer syscall.Unmount(other, syscall.MNT_DETACH)
	l := acquire(t, db, Options{})
	g, _ := l.Grant()
	require.Equal(t, n.Notice, g.Names.Notice)
	c := under(prepare(t, "hold", config{DB: filepath.Join(other, filepath.Base(db)), Wait: NoWait}), g)
	c.run(t)
	require.Equal(t, "held "+strconv.FormatInt(g.Holder.Token, 10)+" true false", c.line(t))
}

// In another pid namespace the number of the holder's process says nothing, and
// everybody can set variables after the notice: the inherited descriptor decides.
func TestHiddenHolderNeedsTheDescriptor(t *testing.T) {
	t.Parallel()
	elsewhere := func(n Names) *surroundings {
		s := &surroundings{names: n, me: proc.Self(), opts: Options{}.withDefaults()}
		s.me.PIDNS++
		return s
	}
	db, n := database(t)
	holding(t, config{DB: db})
	i := look1(t, n.Notice).Info
	o := outer{token: i.Dblock.Token, pid: i.PID, path: n.Notice}
	_, live := elsewhere(n).live(&o)
	require.False(t, live, "a stranger that has read the notice")

	db, n = database(t)
	l := acquire(t, db, Options{})
	g, _ := l.Grant()
	o = outer{token: g.Holder.Token, pid: g.Holder.PID, path: n.Notice}
	s := elsewhere(n)
	mode, live := s.live(&o)
	require.True(t, live)
	require.Equal(t, Exclusive, mode)
	room, err := n.identifyRoom()
	require.NoError(t, err)
	require.True(t, queue.Signed(n.State, room), "the sign proves it, too, where there is no /proc")

	s.opts.Now = func() time.Time { return time.Now().Add(time.Minute) }
	_, live = s.live(&o)
	require.False(t, live, "its beats have ended")
	require.NoError(t, l.Release())
	_, live = elsewhere(n).live(&o)
	require.False(t, live)
}
