package lock

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dblock-dev/dblock/internal/tree"
	"github.com/dblock-dev/dblock/lock/internal/inode"
	"github.com/dblock-dev/dblock/lock/internal/proc"
)

// A command that runs under the lock of a, and waits for that of b, keeps a until it has b. If
// whoever holds b waits for a, or for somebody who does, none of them goes on. Nothing of that
// is written down by anybody: the kernel's table of locks tells who holds and who waits, and
// the table of processes who runs under whom.
//
// A hold counts as stuck only if all that works under it is: its processes sleep, and at the
// end of each branch of their tree a dblock waits for a lock whose holder is stuck in turn. One
// process that could still go on, and end what the others wait for, is enough for a doubt. So
// is a program that takes locks in itself: it may do something else meanwhile.

const (
	// firstDeadlockLook is how long one waits before one looks for the first time: most
	// waits are over by then. Whoever closes a circle is the last one to begin to wait, so
	// the others have little to find: they look less often.
	firstDeadlockLook = 50 * time.Millisecond
	nextDeadlockLook  = time.Second
	lastDeadlockLook  = 2 * time.Second
	// deadlockAgain is after how long the same must be seen again.
	deadlockAgain = 100 * time.Millisecond
	// deadlockOthers is how long whoever began to wait later has to give up. One is enough,
	// but it may be one that does not look.
	deadlockOthers = 2 * time.Second
	// deadlockSteps bounds a look where very many hold and wait.
	deadlockSteps = 10_000
)

// deadlock looks, while we wait under a hold, whether that can ever end.
type deadlock struct {
	attempt *attempt
	ctx     context.Context
	cancel  context.CancelCauseFunc
}

// heedDeadlock returns the context for a wait: it ends when the wait cannot. Without a hold
// around us there is nothing to look for, and d is nil.
func (a *attempt) heedDeadlock(ctx context.Context) (context.Context, *deadlock) {
	if os.Getenv(EnvLockFile) == "" && os.Getenv(EnvOuter) == "" || a.opts.Wait == NoWait {
		return ctx, nil
	}
	d := &deadlock{attempt: a}
	d.ctx, d.cancel = context.WithCancelCause(ctx)
	begin := a.opts.OnWait
	a.opts.OnWait = func() {
		go d.watch()
		if begin != nil {
			begin()
		}
	}
	return d.ctx, d
}

func (d *deadlock) stop() {
	if d != nil {
		d.cancel(nil)
	}
}

// found is the deadlock for which the wait was ended; nil if there was none.
func (d *deadlock) found() (e *DeadlockError) {
	if d != nil {
		errors.As(context.Cause(d.ctx), &e)
	}
	return e
}

// watch looks until the wait is over, and ends it when the same circle was seen twice, by the
// one who began last or by whoever is left.
func (d *deadlock) watch() {
	var before *circle
	var since time.Time
	missed := false
	next := nextDeadlockLook
	for pause := firstDeadlockLook; ; {
		select {
		case <-time.After(pause):
		case <-d.ctx.Done():
			return
		}
		c := d.look()
		switch {
		case c == nil && before != nil && !missed:
			// The tables change while they are read, and may show too much or too little.
			missed, pause = true, deadlockAgain
			continue
		case c == nil:
			pause, next = next, min(2*next, lastDeadlockLook)
		case before == nil || c.mark != before.mark:
			pause, since = deadlockAgain, time.Now()
		case c.last || time.Since(since) > deadlockOthers:
			d.cancel(c.error(d.attempt.names))
			return
		default:
			pause = deadlockOthers / 4
		}
		before, missed = c, false
	}
}

// circle is a deadlock as it was seen once.
type circle struct {
	mark string // the same for the same circle, in which nobody has done anything
	last bool   // we are the one who gives up
	hops []hop  // the first one is ours
	view *view
}

// hop is a hold, and what is waited for under it.
type hop struct {
	holder       int
	holds, waits string // as the table of locks names the files
	waiter       int
}

// view is what is there to be seen at one moment.
type view struct {
	me      int
	queue   []inode.ID              // of the lock that we wait for
	holders map[string][]proc.Claim // of each file
	waits   map[int][]proc.Flock    // of each process
	all     []tree.Process
	passing map[string]bool // files that are being followed
	steps   int
	mark    strings.Builder
}

