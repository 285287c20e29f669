package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/internal/portable"
)

// shells are those whose scripts must be able to hold a lock.
var shells = []string{"bash", "dash", "zsh"}

// inShells runs a script in each shell, in a directory of its own.
func inShells(t *testing.T, script string, check func(t *testing.T, dir string, r result)) {
	t.Helper()
	need(t, shells...)
	for _, shell := range shells {
		t.Run(shell, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			r := finish(t, scripted(t, dir, shell, script))
			check(t, dir, r)
			await(t, "nothing is left", func() bool { return len(litter(t, dir)) == 0 })
		})
	}
}

func scripted(t *testing.T, dir, shell, script string) *exec.Cmd {
	t.Helper()
	path := filepath.Join(dir, "job.sh")
	require.NoError(t, os.WriteFile(path, []byte(script), 0o644))
	c := exec.Command("timeout", "30", shell, path)
	c.Dir = dir
	return c
}

// background starts a script whose own process the test can signal.
func background(t *testing.T, dir, shell, script string) *exec.Cmd {
	t.Helper()
	c := scripted(t, dir, shell, script)
	c = exec.Command(shell, c.Args[3])
	c.Dir = dir
	errs, err := os.Create(filepath.Join(dir, "errs"))
	require.NoError(t, err)
	t.Cleanup(func() { errs.Close() })
	c.Stderr = errs
	start(t, c)
	await(t, "the script is in", func() bool { return exists(dir, "in") })
	return c
}

func keeperOf(t *testing.T, dir string) int {
	t.Helper()
	pid, err := strconv.Atoi(strings.TrimSpace(read(t, dir, "in")))
	require.NoError(t, err)
	return pid
}

func isFree(t *testing.T, dir string) func() bool {
	return func() bool { return execute(t, dir, "-n", "-q", "-d", "x.db", "--", "true").code() == 0 }
}

// holds takes the lock and says who keeps it; up to the file "go".
const (
	holds   = `eval "$(dblock hold -d x.db)" || exit; echo $DBLOCK_HOLD_KEEPER > in.new; mv in.new in; `
	staysIn = `until [ -e go ]; do sleep 0.02; done; `
)

