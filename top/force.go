package top

import (
	"context"
	"errors"

	"github.com/dblock-dev/dblock/internal/cli"
	"github.com/dblock-dev/dblock/internal/term"
	"github.com/dblock-dev/dblock/lock"
	"github.com/dblock-dev/dblock/status"
)

// progress is what becomes of a lock that is to be forced: a question, a step, or the end.
type progress struct {
	of       *forcing
	question string
	answer   chan<- bool
	step     string
	over     bool
}

// force removes a lock after the question, which is asked of any lock, also of one that is stale:
// a key is pressed more easily than a command is typed.
func force(ctx context.Context, f *forcing, d cli.Database, options lock.Options, tell func(progress)) {
	// Consent is to what was shown. Somebody else may have the lock by the time of the answer.
	asked := ""
	ask := func(r *lock.Report) bool {
		question, err := status.Ask(d, r)
		if err != nil {
			tell(progress{of: f, step: words(err), over: true})
			return false
		}
		asked = r.ID
		answer := make(chan bool, 1)
		tell(progress{of: f, question: question, answer: answer})
		select {
		case yes := <-answer:
			return yes
		case <-ctx.Done():
			return false
		}
	}
	r, err := lock.Inspect(d.DB, options)
	switch {
	case err != nil:
		tell(progress{of: f, step: words(err), over: true})
		return
	case r.State == lock.StateFree && len(r.Stopped) == 0:
		tell(progress{of: f, step: "The database is not locked.", over: true})
		return
	case !ask(r):
		return
	}
	opts := lock.BreakOptions{Options: options, ID: asked, Tell: func(step lock.BreakStep, ps []lock.Process) {
		switch step {
		case lock.BreakEnding:
			tell(progress{of: f, step: "Ending " + cli.NamesOf(ps) + "."})
		case lock.BreakWaiting:
			tell(progress{of: f, step: "Waiting for " + cli.NamesOf(ps) + " to end; after " + term.Ago(lock.DefaultKillAfter) + " it is killed."})
		case lock.BreakLooking:
			tell(progress{of: f, step: "Waiting to see whether its holder puts the lock file back."})
		}
	}}
	if asked == "" { // there is no lock file, so no identity: the question stands for those who were named
		first := condemned(r)
		opts.Consent = func(again *lock.Report) bool { return sameAs(first, condemned(again)) || ask(again) }
	}
	b, err := lock.Break(ctx, d.DB, opts)
	end := progress{of: f, over: true}
	switch {
	case ctx.Err() != nil:
		return
	case err != nil:
		end.step = words(status.Refused(d, asked, b, err))
	case !b.Removed:
		end.step = "The database is not locked."
	default:
		end.step = "The lock was removed."
		if len(b.Gone) > 0 {
			end.step += " Ended: " + cli.NamesOf(b.Gone) + "."
		}
		if b.Running != 0 {
			end.step += " Its process still runs, without a lock now."
		}
		if b.Spared != 0 {
			end.step += " The process that it named was not shown to have the lock, and was left alone."
		}
	}
	tell(end)
}

func condemned(r *lock.Report) map[int]bool {
	ps, _ := r.Condemned()
	pids := map[int]bool{}
	for _, p := range ps {
		pids[p.PID] = true
	}
	return pids
}

// sameAs reports whether nobody is to be ended who was not shown.
func sameAs(shown, now map[int]bool) bool {
	for pid := range now {
		if !shown[pid] {
			return false
		}
	}
	return len(now) > 0
}

// words is an error with its hint.
func words(err error) string {
	var conflict *cli.ConflictError
	if errors.As(err, &conflict) && conflict.Hint != "" {
		return term.Path(conflict.Text) + ". Hint: " + term.Path(conflict.Hint) + "."
	}
	return term.Path(err.Error()) + "."
}

// startForcing begins to ask, on a page of its own.
func (a *app) startForcing(ctx context.Context) {
	v := a.model.one()
	if v == nil {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	f := &forcing{name: v.name, ended: cancel}
	a.model.forcing = f
	a.model.open(pageForce)
	options := v.Options(a.foreign)
	options.NoHistory, options.Process = a.noHistory, "dblock top"
	go func() {
		defer a.rescue()
		defer cancel()
		force(ctx, f, v.Database, options, func(p progress) {
			select {
			case a.progress <- p:
			case <-ctx.Done():
			}
		})
	}()
}

// forced takes in how it goes on.
func (a *app) forced(p progress) {
	f := a.model.forcing
	if f == nil || p.of != f {
		return // the user has gone away from it
	}
	if p.question != "" {
		f.question, f.answer, f.drawn = p.question, p.answer, false
	}
	if p.step != "" {
		f.steps = append(f.steps, p.step)
	}
	f.over = f.over || p.over
	if f.over {
		f.answer = nil
	}
}

// answer is a key while something is asked, or done.
func (a *app) answer(key rune) {
	f := a.model.forcing
	switch {
	case f.answer == nil:
		return
	case !f.drawn:
		return // typed before there was anything to read
	case key == 'y' || key == 'Y':
		f.answer <- true
		f.answer, f.question = nil, ""
		f.steps = append(f.steps, "Removing the lock.")
	default:
		f.answer <- false
		a.endForcing()
		a.model.notice = "Nothing was changed."
	}
}

// endForcing leaves the page. What is under way is broken off.
func (a *app) endForcing() {
	a.model.forcing.ended()
	a.model.leave()
	a.model.forcing = nil
}
