//go:build linux

package test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/internal/portable"
)

// doctorReport is the JSON of dblock doctor.
type doctorReport struct {
	Version   int
	Database  string
	LockFile  string `json:"lock_file"`
	Directory string
	Checks    []struct{ Name, Level, Found, Why, Do string }
	Problems  int
	Warnings  int
}

// bad lists the names of the checks that are not ok, with their levels.
func (r doctorReport) bad() (all []string) {
	for _, c := range r.Checks {
		if c.Level != "ok" {
			all = append(all, c.Level+" "+c.Name)
		}
	}
	return all
}

// found is what a check says; all of it that it says if it is said several times.
func (r doctorReport) found(name string) string {
	var all []string
	for _, c := range r.Checks {
		if c.Name == name {
			all = append(all, c.Found)
		}
	}
	return strings.Join(all, "\n")
}

// report reads what a doctor has said, and compares its counts and its exit code with it.
func report(t *testing.T, r result) (rep doctorReport) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(r.stdout), &rep), "%s%s", r.stdout, r.stderr)
	count := func(level string) (n int) {
		for _, c := range rep.Checks {
			if c.Level == level {
				n++
			}
		}
		return n
	}
	require.Equal(t, count("problem"), rep.Problems)
	require.Equal(t, count("warning"), rep.Warnings)
	require.Equal(t, map[bool]int{false: 0, true: 1}[rep.Problems > 0], r.code(), r.stderr)
	return rep
}

// clinic is a directory with a database, and nothing that a doctor could find fault with.
func clinic(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "x.db"), []byte("x"), 0o644))
	return dir
}

func doctor(t *testing.T, dir string, env ...string) doctorReport {
	t.Helper()
	return report(t, finish(t, with(command(t, dir, "doctor", "--json", "-d", "x.db"), env...)))
}

// files lists all there is in a directory, with the times of change.
func files(t *testing.T, dir string) (all []string) {
	t.Helper()
	require.NoError(t, filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil && path != dir {
			all = append(all, fmt.Sprint(path, info.Mode(), info.Size(), info.ModTime()))
		}
		return err
	}))
	return all
}

// Where all is well nothing else is said, and nothing is left.
func TestDoctorOfAHealthyDirectory(t *testing.T) {
	t.Parallel()
	dir := clinic(t)
	for _, used := range []bool{false, true} {
		if used {
			require.Zero(t, execute(t, dir, "-d", "x.db", "--", "true").code())
		}
		before := files(t, dir)
		r := doctor(t, dir)
		require.Empty(t, r.bad(), "%+v", r)
		require.Equal(t, before, files(t, dir))
		require.Equal(t, 1, r.Version)
		require.Equal(t, filepath.Join(dir, "x.db"), r.Database)
		require.Equal(t, filepath.Join(dir, ".x.lock"), r.LockFile)
		require.Equal(t, dir, r.Directory)
		for _, c := range r.Checks {
			require.NotEmpty(t, c.Found, c.Name)
		}
	}
	hold(t, dir, "-d", "x.db", "-p", "cli")
	r := doctor(t, dir)
	require.Empty(t, r.bad(), "%+v", r)
	require.Contains(t, r.found("lock"), "held by cli (pid ")
	letGo(t, dir)
}

// docs/doctor.md has each check by its name, and no other.
func TestDoctorChecksAreDocumented(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../docs/doctor.md")
	require.NoError(t, err)
	var documented []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\|").FindAllStringSubmatch(string(b), -1) {
		documented = append(documented, m[1])
	}
	for _, c := range doctor(t, clinic(t)).Checks {
		require.Contains(t, documented, c.Name)
	}
}

