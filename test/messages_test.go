//go:build linux

package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/internal/portable"
)

// screen is what somebody reads, with what differs from run to run replaced.
func screen(text, dir string, pids ...int) string {
	for i, pid := range pids {
		text = strings.ReplaceAll(text, fmt.Sprintf("pid %d", pid), fmt.Sprintf("pid P%d", i+1))
	}
	host, _ := os.Hostname()
	text = strings.ReplaceAll(strings.ReplaceAll(text, dir, "DIR"), " on "+host+")", " on HOST)")
	return regexp.MustCompile(`\b\d+(\.\d)?s\b`).ReplaceAllString(text, "Ns")
}

func TestGivingUp(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h := hold(t, dir, "-d", "a b.db", "-p", "import")
	const see = "; see who it is with `dblock status -d 'DIR/a b.db'`; if it is stuck, `dblock force -d 'DIR/a b.db'`\n"
	const hint, instead = "hint: wait longer with --wait" + see, "hint: wait for it with -w 60 in place of -n" + see
	const held = "dblock: DIR/.a b.lock is held by import (pid P1 on HOST) for Ns; "
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"-n", "--", "touch", "ran"}, held + "touch was not run\n" + instead},
		{[]string{"-w", "0", "--", "touch", "ran"}, held + "touch was not run\nhint: wait for it with -w 60" + see},
		{[]string{"-w", "0.3", "--", "touch", "ran"}, held + "gave up after Ns; touch was not run\n" + hint},
		{[]string{"-n", "-c", "node export.js | gzip > export.gz"}, held + "\"node export.js | gzip > export.gz\" was not run\n" + instead},
		{[]string{"-n", "-c", " echo  a long one;\n" + strings.Repeat("x", 100)}, held + "\"echo  a long one;?" + strings.Repeat("x", 31) + "…\" was not run\n" + instead},
		{[]string{"-q", "-w", "0.3", "touch", "ran"}, held + "gave up after Ns; touch was not run\n"},
		{[]string{"-qq", "-w", "0.3", "touch", "ran"}, ""},
	} {
		r := finish(t, with(command(t, dir, append([]string{"-d", "a b.db"}, c.args...)...), "LC_ALL=C.UTF-8"))
		require.Equal(t, 75, r.code())
		require.Equal(t, c.want, screen(r.stderr, dir, h.Process.Pid), "%q", c.args)
	}
	require.False(t, exists(dir, "ran"))
	// What the hint says can be pasted, in another directory.
	r := finish(t, command(t, dir, "-n", "-d", "a b.db", "true"))
	paste := regexp.MustCompile("`(dblock status [^`]*)`").FindStringSubmatch(r.stderr)
	require.NotNil(t, paste, r.stderr)
	out, err := exec.Command("sh", "-c", "cd / && "+paste[1]).Output()
	require.NoError(t, err)
	require.Contains(t, string(out), "Process: import")
}

// An orphan is not waited for as a holder is: nobody will release its lock.
func TestGivingUpOnAnOrphan(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h := start(t, command(t, dir, "--orphan", "keep", "-d", "x.db", "--", "sh", "-c", "echo $$ > in; while [ -e in ] && [ ! -e go ]; do sleep 0.01; done"))
	await(t, "the command runs", contains(filepath.Join(dir, "in"), "\n"))
	require.NoError(t, h.Process.Kill())
	_ = h.Wait()
	b, err := os.ReadFile(filepath.Join(dir, "in"))
	require.NoError(t, err)
	r := execute(t, dir, "-n", "-d", "x.db", "--", "touch", "ran")
	require.Equal(t, 75, r.code())
	portable.Needs(t, portable.Queue)
	require.Regexp(t, "^dblock: DIR/.x.lock is held by an orphaned command: the dblock that held it was killed; its command runs on: [^\n]*pid "+strings.TrimSpace(string(b))+"\\b[^\n]*; touch was not run\n"+
		"hint: it is released when all of that has ended; see what it is with `dblock status -d DIR/x.db`; to end it, `dblock force -d DIR/x.db`\n$",
		strings.ReplaceAll(r.stderr, dir, "DIR"))
	letGo(t, dir)
}

