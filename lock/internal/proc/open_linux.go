//go:build linux && !portable

package proc

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/lock/internal/inode"
)

// companions are what a database engine appends to the name of a database for files that
// belong to it: SQLite's, DuckDB's.
var companions = []string{"-wal", "-shm", "-journal", ".wal"}

// maxEntries bounds how many files of a database directory are known by their inodes.
const maxEntries = 1000

// files are the files of a database, and by what they are known in other processes.
type files struct {
	inodes map[string]uint64 // by base name
	linked uint64            // the database's own, if it has several names; else 0
	dir    string            // the database, if it is a directory
	path   string
	dev    uint64 // as stat has it
	mount  string // the number of its mount
	device string // of that mount, as the table of mounts has it
}

// Opening lists the processes that have a database open, a file or a directory at that real
// path, this process excepted; if mapped is set also those that have only mapped it, which takes
// the kernel twice as long to tell. complete is false where not all processes may be looked at.
//
// It asks the kernel and not the files: the name behind a descriptor, its inode and its
// mount are known without asking the filesystem, which may not answer any more. The database
// is not opened for that either.
func Opening(path string, mapped bool) (found []Opened, complete bool) {
	fs, ok := filesOf(path)
	if !ok {
		return nil, true
	}
	locks, complete := AllLocks()
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil || pid == os.Getpid() {
			continue
		}
		o, err := fs.openedBy(pid, dir, mapped)
		if os.IsPermission(err) {
			complete = false
		}
		if o.PID != 0 {
			found = append(found, o)
		}
	}
	for _, claim := range locks.Granted(fs.dev, fs.has) {
		// Of others' processes only their locks can be seen.
		known := func(o Opened) bool { return o.PID == claim.PID }
		if at := slices.IndexFunc(found, known); at >= 0 {
			found[at].Locked = true
		} else if claim.PID > 0 && claim.PID != os.Getpid() && Look(claim.PID) == Alive {
			found = append(found, Opened{PID: claim.PID, Writing: !claim.Shared, Locked: true})
		}
	}
	slices.SortFunc(found, func(a, b Opened) int { return a.PID - b.PID })
	return found, complete
}

// filesOf finds out what there is of the database.
func filesOf(path string) (*files, bool) {
	var st unix.Stat_t
	if unix.Lstat(path, &st) != nil {
		return nil, false
	}
	fs := &files{inodes: map[string]uint64{}, path: path, dev: inode.IDOf(&st).Dev, mount: mountAt(path)}
	fs.device = deviceOf("self", fs.mount)
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		fs.dir = path
		entries, _ := os.ReadDir(path)
		for _, e := range entries[:min(len(entries), maxEntries)] {
			if e.Type().IsRegular() {
				fs.add(filepath.Join(path, e.Name()))
			}
		}
		return fs, true
	}
	if st.Nlink > 1 {
		fs.linked = st.Ino
	}
	fs.add(path)
	for _, suffix := range companions {
		fs.add(path + suffix)
	}
	return fs, true
}

func (fs *files) add(path string) {
	var st unix.Stat_t
	if unix.Lstat(path, &st) == nil {
		fs.inodes[filepath.Base(path)] = st.Ino
	}
}

func (fs *files) has(inode uint64) bool {
	for _, known := range fs.inodes {
		if known == inode {
			return true
		}
	}
	return false
}

// mountAt is the number of the mount that a path is on. O_PATH does not open what is there.
func mountAt(path string) string {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	info, _ := slurp("/proc/self/fdinfo/"+strconv.Itoa(fd), make([]byte, 4096))
	return field(info, "mnt_id:")
}

// deviceOf is the device of a mount that a process has, by its name in /proc. The same
// filesystem that is mounted elsewhere, in a container say, has the same.
func deviceOf(process, mount string) string {
	b, _, _ := table("/proc/" + process + "/mountinfo")
	for line := range bytes.Lines(b) {
		// 36 35 98:0 /root /mnt rw,noatime - ext3 /dev/root rw
		f := bytes.Fields(line)
		if len(f) > 2 && string(f[0]) == mount {
			return string(f[2])
		}
	}
	return ""
}

