//go:build linux

package test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/internal/portable"
)

func TestDeathByTheSameSignal(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, sig := range []syscall.Signal{unix.SIGTERM, unix.SIGKILL, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGSEGV, unix.SIGABRT} {
		r := execute(t, dir, "-d", "x.db", "--", "sh", "-c", fmt.Sprintf("kill -%d $$", sig))
		require.True(t, r.status.Signaled(), "%v: %v", sig, r.status)
		require.Equal(t, sig, r.status.Signal())
		require.Empty(t, r.stderr, "%v", sig)
		require.Empty(t, litter(t, dir), "%v", sig)
	}
}

// trapping is a command that says which signals arrive, until SIGTERM.
const trapping = `for s in HUP INT QUIT USR1 USR2 ALRM WINCH CONT TSTP TTIN TTOU; do trap "echo $s" $s; done; trap 'echo TERM; exit 9' TERM; echo ready; while :; do sleep 0.01; done`

func TestSignalsArriveOnceAndInOrder(t *testing.T) {
	t.Parallel()
	c := command(t, t.TempDir(), "-d", "x.db", "--", "bash", "-c", trapping)
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // no terminal
	out, err := c.StdoutPipe()
	require.NoError(t, err)
	start(t, c)
	r := bufio.NewReader(out)
	next := func() string {
		line, err := r.ReadString('\n')
		require.NoError(t, err)
		return strings.TrimSpace(line)
	}
	require.Equal(t, "ready", next())
	for _, sig := range []syscall.Signal{
		unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM, unix.SIGWINCH,
		unix.SIGCONT, unix.SIGTSTP, unix.SIGUSR1, unix.SIGCONT, unix.SIGINT,
	} {
		require.NoError(t, c.Process.Signal(sig))
		require.Equal(t, strings.TrimPrefix(unix.SignalName(sig), "SIG"), next())
	}
	require.NoError(t, c.Process.Signal(unix.SIGTERM))
	require.Equal(t, "TERM", next())
	_ = c.Wait()
	require.Equal(t, 9, c.ProcessState.ExitCode())
}

func TestIgnoredSignalsAndMaskAreTheCommands(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	show := "grep -E 'Sig(Ign|Blk)' /proc/self/status"
	traps := []string{"", "trap '' INT;", "trap '' HUP;", "trap '' TERM QUIT USR1 PIPE TSTP;"}
	if portable.Half {
		traps = traps[:3] // os/signal knows of these
	}
	for _, trap := range traps {
		plain, err := exec.Command("sh", "-c", trap+show).Output()
		require.NoError(t, err)
		c := exec.Command("sh", "-c", trap+"exec dblock -d x.db -- "+show)
		c.Dir = dir
		wrapped, err := c.Output()
		require.NoError(t, err)
		require.Equal(t, string(plain), string(wrapped), trap)
	}
	// And dblock itself goes on ignoring them.
	ignored := "TERM"
	if portable.Half {
		ignored = "HUP"
	}
	c := exec.Command("sh", "-c", strings.ReplaceAll(`trap '' TERM; exec dblock -d x.db -- sh -c 'kill -TERM $PPID; kill -TERM $$; echo alive'`, "TERM", ignored))
	c.Dir = dir
	out, err := c.Output()
	require.NoError(t, err)
	require.Equal(t, "alive\n", string(out))
	// A blocked signal is blocked in the command too.
	need(t, "python3")
	c = exec.Command("python3", "-c", `import os,signal; signal.pthread_sigmask(signal.SIG_BLOCK,[signal.SIGUSR2]); os.execvp("dblock",["dblock","-d","x.db","--","grep","SigBlk","/proc/self/status"])`)
	c.Dir = dir
	out, err = c.Output()
	require.NoError(t, err)
	require.Contains(t, string(out), "0000000000000800")
}

func TestCommandInheritsDescriptorsLimitsAndMore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "sub"), 0o755))
	show := func(wrapper string) string {
		c := exec.Command("bash", "-c", `umask 027; ulimit -Sn 277; ulimit -c 0; exec 3>three 9>nine; cd sub
exec `+wrapper+` sh -c 'echo 3 >&3; echo 9 >&9; umask; ulimit -Sn; pwd; ls -l /proc/self/fd | sed "s/.* \\([0-9]* -> \\)/\\1/" | grep -E "^[0-9]+ -> /" | grep -v /proc'`)
		c.Dir = dir
		out, err := c.Output()
		require.NoError(t, err)
		return string(out)
	}
	plain, wrapped := show(""), show("dblock -d ../x.db --")
	require.Regexp(t, `^0027\n277\n.*/sub\n`, plain)
	room := regexp.MustCompile(`(?m)^(3[2-9]|[45][0-9]|6[0-3]) -> .*/\.x\.lock\.d/room\n`)
	require.Regexp(t, room, wrapped)
	require.Equal(t, plain, room.ReplaceAllString(wrapped, ""), "all descriptors are there, and no other")
	for name, want := range map[string]string{"three": "3\n", "nine": "9\n"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		require.Equal(t, want, string(b))
	}
	info, err := os.Stat(filepath.Join(dir, ".x.lock.d"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o755), info.Mode().Perm(), "rights come from the directory, not from the umask")
}

