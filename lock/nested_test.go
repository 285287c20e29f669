package lock

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/internal/portable"
	"github.com/dblock-dev/dblock/lock/internal/notice"
)

// under sets the environment of a process that runs under this process's hold.
func under(c *child, g Grant) *child {
	c.Env = append(c.Env, EnvToken+"="+strconv.FormatInt(g.Holder.Token, 10), EnvPID+"="+strconv.Itoa(g.Holder.PID), EnvLockFile+"="+g.Names.Notice)
	return c
}

func TestNested(t *testing.T) {
	t.Parallel()
	for _, mode := range []Mode{Exclusive, Shared} {
		db, n := database(t)
		l := acquire(t, db, Options{Mode: mode})
		g, _ := l.Grant()
		id := inodeOf(t, n.Notice)
		c := under(prepare(t, "hold", config{DB: db, Mode: Shared, Wait: NoWait}), g)
		c.run(t)
		require.Equal(t, "held "+strconv.FormatInt(g.Holder.Token, 10)+" true false", c.line(t))
		c.say(t, "release")
		require.Equal(t, "released <nil>", c.line(t))
		require.Equal(t, id, inodeOf(t, n.Notice), "nothing was taken and nothing is released")

		c = under(prepare(t, "hold", config{DB: db, Wait: NoWait}), g)
		c.run(t)
		if mode == Shared {
			require.Equal(t, "error "+ErrUpgrade.Error(), c.line(t))
			continue
		}
		require.True(t, strings.HasPrefix(c.line(t), "held "))
	}
}

func TestNestedBelievesNothing(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(g *Grant, h *child){
		"another process, no ancestor": func(g *Grant, h *child) { g.Holder.PID = h.Process.Pid },
		"init":                         func(g *Grant, _ *child) { g.Holder.PID = 1 },
		"no such process":              func(g *Grant, _ *child) { g.Holder.PID = 0 },
		"another lock":                 func(g *Grant, _ *child) { g.Names.Notice += "x" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, n := database(t)
			h := holding(t, config{DB: db})
			i := look1(t, n.Notice).Info
			g := Grant{Names: n, Holder: holderOf(i)}
			change(&g, h)
			if name == "another process, no ancestor" {
				portable.Needs(t, portable.Processes)
			}
			c := under(prepare(t, "hold", config{DB: db, Wait: NoWait}), g)
			c.run(t)
			require.Contains(t, c.line(t), "is locked by")
		})
	}
}

func TestNestedAfterItsEnd(t *testing.T) {
	t.Parallel()
	db, _ := database(t)
	l := acquire(t, db, Options{})
	g, _ := l.Grant()
	require.NoError(t, l.Release())
	c := under(prepare(t, "hold", config{DB: db}), g)
	c.run(t)
	require.Contains(t, c.line(t), " false false", "an ordinary stranger")
}

func TestNestedTakesOverWhenTheOuterEnds(t *testing.T) {
	t.Parallel()
	db, n := database(t)
	l := acquire(t, db, Options{})
	g, _ := l.Grant()
	c := under(prepare(t, "hold", config{DB: db}), g)
	c.run(t)
	require.Contains(t, c.line(t), " true false")
	require.NoError(t, l.Release())
	require.True(t, eventually(func() bool {
		s, err := notice.Read(n.Notice)
		return err == nil && s.Info.PID == c.Process.Pid
	}), "what goes on does not go on unprotected")
	mustHeld(t, attemptOnce(t, db, Options{}))
	c.say(t, "release")
	require.Equal(t, "released <nil>", c.line(t))
	require.NoFileExists(t, n.Notice)
}

func TestNestedIsLostWhenItCannotTakeOver(t *testing.T) {
	t.Parallel()
	db, n := database(t)
	l := acquire(t, db, Options{})
	g, _ := l.Grant()
	c := under(prepare(t, "hold", config{DB: db}), g)
	c.run(t)
	require.Contains(t, c.line(t), " true false")
	next := New(db, Options{Wait: Forever})
	got := background(t, next)
	waiting(t, n, 1)
	require.NoError(t, l.Release())
	require.NoError(t, result(t, got))
	c.say(t, "look")
	require.Contains(t, c.line(t), "was lost")
	require.NoError(t, next.Err())
	require.NoError(t, next.Release())
}

