package lock

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"github.com/dblock-dev/dblock/history"
	"github.com/dblock-dev/dblock/lock/internal/claim"
	"github.com/dblock-dev/dblock/lock/internal/inode"
	"github.com/dblock-dev/dblock/lock/internal/notice"
	"github.com/dblock-dev/dblock/lock/internal/proc"
	"github.com/dblock-dev/dblock/lock/internal/queue"
)

// acquire gets the lock, or leans on an enclosing hold of it.
func (l *Lock) acquire(ctx context.Context) (hold, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	for start, again := time.Now(), false; ; again = true {
		names, err := Resolve(l.db, l.opts.LockFile)
		if err != nil {
			return nil, err
		}
		a := newAttempt(names, l.opts, l.step)
		a.start, a.url = start, l.db
		if again {
			a.opts.OnWait = nil
		}
		if h, err := a.lean(); h != nil || err != nil {
			return h, err
		}
		watched, d := a.heedDeadlock(ctx)
		h, waited, err := a.take(watched, nil)
		d.stop()
		if found := d.found(); err != nil && found != nil && ctx.Err() == nil {
			found.Waited = time.Since(a.start)
			err = found
		}
		if err != nil {
			err = a.explain(ctx, err)
			a.recordGivenUp(a.self(), err)
			return nil, err
		}
		// While we waited, a symbolic link on the way to the database may have been
		// switched: the lock that we have is then another database's.
		if !waited || !l.moved(names) { // check: resolve-again: !l.moved(names) -> true
			return h, nil
		}
		h.opts.NoHistory = true // it was not used
		if err := h.release(); err != nil && !errors.Is(err, ErrLost) {
			return nil, err
		}
	}
}

// moved reports whether the database has other names by now.
func (l *Lock) moved(names Names) bool {
	now, err := Resolve(l.db, l.opts.LockFile)
	return err != nil || now != names
}

// step lets a test do what a foreign process may do at this very moment.
func (l *Lock) step(name string) {
	if l.seam != nil {
		l.seam(name)
	}
}

// attempt is one Acquire on its way.
type attempt struct {
	names Names
	url   string // of an engine's lock; else whatever the database was called
	opts  Options
	me    proc.Me
	start time.Time
	step  func(name string) // is called between two steps
	ready Prepared          // an engine that is prepared; nil if none is

	// The peers that had the lock while we waited. Of dblocks the history tells.
	peers    []history.Blocker
	allPeers int
}

func newAttempt(n Names, opts Options, step func(string)) *attempt {
	return &attempt{names: n, opts: opts, me: proc.Self(), start: time.Now(), step: step}
}

// explain is the error with which Acquire ends.
func (a *attempt) explain(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, queue.ErrBusy) || errors.Is(err, context.DeadlineExceeded) {
		waited := time.Since(a.start) // to look who it is takes a while, too
		if a.opts.Wait == NoWait {
			waited = 0
		}
		report, silent := a.inspect()
		var failed *EngineError
		if errors.As(silent, &failed) {
			return failed // it is not known that anybody has it
		}
		return &HeldError{Path: a.names.Shown(), Report: report, Waited: waited}
	}
	return err
}

// inspect finds out who has the lock that is asked for.
func (a *attempt) inspect() (*Report, error) {
	if a.names.shared() {
		return inspectURL(a.url, a.names, a.opts)
	}
	return inspect(a.names, a.opts)
}

// ask gets the engine's lock, for one who has this machine's.
func (a *attempt) ask(ctx context.Context, patience *queue.Patience) (EngineHold, error) {
	e, err := EngineFor(a.url)
	if err != nil {
		return nil, err
	}
	// A server that does not answer is a wait, too.
	limited := patience.Limit(ctx)
	if patience.None {
		var stop context.CancelFunc
		limited, stop = context.WithTimeout(ctx, engineTime)
		defer stop()
	}
	var h EngineHold
	if ready := a.ready; ready != nil {
		a.ready = nil
		h, err = ready.Acquire(limited)
	} else {
		h, err = e.Acquire(limited, a.request(patience.None))
	}
	if errors.Is(err, ErrHeld) || err != nil && limited.Err() == context.DeadlineExceeded && ctx.Err() == nil {
		var failed *EngineError
		if !errors.As(err, &failed) {
			err = queue.ErrBusy
		}
	}
	return h, err
}

// request is what the engine is asked.
func (a *attempt) request(noWait bool) EngineRequest {
	return EngineRequest{URL: a.url, Mode: a.opts.Mode, NoWait: noWait, TTL: a.opts.TTL, Grace: max(0, a.opts.Grace), Holder: a.self()}
}

// prepare has the engine get ready, for one who is the next of this machine.
func (a *attempt) prepare() {
	if !a.names.shared() || a.ready != nil {
		return
	}
	if e, err := EngineFor(a.url); err == nil {
		if p, ok := e.(Preparer); ok {
			a.ready = p.Prepare(a.request(false))
		}
	}
}

// unprepare gives up what is ready and was not needed.
func (a *attempt) unprepare() {
	if a.ready != nil {
		a.ready.Drop()
		a.ready = nil
	}
}

