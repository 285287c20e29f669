package postgres

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
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

	"github.com/dblock-dev/dblock/lock"
)

var stormFor = flag.Duration("storm", 2*time.Second, "how long the storm lasts; from 30s on the server is struck, too")

func median(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)/2]
}

// stormWork is what a command does under the lock: the oracle is a lock of the kernel's, which it must get at once. It also
// requires that tokens grow, and counts, as one may who is alone. The oracle is closed before the shell ends: which of its descriptors
// the kernel closes first then, that one or those that keep ours, is not for us to say.
const stormWork = `
echo "up $TOKEN" >>events
exec 9>>oracle
flock -n 9 || { echo "overlap $TOKEN" >>events; echo "out $TOKEN" >>events; exit 1; }
last=$(tail -n 1 log)
[ "$TOKEN" -gt "${last:-0}" ] || echo "disorder $TOKEN" >>events
n=$(cat counter)
sleep $PAUSE
echo $((n + 1)) >counter.$$
mv counter.$$ counter
echo "$TOKEN" >>log
exec 9>&-
echo "out $TOKEN" >>events
`

// judgeStorm finds what nobody could have protected from in the events of a storm, a line each, and what is a fault. A tree whose
// dblock was killed is kept by its second session alone: if somebody ends that, too, others may come in. In the events are
//
//	in TOKEN PID      a command of this dblock's is about to start
//	up TOKEN          it runs: its dblock was not killed before that
//	out TOKEN         it has ended, or as good as
//	killed PID        this dblock is about to be killed
//	bared PID         its second session is about to be ended
//	overlap TOKEN     the command has met another one
//	disorder TOKEN    it has met the trace of a later one
func judgeStorm(events string) (unprotected, faults []string) {
	type tree struct {
		pid           string
		up            bool
		killed, bared bool // since it began
	}
	open := map[string]*tree{}
	for _, line := range strings.Split(events, "\n") {
		what, of, _ := strings.Cut(line, " ")
		switch what {
		case "in":
			token, pid, _ := strings.Cut(of, " ")
			open[token] = &tree{pid: pid}
		case "up":
			if o := open[of]; o != nil {
				o.up = true
			}
		case "out":
			delete(open, of)
		case "killed", "bared":
			for _, o := range open {
				if o.pid == of {
					o.killed, o.bared = o.killed || what == "killed", o.bared || what == "bared"
				}
			}
		case "overlap", "disorder":
			found := line + " while these were in:"
			unkept := false
			for token, o := range open {
				if !o.up {
					continue
				}
				found += fmt.Sprintf(" %s of %s (killed: %t, bared: %t)", token, o.pid, o.killed, o.bared)
				unkept = unkept || o.killed && o.bared
			}
			if unkept {
				unprotected = append(unprotected, found)
			} else {
				faults = append(faults, found)
			}
		}
	}
	return unprotected, faults
}

func TestJudgeStorm(t *testing.T) {
	for _, c := range []struct{ events, unprotected, fault string }{
		{events: "in 1 77\nkilled 77\nout 1\nin 2 78\nout 2"},
		{events: "in 1 77\nkilled 77\nbared 77\nin 2 78\nup 2\noverlap 2", fault: "overlap 2"},
		{events: "in 1 77\nup 1\nkilled 77\nin 2 78\noverlap 2", fault: "overlap 2"},
		{events: "in 1 77\nup 1\nbared 77\nin 2 78\noverlap 2", fault: "overlap 2"},
		{events: "killed 77\nbared 77\nin 1 77\nup 1\nin 2 78\noverlap 2", fault: "overlap 2"},
		{events: "in 1 77\nup 1\nkilled 77\nbared 77\nout 1\nin 2 78\noverlap 2", fault: "overlap 2"},
		{events: "in 1 77\nup 1\nkilled 77\nbared 77\nin 2 78\noverlap 2", unprotected: "overlap 2"},
		{events: "in 1 77\nbared 77\nkilled 77\nin 2 78\nup 2\nout 2\nup 1\ndisorder 1", unprotected: "disorder 1"},
	} {
		unprotected, faults := judgeStorm(c.events)
		require.Contains(t, strings.Join(unprotected, ""), c.unprotected, c.events)
		require.Contains(t, strings.Join(faults, ""), c.fault, c.events)
		require.Equal(t, c.unprotected == "", len(unprotected) == 0, c.events)
		require.Equal(t, c.fault == "", len(faults) == 0, c.events)
	}
}

// storm takes the lock again and again until its input ends.
func storm() {
	over := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(over)
	}()
	for {
		select {
		case <-over:
			os.Exit(0)
		default:
		}
		l := lock.New(os.Getenv(role+"_URL"), lock.Options{Wait: 30 * time.Second, Grace: grace})
		if err := l.Acquire(context.Background()); err != nil {
			note("errors", err)
			time.Sleep(rand.N(100 * time.Millisecond))
			continue
		}
		stormHold(l)
		if err := l.Release(); err != nil {
			note("losses", err)
		}
	}
}

