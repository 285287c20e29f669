//go:build unix && !linux

package proc

import (
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/lock/internal/inode"
)

// Without /proc only the existence of a process is known here: not its start,
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

// Holds knows nothing here.
func Holds(inode.ID) bool { return false }

// Handle refers to a process by its number.
type Handle struct{ PID int }

// Hold gets a handle on a process.
func Hold(pid int) (*Handle, error) { return &Handle{pid}, nil }

// Signal sends a signal to the process.
func (h *Handle) Signal(sig unix.Signal) error {
	return os.NewSyscallError("kill", unix.Kill(h.PID, sig))
}

// Ended reports whether the process has ended.
func (h *Handle) Ended() bool { return Look(h.PID) != Alive }

// Await waits until one of the processes has ended, or for d.
func Await(hs []*Handle, d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		for _, h := range hs {
			if h.Ended() {
				return
			}
		}
	}
}

// Close does nothing here.
func (*Handle) Close() {}

func bootID() string { return "" }

func namespace(string) uint64 { return 0 }

func sinceBoot() (time.Duration, bool) { return 0, false }

// Environ knows nothing here.
func Environ(int) map[string]string { return nil }
