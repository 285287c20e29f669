package signals

import (
	"bufio"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/internal/heed"
)

// The test binary runs itself as a child that does one thing with signals.
func TestMain(m *testing.M) {
	switch os.Getenv("SIGNALS_TEST_CHILD") {
	case "die":
		signal.Notify(make(chan os.Signal, 1), syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGUSR1)
		for n := range syscall.Signal(32) {
			if n > 0 && strings.EqualFold(os.Args[1], unix.SignalName(n)) {
				Die(n)
			}
		}
		os.Exit(99)
	case "listen":
		ignored := Set(0)
		if len(os.Args) > 1 && os.Args[1] == "usr1" {
			ignored = 1 << (syscall.SIGUSR1 - 1)
		}
		l := Listen(ignored)
		os.Stdout.WriteString("ready\n")
		for sig := range l.C() {
			os.Stdout.WriteString(sig.Signal.String() + "\n")
		}
	default:
		if child := children[os.Getenv("SIGNALS_TEST_CHILD")]; child != nil {
			child()
			return
		}
		heed.Signals()
		os.Exit(m.Run())
	}
}

// children are what else the test binary does as a child.
var children = map[string]func(){}

func child(kind string, args ...string) *exec.Cmd {
	c := exec.Command(os.Args[0], args...)
	c.Env = append(os.Environ(), "SIGNALS_TEST_CHILD="+kind)
	return c
}

func TestDieOfTheSignalItself(t *testing.T) {
	for _, sig := range []syscall.Signal{unix.SIGTERM, unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGKILL, unix.SIGUSR1, unix.SIGSEGV, unix.SIGABRT, unix.SIGPIPE} {
		c := child("die", unix.SignalName(sig))
		out, err := c.CombinedOutput()
		require.Error(t, err)
		status := c.ProcessState.Sys().(syscall.WaitStatus)
		require.True(t, status.Signaled(), "%v: %v", sig, status)
		require.Equal(t, sig, status.Signal())
		require.False(t, status.CoreDump(), "%v", sig)
		require.Empty(t, string(out), "no stack trace for %v", sig)
	}
}

// listen starts a listening child through sh, which sets the dispositions.
func listen(t *testing.T, trap string, args ...string) (*exec.Cmd, *bufio.Reader) {
	c := child("listen")
	c.Args = append([]string{"sh", "-c", trap + `exec "$0" "$@"`, os.Args[0]}, args...)
	sh, err := exec.LookPath("sh")
	require.NoError(t, err)
	c.Path = sh
	out, err := c.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, c.Start())
	t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	r := bufio.NewReader(out)
	line, err := r.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "ready\n", line)
	return c, r
}

func TestListenGetsEachSignalInOrder(t *testing.T) {
	c, r := listen(t, "")
	for _, sig := range []syscall.Signal{unix.SIGTERM, unix.SIGUSR1, unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGUSR2, unix.SIGALRM, unix.SIGIO, unix.SIGTERM} {
		require.NoError(t, c.Process.Signal(sig))
		line, err := r.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, sig.String()+"\n", line)
	}
}

// Whoever rests, without the thread that delivers signals, is woken up by one, finds
// it there, and by news of a child.
func TestRest(t *testing.T) {
	l := Listen(0)
	if l.direct == nil {
		t.Skip("os/signal listens")
	}
	_, ok := l.Next()
	require.False(t, ok)
	for range 2 {
		require.NoError(t, unix.Kill(os.Getpid(), unix.SIGUSR1))
		begin := time.Now()
		l.Rest(time.Minute)
		require.Less(t, time.Since(begin), 30*time.Second)
		r, ok := l.Next()
		for !ok && time.Since(begin) < 30*time.Second {
			// News of a child of another test woke us up, which is allowed.
			l.Rest(time.Minute)
			r, ok = l.Next()
		}
		require.True(t, ok)
		require.Equal(t, unix.SIGUSR1, r.Signal)
		require.False(t, r.FromTerminal())
		pid, uid := r.Sender()
		require.Equal(t, [2]int{os.Getpid(), os.Getuid()}, [2]int{pid, uid})
	}
	c := exec.Command("true")
	require.NoError(t, c.Start())
	begin := time.Now()
	l.Rest(time.Minute)
	require.Less(t, time.Since(begin), 30*time.Second)
	require.NoError(t, c.Wait())
	_, ok = l.Next()
	require.False(t, ok, "news of children are not passed on")
	l.Rest(time.Millisecond)

	require.NoError(t, unix.Kill(os.Getpid(), unix.SIGUSR2))
	require.Equal(t, unix.SIGUSR2, (<-l.C()).Signal)
	signal.Reset()
}

func TestIgnoredSignalsStayIgnored(t *testing.T) {
	// HUP and INT the Go runtime tells by itself; USR1 is known from the start.
	c, r := listen(t, "trap '' HUP INT USR1; ", "usr1")
	for _, sig := range []syscall.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGUSR1, unix.SIGUSR2} {
		require.NoError(t, c.Process.Signal(sig))
	}
	line, err := r.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, unix.SIGUSR2.String()+"\n", line)
}

func TestSet(t *testing.T) {
	s := Set(1<<(syscall.SIGTERM-1) | 1<<(syscall.SIGHUP-1))
	require.True(t, s.Has(syscall.SIGTERM))
	require.True(t, s.Has(syscall.SIGHUP))
	require.False(t, s.Has(syscall.SIGINT))
}

func TestKinds(t *testing.T) {
	for _, sig := range []syscall.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM} {
		require.Contains(t, listened, sig)
		require.True(t, Ends(sig), "%v", sig)
		require.False(t, Stops(sig), "%v", sig)
	}
	for _, sig := range []syscall.Signal{unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU, unix.SIGCONT, unix.SIGWINCH} {
		require.Contains(t, listened, sig)
		require.False(t, Ends(sig), "%v", sig)
	}
	for _, never := range []syscall.Signal{unix.SIGURG, unix.SIGCHLD, unix.SIGPIPE, unix.SIGXFSZ} {
		require.NotContains(t, slices.Concat(listened, extra, faults, extraFaults), never)
	}
}