// openedBy finds out whether a process has the database open.
func (fs *files) openedBy(pid int, dir string, mapped bool) (o Opened, err error) {
	d, err := os.Open(dir + "/fd")
	if err != nil {
		return o, err
	}
	fds, err := d.Readdirnames(-1)
	d.Close()
	devices := map[string]string{fs.mount: fs.device}
	for _, fd := range fds {
		name, err := os.Readlink(dir + "/fd/" + fd)
		if err != nil || !fs.mayBe(name) {
			continue
		}
		info, err := slurp(dir+"/fdinfo/"+fd, make([]byte, 4096))
		if err != nil {
			continue
		}
		flags, err := strconv.ParseUint(field(info, "flags:"), 8, 32)
		if err != nil || flags&unix.O_PATH != 0 {
			continue
		}
		mount := field(info, "mnt_id:")
		device, known := devices[mount]
		if !known {
			device = deviceOf(strconv.Itoa(pid), mount)
			devices[mount] = device
		}
		if !fs.are(name, field(info, "ino:"), device) {
			continue
		}
		o.PID = pid
		o.Writing = o.Writing || flags&unix.O_ACCMODE != unix.O_RDONLY
		o.Locked = o.Locked || locked(info)
	}
	if mapped && o.PID == 0 && err == nil {
		fs.mappedBy(&o, pid, dir)
	}
	return o, err
}

// mappedBy finds out whether a process has mapped one of the files, which it need not keep open
// for that.
func (fs *files) mappedBy(o *Opened, pid int, dir string) {
	b, _, _ := table(dir + "/maps")
	if !fs.mentioned(b) {
		return
	}
	for line := range strings.Lines(string(b)) {
		// 7f0c0a1d2000-7f0c0a1d3000 rw-s 00000000 fe:01 131   /srv/app.db
		name := ""
		if at := strings.IndexByte(line, '/'); at >= 0 {
			name = strings.TrimSuffix(line[at:], "\n")
		}
		f := strings.Fields(line)
		if len(f) < 6 || !fs.mayBe(name) {
			continue
		}
		major, minor, _ := strings.Cut(f[3], ":")
		a, err1 := strconv.ParseUint(major, 16, 32)
		i, err2 := strconv.ParseUint(minor, 16, 32)
		device := strconv.FormatUint(a, 10) + ":" + strconv.FormatUint(i, 10)
		if err1 == nil && err2 == nil && fs.are(name, f[4], device) {
			o.PID = pid
			o.Writing = o.Writing || f[1][1] == 'w' && f[1][3] == 's'
		}
	}
}

// mentioned reports whether a table has the name of one of the files somewhere. Most have
// thousands of lines, and none that matters.
func (fs *files) mentioned(table []byte) bool {
	if fs.linked != 0 || fs.dir != "" && bytes.Contains(table, []byte(fs.dir+"/")) {
		return true
	}
	for name := range fs.inodes {
		if bytes.Contains(table, []byte("/"+name+"\n")) {
			return true
		}
	}
	return false
}

// mayBe reports whether it is worth looking closer at a descriptor with such a file.
func (fs *files) mayBe(name string) bool {
	if !strings.HasPrefix(name, "/") || strings.HasSuffix(name, " (deleted)") {
		return false
	}
	_, known := fs.inodes[filepath.Base(name)]
	return known || fs.linked != 0 || fs.below(name)
}

// below reports whether the file is somewhere in the database, which is a directory.
func (fs *files) below(name string) bool { return fs.dir != "" && strings.HasPrefix(name, fs.dir+"/") }

// are reports whether a file is one of the database's. Names are those that a process knows
// a file by, and an inode's number is good for one filesystem.
func (fs *files) are(name, inode, device string) bool {
	known, ok := fs.inodes[filepath.Base(name)]
	if device != fs.device {
		return false
	}
	if inode == "" { // a kernel before 5.14
		return fs.below(name) || ok && filepath.Dir(name) == filepath.Dir(fs.path)
	}
	ino, err := strconv.ParseUint(inode, 10, 64)
	return err == nil && (ok && known == ino || fs.linked != 0 && fs.linked == ino || fs.below(name))
}

// locked reports whether a descriptor's description names a lock.
func locked(info []byte) bool {
	for line := range bytes.Lines(info) {
		if f := strings.Fields(string(line)); len(f) > 2 && f[0] == "lock:" && f[2] != "LEASE" && f[2] != "DELEG" {
			return true
		}
	}
	return false
}
