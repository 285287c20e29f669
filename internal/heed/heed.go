// Package heed is for tests that send signals to what they have started.
package heed

import (
	"os"
	"os/signal"
	"syscall"
)

// Signals has the processes that this one starts get the signals that whoever started it
// may have had ignored: a shell does so with what it starts in the background.
func Signals() {
	for _, sig := range []os.Signal{syscall.SIGINT, syscall.SIGHUP} {
		if signal.Ignored(sig) {
			signal.Notify(make(chan os.Signal, 1), sig)
		}
	}
}
