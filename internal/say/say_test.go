package say

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// The test binary runs itself as a child that says something on standard error.
func TestMain(m *testing.M) {
	if os.Getenv("SAY_TEST_CHILD") == "" {
		os.Exit(m.Run())
	}
	child()
}

func pipe(t *testing.T, flags int) (r, w int) {
	var ends [2]int
	require.NoError(t, unix.Pipe(ends[:]))
	for _, fd := range ends {
		unix.CloseOnExec(fd)
	}
	require.NoError(t, unix.SetNonblock(ends[1], flags&unix.O_NONBLOCK != 0))
	t.Cleanup(func() { _ = unix.Close(ends[0]); _ = unix.Close(ends[1]) })
	return ends[0], ends[1]
}

func TestNothingSaid(t *testing.T) {
	require.True(t, To(2).Flush(0))
}

func TestInOrder(t *testing.T) {
	r, fd := pipe(t, 0)
	w := To(fd)
	var want strings.Builder
	for i := range 100 {
		fmt.Fprintf(w, "message %d\n", i)
		fmt.Fprintf(&want, "message %d\n", i)
	}
	require.True(t, w.Flush(time.Minute))
	got := make([]byte, 1<<16)
	n, err := unix.Read(r, got)
	require.NoError(t, err)
	require.Equal(t, want.String(), string(got[:n]))
}

func fdOf(t *testing.T, path string) int {
	f, err := os.Open(path)
	require.NoError(t, err)
	t.Cleanup(func() { f.Close() })
	return int(f.Fd())
}

// A pipe that nobody reads holds nobody up, however much is said; what is read later
// are whole messages from the beginning on.
func TestFullPipe(t *testing.T) {
	for _, flags := range []int{0, unix.O_NONBLOCK} {
		r, fd := pipe(t, flags)
		w := To(fd)
		line := strings.Repeat("x", 1023) + "\n"
		for range 4 * most {
			n, err := io.WriteString(w, line)
			require.NoError(t, err)
			require.Equal(t, len(line), n)
		}
		begin := time.Now()
		require.False(t, w.Flush(10*time.Millisecond))
		require.Less(t, time.Since(begin), 30*time.Second)
		got := make([]byte, len(line))
		for range most {
			for at := 0; at < len(got); {
				n, err := unix.Read(r, got[at:])
				require.NoError(t, err)
				at += n
			}
			require.Equal(t, line, string(got))
		}
		require.NoError(t, unix.Dup2(fdOf(t, os.DevNull), r)) // its reader goes
		require.True(t, w.Flush(time.Minute), "the rest is given up")
	}
}

// Whose reader has gone: no SIGPIPE, which would end a process that writes to it as
// standard error.
func TestClosedPipe(t *testing.T) {
	r, w, err := os.Pipe()
	require.NoError(t, err)
	require.NoError(t, r.Close())
	defer w.Close()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), "SAY_TEST_CHILD=plain")
	c.Stderr = w
	out, err := c.Output()
	require.NoError(t, err)
	require.Equal(t, "goes on\n", string(out))
}