// What a hold that leans on another one is told when it has become one of our own.
func TestNestedThatHasTakenOver(t *testing.T) {
	db, n := database(t)
	require.NoError(t, attemptOnce(t, db, Options{}))
	outer := ownNotice()
	outer.PID = os.Getppid()
	outer.Dblock.ID, outer.Dblock.Token = "0123456789abcdef", 1002
	text := string(notice.Format(outer))
	put(t, n.Notice, text)
	t.Setenv(EnvPID, strconv.Itoa(outer.PID))
	t.Setenv(EnvLockFile, n.Notice)
	t.Setenv(EnvToken, "1002")
	l := acquire(t, db, Options{Wait: NoWait, Unattended: true})
	g, _ := l.Grant()
	require.True(t, g.Leaned)
	room := l.Descriptors()[0]
	require.Positive(t, room)
	l.Suspend()
	l.Resume()
	l.Bequeath()
	require.Equal(t, text, contents(t, n.Notice), "it is not ours")

	require.NoError(t, os.Remove(n.Notice))
	// Where the notice is all that is known of the other one, it may be put back.
	require.True(t, eventually(func() bool {
		require.NoError(t, l.Check())
		_, err := os.Stat(n.Notice)
		return err == nil
	}))
	require.Equal(t, os.Getpid(), look1(t, n.Notice).Info.PID)
	require.Equal(t, room, l.Descriptors()[0], "the command has inherited it")
	l.Suspend()
	require.InDelta(t, ms(time.Now().Add(lead)), look1(t, n.Notice).Info.Timestamp, 60_000)
	l.Resume()
	require.InDelta(t, ms(time.Now()), look1(t, n.Notice).Info.Timestamp, 60_000)
	put(t, n.Notice, peerNotice(1, "elsewhere", ms(time.Now())))
	require.ErrorIs(t, l.Check(), ErrLost)
	require.True(t, closed(l.Lost()))
	require.ErrorIs(t, l.Release(), ErrLost)

	// Until then there is nothing to leave.
	put(t, n.Notice, text)
	l = acquire(t, db, Options{Wait: NoWait, Unattended: true})
	l.Bequeath()
	require.NoError(t, l.Release())
	require.Equal(t, text, contents(t, n.Notice))
}

func TestEnclosing(t *testing.T) {
	t.Setenv(EnvToken, "12")
	t.Setenv(EnvPID, "34")
	t.Setenv(EnvLockFile, "/b/.y.lock")
	t.Setenv(EnvOuter, "56:78:/c:d%0A%252/.z.lock\n\nrubbish\nx:1:/e\n12:34:/b/.y.lock")
	require.Equal(t, "12:34:/b/.y.lock\n56:78:/c:d%0A%252/.z.lock", Enclosing([]Grant{{Names: Names{Notice: "/a/.x.lock"}}}))
	require.Equal(t, "56:78:/c:d%0A%252/.z.lock", Enclosing([]Grant{{Names: Names{Notice: "/b/.y.lock"}}}))
	require.NoError(t, os.Unsetenv(EnvPID))
	require.Equal(t, "56:78:/c:d%0A%252/.z.lock\n12:34:/b/.y.lock", Enclosing([]Grant{{Names: Names{Notice: "/a/.x.lock"}}}))
}

// The enclosing dblock was killed, and this process has inherited the descriptor
// that keeps its lock: waiting for it would be waiting for itself.
func TestOrphanDoesNotWaitForItself(t *testing.T) {
	db, n := database(t)
	require.NoError(t, attemptOnce(t, db, Options{}))
	dead := prepare(t, "sleep", config{})
	dead.run(t)
	require.NoError(t, dead.Process.Kill())
	_ = dead.Wait()
	room, err := os.OpenFile(n.room(), os.O_RDWR, 0)
	require.NoError(t, err)
	defer room.Close()
	require.NoError(t, unix.Flock(int(room.Fd()), unix.LOCK_EX))
	i := ownNotice()
	i.PID, i.Dblock.Token, i.Dblock.ID = dead.Process.Pid, 1, "0123456789abcdef"
	put(t, n.Notice, string(notice.Format(i)))
	t.Setenv(EnvToken, "1")
	t.Setenv(EnvPID, strconv.Itoa(i.PID))
	t.Setenv(EnvLockFile, n.Notice)
	require.ErrorIs(t, New(db, Options{Wait: NoWait}).Acquire(t.Context()), ErrOrphan)
	// Once it is unlocked the descriptor proves nothing any more.
	require.NoError(t, os.Remove(n.Notice))
	require.NoError(t, unix.Flock(int(room.Fd()), unix.LOCK_UN))
	next := New(db, Options{Wait: NoWait})
	require.NoError(t, next.Acquire(t.Context()))
	require.NoError(t, next.Release())
}
