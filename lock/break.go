package lock

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/history"
	"github.com/dblock-dev/dblock/lock/internal/inode"
	"github.com/dblock-dev/dblock/lock/internal/judge"
	"github.com/dblock-dev/dblock/lock/internal/notice"
	"github.com/dblock-dev/dblock/lock/internal/proc"
)

// DefaultKillAfter is how long a process has between SIGTERM and SIGKILL.
const DefaultKillAfter = 10 * time.Second

// BreakOptions say what Break may do.
type BreakOptions struct {
	Options Options
	// IfStale breaks only what is stale.
	IfStale bool
	// ID is consent to break this one lock, live or not: Report.ID.
	ID string
	// Consent is asked when the holder is alive, or may be. Nil refuses.
	Consent func(*Report) bool
	// KillAfter is how long a live dblock and its command have to end; 0 is
	// DefaultKillAfter.
	KillAfter time.Duration
	// Tell, if it is not nil, is told what Break does or waits for.
	Tell func(BreakStep, []Process)
}

// BreakStep is what Break is at.
type BreakStep int

// The steps.
const (
	BreakEnding  BreakStep = iota // the processes are about to be ended
	BreakWaiting                  // they have been told, and are waited for, for a second by now
	BreakLooking                  // nobody was ended: does the holder put its lock file back?
)

// Broken is what Break did.
type Broken struct {
	Report   *Report   // what was found
	Removed  bool      // there was a lock, and it is gone
	Ended    []int     // processes that got a signal, and have ended or are in Left
	Gone     []Process // who has ended: those, and what they had started before
	Running  int       // the pid of a holder that still runs, and works unlocked now; or 0
	Spared   int       // the pid that the lock file named, of a process that was not shown to have the lock; or 0
	Left     []Process // processes that have not ended, although they were killed
	Restored bool      // its holder has put the lock file back: nothing is gained
	Kept     bool      // something has the kernel lock still; the system does not tell what
}

// Break removes a lock that is stuck, by compare and swap against what it judged:
// never somebody's newer lock. A live dblock on this host is ended, with consent,
// and all that it has started with it, before its lock is removed, so that two
// commands never run at once. Another live holder is not ended: its lock file is
// removed. Only processes that are shown to have the lock are ended, whatever the
// lock file says.
//
// The error is a *HeldError if the lock may not be broken, or is held nevertheless
// (then there is a Broken as well), a *fs.PathError, or one that is
// fs.ErrPermission for somebody else's process.
func Break(ctx context.Context, db string, opts BreakOptions) (*Broken, error) {
	n, err := Resolve(db, opts.Options.LockFile)
	if err != nil {
		return nil, err
	}
	o := opts.Options.withDefaults()
	opts.Options = o
	if opts.Tell == nil {
		opts.Tell = func(BreakStep, []Process) {}
	}
	if opts.KillAfter <= 0 {
		opts.KillAfter = DefaultKillAfter
	}
	if n.shared() {
		return breakURL(ctx, db, n, opts)
	}
	r, err := inspect(n, o)
	if err != nil {
		return nil, err
	}
	return r.breakBy(ctx, db, opts)
}

// breakURL breaks the lock of an engine. A holder on this machine is ended as any other; elsewhere the
// engine takes the lock away, and who had it ends its command.
func breakURL(ctx context.Context, url string, n Names, opts BreakOptions) (*Broken, error) {
	e, err := EngineFor(url)
	if err != nil {
		return nil, err
	}
	r, err := inspectURL(url, n, opts.Options)
	switch {
	case err != nil:
		return nil, err
	case r.seen != nil:
		if opts.ID != "" && opts.ID == r.ID {
			opts.ID = identity(r.seen) // the engine's id is what people saw
		}
		r.ID = identity(r.seen)
		return r.breakBy(ctx, url, opts)
	case !r.Locked():
		return &Broken{Report: r}, nil
	case r.ID == "" || !r.mayBreak(opts):
		return nil, &HeldError{Path: n.Shown(), Report: r}
	}
	ctx, stop := context.WithTimeout(ctx, breakTime)
	defer stop()
	if err := e.Break(ctx, url, r.ID); err != nil {
		return &Broken{Report: r}, err
	}
	r.recordBroken(history.Forced, &opts.Options)
	b := &Broken{Report: r, Removed: true}
	// Its command is being ended: nobody else is in before that.
	begin := time.Now()
	told := false
	ends := waitUntil(ctx, breakTime, func() bool {
		if !told && time.Since(begin) > time.Second {
			told = true
			opts.Tell(BreakWaiting, nil)
		}
		now, err := e.Inspect(ctx, url)
		return err == nil && !now.sameHolder(r)
	})
	if !ends {
		return b, &HeldError{Path: n.Shown(), Report: r}
	}
	return b, nil
}

