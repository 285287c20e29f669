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
	Own    bool // no command: a program or a shell had it for itself
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
	e.Released, e.Held = e.At, time.Since(h.since)
	if h.waited {
		e.Waited = h.grant.Waited
	}
	e.Requested = e.Acquired - e.Waited.Milliseconds()
	e.Ended, e.Heals, e.Ahead, e.Blockers = history.Released, h.heals, h.ahead, h.blockers
	if o.Outcome != nil {
		out := o.Outcome()
		e.Code, e.Signal, e.Ended = out.Code, out.Signal, history.Exited
		switch {
		case out.Late:
			e.Ended = history.Late
		case out.Own:
			e.Ended = history.Released
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
func (o *Options) recordReplaced(dir *inode.Dir, i notice.Info, by *history.Party) {
	if o.NoHistory {
		return
	}
	h := holderOf(i)
	kind := history.TookOver
	if h.Dblock {
		kind = history.Killed
	}
	e := o.eventOf(kind, &h)
	e.By = by
	journal.Append(dir, e)
}

// recordBroken writes of a lock that is removed by force: that it is, and that its dblock was
// killed, whose line nobody else writes.
func (r *Report) recordBroken(kind history.Kind, o *Options) {
	if o.NoHistory || r.Holder == nil {
		return
	}
	dir, err := inode.OpenDir(r.Names.State)
	if err != nil {
		return
	}
	defer dir.Close()
	e := o.eventOf(kind, r.Holder)
	e.By = &history.Party{PID: os.Getpid(), UID: os.Geteuid(), Process: o.Process}
	journal.Append(dir, e)
}

// eventOf is what there is to say of a hold of somebody else, up to its last sign of life.
func (o *Options) eventOf(kind history.Kind, h *Holder) *history.Event {
	other := *o
	other.Priority = Normal // that is ours
	e := other.event(kind, h)
	if !h.Dblock {
		e.UID = -1
	}
	if h.Timestamp.IsZero() {
		return e
	}
	e.Released = h.Timestamp.UnixMilli()
	if e.Acquired == 0 {
		e.Acquired = e.Released
	}
	e.Held = time.Duration(max(0, e.Released-e.Acquired)) * time.Millisecond
	return e
}

// recordGivenUp writes of our wait that has ended with this error of Acquire.
func (a *attempt) recordGivenUp(me Holder, err error) {
	o := &a.opts
	if o.NoHistory {
		return
	}
	me.Acquired = time.Time{}
	e := o.event(history.GaveUp, &me)
	e.Waited = time.Since(a.start)
	e.Requested = e.At - e.Waited.Milliseconds()
	var report *Report
	var held *HeldError
	var deadlock *DeadlockError
	switch {
	case errors.As(err, &held):
		e.Ended, report = history.TimedOut, held.Report
		if o.Wait == NoWait {
			e.Ended = history.Busy
		}
	case errors.As(err, &deadlock):
		e.Ended = history.Deadlocked
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		e.Ended = history.Interrupted
	default:
		return // no wait, but a fault
	}
	if report == nil {
		report, _ = inspect(a.names, a.opts)
	}
	e.Blockers, e.Ahead = a.peers, a.allPeers
	if report != nil && report.Locked() && report.Holder != nil {
		// Its own line is to come.
		h := report.Holder
		stay := e.Waited
		if since := h.Acquired; !since.IsZero() {
			stay = min(stay, max(0, o.Now().Sub(since)))
		}
		e.Blockers = append(e.Blockers[:min(len(e.Blockers), history.MaxBlockers-1)], history.Blocker{Party: *partyOf(h), For: stay})
		e.Ahead++
	}
	dir, err := inode.OpenDir(a.names.State)
	if err != nil {
		return
	}
	defer dir.Close()
	journal.Append(dir, e)
}

// passed notes that a peer had the lock while we waited for it.
func (a *attempt) passed(peer notice.Info, during time.Duration) {
	a.allPeers++
	if len(a.peers) < history.MaxBlockers {
		h := holderOf(peer)
		a.peers = append(a.peers, history.Blocker{Party: *partyOf(&h), For: during})
	}
}
