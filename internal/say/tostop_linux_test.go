package say

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/internal/portable"
)

// terminal returns both ends of a new terminal with `stty tostop`.
func terminal(t *testing.T) (master, slave *os.File) {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { master.Close() })
	require.NoError(t, unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	require.NoError(t, err)
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { slave.Close() })
	modes, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
	require.NoError(t, err)
	modes.Lflag |= unix.TOSTOP
	require.NoError(t, unix.IoctlSetTermios(int(slave.Fd()), unix.TCSETS, modes))
	return master, slave
}

// In the background of a terminal with tostop a write neither stops the process nor,
// if it handles SIGTTOU, lets it spin.
func TestTostop(t *testing.T) {
	for _, kind := range []string{"plain", "handled"} {
		master, slave := terminal(t)
		c := exec.Command(os.Args[0])
		c.Env = append(os.Environ(), "SAY_TEST_CHILD=leader", "SAY_TEST_THEN="+kind)
		c.Stdin, c.Stderr = slave, slave
		c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
		out, err := c.Output()
		require.NoError(t, err, "%s: %s", kind, out)
		require.Equal(t, "goes on\n", string(out))
		if portable.Half {
			continue // it says nothing there
		}
		r := bufio.NewReader(master)
		for _, want := range []string{"hello\r\n", "again\r\n"} {
			line, err := r.ReadString('\n')
			require.NoError(t, err)
			require.Equal(t, want, line)
		}
	}
}
