//go:build linux

package storm

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dblock-dev/dblock/internal/portable"
)

// heals removes the notice n times and measures how long it stays away.
func heals(t testing.TB, path string, n int) []time.Duration {
	t.Helper()
	var took []time.Duration
	for range n {
		// dblock can be quicker than the return of our own system call.
		start := time.Now()
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		for inode(path) == 0 {
			if time.Since(start) > time.Second {
				t.Fatalf("removed the %d. time the notice did not come back within a second", len(took)+1)
			}
		}
		took = append(took, time.Since(start))
	}
	return took
}

// TestHealed unlinks the notice, as careless peers do: it must come back sooner
// than they look again, the same as before.
func TestHealed(t *testing.T) {
	t.Run("watched", func(t *testing.T) {
		db := database(t)
		h := startHolder(t, db)
		watched(t, h)
		before, ino := parse(t, noticeOf(db)), inode(noticeOf(db))
		took := heals(t, noticeOf(db), 200)
		t.Logf("200 times: median %v, longest %v", median(took), slices.Max(took))
		limit := 5 * time.Millisecond
		if portable.Half {
			limit = 60 * time.Millisecond // it looks every 20 ms
		}
		if m := median(took); m > limit {
			t.Errorf("median %v", m)
		}
		after := parse(t, noticeOf(db))
		if ino != inode(noticeOf(db)) || before.pid != after.pid || after.timestamp < before.timestamp {
			t.Errorf("before %v, after %v", before, after)
		}
		if code := h.end(); code != 0 || h.stderr.String() != "" {
			t.Errorf("exit code %d, stderr %q", code, h.stderr)
		}
		usable(t, db)
	})
	t.Run("with its spare name", func(t *testing.T) {
		db := database(t)
		h := startHolder(t, db)
		watched(t, h)
		var took []time.Duration
		for range 20 {
			// The spare name follows the notice by a moment.
			eventually(t, 5*time.Second, "the spare name is back", func() bool {
				return os.Remove(filepath.Join(noticeOf(db)+".d", "notice")) == nil
			})
			took = append(took, heals(t, noticeOf(db), 1)...)
		}
		t.Logf("20 times: median %v, longest %v", median(took), slices.Max(took))
		if code := h.end(); code != 0 || h.stderr.String() != "" {
			t.Errorf("exit code %d, stderr %q", code, h.stderr)
		}
		usable(t, db)
	})
	t.Run("young", func(t *testing.T) {
		// In the first 2 s there is no watch, only a look every 20 ms.
		var took []time.Duration
		for range 20 {
			db := database(t)
			h := startHolder(t, db)
			took = append(took, heals(t, noticeOf(db), 1)...)
			if code := h.end(); code != 0 {
				t.Errorf("exit code %d, stderr %q", code, h.stderr)
			}
		}
		t.Logf("20 times: median %v, longest %v", median(took), slices.Max(took))
		if m := median(took); m > 60*time.Millisecond {
			t.Errorf("median %v: peers look again after 100 ms", m)
		}
	})
	t.Run("shared", func(t *testing.T) {
		db := database(t)
		a, b := startHolder(t, db, "--shared"), startHolder(t, db, "--shared")
		for _, h := range []*holder{a, b} {
			watched(t, h)
		}
		took := heals(t, noticeOf(db), 50)
		t.Logf("two readers, 50 times: median %v, longest %v", median(took), slices.Max(took))
		if code := a.end(); code != 0 {
			t.Errorf("exit code %d, stderr %q", code, a.stderr)
		}
		if inode(noticeOf(db)) == 0 {
			t.Error("the first one out took the notice along")
		}
		heals(t, noticeOf(db), 1)
		if code := b.end(); code != 0 {
			t.Errorf("exit code %d, stderr %q", code, b.stderr)
		}
		usable(t, db)
	})
}

// BenchmarkHeal measures how long the path is missing once the watch is up.
func BenchmarkHeal(b *testing.B) {
	db := database(b)
	h := startHolder(b, db)
	watched(b, h)
	for b.Loop() {
		heals(b, noticeOf(db), 1)
	}
}

type seen struct {
	pid       int
	timestamp int64
}

