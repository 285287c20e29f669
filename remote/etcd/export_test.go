package etcd

import (
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
