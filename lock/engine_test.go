package lock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dblock-dev/dblock/internal/portable"
)

// server is an engine in memory, which all machines reach: a machine is a home for states.
type server struct {
	mu     sync.Mutex
	holds  map[*tenure]bool
	token  int64
	before func(*tenure) // is called before a release
	asked  int
	down   error
	queue  []Process // who waits, as it tells

	settled int
}

// tenure is a hold of it.
type tenure struct {
	at     *server
	ask    EngineRequest
	token  int64
	lost   chan struct{}
	why    error
	unseen bool // the loss does not show in Lost
	waited bool
}

func (s *server) Name(url string) (shown, identity string, err error) {
	scheme, rest, _ := strings.Cut(url, "://")
	_, rest, _ = strings.Cut(rest, "@")
	return scheme + "://app@" + rest, scheme + "://" + rest, nil
}

func (s *server) Acquire(ctx context.Context, ask EngineRequest) (EngineHold, error) {
	s.mu.Lock()
	s.asked++
	s.mu.Unlock()
	for waited := false; ; waited = true {
		if h, err := s.try(ask, waited); h != nil || err != nil {
			return h, err
		}
		if ask.NoWait {
			return nil, ErrHeld
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
}

func (s *server) try(ask EngineRequest, waited bool) (EngineHold, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down != nil {
		return nil, &EngineError{Name: "memory", Err: s.down}
	}
	for h := range s.holds {
		if h.ask.Mode == Exclusive || ask.Mode == Exclusive {
			return nil, nil
		}
	}
	s.token++
	h := &tenure{at: s, ask: ask, token: 1000 + s.token, lost: make(chan struct{}), waited: waited}
	s.holds[h] = true
	return h, nil
}

func (s *server) Inspect(context.Context, string) (*Report, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := &Report{State: StateFree, Waiters: s.queue}
	for h := range s.holds {
		holder := h.ask.Holder
		holder.Token, holder.Dblock = h.token, true
		r.State, r.Holder, r.ID, r.Evidence = StateHeld, &holder, fmt.Sprintf("%x", h.token), "the server says so"
	}
	return r, nil
}

func (s *server) Break(_ context.Context, _, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for h := range s.holds {
		if fmt.Sprintf("%x", h.token) == id {
			h.lose()
			return nil
		}
	}
	return errors.New("it is another one")
}

func (h *tenure) Token() int64          { return h.token }
func (h *tenure) Waited() bool          { return h.waited }
func (h *tenure) Descriptor() int       { return -1 }
func (h *tenure) Lost() <-chan struct{} { return h.lost }
func (h *tenure) Check() error          { return h.Err() }

func (h *tenure) Err() error {
	h.at.mu.Lock()
	defer h.at.mu.Unlock()
	return h.why
}

func (h *tenure) lose() {
	delete(h.at.holds, h)
	h.why = errors.New("the server took it")
	if !h.unseen {
		close(h.lost)
	}
}

func (h *tenure) Release() error {
	if h.at.before != nil {
		h.at.before(h)
	}
	h.at.mu.Lock()
	defer h.at.mu.Unlock()
	delete(h.at.holds, h)
	return h.why
}

func (h *tenure) Settle(bool) {
	h.at.mu.Lock()
	defer h.at.mu.Unlock()
	h.at.settled++
}

// some is a hold of it that there is.
func (s *server) some() *tenure {
	s.mu.Lock()
	defer s.mu.Unlock()
	for h := range s.holds {
		return h
	}
	return nil
}

const engineURL = "etcd://app:secret@somewhere/jobs"

// serve makes an engine for the time of a test, which cannot be parallel then.
func serve(t *testing.T) *server {
	t.Helper()
	s := &server{holds: map[*tenure]bool{}}
	Register("etcd", s)
	t.Cleanup(func() { Register("etcd", nil) })
	machine(t)
	return s
}

// machine goes on as another machine.
func machine(t *testing.T) {
	t.Helper()
	t.Setenv("XDG_STATE_HOME", t.TempDir())
}

func take(t *testing.T, opts Options) *Lock {
	t.Helper()
	l := New(engineURL, opts)
	require.NoError(t, l.Acquire(context.Background()))
	return l
}

func TestWithoutAnEngine(t *testing.T) {
	require.ErrorIs(t, New(engineURL, Options{}).Acquire(context.Background()), ErrNoEngine)
	_, err := Inspect("postgres://somewhere/x", Options{})
	require.ErrorIs(t, err, ErrNoEngine)
	require.False(t, IsURL("a/postgres://x"))
	require.False(t, IsURL("sqlite://x"))
}

func TestEngineKeepsOtherMachinesOut(t *testing.T) {
	serve(t)
	l := take(t, Options{Process: "first"})
	g, _ := l.Grant()
	require.Equal(t, int64(1001), g.Holder.Token, "the engine draws it")
	require.Equal(t, "etcd://app@somewhere/jobs", g.Names.DB)
	for _, elsewhere := range []bool{false, true} {
		if elsewhere {
			machine(t)
		}
		err := New(engineURL, Options{Wait: NoWait}).Acquire(context.Background())
		var held *HeldError
		require.ErrorAs(t, err, &held)
		require.Equal(t, "etcd://app@somewhere/jobs", held.Path)
		require.Equal(t, "first", held.Report.Holder.Process)
		err = New(engineURL, Options{Wait: 50 * time.Millisecond}).Acquire(context.Background())
		require.ErrorIs(t, err, ErrHeld)
	}
	next := make(chan error)
	second := New(engineURL, Options{Wait: patience})
	go func() { next <- second.Acquire(context.Background()) }()
	require.NoError(t, l.Release())
	require.NoError(t, <-next)
	g, _ = second.Grant()
	require.Equal(t, int64(1002), g.Holder.Token)
	require.NoError(t, second.Release())
}

// Readers of several machines are in together.
func TestEngineShares(t *testing.T) {
	serve(t)
	first := take(t, Options{Mode: Shared})
	second := take(t, Options{Mode: Shared})
	machine(t)
	third := take(t, Options{Mode: Shared})
	require.ErrorIs(t, New(engineURL, Options{Wait: NoWait}).Acquire(context.Background()), ErrHeld)
	for _, l := range []*Lock{first, second, third} {
		require.NoError(t, l.Release())
	}
}

func TestEngineLosesALock(t *testing.T) {
	s := serve(t)
	for _, unseen := range []bool{false, true} {
		l := take(t, Options{Unattended: true})
		s.some().unseen = unseen
		s.mu.Lock()
		for h := range s.holds {
			h.lose()
		}
		s.mu.Unlock()
		if !unseen {
			<-l.Lost()
		}
		err := l.Check()
		require.EqualError(t, err, "the lock etcd://app@somewhere/jobs was lost: the server took it")
		require.Equal(t, err, l.Release())
	}
	// It is known at the end only.
	l := take(t, Options{Unattended: true})
	s.before = func(h *tenure) {
		s.mu.Lock()
		defer s.mu.Unlock()
		h.unseen = true
		h.lose()
	}
	require.ErrorIs(t, l.Release(), ErrLost)
}

// The engine's lock is given back first: whoever is next here finds it free.
func TestEngineIsReleasedBeforeThisMachine(t *testing.T) {
	s := serve(t)
	l := take(t, Options{})
	g, _ := l.Grant()
	s.before = func(*tenure) {
		_, err := filepath.EvalSymlinks(g.Names.Notice)
		require.NoError(t, err, "the notice is there")
		require.ErrorIs(t, New(engineURL, Options{Wait: NoWait}).Acquire(context.Background()), ErrHeld)
		s.before = nil
	}
	require.NoError(t, l.Release())
	require.Nil(t, s.before)
	require.Equal(t, 1, s.settled)
	require.NoError(t, take(t, Options{Wait: NoWait}).Release())
}

// Whoever cannot ask leaves no trace, and one that waits here does not ask at all.
func TestEngineIsAskedByOneOfAMachine(t *testing.T) {
	s := serve(t)
	s.down = errors.New("nobody answers")
	err := New(engineURL, Options{}).Acquire(context.Background())
	require.EqualError(t, err, "memory: nobody answers")
	s.down = nil
	l := take(t, Options{Wait: NoWait})
	asked := s.asked
	require.ErrorIs(t, New(engineURL, Options{Wait: 20 * time.Millisecond}).Acquire(context.Background()), ErrHeld)
	require.Equal(t, asked, s.asked)
	require.NoError(t, l.Release())
}

func TestInspectAndBreakOfAnEngine(t *testing.T) {
	s := serve(t)
	r, err := Inspect(engineURL, Options{})
	require.NoError(t, err)
	require.Equal(t, StateFree, r.State)
	l := take(t, Options{Process: "first"})
	r, err = Inspect(engineURL, Options{})
	require.NoError(t, err)
	require.Equal(t, "first", r.Holder.Process)
	require.Equal(t, "the server says so", r.Evidence)
	machine(t)
	r, err = Inspect(engineURL, Options{})
	require.NoError(t, err)
	require.Equal(t, "3e9", r.ID)
	_, err = Break(context.Background(), engineURL, BreakOptions{})
	require.ErrorIs(t, err, ErrHeld, "nobody has agreed")
	_, err = Break(context.Background(), engineURL, BreakOptions{ID: "3ea"})
	require.ErrorIs(t, err, ErrHeld, "it is another hold")
	b, err := Break(context.Background(), engineURL, BreakOptions{ID: r.ID})
	require.NoError(t, err)
	require.True(t, b.Removed)
	<-l.Lost()
	require.ErrorIs(t, l.Release(), ErrLost)
	require.Nil(t, s.some())
	b, err = Break(context.Background(), engineURL, BreakOptions{})
	require.NoError(t, err)
	require.False(t, b.Removed)
}

// One queue is shown: that of the server, and those of this machine who do not ask it yet.
func TestQueueOfAllMachines(t *testing.T) {
	portable.Needs(t, portable.Queue)
	s := serve(t)
	l := take(t, Options{})
	next := New(engineURL, Options{Wait: time.Minute, Process: "next"})
	got := make(chan error, 1)
	go func() { got <- next.Acquire(context.Background()) }()
	var r *Report
	require.Eventually(t, func() (ok bool) {
		var err error
		r, err = Inspect(engineURL, Options{})
		return err == nil && len(r.Waiters) == 1
	}, 10*time.Second, time.Millisecond)
	here, err := os.Hostname()
	require.NoError(t, err)
	own := r.Waiters[0]
	far := Process{PID: own.PID, Host: "elsewhere"}
	s.queue = []Process{far, {PID: own.PID, Host: here}, {PID: 1, Host: here, Process: "another user's"}}
	r, err = Inspect(engineURL, Options{})
	require.NoError(t, err)
	require.Len(t, r.Waiters, 3, "nobody twice")
	require.Equal(t, far, r.Waiters[0])
	require.Equal(t, own.Priority, r.Waiters[1].Priority)
	require.NotZero(t, r.Waiters[1].Age, "more is known here")
	require.Equal(t, Process{PID: 1, Process: "another user's"}, r.Waiters[2])
	s.queue = []Process{far}
	r, err = Inspect(engineURL, Options{})
	require.NoError(t, err)
	require.Equal(t, []string{"elsewhere", ""}, []string{r.Waiters[0].Host, r.Waiters[1].Host})
	require.NoError(t, l.Release())
	require.NoError(t, <-got)
	require.NoError(t, next.Release())
}

// A server takes its time. Whether somebody was in the way is another question.
func TestWaitForAnEngine(t *testing.T) {
	s := serve(t)
	l := take(t, Options{})
	n, err := Resolve(engineURL, "")
	require.NoError(t, err)
	require.NoError(t, l.Release())
	require.Zero(t, told(t, n)[0].Waited)

	elsewhere, err := s.try(EngineRequest{}, false)
	require.NoError(t, err)
	got := make(chan error, 1)
	go func() { got <- l.Acquire(context.Background()) }()
	require.Eventually(t, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.asked == 2
	}, 10*time.Second, time.Millisecond)
	require.Never(t, func() bool { return len(got) > 0 }, 20*time.Millisecond, 5*time.Millisecond)
	require.NoError(t, elsewhere.Release())
	require.NoError(t, <-got)
	require.NoError(t, l.Release())
	require.GreaterOrEqual(t, told(t, n)[1].Waited, 20*time.Millisecond)
}

// Whoever got the engine's lock and cannot announce it here gives it back.
func TestEngineIsGivenBack(t *testing.T) {
	s := serve(t)
	n, err := Resolve(engineURL, "")
	require.NoError(t, err)
	require.NoError(t, os.MkdirAll(n.Notice, 0o755))
	require.ErrorIs(t, New(engineURL, Options{}).Acquire(context.Background()), ErrNotRegular)
	require.Equal(t, 1, s.asked)
	require.Nil(t, s.some())
	require.Equal(t, 1, s.settled)
}

// preparing is a server that can get ready.
type preparing struct {
	*server
	begun chan *readiness
}

type readiness struct {
	*server
	ask     EngineRequest
	outcome chan string
}

func (p *preparing) Prepare(ask EngineRequest) Prepared {
	r := &readiness{p.server, ask, make(chan string, 2)}
	p.begun <- r
	return r
}

func (r *readiness) Acquire(ctx context.Context) (EngineHold, error) {
	r.outcome <- "asked"
	return r.server.Acquire(ctx, r.ask)
}

func (r *readiness) Drop() { r.outcome <- "dropped" }

// Who is the next of this machine has the engine get ready, and either asks then or drops that.
func TestEngineIsPreparedForTheNext(t *testing.T) {
	s := &preparing{serve(t), make(chan *readiness, 10)}
	Register("etcd", s)
	holder := take(t, Options{})
	require.Empty(t, s.begun, "nobody was before it")
	require.ErrorIs(t, New(engineURL, Options{Wait: NoWait}).Acquire(context.Background()), ErrHeld)
	require.Empty(t, s.begun, "it did not wait")

	require.ErrorIs(t, New(engineURL, Options{Wait: 20 * time.Millisecond}).Acquire(context.Background()), ErrHeld)
	r := <-s.begun
	require.Equal(t, "dropped", <-r.outcome)
	require.Empty(t, r.outcome)

	next := New(engineURL, Options{Mode: Shared, Wait: time.Minute})
	got := make(chan error, 1)
	go func() { got <- next.Acquire(context.Background()) }()
	r = <-s.begun
	require.False(t, r.ask.NoWait)
	require.Equal(t, Shared, r.ask.Mode)
	require.ErrorIs(t, New(engineURL, Options{Wait: 20 * time.Millisecond}).Acquire(context.Background()), ErrHeld)
	require.Empty(t, s.begun, "another one is before that one")
	asked := s.asked
	require.NoError(t, holder.Release())
	require.NoError(t, <-got)
	require.Equal(t, "asked", <-r.outcome)
	require.Empty(t, r.outcome)
	require.Equal(t, asked+1, s.asked)
	require.NoError(t, next.Release())
}
