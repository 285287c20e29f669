//go:build !linux

package etcd

import "time"

var begin = time.Now()

// now is the time since some moment, which goes on while the machine sleeps. The monotonic clock may stop
// then, and the wall clock may be set back: the one that has gone on further is right, or
// too fast, which ends a hold too early at worst.
func now() time.Duration {
	return max(time.Since(begin), time.Now().Round(0).Sub(begin.Round(0)))
}
