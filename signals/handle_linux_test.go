//go:build linux && !portable && (amd64 || arm64)

package signals

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func init() {
	children["crash"] = func() {
		Listen(0)
		func() {
			defer func() { fmt.Println(recover()) }()
			fmt.Println(*nothing)
		}()
		fmt.Println(*nothing)
	}
	children["forked"] = func() {
		l := Listen(0)
		self = -1 // as it is in the child of a fork
		_ = unix.Kill(os.Getpid(), unix.SIGTTOU)
		_, ok := l.Next()
		fmt.Println(ok)
	}
	children["typed"] = func() {
		l := Listen(0)
		if len(os.Args) > 1 {
			l.C()
		}
		fmt.Println("ready")
		_ = unix.Kill(os.Getpid(), unix.SIGUSR1)
		for until := time.Now().Add(time.Minute); time.Now().Before(until); {
			l.Started(func(sig syscall.Signal) { fmt.Println(unix.SignalName(sig)) })
			runtime.Gosched()
		}
	}
}

var nothing *int

// What tells of a crash is passed on if somebody has sent it.
func TestFaultsThatWereSent(t *testing.T) {
	c, r := listen(t, "")
	for _, sig := range append(append(faults, extraFaults...), unix.SIGTERM) {
		require.NoError(t, c.Process.Signal(sig))
		line, err := r.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, sig.String()+"\n", line)
	}
}

// A fault of our own is for the runtime: a panic that can be recovered from, or a
// stack trace and exit code 2.
func TestFaultsOfOurOwn(t *testing.T) {
	c := child("crash")
	out, err := c.CombinedOutput()
	require.Error(t, err)
	require.Equal(t, 2, c.ProcessState.ExitCode())
	require.Regexp(t, `(?s)^runtime error: invalid memory address.*panic: runtime error: invalid memory address.*goroutine 1`, string(out))
}

// Between fork and exec, in the child, a signal does what it does without a handler,
// and is not told to the parent.
func TestNoHandlerInTheForkedChild(t *testing.T) {
	c := child("forked")
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // nothing stops in an orphaned group
	out, err := c.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, c.Start())
	defer c.Process.Kill()
	var status syscall.WaitStatus
	_, err = syscall.Wait4(c.Process.Pid, &status, syscall.WUNTRACED, nil)
	require.NoError(t, err)
	require.True(t, status.Stopped(), "%v", status)
	require.Equal(t, unix.SIGTTOU, status.StopSignal())
	require.NoError(t, c.Process.Signal(unix.SIGCONT))
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "false\n", line)
	require.NoError(t, c.Wait())
}

// What was typed before the command existed is for it, too, whether or not the thread
// that delivers signals runs already.
func TestTypedBeforeTheStart(t *testing.T) {
	for _, args := range [][]string{nil, {"delivered"}} {
		master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
		require.NoError(t, err)
		defer master.Close()
		require.NoError(t, unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0))
		n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
		require.NoError(t, err)
		slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
		require.NoError(t, err)
		defer slave.Close()

		c := child("typed", args...)
		c.Stdin = slave
		c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
		out, err := c.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, c.Start())
		defer func(p *exec.Cmd) { _ = p.Process.Kill(); _ = p.Wait() }(c)
		r := bufio.NewReader(out)
		for _, want := range []string{"ready", "SIGUSR1", "SIGINT", "SIGQUIT"} {
			line, err := r.ReadString('\n')
			require.NoError(t, err)
			require.Equal(t, want+"\n", line)
			switch want {
			case "SIGUSR1":
				_, err = master.WriteString("\x03")
			case "SIGINT":
				_, err = master.WriteString("\x1c")
			}
			require.NoError(t, err)
		}
	}
}

// Who ignores the signal keeps it so, and does without.
func TestInterruptsOnlyWhereItMay(t *testing.T) {
	t.Parallel()
	const bit = Set(1) << (Interrupt - 1)
	require.True(t, (&Listener{direct: &wire{sigs: bit}}).Interrupts())
	require.False(t, (&Listener{direct: &wire{sigs: ^bit}}).Interrupts())
	require.False(t, (&Listener{}).Interrupts())
}
