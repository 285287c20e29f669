//go:build linux && !portable

package tree

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What is seen of real processes: a child of this one in its session, one with a name
// like a line of the table, and one that has left.
func TestOf(t *testing.T) {
	odd := t.TempDir() + "/a) S 1 (b"
	sleep, err := exec.LookPath("sleep")
	require.NoError(t, err)
	require.NoError(t, os.Symlink(sleep, odd))
	start := func(name string, args ...string) *exec.Cmd {
		c := exec.Command(name, args...)
		require.NoError(t, c.Start())
		t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
		return c
	}
	plain, strange, left := start(sleep, "60"), start(odd, "60"), start("setsid", sleep, "60")
	seen := func() map[int]Process {
		found, known := Of(os.Getpid(), 0)
		require.True(t, known)
		m := map[int]Process{}
		for _, p := range found {
			m[p.PID] = p
		}
		return m
	}
	require.Eventually(t, func() bool {
		m := seen()
		_, there := m[left.Process.Pid]
		return !there && strings.HasPrefix(m[strange.Process.Pid].Name, "a) S 1 (b")
	}, 20*time.Second, time.Millisecond)
	m := seen()
	require.Equal(t, os.Getpid(), m[plain.Process.Pid].Parent)
	require.NotContains(t, m, os.Getpid())
	require.Contains(t, Children(), left.Process.Pid)

	whole := Whole(os.Getpid())
	require.Equal(t, os.Getpid(), whole[0].PID)
	require.Contains(t, pids(whole), plain.Process.Pid)
	require.NotContains(t, pids(whole), left.Process.Pid)
	require.Empty(t, Whole(1<<22+1))

	found, _ := Of(os.Getpid(), 0, plain.Process.Pid)
	for _, p := range found {
		require.NotEqual(t, plain.Process.Pid, p.PID)
	}
	found, _ = Of(os.Getpid(), left.Process.Pid)
	require.Contains(t, pids(found), left.Process.Pid, "a command that began its own session")
}

// A process whose first thread has ended while another one goes on has not ended.
func TestOfWithoutTheFirstThread(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("there is no python3 here")
	}
	c := exec.Command(python, "-c", "import ctypes, threading, time\nthreading.Thread(target=time.sleep, args=(60,)).start()\nctypes.CDLL(None).pthread_exit(None)")
	require.NoError(t, c.Start())
	t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	require.Eventually(t, func() bool {
		p, _ := read(c.Process.Pid)
		return p.State == 'Z'
	}, 20*time.Second, time.Millisecond)
	found, known := Of(os.Getpid(), 0)
	require.True(t, known)
	require.Contains(t, pids(found), c.Process.Pid)
}
