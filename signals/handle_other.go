//go:build !(linux && !portable && (amd64 || arm64))

package signals

import (
	"errors"
	"syscall"
	"time"
)

// wire does not exist here: os/signal listens.
type wire struct{}

func handle(_, _ Set) (*wire, error) { return nil, errors.ErrUnsupported }

func (*wire) take(<-chan Received) []Received { return nil }

func (*wire) flows() bool { return false }

func (*wire) deliver(chan<- Received) {}

func (*wire) next() (Received, bool) { return Received{}, false }

func (*wire) rest(time.Duration) {}

// Interrupt is not to be had here.
const Interrupt = syscall.Signal(0)

// Interrupts reports whether Interrupt works.
func (l *Listener) Interrupts() bool { return false }