func (d *deadlock) look() *circle {
	v := &view{me: os.Getpid(), holders: map[string][]proc.Claim{}, waits: map[int][]proc.Flock{}, passing: map[string]bool{}}
	locks, _ := proc.AllLocks()
	for _, f := range locks.Flocks() {
		if pid := f.Claim.PID; f.Claim.Waiting {
			if !slices.Contains(v.waits[pid], f) { // a line may be shown twice
				v.waits[pid] = append(v.waits[pid], f)
			}
		} else {
			v.holders[f.File] = append(v.holders[f.File], f.Claim)
		}
	}
	v.queue = d.attempt.names.queueFiles()
	own := slices.DeleteFunc(v.waits[v.me], func(f proc.Flock) bool { return !v.queuedFor(f.File) })
	if len(own) == 0 {
		return nil
	}
	v.waits[v.me] = own[:1]
	// Where not all processes can be seen, one that is at work may be among the others.
	if v.all = tree.All(); v.process(1).PID == 0 {
		return nil
	}
	hops, stuck := v.stuckAt(own[0])
	if !stuck || len(hops) == 0 {
		return nil
	}
	// They were found from what we wait for on; the last one is what is around us.
	last := len(hops) - 1
	hops = append([]hop{hops[last]}, hops[:last]...)
	c := &circle{mark: v.mark.String(), last: true, hops: hops, view: v}
	dbs := c.databases(d.attempt.names)
	for _, h := range hops[1:] {
		if onItsWay(dbs, h) {
			continue // it would not help if that one gave up, and it does not
		}
		c.last = c.last && v.later(v.me, h.waiter)
	}
	return c
}

// queuedFor reports whether a file is of the queue in which we are.
func (v *view) queuedFor(file string) bool {
	return slices.ContainsFunc(v.queue, func(id inode.ID) bool { return proc.Is(file, id) })
}

// onItsWay reports whether a hop is but a place in a queue: who waits behind it waits for the same.
func onItsWay(dbs func(string) string, h hop) bool {
	db := dbs(h.holds)
	return h.holder == h.waiter && db != "" && db == dbs(h.waits)
}

// later reports whether a process was started after another one.
func (v *view) later(a, b int) bool {
	x, y := v.process(a), v.process(b)
	return x.Started > y.Started || x.Started == y.Started && x.PID > y.PID
}

func (v *view) process(pid int) (p tree.Process) {
	if at := slices.IndexFunc(v.all, func(p tree.Process) bool { return p.PID == pid }); at >= 0 {
		p = v.all[at]
	}
	return p
}

// stuckAt reports whether a wait for a file cannot end, since one of those in the way is stuck. The
// hops lead to us, if we are in that circle; else they are empty: it is one of others, who
// are to give up.
func (v *view) stuckAt(w proc.Flock) (hops []hop, stuck bool) {
	if v.passing[w.File] {
		return nil, true
	}
	if v.steps++; v.steps > deadlockSteps {
		return nil, false
	}
	v.passing[w.File] = true
	defer delete(v.passing, w.File)
	for _, c := range v.holders[w.File] {
		if c.Shared && w.Claim.Shared {
			continue // not in the way
		}
		if hops, stuck = v.stuckHolder(w.File, c.PID); stuck {
			return hops, true
		}
	}
	return nil, false
}

