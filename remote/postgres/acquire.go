package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/dblock-dev/dblock/lock"
)

const (
	// A waiter tries again after the first of these, and then less often until it is the last, for nobody tells
	// of a holder that was killed.
	firstAgain, lastAgain = 50 * time.Millisecond, time.Second
	// The same for the aftermath: mostly it is over at once.
	firstAfter, lastAfter = 5 * time.Millisecond, 500 * time.Millisecond
	// heirTime is how long those who were told of a release leave to the heir. They come one after the other, the more
	// so the more often they came too late.
	heirTime      = 5 * time.Millisecond
	herd, maxHerd = 500 * time.Microsecond, 20 * time.Millisecond
	// showAfter is when a holder shows all that is known of it, and lets another one be the heir. Where nobody was met there is
	// no hurry, and a short command is over before.
	showAfter, showAloneAfter = 2 * time.Millisecond, 15 * time.Millisecond
)

// Acquire gets the lock.
func (engine) Acquire(ctx context.Context, ask lock.EngineRequest) (lock.EngineHold, error) {
	t, err := parse(ask.URL)
	if err != nil {
		return nil, err
	}
	return t.acquire(ctx, ask, nil, false)
}

// acquire gets the lock. ready has sessions to begin with, or is nil. known tells that there was a server to have locks from: it is
// waited for.
func (t *target) acquire(ctx context.Context, ask lock.EngineRequest, ready *attempt, known bool) (lock.EngineHold, error) {
	repeated := false
	for again := firstAgain; ; again, repeated = min(2*again, lastAgain), true {
		a := ready
		if ready = nil; a == nil {
			a = &attempt{target: t, request: ask}
		}
		prepared := a.first != nil
		h, err := a.acquire(ctx)
		if err == nil {
			h.waited = h.waited || repeated
			return h, nil
		}
		a.end()
		if prepared && a.met == 0 && ctx.Err() == nil {
			continue // they were of no use any more
		}
		known = known || a.met != 0
		if a.waited {
			again = firstAgain
		}
		var away *awayError
		switch ended := ctx.Err(); {
		case err == ended && ended != nil, !errors.As(err, &away):
			return nil, err
		case ended != nil && ended != context.DeadlineExceeded:
			return nil, ended
		case ended != nil, ask.NoWait, !known && !away.soon:
			return nil, away.failed
		}
		if sleep(ctx, jitter(again)) != nil && ctx.Err() == context.DeadlineExceeded {
			return nil, away.failed
		}
	}
}

// attempt is one that ends with the lock, or with a connection that was lost.
type attempt struct {
	*target
	request       lock.EngineRequest
	first, second *session
	coming        chan struct{} // is closed when the second one is there, or will not be; nil if it is not on its way

	met       time.Duration // when the server answered as a primary
	waited    bool          // the server has told that the lock is held
	listening bool
	heir      bool          // it is the one of those who wait that keeps its second session
	tended    time.Duration // when that was looked after

	start string // since when the server runs
	clear bool   // the key of the aftermath was free when the first one was got
	token int64
	epoch int64 // what the server's clock was, in milliseconds, when ours was at zero
}

// end ends the sessions of one who did not get the lock.
func (a *attempt) end() {
	if a == nil {
		return
	}
	a.first.close()
	a.dropSecond()
}

func (a *attempt) dropSecond() {
	if a.coming != nil {
		<-a.coming
		a.coming = nil
	}
	a.second.close()
	a.second = nil
}

