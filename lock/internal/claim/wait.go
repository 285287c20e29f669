package claim

import (
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"time"

	"github.com/dblock-dev/dblock/lock/internal/inode"
	"github.com/dblock-dev/dblock/lock/internal/queue"
	"github.com/dblock-dev/dblock/lock/internal/watch"
)

// crowdedSettle is how long a peer may need from one step to the next.
const crowdedSettle = 20 * time.Millisecond

// settle makes sure, just before the command starts, that the notice at the path
// is ours. A peer that had found our predecessor's file empty, or gone, may be
// about to unlink the path: give it the time to do so now and not later.
func (c *Claim) settle(ctx context.Context) (bool, error) {
	seen := !c.unsettled.IsZero() && time.Since(c.unsettled) < 300*time.Millisecond
	if seen || c.passing { // check: settle
		ctx := ctx
		if !c.opts.Patience.None {
			ctx = c.opts.Patience.Limit(ctx)
		}
		pause := 25*time.Millisecond + rand.N(35*time.Millisecond)
		if !seen {
			pause = crowdedSettle
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return false, ctx.Err()
		}
		c.unsettled, c.passing = time.Time{}, false
	}
	c.opts.Step("published")
	id, err := inode.Identify(c.opts.Path)
	if err == nil && id == c.file.ID() {
		return true, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	c.unsettled = time.Now()
	return false, nil // check: verify-before-start: false -> true
}

// waitForeign waits until the notice that is in the way changes, or until it is
// worth judging again.
func (c *Claim) waitForeign(ctx context.Context, again time.Duration) error {
	if c.opts.Patience.None {
		return queue.ErrBusy
	}
	c.place.ShowDeadline(ctx)
	ctx = c.opts.Patience.Limit(ctx)
	pause := min(again, c.poll)
	c.poll = min(c.poll*3/2, time.Second)
	pause = pause*3/4 + rand.N(pause/2+1)
	if c.watchForeign() {
		// The watch tells of the file's end. What it cannot tell is its holder's.
		id, err := inode.Identify(c.opts.Path)
		if err != nil || id != c.seen.ID {
			return nil
		}
		deadline := time.Now().Add(pause)
		if end, ok := ctx.Deadline(); ok && end.Before(deadline) {
			deadline = end
		}
		stop := context.AfterFunc(ctx, c.watch.Close)
		what, err := c.watch.Wait(deadline)
		if what != 0 {
			// The kernel tells of an unlink a moment before the name is gone.
			c.poll = time.Millisecond
		}
		if !stop() {
			c.watch = nil // it is being closed
		} else if err != nil {
			c.StopWatching()
		}
		return ctx.Err()
	}
	select {
	case <-time.After(pause):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// watchForeign watches the file that is in the way, not the directory: a busy
// database beside it would wake us up all the time.
func (c *Claim) watchForeign() bool {
	if c.watch == nil {
		w, err := watch.New()
		if err != nil {
			return false
		}
		c.watch = w
	}
	return c.watch.Add(c.opts.Path, watch.Moved|watch.Written) == nil
}

// StopWatching closes the watch over what was in the way, if there was one. That waits
// for the kernel, and nobody needs to wait with it.
func (c *Claim) StopWatching() {
	if c.watch != nil {
		go c.watch.Close()
		c.watch = nil
	}
}