// engineTime is how long an engine may take to answer one who does not wait.
const engineTime = 10 * time.Second

// lean finds an enclosing dblock that holds this lock now. Then there is nothing
// to take, and taking it could only be a deadlock.
func (a *attempt) lean() (hold, error) {
	s := surroundings{names: a.names, me: a.me, opts: a.opts}
	o, mode, err := s.find()
	if o == nil || err != nil {
		return nil, err
	}
	g := Grant{Names: a.names, Holder: a.self(), Leaned: true, LeanedPID: o.pid}
	g.Holder.Mode, g.Holder.Token = mode, o.token
	return newLeaned(g, s, *o, a.succeed, !a.opts.Unattended), nil
}

// succeed takes the lock, if that is possible at once, when the hold that we leaned on is
// over. room is the open file that the command has inherited.
func (a *attempt) succeed(room *queue.File) (hold, error) {
	opts := a.opts
	opts.Wait, opts.Unattended = NoWait, false
	again := newAttempt(a.names, opts, func(string) {})
	again.url = a.url
	h, _, err := again.take(context.Background(), room)
	if err != nil {
		return nil, err
	}
	return h, nil
}

// take goes through the whole protocol. Whatever it has taken is given back on
// an error, and what it has created is removed. room is the open file of it that the
// command has inherited, if it has one; it belongs to the hold from then on.
func (a *attempt) take(ctx context.Context, room *queue.File) (h *held, waited bool, err error) {
	patience := &queue.Patience{None: a.opts.Wait == NoWait, Begin: a.opts.OnWait}
	if a.opts.Wait != Forever {
		patience.End = a.start.Add(a.opts.Wait)
	}
	c := claim.New(a.claims(patience))
	defer func() {
		patience.Stop()
		c.StopWatching()
		a.unprepare()
	}()
	for again := 0; ; again++ {
		p, err := queue.Enter(ctx, a.wants(patience, room))
		if err == queue.ErrAgain {
			continue
		}
		if err != nil {
			return nil, false, err
		}
		a.step("entered")
		queued := patience.Waited()
		var engine EngineHold
		if a.names.shared() {
			if engine, err = a.ask(ctx, patience); err != nil {
				p.Abandon()
				return nil, false, err
			}
			c.SetToken(engine.Token())
		}
		// What is missing now was there when we came: the state directory was
		// removed with all that was in it.
		if err = c.Publish(ctx, p); errors.Is(err, fs.ErrNotExist) && again < 100 { // check: state-gone
			err = queue.ErrAgain
		}
		if err == nil {
			// Only now that the notice is there may the next one come near it.
			p.OpenLast()
			h := newHeld(a.granted(p, c), a.opts, p, c, engine)
			h.blockers, h.ahead, h.waited = a.peers, a.allPeers, patience.Waited()
			if engine != nil {
				h.waited = queued || engine.Waited()
			}
			return h, h.waited, nil
		}
		if engine != nil {
			_ = engine.Release()
			engine.Settle(false)
		}
		c.Withdraw()
		p.Abandon()
		if err != queue.ErrAgain {
			return nil, false, err
		}
		if room != nil {
			return nil, false, queue.ErrBusy // it was another room than the one that is there now
		}
	}
}

// granted describes the hold.
func (a *attempt) granted(p *queue.Place, c *claim.Claim) Grant {
	g := Grant{Names: a.names, Holder: holderOf(c.Info()), Waited: time.Since(a.start), Degraded: p.Degraded()}
	g.Holder.Token = c.Token()
	return g
}

// wants is what we ask of the queue.
func (a *attempt) wants(patience *queue.Patience, room *queue.File) queue.Request {
	r := queue.Request{
		State: a.names.State, How: queue.Exclusive, Class: queue.Class(a.opts.Priority), Patience: patience, Interrupt: a.opts.Interrupt,
		Inherited: room, Discard: func(room *queue.File) { claim.RemoveLeft(a.names.Notice, room) }, Step: a.step, Delay: a.opts.OnDelay,
		Next: a.prepare,
	}
	if a.opts.Mode == Shared {
		r.How = queue.Shared
	}
	return r
}

// claims is what we claim at the path.
func (a *attempt) claims(patience *queue.Patience) claim.Options {
	return claim.Options{
		Path: a.names.Notice, Named: a.names.named(), Me: a.me, Shared: a.opts.Mode == Shared, Process: a.opts.Process, Command: a.opts.Command, Info: a.opts.Info,
		StaleTimeout: a.opts.StaleTimeout, ByAge: a.opts.Stale == StaleAge, RetryDelay: a.opts.RetryDelay, Patience: patience, Now: a.opts.Now, Step: a.step, Delay: a.opts.OnDelay,
		Replaced: func(state *inode.Dir, stale notice.Info) {
			me := a.self()
			a.opts.recordReplaced(state, stale, partyOf(&me))
		},
		Passed: a.passed,
	}
}

// self is this process, as the notice would have it.
func (a *attempt) self() Holder {
	mine := a.claims(nil)
	return holderOf(mine.Describe())
}