func TestSignalWhileWaitingLeavesTheQueue(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGUSR1, unix.SIGHUP} {
		dir := t.TempDir()
		hold(t, dir, "-d", "x.db")
		w := command(t, dir, "-w", "forever", "-d", "x.db", "--", "touch", "ran")
		w.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		start(t, w)
		await(t, "one waits", func() bool { return waiters(t, dir, "x.db") == 1 })
		next := start(t, command(t, dir, "-w", "forever", "-d", "x.db", "--", "true"))
		await(t, "two wait", func() bool { return waiters(t, dir, "x.db") == 2 })
		require.NoError(t, w.Process.Signal(sig))
		_ = w.Wait()
		require.Equal(t, sig, w.ProcessState.Sys().(syscall.WaitStatus).Signal())
		await(t, "one waits", func() bool { return waiters(t, dir, "x.db") == 1 })
		letGo(t, dir)
		require.NoError(t, next.Wait())
		require.False(t, exists(dir, "ran"))
	}
}

// A killed wrapper must not let the next command in while its own is running.
func TestKilledWrapperKeepsOthersOutUntilTheCommandHasEnded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := start(t, command(t, dir, "-d", "x.db", "--", "sh", "-c", `trap '' TERM; echo $$ > pid; while [ -e pid ] && [ ! -e go ]; do sleep 0.01; done; rm pid`))
	await(t, "the command runs", contains(filepath.Join(dir, "pid"), "\n"))
	require.NoError(t, c.Process.Kill())
	_ = c.Wait()

	r := execute(t, dir, "-n", "-d", "x.db", "--", "true")
	require.Equal(t, 75, r.code(), r.stderr)
	if s := statusOf(t, dir, "x.db"); portable.Half {
		require.Equal(t, "stale", s.State)
	} else {
		require.Contains(t, r.stderr, "held by an orphaned command: the dblock that held it was killed; its command runs on: ")
		require.Equal(t, "orphaned", s.State)
		pid, err := os.ReadFile(filepath.Join(dir, "pid"))
		require.NoError(t, err)
		require.Contains(t, fmt.Sprint(s.Orphans), strings.TrimSpace(string(pid)))
	}

	next := start(t, command(t, dir, "-w", "forever", "-d", "x.db", "--", "sh", "-c", "test ! -e pid"))
	await(t, "the next one waits", func() bool { return waiters(t, dir, "x.db") == 1 })
	letGo(t, dir)
	require.NoError(t, next.Wait(), "the next command ran beside the orphan")
	require.Empty(t, litter(t, dir))
}

func TestCommandGetsTermWhenTheWrapperIsKilled(t *testing.T) {
	t.Parallel()
	for orphan, want := range map[string]string{"term": "TERM", "keep": "kept"} {
		if portable.Half {
			want = "kept" // it does not hear of it
		}
		dir := t.TempDir()
		c := start(t, command(t, dir, "--orphan", orphan, "-d", "x.db", "--", "bash", "-c",
			`trap 'echo TERM > end; exit' TERM; echo $$ > pid; while [ -e pid ] && [ ! -e go ]; do sleep 0.01; done; echo kept > end`))
		await(t, "the command runs", contains(filepath.Join(dir, "pid"), "\n"))
		require.NoError(t, c.Process.Kill())
		_ = c.Wait()
		if want == "kept" {
			letGo(t, dir)
		}
		await(t, "the command ends", contains(filepath.Join(dir, "end"), want))
		await(t, "the lock is free", func() bool { return execute(t, dir, "-d", "x.db", "--", "true").code() == 0 })
	}
}

func TestDaemonLeftBehindDoesNotKeepTheLock(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := execute(t, dir, "-d", "x.db", "--", "sh", "-c", `setsid sh -c 'echo $$ > daemon; while [ -e daemon ] && [ ! -e go ]; do sleep 0.01; done' >/dev/null 2>&1 </dev/null & until [ -s daemon ]; do sleep 0.01; done`)
	require.Zero(t, r.code(), r.stderr)
	r = execute(t, dir, "-n", "-d", "x.db", "--", "true")
	letGo(t, dir)
	daemon, err := os.ReadFile(filepath.Join(dir, "daemon"))
	require.NoError(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(string(daemon)))
	require.NoError(t, err)
	await(t, "the daemon ends", func() bool { return unix.Kill(pid, 0) == unix.ESRCH })
	require.Zero(t, r.code(), r.stderr)
}

