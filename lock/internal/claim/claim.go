// Package claim is our notice at the path of the lock file: how it gets there, past
// whoever else is in the way, how it stays there, and how it goes. Only who has the
// room of the queue has a claim, unless flock does not work.
package claim

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/dblock-dev/dblock/lock/internal/inode"
	"github.com/dblock-dev/dblock/lock/internal/judge"
	"github.com/dblock-dev/dblock/lock/internal/ledger"
	"github.com/dblock-dev/dblock/lock/internal/notice"
	"github.com/dblock-dev/dblock/lock/internal/proc"
	"github.com/dblock-dev/dblock/lock/internal/queue"
	"github.com/dblock-dev/dblock/lock/internal/watch"
)

// Spare is the other name of our notice, in the state directory: from there it is put
// back when somebody has removed it.
const Spare = "notice"

// Options say who claims what.
type Options struct {
	Path             string // of the lock file
	Named            bool   // by the user, so that it may be anything
	Me               proc.Me
	Shared           bool // with other readers
	Process, Command string
	Info             string // for people

	StaleTimeout time.Duration
	ByAge        bool          // a peer's notice that is older than that is stale, whoever lives
	RetryDelay   time.Duration // the first pause between two looks at what is in the way
	Patience     *queue.Patience

	Now  func() time.Time
	Step func(name string) // is called between two steps

	// Replaced is called with a stale notice in whose place ours comes: that of a dblock which
	// was killed before it is replaced, and perhaps again, that of a peer afterwards.
	Replaced func(state *inode.Dir, stale notice.Info)
	// Passed is called with a peer's notice that was in the way for so long.
	Passed func(peer notice.Info, during time.Duration)

	Delay func() // is called before Leave takes longer than a moment
}

// Describe is what a notice says of the process that has these options. Which hold it
// is of is left out.
func (o *Options) Describe() notice.Info {
	now := o.Now().UnixMilli()
	mode := notice.Exclusive
	if o.Shared {
		mode = notice.Shared
	}
	return notice.Info{
		PID: o.Me.PID, Timestamp: now, Dated: true, Host: o.Me.Host, Process: o.Process,
		Dblock: &notice.Dblock{
			Version: notice.Version, Mode: mode, Acquired: now, Started: o.Me.Started, Boot: o.Me.Boot, PIDNS: o.Me.PIDNS,
			UID: o.Me.UID, Command: o.Command, Info: o.Info,
		},
	}
}

// Claim is our notice. Its methods may not be called at the same time.
type Claim struct {
	opts  Options
	place *queue.Place

	ledger   ledger.Ledger
	token    int64        // the fencing number that was set; 0: the next one is drawn
	id       string       // the identity of this hold
	info     notice.Info  // what our notice says
	file     *notice.File // our notice, complete, under the spare name
	spare    string       // that name
	linked   bool         // it exists
	replaced inode.ID     // of the notice whose place ours has taken, while it still has that name

	seen       *notice.Sighting // the foreign notice we wait for
	since      time.Time        // since when it has had these bytes, on the monotonic clock
	guest      *notice.Sighting // the peer's notice that was in the way when we last looked
	guestSince time.Time
	unsettled  time.Time // when a peer's empty or vanishing file was last seen
	passing    bool      // the path was free, and several peers are about
	met        bool      // a peer was met
	clockMoved bool      // the wall clock was set since the last hold
	watch      *watch.Watcher
	poll       time.Duration
}

// New is a claim that is not published yet.
func New(opts Options) *Claim { return &Claim{opts: opts, spare: Spare, poll: opts.RetryDelay} }

// Publish puts our notice at the path, or joins the one of the readers that are in,
// waiting for foreign holders and taking over from dead ones. It may be called again,
// with another place, after it has failed and Withdraw has been called. The error is
// queue.ErrBusy, queue.ErrAgain, that of a context, or a *fs.PathError.
func (c *Claim) Publish(ctx context.Context, place *queue.Place) error {
	c.place = place
	if place.Degraded() != nil {
		c.spare += queue.Passing() // nothing keeps others from using the common name
	}
	if err := c.drawToken(); err != nil {
		return err
	}
	c.opts.Step("drawn")
	for {
		if place.Locked() && c.opts.Shared && c.join() {
			return nil
		}
		if err := c.publish(ctx); err != nil {
			return err
		}
		stands, err := c.settle(ctx)
		if err != nil {
			return err
		}
		if stands && c.clockMoved {
			// No notice that was dated by the old clock is left.
			return ledger.Amend(c.tokenFile(), func(led *ledger.Ledger) { led.Booted, led.Boot = c.opts.Me.Booted(c.now()) })
		}
		if stands {
			return nil
		}
	}
}

// Withdraw removes our notice from wherever it is.
func (c *Claim) Withdraw() {
	if c.file == nil {
		return
	}
	if id, err := inode.Identify(c.opts.Path); err == nil && id == c.file.ID() {
		_ = inode.Remove(c.opts.Path)
	}
	if id, err := c.spareFile().Identify(); err == nil && id == c.file.ID() {
		_ = c.spareFile().Remove()
	}
	_ = c.dropReplaced()
	c.file.Close()
	c.file = nil
}