func TestHold(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ script, want string }{
		"plain": {`eval "$(dblock hold -d x.db)" || exit
			dblock status -q --exit-code -d x.db || echo locked
			env -i PATH="$PATH" dblock -n -q -d x.db -- echo stranger || echo out $?
			dblock -n -d x.db -- echo nested
			dblock -n -d x.db -- dblock -n -- echo deeper`, "locked\nout 75\nnested\ndeeper\n"},
		"status": {`eval "$(dblock hold -p etl --info why -d x.db)"
			dblock status -v -d x.db | grep -oE '^  (Process: .*|Command: .*|This is you|Info: .*|Runs: pid [0-9]*: [a-z]* .*job.sh)' | sed "s/$$/N/; s/: [a-z]* [^ ]*job/: SHELL job/"
			dblock status --json -d x.db | grep -E '"(inside|command)": ' | sort -u`, ""},
		"set -e":   {"set -e\n" + `eval "$(dblock hold -d x.db)"; echo in; dblock -n -d x.db -- echo nested`, "in\nnested\n"},
		"pipefail": {`case $(ps -o comm= $$) in dash) ;; *) set -o pipefail;; esac; eval "$(dblock hold -d x.db)" && echo in | cat; dblock -n -d x.db -- echo nested | cat`, "in\nnested\n"},
		"subshell": {`( eval "$(dblock hold -d x.db)"; dblock -n -d x.db -- echo nested; : )
			[ -z "$DBLOCK_HOLD_PID" ] && dblock -w 5 -d x.db -- echo after`, "nested\nafter\n"},
		"function": {`f() { eval "$(dblock hold -d x.db)" || return; dblock -n -d x.db -- echo nested; eval "$(dblock release)"; }
			f; f; dblock -n -d x.db -- echo "after $DBLOCK_HOLD_PID"`, "nested\nnested\nafter \n"},
		"trap": {`trap 'dblock -n -d x.db -- echo still; eval "$(dblock release)"; dblock -n -d x.db -- echo free' EXIT
			eval "$(dblock hold -d x.db)"; exit 0`, "still\nfree\n"},
		"a child of the shell's children": {`eval "$(dblock hold -d x.db)"; sh -c 'sh -c "dblock -n -d x.db -- echo nested; true"; true'`, "nested\n"},
		"exec":                            {`eval "$(dblock hold -d x.db)"; exec sh -c 'dblock -n -d x.db -- echo nested; true'`, "nested\n"},
		"for":                             {`eval "$(sh -c 'dblock hold -d x.db --for $1; true' - $$)"; dblock -n -d x.db -- echo nested`, "nested\n"},
		"shared": {`eval "$(dblock hold -s -d x.db)"; dblock -n -s -d x.db -- echo nested; dblock -n -q -d x.db -- echo never 2>/dev/null; echo $?
			env -i PATH="$PATH" dblock -n -s -d x.db -- echo reader`, "nested\n75\nreader\n"},
		"two databases": {`eval "$(dblock hold -d x.db)"; eval "$(dblock hold -d y.db)"
			dblock -n -d x.db -- echo x; dblock -n -d y.db -- echo y
			eval "$(dblock release -d x.db)"; env -i PATH="$PATH" dblock -n -d x.db -- echo x is free
			dblock -n -d y.db -- echo y; basename "$DBLOCK_HOLD_DB"; echo "$DBLOCK_HOLD_OUTER$DBLOCK_HOLD_BEFORE"
			eval "$(dblock release)"; env | grep DBLOCK_HOLD_; env -i PATH="$PATH" dblock -n -d y.db -- echo y is free`, "x\ny\nx is free\ny\ny.db\n\ny is free\n"},
		"the same twice": {`eval "$(dblock hold -d x.db)"; first=$(env | grep DBLOCK_HOLD_ | sort)
			eval "$(dblock hold -d x.db)"; eval "$(dblock release)"; [ "$first" = "$(env | grep DBLOCK_HOLD_ | sort)" ] && echo restored
			env -i PATH="$PATH" dblock -n -q -d x.db -- echo never 2>/dev/null; echo $?
			eval "$(dblock release)"; dblock -n -d x.db -- echo free`, "restored\n75\nfree\n"},
		"released twice": {`eval "$(dblock hold -d x.db)"; eval "$(dblock release)"; echo $?; eval "$(dblock release -q)"; echo $?
			eval "$(dblock hold -d x.db)"; dblock release >/dev/null; echo $?; dblock release -qq >/dev/null; echo $?`, "0\n0\n0\n69\n"},
		"under a run": {`dblock -d x.db -- sh -c 'eval "$(dblock hold -d x.db)"; dblock -n -d x.db -- echo nested; eval "$(dblock release)"; dblock -n -d x.db -- echo nested; dblock release -q; echo $?'`,
			"nested\nnested\n0\n"},
		"odd names": {`d="a'b \$(touch oops)
\"c"; mkdir "$d" && eval "$(dblock hold -p "it's" --info '$x' -d "$d/x.db")" || exit
			[ "$DBLOCK_HOLD_DB" = "$PWD/$d/x.db" ] && [ "$DBLOCK_HOLD_PROCESS" = "it's" ] && echo same; [ ! -e oops ] && dblock -n -d "$d/x.db" -- echo nested
			eval "$(dblock hold -d y.db)"; dblock -n -d "$d/x.db" -- echo nested; eval "$(dblock release)"; [ "$DBLOCK_HOLD_DB" = "$PWD/$d/x.db" ] && echo restored`, "same\nnested\nnested\nrestored\n"},
		"ignored signals": {`trap '' USR1 INT HUP; eval "$(dblock hold -d x.db)"; eval "$(dblock release)"; echo $?`, "0\n"},
		"file":            {`dblock hold -d x.db > env.sh; . ./env.sh; dblock -n -d x.db -- echo nested`, "nested\n"},
		"terminal":        {`dblock hold -d x.db 2>&1 >/dev/null; echo $?`, "dblock: what this prints is for a shell to evaluate\nhint: `eval \"$(dblock hold -d PATH)\"`\n64\n"},
		"read by another": {`{ sleep 0.3; exec dblock hold -d x.db 2>/dev/null; } | cat; dblock release -d x.db 2>&1 | cat`, "(exit 64)\ndblock: this shell does not hold DIR/x.db: there is nothing to release\n"},
		"wrong usage":     {`eval "$(dblock hold -d x.db --nope 2>/dev/null)"; echo $?; eval "$(dblock hold 2>/dev/null)" || echo no`, "64\nno\n"},
	} {
		t.Run(name, func(t *testing.T) {
			switch name {
			case "read by another", "released twice":
				portable.Needs(t, portable.Keeper)
			}
			t.Parallel()
			inShells(t, c.script, func(t *testing.T, dir string, r result) {
				if name == "status" {
					lines := []string{"Process: etl", "Info: why", "This is you", `"inside": true`}
					if !portable.Half {
						lines = append(lines, "Command: job.sh", "Runs: pid N: ")
					}
					for _, line := range lines {
						require.Contains(t, r.stdout, line, r.stderr)
					}
					return
				}
				require.Equal(t, c.want, strings.ReplaceAll(r.stdout, dir, "DIR"), r.stderr)
			})
		})
	}
}

