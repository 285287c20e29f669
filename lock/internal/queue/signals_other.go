//go:build unix && !linux

package queue

// blockSignals does nothing: masks of single threads are not to be had from
// Go here, and a signal may cost a waiter its place in the queue.
func blockSignals() func() { return func() {} }