func (a *attempt) acquire(ctx context.Context) (*hold, error) {
	if a.first == nil {
		if err := a.open(ctx); err != nil {
			return nil, err
		}
	}
	young, err := a.getFirst(ctx)
	if err == nil {
		open := a.prove(ctx)
		if err = a.drawToken(ctx); err == nil {
			err = a.getSecond(ctx)
		}
		if err == nil {
			err = <-open
		}
	}
	if err == nil && young {
		err = a.outlast(ctx)
	}
	if err == nil {
		var h *hold
		if h, err = a.hold(); err == nil {
			return h, nil
		}
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return nil, a.explained(err)
}

// open opens the first session.
func (a *attempt) open(ctx context.Context) (err error) {
	a.first, err = a.connect(ctx, appName(waits+a.hex()+" ", a.request.Holder), a.request.Grace)
	return err
}

// prove finds out whether the server lets others in, in the background: see proveOpen. The second session shows it, too, if it is
// not there yet.
func (a *attempt) prove(ctx context.Context) <-chan error {
	open := make(chan error, 1)
	if a.coming == nil && a.second == nil {
		a.expectSecond(ctx)
		open <- nil
		return open
	}
	go func() { open <- a.first.proveOpen(ctx) }()
	return open
}

// expectSecond opens the second session while something else is done. An error comes again when it is needed.
func (a *attempt) expectSecond(ctx context.Context) {
	coming := make(chan struct{})
	a.coming = coming
	go func() {
		defer close(coming)
		a.second, _ = a.connectSecond(ctx)
	}()
}

// connectSecond opens the session that is seen when the first one has ended only.
func (a *attempt) connectSecond(ctx context.Context) (*session, error) {
	return a.connect(ctx, appName(holds, a.request.Holder), a.request.Grace)
}

// getFirst gets the key, or waits for it. It reports whether the server may be so young that old holders still work.
func (a *attempt) getFirst(ctx context.Context) (young bool, err error) {
	d := detailsOf(a.request.Holder)
	d.Mode = a.request.Mode.String()
	for again, late := firstAgain, 0; ; {
		row, err := a.first.ask(ctx, d.comment()+a.tryFirst(a.first, a.request.Mode, a.request.Grace, !a.heir && !a.request.NoWait))
		if err != nil {
			return false, err
		}
		if err := a.examine(row); err != nil {
			return false, err
		}
		if string(row[2]) == "t" {
			a.start, a.clear = string(row[3]), string(row[6]) == "t"
			return string(row[4]) == "t", nil
		}
		a.waited = true
		if a.request.NoWait {
			return false, lock.ErrHeld
		}
		if err := a.inherit(ctx, string(row[5]) == "t"); err != nil {
			return false, err
		}
		if !a.listening {
			// A release before this would not be told of.
			if err := a.listen(ctx); err != nil {
				return false, err
			}
			continue
		}
		told, err := a.first.listen(ctx, jitter(again))
		if err != nil {
			return false, err
		}
		if !told {
			again = min(2*again, lastAgain)
			continue
		}
		again = firstAgain
		if !a.heir {
			late++
			if err := sleep(ctx, heirTime+rand.N(min(time.Duration(late)*herd, maxHerd))); err != nil {
				return false, err
			}
		}
	}
}

// drawToken draws the fencing number, which the server flushes: whoever had the key before has drawn its own by then.
func (a *attempt) drawToken(ctx context.Context) error {
	row, err := a.first.ask(ctx, a.draw())
	if err != nil {
		return err
	}
	if len(row) != 4 {
		return a.failed(errors.New("the server does not answer what it was asked"))
	}
	a.epoch = number(row[3]) - now().Milliseconds()
	a.token, err = a.target.token(row[0], row[1])
	return err
}

// inherit keeps the second session if this is the heir, by now or for long, and drops it if it is not.
func (a *attempt) inherit(ctx context.Context, chosen bool) error {
	switch {
	case chosen:
		a.heir, a.tended = true, now()
		if a.coming == nil && a.second == nil {
			a.expectSecond(ctx)
		}
	case !a.heir:
		a.dropSecond()
	case now()-a.tended > tendEvery:
		a.tended = now()
		return a.alive(ctx)
	}
	return nil
}

func (a *attempt) listen(ctx context.Context) error {
	_, err := a.first.ask(ctx, "LISTEN "+a.channel())
	a.listening = err == nil
	return err
}

// examine finds out whether we talk to the one server that we mean to.
func (a *attempt) examine(row [][]byte) error {
	if len(row) != 7 {
		return a.failed(errors.New("the server does not answer what it was asked"))
	}
	if err := a.direct(a.first, row[0]); err != nil {
		return err
	}
	if string(row[1]) != "f" {
		failed := a.failed(errors.New("the server is a standby"))
		failed.Hint = "name the primary; of several hosts it is found"
		return &awayError{failed: failed}
	}
	if a.met == 0 {
		a.met = now()
	}
	return nil
}

// direct refuses poolers: behind them a session is anybody's.
func (t *target) direct(s *session, pid []byte) error {
	if string(pid) == strconv.FormatUint(uint64(s.pg.PID()), 10) {
		return nil
	}
	return t.misused("there is a pooler before the server, which gives a session to others", "name the server itself")
}

// getSecond gets the key of the aftermath: whoever had the lock has ended then all that worked under it.
func (a *attempt) getSecond(ctx context.Context) (err error) {
	if a.coming != nil {
		<-a.coming
		a.coming = nil
	}
	if a.second == nil {
		if a.second, err = a.connectSecond(ctx); err != nil {
			return err
		}
	}
	sql := a.trySecond(a.second, a.request.Mode)
	there := make(chan error, 1)
	go func() { there <- a.firstIsThere(ctx) }()
	for again, polled := firstAfter, false; ; again, polled = min(2*again, lastAfter), true {
		row, err := a.second.ask(ctx, sql)
		if !polled {
			if gone := <-there; gone != nil {
				err = gone
			}
		}
		if err != nil {
			return err
		}
		if len(row) != 3 {
			return a.failed(errors.New("the server does not answer what it was asked"))
		}
		if err := a.direct(a.second, row[0]); err != nil {
			return err
		}
		if row[2] == nil || string(row[1]) != a.start {
			return a.elsewhere(ctx)
		}
		switch {
		case string(row[2]) != "t":
		case polled || !a.clear:
			return a.first.proveOpen(ctx) // that was shown before it became free
		default:
			return nil
		}
		if err := a.pause(ctx, again); err != nil {
			return err
		}
	}
}

// firstIsThere makes sure, when there is a second session, that the first one is, and so has the key: a crash in between had ended it,
// and left the server's start as it was.
func (a *attempt) firstIsThere(ctx context.Context) error {
	row, err := a.first.ask(ctx, "SELECT pg_backend_pid()")
	if err != nil {
		return err
	}
	if len(row) != 1 {
		return a.failed(errors.New("the server does not answer what it was asked"))
	}
	return a.direct(a.first, row[0])
}

// pause waits while the key is ours, unless there is no waiting.
func (a *attempt) pause(ctx context.Context, d time.Duration) error {
	a.waited = true
	if a.request.NoWait {
		return lock.ErrHeld
	}
	if !a.listening {
		return a.listen(ctx)
	}
	_, err := a.first.listen(ctx, jitter(d))
	return err
}

// elsewhere explains why the second session could have had the first one's lock.
func (a *attempt) elsewhere(ctx context.Context) error {
	row, err := a.first.ask(ctx, beat(a.key))
	if err != nil {
		return err
	}
	if len(row) == 3 && string(row[2]) == "t" {
		return &awayError{failed: a.failed(errors.New("two connections have led to two servers"))}
	}
	return a.misused("the server says that it gave a lock, and does not have it", "this is no PostgreSQL, or there is a pooler before it")
}

// outlast waits until all have ended who had the lock when the server was another one.
func (a *attempt) outlast(ctx context.Context) error {
	for {
		row, err := a.first.ask(ctx, "SELECT "+youth())
		if err != nil {
			return err
		}
		if len(row) != 1 {
			return a.failed(errors.New("the server does not answer what it was asked"))
		}
		left := remaining(row[0], a.request.Grace)
		if left <= 0 || now()-a.met >= afterlife(a.request.Grace) {
			return nil
		}
		if err := a.pause(ctx, min(left, lastAgain)); err != nil {
			return err
		}
	}
}

// remaining is how long those may still work who had locks before the server was what it is now.
func remaining(young []byte, grace time.Duration) time.Duration {
	age, err := strconv.ParseFloat(string(young), 64)
	if err != nil {
		return 0
	}
	return afterlife(grace) - time.Duration(age*float64(time.Second))
}

// hold begins the hold. The second session has just seen the first one's key.
func (a *attempt) hold() (*hold, error) {
	fd, err := a.second.descriptor()
	if err != nil {
		return nil, a.failed(fmt.Errorf("its socket cannot be inherited: %w", err))
	}
	shown := detailsOf(a.request.Holder)
	shown.Mode, shown.Token, shown.Acquired = a.request.Mode.String(), a.token, a.epoch+now().Milliseconds()
	comment := shown.comment()
	opening := "SET application_name = " + quote(appName(holds, a.request.Holder)) + "; "
	if a.listening {
		opening += "UNLISTEN *; "
	}
	if a.heir {
		opening += "SELECT " + unlock(a.next, lock.Exclusive) + "; "
	}
	// Others see more than that there is a holder when the first question was put.
	begun := now() - beatEvery + showAloneAfter
	if a.waited {
		begun = now() - beatEvery + showAfter
	}
	h := &hold{
		target: a.target, mode: a.request.Mode, token: a.token, waited: a.waited, fd: fd, lost: make(chan struct{}),
		first:  &kept{session: a.first, opening: comment + opening + beat(a.key), sql: comment + beat(a.key), confirmed: begun},
		second: &kept{session: a.second, sql: comment + beat(a.after), confirmed: begun},
	}
	h.begin()
	return h, nil
}

// jitter makes those come at different times who would come at once.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d) }