func parse(t testing.TB, path string) seen {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	field := func(name string) int64 {
		_, rest, ok := bytes.Cut(b, []byte(`"`+name+`":`))
		if !ok {
			t.Fatalf("no %s in %q", name, b)
		}
		n, err := strconv.ParseInt(strings.Fields(strings.ReplaceAll(string(rest), ",", " "))[0], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	return seen{int(field("pid")), field("timestamp")}
}

// usurp puts a peer's notice in the place of dblock's, the way that peers do it.
func usurp(t testing.TB, db string) []byte {
	t.Helper()
	temp := noticeOf(db) + ".tmp"
	text := fmt.Appendf(nil, `{"pid":%d,"timestamp":%d,"host":"elsewhere","process":"usurper"}`, os.Getpid(), time.Now().UnixMilli())
	if err := os.WriteFile(temp, text, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(temp, noticeOf(db)); err != nil {
		t.Fatal(err)
	}
	return text
}

// TestLost takes the lock away in several ways.
func TestLost(t *testing.T) {
	type way struct {
		name  string
		flags []string
		take  func(t *testing.T, db string) (stays []byte) // what must be at the path afterwards
		says  string
	}
	ways := []way{
		{"replaced", nil, func(t *testing.T, db string) []byte { return usurp(t, db) }, "it was taken by usurper"},
		{"room deleted", nil, func(t *testing.T, db string) []byte {
			if err := os.RemoveAll(noticeOf(db) + ".d"); err != nil {
				t.Fatal(err)
			}
			return nil
		}, "its state directory was removed"},
		{"git clean", nil, func(t *testing.T, db string) []byte {
			needTool(t, "git")
			dir := filepath.Dir(db)
			for _, args := range [][]string{{"init", "-q", "."}, {"clean", "-q", "-fdx"}} {
				cmd := exec.Command("git", args...)
				cmd.Dir = dir
				// It complains about what dblock removes while it cleans.
				_ = cmd.Run()
			}
			return nil
		}, "its state directory was removed"},
		// Of a directory that is moved its files are not told: the next beat notices.
		{"state directory moved", []string{"--stale-timeout", "3s"}, func(t *testing.T, db string) []byte {
			if err := os.Rename(noticeOf(db)+".d", noticeOf(db)+".old"); err != nil {
				t.Fatal(err)
			}
			return nil
		}, "its state directory was removed"},
	}
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			db := database(t)
			h := startHolder(t, db, w.flags...)
			watched(t, h)
			start := time.Now()
			stays := w.take(t, db)
			if code := h.wait(); code != 69 {
				t.Errorf("exit code %d", code)
			}
			t.Logf("ended %v later", time.Since(start))
			if !strings.Contains(h.stdout.String(), "terminated") {
				t.Errorf("the command was not terminated: %q", h.stdout)
			}
			checkMessage(t, result{stderr: h.stderr.String()}, w.says)
			b, err := os.ReadFile(noticeOf(db))
			switch {
			case stays != nil && !bytes.Equal(b, stays):
				t.Errorf("the new owner's notice was touched: %q, %v", b, err)
			case stays == nil && err == nil:
				t.Errorf("our notice is still there: %q", b)
			}
			if stays != nil {
				if r := run(t, exec.Command(dblock, "-n", "-d", db, "--", "true")); r.code != 75 {
					t.Errorf("the new owner is not respected: %v", r)
				}
				os.Remove(noticeOf(db))
			}
			os.RemoveAll(noticeOf(db) + ".old")
			usable(t, db)
		})
	}
	t.Run("before the watch", func(t *testing.T) {
		t.Parallel()
		db := database(t)
		h := startHolder(t, db)
		usurp(t, db)
		start := time.Now()
		if code := h.wait(); code != 69 {
			t.Errorf("exit code %d", code)
		}
		t.Logf("ended %v later", time.Since(start))
	})
	t.Run("kill", func(t *testing.T) {
		t.Parallel()
		db := database(t)
		h := startHolder(t, db, "--on-lost=kill")
		usurp(t, db)
		if code := h.wait(); code != 69 || strings.Contains(h.stdout.String(), "terminated") {
			t.Errorf("exit code %d, stdout %q", code, h.stdout)
		}
	})
	t.Run("warn", func(t *testing.T) {
		t.Parallel()
		db := database(t)
		h := startHolder(t, db, "--on-lost=warn")
		stays := usurp(t, db)
		eventually(t, 5*time.Second, "it has warned", func() bool { return strings.Contains(h.stderr.String(), "was lost") })
		if code := h.end(); code != 69 || !strings.Contains(h.stdout.String(), "done") {
			t.Errorf("exit code %d, stdout %q", code, h.stdout)
		}
		if b, _ := os.ReadFile(noticeOf(db)); !bytes.Equal(b, stays) {
			t.Errorf("the new owner's notice was touched: %q", b)
		}
	})
	t.Run("kill-after", func(t *testing.T) {
		t.Parallel()
		db := database(t)
		cmd := exec.Command(dblock, "-d", db, "--kill-after", "300ms", "--", "sh", "-c", `trap "" TERM; exec "$0"`, self)
		h := holding(t, db, cmd)
		// The helper listens to TERM itself; freeze it, so that it cannot end.
		_ = syscall.Kill(h.child, syscall.SIGSTOP)
		usurp(t, db)
		if code := h.wait(); code != 69 {
			t.Errorf("exit code %d", code)
		}
	})
}

