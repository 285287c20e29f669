//go:build linux && !portable

package proc

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/lock/internal/inode"
)

// Complete says that the parent of every process can be read, except of those that
// are hidden from us.
const Complete = true

// Stat reads the process's line of /proc.
func Stat(pid int) (Status, bool) {
	var line [1024]byte
	b, err := slurp("/proc/"+strconv.Itoa(pid)+"/stat", line[:])
	if err != nil {
		return Status{}, false
	}
	const forkedOnly = 0x40 // PF_FORKNOEXEC of linux/sched.h
	var st Status
	// The second field is the program's name in parentheses, which can contain
	// anything, parentheses and spaces included.
	_, rest, _ := bytes.Cut(b[bytes.LastIndexByte(b, ')')+1:], []byte(" "))
	for n := 3; len(rest) > 0; n++ {
		var field []byte
		field, rest, _ = bytes.Cut(rest, []byte(" "))
		switch n {
		case 3:
			if len(field) != 1 {
				return Status{}, false
			}
			st.State = field[0]
		case 4:
			st.Parent, _ = strconv.Atoi(string(field))
		case 9:
			flags, _ := strconv.ParseUint(string(field), 10, 32)
			st.Forked = flags&forkedOnly != 0
		case 20:
			st.Threads, _ = strconv.Atoi(string(field))
		case 22:
			st.Started, err = strconv.ParseUint(string(field), 10, 64)
			return st, err == nil
		}
	}
	return Status{}, false
}

// ended reports whether there is no such process, or it is a zombie.
func ended(pid int) bool {
	if err := unix.Kill(pid, 0); err == unix.ESRCH {
		return true
	}
	// The first thread may have ended, and others work on.
	st, ok := Stat(pid)
	return ok && (st.State == 'Z' || st.State == 'X') && st.Threads <= 1
}

// slurp reads a small file of /proc into b, in one call, without the runtime's poller
// that os.ReadFile brings along.
func slurp(path string, b []byte) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	n, err := unix.Read(fd, b)
	return b[:max(n, 0)], err
}

// table reads a table of /proc a page at a time, which is what the kernel shows
// as it is at one moment. Where two calls meet it may show a line twice, or not
// at all; os.ReadFile begins with calls of 512 bytes.
func table(path string) (all []byte, whole bool, err error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, false, err
	}
	defer unix.Close(fd)
	for whole = true; ; {
		all = slices.Grow(all, 1<<13) // the kernel gives no more than a page at a time
		n, err := unix.Read(fd, all[len(all):cap(all)])
		if err == unix.EINTR {
			continue
		}
		if n <= 0 {
			return all, whole, err
		}
		whole = len(all) == 0
		all = all[:len(all)+n]
	}
}

