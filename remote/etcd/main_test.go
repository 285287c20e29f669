package etcd_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dblock-dev/dblock/lock"
	"github.com/dblock-dev/dblock/remote/etcd"
)

const envRole, envConfig = "ETCD_TEST_ROLE", "ETCD_TEST_CONFIG"

// config is what a child is to do.
type config struct {
	URL     string
	Mode    lock.Mode
	Wait    time.Duration
	TTL     time.Duration
	Grace   time.Duration
	Machine string // its state directory, if it shares that
	// For a storm:
	Dir string
	For time.Duration
}

func (c config) options() lock.Options {
	return lock.Options{Mode: c.Mode, Wait: c.Wait, TTL: c.TTL, Grace: c.Grace, Process: "child"}
}

func TestMain(m *testing.M) {
	var c config
	if role := os.Getenv(envRole); role != "" {
		if err := json.Unmarshal([]byte(os.Getenv(envConfig)), &c); err != nil {
			panic(err)
		}
		os.Exit(map[string]func(config) int{"hold": childHold, "check": childCheck, "storm": childStorm, "standby": childStandby}[role](c))
	}
	for _, name := range os.Environ() {
		if name, _, _ = strings.Cut(name, "="); strings.HasPrefix(name, "ETCDCTL_") || strings.HasPrefix(name, "DBLOCK_") {
			_ = os.Unsetenv(name)
		}
	}
	// Each test process is a machine of its own.
	home, err := os.MkdirTemp("", "etcd-test-")
	if err != nil {
		panic(err)
	}
	_ = os.Setenv("XDG_STATE_HOME", home)
	_ = os.Mkdir(home+"/dblock", 0o700) // as package lock does
	code := m.Run()
	_ = os.RemoveAll(home)
	os.Exit(code)
}

// childHold holds a lock until it is told to release it. It tells of a loss.
func childHold(c config) int {
	l := lock.New(c.URL, c.options())
	if err := l.Acquire(context.Background()); err != nil {
		fmt.Println("error", err)
		return 1
	}
	g, _ := l.Grant()
	l.Attend()
	fmt.Println("held", g.Holder.Token)
	told := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(told)
	}()
	select {
	case <-l.Lost():
		fmt.Println("lost", l.Err())
		<-told
	case <-told:
	}
	fmt.Println("released", l.Release())
	return 0
}

// childCheck holds a lock and asks nobody but Check whether it still does, busily.
func childCheck(c config) int {
	h, err := etcd.Engine.Acquire(context.Background(), request(c.URL))
	if err != nil {
		fmt.Println("error", err)
		return 1
	}
	last := time.Now() // it may be stopped before Println returns
	fmt.Println("held")
	for {
		was := last
		if last = time.Now(); last.Sub(was) > time.Second {
			fmt.Println("check", h.Check())
			return 0
		}
	}
}

// child is a process on a machine of its own, or on one that it shares.
type child struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines chan string
}

func spawn(t testing.TB, role string, c config) *child {
	t.Helper()
	text, err := json.Marshal(c)
	require.NoError(t, err)
	cmd := exec.Command(os.Args[0])
	if c.Machine == "" {
		c.Machine = t.TempDir()
	}
	cmd.Env = append(os.Environ(), envRole+"="+role, envConfig+"="+string(text), "XDG_STATE_HOME="+c.Machine)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = endsWithUs()
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	k := &child{cmd: cmd, in: in, lines: make(chan string, 100)}
	go func() {
		for s := bufio.NewScanner(out); s.Scan(); {
			k.lines <- s.Text()
		}
		close(k.lines)
	}()
	t.Cleanup(k.kill)
	return k
}

func (k *child) kill() {
	_ = k.cmd.Process.Kill()
	_ = k.cmd.Wait()
}

// says waits for a line that begins so, and returns the rest of it.
func (k *child) says(t testing.TB, begin string) string {
	t.Helper()
	select {
	case line, ok := <-k.lines:
		require.True(t, ok, "it has ended")
		rest, found := strings.CutPrefix(line, begin)
		require.True(t, found, "it says %q", line)
		return strings.TrimSpace(rest)
	case <-time.After(patience):
		t.Fatalf("it does not say %q", begin)
	}
	return ""
}

// machine has what follows in the test on a machine of its own.
func machine(t testing.TB) {
	t.Helper()
	home := t.TempDir()
	require.NoError(t, os.Mkdir(home+"/dblock", 0o700))
	t.Setenv("XDG_STATE_HOME", home)
}