// A script does not go on without the lock, however it looks at that.
func TestHoldOfALockedDatabase(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		script string
		code   int
	}{
		"set -e":  {"set -e\n" + `eval "$(dblock hold -n -d x.db)"; touch on`, 75},
		"exit":    {`eval "$(dblock hold -w 0.2 -d x.db)" || exit; touch on`, 75},
		"if":      {`if eval "$(dblock hold -n -d x.db)"; then touch on; else exit 7; fi`, 7},
		"code":    {`eval "$(dblock hold -n -E 9 -d x.db)" || exit; touch on`, 9},
		"killed":  {"set -e\n" + `eval "$(dblock hold -w forever -d x.db)"; touch on`, 0},
		"ended":   {"set -e\n" + `eval "$(dblock hold -w forever -d x.db)"; touch on`, 143},
		"nothing": {`[ -z "$(dblock hold -n -d x.db | grep export)" ] && exit 3`, 3},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "killed" || name == "ended" {
				portable.Needs(t, portable.Queue)
			}
			t.Parallel()
			need(t, shells...)
			for _, shell := range shells {
				dir := t.TempDir()
				hold(t, dir, "-d", "x.db", "-p", "backup")
				w := scripted(t, dir, shell, c.script)
				if name != "killed" && name != "ended" {
					r := finish(t, w)
					require.Equal(t, c.code, r.code(), "%s: %s", shell, r.stderr)
					if name != "nothing" {
						whom := ` for job\.sh`
						if portable.Half {
							whom = ""
						}
						require.Regexp(t, `^dblock: \S+ is held by backup \(pid \d+ on \S+\) for \S+; it is not held`+whom+`(; gave up after .*)?\nhint: |gave up after`, r.stderr)
					}
				} else {
					start(t, w)
					var keeper int
					await(t, "it waits", func() bool {
						ws := statusOf(t, dir, "x.db").Waiting
						if len(ws) == 1 {
							keeper = ws[0].PID
							require.Equal(t, "job.sh", ws[0].Command)
						}
						return keeper != 0
					})
					sig := unix.SIGKILL
					if name == "ended" {
						sig = unix.SIGTERM
					}
					require.NoError(t, unix.Kill(parent(t, keeper), sig))
					_ = w.Wait()
					require.NotZero(t, w.ProcessState.ExitCode(), shell)
					if c.code != 0 {
						require.Equal(t, c.code, w.ProcessState.ExitCode(), shell)
					}
					await(t, "the keeper has given up", func() bool { return gone(keeper) })
				}
				require.False(t, exists(dir, "on"), shell)
				letGo(t, dir)
				await(t, "the lock is free", isFree(t, dir))
			}
		})
	}
}