// What people see who look at it for the first time.
func TestDoctorOnATerminal(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("who can see all processes sees this screen")
	}
	dir := clinic(t)
	tm := newTerminal(t, dir, 80, "NO_COLOR=1", "PATH="+filepath.Dir(binary)+":/usr/bin:/bin")
	tm.typed("clear; dblock doctor -d x.db; echo code=$?\n")
	tm.expect(`code=0`)
	shown := strings.ReplaceAll(tm.shown(), "\r\n", "\n")
	shown = shown[strings.LastIndex(shown, "Database: "):]
	shown = shown[:strings.Index(shown, "code=0")]
	shown = strings.ReplaceAll(shown, dir, "DIR")
	shown = regexp.MustCompile(`dblock \d\S+ \([^)]+\)\n`).ReplaceAllString(shown, "dblock VERSION\n")
	shown = regexp.MustCompile(`(filesystem   ).*`).ReplaceAllString(shown, "${1}KIND")
	shown = regexp.MustCompile(`(namespaces   ).*(\n {20}.*)*`).ReplaceAllString(shown, "${1}WHICH")
	shown = regexp.MustCompile(`(no other dblock on PATH).*(\n +dblock-.*)?`).ReplaceAllString(shown, "$1")
	want := `Database: DIR/x.db
Lock file: DIR/.x.lock

  ok       directory    you can make files in it
  ok       filesystem   KIND
  ok       flock        two processes exclude each other; a lock is released by
                        closing, and when its process is killed
  ok       ofd-locks    locks of a part of a file work, by the open file
  ok       link         a file can have a second name
  ok       exchange     two files can be exchanged in one step
  ok       noreplace    renaming without replacing works
  ok       unlink       an open file stays usable when it is deleted
  ok       events       the kernel tells at once what another process does to a
                        file
  ok       file-times   the filesystem's clock is this machine's
  ok       permissions  nobody else can disturb the lock
  ok       lock         free
  ok       openers      nobody has the database open without the lock
  ok       names        the database has one name
  ok       other-locks  none beside the database
  ok       leftovers    none
  ok       clock        it agrees with the dates of the lock
  ok       limits       enough processes, open files and inotify watches are
                        left
  ok       namespaces   WHICH
  ok       environment  no variable of dblock's is set
  ok       binary       dblock VERSION
  ok       versions     no other dblock on PATH

Locking works here.
`
	if portable.Half { // which does without those, or cannot look at them
		want = regexp.MustCompile(`(?m)^  ok       (filesystem|ofd-locks|exchange|noreplace|events|openers|limits|namespaces) .*\n( {20,}.*\n)*`).ReplaceAllString(want, "")
	}
	require.Equal(t, want, shown)
}

// Colours are for terminals, and for those who want them.
func TestDoctorColors(t *testing.T) {
	t.Parallel()
	dir := clinic(t)
	require.NotContains(t, execute(t, dir, "doctor", "-d", "x.db").stdout, "\x1b")
	tm := newTerminal(t, dir, 80, "TERM=xterm")
	tm.typed("dblock doctor -d x.db; echo code=$?\n")
	tm.expect(`code=0`)
	require.Contains(t, tm.shown(), "  \x1b[32mok       \x1b[0mdirectory")
}

// Without a database the present directory is examined, and inside a hold its database.
func TestDoctorOfWhat(t *testing.T) {
	t.Parallel()
	dir := clinic(t)
	r := report(t, execute(t, dir, "doctor", "--json"))
	require.Empty(t, r.bad())
	require.Equal(t, dir, r.Directory)
	require.Empty(t, r.Database+r.LockFile)
	require.Contains(t, execute(t, dir, "doctor").stdout, "Directory: "+dir+"\n")
	r = report(t, finish(t, with(command(t, dir, "doctor", "--json"), "DBLOCK_DB=x.db")))
	require.Equal(t, filepath.Join(dir, "x.db"), r.Database)
	r = report(t, execute(t, dir, "-d", "x.db", "--", binary, "doctor", "--json"))
	require.Equal(t, filepath.Join(dir, "x.db"), r.Database)
	require.Empty(t, r.bad())
	require.Contains(t, r.found("environment"), "inside a hold of "+dir+"/.x.lock")

	two := execute(t, dir, "doctor", "-d", "x.db", "-d", "y.db")
	require.Zero(t, two.code())
	require.Equal(t, 2, strings.Count(two.stdout, "Locking works here."))
	require.Contains(t, two.stdout, "there is no database yet")
	require.Equal(t, 64, execute(t, dir, "doctor", "--json", "-d", "x.db", "-d", "y.db").code())
	require.Equal(t, 64, execute(t, dir, "doctor", "x.db").code())
	require.Equal(t, 64, execute(t, dir, "doctor", "-d", "").code())
	missing := execute(t, dir, "doctor", "-d", "none/x.db")
	require.Equal(t, 1, missing.code())
	require.Contains(t, missing.stdout, "  problem  directory    there is no directory "+dir+"/none")
	require.Contains(t, missing.stdout, "Locking does not work here as it should: 1 problem.\n")
}

