//go:build linux

package storm

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// sysctl sets a switch of the kernel until the test ends.
func sysctl(t *testing.T, name, value string) {
	t.Helper()
	path := "/proc/sys/" + name
	old, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, []byte(value), 0)
	}
	if err != nil {
		t.Skipf("%s cannot be set here: %v", name, err)
	}
	t.Cleanup(func() {
		if err := os.WriteFile(path, old, 0); err != nil {
			t.Error(err)
		}
	})
}

// TestOtherUsers has a user attack the lock of another, root's for the most part, in a
// directory that both can write to, with the kernel's protection of such directories
// and without.
func TestOtherUsers(t *testing.T) {
	needRoot(t)
	for _, protected := range []string{"0", "1"} {
		for _, mode := range []os.FileMode{0o777, 0o777 | os.ModeSticky} {
			t.Run(fmt.Sprintf("protected %s, %v", protected, mode), func(t *testing.T) {
				for _, name := range []string{"symlinks", "hardlinks", "regular", "fifos"} {
					sysctl(t, "fs/protected_"+name, protected)
				}
				attack(t, mode)
			})
		}
	}
}

func attack(t *testing.T, mode os.FileMode) {
	const attacker = 4711
	fresh := func(t *testing.T) (db, state, victim string) {
		dir := scratch(t)
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		db, victim = filepath.Join(dir, "app.db"), scratch(t)
		for _, name := range []string{"token", "notice", "secret"} {
			if err := os.WriteFile(filepath.Join(victim, name), []byte("precious\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		return db, noticeOf(db) + ".d", victim
	}
	whole := func(t *testing.T, victim string) {
		t.Helper()
		r := run(t, exec.Command("sh", "-c", `cd "$1" && ls && cat * && stat -c %U . *`, "sh", victim))
		want := "notice\nsecret\ntoken\n" + strings.Repeat("precious\n", 3) + strings.Repeat("root\n", 4)
		if r.stdout != want {
			t.Errorf("root's files have changed: %q", r.stdout)
		}
	}
	must := func(t *testing.T, name string, args ...string) {
		t.Helper()
		if r := run(t, as(attacker, name, args...)); r.code != 0 {
			t.Fatalf("%s %v: %v", name, args, r)
		}
	}
	everything := func(t *testing.T, db string, code int, says string) {
		t.Helper()
		for _, flags := range [][]string{nil, {"--shared"}} {
			r := run(t, exec.Command(dblock, slices.Concat([]string{"-w", "1", "-d", db}, flags, []string{"--", "echo", "ran"})...))
			if r.code != code || r.stdout != "" {
				t.Errorf("want exit code %d: %v", code, r)
			}
			checkMessage(t, r, says)
		}
		run(t, exec.Command(dblock, "status", "-v", "-d", db))
		run(t, exec.Command(dblock, "force", "--yes", "-d", db))
	}
	t.Run("the state directory is a link", func(t *testing.T) {
		db, state, victim := fresh(t)
		must(t, "ln", "-s", victim, state)
		everything(t, db, 73, "it is a symbolic link")
		whole(t, victim)
	})
	t.Run("the state directory is the attacker's", func(t *testing.T) {
		db, state, victim := fresh(t)
		must(t, "mkdir", state)
		for _, name := range []string{"room", "token", "notice", "turnstile-normal"} {
			must(t, "ln", "-s", filepath.Join(victim, "secret"), filepath.Join(state, name))
		}
		if mode&os.ModeSticky != 0 {
			everything(t, db, 77, "it belongs to user 4711")
		} else {
			everything(t, db, 73, ": ")
		}
		whole(t, victim)
	})
	t.Run("a state file is a link", func(t *testing.T) {
		for _, name := range []string{"room", "token", "turnstile-normal"} {
			for _, kind := range []string{"-s", "-P"} {
				db, state, victim := fresh(t)
				run(t, as(attacker, "mkdir", state))
				if mode&os.ModeSticky != 0 {
					// Root's, and yet open to all.
					os.RemoveAll(state)
					usable(t, db)
					os.Remove(filepath.Join(state, name))
				}
				r := run(t, as(attacker, "ln", kind, filepath.Join(victim, "secret"), filepath.Join(state, name)))
				if r.code != 0 {
					continue // the kernel's protection
				}
				everything(t, db, 73, name+": ")
				whole(t, victim)
			}
		}
	})
}

// TestKilledWhileMaking kills a dblock of one user at every system call of its first
// use of a lock, and has others use it then: nothing that it has made may be closed to them.
func TestKilledWhileMaking(t *testing.T) {
	needRoot(t)
	needTool(t, "strace")
	for _, call := range []string{"mkdirat", "openat", "getdents64", "fchown", "fchmod", "renameat2", "flock", "linkat", "pwrite64", "unlinkat"} {
		t.Run(call, func(t *testing.T) {
			t.Parallel()
			for n, died := 1, true; died; n++ {
				dir := scratch(t)
				if err := os.Chmod(dir, 0o777); err != nil {
					t.Fatal(err)
				}
				db := filepath.Join(dir, "app.db")
				r := run(t, as(4711, "sh", "-c", `umask 077; exec "$@"`, "sh", "strace", "-f", "-o", os.DevNull, "-e", "signal=none",
					"-e", fmt.Sprintf("inject=%s:signal=KILL:when=%d", call, n), "--", dblock, "-d", db, "--", "true"))
				died = r.code == 128+9
				for _, uid := range []uint32{4712, 4711, 0} {
					if r := run(t, as(uid, dblock, "-n", "-d", db, "--", "true")); r.code != 0 {
						t.Errorf("user %d, after user 4711 died at the %d. %s: %v", uid, n, call, r)
					}
				}
				if l := litter(t, db); len(l) > 0 {
					t.Errorf("left behind by one that died at the %d. %s: %v", n, call, l)
				}
				os.RemoveAll(dir)
			}
		})
	}
}
