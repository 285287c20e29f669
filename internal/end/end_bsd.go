//go:build unix && !linux

package end

import "golang.org/x/sys/unix"

// Of opens a descriptor that can be read from when the process has ended. The error ESRCH says that
// there is none; with any other one it cannot be told that way.
func Of(pid int) (fd int, err error) {
	queue, err := unix.Kqueue()
	if err != nil {
		return -1, err
	}
	unix.CloseOnExec(queue)
	var exit unix.Kevent_t
	unix.SetKevent(&exit, pid, unix.EVFILT_PROC, unix.EV_ADD)
	exit.Fflags = unix.NOTE_EXIT
	if _, err := unix.Kevent(queue, []unix.Kevent_t{exit}, nil, nil); err != nil {
		unix.Close(queue)
		return -1, err
	}
	return queue, nil
}