func parent(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	require.NoError(t, err)
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	ppid, err := strconv.Atoi(f[1])
	require.NoError(t, err)
	return ppid
}

// However the shell ends, the lock is free at once.
func TestHoldEndsWithItsShell(t *testing.T) {
	t.Parallel()
	need(t, shells...)
	for _, shell := range shells {
		dir := t.TempDir()
		c := background(t, dir, shell, holds+staysIn)
		require.Equal(t, 75, execute(t, dir, "-n", "-q", "-d", "x.db", "--", "true").code())
		keeper := keeperOf(t, dir)
		require.NoError(t, c.Process.Kill())
		_ = c.Wait()
		begin := time.Now()
		await(t, "the lock is free", isFree(t, dir))
		require.Less(t, time.Since(begin), 5*time.Second) // a second, on a machine with time
		await(t, "the keeper has ended", func() bool { return gone(keeper) })
		require.Empty(t, litter(t, dir))
	}
}

// A keeper keeps nothing of its script's: what waits for the end of those ends.
func TestKeeperKeepsNothing(t *testing.T) {
	t.Parallel()
	need(t, "make", "bash")
	dir := t.TempDir()
	script := `exec 3>other 7<&0; ` + holds + `while ls -l /proc/$DBLOCK_HOLD_KEEPER/fd | grep -q socket:; do sleep 0.02; done; ls -l /proc/$DBLOCK_HOLD_KEEPER/fd > fds; readlink /proc/$DBLOCK_HOLD_KEEPER/cwd; ps -o sid= -p $DBLOCK_HOLD_KEEPER | grep -qw $DBLOCK_HOLD_KEEPER && echo its own; ps -o args= -p $DBLOCK_HOLD_KEEPER`
	r := finish(t, scripted(t, dir, "bash", script))
	require.Regexp(t, `^/\nits own\ndblock hold --for \d+ -d x\.db\n$`, r.stdout, r.stderr)
	for line := range strings.Lines(read(t, dir, "fds")) {
		if at := strings.Index(line, "-> "); at >= 0 {
			require.Regexp(t, `^-> (/dev/null|anon_inode:.*|/memfd:dblock-hold \(deleted\)|pipe:.*|/sys/.*|.*\.x\.lock.*)\n$`, line[at:])
		}
	}
	// The keeper outlives its script's output.
	r = finish(t, sh(dir, `timeout 20 sh -c '( eval "$(dblock hold -d y.db)" || exit; echo in; exec >&- 2>&-; touch y; until [ -e go ]; do sleep 0.02; done ) & until [ -e y ]; do sleep 0.02; done' | timeout 20 cat; echo $?; dblock status -q --exit-code -d y.db || echo locked; touch go`))
	require.Equal(t, "in\n0\nlocked\n", r.stdout)

	require.NoError(t, os.WriteFile(filepath.Join(dir, "Makefile"), []byte("all: a b c\na b c:\n\t@eval \"$$(dblock hold -w 20 -d z.db)\" || exit; echo $@ >> made\n"), 0o644))
	c := exec.Command("timeout", "30", "make", "-j2")
	c.Dir = dir
	r = finish(t, c)
	require.Zero(t, r.code(), r.stderr)
	require.Len(t, strings.Fields(read(t, dir, "made")), 3)
}