// sameHolder reports whether two reports are of the same process, where one may know less of it.
func (r *Report) sameHolder(s *Report) bool {
	a, b := r.Holder, s.Holder
	return a != nil && b != nil && a.PID == b.PID && a.Host == b.Host && (a.Acquired.IsZero() || b.Acquired.IsZero() || a.Acquired.Equal(b.Acquired))
}

// breakTime is how long it may take until a holder elsewhere has ended its command, for which it has as long as it says.
const breakTime = 5 * time.Minute

// breakBy breaks the lock that was found.
func (r *Report) breakBy(ctx context.Context, db string, opts BreakOptions) (*Broken, error) {
	n := r.Names
	switch {
	case r.State == StateInvalid && r.seen == nil:
		return nil, &fs.PathError{Op: "remove", Path: n.Notice, Err: ErrNotRegular}
	case r.alien:
		return nil, judge.NotLockFile("remove", n.Notice, r.seen.Alien(n.named()))
	case r.State == StateInvalid && !r.Stale && !opts.IfStale && !r.settled(ctx):
		return Break(ctx, db, opts)
	case r.State == StateFree && len(r.Stopped) == 0:
		return &Broken{Report: r}, nil
	case !r.mayBreak(opts):
		return nil, &HeldError{Path: n.Notice, Report: r}
	}
	b := &Broken{Report: r}
	err := r.breakUp(ctx, opts, b)
	if err == nil && b.Removed && !b.Restored {
		r.recordBroken(history.Forced, &opts.Options)
	}
	b.Kept = err == nil && b.Removed && !b.Restored && r.kept(ctx)
	if err == nil && (b.Kept || b.Restored || r.seen == nil && !b.Removed) {
		err = &HeldError{Path: n.Notice, Report: r}
	}
	return b, err
}

// breakUp ends who is to be ended and removes the notice.
func (r *Report) breakUp(ctx context.Context, opts BreakOptions, b *Broken) (err error) {
	ends := r.ends()
	if ends || len(r.Stopped) > 0 && !opts.IfStale {
		if err := r.end(ctx, opts, b); err != nil {
			return err
		}
	}
	ends = ends && len(b.Ended) > 0
	switch {
	case r.seen == nil:
		b.Removed = len(b.Ended) > 0
		return nil
	case r.State == StateForeign && r.provenAlive():
		b.Running = r.Holder.PID
	case r.ends() && !ends:
		b.Spared = r.Holder.PID
	}
	if r.Holder != nil && r.Holder.Dblock && (ends || r.Stale) && r.stands() {
		r.recordBroken(history.Killed, &opts.Options)
	}
	if b.Removed, err = r.remove(); err != nil {
		return err
	}
	b.Removed = b.Removed || ends
	if !ends && r.live() {
		opts.Tell(BreakLooking, nil)
		b.Restored = r.restored(ctx)
	}
	return nil
}

// settled waits until a file that is no notice, but may be one in the making, has
// stayed as it is for long enough to be none. False: it has changed.
func (r *Report) settled(ctx context.Context) bool {
	return !waitUntil(ctx, judge.Grace, func() bool {
		now, err := notice.Read(r.Names.Notice)
		return err != nil || !now.Same(r.seen)
	})
}