// A doctor that is killed leaves nothing: neither by SIGKILL, at whatever moment, nor by Ctrl-C.
func TestDoctorKilled(t *testing.T) {
	t.Parallel()
	dir := clinic(t)
	before := files(t, dir)
	for _, sig := range []unix.Signal{unix.SIGKILL, unix.SIGINT} {
		met := 0
		for i := range 40 {
			c := command(t, dir, "doctor", "-d", "x.db")
			c.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
			start(t, c)
			rooms := func() []string { found, _ := filepath.Glob(filepath.Join(dir, ".dblock-doctor-*")); return found }
			gone := make(chan struct{})
			go func() { _ = c.Wait(); close(gone) }()
			await(t, "it is at work, or has ended", func() bool {
				select {
				case <-gone:
					return true
				default:
					return len(rooms()) > 0
				}
			})
			<-time.After(time.Duration(i%8) * 500 * time.Microsecond)
			if len(rooms()) > 0 {
				met++
			}
			if sig == unix.SIGINT {
				_ = unix.Kill(-c.Process.Pid, sig)
			} else {
				_ = unix.Kill(c.Process.Pid, sig)
			}
			<-gone
			await(t, "what it made is removed", func() bool { return len(rooms()) == 0 })
		}
		require.Positive(t, met)
		require.Equal(t, before, files(t, dir))
	}
}

