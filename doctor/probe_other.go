//go:build !linux || portable

package doctor

import "golang.org/x/sys/unix"

func ofdLock(int) error { return unix.ENOSYS }

// Where there are no such locks, exchanges and events, dblock does without.
func (p *probing) signs() []Finding    { return nil }
func (p *probing) exchange() []Finding { return nil }
func (p *probing) events() []Finding   { return nil }