// mayBreak decides whether the lock may be broken without, or with, consent.
func (r *Report) mayBreak(opts BreakOptions) bool {
	switch {
	case opts.ID != "" && opts.ID != r.ID:
		return false
	case opts.IfStale:
		return r.Stale
	case opts.ID != "":
		return true
	case len(r.Stopped) > 0: // somebody would be ended
	case r.Stale || r.State == StateStale || r.State == StateInvalid:
		return true
	case r.State == StateForeign && !r.provenAlive():
		return true // on another host, as far as anybody knows
	}
	return opts.Consent != nil && opts.Consent(r)
}

// Removable reports whether the permissions let this user remove the lock file, if there is
// one.
func (r *Report) Removable() bool {
	if r.seen == nil {
		return true
	}
	err := unix.Faccessat(unix.AT_FDCWD, filepath.Dir(r.Names.Notice), unix.W_OK|unix.X_OK, unix.AT_EACCESS)
	return r.KeptBy < 0 && !errors.Is(err, fs.ErrPermission)
}

// live reports whether the notice is that of a dblock which gives signs of life.
func (r *Report) live() bool { return r.State == StateHeld || r.State == StateShared }

// restored waits for as long as a live dblock may need to put back its notice: on
// this kernel it is told at once that it is missing, elsewhere it looks at each beat.
func (r *Report) restored(ctx context.Context) bool {
	soon := time.Second
	if r.seen.Info.Dblock.Boot != proc.Self().Boot {
		soon += maxBeat
	}
	return waitUntil(ctx, soon, func() bool {
		now, err := notice.Read(r.Names.Notice)
		return err == nil && now.Info.Dblock != nil && identity(now) == r.ID
	})
}

// kept reports whether something keeps the room of a hold whose lock file is gone, where the
// system does not tell who has it: nobody else has put a lock file there for a second.
func (r *Report) kept(ctx context.Context) bool {
	if r.WaitersKnown || r.seen == nil || r.seen.Info.Dblock == nil || r.seen.Info.Dblock.Boot != proc.Self().Boot {
		return false
	}
	return !waitUntil(ctx, time.Second, func() bool {
		_, err := inode.Identify(r.Names.Notice)
		return err == nil || !r.Names.roomLocked()
	})
}

// stands reports whether the judged notice is still at the path.
func (r *Report) stands() bool {
	id, err := inode.Identify(r.Names.Notice)
	return err == nil && id == r.seen.ID
}

// waitUntil looks again and again, less and less often, whether done has become true.
func waitUntil(ctx context.Context, patience time.Duration, done func() bool) bool {
	pause := 5 * time.Millisecond
	for end := time.Now().Add(patience); !done(); pause = min(2*pause, maxPause) {
		left := time.Until(end)
		if left <= 0 {
			return false
		}
		select {
		case <-time.After(min(pause, left)):
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// maxPause is the longest time between two looks at what is waited for.
const maxPause = 100 * time.Millisecond

// remove takes the judged notice away. Moving it aside first and looking at what
// was moved means that a newer one can be put back.
func (r *Report) remove() (bool, error) {
	if !r.stands() {
		return false, nil
	}
	// A short name, which fits however long the notice's own is.
	aside := filepath.Join(filepath.Dir(r.Names.Notice), fmt.Sprintf(".dblock-broken-%x", rand.Uint32()))
	err := unix.Rename(r.Names.Notice, aside)
	if err == syscall.ENOENT {
		return false, nil
	}
	if err != nil {
		return false, &fs.PathError{Op: "remove", Path: r.Names.Notice, Err: err}
	}
	if now, err := notice.Read(aside); err != nil || identity(now) != r.ID { // check: compare-before-break
		_, err := inode.Link(inode.Path(aside), inode.Path(r.Names.Notice))
		_ = inode.Remove(aside)
		if errors.Is(err, fs.ErrExist) {
			err = nil
		}
		return false, err
	}
	return true, inode.Remove(aside)
}
