//go:build linux && !portable

// Package witness keeps the locks of a process that is killed while somebody else works under
// them.
package witness

import (
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A session or a keeper that is killed (out of memory, say) frees its locks in the middle of what
// its program, or its shell, does under them: that learns of it a moment later or never, and
// the next one is at work by then. So a second process has the same open files, and keeps the locks
// until the program has closed the session's input, which says that it knows, or has ended.
//
// It shares the table of open files, so that no lock costs anything more. That a program
// that was executed cannot do: the second process goes on in this one's memory, a copy of it, without
// the Go runtime, of which it has one thread alone. So what it runs makes system calls and nothing
// else, as package syscall does between fork and exec.

// Witness is that process; 0 if there is none.
type Witness int

// Attest starts it, for a program that works under the locks of this process, and says that it
// knows of this one's end by closing the other end of this one's input, if input is true. Without
// it locks end with this process.
func Attest(worker int, input bool) Witness {
	me, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return 0
	}
	program, err := unix.PidfdOpen(worker, 0)
	if err != nil {
		unix.Close(me)
		return 0
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// A handler would call into the runtime.
	var all, old unix.Sigset_t
	for i := range all.Val {
		all.Val[i] = ^all.Val[i]
	}
	if unix.PthreadSigmask(unix.SIG_SETMASK, &all, &old) != nil {
		return 0
	}
	defer unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil)
	in := int32(-1)
	if input {
		in = 0
	}
	pid := share(int32(me), int32(program), in)
	if pid == 0 {
		unix.Close(me)
		unix.Close(program)
	}
	return Witness(pid)
}

// Dismiss ends the witness: all locks have been released.
func (w Witness) Dismiss() {
	if w == 0 {
		return
	}
	_ = unix.Kill(int(w), unix.SIGKILL)
	for {
		if _, err := syscall.Wait4(int(w), nil, 0, nil); err != syscall.EINTR {
			return
		}
	}
}

// share makes a process that has this one's open files, and returns its pid, or 0.
//
//go:norace
func share(me, program, input int32) int {
	pid, _, errno := syscall.RawSyscall6(unix.SYS_CLONE, unix.CLONE_FILES|uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if errno != 0 {
		return 0
	}
	if pid == 0 {
		watch(me, program, input)
	}
	return int(pid)
}

// pollFD is struct pollfd.
type pollFD struct {
	fd      int32
	events  int16
	revents int16
}

// watch is what the witness does. SIGTERM ends it, so that force can: the lock is an orphan's then.
//
//go:norace
//go:nosplit
func watch(holder, program, input int32) {
	var byDefault [4]uint64
	syscall.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(unix.SIGTERM), uintptr(unsafe.Pointer(&byDefault)), 0, 8, 0, 0)
	mask := ^uint64(0) &^ (1 << (unix.SIGTERM - 1))
	syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&mask)), 0, 8, 0, 0)
	p := [2]pollFD{{fd: holder, events: unix.POLLIN}}
	for p[0].revents == 0 {
		syscall.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&p[0])), 1, 0, 0, 0, 0)
	}
	// The program is to see the end of a session's output.
	syscall.RawSyscall(unix.SYS_CLOSE, 1, 0, 0)
	syscall.RawSyscall(unix.SYS_CLOSE, 2, 0, 0)
	p[0], p[1] = pollFD{fd: input}, pollFD{fd: program, events: unix.POLLIN}
	for p[0].revents == 0 && p[1].revents == 0 {
		syscall.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&p[0])), 2, 0, 0, 0, 0)
	}
	for {
		syscall.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
}