func TestNestedRunThatOutlivesTheOuterHold(t *testing.T) {
	t.Parallel()
	inner := `dblock -d x.db -- sh -c 'touch inner; while [ -e inner ] && [ ! -e go ]; do sleep 0.01; done; echo ended > result' >/dev/null 2>inner.err & until [ -e inner ]; do sleep 0.01; done`
	t.Run("takes the lock itself", func(t *testing.T) {
		dir := t.TempDir()
		require.Zero(t, execute(t, dir, "-d", "x.db", "--", "sh", "-c", inner).code())
		await(t, "the inner one has the lock", func() bool { return statusOf(t, dir, "x.db").State == "held" })
		require.Equal(t, 75, execute(t, dir, "-n", "-d", "x.db", "--", "true").code())
		letGo(t, dir)
		await(t, "the inner one ends", contains(filepath.Join(dir, "result"), "ended"))
		await(t, "it lets go", func() bool { return statusOf(t, dir, "x.db").State == "free" })
	})
	t.Run("or is ended", func(t *testing.T) {
		dir := t.TempDir()
		outer := start(t, command(t, dir, "-d", "x.db", "--", "sh", "-c", inner+"; until [ -e enough ]; do sleep 0.01; done"))
		await(t, "the inner one runs", func() bool { return exists(dir, "inner") })
		next := start(t, command(t, dir, "-w", "forever", "-d", "x.db", "--", "sh", "-c", "until grep -q lost inner.err; do sleep 0.01; done"))
		await(t, "the next one waits", func() bool { return waiters(t, dir, "x.db") == 1 })
		require.NoError(t, os.WriteFile(filepath.Join(dir, "enough"), nil, 0o644))
		require.NoError(t, outer.Wait())
		require.NoError(t, next.Wait())
		require.False(t, exists(dir, "result"))
		letGo(t, dir)
	})
}

func TestSymlinkedDatabaseSharesTheLock(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "data"), 0o755))
	require.NoError(t, os.Symlink("data/real.db", filepath.Join(dir, "link.db"))) // points to nothing yet
	hold(t, dir, "-d", "link.db")
	require.True(t, exists(dir, "data/.real.lock"))
	require.Equal(t, 75, execute(t, dir, "-n", "-d", "data/real.db", "--", "true").code())
	letGo(t, dir)
}

func TestTokensGrowAlsoAfterTheStateIsDeleted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	last := int64(0)
	for i := range 12 {
		if i%4 == 3 {
			require.NoError(t, os.RemoveAll(filepath.Join(dir, ".x.lock.d")))
		}
		args := []string{"-d", "x.db", "--", "sh", "-c", "echo $DBLOCK_HOLD_TOKEN"}
		if i%2 == 1 {
			args = append([]string{"-s"}, args...)
		}
		token, err := strconv.ParseInt(strings.TrimSpace(execute(t, dir, args...).stdout), 10, 64)
		require.NoError(t, err)
		require.Greater(t, token, last)
		last = token
	}
}

const increment = `v=$(cat count); echo $((v+1)) > count`

// contend runs n commands at once, all of which must succeed.
func contend(t *testing.T, dir string, n int, args func(i int) []string) {
	t.Helper()
	var all sync.WaitGroup
	failed := make(chan string, n)
	for i := range n {
		all.Go(func() {
			c := exec.Command(binary, args(i)...)
			c.Dir = dir
			if out, err := c.CombinedOutput(); err != nil || len(out) > 0 {
				failed <- fmt.Sprintf("%v: %s", err, out)
			}
		})
	}
	all.Wait()
	close(failed)
	for f := range failed {
		t.Error(f)
	}
}

func count(t *testing.T, dir string) int {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "count"))
	require.NoError(t, err)
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	require.NoError(t, err)
	return n
}

func rounds(short int) int {
	if n, err := strconv.Atoi(os.Getenv("DBLOCK_TEST_ROUNDS")); err == nil {
		return n
	}
	return short
}