// One that is stopped is told how to go on.
func TestGivingUpOnAStoppedHolder(t *testing.T) {
	portable.Needs(t, portable.Processes)
	t.Parallel()
	dir := t.TempDir()
	h := hold(t, dir, "-d", "x.db", "-p", "import")
	require.NoError(t, h.Process.Signal(unix.SIGSTOP))
	await(t, "it is stopped", func() bool { return strings.Contains(execute(t, dir, "status", "-d", "x.db").stdout, "Stopped: ") })
	r := execute(t, dir, "-n", "-d", "x.db", "--", "touch", "ran")
	require.Equal(t, 75, r.code())
	require.Contains(t, screen(r.stderr, dir), fmt.Sprintf("; touch was not run\n"+
		"hint: to let what is stopped go on, `kill -CONT %d`; see who it is with `dblock status -d DIR/x.db`; to end it, `dblock force -d DIR/x.db`\n", h.Process.Pid))
	require.NoError(t, h.Process.Signal(unix.SIGCONT))
	letGo(t, dir)
}

// A lock file that says nothing may be one whose writer is not done.
func TestGivingUpOnAnInvalidLockFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, ".x.lock"), nil, 0o644))
	r := execute(t, dir, "-n", "-d", "x.db", "--", "touch", "ran")
	require.Equal(t, 75, r.code())
	require.Equal(t, "dblock: DIR/.x.lock is not a valid lock file, perhaps one that is being written; touch was not run\n"+
		"hint: try again in some seconds; see what is the matter with `dblock status -d DIR/x.db`\n", screen(r.stderr, dir))
}

// A lock that is nowhere.
func TestNoDirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "f"), nil, 0o644))
	for _, c := range []struct{ args, problem, hint string }{
		{"-d no/a/x.db true", "there is no directory DIR/no/a: nothing is locked there, and nothing can be", "is the path right? If so: `mkdir -p DIR/no/a`"},
		{"--lock-file no/x true", "there is no directory DIR/no: nothing is locked there, and nothing can be", "is the path right? If so: `mkdir -p DIR/no`"},
		{"-d f/x.db true", "DIR/f is not a directory", "is the path right? If DIR/f is the database: `-d DIR/f`"},
		{"-d f/a/x.db true", "DIR/f is not a directory", "is the path right? If DIR/f is the database: `-d DIR/f`"},
		{"status -d no/x.db", "there is no directory DIR/no: nothing is locked there, and nothing can be", "look whether no/x.db is the right path, seen from this directory"},
		{"force -d f/x.db", "DIR/f is not a directory", "look whether f/x.db is the right path, seen from this directory"},
	} {
		r := execute(t, dir, strings.Fields(c.args)...)
		require.Equal(t, 73, r.code(), c.args)
		require.Empty(t, r.stdout, c.args)
		require.Equal(t, "dblock: "+c.problem+"\nhint: "+c.hint+"\n", screen(r.stderr, dir), c.args)
	}
}

// Who wonders why dblock is still there is told what it waits for.
func TestRestIsNamed(t *testing.T) {
	portable.Needs(t, portable.Tree)
	t.Parallel()
	const rest = `sh -c 'trap "" TERM; touch in$0; read x < go' `
	for n, want := range map[int]string{
		1: `sh \(pid \d+\), which it started, is still running; the lock is held until it ends`,
		2: `sh \(pid \d+\) and 1 more, which it started, are still running; the lock is held until they end`,
	} {
		dir := t.TempDir()
		require.NoError(t, unix.Mkfifo(filepath.Join(dir, "go"), 0o600))
		door, err := os.OpenFile(filepath.Join(dir, "go"), os.O_RDWR, 0)
		require.NoError(t, err)
		defer door.Close()
		script := ""
		for i := range n {
			script += rest + strconv.Itoa(i) + " & "
		}
		c := command(t, dir, "-d", "x.db", "--", "sh", "-c", script+"wait")
		log, err := os.Create(filepath.Join(dir, "log"))
		require.NoError(t, err)
		defer log.Close()
		c.Stderr = log
		start(t, c)
		await(t, "all of it runs", func() bool { return exists(dir, "in0") && exists(dir, "in"+strconv.Itoa(n-1)) })
		require.NoError(t, c.Process.Signal(unix.SIGTERM))
		await(t, "it says so", contains(log.Name(), "\n"))
		_, err = door.WriteString("\n\n")
		require.NoError(t, err)
		_ = c.Wait()
		b, err := os.ReadFile(log.Name())
		require.NoError(t, err)
		require.Regexp(t, "^dblock: the command has ended, but "+want+"\n$", string(b))
	}
}

