package portable

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Waiting is how many wait for the flock of a file in a state directory, as the kernel shows it,
// whatever this half of the program can see. known is false where the kernel does not tell.
func Waiting(state string) (n int, known bool) {
	files, _ := filepath.Glob(filepath.Join(state, "*"))
	for _, file := range files {
		var st syscall.Stat_t
		if syscall.Lstat(file, &st) != nil {
			continue
		}
		_, waiting, known := Flocks(st.Ino)
		if !known {
			return 0, false
		}
		n += waiting
	}
	return n, true
}

// Flocks is how many have the flock of a file with this number, and how many wait for it, as the
// kernel shows it. known is false where the kernel does not tell.
func Flocks(ino uint64) (having, waiting int, known bool) {
	table, err := os.ReadFile("/proc/locks")
	if err != nil {
		return 0, 0, false
	}
	inode := fmt.Sprintf(":%d", ino)
	for line := range strings.Lines(string(table)) {
		// 1: FLOCK  ADVISORY  WRITE 4711 fe:01:131 0 EOF
		// 1: -> FLOCK  ADVISORY  WRITE 4712 fe:01:131 0 EOF
		f := strings.Fields(line)
		waits := len(f) > 1 && f[1] == "->"
		if waits {
			f = f[1:]
		}
		switch {
		case len(f) < 6 || f[1] != "FLOCK" || !strings.HasSuffix(f[5], inode):
		case waits:
			waiting++
		default:
			having++
		}
	}
	return having, waiting, true
}
