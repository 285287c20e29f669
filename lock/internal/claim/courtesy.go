package claim

import (
	"time"

	"github.com/dblock-dev/dblock/lock/internal/ledger"
	"github.com/dblock-dev/dblock/lock/internal/notice"
)

// Courtesy towards peers that poll every 100 ms: dblocks hand the lock over in
// microseconds, and such a peer would never find the path free.
const (
	GapFor   = 120 * time.Millisecond // how long the path is left free for them
	gapEvery = 500 * time.Millisecond // how often, while they have been met lately
	gapSoon  = 250 * time.Millisecond // how often, while one is polling right now

	pollsWithin = 3 * time.Second // two reads of the notice within this time are a poll
)

// Polls reports whether somebody who was seen to read our notice that often polls for
// the lock. A single read is a person or a script that wants to know who has it; a peer
// that polls reads again and again.
func Polls(reads int) bool { return reads > 1 }

// countPoll finds out whether a peer polls: one that reads the notice in every hold,
// or more than once in this one.
func (c *Claim) countPoll(reads int) (counted int, polled bool) {
	if !Polls(reads) && c.file.WasRead() {
		reads++
	}
	again := notice.Since(c.now(), c.ledger.Read).Abs() < pollsWithin
	return reads, Polls(reads) || reads == 1 && again // check: courtesy: Polls(reads) -> false && again
}

// owesGap reports whether the path is to be left free for a while, for peers that poll
// for it, before the next dblock in the queue has it in a few microseconds.
func (c *Claim) owesGap(polled bool) bool {
	now, led, every := c.now(), c.ledger, gapEvery
	if c.met {
		led.Peer = now
	}
	if polled {
		// It began to poll after the lock was taken: that the path was free
		// before that has done nothing for it.
		led.Idle, every = 0, gapSoon
	}
	return c.place.Locked() && led.OwesGap(now, every)
}

// account tells the next hold of the peers, as long as there are any.
func (c *Claim) account(reads int, gap bool) {
	now := c.now()
	if !c.place.Locked() || reads == 0 && !c.met && !c.ledger.PeersLately(now) {
		return
	}
	_ = ledger.Amend(c.tokenFile(), func(led *ledger.Ledger) {
		led.Peer = max(led.Peer, c.ledger.Peer)
		if c.met {
			led.Peer = now
		}
		led.Who, led.Several = c.ledger.Who, max(led.Several, c.ledger.Several)
		if reads > 0 {
			led.Read = now
		}
		led.Gap, led.Release = max(led.Gap, c.ledger.Gap), now
		if gap {
			led.Gap = led.Release
		}
	})
}
