//go:build unix && (!linux || portable)

package queue

import (
	"syscall"
	"time"
)

// blockSignals does nothing: masks of single threads are not to be had from
// Go here, and a signal may cost a waiter its place in the queue.
func blockSignals(syscall.Signal) func() { return func() {} }

func threadID() int { return 0 }

// wake does nothing: no single thread can be signalled here.
func wake(int, syscall.Signal) {}

func nap(d time.Duration) { time.Sleep(d) }