// Set DBLOCK_TEST_ROUNDS=100 for the long form.
func TestContendersLoseNoUpdate(t *testing.T) {
	t.Parallel()
	const contenders = 12
	for name, leave := range map[string]func(t *testing.T, dir string){
		"free lock": func(*testing.T, string) {},
		"dead holder": func(t *testing.T, dir string) {
			c := start(t, command(t, dir, "-d", "x.db", "--", "sh", "-c", "echo $$ > pid; exec sleep 60"))
			await(t, "the holder runs", contains(filepath.Join(dir, "pid"), "\n"))
			require.NoError(t, c.Process.Kill())
			_ = c.Wait()
			require.True(t, exists(dir, ".x.lock"))
			if portable.Half { // where the command does not hear of it
				pid, err := os.ReadFile(filepath.Join(dir, "pid"))
				require.NoError(t, err)
				require.NoError(t, exec.Command("kill", "-9", strings.TrimSpace(string(pid))).Run())
			}
			require.NoError(t, os.Remove(filepath.Join(dir, "pid")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(dir, "count"), []byte("0"), 0o644))
			n := rounds(5)
			for range n {
				leave(t, dir)
				contend(t, dir, contenders, func(int) []string {
					return []string{"-q", "-w", "60", "-d", "x.db", "--", "sh", "-c", increment}
				})
			}
			require.Equal(t, n*contenders, count(t, dir))
			require.Empty(t, litter(t, dir))
		})
	}
}

func TestReadersAndWritersOnACounter(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "count"), []byte("0"), 0o644))
	for range rounds(2) {
		contend(t, dir, 30, func(i int) []string {
			if i%2 == 0 {
				return []string{"-q", "-s", "-w", "60", "-d", "x.db", "--", "sh", "-c", `a=$(cat count); sleep 0.01; test "$a" = "$(cat count)"`}
			}
			return []string{"-q", "-w", "60", "-d", "x.db", "--", "sh", "-c", increment}
		})
	}
	require.Equal(t, rounds(2)*15, count(t, dir))
	require.Empty(t, litter(t, dir))
}

// queue starts waiters one after the other, each when the one before it waits.
func queue(t *testing.T, dir string, n int, args func(i int) []string) []*exec.Cmd {
	t.Helper()
	var cs []*exec.Cmd
	for i := range n {
		cs = append(cs, start(t, command(t, dir, append([]string{"-q", "-w", "forever", "-d", "x.db"}, args(i)...)...)))
		await(t, fmt.Sprintf("%d wait", i+1), func() bool { return waiters(t, dir, "x.db") == i+1 })
	}
	return cs
}

func order(t *testing.T, dir string, cs []*exec.Cmd) string {
	t.Helper()
	letGo(t, dir)
	for _, c := range cs {
		require.NoError(t, c.Wait())
	}
	b, err := os.ReadFile(filepath.Join(dir, "order"))
	require.NoError(t, err)
	return strings.Join(strings.Fields(string(b)), " ")
}

func TestFirstComeFirstServed(t *testing.T) {
	t.Parallel()
	for range rounds(3) {
		dir := t.TempDir()
		hold(t, dir, "-d", "x.db")
		cs := queue(t, dir, 7, func(i int) []string {
			return []string{"--", "sh", "-c", fmt.Sprintf("echo %d >> order", i)}
		})
		require.Equal(t, "0 1 2 3 4 5 6", order(t, dir, cs))
	}
}

func TestPriorities(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	holder := hold(t, dir, "-d", "x.db", "-p", "holder")
	class := []string{"low", "low", "normal", "normal", "high", "high", "normal", "high"}
	cs := queue(t, dir, len(class), func(i int) []string {
		return []string{"--priority", class[i], "-p", "w" + strconv.Itoa(i), "--", "sh", "-c", fmt.Sprintf("echo %s%d >> order", class[i], i)}
	})
	s := statusOf(t, dir, "x.db")
	require.Equal(t, holder.Process.Pid, s.Holder.PID)
	var waiting []string
	for i, w := range s.Waiting {
		require.Equal(t, "sh", w.Command)
		require.Equal(t, "exclusive", w.Mode)
		waiting = append(waiting, w.Priority+strings.TrimPrefix(s.Waiting[i].Process, "w"))
	}
	want := "low0 high4 high5 high7 normal2 normal3 normal6 low1"
	if !portable.Half {
		require.Equal(t, want, strings.Join(waiting, " "), "status lists them in the order in which they will go")
	}
	got := order(t, dir, cs)
	if portable.Half { // without signs nobody gives way to a higher one that is just being woken
		for _, class := range []string{"low", "normal", "high"} {
			each := regexp.MustCompile(class + `\d`)
			require.Equal(t, each.FindAllString(want, -1), each.FindAllString(got, -1))
		}
		return
	}
	require.Equal(t, want, got, "a high one meets at most one of a lower class")
}

