//go:build linux && !portable

package signals

import (
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// action is the kernel's struct sigaction, all zero for the default one.
type action [4]uint64

// sigIgn is the handler of a signal that is ignored.
const sigIgn = 1

func setAction(sig syscall.Signal, set, old *action) {
	_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(set)), uintptr(unsafe.Pointer(old)), 8, 0, 0)
}

// unblock takes the signals out of the calling thread's mask.
func unblock(sigs ...syscall.Signal) {
	var set unix.Sigset_t
	for _, sig := range sigs {
		set.Val[0] |= 1 << (sig - 1)
	}
	_ = unix.PthreadSigmask(unix.SIG_UNBLOCK, &set, nil)
}

// block adds the signal to the calling thread's mask.
func block(sig syscall.Signal) {
	var set unix.Sigset_t
	set.Val[0] = 1 << (sig - 1)
	_ = unix.PthreadSigmask(unix.SIG_BLOCK, &set, nil)
}

// blocked reports whether the calling thread has the signal blocked.
func blocked(sig syscall.Signal) bool {
	var set unix.Sigset_t
	return unix.PthreadSigmask(unix.SIG_BLOCK, nil, &set) == nil && set.Val[0]>>(sig-1)&1 != 0
}

// Die ends this process by the signal, without a core dump of its own, so that
// whoever waits for it sees what became of the command. It goes around
// os/signal, whose default for SIGQUIT and others is a stack trace. It returns
// only if the signal did not end the process.
func Die(sig syscall.Signal) {
	runtime.LockOSThread()
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	setAction(sig, &action{}, nil)
	unblock(sig)
	_ = unix.Tgkill(unix.Getpid(), unix.Gettid(), sig)
}

// Stop stops this process by the signal, as if it did not care about it, and
// returns when it is continued. It does not stop if continued, which is asked in the middle of
// it, says that SIGCONT has come already: a later one finds the signal pending and takes
// it away. So nobody stays stopped who was continued too early. In a process group that nobody
// could continue the kernel does not stop it.
func Stop(sig syscall.Signal, continued func() bool) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	block(sig)
	// A signal that stops takes away a SIGCONT that no thread has met yet: then it is sent
	// again. Nothing comes between the look and the stop.
	var status [4096]byte
	fd, err := unix.Open("/proc/self/status", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	me, thread := unix.Getpid(), unix.Gettid()
	n, _ := unix.Read(fd, status[:])
	_ = unix.Tgkill(me, thread, sig)
	if err == nil {
		unix.Close(fd)
	}
	if pending(status[:max(n, 0)], unix.SIGCONT) {
		_ = unix.Kill(unix.Getpid(), unix.SIGCONT)
	}
	// Only now that it is pending. The terminal may have sent the same to the whole process group, and it
	// stops us here already: whoever continues us then takes ours away, and we do not stop twice.
	var ours action
	setAction(sig, &action{}, &ours)
	// And one that a thread is just about to tell of is not on the wire yet.
	if continued() || later() && continued() {
		setAction(sig, &action{sigIgn}, nil)
	}
	unblock(sig)
	setAction(sig, &ours, nil)
}

// later is when a handler that had begun has ended.
func later() bool {
	_, _ = unix.Poll(nil, 5)
	return true
}

// pending reports whether a signal had been sent to this process and not been delivered, by
// its status in /proc.
func pending(status []byte, sig syscall.Signal) bool {
	_, rest, _ := strings.Cut(string(status), "\nShdPnd:\t")
	digits, _, _ := strings.Cut(rest, "\n")
	set, err := strconv.ParseUint(digits, 16, 64)
	return err == nil && Set(set).Has(sig)
}
