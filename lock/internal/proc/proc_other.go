//go:build unix && (!linux || portable)

package proc

import (
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/internal/end"
	"github.com/dblock-dev/dblock/lock/internal/inode"
)

// Without /proc only the life and the end of a process are known here: not its start,
// its parent, its descriptors or the kernel's queue. So a reused pid keeps a
// dead peer's notice until it is stale by age, and status cannot list who waits.

// Complete says that only our own parent is known here.
const Complete = false

// Stat knows nothing here.
func Stat(int) (Status, bool) { return Status{}, false }

// Command knows nothing here.
func Command(int) []string { return nil }

// Locks is empty here.
type Locks struct{}

// AllLocks knows nothing here.
func AllLocks() (Locks, bool) { return Locks{}, false }

// Claims knows nothing here.
func (Locks) Claims(inode.ID) []Claim { return nil }

// Flock is never seen here.
type Flock struct {
	File  string
	Claim Claim
}

// Flocks knows nothing here.
func (Locks) Flocks() []Flock { return nil }

// Is knows nothing here.
func Is(string, inode.ID) bool { return false }

// Claims knows nothing here.
func Claims(inode.ID) ([]Claim, bool) { return nil, false }

// Mounts knows nothing here.
func Mounts() map[string]Mount { return nil }

// Holding knows nothing here.
func Holding(inode.ID) []Holder { return nil }

// Has knows nothing here.
func Has(string, inode.ID) (bool, bool) { return false, false }

// Writes takes a notice's word for its holder here, but not for root, who could
// end anybody's process by that.
func Writes(pid int, _ inode.ID, _ ...string) bool { return os.Geteuid() != 0 && Look(pid) == Alive }

// Signs knows nothing here.
func Signs(int, inode.ID, int) bool { return false }

// SignsFrom knows nothing here.
func SignsFrom(int, int64, ...inode.ID) int64 { return 0 }

// Opening knows nothing here.
func Opening(string, bool) ([]Opened, bool) { return nil, false }

// Dir knows nothing here.
func Dir(int) string { return "" }

// FirstChild knows nothing here.
func FirstChild(int) int { return 0 }

// Owner knows nothing here.
func Owner(int) int { return -1 }

// inheritable is above the numbers that a room's descriptor gets.
const inheritable = 256

// Holds reports whether this process has the file among its descriptors, locked or not.
func Holds(id inode.ID) bool {
	for fd := 3; fd < inheritable; fd++ {
		var st unix.Stat_t
		if unix.Fstat(fd, &st) == nil && inode.IDOf(&st) == id {
			return true
		}
	}
	return false
}

// ended reports whether there is no such process, or it is a zombie.
func ended(pid int) bool { return end.Gone(pid) }

// Handle refers to a process, by its number until it has ended.
type Handle struct {
	PID int
	fd  int // tells of its end; -1 if that cannot be had
}

// Hold gets a handle on a process.
func Hold(pid int) (*Handle, error) {
	fd, err := end.Of(pid)
	if err == unix.ESRCH {
		return nil, os.NewSyscallError("kevent", err)
	}
	return &Handle{pid, fd}, nil
}

// Signal sends a signal to the process.
func (h *Handle) Signal(sig unix.Signal) error {
	if h.Ended() {
		return os.NewSyscallError("kill", unix.ESRCH)
	}
	return os.NewSyscallError("kill", unix.Kill(h.PID, sig))
}

// Ended reports whether the process has ended.
func (h *Handle) Ended() bool {
	if h.fd >= 0 {
		return end.Come(h.fd)
	}
	return Look(h.PID) != Alive
}

// Await waits until one of the processes has ended, or for d.
func Await(hs []*Handle, d time.Duration) {
	const lookEvery = 5 * time.Millisecond // at those that nothing tells of
	fds := make([]unix.PollFd, len(hs))
	for i, h := range hs {
		fds[i] = unix.PollFd{Fd: int32(h.fd), Events: unix.POLLIN}
	}
	for late := time.Now().Add(d); d >= 0; d = time.Until(late) {
		if slices.ContainsFunc(hs, (*Handle).Ended) {
			return
		}
		pause := d
		if slices.ContainsFunc(hs, func(h *Handle) bool { return h.fd < 0 }) {
			pause = min(d, lookEvery)
		}
		_, _ = unix.Poll(fds, int(pause.Milliseconds())+1)
	}
}

// Close frees the handle.
func (h *Handle) Close() {
	if h.fd >= 0 {
		unix.Close(h.fd)
	}
}

func bootID() string { return "" }

func namespace(string) uint64 { return 0 }

func sinceBoot() (time.Duration, bool) { return 0, false }

// Environ knows nothing here.
func Environ(int) map[string]string { return nil }