func TestReadersTogetherWritersAlone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	hold(t, dir, "-s", "-d", "x.db", "-p", "r1")
	hold(t, dir, "-s", "-d", "x.db", "-p", "r2") // gets in beside the first
	s := statusOf(t, dir, "x.db")
	require.Equal(t, "shared", s.State)
	if !portable.Half {
		require.Len(t, s.Readers, 2)
	}
	require.Equal(t, 75, execute(t, dir, "-n", "-d", "x.db", "--", "true").code())
	require.Zero(t, execute(t, dir, "-n", "-s", "-d", "x.db", "--", "true").code())
	require.True(t, exists(dir, ".x.lock"), "a reader that leaves leaves the notice to the others")

	writer := start(t, command(t, dir, "-q", "-w", "forever", "-d", "x.db", "--", "sh", "-c", "echo writer >> order"))
	await(t, "the writer waits", func() bool { return waiters(t, dir, "x.db") == 1 })
	require.Equal(t, 75, execute(t, dir, "-n", "-s", "-d", "x.db", "--", "true").code(), "-n is fair to those who wait")
	late := start(t, command(t, dir, "-q", "-s", "-w", "forever", "-d", "x.db", "--", "sh", "-c", "echo reader >> order"))
	await(t, "both wait", func() bool { return waiters(t, dir, "x.db") == 2 })
	if s = statusOf(t, dir, "x.db"); !portable.Half {
		require.Equal(t, "exclusive", s.Waiting[0].Mode)
		require.Equal(t, "shared", s.Waiting[1].Mode)
	}
	require.Equal(t, "writer reader", order(t, dir, []*exec.Cmd{writer, late}))
}

func TestReadersLeaveInAnyOrder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for round := range max(15, rounds(0)) {
		var cs []*exec.Cmd
		for i := range 6 {
			c := start(t, command(t, dir, "-q", "-s", "-d", "x.db", "--", "sh", "-c",
				fmt.Sprintf("touch in%d; until [ -e go%d ]; do sleep 0.005; done", i, i)))
			cs = append(cs, c)
		}
		for i := range cs {
			await(t, "all are in", func() bool { return exists(dir, fmt.Sprintf("in%d", i)) })
		}
		// Two are killed, the others leave; never the last one is killed.
		leaving := []int{(round * 5) % 6, (round*5 + 3) % 6}
		for i, c := range cs {
			if round%3 == 0 && (i == leaving[0] || i == leaving[1]) {
				_ = c.Process.Kill()
			}
		}
		for k := range 6 {
			i := (k*5 + round) % 6
			require.NoError(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("go%d", i)), nil, 0o644))
		}
		for _, c := range cs {
			_ = c.Wait()
		}
		if round%3 == 0 {
			// Whoever was killed may have been the last one for a moment.
			require.Zero(t, execute(t, dir, "-d", "x.db", "--", "true").code())
		}
		require.Empty(t, litter(t, dir), "round %d", round)
		for i := range 6 {
			_ = os.Remove(filepath.Join(dir, fmt.Sprintf("in%d", i)))
			_ = os.Remove(filepath.Join(dir, fmt.Sprintf("go%d", i)))
		}
	}
}

func TestWriterAmongEndlessReaders(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for range 4 {
		start(t, exec.Command("sh", "-c", fmt.Sprintf(`cd %q; while [ ! -e go ]; do dblock -q -s -w forever -d x.db -- sh -c 'echo r >> log; sleep 0.4'; done`, dir)))
	}
	await(t, "all readers are in", func() bool {
		if portable.Half {
			log, _ := os.ReadFile(filepath.Join(dir, "log"))
			return len(log) >= 8
		}
		return len(statusOf(t, dir, "x.db").Readers) == 4
	})
	require.Zero(t, execute(t, dir, "-q", "-w", "20", "-d", "x.db", "--", "sh", "-c", "wc -l < log > seen").code())
	letGo(t, dir)
	await(t, "the readers end", func() bool { return statusOf(t, dir, "x.db").State == "free" })
}

func TestLost(t *testing.T) {
	t.Parallel()
	const theirs = `{"pid":1,"timestamp":99999999999999,"host":"elsewhere","process":"robber"}`
	steal := func(dir string) error {
		if err := os.WriteFile(filepath.Join(dir, "theirs"), []byte(theirs), 0o644); err != nil {
			return err
		}
		return os.Rename(filepath.Join(dir, "theirs"), filepath.Join(dir, ".x.lock"))
	}
	command1 := `trap 'echo TERM > end; exit 3' TERM; touch in; while [ -e in ] && [ ! -e go ]; do sleep 0.01; done; echo done > end`
	for _, c := range []struct {
		name, onLost, end string
		take              func(dir string) error
	}{
		{"term", "term", "TERM", steal},
		{"kill", "kill", "", steal},
		{"warn", "warn", "done", steal},
		{"room", "term", "TERM", func(dir string) error { return os.RemoveAll(filepath.Join(dir, ".x.lock.d")) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			w := command(t, dir, "--on-lost", c.onLost, "-d", "x.db", "--", "bash", "-c", command1)
			var errs strings.Builder
			w.Stderr = &errs
			start(t, w)
			await(t, "the command runs", func() bool { return exists(dir, "in") })
			require.NoError(t, c.take(dir))
			if c.onLost == "warn" {
				letGo(t, dir)
			}
			_ = w.Wait()
			require.Equal(t, 69, w.ProcessState.ExitCode(), errs.String())
			require.Contains(t, errs.String(), "was lost")
			require.Equal(t, c.end != "", exists(dir, "end"))
			if c.end != "" {
				require.True(t, contains(filepath.Join(dir, "end"), c.end)())
			}
			b, _ := os.ReadFile(filepath.Join(dir, ".x.lock"))
			switch {
			case c.name == "room" && portable.Half: // what is there may be left of the command, as far as it knows
				require.Zero(t, execute(t, dir, "-n", "-d", "x.db", "--", "true").code())
				require.Empty(t, litter(t, dir))
			case c.name == "room":
				require.Empty(t, b)
			default:
				require.Equal(t, theirs, string(b), "the new owner's notice survives")
			}
		})
	}
}

