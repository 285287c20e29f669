//go:build unix && !linux

package session

import (
	"time"

	"golang.org/x/sys/unix"
)

// program is the process that has started this one.
type program struct{ pid int } // 0: it is none that can be told

func findProgram() *program {
	if pid := unix.Getppid(); pid > 1 {
		return &program{pid}
	}
	return &program{}
}

// watch tells of the program's end.
func (p *program) watch() <-chan struct{} {
	gone := make(chan struct{})
	if !p.known() {
		return gone
	}
	go func() {
		defer close(gone)
		for unix.Getppid() == p.pid {
			time.Sleep(parentEvery)
		}
	}()
	return gone
}

// signal sends it a signal; one that is stopped goes on to hear it.
func (p *program) signal(sig unix.Signal) {
	for _, sig := range []unix.Signal{sig, unix.SIGCONT} {
		if unix.Getppid() == p.pid {
			_ = unix.Kill(p.pid, sig)
		}
	}
}