// A log or a mail is not told of every wait that was short.
func TestWaitingOffTheTerminal(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h := hold(t, dir, "-d", "x.db", "-p", "import")
	waiter := func(args ...string) (log string, c *exec.Cmd) {
		log = filepath.Join(dir, "log"+strings.Join(args, ""))
		f, err := os.Create(log)
		require.NoError(t, err)
		defer f.Close()
		c = command(t, dir, append(args, "-w", "forever", "-d", "x.db", "--", "true")...)
		c.Stderr = f
		return log, start(t, c)
	}
	begin := time.Now()
	log, first := waiter()
	await(t, "the first waits", func() bool { return waiters(t, dir, "x.db") == 1 })
	quietLog, quiet := waiter("-q")
	await(t, "both wait", func() bool { return waiters(t, dir, "x.db") == 2 })
	lastLog, last := waiter("-v")
	await(t, "it says so", contains(lastLog, "\n"))
	require.Greater(t, time.Since(begin), 9*time.Second)
	letGo(t, dir)
	for _, c := range []*exec.Cmd{first, quiet, last} {
		require.NoError(t, c.Wait())
	}
	for log, want := range map[string]string{
		log:      "dblock: waiting for DIR/.x.lock, held by import (pid P1 on HOST) for Ns\n",
		quietLog: "",
	} {
		b, err := os.ReadFile(log)
		require.NoError(t, err)
		require.Equal(t, want, screen(string(b), dir, h.Process.Pid))
	}
	b, err := os.ReadFile(lastLog)
	require.NoError(t, err)
	require.Regexp(t, `^dblock: waiting for DIR/\.x\.lock, held by import \(pid P1 on HOST\) for Ns`+ahead()+`\ndblock: acquired DIR/\.x\.lock at [0-9:]+, after \S+ \(token \d+\)\n$`, screen(string(b), dir, h.Process.Pid))
}

func TestLossSaysWhatBecomesOfTheCommand(t *testing.T) {
	t.Parallel()
	for onLost, then := range map[string]string{"term": "the command is being ended", "kill": "the command is being killed", "warn": "the command goes on"} {
		for _, quiet := range []string{"-q", "-qq"} {
			t.Run(onLost+quiet, func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				c := command(t, dir, quiet, "--on-lost", onLost, "-d", "x.db", "--", "sh", "-c", "touch in; while [ -e in ] && [ ! -e go ]; do sleep 0.01; done")
				log, err := os.Create(filepath.Join(dir, "log"))
				require.NoError(t, err)
				defer log.Close()
				c.Stderr = log
				start(t, c)
				await(t, "the command runs", func() bool { return exists(dir, "in") })
				require.NoError(t, os.WriteFile(filepath.Join(dir, "theirs"), []byte(`{"pid":1,"timestamp":99999999999999,"host":"elsewhere","process":"robber"}`), 0o644))
				require.NoError(t, os.Rename(filepath.Join(dir, "theirs"), filepath.Join(dir, ".x.lock")))
				want := ""
				if quiet == "-q" {
					await(t, "it says so", contains(log.Name(), "\n"))
					want = "dblock: the lock DIR/.x.lock was lost: it was taken by robber (pid 1 on elsewhere); " + then + "\n"
				}
				if onLost == "warn" {
					letGo(t, dir)
				}
				_ = c.Wait()
				require.Equal(t, 69, c.ProcessState.ExitCode())
				b, err := os.ReadFile(log.Name())
				require.NoError(t, err)
				require.Equal(t, want, strings.ReplaceAll(string(b), dir, "DIR"))
			})
		}
	}
}

