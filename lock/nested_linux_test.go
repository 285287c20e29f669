package lock

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dblock-dev/dblock/internal/portable"
	"github.com/dblock-dev/dblock/lock/internal/notice"
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
	portable.Needs(t, portable.Signs)
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

// A holder that works for somebody else says so by its command line: a keeper for whom, and a
// session for its parent.
func TestNestedUnderWhoServesAnAncestor(t *testing.T) {
	t.Parallel()
	me := strconv.Itoa(os.Getpid())
	for name, args := range map[string][]string{"keeper": {"hold", "--for", me, "-s"}, "session": {"session"}} {
		for _, mode := range []Mode{Exclusive, Shared} {
			t.Run(name+" "+mode.String(), func(t *testing.T) {
				t.Parallel()
				db, n := database(t)
				h := prepare(t, "hold", config{DB: db, Mode: mode})
				h.Args = append(h.Args, args...)
				h.run(t)
				require.True(t, strings.HasPrefix(h.line(t), "held "))
				g := Grant{Names: n, Holder: holderOf(look1(t, n.Notice).Info)}
				c := under(prepare(t, "hold", config{DB: db, Mode: mode, Wait: NoWait}), g)
				c.run(t)
				require.Equal(t, "held "+strconv.FormatInt(g.Holder.Token, 10)+" true false", c.line(t))
				require.NoError(t, h.Process.Kill())
				_ = h.Wait()
				require.True(t, eventually(func() bool {
					s, err := notice.Read(n.Notice)
					return err == nil && s.Info.PID == c.Process.Pid
				}), "what goes on does not go on unprotected")
			})
		}
	}
}

// A process that is ending has no command line any more, a moment before its locks are released.
func TestHolderThatIsEndingIsStillAround(t *testing.T) {
	portable.Needs(t, portable.Processes)
	t.Parallel()
	db, n := database(t)
	h := prepare(t, "hold", config{DB: db})
	h.Args = append(h.Args, "session")
	h.run(t)
	require.True(t, strings.HasPrefix(h.line(t), "held "))
	i := look1(t, n.Notice).Info
	s := &surroundings{names: n, me: proc.Self(), opts: Options{For: os.Getpid()}.withDefaults()}
	o := outer{token: i.Dblock.Token, pid: i.PID, path: n.Notice}
	other := o
	_, live := s.live(&o)
	require.True(t, live)
	h.say(t, "forget")
	require.Equal(t, "forgotten", h.line(t))
	_, live = s.live(&other)
	require.False(t, live, "it does not tell any more whom it serves")
	_, live = s.live(&o)
	require.True(t, live, "who has seen it knows")
	require.NoError(t, h.Process.Kill())
	_ = h.Wait()
	_, live = s.live(&o)
	require.False(t, live)
}

// Whoever has read the lock file can set the variables of a hold that is for somebody else.
func TestServedByAnotherIsNotBelieved(t *testing.T) {
	portable.Needs(t, portable.Processes)
	t.Parallel()
	other := start(t, "live", config{})
	require.Equal(t, "alive", other.line(t))
	theirs := strconv.Itoa(other.Process.Pid)
	me := strconv.Itoa(os.Getpid())
	for name, c := range map[string]struct {
		args []string
		wrap []string
	}{
		"a keeper for somebody else":      {args: []string{"hold", "--for", theirs}},
		"a keeper for no such process":    {args: []string{"hold", "--for", "4194305"}},
		"a keeper for nobody":             {args: []string{"hold", "--for", "shell"}},
		"one that runs something else":    {args: []string{"run", "hold", "--for", me}},
		"the flag of another subcommand":  {args: []string{"status", "--for", me}},
		"a session of somebody else":      {wrap: []string{"sh", "-c", `exec 3<&0; "$0" session <&3 & wait`}},
		"one that runs a program session": {args: []string{"-d", "session"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, n := database(t)
			h := prepare(t, "hold", config{DB: db}, c.wrap...)
			h.Args = append(h.Args, c.args...)
			h.run(t)
			require.True(t, strings.HasPrefix(h.line(t), "held "))
			g := Grant{Names: n, Holder: holderOf(look1(t, n.Notice).Info)}
			nested := under(prepare(t, "hold", config{DB: db, Wait: NoWait}), g)
			nested.run(t)
			require.Contains(t, nested.line(t), "is locked by")
		})
	}
}