// stuckHolder reports whether a holder of a file cannot go on.
func (v *view) stuckHolder(file string, holder int) (hops []hop, stuck bool) {
	if waits := v.waits[holder]; holder != v.me && len(waits) == 1 && v.waitsOnly(holder) {
		// It has got to that file on its way to another, or it takes several locks together.
		if hops, stuck = v.stuckAt(waits[0]); stuck && len(hops) > 0 {
			hops = append([]hop{{holder, file, waits[0].File, holder}}, hops...)
		}
		v.noteWaiter(holder)
		return hops, stuck
	}
	if holder == v.me {
		if v.queuedFor(file) { // check: only-queued
			// Who waits behind us would wait for the same if we gave up: we are not in that circle.
			return nil, true
		}
		return []hop{{v.me, file, v.waits[v.me][0].File, v.me}}, true
	}
	under := tree.Members(v.all, cmp.Or(proc.Serves(holder), holder))
	if served := proc.Serves(holder); served != 0 {
		under = append(under, v.process(served))
	}
	under = slices.DeleteFunc(under, func(p tree.Process) bool { return p.PID == holder || isWitness(p) })
	for _, p := range under {
		if p.PID == v.me {
			v.noteWaiter(p.PID)
			if len(hops) == 0 {
				hops = []hop{{holder, file, v.waits[v.me][0].File, v.me}}
			}
			continue
		}
		if waits := v.waits[p.PID]; len(waits) == 1 && v.waitsOnly(p.PID) {
			v.noteWaiter(p.PID)
			more, stuck := v.stuckAt(waits[0])
			if !stuck {
				return nil, false
			}
			if len(hops) == 0 && len(more) > 0 {
				hops = append([]hop{{holder, file, waits[0].File, p.PID}}, more...)
			}
			continue
		}
		if !v.waitsForChildren(p, under) {
			return nil, false
		}
		fmt.Fprintf(&v.mark, "%d %d %d;", p.PID, p.Started, p.Ran)
	}
	return hops, len(under) > 0
}

// isWitness reports whether a process is the second one of a session or a keeper, which has been
// forked by it, runs nothing else, and waits for its end.
func isWitness(p tree.Process) bool {
	argv := proc.Command(p.PID)
	return len(argv) > 1 && filepath.Base(argv[0]) == "dblock" && (argv[1] == "session" || argv[1] == "hold") && slices.Equal(argv, proc.Command(p.Parent))
}

// noteWaiter makes a process, and what it waits for, a part of the mark: the next look must find it so.
// How long it has run does not count, since it may be looking itself.
func (v *view) noteWaiter(pid int) {
	fmt.Fprintf(&v.mark, "%d %d %s;", pid, v.process(pid).Started, v.waits[pid][0].File)
}

// waitsOnly reports whether a process that waits for a lock does nothing else: it is a dblock
// that runs a command, or is to hold a lock for a shell. A session does much at once.
func (v *view) waitsOnly(pid int) bool {
	argv := proc.Command(pid)
	return len(argv) > 1 && filepath.Base(argv[0]) == "dblock" && argv[1] != "session"
}

// waitsForChildren reports whether a process seems to wait for what it has started: it sleeps,
// and has a child that is there, not one in the background of a terminal or in a job of its own.
func (v *view) waitsForChildren(p tree.Process, among []tree.Process) bool {
	if p.State != 'S' {
		return false
	}
	children := 0
	for _, c := range among {
		if c.Parent != p.PID {
			continue
		}
		if c.Group != p.Group && c.Front != c.Group {
			return false
		}
		children++
	}
	return children > 0 // check: idle-leaf: children > 0 -> true
}

// error describes the circle.
func (c *circle) error(n Names) *DeadlockError {
	dbs := c.databases(n)
	e := &DeadlockError{Path: n.Notice}
	for i, h := range c.hops {
		if i > 0 && onItsWay(dbs, h) {
			continue
		}
		e.Cycle = append(e.Cycle, Deadlocked{Holder: describe(h.holder), Holds: dbs(h.holds), Waits: dbs(h.waits)})
	}
	return e
}

// databases finds what database a file of a queue belongs to. All of them are held around us,
// or around one of the others that wait; of these one may look at one's own.
func (c *circle) databases(n Names) func(file string) string {
	type known struct{ notice, db string }
	all := []known{{n.Notice, n.DB}, {os.Getenv(EnvLockFile), os.Getenv(EnvDB)}}
	for _, h := range c.hops[1:] {
		env := proc.Environ(h.waiter)
		all = append(all, known{env[EnvLockFile], env[EnvDB]})
	}
	for _, o := range outers() {
		all = append(all, known{o.path, ""})
	}
	return func(file string) string {
		for _, k := range all {
			if k.notice == "" {
				continue
			}
			for _, id := range (Names{State: k.notice + stateSuffix}).queueFiles() {
				if proc.Is(file, id) {
					if k.db != "" {
						return k.db
					}
					return k.notice
				}
			}
		}
		return ""
	}
}