func stormHold(l *lock.Lock) {
	g, ok := l.Grant()
	if !ok || l.Check() != nil {
		return
	}
	c := exec.Command("sh", "-c", stormWork)
	c.Env = append(os.Environ(), fmt.Sprintf("TOKEN=%d", g.Holder.Token), fmt.Sprintf("PAUSE=%.3f", rand.Float64()*0.02))
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	for _, fd := range l.Descriptors() {
		copied, err := syscall.Dup(fd)
		if err != nil {
			panic(err)
		}
		syscall.CloseOnExec(copied)
		f := os.NewFile(uintptr(copied), "lock")
		defer f.Close()
		c.ExtraFiles = append(c.ExtraFiles, f)
	}
	note("events", fmt.Sprintf("in %d %d", g.Holder.Token, os.Getpid()))
	if err := c.Start(); err != nil {
		panic(err)
	}
	done := make(chan struct{})
	go func() {
		_ = c.Wait()
		close(done)
	}()
	select {
	case <-l.Lost():
		_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL)
		note("losses", l.Err())
		for syscall.Kill(-c.Process.Pid, 0) == nil { // all that the command has started
			time.Sleep(time.Millisecond)
		}
	case <-done:
	}
	<-done
	note("events", fmt.Sprintf("out %d", g.Holder.Token))
}

// note adds a line to a file.
func note(file string, what any) {
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		panic(err)
	}
	defer f.Close()
	fmt.Fprintln(f, what)
}

// process is one of those who are on a machine, which is a state directory.
type process struct {
	*exec.Cmd
	in io.WriteCloser
}

func newProcess(t *testing.T, dir, state string, env ...string) *process {
	t.Helper()
	c := exec.Command(os.Args[0])
	c.Dir = dir
	c.Env = append(append(os.Environ(), role+"=storm", "XDG_STATE_HOME="+state), env...)
	c.Stderr = os.Stderr
	in, err := c.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, c.Start())
	return &process{Cmd: c, in: in}
}

func TestStorm(t *testing.T) {
	need(t, "flock")
	const processes, machines = 10, 5
	s := newServer(t)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "counter"), []byte("0\n"), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "log"), nil, 0o644))
	env := []string{role + "_URL=" + s.url("storm")}
	long := *stormFor >= 30*time.Second
	if long {
		env = append(env, role+"_NEW=-1h") // it is struck before it is a minute old
	}
	start := func(i int) *process {
		return newProcess(t, dir, filepath.Join(dir, fmt.Sprint("state", i%machines)), env...)
	}
	var all [processes]*process
	for i := range all {
		all[i] = start(i)
	}
	tell := func(event string) { note(filepath.Join(dir, "events"), event) }
	kills, struck := 0, map[string]int{}
	strike := time.Now().Add(15 * time.Second)
	for end := time.Now().Add(*stormFor); time.Now().Before(end); time.Sleep(rand.N(100 * time.Millisecond)) {
		i := rand.N(processes)
		killed := strconv.Itoa(all[i].Process.Pid)
		tell("killed " + killed)
		_ = all[i].Process.Kill()
		_ = all[i].Wait()
		kills++
		all[i] = start(i)
		if rand.N(20) == 0 {
			whose := "any"
			if rand.N(2) == 0 {
				whose = killed
			}
			if s.endSession(t, whose, s.url("storm"), tell) {
				struck["session ended"]++
			}
		}
		if long && time.Now().After(strike) {
			struck[s.strike(t)]++
			strike = time.Now().Add(15 * time.Second)
		}
	}
	for _, m := range all {
		_ = m.in.Close()
	}
	for _, m := range all {
		require.NoError(t, m.Wait())
	}
	read := func(name string) string {
		text, _ := os.ReadFile(filepath.Join(dir, name))
		return string(text)
	}
	lines := strings.Count(read("log"), "\n")
	losses := strings.Count(read("losses"), "\n")
	counter, err := strconv.Atoi(strings.TrimSpace(read("counter")))
	require.NoError(t, err)
	t.Logf("%d holds, %d processes killed, %v, %d losses told, %d errors", lines, kills, struck, losses, strings.Count(read("errors"), "\n"))
	for _, line := range bytes.Split([]byte(read("errors")), []byte("\n")) {
		if len(line) > 0 && !long {
			t.Logf("error: %s", line)
		}
	}
	unprotected, faults := judgeStorm(read("events"))
	for _, line := range unprotected {
		t.Log("from which nothing can protect: " + line)
	}
	require.Empty(t, faults)
	require.Positive(t, lines)
	require.GreaterOrEqual(t, counter, lines)
	require.LessOrEqual(t, counter, lines+losses)
}

// endSession ends one of the sessions of the dblock of a pid, or of any. If it has the aftermath's key, that is told first.
func (s *server) endSession(t *testing.T, pid, url string, tell func(event string)) bool {
	target, err := parse(url)
	require.NoError(t, err)
	const owner = "substring(application_name FROM '([0-9]+)@')"
	found, err := s.try("SELECT concat_ws(' ', pid, " + owner + ", (SELECT 'bared' FROM pg_locks WHERE pg_locks.pid = a.pid AND " + inLocks(target.after) + ")) " +
		"FROM pg_stat_activity AS a WHERE application_name LIKE 'dblock%' AND '" + pid + "' IN ('any', " + owner + ") ORDER BY random() LIMIT 1")
	f := strings.Fields(found)
	if err != nil || len(f) == 0 {
		return false
	}
	if len(f) == 3 {
		tell("bared " + f[1])
	}
	_, err = s.try("SELECT pg_terminate_backend(" + f[0] + ")")
	return err == nil
}

// strike does something to the server.
func (s *server) strike(t *testing.T) string {
	switch rand.N(4) {
	case 0:
		s.kill(t)
		s.start(t)
		return "server killed"
	case 1:
		s.stop("fast")
		s.start(t)
		return "server restarted"
	case 2:
		pids := s.processes(t)
		_ = syscall.Kill(pids[1+rand.N(len(pids)-1)], syscall.SIGKILL)
		time.Sleep(time.Second)
		return "server process killed"
	default:
		thaw := s.freeze(t)
		time.Sleep(time.Second + rand.N(4*time.Second))
		thaw()
		return "server stopped"
	}
}