// What is wrong with a directory, an environment or a database is found, and nothing else is said.
func TestDoctorFinds(t *testing.T) {
	t.Parallel()
	write := func(t *testing.T, dir, name, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	used := func(t *testing.T, dir string) {
		require.Zero(t, execute(t, dir, "-d", "x.db", "--", "true").code())
	}
	for _, c := range []struct {
		name    string
		prepare func(t *testing.T, dir string)
		env     []string
		bad     []string
		found   string // what the first of them says
		do      string
	}{
		{"writable by all", func(t *testing.T, dir string) { require.NoError(t, os.Chmod(dir, 0o777)) }, nil,
			[]string{"warning permissions"}, "everybody may write in the directory (mode 0777)", "chmod o-w DIR"},
		{"sticky", func(t *testing.T, dir string) { require.NoError(t, os.Chmod(dir, 0o777|os.ModeSticky)) }, nil,
			[]string{"warning permissions"}, "everybody may make files in the directory (sticky, mode 1777)", "directory of its own"},
		{"state directory is a link", func(t *testing.T, dir string) {
			require.NoError(t, os.Symlink("/tmp", filepath.Join(dir, ".x.lock.d")))
		}, nil, []string{"problem queue"}, ".x.lock.d is a symbolic link", "mv DIR/.x.lock.d "},
		{"state file has two names", func(t *testing.T, dir string) {
			used(t, dir)
			require.NoError(t, os.Link(filepath.Join(dir, ".x.lock.d/token"), filepath.Join(dir, "second")))
		}, nil, []string{"problem queue"}, ".x.lock.d/token has a second name", "remove it"},
		{"queue is closed to the group", func(t *testing.T, dir string) {
			used(t, dir)
			require.NoError(t, os.Chmod(dir, 0o775))
		}, nil, []string{"warning queue"}, "files in .x.lock.d are closed to the group", "chmod -R g+rwX DIR/.x.lock.d"},
		{"no lock file", func(t *testing.T, dir string) { write(t, dir, ".x.lock", strings.Repeat("x", 5000)) }, nil,
			[]string{"problem lock"}, "what is at the lock file's path is no lock file", "move it away"},
		{"dead peer", func(t *testing.T, dir string) { foreign(t, dir, deadPID(t), thisHost(t), 0) }, nil, nil, "", ""},
		{"notice of the future", func(t *testing.T, dir string) { foreign(t, dir, 1, "elsewhere", -time.Hour) }, nil,
			[]string{"warning clock"}, "the lock file's date is in the future", "clock was set back"},
		{"clock that was set", func(t *testing.T, dir string) {
			used(t, dir)
			token := filepath.Join(dir, ".x.lock.d/token")
			b, err := os.ReadFile(token)
			require.NoError(t, err)
			numbers := strings.Fields(string(b))
			booted, err := strconv.ParseInt(numbers[4], 10, 64)
			require.NoError(t, err)
			write(t, dir, ".x.lock.d/token", strings.Replace(string(b), numbers[4], strconv.FormatInt(booted-3600_000, 10), 1))
		}, nil, []string{"warning clock"}, "it was set since the last hold", "nothing"},
		{"hard links", func(t *testing.T, dir string) {
			require.NoError(t, os.Link(filepath.Join(dir, "x.db"), filepath.Join(dir, "second")))
		}, nil, []string{"warning names"}, "the database has 2 hard links", "-samefile DIR/x.db"},
		{"leftovers", func(t *testing.T, dir string) {
			require.NoError(t, os.Mkdir(filepath.Join(dir, ".dblock-doctor-1-2"), 0o700))
			old := time.Now().Add(-time.Hour)
			require.NoError(t, os.Chtimes(filepath.Join(dir, ".dblock-doctor-1-2"), old, old))
		}, nil, []string{"warning leftovers"}, "1 temporary file", "rm -r DIR/.dblock-doctor-1-2"},
		{"proper-lockfile", func(t *testing.T, dir string) { require.NoError(t, os.Mkdir(filepath.Join(dir, "x.db.lock"), 0o755)) }, nil,
			[]string{"warning other-locks"}, "x.db.lock is a lock of proper-lockfile (Node)", "which program"},
		{"editor", func(t *testing.T, dir string) {
			require.NoError(t, os.Symlink("me@here.1", filepath.Join(dir, ".#x.db")))
		}, nil,
			[]string{"warning other-locks"}, ".#x.db: an editor", "close it"},
		{"misspelt variable", nil, []string{"DBLOCK_WIAT=5"}, []string{"warning environment"}, "there is no variable DBLOCK_WIAT", "did you mean DBLOCK_WAIT?"},
		{"own variables", nil, []string{"DBLOCK_WAIT=5"}, nil, "", ""},
		{"stale variables", nil, []string{"DBLOCK_HOLD_LOCK_FILE=/none/.x.lock", "DBLOCK_HOLD_TOKEN=1", "DBLOCK_HOLD_PID=1"},
			[]string{"warning environment"}, "DBLOCK_HOLD_... name a hold of /none/.x.lock that is over", "unset DBLOCK_HOLD_"},
		{"opened for writing", func(t *testing.T, dir string) { sleeping(t, dir, os.O_RDWR) }, nil,
			[]string{"warning openers"}, "has the database open without the lock, for writing", "start it with dblock"},
		{"locked by flock", func(t *testing.T, dir string) {
			need(t, "flock")
			flock := exec.Command("flock", "x.db", "sh", "-c", ": >in; exec sleep 1000")
			flock.Dir = dir
			flock.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
			start(t, flock)
			t.Cleanup(func() { _ = unix.Kill(-flock.Process.Pid, unix.SIGKILL) })
			await(t, "it has the lock", func() bool { return exists(dir, "in") })
		}, nil, []string{"warning openers", "warning openers"}, "has the database open without the lock, and has locked it for itself", "start it with dblock"},
		{"hot journal", func(t *testing.T, dir string) {
			need(t, "python3")
			require.NoError(t, os.Remove(filepath.Join(dir, "x.db")))
			killed := exec.Command("python3", "-c", `import os, signal, sqlite3
c = sqlite3.connect("x.db"); c.execute("create table t(x)"); c.execute("insert into t values(zeroblob(100000))"); c.commit()
c.execute("pragma cache_size=1"); c.execute("update t set x = randomblob(1000000)"); c.execute("insert into t select randomblob(1000000)")
os.kill(os.getpid(), signal.SIGKILL)`)
			killed.Dir = dir
			require.Error(t, killed.Run())
			require.True(t, exists(dir, "x.db-journal"))
		}, nil, []string{"warning other-locks"}, "x.db-journal is hot", "do not remove"},
		{"SQLite without a lock", func(t *testing.T, dir string) { sqlite(t, dir) }, nil,
			[]string{"warning openers"}, "has the database open without the lock", "start it with dblock"},
		{"SQLite under the lock", func(t *testing.T, dir string) { sqlite(t, dir, binary, "-d", "x.db", "--") }, nil, nil, "", ""},
		{"mapped without a descriptor", func(t *testing.T, dir string) {
			need(t, "python3")
			mapped := exec.Command("python3", "-c", `import ctypes, os, time
fd = os.open("x.db", os.O_RDWR)
mmap = ctypes.CDLL(None).mmap
mmap.restype = ctypes.c_void_p
mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
mmap(None, 4096, 3, 1, fd, 0)
os.close(fd)
open("in", "w"); time.sleep(1000)`)
			mapped.Dir = dir
			start(t, mapped)
			await(t, "it has mapped the file", func() bool { return exists(dir, "in") })
		}, nil, []string{"warning openers"}, "has the database open without the lock, for writing", "start it with dblock"},
	} {
		t.Run(c.name, func(t *testing.T) {
			switch {
			case slices.Contains(c.bad, "warning openers"):
				portable.Needs(t, portable.Processes)
			case c.name == "clock that was set":
				portable.Needs(t, portable.Linux) // when it was booted
			}
			t.Parallel()
			dir := clinic(t)
			if c.prepare != nil {
				c.prepare(t, dir)
			}
			before := files(t, dir)
			r := doctor(t, dir, c.env...)
			require.Equal(t, c.bad, r.bad(), "%+v", r)
			for _, check := range r.Checks {
				if check.Level == "ok" {
					continue
				}
				require.Contains(t, check.Found, c.found)
				require.Contains(t, check.Do, strings.ReplaceAll(c.do, "DIR", dir))
				require.NotEmpty(t, check.Why+check.Do)
				break
			}
			if !strings.Contains(c.name, "under the lock") { // its notice is alive
				require.Equal(t, before, files(t, dir))
			}
		})
	}
}

// sqlite opens the database in the middle of a transaction, by itself or under a command.
func sqlite(t *testing.T, dir string, under ...string) {
	t.Helper()
	need(t, "python3")
	require.NoError(t, os.Remove(filepath.Join(dir, "x.db")))
	args := append(under, "python3", "-c", `import sqlite3, time
c = sqlite3.connect("x.db"); c.execute("create table t(x)"); c.execute("begin immediate"); c.execute("insert into t values(1)")
open("in", "w"); time.sleep(1000)`)
	c := exec.Command(args[0], args[1:]...)
	c.Dir = dir
	c.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	start(t, c)
	t.Cleanup(func() { _ = unix.Kill(-c.Process.Pid, unix.SIGKILL) })
	await(t, "it is in a transaction", func() bool { return exists(dir, "in") })
}

// Another dblock on PATH is named if it has another version, and one that does not answer does not
// keep the doctor.
func TestDoctorVersions(t *testing.T) {
	t.Parallel()
	dir, bin := clinic(t), t.TempDir()
	for _, c := range []struct{ script, found string }{
		{"echo 'dblock v0.0.1 (abc)'", "another dblock: v0.0.1 (abc); this one is "},
		{"exec sleep 100", "it does not tell its version"},
		{"sleep 100 & wait", "it does not tell its version"},
	} {
		executable(t, filepath.Join(bin, "dblock"), []byte("#!/bin/sh\n"+c.script+"\n"))
		executable(t, filepath.Join(bin, "dblock-report"), []byte("#!/bin/sh\n"))
		begin := time.Now()
		r := doctor(t, dir, "PATH="+bin+":/usr/bin:/bin")
		require.Equal(t, []string{"warning versions"}, r.bad())
		require.Contains(t, r.found("versions"), c.found)
		require.Contains(t, r.found("versions"), "the first on PATH")
		require.Less(t, time.Since(begin), 15*time.Second)
	}
	require.NoError(t, os.Remove(filepath.Join(bin, "dblock")))
	require.Contains(t, doctor(t, dir, "PATH="+bin+":/usr/bin:/bin").found("versions"), "companions: dblock-report")
}

// Low limits are found: of open files, of processes, and of events in a user namespace.
func TestDoctorLimits(t *testing.T) {
	portable.Needs(t, portable.Linux)
	t.Parallel()
	dir := clinic(t)
	sh := func(script string, args ...string) doctorReport {
		args = append(args, "sh", "-c", script, binary)
		c := exec.Command(args[0], args[1:]...)
		c.Dir = dir
		r := finish(t, c)
		if r.stdout == "" {
			t.Skip("not to be arranged here: ", r.stderr)
		}
		return report(t, r)
	}
	r := sh(`ulimit -n 50; exec "$0" doctor --json -d x.db`)
	require.Equal(t, []string{"warning limits"}, r.bad())
	require.Contains(t, r.found("limits"), "a process may have 50 open files")

	need(t, "unshare")
	if os.Getuid() == 0 {
		need(t, "setpriv", "prlimit")
		program, err := os.ReadFile(binary)
		require.NoError(t, err)
		reachable := filepath.Join(dir, "dblock")
		executable(t, reachable, program)
		require.NoError(t, os.Chmod(filepath.Dir(dir), 0o755))
		require.NoError(t, os.Mkdir(filepath.Join(dir, "own"), 0o755))
		require.NoError(t, os.Chown(filepath.Join(dir, "own"), 54321, 54321))
		r = sh(`PATH=/usr/bin:/bin exec ./dblock doctor --json -d own/x.db`, "setpriv", "--reuid", "54321", "--regid", "54321", "--clear-groups", "prlimit", "--nproc=35")
		require.Equal(t, []string{"warning limits"}, r.bad(), "%+v", r)
		require.Regexp(t, `this user has \d+ threads, and may have 35`, r.found("limits"))
	}

	r = sh(`echo 0 >/proc/sys/user/max_inotify_instances && exec "$0" doctor --json -d x.db`, "unshare", "--user", "--map-root-user")
	require.Equal(t, []string{"warning events", "warning limits"}, r.bad())
	require.Regexp(t, `this user has \d+ of 0 inotify instances`, r.found("limits"))
}

// Users who may not do something there, and those in whose way others can stand.
func TestDoctorOfOtherUsers(t *testing.T) {
	t.Parallel()
	needRoot(t)
	need(t, "setpriv")
	dir := clinic(t)
	open := func(path string) {
		for ; path != "/tmp" && path != "/"; path = filepath.Dir(path) {
			require.NoError(t, os.Chmod(path, 0o755))
		}
	}
	open(dir)
	reachable := filepath.Join(dir, "dblock")
	program, err := os.ReadFile(binary)
	require.NoError(t, err)
	executable(t, reachable, program)
	nobody := func(db string) doctorReport {
		c := exec.Command("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", reachable, "doctor", "--json", "-d", db)
		c.Dir = dir
		return report(t, finish(t, with(c, "PATH=/usr/bin:/bin")))
	}
	r := nobody("x.db")
	require.Equal(t, []string{"problem directory"}, r.bad())
	require.Regexp(t, `you may not make files in it \(it belongs to root, mode 0755\)`, r.found("directory"))
	if !portable.Half { // which never looks at them
		require.Contains(t, r.found("openers"), "could not be looked at")
	}

	require.NoError(t, os.Mkdir(filepath.Join(dir, "own"), 0o755))
	require.NoError(t, os.Chown(filepath.Join(dir, "own"), 65534, 65534))
	require.Empty(t, nobody("own/x.db").bad())
	r = report(t, execute(t, dir, "doctor", "--json", "-d", "own/x.db"))
	require.Equal(t, []string{"warning permissions"}, r.bad())
	require.Regexp(t, `you are root, and the directory belongs to user`, r.found("permissions"))

	require.NoError(t, os.Chmod(filepath.Join(dir, "own"), 0o777|os.ModeSticky))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "own/.x.lock.d"), 0o777))
	require.NoError(t, os.Chown(filepath.Join(dir, "own/.x.lock.d"), 12345, 12345))
	require.True(t, slices.Contains(nobody("own/x.db").bad(), "problem queue"))
}

