//go:build unix && (!linux || portable)

package run

import "syscall"

// deathSignal is not to be had here: a command whose dblock is killed goes on,
// and keeps other dblocks out by the descriptor that it inherited.
func (c *Command) deathSignal() *syscall.SysProcAttr { return nil }

// wait returns how the command ended, and tells of its stops meanwhile.
func (ch *child) wait(stopped chan<- syscall.Signal) syscall.WaitStatus {
	for {
		var status syscall.WaitStatus
		_, err := syscall.Wait4(ch.pid, &status, syscall.WUNTRACED, nil)
		if err == syscall.EINTR {
			continue
		}
		if err == nil && status.Stopped() {
			select {
			case stopped <- status.StopSignal():
			default:
			}
			continue
		}
		ch.mu.Lock()
		ch.reaped = true
		ch.mu.Unlock()
		return status
	}
}

// isStopped is unknown here; a continue signal too many does no harm.
func (ch *child) isStopped() bool { return true }

// childless is unknown here, and so is what the command has started: nobody but the
// system's first process becomes the parent of what others leave.
func childless() bool { return false }

// childInGroup is unknown here.
func childInGroup() bool { return false }

// childNews is never called.
func childNews() {}

// reap has nothing to do here.
func reap() int { return 0 }
