package postgres

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dblock-dev/dblock/lock"
)

// role makes the test binary another machine's process.
const role = "DBLOCK_PG_TEST"

func TestMain(m *testing.M) {
	if old, err := time.ParseDuration(os.Getenv(role + "_NEW")); err == nil {
		newFor = old
	}
	switch os.Getenv(role) {
	case "hold":
		holdForTest()
	case "storm":
		storm()
	}
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "PG") {
			_ = os.Unsetenv(name)
		}
	}
	dir, err := os.MkdirTemp("", "dblock-pg-state")
	if err != nil {
		panic(err)
	}
	_ = os.Setenv("XDG_STATE_HOME", dir)
	code := m.Run()
	for i := len(ending) - 1; i >= 0; i-- {
		ending[i]()
	}
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// grace is short, so that tests need not wait long.
const grace = 500 * time.Millisecond

func asking(url string) lock.EngineRequest {
	host, _ := os.Hostname()
	return lock.EngineRequest{
		URL: url, Grace: grace,
		Holder: lock.Holder{Dblock: true, PID: os.Getpid(), Host: host, Process: "tester", UID: os.Getuid(), Command: "work", Info: "why */ not /* ü😀"},
	}
}

// noWait is one who does not wait.
func noWait(url string) lock.EngineRequest {
	r := asking(url)
	r.NoWait = true
	return r
}

// limit is how long anything may take that should happen.
const limit = 40 * time.Second

func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, stop := context.WithTimeout(context.Background(), d)
	t.Cleanup(stop)
	return ctx
}

// get acquires a lock that is free, or will be.
func get(t testing.TB, r lock.EngineRequest) *hold {
	t.Helper()
	h, err := engine{}.Acquire(within(t, limit), r)
	require.NoError(t, err)
	t.Cleanup(func() { release(h) })
	return h.(*hold)
}

// release leaves nothing behind.
func release(h lock.EngineHold) {
	_ = h.Release()
	h.Settle(false)
}

// held requires that others cannot have it.
func held(t testing.TB, url string) {
	t.Helper()
	h, err := engine{}.Acquire(within(t, limit), noWait(url))
	if err == nil {
		release(h)
	}
	require.ErrorIs(t, err, lock.ErrHeld)
}

// free reports whether others could have it.
func free(t testing.TB, url string) bool {
	t.Helper()
	h, err := engine{}.Acquire(within(t, limit), noWait(url))
	if err != nil {
		require.ErrorIs(t, err, lock.ErrHeld)
		return false
	}
	require.NoError(t, h.Release())
	h.Settle(false)
	return true
}

// pending is an Acquire on its way.
type pending struct {
	h    lock.EngineHold
	err  error
	done chan struct{}
	at   time.Time
}

// waiting starts one, and returns when the server shows that it waits.
func (s *server) waiting(t testing.TB, ctx context.Context, r lock.EngineRequest) *pending {
	t.Helper()
	before := s.waiters(t, r.URL)
	ctx, stop := context.WithCancel(ctx)
	p := pend(ctx, r)
	t.Cleanup(func() {
		stop()
		<-p.done
		if p.err == nil {
			release(p.h)
		}
	})
	require.Eventually(t, func() bool { return s.waiters(t, r.URL) > before }, limit, 5*time.Millisecond)
	return p
}

func pend(ctx context.Context, r lock.EngineRequest) *pending {
	p := &pending{done: make(chan struct{})}
	go func() {
		p.h, p.err = engine{}.Acquire(ctx, r)
		p.at = time.Now()
		close(p.done)
	}()
	return p
}

// waiters are the sessions that wait for a notification of this lock.
func (s *server) waiters(t testing.TB, url string) int {
	t.Helper()
	target, err := parse(url)
	require.NoError(t, err)
	n, err := strconv.Atoi(s.sql(t, "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE "+quote(waits+target.hex()+"%")+
		" AND state = 'idle' AND (query LIKE 'LISTEN%' OR query LIKE '/*%') AND pid NOT IN (SELECT pid FROM pg_locks WHERE "+inLocks(target.key)+")"))
	require.NoError(t, err)
	return n
}

// answered waits until the server has said on both sessions that the lock is held, to questions from now on.
func answered(t testing.TB, h *hold) {
	t.Helper()
	asked := now()
	for _, k := range []*kept{h.first, h.second} {
		require.Eventually(t, func() bool {
			k.mu.Lock()
			defer k.mu.Unlock()
			return k.confirmed > asked
		}, limit, 5*time.Millisecond)
	}
}

func lostIn(t testing.TB, h lock.EngineHold, d time.Duration) error {
	t.Helper()
	select {
	case <-h.Lost():
	case <-time.After(d):
		t.Fatal("the loss was not noticed")
	}
	require.Error(t, h.Err())
	require.Equal(t, h.Err(), h.Check())
	return h.Err()
}

// other is a process of another machine.
type other struct {
	*exec.Cmd
	in    io.Closer
	lines *bufio.Scanner
}

// holdForTest acquires a lock, says so, and releases it when its input ends.
func holdForTest() {
	r := asking(os.Getenv(role + "_URL"))
	h, err := engine{}.Acquire(context.Background(), r)
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	if command := os.Getenv(role + "_TREE"); command != "" {
		c := exec.Command("sh", "-c", command)
		c.ExtraFiles = []*os.File{os.NewFile(uintptr(h.Descriptor()), "lock")}
		if err := c.Start(); err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		fmt.Println("tree", c.Process.Pid)
	}
	fmt.Println("held", h.Token())
	in := make(chan struct{})
	go func() {
		_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
		close(in)
	}()
	select {
	case <-in:
	case <-h.Lost():
		fmt.Println("lost", h.Err())
		<-in
	}
	if err := h.Release(); err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	h.Settle(false)
	os.Exit(0)
}

// elsewhere starts a process that acquires a lock.
func elsewhere(t testing.TB, url string, env ...string) *other {
	t.Helper()
	c := exec.Command(os.Args[0])
	c.Env = append(append(os.Environ(), role+"=hold", role+"_URL="+url), env...)
	in, err := c.StdinPipe()
	require.NoError(t, err)
	out, err := c.StdoutPipe()
	require.NoError(t, err)
	c.Stderr = os.Stderr
	require.NoError(t, c.Start())
	t.Cleanup(func() {
		_ = in.Close()
		_ = c.Process.Kill()
		_ = c.Wait()
	})
	return &other{Cmd: c, in: in, lines: bufio.NewScanner(out)}
}

// says waits for a line, and returns what is behind the word.
func (o *other) says(t testing.TB, word string) string {
	t.Helper()
	got := make(chan string, 1)
	go func() {
		if o.lines.Scan() {
			got <- o.lines.Text()
		} else {
			got <- "nothing"
		}
	}()
	select {
	case line := <-got:
		rest, ok := strings.CutPrefix(line, word+" ")
		require.True(t, ok, "%q instead of %q", line, word)
		return rest
	case <-time.After(limit):
		t.Fatal("it says nothing")
	}
	return ""
}