func bootID() string {
	b, err := slurp("/proc/sys/kernel/random/boot_id", make([]byte, 64))
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

// Locks is the kernel's table of locks as it was at one moment.
type Locks []lockLine

// lockLine is a line of it.
type lockLine struct {
	kind  string // FLOCK, POSIX, OFDLCK...
	inode string
	claim Claim
}

// readings is how often a table is read that does not fit into a page.
const readings = 4

// AllLocks reads the table. It shows only what was locked from this pid namespace. known
// is false if the system keeps no such table. It takes the kernel some 10 ms, in which
// nobody can lock any file: it is read once for all that is asked of it.
func AllLocks() (all Locks, known bool) {
	return readLocks(func() ([]byte, bool, error) { return table("/proc/locks") })
}

func readLocks(read func() (table []byte, whole bool, err error)) (all Locks, known bool) {
	b, whole, err := read()
	if err != nil {
		return nil, false
	}
	all = parseLocks(b)
	if whole {
		return all, true
	}
	// It comes a page at a time, and the kernel counts lines to find where the next one
	// begins: when a line before that has gone meanwhile, another one is left out. Where
	// so much is locked and unlocked it may be left out again, but hardly each time.
	for range readings - 1 {
		if b, _, err = read(); err == nil {
			all = all.with(parseLocks(b))
		}
	}
	return all, true
}

// with adds the lines of another reading that are not in this one.
func (l Locks) with(other Locks) Locks {
	seen := map[lockLine]int{}
	for _, line := range l {
		seen[line]++
	}
	for _, line := range other {
		if seen[line]--; seen[line] < 0 {
			l = append(l, line)
		}
	}
	return l
}

func parseLocks(table []byte) (all Locks) {
	for line := range strings.Lines(string(table)) {
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
		if len(f) < 5 {
			continue
		}
		pid, _ := strconv.Atoi(f[3])
		all = append(all, lockLine{f[0], f[4], Claim{PID: pid, Waiting: waiting, Shared: f[2] == "READ"}})
	}
	return all
}

// Claims lists who holds and who waits for the flock of a file, in the kernel's order.
func (l Locks) Claims(id inode.ID) (claims []Claim) {
	inode := ":" + strconv.FormatUint(id.Ino, 10)
	for _, line := range l {
		if line.kind == "FLOCK" && strings.HasSuffix(line.inode, inode) && same(line.inode, id) {
			claims = append(claims, line.claim)
		}
	}
	return claims
}

// Flock is a line of the table that is about a flock.
type Flock struct {
	File  string // the file as the table names it, the same in each of its lines
	Claim Claim
}

// Flocks lists all flocks, granted and waited for, in the kernel's order.
func (l Locks) Flocks() (all []Flock) {
	for _, line := range l {
		if line.kind == "FLOCK" {
			all = append(all, Flock{line.inode, line.claim})
		}
	}
	return all
}

// Is reports whether a file is the one that the table names.
func Is(file string, id inode.ID) bool { return same(file, id) }

// Granted lists who has a lock of any kind on one of the files of a device, or on a part of it.
func (l Locks) Granted(dev uint64, files func(inode uint64) bool) (claims []Claim) {
	for _, line := range l {
		f := strings.Split(line.inode, ":")
		if line.kind == "LEASE" || line.kind == "DELEG" || line.claim.Waiting || len(f) != 3 || !sameDevice(f[0], f[1], dev) {
			continue
		}
		if ino, err := strconv.ParseUint(f[2], 10, 64); err == nil && files(ino) {
			claims = append(claims, line.claim)
		}
	}
	return claims
}

// Claims lists who holds and who waits for the flock of a file; see Locks.
func Claims(id inode.ID) (claims []Claim, known bool) {
	all, known := AllLocks()
	return all.Claims(id), known
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
func Holding(id inode.ID) []Holder {
	var holders []Holder
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		if takers, _ := locks(dir, id); len(takers) > 0 {
			holders = append(holders, Holder{pid, takers})
		}
	}
	slices.SortFunc(holders, func(a, b Holder) int { return a.PID - b.PID })
	return holders
}

// Holds reports whether this process itself has a lock of the file by one of its
// descriptors.
func Holds(id inode.ID) bool {
	yes, _ := Has("self", id)
	return yes
}

// Has reports whether a process, by its name in /proc, has a lock of the file. known is
// false where we may not look.
func Has(process string, id inode.ID) (yes, known bool) {
	takers, err := locks("/proc/"+process, id)
	return len(takers) > 0, err == nil
}

// locks lists who took the locks of the file that a process has by its descriptors.
// It asks the kernel and not the file: to stat what a descriptor refers to is to ask
// its filesystem, and there may be one that does not answer any more (FUSE, NFS).
func locks(dir string, id inode.ID) (takers []int, err error) {
	err = eachInfo(dir, func(_ string, info []byte) bool {
		for line := range bytes.Lines(info) {
			// lock:	1: FLOCK  ADVISORY  WRITE 4711 fe:01:131 0 EOF
			f := strings.Fields(string(line))
			if len(f) >= 7 && f[0] == "lock:" && f[2] == "FLOCK" && same(f[6], id) {
				taker, _ := strconv.Atoi(f[5])
				takers = append(takers, max(taker, 0))
			}
		}
		return true
	})
	return takers, err
}

// Signs reports whether a process shows a sign on the file: a read lock, by the open
// file, of one byte.
func Signs(pid int, id inode.ID, at int) bool {
	shown := false
	eachSign(pid, func(file string, from, to int64) {
		shown = shown || from <= int64(at) && int64(at) <= to && same(file, id)
	})
	return shown
}

// SignsFrom is the highest sign, from that byte on, that a process shows on one of the
// files; 0 if it shows none, or may not be looked at.
func SignsFrom(pid int, least int64, ids ...inode.ID) (highest int64) {
	eachSign(pid, func(file string, from, to int64) {
		if from >= least && from == to && slices.ContainsFunc(ids, func(id inode.ID) bool { return same(file, id) }) {
			highest = max(highest, from)
		}
	})
	return highest
}

// eachSign calls f with the signs that a process shows, on whatever file.
func eachSign(pid int, f func(file string, from, to int64)) {
	_ = eachInfo("/proc/"+strconv.Itoa(pid), func(_ string, info []byte) bool {
		for line := range bytes.Lines(info) {
			// lock:	2: OFDLCK ADVISORY  READ -1 fe:01:131 3 3
			l := strings.Fields(string(line))
			if len(l) < 9 || l[0] != "lock:" || l[2] != "OFDLCK" {
				continue
			}
			from, err1 := strconv.ParseInt(l[7], 10, 64)
			to, err2 := strconv.ParseInt(l[8], 10, 64)
			if err2 != nil { // "EOF"
				to = math.MaxInt64
			}
			if err1 == nil {
				f(l[6], from, to)
			}
		}
		return true
	})
}

// same reports whether a line of the kernel's means the file.
func same(file string, id inode.ID) bool {
	f := strings.Split(file, ":")
	return len(f) == 3 && f[2] == strconv.FormatUint(id.Ino, 10) && sameDevice(f[0], f[1], id.Dev)
}

// Writes reports whether the process has the file, which is at one of the paths and
// has that id, open for reading and writing, as a holder has its notice.
func Writes(pid int, id inode.ID, paths ...string) bool {
	dir := "/proc/" + strconv.Itoa(pid)
	mount := mountOf(id, paths)
	found := false
	_ = eachInfo(dir, func(fd string, info []byte) bool {
		flags, err := strconv.ParseUint(field(info, "flags:"), 8, 32)
		if err != nil || flags&unix.O_ACCMODE != unix.O_RDWR {
			return true
		}
		if ino := field(info, "ino:"); ino != "" {
			found = mount != "" && field(info, "mnt_id:") == mount && ino == strconv.FormatUint(id.Ino, 10)
			return !found
		}
		// A kernel before 5.14. Only a file of the right name is asked: another may
		// be on a filesystem that does not answer.
		name, err := os.Readlink(dir + "/fd/" + fd)
		var st unix.Stat_t
		found = err == nil && slices.Contains(paths, strings.TrimSuffix(name, " (deleted)")) &&
			unix.Stat(dir+"/fd/"+fd, &st) == nil && st.Dev == id.Dev && st.Ino == id.Ino
		return !found
	})
	return found
}

// mountOf is the number of the mount that has the file, as far as it is at one of the paths.
func mountOf(id inode.ID, paths []string) string {
	for _, path := range paths {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			continue
		}
		var st unix.Stat_t
		info := []byte(nil)
		if unix.Fstat(fd, &st) == nil && st.Dev == id.Dev && st.Ino == id.Ino {
			info, _ = slurp("/proc/self/fdinfo/"+strconv.Itoa(fd), make([]byte, 4096))
		}
		unix.Close(fd)
		if info != nil {
			return field(info, "mnt_id:")
		}
	}
	return ""
}