// Mounts of other kinds: in memory, over another, read-only, a file by itself; and one that does
// not answer any more, which hangs nobody.
func TestDoctorOfMounts(t *testing.T) {
	t.Parallel()
	needRoot(t)
	need(t, "unshare", "python3")
	for _, c := range []struct {
		name, prepare string
		bad           []string
		found         string
	}{
		{"tmpfs", "mount -t tmpfs none m", nil, "tmpfs, in memory"},
		{"overlay", "mount -t tmpfs none m && mkdir m/a m/b m/c && cp x.db m/a && mount -t overlay none -o lowerdir=m/a,upperdir=m/b,workdir=m/c m", nil, "overlay, a container's own"},
		{"read-only", "mount --bind m m && mount -o remount,ro,bind m", []string{"problem directory", "problem filesystem"}, "the filesystem is read-only"},
		{"full", "mount -t tmpfs -o size=4k,nr_inodes=2 none m && touch m/x.db", []string{"problem directory"}, "no room for another file"},
		{"no proc", "umount -l /proc", []string{"warning namespaces"}, "there is no /proc"},
		{"queue elsewhere", "mkdir m/.x.lock.d && mount -t tmpfs none m/.x.lock.d", []string{"warning filesystem"}, "on another filesystem (tmpfs)"},
		{"file", "touch m/x.db && mount --bind x.db m/x.db", []string{"warning names"}, "mounted here by itself"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.name != "full" {
				portable.Needs(t, portable.Linux) // it tells what is mounted
			}
			t.Parallel()
			dir := clinic(t)
			require.NoError(t, os.Mkdir(filepath.Join(dir, "m"), 0o755))
			x := exec.Command("unshare", "--mount", "sh", "-c", c.prepare+` && exec "$0" doctor --json -d m/x.db`, binary)
			x.Dir = dir
			out := finish(t, x)
			if out.stdout == "" {
				t.Skip("not to be mounted here: ", out.stderr)
			}
			r := report(t, out)
			require.Subset(t, r.bad(), c.bad)
			require.Len(t, slices.DeleteFunc(r.bad(), func(s string) bool { return strings.HasSuffix(s, " permissions") }), len(c.bad), "%+v", r)
			all := ""
			for _, check := range r.Checks {
				all += check.Found + "\n"
			}
			require.Contains(t, all, c.found)
		})
	}
	t.Run("one that hangs", func(t *testing.T) {
		t.Parallel()
		dir := clinic(t)
		require.NoError(t, os.Mkdir(filepath.Join(dir, "m"), 0o755))
		// A FUSE mount whose server never answers.
		x := exec.Command("unshare", "--mount", "python3", "-c", `import ctypes, os, subprocess, sys
fd = os.open("/dev/fuse", os.O_RDWR)
if ctypes.CDLL(None, use_errno=True).mount(b"none", b"m", b"fuse", 0, b"fd=%d,rootmode=40000,user_id=0,group_id=0" % fd) != 0:
    sys.exit("no FUSE here")
sys.exit(subprocess.run(sys.argv[1:], pass_fds=[fd]).returncode)`, binary, "doctor", "--json", "-d", "m/x.db")
		x.Dir = dir
		person := exec.Command(x.Args[0], slices.DeleteFunc(slices.Clone(x.Args[1:]), func(arg string) bool { return arg == "--json" })...)
		person.Dir = dir
		begin := time.Now()
		out := finish(t, x)
		if out.stdout == "" {
			t.Skip("not to be mounted here: ", out.stderr)
		}
		r := report(t, out)
		require.Equal(t, []string{"problem directory"}, r.bad(), "%+v", r)
		require.Contains(t, r.found("directory"), "did not answer within 2s")
		require.Less(t, time.Since(begin), 10*time.Second)
		require.True(t, strings.HasPrefix(finish(t, person).stdout, "Database: m/x.db\n\n  problem  directory    did not answer"))
	})
}

