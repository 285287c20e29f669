//go:build linux && !portable && (amd64 || arm64)

package signals

import (
	"encoding/binary"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A handler of our own. os/signal hands each signal that is listened to over
// between threads, twice, which takes it longer than everything else that dblock
// does together (a hundred context switches); and it does not tell whether the
// terminal or a process sent a signal.

// handler writes the siginfo that it gets to wireFD. It is called by the kernel, on
// the thread's signal stack, and touches nothing of the Go runtime's.
//
// Between fork and exec it can be called in the child, which shares our memory and our
// pipe: the runtime takes back only the handlers that it has installed itself, not ours
// of SIGTSTP, SIGTTIN, SIGTTOU and SIGCONT. What is sent to the child is not ours to
// tell, and must not be lost on the command: there it does what no handler would.
//
//lint:ignore U1000 entries knows it
func handler()

// faultHandler is the handler of signals that tell of a crash. If the kernel says that
// it was us who crashed, this is for the runtime's handler.
//
//lint:ignore U1000 entries knows it
func faultHandler()

// entries returns the addresses of the handlers and of what they return to, 0 for
// the kernel's own.
func entries() (handler, faultHandler, restorer uintptr)

// What the handlers read, who have no other place to find it: the write end of the
// pipe, this process, the runtime's handler, and the action that is none.
var (
	//lint:ignore U1000 see above
	wireFD int32
	//lint:ignore U1000 see above
	self int32
	//lint:ignore U1000 see above
	runtimeHandler uint64
	//lint:ignore U1000 see above
	byDefault action
)

const (
	saSiginfo  = 0x4
	saOnstack  = 0x08000000
	saRestart  = 0x10000000
	saRestorer = 0x04000000

	siKernel = 0x80 // si_code: the terminal's, among signals that can be typed
	infoSize = 32   // of siginfo: si_signo, si_errno, si_code, si_pid, si_uid...
)

// Interrupt is a signal that ends the system call of the thread that it is sent to; where a
// Listener has a handler of its own. From other processes it is passed on like any other.
const Interrupt = syscall.Signal(64)

// Interrupts reports whether Interrupt works: not where it was ignored.
func (l *Listener) Interrupts() bool { return l.direct != nil && l.direct.sigs.Has(Interrupt) }

// wire is what the handler writes to, seen from its other end.
type wire struct {
	fd        int // of the read end
	sigs      Set
	delivered bool       // a thread of its own reads it
	reading   sync.Mutex // held by that thread from a record's reading to its delivery
}

// handle makes the handler that of the signals and of SIGCHLD, and the other that of
// the faults.
func handle(sigs, faults Set) (*wire, error) {
	var ends [2]int
	// A handler must not block; 2,048 signals fit into the pipe.
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, err
	}
	wireFD, self = int32(ends[1]), int32(unix.Getpid())
	h, fault, restorer := entries()
	act := action{uint64(h), saSiginfo | saOnstack | saRestart, uint64(restorer), ^uint64(0)}
	if restorer != 0 {
		act[1] |= saRestorer
	}
	for sig := range sigs.all {
		setAction(sig, &act, nil)
	}
	setAction(unix.SIGCHLD, &act, nil)
	if sigs.Has(Interrupt) {
		interrupt := act
		interrupt[1] &^= saRestart
		setAction(Interrupt, &interrupt, nil)
	}
	var old action
	setAction(unix.SIGSEGV, nil, &old) // the same for all
	runtimeHandler, act[0] = old[0], uint64(fault)
	for sig := range faults.all {
		setAction(sig, &act, nil)
	}
	return &wire{fd: ends[0], sigs: sigs | faults}, nil
}

// flows reports whether a thread of its own reads the wire.
func (w *wire) flows() bool { return w != nil && w.delivered }

// deliver reads the wire on a thread that takes the signals even if they were
// blocked when the process was started, as they remain for the command.
func (w *wire) deliver(c chan<- Received) {
	w.delivered = true
	// News of children end a poll, but nobody rests any more: whoever waits for a child
	// has a thread for it, which is not to wait for this one's turn.
	setAction(unix.SIGCHLD, &byDefault, nil)
	go func() {
		runtime.LockOSThread()
		unblock(slices.Collect(w.sigs.all)...)
		for {
			w.reading.Lock()
			for r, ok := w.next(); ok; r, ok = w.next() {
				c <- r
			}
			w.reading.Unlock()
			_ = w.poll(-1)
		}
	}()
}

// take returns what its thread has delivered, and what it has not read yet, in order.
// To ask the thread for it would take two switches of threads, when a command is to start.
func (w *wire) take(c <-chan Received) (all []Received) {
	for taken := false; !taken; {
		if taken = w.reading.TryLock(); !taken {
			runtime.Gosched()
		}
		for more := true; more; {
			select {
			case r := <-c:
				all = append(all, r)
			default:
				more = false
			}
		}
	}
	defer w.reading.Unlock()
	for r, ok := w.next(); ok; r, ok = w.next() {
		all = append(all, r)
	}
	return all
}

// rest waits for something to be written.
func (w *wire) rest(d time.Duration) {
	if w == nil || w.delivered || blocked(unix.SIGCHLD) {
		return
	}
	for end := time.Now().Add(d); d > 0 && w.poll(int(d.Milliseconds())) == unix.EINTR; d = time.Until(end) {
		// The handler itself ends the call; what it wrote ends the next one.
	}
}

func (w *wire) poll(ms int) error {
	_, err := unix.Poll([]unix.PollFd{{Fd: int32(w.fd), Events: unix.POLLIN}}, ms)
	return err
}

// next reads a record, news of children excepted.
func (w *wire) next() (r Received, ok bool) {
	var info [infoSize]byte
	for {
		// A write of this size is never torn.
		n, err := unix.Read(w.fd, info[:])
		if err == unix.EINTR {
			continue
		}
		if err != nil || n < infoSize {
			return Received{}, false
		}
		sig := syscall.Signal(binary.NativeEndian.Uint32(info[0:]))
		code := int32(binary.NativeEndian.Uint32(info[8:]))
		pid := int32(binary.NativeEndian.Uint32(info[16:]))
		if sig != unix.SIGCHLD && (sig != Interrupt || pid != self) {
			r = Received{Signal: sig, typed: code == siKernel && canBeTyped(sig)}
			if code <= 0 { // a process has sent it
				r.pid, r.uid = int(pid), int(binary.NativeEndian.Uint32(info[20:]))
			}
			return r, true
		}
	}
}