// When the lock is lost the shell and what it has started are told, and release tells.
func TestHoldIsLost(t *testing.T) {
	t.Parallel()
	need(t, shells...)
	for _, c := range []struct {
		flags, before, script string
		want                  syscall.Signal
	}{
		{"", "", `sh -c 'trap "touch told; exit" TERM; touch ready; while :; do sleep 0.02; done' & sleep 60; wait`, unix.SIGTERM},
		{"--kill-after 0.1", `trap '' TERM; `, `sleep 60; sleep 60`, unix.SIGKILL},
		{"--on-lost kill", `trap '' TERM; `, `sleep 60; sleep 60`, unix.SIGKILL},
		{"--on-lost warn", "", staysIn + `dblock release 2> said; exit $?`, 0},
	} {
		for _, shell := range shells {
			t.Run(shell+" "+c.flags, func(t *testing.T) {
				if c.want == 0 {
					portable.Needs(t, portable.Keeper)
				}
				t.Parallel()
				dir := t.TempDir()
				s := background(t, dir, shell, c.before+strings.Replace(holds, "hold ", "hold "+c.flags+" ", 1)+c.script)
				if c.flags == "" {
					await(t, "its child can be told", func() bool { return exists(dir, "ready") })
				}
				keeper := keeperOf(t, dir)
				require.NoError(t, os.RemoveAll(filepath.Join(dir, ".x.lock.d")))
				if !portable.Half {
					await(t, "it is said", contains(filepath.Join(dir, "errs"), "was lost: its state directory was removed; the shell "))
				}
				letGo(t, dir)
				_ = s.Wait()
				status := s.ProcessState.Sys().(syscall.WaitStatus)
				if c.want == 0 {
					require.Equal(t, 69, status.ExitStatus())
					require.Contains(t, read(t, dir, "said"), "was lost: its state directory was removed")
				} else {
					require.Equal(t, c.want, status.Signal())
				}
				if c.flags == "" && !portable.Half {
					await(t, "what it has started is told", func() bool { return exists(dir, "told") })
				}
				await(t, "the keeper has ended", func() bool { return gone(keeper) })
			})
		}
	}
}

// A keeper that was killed is noticed by who releases its lock.
func TestReleaseOfAKilledKeeper(t *testing.T) {
	t.Parallel()
	inShells(t, holds+`kill -KILL $DBLOCK_HOLD_KEEPER; until ! kill -0 $DBLOCK_HOLD_KEEPER 2>/dev/null; do sleep 0.02; done
		eval "$(dblock release)"; echo $?; echo "$DBLOCK_HOLD_PID"; dblock -n -d x.db -- echo free`, func(t *testing.T, _ string, r result) {
		require.Equal(t, "69\n\nfree\n", r.stdout)
		require.Contains(t, r.stderr, "was not held any more: ")
	})
}

// Who tells a keeper to end means the script, and the lock is kept until that has ended.
func TestKeeperIsToldToEnd(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := background(t, dir, "dash", `trap 'dblock -n -d x.db -- touch cleaned; exit 3' TERM; `+holds+`while :; do sleep 0.02; done`)
	require.NoError(t, unix.Kill(keeperOf(t, dir), unix.SIGTERM))
	_ = s.Wait()
	require.Equal(t, 3, s.ProcessState.ExitCode())
	require.True(t, exists(dir, "cleaned"), "the lock was still held")
	await(t, "the lock is free", isFree(t, dir))
}

// force ends the script with the lock.
func TestForceEndsTheShellOfAKeeper(t *testing.T) {
	portable.NeedsWord(t)
	t.Parallel()
	dir := t.TempDir()
	s := background(t, dir, "dash", `trap '' TERM; `+holds+`sh -c "trap '' TERM; while :; do sleep 0.02; done"; true`)
	child := 0
	await(t, "it has a child", func() bool {
		out, _ := exec.Command("ps", "-o", "pid=", "--ppid", strconv.Itoa(s.Process.Pid)).Output()
		f := strings.Fields(string(out))
		if len(f) == 1 {
			child, _ = strconv.Atoi(f[0])
		}
		return child != 0
	})
	r := execute(t, dir, "force", "--yes", "--kill-after", "0.2", "-d", "x.db")
	require.Zero(t, r.code(), r.stderr)
	_ = s.Wait()
	require.Equal(t, unix.SIGKILL, s.ProcessState.Sys().(syscall.WaitStatus).Signal())
	require.True(t, gone(child))
	require.Zero(t, execute(t, dir, "-n", "-d", "x.db", "--", "true").code())
}

