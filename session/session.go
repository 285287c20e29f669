package session

import (
	"bytes"
	"context"
	"sync"
	"syscall"
	"time"

	"github.com/dblock-dev/dblock/lock"
)

// Protocol is the version of the protocol.
const Protocol = 1

// parentEvery is how often it is looked whether the parent lives where nothing tells.
const parentEvery = time.Second

// session is the state of a co-process.
type session struct {
	defaults  *Command
	pid       int
	interrupt syscall.Signal
	in        *reader
	out       *writer
	ended     chan struct{} // closed at the end of the input

	mu      sync.Mutex
	over    bool // the end has begun: nothing is acquired any more
	last    int64
	held    map[int64]*hold
	waits   map[string]*wait // acquires on their way, by the id of the request
	working sync.WaitGroup   // acquires and releases on their way

	steward steward
	ending  ending
}

func newSession(c *Command, pid int) *session {
	s := &session{defaults: c, pid: pid, ended: make(chan struct{}), held: map[int64]*hold{}, waits: map[string]*wait{}}
	s.steward.s = s
	return s
}

// greet writes the first line.
func (s *session) greet() {
	o := event(nil, "hello")
	o.int("protocol", Protocol)
	o.raw("protocols", "[1]")
	o.text("version", s.defaults.version)
	o.int("pid", int64(s.pid))
	o.raw("capabilities", `["shared","priority","cancel","status","force","check","time_limit"`+ofThisSystem+"]")
	o.int("max_line", maxLine)
	s.out.write(o.line())
}

// turn is the turn of one request. The goroutine that reads a request answers it, too: for a
// lock that is free that is quickest. As soon as it has to wait for something, it lets
// another one read on.
type turn struct {
	s     *session
	given bool
}

func (t *turn) give() {
	if !t.given {
		t.given = true
		go t.s.lead()
	}
}

// lead reads requests and answers them, until the input ends or another goroutine reads on.
func (s *session) lead() {
	for {
		line, long, ok := s.in.next()
		if !ok {
			close(s.ended)
			return
		}
		t := turn{s: s}
		switch {
		case long:
			s.fail("", bad("the line is longer than %d bytes", maxLine))
		case len(bytes.TrimSpace(line)) > 0:
			s.handle(&t, line)
		}
		if t.given {
			return
		}
	}
}

// handle answers one line.
func (s *session) handle(t *turn, line []byte) {
	r, p := parse(line)
	if p == nil {
		p = s.obey(t, r)
	}
	if p != nil {
		s.fail(r.id, p)
	}
}

// obey does what a request asks for, and answers it unless there is a problem.
func (s *session) obey(t *turn, r *request) *problem {
	op, p := r.text(fieldOp)
	if p != nil {
		return p
	}
	switch op {
	case "acquire":
		return s.acquire(t, r)
	case "release":
		return s.release(t, r)
	case "cancel":
		return s.cancel(r)
	case "check":
		return s.check(r)
	case "ping":
		s.done(r.id, nil)
		return nil
	case "status":
		return s.aside(t, r, s.status)
	case "force":
		return s.aside(t, r, s.force)
	case "":
		return &problem{code: codeUsage, message: `the request has no "op"`, hint: ops}
	}
	return &problem{code: codeUsage, message: "there is no op " + string(quote(nil, op)), hint: ops}
}

// aside does what takes its time while another goroutine reads on.
func (s *session) aside(t *turn, r *request, do func(*request) *problem) *problem {
	if !s.begin() {
		return explain(context.Canceled)
	}
	defer s.working.Done()
	t.give()
	return do(r)
}

// begin counts something that the end waits for; false says that the end has begun.
func (s *session) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.over {
		s.working.Add(1)
	}
	return !s.over
}

const ops = "give acquire, release, cancel, check, status, force or ping"

// done answers a request that was done.
func (s *session) done(id string, more func(*object)) {
	var space [2048]byte
	o := answer(space[:0], id, true)
	if more != nil {
		more(&o)
	}
	s.out.write(o.line())
}

// fail answers a request that was not.
func (s *session) fail(id string, p *problem) { s.failWith(id, p, nil) }

func (s *session) failWith(id string, p *problem, more func(*object)) {
	o := answer(nil, id, false)
	p.write(&o, more)
	s.out.write(o.line())
}

// where is which lock a request is about.
func (s *session) where(r *request) (db string, o lock.Options, p *problem) {
	o = s.defaults.options()
	db = s.defaults.DB
	if r.has(fieldDB) {
		if db, p = r.text(fieldDB); p != nil {
			return "", o, p
		}
		o.LockFile = ""
	}
	if r.has(fieldLockFile) {
		if o.LockFile, p = r.text(fieldLockFile); p != nil {
			return "", o, p
		}
	}
	if db == "" && o.LockFile == "" {
		return "", o, &problem{code: codeUsage, message: "no database is named", hint: `give "db", or start the session with -d PATH`}
	}
	if lock.IsURL(db) {
		o.LockFile = ""
	}
	return db, o, s.judging(r, &o)
}

// finish gives up all waits and releases all holds. What is not done in time the kernel does.
func (s *session) finish() {
	s.mu.Lock()
	s.over = true
	var cancels []context.CancelFunc
	for _, w := range s.waits {
		cancels = append(cancels, w.cancel)
	}
	var holds []*hold
	for n, h := range s.held {
		if h.forfeited == nil {
			holds = append(holds, h)
		}
		delete(s.held, n)
	}
	s.mu.Unlock()
	for _, cancel := range cancels {
		cancel()
	}
	for _, h := range holds {
		h.end()
		s.working.Add(1)
		go func() {
			defer s.working.Done()
			_ = h.lock.Release()
		}()
	}
	all := make(chan struct{})
	go func() {
		s.working.Wait()
		close(all)
	}()
	select {
	case <-all:
	case <-time.After(farewell):
	}
}

// resume looks after all holds when this process was stopped.
func (s *session) resume() {
	s.mu.Lock()
	var holds []*hold
	for _, h := range s.held {
		if h.forfeited == nil {
			holds = append(holds, h)
		}
	}
	s.mu.Unlock()
	for _, h := range holds {
		h.lock.Resume()
	}
}
