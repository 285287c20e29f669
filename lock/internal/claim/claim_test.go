package claim

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/internal/portable"
	"github.com/dblock-dev/dblock/lock/internal/inode"
	"github.com/dblock-dev/dblock/lock/internal/judge"
	"github.com/dblock-dev/dblock/lock/internal/notice"
	"github.com/dblock-dev/dblock/lock/internal/proc"
	"github.com/dblock-dev/dblock/lock/internal/queue"
)

// What needs no other process is tested here, and the rest in package lock.

// ready is a claim that has the room and a complete notice, which is not published.
func ready(t *testing.T) *Claim {
	t.Helper()
	path := filepath.Join(t.TempDir(), ".x.lock")
	patience, step := &queue.Patience{None: true}, func(string) {}
	p, err := queue.Enter(t.Context(), queue.Request{
		State: path + ".d", How: queue.Exclusive, Patience: patience, Step: step, Delay: func() {},
		Discard: func(room *queue.File) { RemoveLeft(path, room) },
	})
	require.NoError(t, err)
	t.Cleanup(p.Abandon)
	c := New(Options{Path: path, Me: proc.Self(), StaleTimeout: judge.PeersTimeout, Patience: patience, Now: time.Now, Step: step, Delay: func() {}, Replaced: func(*inode.Dir, notice.Info) {}, Passed: func(notice.Info, time.Duration) {}})
	c.place = p
	require.NoError(t, c.drawToken())
	require.NoError(t, c.prepare())
	t.Cleanup(c.Withdraw)
	return c
}

// put writes a peer's notice to the path by rename, and returns its inode.
func put(t *testing.T, path string, pid int) inode.ID {
	t.Helper()
	text := fmt.Sprintf(`{"pid":%d,"timestamp":%d,"host":%q,"process":"mcp-server"}`, pid, time.Now().UnixMilli(), proc.Self().Host)
	require.NoError(t, os.WriteFile(path+".tmp", []byte(text), 0o644))
	require.NoError(t, os.Rename(path+".tmp", path))
	return inodeOf(t, path)
}

func inodeOf(t *testing.T, path string) inode.ID {
	t.Helper()
	id, err := inode.Identify(path)
	require.NoError(t, err)
	return id
}

func seenAt(t *testing.T, path string) *notice.Sighting {
	t.Helper()
	s, err := notice.Read(path)
	require.NoError(t, err)
	return s
}

// gone is the pid of a process that is no more.
func gone(t *testing.T) int {
	t.Helper()
	cmd := exec.Command("true")
	require.NoError(t, cmd.Run())
	return cmd.Process.Pid
}

func TestReplaceInSteps(t *testing.T) {
	t.Parallel()
	// What happens where files cannot be exchanged.
	c := ready(t)
	put(t, c.opts.Path, gone(t))
	done, err := c.replaceInSteps(seenAt(t, c.opts.Path))
	require.NoError(t, err)
	require.True(t, done)
	require.Equal(t, c.Inode(), inodeOf(t, c.opts.Path))
}

func TestReplaceInStepsLooksAgain(t *testing.T) {
	t.Parallel()
	c := ready(t)
	put(t, c.opts.Path, gone(t))
	judged := seenAt(t, c.opts.Path)
	theirs := put(t, c.opts.Path, os.Getpid())
	c.opts.Step = func(name string) { require.NotEqual(t, "swapped", name, "it is not even moved") }
	done, err := c.replaceInSteps(judged)
	require.NoError(t, err)
	require.False(t, done)
	require.Equal(t, theirs, inodeOf(t, c.opts.Path))

	require.NoError(t, os.Remove(c.opts.Path))
	done, err = c.replaceInSteps(judged)
	require.NoError(t, err)
	require.False(t, done)
}

