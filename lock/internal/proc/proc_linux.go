package proc

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/lock/internal/notice"
)

// Complete says that the parent of every process can be read, except of those that
// are hidden from us.
const Complete = true

// Stat reads the process's line of /proc.
func Stat(pid int) (Status, bool) {
	b, err := slurp("/proc/"+strconv.Itoa(pid)+"/stat", 1024)
	if err != nil {
		return Status{}, false
	}
	// The second field is the program's name in parentheses, which can contain
	// anything, parentheses and spaces included.
	_, rest, ok := bytes.Cut(b[bytes.LastIndexByte(b, ')')+1:], []byte(" "))
	f := strings.Fields(string(rest))
	if !ok || len(f) < 20 {
		return Status{}, false
	}
	parent, _ := strconv.Atoi(f[1])
	started, err := strconv.ParseUint(f[19], 10, 64)
	return Status{State: f[0][0], Parent: parent, Started: started}, err == nil
}

// slurp reads a small file of /proc in one call, without the runtime's poller
// that os.ReadFile brings along.
func slurp(path string, size int) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	b := make([]byte, size)
	n, err := unix.Read(fd, b)
	return b[:max(n, 0)], err
}

// table reads a table of /proc a page at a time, which is what the kernel shows
// as it is at one moment. Where two calls meet it may show a line twice, or not
// at all; os.ReadFile begins with calls of 512 bytes.
func table(path string) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var all []byte
	for {
		all = slices.Grow(all, 1<<16)
		n, err := unix.Read(fd, all[len(all):cap(all)])
		if err == unix.EINTR {
			continue
		}
		if n <= 0 {
			return all, err
		}
		all = all[:len(all)+n]
	}
}

func bootID() string {
	b, err := slurp("/proc/sys/kernel/random/boot_id", 64)
	if err != nil {
		return ""
	}
	return string(bytes.TrimSpace(b))
}

func namespace(kind string) uint64 {
	var st unix.Stat_t
	if unix.Stat("/proc/self/ns/"+kind, &st) != nil {
		return 0
	}
	return st.Ino
}

func sinceBoot() (time.Duration, bool) {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) != nil {
		return 0, false
	}
	return time.Duration(t.Nano()), true
}

// Command is the process's argument list; nil if it cannot be had.
func Command(pid int) []string {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	if err != nil || len(b) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00")
}

// Claims lists who holds and who waits for the flock of a file, in the kernel's
// order. It shows only what was locked from this pid namespace. known is false
// if the system keeps no such table.
func Claims(id notice.ID) (claims []Claim, known bool) {
	b, err := table("/proc/locks")
	if err != nil {
		return nil, false
	}
	want := strconv.FormatUint(id.Ino, 10)
	for line := range strings.Lines(string(b)) {
		// 1: FLOCK  ADVISORY  WRITE 4711 fe:01:131 0 EOF
		// 1: -> FLOCK  ADVISORY  WRITE 4712 fe:01:131 0 EOF
		f := strings.Fields(line)
		if len(f) < 6 {
			continue
		}
		f = f[1:]
		waiting := f[0] == "->"
		if waiting {
			f = f[1:]
		}
		if len(f) < 5 || f[0] != "FLOCK" {
			continue
		}
		inode := strings.Split(f[4], ":")
		if len(inode) != 3 || inode[2] != want || !sameDevice(inode[0], inode[1], id.Dev) {
			continue
		}
		pid, _ := strconv.Atoi(f[3])
		claims = append(claims, Claim{PID: pid, Waiting: waiting, Shared: f[2] == "READ"})
	}
	return claims, true
}

// sameDevice compares the table's device with that of stat. Filesystems with
// anonymous devices (btrfs subvolumes, overlays) show another minor number in
// the table than in stat; both are of major number 0 then, and the inode decides.
func sameDevice(major, minor string, dev uint64) bool {
	a, err1 := strconv.ParseUint(major, 16, 32)
	b, err2 := strconv.ParseUint(minor, 16, 32)
	if err1 != nil || err2 != nil {
		return false
	}
	if a == 0 && unix.Major(dev) == 0 {
		return true
	}
	return a == uint64(unix.Major(dev)) && b == uint64(unix.Minor(dev))
}

// Holding lists the processes that have a lock of the file, because they took it
// or because they inherited the descriptor that it was taken on, as far as we
// may look.
func Holding(id notice.ID) []int {
	var pids []int
	dirs, _ := filepath.Glob("/proc/[0-9]*/fd")
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(dir)))
		if err != nil {
			continue
		}
		if holds(dir, id) {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids
}

// Holds reports whether this process itself has a lock of the file by one of its
// descriptors.
func Holds(id notice.ID) bool { return holds("/proc/self/fd", id) }

func holds(dir string, id notice.ID) bool {
	fds, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	for _, fd := range fds {
		var st unix.Stat_t
		if unix.Stat(dir+"/"+fd.Name(), &st) != nil || st.Ino != id.Ino || st.Dev != id.Dev {
			continue
		}
		info, err := os.ReadFile(dir + "info/" + fd.Name())
		if err == nil && bytes.Contains(info, []byte("FLOCK")) {
			return true
		}
	}
	return false
}

// Handle refers to one process and no later one that gets its number.
type Handle struct {
	PID int
	fd  int
}

// Hold gets a handle on a process.
func Hold(pid int) (*Handle, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, os.NewSyscallError("pidfd_open", err)
	}
	return &Handle{pid, fd}, nil
}

// Signal sends a signal to the process.
func (h *Handle) Signal(sig unix.Signal) error {
	return os.NewSyscallError("kill", unix.PidfdSendSignal(h.fd, sig, nil, 0))
}

// Close frees the handle.
func (h *Handle) Close() { unix.Close(h.fd) }

// Environ is the environment that the process was started with; empty if it
// cannot be had, which is so for other users' processes.
func Environ(pid int) map[string]string {
	env := map[string]string{}
	b, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	for kv := range strings.SplitSeq(string(b), "\x00") {
		if k, v, ok := strings.Cut(kv, "="); ok {
			env[k] = v
		}
	}
	return env
}
