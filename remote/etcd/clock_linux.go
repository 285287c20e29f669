package etcd

import (
	"time"

	"golang.org/x/sys/unix"
)

// now is the time since the machine was started, and goes on while it sleeps: a lease does, too.
func now() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		panic(err) // every Linux that Go runs on has it
	}
	return time.Duration(t.Nano())
}