// TestStopped stops dblock, and its command with it, while peers go on.
func TestStopped(t *testing.T) {
	stop := func(t *testing.T, h *holder, sig syscall.Signal) {
		h.signal(sig)
		eventually(t, 5*time.Second, "it is stopped", func() bool { return state(h.cmd.Process.Pid) == 'T' })
	}
	for _, young := range []bool{true, false} {
		t.Run(fmt.Sprintf("replaced while stopped, watched %v", !young), func(t *testing.T) {
			t.Parallel()
			db := database(t)
			h := startHolder(t, db)
			if !young {
				watched(t, h)
			}
			stop(t, h, syscall.SIGSTOP)
			stays := usurp(t, db)
			start := time.Now()
			h.signal(syscall.SIGCONT)
			if code := h.wait(); code != 69 {
				t.Errorf("exit code %d", code)
			}
			took := time.Since(start)
			t.Logf("ended %v after it was continued", took)
			if took > 2*time.Second {
				t.Errorf("it took %v", took)
			}
			if b, _ := os.ReadFile(noticeOf(db)); !bytes.Equal(b, stays) {
				t.Errorf("the new owner's notice was touched: %q", b)
			}
		})
	}
	t.Run("removed while stopped", func(t *testing.T) {
		t.Parallel()
		db := database(t)
		h := startHolder(t, db)
		stop(t, h, syscall.SIGSTOP)
		if err := os.Remove(noticeOf(db)); err != nil {
			t.Fatal(err)
		}
		h.signal(syscall.SIGCONT)
		eventually(t, 5*time.Second, "the notice is back", func() bool { return inode(noticeOf(db)) != 0 })
		if code := h.end(); code != 0 {
			t.Errorf("exit code %d, stderr %q", code, h.stderr)
		}
		usable(t, db)
	})
	t.Run("dated ahead while stopped by TSTP", func(t *testing.T) {
		t.Parallel()
		db := database(t)
		h := startHolder(t, db)
		stop(t, h, syscall.SIGTSTP)
		ahead := time.Until(time.UnixMilli(parse(t, noticeOf(db)).timestamp))
		if ahead < 23*time.Hour || ahead > 25*time.Hour {
			t.Errorf("dated %v ahead", ahead)
		}
		// Other dblocks are kept out as before.
		if r := run(t, exec.Command(dblock, "-n", "-d", db, "--", "true")); r.code != 75 {
			t.Errorf("%v", r)
		}
		h.signal(syscall.SIGCONT)
		eventually(t, 5*time.Second, "the present again", func() bool {
			return time.UnixMilli(parse(t, noticeOf(db)).timestamp).Before(time.Now().Add(time.Minute))
		})
		_ = syscall.Kill(h.child, syscall.SIGCONT)
		if code := h.end(); code != 0 {
			t.Errorf("exit code %d, stderr %q", code, h.stderr)
		}
		usable(t, db)
	})
	t.Run("a transient error is not a loss", func(t *testing.T) {
		t.Parallel()
		needTool(t, "strace")
		for _, errno := range []string{"EIO", "ESTALE", "EACCES"} {
			db := database(t)
			usable(t, db)
			// The room is looked at every 20 ms at first. strace counts by thread, so
			// which looks fail is not the same each time; none of them may matter.
			out := filepath.Join(scratch(t), "trace")
			r := run(t, exec.Command("strace", "-f", "-o", out, "-e", "signal=none", "-e", "trace=newfstatat",
				"-P", noticeOf(db)+".d/room", "-e", "inject=newfstatat:error="+errno+":when=2+", "--", dblock, "-d", db, "--", "sleep", "0.3"))
			if r.code != 0 || r.stderr != "" {
				t.Errorf("%s: %v", errno, r)
			}
			if b, _ := os.ReadFile(out); !strings.Contains(string(b), "INJECTED") {
				t.Errorf("%s: nothing failed", errno)
			}
			usable(t, db)
		}
	})
}