func TestCommandThatIgnoresTermIsKilledWhenTheLockIsLost(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := start(t, command(t, dir, "--kill-after", "0.2", "-d", "x.db", "--", "sh", "-c", "trap '' TERM; touch in; while :; do sleep 0.01; done"))
	await(t, "the command runs", func() bool { return exists(dir, "in") })
	require.NoError(t, os.RemoveAll(filepath.Join(dir, ".x.lock.d")))
	_ = c.Wait()
	require.Equal(t, 69, c.ProcessState.ExitCode())
}

func TestHealed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := hold(t, dir, "-d", "x.db")
	for range 5 {
		require.NoError(t, os.Remove(filepath.Join(dir, ".x.lock")))
		await(t, "the notice is back", func() bool { return exists(dir, ".x.lock") })
	}
	letGo(t, dir)
	require.NoError(t, c.Wait())
	require.Empty(t, litter(t, dir))
}

func TestForceEndsALiveHolder(t *testing.T) {
	portable.NeedsWord(t)
	t.Parallel()
	for _, c := range []struct {
		name, trap string
		args       func(id string) []string
	}{
		{"yes", "", func(string) []string { return []string{"--yes"} }},
		{"id", "", func(id string) []string { return []string{"--id", id} }},
		{"a command that ignores TERM", "trap '' TERM;", func(string) []string { return []string{"--yes", "--kill-after", "0.3"} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			wait := "0"
			if portable.Half {
				wait = "20" // for what the command had started and is just ending
			}
			if c.trap != "" {
				portable.Needs(t, portable.Tree) // nobody tells of the command when its dblock is killed
			}
			t.Parallel()
			dir := t.TempDir()
			h := start(t, command(t, dir, "-d", "x.db", "-p", "victim", "--", "bash", "-c", c.trap+"echo $$ > pid; while :; do sleep 0.01; done"))
			await(t, "the command runs", contains(filepath.Join(dir, "pid"), "\n"))
			r := execute(t, dir, append([]string{"force", "-d", "x.db"}, c.args(statusOf(t, dir, "x.db").ID)...)...)
			require.Zero(t, r.code(), r.stderr)
			require.Contains(t, r.stdout, "forcibly removed")
			pid, err := os.ReadFile(filepath.Join(dir, "pid"))
			require.NoError(t, err)
			n, err := strconv.Atoi(strings.TrimSpace(string(pid)))
			require.NoError(t, err)
			require.Zero(t, execute(t, dir, "-w", wait, "-d", "x.db", "--", "sh", "-c",
				fmt.Sprintf(`case $(cut -d" " -f3 /proc/%d/stat 2>/dev/null) in ""|Z|X) ;; *) exit 9;; esac`, n)).code(), "two commands never run at once because of force")
			_ = h.Wait()
		})
	}
}

// What an orphan starts while it is being ended has the lock, too: force is not done
// before that has gone.
func TestForceOnAnOrphanThatForksOn(t *testing.T) {
	portable.Needs(t, portable.Processes)
	t.Parallel()
	for range 8 {
		dir := t.TempDir()
		c := start(t, command(t, dir, "-d", "x.db", "--", "sh", "-c", "trap '' TERM; echo $$ > pid; while :; do sleep 0.3 & sleep 0.3 & sleep 0.003; done"))
		await(t, "the command runs", contains(filepath.Join(dir, "pid"), "\n"))
		require.NoError(t, c.Process.Kill())
		_ = c.Wait()
		r := execute(t, dir, "force", "--yes", "--kill-after", "0.05", "-d", "x.db")
		require.Zero(t, r.code(), r.stderr)
		require.Zero(t, execute(t, dir, "-n", "-d", "x.db", "--", "true").code(), "force has said that it is free")
	}
}