// Info is what our notice says.
func (c *Claim) Info() notice.Info { return c.info }

// Token is the fencing number. Among readers each has one, and the notice has the first
// one's.
func (c *Claim) Token() int64 { return c.ledger.Token }

// Inode is that of our notice.
func (c *Claim) Inode() inode.ID { return c.file.ID() }

func (c *Claim) now() int64 { return c.opts.Now().UnixMilli() }

// noticeFile is the notice at its path.
func (c *Claim) noticeFile() inode.Name { return inode.Path(c.opts.Path) }

// spareFile is the other name of our notice.
func (c *Claim) spareFile() inode.Name { return c.place.Dir().At(c.spare) }

func (c *Claim) tokenFile() inode.Name { return c.place.Dir().At(queue.Token) }

// inTheWay reports whether there is a notice that may have been dated by another clock.
func (c *Claim) inTheWay() bool {
	_, err := inode.Identify(c.opts.Path)
	return !inode.IsGone(err)
}

// describe is the content of our notice.
func (c *Claim) describe() notice.Info {
	i := c.opts.Describe()
	i.Dblock.Token, i.Dblock.ID, i.Dblock.Room = c.ledger.Token, c.id, c.place.Inode()
	return i
}

// prepare writes our complete notice under the spare name.
func (c *Claim) prepare() error {
	c.Withdraw()
	c.info = c.describe()
	file, err := c.createSpare()
	if errors.Is(err, fs.ErrPermission) && c.spare == Spare {
		// In a sticky directory what a killed dblock of another user left there
		// is not ours to remove. Any other name will do.
		c.spare += fmt.Sprintf("-%d", c.opts.Me.UID)
		file, err = c.createSpare()
	}
	if err != nil {
		return err
	}
	c.file, c.linked = file, true
	return nil
}

// createSpare writes our notice in the place of what a dblock that was killed has left.
func (c *Claim) createSpare() (*notice.File, error) {
	file, err := notice.Create(c.spareFile(), c.info)
	if !errors.Is(err, fs.ErrExist) {
		return file, err
	}
	c.restore() // check: restore: c.restore() -> _ = c
	if err := c.spareFile().Remove(); err != nil {
		return nil, err
	}
	return notice.Create(c.spareFile(), c.info)
}

// restore looks at what has the spare name. A dblock that was killed in the middle
// of a takeover, just before it would have given the path back, has left the notice
// of somebody who lives there, and its own at the path.
func (c *Claim) restore() {
	if out, err := notice.ReadAt(c.movedFile()); err == nil && out.Info.Dblock == nil && !c.judge(out).Stale {
		_ = c.bringBack()
	} else if err == nil {
		_ = c.movedFile().Remove()
	}
	out, err := notice.ReadAt(c.spareFile())
	if errors.Is(err, fs.ErrNotExist) || err == nil && (out.Info.Dblock != nil || c.judge(out).Stale) {
		return
	}
	now, err := notice.Read(c.opts.Path)
	if err == nil && now.Info.Dblock != nil && c.judge(now).Stale {
		_ = inode.Swap(c.spareFile(), c.noticeFile())
	}
}

// publish returns when our notice was at the path, if only for an instant.
func (c *Claim) publish(ctx context.Context) error {
	for {
		if c.file == nil || !c.linked {
			if err := c.prepare(); err != nil {
				return err
			}
		}
		moved, err := inode.Link(c.spareFile(), c.noticeFile())
		c.linked = !moved
		if err == nil {
			c.passed(nil)
			if c.ledger.Crowded(c.now()) { // check: settle-in-a-crowd
				// Whoever left the path free, a peer that has tried before may find
				// nothing to read, and is about to unlink what is there by now.
				c.passing = true
			}
			return nil
		}
		if errors.Is(err, fs.ErrNotExist) {
			// The spare name has gone, and the state directory most likely with it.
			return queue.ErrAgain
		}
		if !errors.Is(err, fs.ErrExist) {
			return err
		}
		done, err := c.confront(ctx)
		if done || err != nil {
			return err
		}
	}
}

// judge says what a notice means to us.
func (c *Claim) judge(seen *notice.Sighting) judge.Verdict {
	if c.ledger.ClockMoved(c.opts.Me.Booted(c.now())) { // check: clock-moved-while-waiting
		c.clockMoved = true
	}
	f := judge.Facts{
		Me: c.opts.Me, Processes: judge.Here{}, Now: c.now(), ClockMoved: c.clockMoved, Unchanged: time.Since(c.since),
		Timeout: c.opts.StaleTimeout, ByAge: c.opts.ByAge, Named: c.opts.Named, InRoom: c.place.Locked(), Room: c.place.Inode(),
	}
	return f.Of(seen)
}