// The shell's stop is not the keeper's; nor is a peer in when it is long.
func TestHoldOfAStoppedShell(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := background(t, dir, "dash", strings.Replace(holds, "hold ", "hold --stale-timeout 1 ", 1)+staysIn)
	require.NoError(t, s.Process.Signal(unix.SIGSTOP))
	before := statusOf(t, dir, "x.db").Holder.Timestamp
	await(t, "it beats on", func() bool { return statusOf(t, dir, "x.db").Holder.Timestamp > before })
	letGo(t, dir)
	require.NoError(t, s.Process.Signal(unix.SIGCONT))
	require.NoError(t, s.Wait())
	await(t, "the lock is free", isFree(t, dir))
}

// Everybody can read the lock file, and the keeper's command line.
func TestForgedHoldOfAKeeper(t *testing.T) {
	portable.Needs(t, portable.Processes)
	t.Parallel()
	dir := t.TempDir()
	background(t, dir, "dash", holds+`env | grep ^DBLOCK_HOLD_ > env; touch told; `+staysIn)
	await(t, "it tells", func() bool { return exists(dir, "told") })
	r := finish(t, with(command(t, dir, "-n", "-q", "-d", "x.db", "--", "echo", "without the lock"), strings.Fields(read(t, dir, "env"))...))
	require.Equal(t, 75, r.code(), r.stderr)
	require.Empty(t, r.stdout)
	// Nor does release end the hold of somebody else.
	r = finish(t, with(command(t, dir, "release"), strings.Fields(read(t, dir, "env"))...))
	require.Equal(t, 69, r.code(), r.stderr)
	require.Equal(t, "held", statusOf(t, dir, "x.db").State)
}

// Where the keeper, or its process, cannot be seen what runs under it waits; it never runs without.
func TestNestedUnderAHiddenKeeper(t *testing.T) {
	portable.Needs(t, portable.Processes)
	for name, script := range map[string]string{
		"hidepid=2":         `mount -t proc -o hidepid=2 proc /proc; eval "$("$0" hold --for $$ -d x.db)"; setpriv --reuid 65534 --regid 65534 --clear-groups "$0" -n -q -d x.db -- echo never || echo code $?`,
		"another namespace": `eval "$("$0" hold -d x.db)"; unshare -pf --mount-proc "$0" -n -q -d x.db -- echo never || echo code $?`,
		"no /proc":          `mount -t tmpfs none /proc; eval "$("$0" hold --for $$ -d x.db)"; "$0" -n -q -d x.db -- echo never || echo code $?`,
	} {
		t.Run(name, func(t *testing.T) {
			need(t, "setpriv", "unshare")
			r := isolated(t, open(t), script)
			require.Equal(t, "code 75\n", r.stdout, r.stderr)
		})
	}
}

// A terminal that is closed takes the shell with it.
func TestHoldOnATerminalThatCloses(t *testing.T) {
	t.Parallel()
	need(t, "script", "bash")
	dir := t.TempDir()
	c := exec.Command("script", "-qec", "bash job.sh", "/dev/null")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "job.sh"), []byte(holds+`sleep 1000; sleep 1000`), 0o644))
	c.Dir = dir
	in, err := c.StdinPipe()
	require.NoError(t, err)
	defer in.Close()
	start(t, c)
	await(t, "the script is in", func() bool { return exists(dir, "in") })
	keeper := keeperOf(t, dir)
	require.NoError(t, c.Process.Kill())
	await(t, "the lock is free", isFree(t, dir))
	await(t, "the keeper has ended", func() bool { return gone(keeper) })
}