func TestForceOnAnOrphanAndOnAForeignHolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if !portable.Half { // where orphans are not known
		c := start(t, command(t, dir, "-d", "x.db", "--", "sh", "-c", "trap '' TERM; echo $$ > pid; while :; do sleep 0.01; done"))
		await(t, "the command runs", contains(filepath.Join(dir, "pid"), "\n"))
		require.NoError(t, c.Process.Kill())
		_ = c.Wait()
		require.Equal(t, 75, execute(t, dir, "force", "-d", "x.db").code())
		r := execute(t, dir, "force", "--yes", "--kill-after", "0.2", "-d", "x.db")
		require.Zero(t, r.code(), r.stderr)
		require.Zero(t, execute(t, dir, "-n", "-d", "x.db", "--", "true").code())
	}

	// A live holder that is no dblock is not killed, and the message says so.
	host, err := os.Hostname()
	require.NoError(t, err)
	peer := fmt.Sprintf(`{"pid":%d,"timestamp":99999999999999,"host":%q,"process":"peer"}`, os.Getpid(), host)
	require.NoError(t, os.WriteFile(filepath.Join(dir, ".x.lock"), []byte(peer), 0o644))
	require.Equal(t, "foreign", statusOf(t, dir, "x.db").State)
	require.Equal(t, 75, execute(t, dir, "force", "-d", "x.db").code())
	r := execute(t, dir, "force", "--yes", "-d", "x.db")
	require.Zero(t, r.code(), r.stderr)
	require.Regexp(t, regexp.MustCompile(`still runs.*pid `+strconv.Itoa(os.Getpid())), r.stdout)
	require.False(t, exists(dir, ".x.lock"))
}

func TestCannotCreate(t *testing.T) {
	t.Parallel()
	r := execute(t, t.TempDir(), "-d", "no/such/x.db", "--", "true")
	require.Equal(t, 73, r.code())
	require.Regexp(t, `^dblock: .*no/such.*\nhint: .*\n$`, r.stderr)
	dir := t.TempDir()
	require.NoError(t, unix.Mkfifo(filepath.Join(dir, ".x.lock"), 0o644))
	require.NoError(t, os.Symlink("nowhere", filepath.Join(dir, ".y.lock")))
	for _, db := range []string{"x.db", "y.db"} {
		r = execute(t, dir, "-d", db, "--", "true")
		require.Equal(t, 73, r.code(), r.stderr)
		require.Contains(t, r.stderr, "not a regular file")
		require.Equal(t, 2, strings.Count(r.stderr, "\n"))
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, ".z.lock.d"), nil, 0o644))
	require.Equal(t, 73, execute(t, dir, "-d", "z.db", "--", "true").code())
	require.False(t, exists(dir, ".z.lock"))
}

func TestFilesystemsThatRefuse(t *testing.T) {
	needRoot(t)
	t.Parallel()
	mount := func(t *testing.T, options string) string {
		dir := t.TempDir()
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
			t.Skipf("cannot mount: %v", err)
		}
		t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
		return dir
	}
	t.Run("read-only", func(t *testing.T) {
		dir := mount(t, "size=64k")
		require.NoError(t, unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
		r := execute(t, "/", "-d", dir+"/x.db", "--", "true")
		require.Equal(t, 73, r.code())
		require.Contains(t, r.stderr, "read-only file system")
	})
	for _, full := range []string{"size=4k", "nr_inodes=2", "nr_inodes=4", "nr_inodes=6", "nr_inodes=7"} {
		t.Run("full "+full, func(t *testing.T) {
			dir := mount(t, full)
			if strings.HasPrefix(full, "size") {
				_ = os.WriteFile(filepath.Join(dir, "fill"), make([]byte, 8192), 0o644)
			}
			before, err := os.ReadDir(dir)
			require.NoError(t, err)
			r := execute(t, "/", "-d", dir+"/x.db", "--", "touch", dir+"/ran")
			require.Equal(t, 73, r.code(), r.stderr)
			require.Contains(t, r.stderr, "no space left")
			after, err := os.ReadDir(dir)
			require.NoError(t, err)
			require.Equal(t, len(before), len(after), "nothing is left behind: %v", after)
		})
	}
}

