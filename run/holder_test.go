package run_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dblock-dev/dblock/internal/cli"
	"github.com/dblock-dev/dblock/internal/portable"
	"github.com/dblock-dev/dblock/internal/say"
	"github.com/dblock-dev/dblock/lock"
	"github.com/dblock-dev/dblock/run"
	"github.com/dblock-dev/dblock/run/holdertest"
	"github.com/dblock-dev/dblock/signals"
)

// A command needs no more of what holds its lock than a Holder has.
func TestCommandUnderAnyHolder(t *testing.T) {
	sigs := signals.Listen(0)
	lost := &lock.LostError{Path: "memory", Reason: "it was taken"}
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
		{[]string{"true"}, "check", lost, []string{"check"}},
	} {
		h := holdertest.NewMemory(c.at)
		cmd := &run.Command{Argv: c.argv, OnLost: "term", KillAfter: cli.Duration(10 * time.Second), Orphan: "term"}
		path, err := exec.LookPath(c.argv[0])
		require.NoError(t, err)
		require.Equal(t, c.want, run.Supervise(cmd, h, path, nil, sigs), "%q", c.argv)
		calls := slices.Compact(slices.DeleteFunc(h.Calls(), func(s string) bool { return s == "attend" && c.at == "" }))
		if portable.Half && c.at == "attend" { // what it has started may run on unseen
			c.calls = append(c.calls, "ending", "bequeath")
		}
		require.Equal(t, c.calls, calls, "%q", c.argv)
	}
}

// unseen is a hold that is lost at the very end of the command: whoever attends to it has gone.
type unseen struct{ *holdertest.Memory }

func (unseen) Lost() <-chan struct{} { return nil }

func TestLossAtTheEndIsToldOf(t *testing.T) {
	r, w, err := os.Pipe()
	require.NoError(t, err)
	screen := say.Stderr
	say.Stderr = say.To(int(w.Fd()))
	defer func() { say.Stderr = screen }()
	h := unseen{holdertest.NewMemory("attend")}
	sh, err := exec.LookPath("sleep")
	require.NoError(t, err)
	cmd := &run.Command{Argv: []string{"sleep", "0.1"}, OnLost: "warn", Orphan: "term"}
	require.ErrorIs(t, run.Under(cmd, h, sh, signals.Listen(0)), lock.ErrLost)
	require.True(t, say.Stderr.Flush(10*time.Second))
	require.NoError(t, w.Close())
	said, err := io.ReadAll(r)
	require.NoError(t, err)
	require.Regexp(t, `^dblock: the lock .* was lost: .*; the command had ended\n$`, string(said))
}

func TestMemoryConforms(t *testing.T) {
	t.Parallel()
	holdertest.Conforms(t, func(*testing.T) holdertest.Hold {
		m := holdertest.NewMemory("")
		return holdertest.Hold{
			Holder: m,
			Lose:   func(*testing.T) { m.Lose() },
			Free:   func(*testing.T) bool { return !m.Held() },
		}
	})
}

func TestLocalLockConforms(t *testing.T) {
	t.Parallel()
	for _, mode := range []lock.Mode{lock.Exclusive, lock.Shared} {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			holdertest.Conforms(t, func(t *testing.T) holdertest.Hold {
				db := filepath.Join(t.TempDir(), "app.db")
				l := acquire(t, db, lock.Options{Mode: mode, Unattended: true})
				return holdertest.Hold{
					Holder: l,
					Lose:   func(t *testing.T) { intrude(t, db) },
					Free:   func(t *testing.T) bool { return isFree(t, db) },
				}
			})
		})
	}
}

func TestSetConforms(t *testing.T) {
	t.Parallel()
	holdertest.Conforms(t, func(t *testing.T) holdertest.Hold {
		dir := t.TempDir()
		dbs := []string{filepath.Join(dir, "b.db"), filepath.Join(dir, "a.db")}
		s, err := lock.NewSet(dbs, lock.Options{Unattended: true}, nil)
		require.NoError(t, err)
		require.NoError(t, s.Acquire(context.Background()))
		return holdertest.Hold{
			Holder: s,
			Lose:   func(t *testing.T) { intrude(t, dbs[0]) },
			Free: func(t *testing.T) bool {
				free := 0
				for _, db := range dbs {
					if isFree(t, db) {
						free++
					}
				}
				require.NotEqual(t, 1, free, "all or none")
				return free > 0
			},
		}
	})
}

