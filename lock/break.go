package lock

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/lock/internal/notice"
	"github.com/dblock-dev/dblock/lock/internal/proc"
)

// DefaultKillAfter is how long a process has between SIGTERM and SIGKILL.
const DefaultKillAfter = 10 * time.Second

// BreakOptions say what Break may do.
type BreakOptions struct {
	Options
	// IfStale breaks only what is stale.
	IfStale bool
	// ID is consent to break this one lock, live or not: Report.ID.
	ID string
	// Consent is asked when the holder is alive, or may be. Nil refuses.
	Consent func(*Report) bool
	// KillAfter is how long a live dblock and its command have to end; 0 is
	// DefaultKillAfter.
	KillAfter time.Duration
}

// Broken is what Break did.
type Broken struct {
	Report  *Report // what was found
	Removed bool    // there was a lock, and it is gone
	Ended   []int   // processes that were ended
	Running int     // the pid of a holder that still runs, and works unlocked now; or 0
}

// Break removes a lock that is stuck, by compare and swap against what it judged:
// never somebody's newer lock. A live dblock on this host is ended, with consent,
// before its lock is removed, so that two commands never run at once. Another
// live holder is not ended: its lock file is removed.
//
// The error is a *HeldError if the lock may not be broken, or a *fs.PathError.
func Break(ctx context.Context, db string, opts BreakOptions) (*Broken, error) {
	n, err := Resolve(db, opts.LockFile)
	if err != nil {
		return nil, err
	}
	o := opts.Options.withDefaults()
	r, err := inspect(n, o)
	if err != nil {
		return nil, err
	}
	b := &Broken{Report: r}
	switch {
	case r.State == StateInvalid && r.seen == nil:
		return nil, &fs.PathError{Op: "remove", Path: n.Notice, Err: ErrNotRegular}
	case r.alien:
		return nil, notLockFile("remove", n.Notice, r.seen.Alien(n.named()))
	case r.State == StateInvalid && !r.Stale && !opts.IfStale:
		if !r.settled(ctx) {
			return Break(ctx, db, opts)
		}
	}
	if r.State == StateFree {
		return b, nil
	}
	if !r.mayBreak(opts) {
		return nil, &HeldError{Path: n.Notice, Report: r}
	}
	if r.ends() {
		if b.Ended, err = r.end(ctx, opts.KillAfter); err != nil {
			return nil, err
		}
	} else if r.State == StateForeign && r.provenAlive() {
		b.Running = r.Holder.PID
	}
	b.Removed, err = r.remove()
	b.Removed = b.Removed || len(b.Ended) > 0
	return b, err
}

// settled waits until a file that is no notice, but may be one in the making, has
// stayed as it is for long enough to be none. False: it has changed.
func (r *Report) settled(ctx context.Context) bool {
	changed := func() bool {
		now, err := notice.Read(r.Notice)
		return err != nil || !now.Same(r.seen)
	}
	return !wait(ctx, emptyGrace, changed)
}

// mayBreak decides whether the lock may be broken without, or with, consent.
func (r *Report) mayBreak(opts BreakOptions) bool {
	switch {
	case opts.ID != "" && opts.ID != r.ID:
		return false
	case opts.IfStale:
		return r.Stale
	case opts.ID != "" || r.Stale || r.State == StateStale || r.State == StateInvalid:
		return true
	case r.State == StateForeign && !r.provenAlive() || r.State == StateHeld && !r.ends():
		return true // on another host, as far as anybody knows
	}
	return opts.Consent != nil && opts.Consent(r)
}

// provenAlive reports whether the foreign holder's process is known to live here.
func (r *Report) provenAlive() bool {
	me := proc.Self()
	return r.Holder.Host == me.Host && proc.Seen() && proc.Look(r.Holder.PID) == proc.Alive
}

// ends reports whether the lock's holders are processes of this host that can be
// ended.
func (r *Report) ends() bool {
	if r.State != StateHeld && r.State != StateShared && r.State != StateOrphaned {
		return false
	}
	me, d := proc.Self(), r.seen.Info.Dblock
	return d.Boot == me.Boot && d.PIDNS == me.PIDNS && (d.Boot != "" || r.Holder.Host == me.Host)
}

