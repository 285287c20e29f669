//go:build linux

package lock

import (
	"context"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/internal/portable"
)

// traced is a command under which every call of one kind fails. The tests that
// need it are left out where there is no strace, but not in CI.
func traced(t *testing.T, call, errno string) []string {
	t.Helper()
	argv := []string{"strace", "-f", "-qq", "-o", os.DevNull, "-e", "trace=" + call, "-e", "inject=" + call + ":error=" + errno}
	out, err := exec.Command(argv[0], append(argv[1:], "true")...).CombinedOutput()
	if err != nil && os.Getenv("CI") != "true" {
		t.Skipf("strace does not work here: %v %s", err, out)
	}
	require.NoError(t, err, "%s", out)
	return argv
}

func TestWithoutFlock(t *testing.T) {
	t.Parallel()
	for _, errno := range []string{"ENOLCK", "EOPNOTSUPP"} {
		t.Run(errno, func(t *testing.T) {
			t.Parallel()
			db, n := database(t)
			run := traced(t, "flock", errno)
			h := start(t, "hold", config{DB: db}, run...)
			line := h.line(t)
			require.True(t, strings.HasPrefix(line, "held ") && strings.HasSuffix(line, " true"), line)
			require.FileExists(t, n.Notice)
			// Its peers in misfortune, and those that have flock, see the notice.
			other := start(t, "hold", config{DB: db, Wait: NoWait}, run...)
			require.Contains(t, other.line(t), "is locked by")
			mustHeld(t, attemptOnce(t, db, Options{}))
			h.say(t, "release")
			require.Equal(t, "released <nil>", h.line(t))
			require.NoFileExists(t, n.Notice)
			require.NoError(t, attemptOnce(t, db, Options{}))
		})
	}
}

func TestWithoutExchange(t *testing.T) {
	t.Parallel()
	needsSight(t)
	for _, errno := range []string{"ENOSYS", "EINVAL", "EPERM"} {
		t.Run(errno, func(t *testing.T) {
			t.Parallel()
			db, n := database(t)
			dead := gone(t)
			put(t, n.Notice, peerNotice(dead, host(), ms(time.Now())))
			h := start(t, "hold", config{DB: db, Wait: NoWait}, traced(t, "renameat2", errno)...)
			require.Contains(t, h.line(t), "held ")
			require.NotEqual(t, dead, look1(t, n.Notice).Info.PID)
			h.say(t, "release")
			require.Equal(t, "released <nil>", h.line(t))
			require.NoFileExists(t, n.Notice)
			require.NoFileExists(t, n.spare())
		})
	}
}

func TestWithoutLinks(t *testing.T) {
	portable.Needs(t, portable.Exchange)
	t.Parallel()
	// FAT and some shared folders have no hard links: no spare name either.
	db, n := database(t)
	h := start(t, "hold", config{DB: db, Wait: NoWait}, traced(t, "link,linkat", "EPERM")...)
	require.Contains(t, h.line(t), "held ")
	require.FileExists(t, n.Notice)
	require.NoFileExists(t, n.spare())
	require.NoError(t, os.Remove(n.Notice))
	require.True(t, eventually(func() bool { _, err := os.Lstat(n.Notice); return err == nil }), "written anew")
	h.say(t, "release")
	require.Equal(t, "released <nil>", h.line(t))
	require.NoFileExists(t, n.Notice)
}

func TestWithoutWatches(t *testing.T) {
	t.Parallel()
	db, n := database(t)
	h := start(t, "hold", config{DB: db}, traced(t, "inotify_init1", "EMFILE")...)
	require.Contains(t, h.line(t), "held ")
	for range 3 {
		require.NoError(t, os.Remove(n.Notice))
		require.True(t, eventually(func() bool { _, err := os.Lstat(n.Notice); return err == nil }))
	}
	h.say(t, "release")
	require.Equal(t, "released <nil>", h.line(t))
}

func TestFailuresLeaveNothing(t *testing.T) {
	t.Parallel()
	for call, errno := range map[string]string{"pwrite64": "ENOSPC", "link,linkat": "EROFS"} {
		t.Run(call+" "+errno, func(t *testing.T) {
			t.Parallel()
			db, n := database(t)
			h := start(t, "hold", config{DB: db, Wait: NoWait}, traced(t, call, errno)...)
			require.True(t, strings.HasPrefix(h.line(t), "error "))
			_ = h.Wait()
			require.NoFileExists(t, n.Notice)
			require.NoDirExists(t, n.State)
			require.NoError(t, attemptOnce(t, db, Options{}))
		})
	}
}

// Something that we may not read came in between judging and exchange: it is not what
// was judged, and goes back.
func TestUnreadableNoticeBeforeTakeOver(t *testing.T) {
	t.Parallel()
	needRoot(t)
	db, n := public(t, 0o777)
	require.NoError(t, attemptOnce(t, db, Options{}))
	require.NoError(t, os.WriteFile(n.Notice, []byte(peerNotice(gone(t), host(), ms(time.Now()))), 0o644))
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // and not unlocked: the thread ends with the goroutine
		_ = unix.Setfsuid(65534)
		l := at(New(db, Options{Wait: NoWait}), "judged", func() {
			_ = unix.Setfsuid(0)
			_ = os.WriteFile(n.Notice+".tmp", []byte("secret"), 0o600)
			_ = os.Rename(n.Notice+".tmp", n.Notice)
			_ = unix.Setfsuid(65534)
		})
		result <- l.Acquire(context.Background())
	}()
	require.ErrorIs(t, <-result, fs.ErrPermission)
	require.Equal(t, "secret", contents(t, n.Notice))
}
