package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/lock"
)

// hold is a lock that was acquired.
type hold struct {
	*target
	mode          lock.Mode
	token         int64
	waited        bool
	fd            int
	first, second *kept

	stop context.CancelFunc
	lost chan struct{}

	mu  sync.Mutex
	err error // why it was lost

	once     sync.Once
	released error
	given    bool        // it was released
	bound    *time.Timer // ends what does not end
	settling sync.Once
}

// kept is a session that has a key.
type kept struct {
	*session
	opening string // the first question, if it is another one
	sql     string // the question
	done    chan struct{}

	mu        sync.Mutex
	confirmed time.Duration      // when the last question was put that was answered: the lock was held then
	hurry     context.CancelFunc // makes the next one come at once
}

// begin looks after the sessions from now on.
func (h *hold) begin() {
	ctx, stop := context.WithCancel(context.Background())
	h.stop = stop
	for _, k := range []*kept{h.first, h.second} {
		k.done = make(chan struct{})
		go h.keep(ctx, k)
	}
}

// keep asks again and again whether the lock is held, and notices when the connection ends. It does not
// end it: a server that was too slow would give the lock to the next one while our tree still ends.
func (h *hold) keep(ctx context.Context, k *kept) {
	defer close(k.done)
	for {
		k.mu.Lock()
		pause, hurry := context.WithCancel(ctx)
		k.hurry = hurry
		due := k.confirmed + beatEvery - now()
		k.mu.Unlock()
		_, err := k.listen(pause, max(0, due))
		hurry()
		if ctx.Err() != nil {
			return
		}
		if k.pg.IsClosed() {
			h.lose(fmt.Errorf("the connection to the server was lost: %w", cause(err)))
			return
		}
		if !h.question(k) {
			return
		}
	}
}

// question asks whether the lock is held; false says that it is not, or that it cannot be known.
func (h *hold) question(k *kept) bool {
	sent := now()
	t := h.expect(k, sent)
	sql := k.sql
	if k.opening != "" {
		sql, k.opening = k.opening, ""
	}
	row, err := k.row(context.Background(), sql)
	t.stop()
	if err == nil {
		err = verdict(k.session, row)
	} else {
		err = fmt.Errorf("the connection to the server was lost: %w", cause(err))
	}
	if err != nil {
		h.lose(err)
		return false
	}
	k.mu.Lock()
	k.confirmed = sent
	k.mu.Unlock()
	return true
}

// verdict is what an answer says against the lock.
func verdict(s *session, row [][]byte) error {
	switch {
	case len(row) != 3:
		return errors.New("the server does not answer what it was asked")
	case s.target.direct(s, row[0]) != nil:
		return errors.New("a pooler has given its session to others")
	case string(row[1]) != "f":
		return errors.New("the server is a standby now")
	case string(row[2]) != "t":
		return errors.New("the server does not have the lock any more")
	}
	return nil
}

// expected is an answer that is waited for.
type expected struct {
	mu    sync.Mutex
	timer *time.Timer
	over  bool
}

func (e *expected) stop() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.over = true
	e.timer.Stop()
}

// expect has the lock lost if there is no answer in time. Where this process was stopped the answer may be there already,
// and gets a moment to be read.
func (h *hold) expect(k *kept, sent time.Duration) *expected {
	const late = answerTime / 4
	e := new(expected)
	due := now() + answerTime
	e.mu.Lock()
	defer e.mu.Unlock()
	e.timer = time.AfterFunc(answerTime, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		switch at := now(); {
		case e.over:
		case at > due+late:
			due = at + late
			e.timer.Reset(late)
		default:
			h.lose(k.silent(sent))
		}
	})
	return e
}

// silent says that there is no answer.
func (k *kept) silent(sent time.Duration) error {
	return fmt.Errorf("the connection to the server was lost: it has not answered for %v", (now() - sent).Round(100*time.Millisecond))
}

func (h *hold) lose(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err == nil {
		h.err = err
		close(h.lost)
	}
}

// Token is the fencing number.
func (h *hold) Token() int64 { return h.token }

// Waited reports whether it was not to be had at once.
func (h *hold) Waited() bool { return h.waited }

// Descriptor is the socket of the session that has the key of the aftermath.
func (h *hold) Descriptor() int { return h.fd }

// Lost is closed when the lock is lost, or may be.
func (h *hold) Lost() <-chan struct{} { return h.lost }

// Err says why it was lost.
func (h *hold) Err() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.err
}

// Check tells whether the lock is held. Where what is known of it is too old, since this process was stopped or
// the machine has slept, the server is asked, and has as long for the answer as always.
func (h *hold) Check() error {
	if err := h.Err(); err != nil {
		return err
	}
	for _, k := range []*kept{h.first, h.second} {
		asked := now()
		if k.age() <= reach {
			continue
		}
		k.mu.Lock()
		if k.hurry != nil {
			k.hurry()
		}
		k.mu.Unlock()
		for k.age() > reach && h.Err() == nil {
			select {
			case <-h.lost:
			case <-k.done: // it was released
				return h.Err()
			case <-time.After(5 * time.Millisecond):
			}
			if now()-asked > answerTime {
				h.lose(k.silent(asked))
			}
		}
	}
	return h.Err()
}

// age is how long ago the lock was held for sure.
func (k *kept) age() time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	return now() - k.confirmed
}

// Release gives the lock back.
func (h *hold) Release() error {
	h.once.Do(func() { h.released = h.release() })
	return h.released
}

func (h *hold) release() error {
	h.given = true
	h.bound = time.AfterFunc(releaseTime, func() {
		h.first.cut()
		h.second.cut()
	})
	h.stop()
	<-h.first.done
	<-h.second.done
	// Who is told needs the second key after the first.
	unlocked := make(chan struct{})
	go func() {
		defer close(unlocked)
		h.unlock(h.second, "SELECT "+unlock(h.after, h.mode))
	}()
	// A notification is a transaction, of which nobody needs to know that it is on the disk.
	h.unlock(h.first, "SELECT "+unlock(h.key, h.mode)+"; SET synchronous_commit = off; NOTIFY "+h.channel())
	<-unlocked
	_ = unix.Close(h.fd)
	return h.Err()
}

// Settle ends the sessions, whose keys are free by then.
func (h *hold) Settle(awaited bool) {
	h.settling.Do(func() {
		if !h.given {
			return // others keep the lock by the second one
		}
		defer h.bound.Stop()
		if !awaited {
			h.first.part()
			h.second.part()
			return
		}
		time.Sleep(notInTheWay)
		h.first.close()
		h.second.close()
	})
}

// unlock gives a key back. If it was not ours any more, the lock was lost.
func (h *hold) unlock(k *kept, sql string) {
	if k.pg.IsClosed() {
		return // it was told
	}
	results, err := k.query(context.Background(), sql)
	switch {
	case err != nil:
		h.lose(fmt.Errorf("the connection to the server was lost: %w", cause(err)))
	case len(results) == 0 || len(results[0].Rows) != 1 || string(results[0].Rows[0][0]) != "t":
		h.lose(errors.New("the server did not have the lock any more"))
	}
}