func TestReplaceInStepsPutsBack(t *testing.T) {
	t.Parallel()
	c := ready(t)
	put(t, c.opts.Path, gone(t))
	judged := seenAt(t, c.opts.Path)
	var theirs inode.ID
	c.opts.Step = func(name string) {
		if name == "compared" {
			theirs = put(t, c.opts.Path, os.Getpid())
		}
	}
	done, err := c.replaceInSteps(judged)
	require.NoError(t, err)
	require.False(t, done)
	require.Equal(t, theirs, inodeOf(t, c.opts.Path))
	require.ErrorIs(t, c.movedFile().Stat(&unix.Stat_t{}), unix.ENOENT)

	// One that was killed when it had moved that away has left it for the next one to put back.
	require.NoError(t, inode.Rename(c.noticeFile(), c.movedFile()))
	c.restore()
	require.Equal(t, theirs, inodeOf(t, c.opts.Path))
	require.ErrorIs(t, c.movedFile().Stat(&unix.Stat_t{}), unix.ENOENT)
}

// What Look finds is the keeper's to deal with.
func TestLook(t *testing.T) {
	t.Parallel()
	c := ready(t)
	look := func() Standing {
		standing, _ := c.Look()
		return standing
	}
	require.Equal(t, Missing, look())
	require.NoError(t, c.Heal())
	require.Equal(t, Ours, look())
	put(t, c.opts.Path, 4711)
	standing, theirs := c.Look()
	require.Equal(t, Taken, standing)
	require.Equal(t, 4711, theirs.PID)
	require.NoError(t, os.WriteFile(c.opts.Path, []byte("rubbish"), 0o644))
	require.Equal(t, Covered, look())
	require.NoError(t, os.Remove(c.opts.Path))
	require.NoError(t, os.Mkdir(c.opts.Path, 0o755))
	require.Equal(t, Covered, look())
	require.NoError(t, os.Remove(c.opts.Path))
	require.NoError(t, c.Heal())
	require.Equal(t, Ours, look())
}

// inherits makes the claim one that has taken over what a predecessor has left for it.
func inherits(t *testing.T) *Claim {
	t.Helper()
	c := ready(t)
	i := c.describe()
	i.PID, i.Dblock.ID = 0, "00000000000000aa"
	left, err := notice.Create(inode.Path(c.opts.Path), i)
	require.NoError(t, err)
	left.Close()
	done, err := c.takeOver(seenAt(t, c.opts.Path))
	require.NoError(t, err)
	require.True(t, done)
	require.Equal(t, left.ID(), inodeOf(t, filepath.Join(c.opts.Path+".d", Spare)), "that it goes is not worth a wait")
	return c
}

// What a hand-over leaves behind goes when there is time for it, or at the latest with
// the hold.
func TestWhatWasReplacedGoes(t *testing.T) {
	portable.Needs(t, portable.Exchange)
	t.Parallel()
	spareOf := func(c *Claim) string { return filepath.Join(c.opts.Path+".d", Spare) }

	c := inherits(t)
	require.NoError(t, c.Tidy())
	require.Equal(t, c.Inode(), inodeOf(t, spareOf(c)))

	for name, leave := range map[string]func(c *Claim){
		"removed":   func(c *Claim) { require.NoError(t, c.removeNotice()) },
		"left":      (*Claim).leaveNotice,
		"withdrawn": (*Claim).Withdraw,
		"forgotten": (*Claim).Close,
	} {
		c := inherits(t)
		leave(c)
		require.NoFileExists(t, spareOf(c), name)
	}

	c = inherits(t)
	require.NoError(t, os.Remove(c.opts.Path))
	require.NoError(t, c.Heal())
	require.Equal(t, c.Inode(), inodeOf(t, c.opts.Path))
	require.Equal(t, c.Inode(), inodeOf(t, spareOf(c)), "the spare name is ours now")
	require.NoError(t, c.Tidy())
	require.Equal(t, c.Inode(), inodeOf(t, spareOf(c)))
}