// What a filesystem or a kernel cannot do is found: system calls fail, or do nothing.
func TestDoctorOfFilesystemsThatCannot(t *testing.T) {
	t.Parallel()
	need(t, "strace")
	for _, c := range []struct {
		call  string
		bad   []string
		found string
	}{
		{"flock:error=EOPNOTSUPP", []string{"problem flock"}, "files cannot be locked there"},
		{"flock:retval=0", []string{"problem flock"}, "two processes had the lock of one file at the same time"},
		{"linkat:error=EPERM", []string{"warning link"}, "there are no hard links"},
		{"renameat2:error=EINVAL", []string{"warning exchange", "warning noreplace"}, "cannot be exchanged in one step"},
		{"renameat2:retval=0", []string{"warning noreplace"}, "it replaces"},
		{"inotify_init1:error=EMFILE", []string{"warning events"}, "events are not to be had"},
		{"inotify_add_watch:error=ENOSPC", []string{"warning events"}, "events are not to be had: no space left on device"},
		{"inotify_add_watch:retval=1", []string{"warning events"}, "the kernel does not tell"},
		{"mkdirat:error=EDQUOT", []string{"problem directory"}, "no directory can be made there"},
		{"pwrite64:error=EIO", nil, ""},
	} {
		t.Run(c.call, func(t *testing.T) {
			t.Parallel()
			dir := clinic(t)
			before := files(t, dir)
			call, _, _ := strings.Cut(c.call, ":")
			if strings.HasPrefix(call, "inotify") || call == "renameat2" {
				portable.Needs(t, portable.Linux)
			}
			x := exec.Command("strace", "-f", "-o", "/dev/null", "-e", "trace="+call, "-e", "inject="+c.call, binary, "doctor", "--json", "-d", "x.db")
			x.Dir = dir
			out := finish(t, x)
			if out.stdout == "" {
				t.Skip("nothing is traced here: ", out.stderr)
			}
			r := report(t, out)
			require.Equal(t, c.bad, r.bad(), "%+v", r)
			all := ""
			for _, check := range r.Checks {
				all += check.Found + "\n"
			}
			require.Contains(t, all, c.found)
			require.Equal(t, before, files(t, dir))
		})
	}
}