// A nested hold needs a process around it that holds: the tests of one run in a child of this
// process, which asks it for a lock, and for the end of that.
func TestNestedConforms(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(self, "-test.run=^TestUnderAnotherHold$", "-test.v")
	cmd.Env = append(os.Environ(), envUnder+"=yes")
	requests, asks, err := os.Pipe()
	require.NoError(t, err)
	answers, tells, err := os.Pipe()
	require.NoError(t, err)
	cmd.ExtraFiles = []*os.File{asks, answers}
	out := &strings.Builder{}
	cmd.Stdout, cmd.Stderr = out, out
	require.NoError(t, cmd.Start())
	require.NoError(t, asks.Close())
	held := map[string]*lock.Lock{}
	for in := bufio.NewScanner(requests); in.Scan(); {
		what, db, _ := strings.Cut(in.Text(), " ")
		switch what {
		case "acquire":
			held[db] = acquire(t, db, lock.Options{})
			g, _ := held[db].Grant()
			fmt.Fprintln(tells, g.Holder.Token, g.Names.Notice)
		case "release":
			if err := held[db].Release(); !errors.Is(err, lock.ErrLost) {
				t.Errorf("the lock was not lost: %v", err)
			}
			fmt.Fprintln(tells, "released")
		}
	}
	require.NoError(t, cmd.Wait(), "%s", out)
	require.Contains(t, out.String(), "--- PASS: TestUnderAnotherHold/tells_of_its_loss", "it ran")
	for _, l := range held {
		_ = l.Release()
	}
}

const envUnder = "DBLOCK_TEST_UNDER"

func TestUnderAnotherHold(t *testing.T) {
	if os.Getenv(envUnder) == "" {
		t.Skip("TestNestedConforms runs it")
	}
	asks, answers := os.NewFile(3, "asks"), bufio.NewScanner(os.NewFile(4, "answers"))
	ask := func(t *testing.T, what, db string) string {
		fmt.Fprintln(asks, what, db)
		require.True(t, answers.Scan())
		return answers.Text()
	}
	holdertest.Conforms(t, func(t *testing.T) holdertest.Hold {
		db := filepath.Join(t.TempDir(), "app.db")
		token, notice, _ := strings.Cut(ask(t, "acquire", db), " ")
		t.Setenv(lock.EnvToken, token)
		t.Setenv(lock.EnvPID, strconv.Itoa(os.Getppid()))
		t.Setenv(lock.EnvLockFile, notice)
		l := acquire(t, db, lock.Options{Unattended: true, Wait: lock.NoWait})
		g, _ := l.Grant()
		require.True(t, g.Leaned)
		return holdertest.Hold{
			Holder: l,
			// It is lost when the hold around it ends and it cannot become its own.
			Lose: func(t *testing.T) {
				intrude(t, db)
				ask(t, "release", db)
			},
		}
	})
}

func acquire(t *testing.T, db string, opts lock.Options) *lock.Lock {
	t.Helper()
	l := lock.New(db, opts)
	require.NoError(t, l.Acquire(context.Background()))
	return l
}

func isFree(t *testing.T, db string) bool {
	t.Helper()
	l := lock.New(db, lock.Options{Wait: lock.NoWait})
	err := l.Acquire(context.Background())
	if err == nil {
		require.NoError(t, l.Release())
	}
	return err == nil
}

// intrude puts the notice of a living stranger into the place of the one that is there.
func intrude(t *testing.T, db string) {
	t.Helper()
	n, err := lock.Resolve(db, "")
	require.NoError(t, err)
	host, err := os.Hostname()
	require.NoError(t, err)
	text := fmt.Sprintf(`{"pid":%d,"timestamp":%d,"host":%q,"process":"stranger"}`, os.Getppid(), time.Now().UnixMilli(), host)
	aside := n.Notice + ".aside"
	require.NoError(t, os.WriteFile(aside, []byte(text), 0o644))
	require.NoError(t, os.Rename(aside, n.Notice))
}