// eachInfo calls f with the number and the description of each descriptor of a
// process, until f returns false.
func eachInfo(dir string, f func(fd string, info []byte) bool) error {
	d, err := os.Open(dir + "/fdinfo")
	if err != nil {
		return err
	}
	fds, err := d.Readdirnames(-1)
	d.Close()
	for _, fd := range fds {
		info, err := slurp(dir+"/fdinfo/"+fd, make([]byte, 4096))
		if err == nil && !f(fd, info) {
			return nil
		}
	}
	return err
}

// field is the value of a line "NAME value".
func field(info []byte, name string) string {
	for line := range bytes.Lines(info) {
		if rest, ok := bytes.CutPrefix(line, []byte(name)); ok {
			return string(bytes.TrimSpace(rest))
		}
	}
	return ""
}

// FirstChild is the child that a process has for longest; 0 if it has none, or the
// system does not tell.
func FirstChild(pid int) int {
	first, started := 0, uint64(0)
	tasks, _ := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/[0-9]*/children")
	for _, path := range tasks {
		b, _, _ := table(path)
		for _, word := range strings.Fields(string(b)) {
			child, _ := strconv.Atoi(word)
			st, ok := Stat(child)
			if ok && (first == 0 || st.Started < started || st.Started == started && child < first) {
				first, started = child, st.Started
			}
		}
	}
	return first
}

// Owner is the user whose process it is; -1 if that cannot be had.
func Owner(pid int) int {
	var st unix.Stat_t
	if unix.Stat("/proc/"+strconv.Itoa(pid), &st) != nil {
		return -1
	}
	return int(st.Uid)
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

// Ended reports whether the process has ended. By then it has no lock any more,
// unless somebody inherited it.
func (h *Handle) Ended() bool { return await([]*Handle{h}, 0) }

// Await waits until one of the processes has ended, or for d.
func Await(hs []*Handle, d time.Duration) { await(hs, d) }

func await(hs []*Handle, d time.Duration) (ended bool) {
	fds := make([]unix.PollFd, len(hs))
	for i, h := range hs {
		fds[i] = unix.PollFd{Fd: int32(h.fd), Events: unix.POLLIN}
	}
	n, _ := unix.Poll(fds, int(d.Milliseconds()))
	return n > 0
}

// Close frees the handle.
func (h *Handle) Close() { unix.Close(h.fd) }

// Dir is the working directory of a process; empty if it cannot be had, which is so for
// other users' processes.
func Dir(pid int) string {
	dir, _ := os.Readlink("/proc/" + strconv.Itoa(pid) + "/cwd")
	return dir
}

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
