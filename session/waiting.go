package session

import (
	"os"
	"slices"
	"time"

	"github.com/dblock-dev/dblock/lock"
)

const (
	sayAfter = 200 * time.Millisecond // before anything is said of a wait
	sayEvery = time.Second            // and how often what has changed is
)

// watching tells the program what an acquire waits for, until it is stopped.
type watching struct{ done chan struct{} }

func (w *watching) stop() {
	if w != nil {
		close(w.done)
	}
}

// situation is what an event tells of; the next one is sent when it has changed.
type situation struct {
	state lock.State
	pid   int
	id    string
	ahead int
}

func (s *session) watch(id string, a asked, begin time.Time) *watching {
	w := &watching{make(chan struct{})}
	go func() {
		var told situation
		for pause := sayAfter; ; pause = sayEvery {
			select {
			case <-w.done:
				return
			case <-time.After(pause):
			}
			r, err := lock.Inspect(a.db, a.opts)
			if err != nil {
				continue
			}
			now := situation{state: r.State, id: r.ID, ahead: s.ahead(r)}
			if r.Holder != nil {
				now.pid = r.Holder.PID
			}
			if now == told {
				continue
			}
			select {
			case <-w.done:
				return
			default:
			}
			told = now
			o := event(nil, "waiting")
			o.raw("id", id)
			o.text("db", r.Names.DB)
			o.text("lock_file", r.Names.Notice)
			o.text("state", string(r.State))
			o.int("ahead", int64(now.ahead))
			o.ms("waited_ms", time.Since(begin))
			holder(&o, r.Holder, r.Age)
			s.out.write(o.line())
		}
	}()
	return w
}

// ahead is how many processes wait before this one.
func (s *session) ahead(r *lock.Report) int {
	if at := slices.IndexFunc(r.Waiters, func(p lock.Process) bool { return p.PID == os.Getpid() && p.Host == "" }); at >= 0 {
		return at
	}
	return len(r.Waiters)
}