func TestOtherUsers(t *testing.T) {
	needRoot(t)
	t.Parallel()
	as := func(c *exec.Cmd) *exec.Cmd {
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		return c
	}
	base, err := os.MkdirTemp("", "dblock-users")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(base) })
	require.NoError(t, os.Chmod(base, 0o755))
	require.NoError(t, os.Chmod(filepath.Dir(binary), 0o755))
	for mode, want := range map[os.FileMode]int{0o755: 77, 0o777: 0, 0o777 | os.ModeSticky: 0} {
		dir := filepath.Join(base, fmt.Sprintf("%o", mode))
		require.NoError(t, os.Mkdir(dir, 0o755))
		require.NoError(t, os.Chmod(dir, mode))
		require.Zero(t, execute(t, dir, "-d", "x.db", "--", "true").code())
		r := finish(t, as(command(t, dir, "-d", "x.db", "--", "true")))
		require.Equal(t, want, r.code(), "%v: %s", mode, r.stderr)
		if want == 77 {
			require.Regexp(t, `^dblock: .*permission denied\nhint: `, r.stderr)
			continue
		}
		// What the other user made, root can use, and the other way round.
		require.NoError(t, os.RemoveAll(filepath.Join(dir, ".x.lock.d")))
		require.Zero(t, finish(t, as(command(t, dir, "-d", "x.db", "--", "true"))).code())
		r = execute(t, dir, "-d", "x.db", "--", "true")
		if mode&os.ModeSticky == 0 {
			require.Zero(t, r.code(), r.stderr)
			continue
		}
		// There users do not trust each other, and the other one could take it apart.
		require.Equal(t, 77, r.code(), r.stderr)
		require.Regexp(t, `^dblock: open .*/\.x\.lock\.d: it belongs to user 65534.*permission denied\nhint: `, r.stderr)
	}
	// A dead notice of another user in a sticky directory cannot be removed.
	dir := filepath.Join(base, fmt.Sprintf("%o", 0o777|os.ModeSticky))
	require.NoError(t, os.WriteFile(filepath.Join(dir, ".x.lock"), []byte(`{"pid":1,"timestamp":1,"host":"gone","process":"x"}`), 0o644))
	r := finish(t, as(command(t, dir, "-d", "x.db", "--", "true")))
	require.Equal(t, 77, r.code(), r.stderr)
	require.True(t, exists(dir, ".x.lock"))
}

func TestNoticeIsReadableWhateverTheUmask(t *testing.T) {
	t.Parallel()
	c := exec.Command("sh", "-c", "umask 077; exec dblock -d x.db -- stat -c %a .x.lock")
	c.Dir = t.TempDir()
	out, err := c.Output()
	require.NoError(t, err)
	require.Equal(t, "644\n", string(out))
}

func TestNoFlockFallsBackToTheNotice(t *testing.T) {
	need(t, "strace")
	t.Parallel()
	for _, errno := range []string{"ENOLCK", "EOPNOTSUPP"} {
		dir := t.TempDir()
		c := exec.Command("strace", "-f", "-o", "/dev/null", "-e", "trace=flock", "-e", "inject=flock:error="+errno, binary, "-d", "x.db", "--", "sh", "-c", "exit 4")
		c.Dir = dir
		r := finish(t, c)
		require.Equal(t, 4, r.code(), r.stderr)
		require.Contains(t, r.stderr, "flock does not work")
		require.Empty(t, litter(t, dir))
	}
}

// A lock file that is missing at the end may have been missing for longer, and somebody may
// have come in: that is not hushed up. What came and went is noticed by what it has left.
func TestMissingAtTheEnd(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var r result
	// On a busy machine dblock may look before the command has ended, and put it back.
	await(t, "the lock file is missing at the end", func() bool {
		r = execute(t, dir, "-d", "app.db", "--", "rm", ".app.lock")
		return r.code() != 0
	})
	require.Equal(t, 69, r.code(), r.stderr)
	require.Regexp(t, `^dblock: the lock .* was lost: its lock file was removed`, r.stderr)
	// A peer creates its file where there is none: now and then ours is back before it.
	r = execute(t, dir, "-d", "app.db", "--", "sh", "-c", `trap '' TERM; sleep 0.03; set -C; until rm -f .app.lock; echo '{"pid":1}' 2>&- >.app.lock; do :; done; sleep 0.005; rm .app.lock; sleep 0.03`)
	require.Equal(t, 69, r.code(), r.stderr)
	require.Zero(t, execute(t, dir, "-d", "app.db", "true").code())
	require.Empty(t, litter(t, dir))
}

// What is closed stays closed for the command: it must not be told that it has written
// what nobody gets.
func TestClosedDescriptorsStayClosed(t *testing.T) {
	portable.Needs(t, portable.Streams)
	t.Parallel()
	dir := t.TempDir()
	for _, closes := range []string{">&-", "<&-", "2>&-", "<&- >&- 2>&-"} {
		show := `for fd in 0 1 2; do [ -e /proc/self/fd/$fd ] && printf "$fd " >>"$0"; done; echo x; echo "$?" >>"$0"`
		bare := finish(t, sh(dir, "sh -c '"+show+"' seen "+closes+"; cat seen; rm seen")).stdout
		wrapped := finish(t, sh(dir, "dblock -d x.db -- sh -c '"+show+"' seen "+closes+"; cat seen; rm seen")).stdout
		require.Equal(t, bare, wrapped, closes)
	}
}
