package lock

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/dblock-dev/dblock/history"
	"github.com/dblock-dev/dblock/lock/internal/inode"
	"github.com/dblock-dev/dblock/lock/internal/journal"
	"github.com/dblock-dev/dblock/lock/internal/notice"
	"github.com/dblock-dev/dblock/lock/internal/queue"
)

// What is written into the history, and when. The line of a hold comes before its notice goes:
// one who is killed between the two is told of twice, which readers know, and never not at all.
// Nothing is written between the grant and the start of a command, unless the one before was
// killed.

// Outcome is how the work under a lock has ended.
type Outcome struct {
	Code   int  // exit code
	Signal int  // number of the signal that ended it; 0: it ended by itself
	Late   bool // it was ended since its time was up
}

// event is what there is to say of a hold, or of somebody who waits for one.
func (o *Options) event(kind history.Kind, h *Holder) *history.Event {
	e := &history.Event{
		Kind: kind, At: o.Now().UnixMilli(), Token: h.Token, Process: h.Process, Info: h.Info, PID: h.PID, Host: h.Host, UID: h.UID, Command: h.Command,
		Shared: h.Mode == Shared,
	}
	if !h.Acquired.IsZero() {
		e.Acquired = h.Acquired.UnixMilli()
	}
	if o.Priority != Normal {
		e.Priority = o.Priority.String()
	}
	return e
}

// recordEnd writes the line of the hold.
func (h *held) recordEnd(lost *LostError) {
	o := &h.opts
	if o.NoHistory {
		return
	}
	e := o.event(history.Hold, &h.grant.Holder)
	e.PID = os.Getpid() // readers have that of one of them
	e.Released, e.Waited, e.Held = e.At, h.grant.Waited, time.Since(h.since)
	e.Requested = e.Acquired - e.Waited.Milliseconds()
	e.Ended, e.Heals, e.Ahead, e.Blockers = history.Released, h.heals, h.ahead, h.blockers
	if o.Outcome != nil {
		out := o.Outcome()
		e.Code, e.Signal, e.Ended = out.Code, out.Signal, history.Exited
		switch {
		case out.Late:
			e.Ended = history.Late
		case out.Signal != 0:
			e.Ended = history.Signaled
		}
	}
	if lost != nil {
		e.Ended, e.By = history.LostIt, partyOf(lost.Holder)
	}
	journal.Append(h.place.Dir(), e)
}

// recordDuring writes of what happens to the hold while it lasts.
func (h *held) recordDuring(kind history.Kind, by *Holder) {
	if h.opts.NoHistory {
		return
	}
	e := h.opts.event(kind, &h.grant.Holder)
	e.By = partyOf(by)
	journal.Append(h.place.Dir(), e)
}

func partyOf(h *Holder) *history.Party {
	if h == nil {
		return nil
	}
	p := &history.Party{PID: h.PID, UID: -1, Process: h.Process, Command: h.Command, Token: h.Token}
	if h.Dblock {
		p.UID = h.UID
	}
	return p
}

// recordReplaced writes of one whose notice was stale and is replaced: a dblock that was killed,
// whose line nobody else writes, or another program.
func (o Options) recordReplaced(dir *inode.Dir, i notice.Info, by Holder) {
	if o.NoHistory {
		return
	}
	h := holderOf(i)
	kind := history.TookOver
	if h.Dblock {
		kind = history.Killed
	} else {
		h.UID = -1
	}
	o.Priority = Normal // that is ours
	e := o.event(kind, &h)
	if i.Dated {
		e.Released = i.Timestamp // its last sign of life
		if e.Acquired == 0 {
			e.Acquired = i.Timestamp
		}
		e.Held = time.Duration(max(0, e.Released-e.Acquired)) * time.Millisecond
	}
	e.By = partyOf(&by)
	journal.Append(dir, e)
}

// recordGivenUp writes of a wait that has ended without the lock.
func (o *Options) recordGivenUp(ctx context.Context, err error, n Names, me Holder, since time.Time) {
	if o.NoHistory {
		return
	}
	ended := history.TimedOut
	switch {
	case ctx.Err() != nil:
		ended = history.Interrupted
	case !errors.Is(err, queue.ErrBusy) && !errors.Is(err, context.DeadlineExceeded):
		return // no wait, but a fault
	case o.Wait == NoWait:
		ended = history.Busy
	}
	dir, err := inode.OpenDir(n.State)
	if err != nil {
		return
	}
	defer dir.Close()
	me.Acquired = time.Time{}
	e := o.event(history.GaveUp, &me)
	e.Ended, e.Waited = ended, time.Since(since)
	e.Requested = e.At - e.Waited.Milliseconds()
	journal.Append(dir, e)
}

// recordForced writes of a lock that was removed by force.
func (r *Report) recordForced(o *Options) {
	if o.NoHistory || r.Holder == nil {
		return
	}
	dir, err := inode.OpenDir(r.Names.State)
	if err != nil {
		return
	}
	defer dir.Close()
	e := o.event(history.Forced, r.Holder)
	e.By = &history.Party{PID: os.Getpid(), UID: os.Geteuid(), Process: o.Process}
	journal.Append(dir, e)
}