// end ends all who hold the room or are said to: SIGTERM to the dblocks, which
// pass it on and wait, then SIGKILL to whatever still has the lock.
func (r *Report) end(ctx context.Context, patience time.Duration) ([]int, error) {
	if patience <= 0 {
		patience = DefaultKillAfter
	}
	room, rerr := r.identifyRoom()
	holding := func() []int {
		var pids []int
		if rerr == nil {
			pids = proc.Holding(room)
		}
		if r.State != StateOrphaned && proc.Look(r.Holder.PID) == proc.Alive && !slices.Contains(pids, r.Holder.PID) && r.stands() {
			pids = append(pids, r.Holder.PID)
		}
		return slices.DeleteFunc(pids, func(pid int) bool { return pid == os.Getpid() })
	}
	owners := r.owners()
	// A process that ends has closed its files, as far as one can see, a moment before
	// the kernel lets go of its locks.
	free := func() bool { return !intersects(r.owners(), owners) }
	first := r.dblocks(holding())
	if err := signalAll(first, unix.SIGTERM); err != nil {
		return nil, err
	}
	ended := slices.Clone(first)
	if wait(ctx, patience, func() bool { return !intersects(holding(), first) && !r.holds(holding()) && free() }) {
		return ended, ctx.Err()
	}
	var err error
	// Nobody can refuse this, however impatient the caller is.
	wait(ctx, max(patience, DefaultKillAfter), func() bool {
		// If the old owners still have the room after we have looked who holds it,
		// it is they, and what they started; that may have happened just now. Else
		// it may be the next dblock, and only those that we know are meant.
		rest := holding()
		if !r.stands() || len(owners) > 0 && free() {
			rest = slices.DeleteFunc(rest, func(pid int) bool { return !slices.Contains(ended, pid) })
		}
		err = signalAll(rest, unix.SIGKILL)
		for _, pid := range rest {
			if !slices.Contains(ended, pid) {
				ended = append(ended, pid)
			}
		}
		return err != nil || len(rest) == 0 && free()
	})
	if err == nil {
		err = ctx.Err()
	}
	return ended, err
}

// owners are the processes that took the locks of the room that are held now. They
// need not live any more.
func (r *Report) owners() []int {
	room, err := r.identifyRoom()
	if err != nil {
		return nil
	}
	var pids []int
	claims, _ := proc.Claims(room)
	for _, c := range claims {
		if !c.Waiting {
			pids = append(pids, c.PID)
		}
	}
	return pids
}

// dblocks are those of the holding processes that are asked first: the dblocks,
// which then see to their commands; if none is left, the commands themselves.
func (r *Report) dblocks(pids []int) []int {
	var first []int
	for _, pid := range pids {
		if pid == r.Holder.PID || slices.ContainsFunc(r.Readers, func(p Process) bool { return p.PID == pid }) {
			first = append(first, pid)
		}
	}
	if len(first) == 0 {
		return pids
	}
	return first
}

// stands reports whether the judged notice is still at the path.
func (r *Report) stands() bool {
	id, err := notice.Identify(r.Notice)
	return err == nil && id == r.seen.ID
}

// holds reports whether the judged hold still goes on: its notice stands and
// somebody keeps the room.
func (r *Report) holds(pids []int) bool { return r.stands() && len(pids) > 0 }

func intersects(a, b []int) bool {
	return slices.ContainsFunc(a, func(pid int) bool { return slices.Contains(b, pid) })
}

// wait looks every few milliseconds whether done has become true.
func wait(ctx context.Context, patience time.Duration, done func() bool) bool {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); ; {
		if done() {
			return true
		}
		select {
		case <-tick.C:
			if time.Now().After(end) {
				return false
			}
		case <-ctx.Done():
			return false
		}
	}
}

func signalAll(pids []int, sig unix.Signal) error {
	for _, pid := range pids {
		h, err := proc.Hold(pid)
		if err == nil {
			err = h.Signal(sig)
			h.Close()
		}
		if err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
	}
	return nil
}

// remove takes the judged notice away. Moving it aside first and looking at what
// was moved means that a newer one can be put back.
func (r *Report) remove() (bool, error) {
	if !r.stands() {
		return false, nil
	}
	// A short name, which fits however long the notice's own is.
	aside := filepath.Join(filepath.Dir(r.Notice), fmt.Sprintf(".dblock-broken-%x", rand.Uint32()))
	err := unix.Rename(r.Notice, aside)
	if err == syscall.ENOENT {
		return false, nil
	}
	if err != nil {
		return false, &fs.PathError{Op: "remove", Path: r.Notice, Err: err}
	}
	if now, err := notice.Read(aside); err == nil && identity(now) != r.ID { // check: compare-before-break
		_, err := notice.Link(notice.Path(aside), notice.Path(r.Notice))
		_ = notice.Remove(aside)
		if errors.Is(err, fs.ErrExist) {
			err = nil
		}
		return false, err
	}
	return true, notice.Remove(aside)
}
