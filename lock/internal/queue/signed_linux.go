//go:build linux && !portable

package queue

import (
	"io"

	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/lock/internal/inode"
)

// inheritable is above the numbers that a room's descriptor gets.
const inheritable = 256

// Signed reports whether one of our descriptors is the open file that shows the
// sign of having the room. Everybody sees a sign but the open file that shows it.
// It is a proof where there is no /proc.
func Signed(state string, room inode.ID) bool {
	dir, err := inode.OpenDir(state)
	if err != nil {
		return false
	}
	defer dir.Close()
	f, err := Existing(dir.At(Room))
	if err != nil {
		return false
	}
	defer f.Close()
	for _, sign := range []Sign{Having, Reading} {
		if shown, _ := f.Shown(sign); !shown {
			continue
		}
		for fd := 3; fd < inheritable; fd++ {
			var st unix.Stat_t
			if unix.Fstat(fd, &st) != nil || st.Ino != room.Ino || uint64(st.Dev) != room.Dev {
				continue
			}
			lk := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart, Start: int64(sign), Len: 1}
			if unix.FcntlFlock(uintptr(fd), unix.F_OFD_GETLK, &lk) == nil && lk.Type == unix.F_UNLCK {
				return true
			}
		}
	}
	return false
}