// In a script that holds the lock the variables are in order, and afterwards they are not.
func TestDoctorInsideAHold(t *testing.T) {
	t.Parallel()
	dir := clinic(t)
	script := `eval "$(dblock hold -d x.db)"; dblock doctor --json >inside; keep=$DBLOCK_HOLD_LOCK_FILE pid=$DBLOCK_HOLD_PID token=$DBLOCK_HOLD_TOKEN
eval "$(dblock release)"; DBLOCK_HOLD_LOCK_FILE=$keep DBLOCK_HOLD_PID=$pid DBLOCK_HOLD_TOKEN=$token dblock doctor --json -d x.db >after`
	sh := exec.Command("bash", "-c", script)
	sh.Dir = dir
	out, err := sh.CombinedOutput()
	require.NoError(t, err, "%s", out)
	for name, bad := range map[string][]string{"inside": nil, "after": {"warning environment"}} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		require.Equal(t, bad, report(t, result{stdout: string(b)}).bad(), "%s", b)
	}
}

// Who was stopped, and what a killed dblock has left running, is named.
func TestDoctorOfStuckLocks(t *testing.T) {
	portable.Needs(t, portable.Queue)
	t.Parallel()
	dir := clinic(t)
	orphan(t, dir)
	r := doctor(t, dir)
	require.Equal(t, []string{"warning lock"}, r.bad(), "%+v", r)
	require.Contains(t, r.found("lock"), "held by an orphaned command")
	letGo(t, dir)

	dir = clinic(t)
	h := hold(t, dir, "-d", "x.db")
	require.NoError(t, h.Process.Signal(unix.SIGSTOP))
	await(t, "it is stopped", func() bool { return slices.Equal(doctor(t, dir).bad(), []string{"warning stopped"}) })
	require.NoError(t, h.Process.Signal(unix.SIGCONT))
	letGo(t, dir)
}