// A script that holds a lock for longer than it may is ended like a command, and the lock kept
// until all of it has gone.
func TestHoldForTooLong(t *testing.T) {
	t.Parallel()
	need(t, shells...)
	const says = "has been held for 1.5s, as long as it may; the shell "
	for _, c := range []struct {
		flags, before, script, then string
		signal                      syscall.Signal
		code                        int
	}{
		{"", "", `sh -c 'trap "touch told; exit" TERM; touch ready; while :; do sleep 0.02; done' & sleep 60; wait`, "is being ended", unix.SIGTERM, -1},
		{"--kill-after 0.1", `trap '' TERM; `, `sleep 60; sleep 60`, "is being ended", unix.SIGKILL, -1},
		{"--on-time-limit kill", `trap '' TERM; `, `sleep 60; sleep 60`, "is being killed", unix.SIGKILL, -1},
		{"--on-time-limit warn", "", staysIn + `dblock release 2> said; exit $?`, "goes on", 0, 0},
		{"--kill-after forever", `trap 'dblock release 2> said; exit $?' TERM; `, `while :; do sleep 0.02; done`, "is being ended", 0, 124},
	} {
		for _, shell := range shells {
			t.Run(shell+" "+c.flags, func(t *testing.T) {
				if c.signal == 0 {
					portable.Needs(t, portable.Keeper)
				}
				t.Parallel()
				dir := t.TempDir()
				s := background(t, dir, shell, c.before+strings.Replace(holds, "hold ", "hold --time-limit 1.5 "+c.flags+" ", 1)+c.script)
				keeper := keeperOf(t, dir)
				if !portable.Half {
					await(t, "it is said", contains(filepath.Join(dir, "errs"), says+c.then))
				}
				letGo(t, dir)
				_ = s.Wait()
				status := s.ProcessState.Sys().(syscall.WaitStatus)
				if c.signal != 0 {
					require.Equal(t, c.signal, status.Signal())
				} else {
					require.Equal(t, c.code, status.ExitStatus())
				}
				if c.code == 124 {
					require.Contains(t, read(t, dir, "said"), "has been held for 1.5s")
				}
				if exists(dir, "ready") && !portable.Half {
					await(t, "what it has started is told", func() bool { return exists(dir, "told") })
				}
				await(t, "the keeper has ended", func() bool { return gone(keeper) })
				require.Empty(t, litter(t, dir))
			})
		}
	}
}

// Several databases are held together, and released together.
func TestHoldOfSeveral(t *testing.T) {
	t.Parallel()
	inShells(t, `eval "$(dblock hold -d y.db -d x.db)" || exit
		for db in x.db y.db; do dblock -n -d $db -- echo nested $db; env -u DBLOCK_HOLD_LOCK_FILE -u DBLOCK_HOLD_OUTER -u DBLOCK_HOLD_PID dblock -n -q -d $db -- true; echo $?; done
		eval "$(dblock release -d x.db)"; echo released $?
		for db in x.db y.db; do dblock -n -d $db -- echo free $db; done
		eval "$(dblock hold -d x.db -d y.db)" || exit; eval "$(dblock hold -d z.db)" || exit
		eval "$(dblock release -d y.db -d z.db)"; dblock status -q --exit-code -d y.db; echo not together $?
		eval "$(dblock release -d y.db)"; echo released $?; dblock -n -d z.db -- sh -c 'echo nested z.db; env | grep -c [xy].lock'
		eval "$(dblock release)"; echo released $?
		for db in x.db y.db; do dblock -n -d $db -- echo free $db; done`, func(t *testing.T, _ string, r result) {
		free := "free x.db\nfree y.db\n"
		require.Equal(t, "nested x.db\n75\nnested y.db\n75\nreleased 0\n"+free+"not together 1\nreleased 0\nnested z.db\n0\nreleased 0\n"+free, r.stdout)
		require.Contains(t, r.stderr, "y.db and z.db together: there is nothing to release")
	})
}