// ahead says that two are ahead, where that is known.
func ahead() string {
	if portable.Half {
		return ""
	}
	return ", 2 ahead"
}

// Whoever is ended by force is told by whom.
func TestVictimOfForceIsTold(t *testing.T) {
	t.Parallel()
	// Anybody else's SIGTERM is not worth a word.
	dir := t.TempDir()
	c := command(t, dir, "-d", "x.db", "--", "sh", "-c", "touch in; while [ -e in ] && [ ! -e go ]; do sleep 0.01; done")
	var errs strings.Builder
	c.Stderr = &errs
	start(t, c)
	await(t, "the command runs", func() bool { return exists(dir, "in") })
	require.NoError(t, c.Process.Signal(unix.SIGTERM))
	_ = c.Wait()
	require.Empty(t, errs.String())

	portable.Needs(t, portable.Signals)
	for _, args := range [][]string{{"force", "--yes"}, {"status", "--force", "-y"}} {
		dir := t.TempDir()
		c := command(t, dir, "-d", "x.db", "--", "sh", "-c", "touch in; while [ -e in ] && [ ! -e go ]; do sleep 0.01; done")
		log, err := os.Create(filepath.Join(dir, "log"))
		require.NoError(t, err)
		defer log.Close()
		c.Stderr = log
		start(t, c)
		await(t, "the command runs", func() bool { return exists(dir, "in") })
		f := start(t, command(t, dir, append(args, "-d", "x.db")...))
		_ = c.Wait()
		require.NoError(t, f.Wait())
		b, err := os.ReadFile(log.Name())
		require.NoError(t, err)
		require.Regexp(t, fmt.Sprintf("^dblock: ended by `dblock force` \\(pid %d, user \\S+\\)\n$", f.Process.Pid), string(b))
	}
}

// A terminal that cannot rewrite a line gets one that stays.
func TestWaitingOnADumbTerminal(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	hold(t, dir, "-d", "x.db", "-p", "import")
	tm := newTerminal(t, dir, 120, "TERM=dumb")
	tm.typed("dblock -w 20 -d x.db -- true; echo code=$?\n")
	begin := time.Now()
	tm.expect(`(\n|\$ )dblock: waiting for /[^\r]*/\.x\.lock, held by import [^\r]*\r\n`)
	require.Less(t, time.Since(begin), 8*time.Second)
	letGo(t, dir)
	tm.expect(`code=0\r\n`)
	require.NotContains(t, tm.shown(), "\x1b[K")
}

// What a person reads who waits behind others.
func TestWaitingLineBehindOthers(t *testing.T) {
	t.Parallel()
	name := ""
	if portable.Half { // which leaves room for it
		name = "(dblock: )?"
	}
	for columns, want := range map[uint16]string{
		120: `dblock: waiting T, held by import \(pid P1 on HOST\) for T` + ahead() + `: DIR`,
		80:  `dblock: waiting T, held by import \(pid P1 on HOST\) for T` + ahead() + `(: …?[^ ]*\.x\.lock)?`,
		40:  name + `waiting T: [import]*…? \(pid P1\)` + ahead(),
	} {
		t.Run(fmt.Sprint(columns), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			h := hold(t, dir, "-d", "x.db", "-p", "import")
			for n := range 2 {
				start(t, command(t, dir, "-q", "-w", "forever", "-d", "x.db", "--", "true"))
				await(t, "it waits", func() bool { return waiters(t, dir, "x.db") == n+1 })
			}
			tm := newTerminal(t, dir, columns)
			tm.typed("dblock -w 20 -d x.db -- true\n")
			tm.expect(`\r(dblock: )?waiting [^\r]*` + ahead() + `[^\r]*\r`)
			letGo(t, dir)
			tm.expect(`\r\x1b\[K\$ `)
			host := regexp.QuoteMeta(thisHost(t))
			want = strings.NewReplacer("T", `[\d.]+s`, "P1", strconv.Itoa(h.Process.Pid), "HOST", host, "DIR", `(…?/[^ ]*)?/\.x\.lock`).Replace(want)
			require.Regexp(t, `\r`+want+`\x1b\[K\r`, tm.shown())
		})
	}
}
