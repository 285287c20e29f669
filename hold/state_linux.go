//go:build linux && !portable

package hold

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// stateName is the name of the file in memory that is a keeper's state.
const stateName = "dblock-hold"

// state is where a keeper leaves word of what became of its hold: a file in memory, which who
// releases it opens before and reads when the keeper has ended. So there is nothing on
// disk, and no moment in which the last word could be missed.
type state struct {
	path string
	fd   int
}

// newState is a state in which the lock is held; nil where there are no files in memory.
func newState(path string) *state {
	fd, err := unix.MemfdCreate(stateName, unix.MFD_CLOEXEC)
	if err != nil {
		return nil
	}
	s := &state{path, fd}
	s.set(isHeld, "")
	return s
}

func (s *state) set(word, text string) {
	if s != nil {
		all := note{s.path, word, text}.String()
		_, _ = unix.Pwrite(s.fd, []byte(all), 0)
		_ = unix.Ftruncate(s.fd, int64(len(all)))
	}
}

// stateOf opens the state of a keeper; nil if it is not to be seen.
func stateOf(pid int) *os.File {
	dir := "/proc/" + strconv.Itoa(pid) + "/fd"
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		link := dir + "/" + e.Name()
		if name, err := os.Readlink(link); err == nil && name == "/memfd:"+stateName+" (deleted)" {
			if f, err := os.Open(link); err == nil {
				return f
			}
		}
	}
	return nil
}
