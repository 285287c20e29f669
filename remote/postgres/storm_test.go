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
// requires that tokens grow, and counts, as one may who is alone. That is closed before the descriptors that keep ours when the shell
// ends, the lower number first: a shell that is ending is not at work.
const stormWork = `
exec 0>>oracle
flock -n 0 || { echo "overlap of $TOKEN with $(tail -n 1 log)" >>bad; exit 1; }
last=$(tail -n 1 log)
[ "$TOKEN" -gt "${last:-0}" ] || echo "token $TOKEN after $last" >>bad
n=$(cat counter)
sleep $PAUSE
echo $((n + 1)) >counter.$$
mv counter.$$ counter
echo "$TOKEN" >>log
`

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
	kills, struck := 0, map[string]int{}
	strike := time.Now().Add(15 * time.Second)
	for end := time.Now().Add(*stormFor); time.Now().Before(end); time.Sleep(rand.N(100 * time.Millisecond)) {
		i := rand.N(processes)
		_ = all[i].Process.Kill()
		_ = all[i].Wait()
		kills++
		all[i] = start(i)
		if rand.N(20) == 0 {
			// Of one that was killed the second session is all that keeps others from its tree, and nobody is there to notice its end.
			var alive []string
			for _, p := range all {
				alive = append(alive, strconv.Itoa(p.Process.Pid))
			}
			_, _ = s.try("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'dblock%' AND substring(application_name FROM '([0-9]+)@') IN (" +
				"'" + strings.Join(alive, "', '") + "') ORDER BY random() LIMIT 1")
			struck["session ended"]++
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
	require.Empty(t, read("bad"))
	require.Positive(t, lines)
	require.GreaterOrEqual(t, counter, lines)
	require.LessOrEqual(t, counter, lines+losses)
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
