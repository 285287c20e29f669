package etcd

import (
	"context"
	"testing"
	"time"

	"github.com/dblock-dev/dblock/lock"
)

// Engine is asked directly where several machines are in one process.
var Engine = engine{}

// Until is how long the lease of a hold lasts for certain, on a clock of its own: it grows with each renewal.
func Until(h lock.EngineHold) time.Duration {
	m := h.(*member)
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.until
}

// Unwanted sets how long it may be one's turn in the queue and not on its machine, for the time of a test.
func Unwanted(t testing.TB, d time.Duration) {
	was := unwanted
	unwanted = d
	t.Cleanup(func() { unwanted = was })
}

// EnterBehind puts a key into the queue behind one that was the first when it was looked at, and takes it back.
func EnterBehind(ctx context.Context, ask lock.EngineRequest, key string, create int64) (entered bool, err error) {
	c, err := open(ctx, ask.URL)
	if err != nil {
		return false, err
	}
	defer c.close()
	m, err := c.join(ctx, ask.TTL, ask.Grace)
	if err != nil {
		return false, err
	}
	defer func() { _ = m.withdraw() }()
	return m.enterBehind(ctx, entry{key: key, create: create}, nil, describe(ask))
}
