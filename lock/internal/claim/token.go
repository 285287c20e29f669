package claim

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"

	"github.com/dblock-dev/dblock/lock/internal/ledger"
)

// SetToken is for a lock whose fencing numbers are drawn elsewhere.
func (c *Claim) SetToken(token int64) { c.token = token }

// drawToken takes the next fencing number, under the room and the last turnstile.
func (c *Claim) drawToken() error {
	var id [8]byte
	binary.BigEndian.PutUint64(id[:], rand.Uint64())
	c.id = hex.EncodeToString(id[:])
	return ledger.Amend(c.tokenFile(), func(led *ledger.Ledger) {
		now := c.now()
		led.Token = max(led.Token+1, now)
		if c.token != 0 {
			led.Token = c.token
		}
		if now-led.Release > GapFor.Milliseconds() || now < led.Release {
			led.Idle = now // nobody had it for a while: peers had their chance
		}
		booted, boot := c.opts.Me.Booted(now)
		c.clockMoved = led.ClockMoved(booted, boot) && c.inTheWay()
		if !c.clockMoved {
			led.Booted, led.Boot = booted, boot
		}
		c.ledger = *led
	})
}
