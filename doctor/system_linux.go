//go:build linux && !portable

package doctor

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/internal/cli"
	"github.com/dblock-dev/dblock/lock"
)

// mount is a line of the table of mounts.
type mount struct {
	point, kind, source string
	options             []string // of the mount and of the filesystem
}

// mountOf finds the mount that a directory is on.
func mountOf(dir string) (mount, bool) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return mount{}, false
	}
	defer unix.Close(fd)
	info, _ := os.ReadFile("/proc/self/fdinfo/" + strconv.Itoa(fd))
	table, _ := os.ReadFile("/proc/self/mountinfo")
	return parseMount(table, field(info, "mnt_id:"))
}

func parseMount(table []byte, id string) (mount, bool) {
	for line := range bytes.Lines(table) {
		// 36 35 98:0 /root /mnt rw,noatime shared:1 - ext3 /dev/root rw,errors=continue
		front, back, ok := strings.Cut(strings.TrimSpace(string(line)), " - ")
		f, b := strings.Fields(front), strings.Fields(back)
		if !ok || len(f) < 6 || len(b) < 2 || f[0] != id {
			continue
		}
		m := mount{point: unescapeMount(f[4]), kind: b[0], source: b[1], options: strings.Split(f[5], ",")}
		if len(b) > 2 {
			m.options = append(m.options, strings.Split(b[2], ",")...)
		}
		return m, true
	}
	return mount{}, false
}

// unescapeMount reads a path of the table of mounts.
func unescapeMount(path string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(path)
}

// field is the value in a line of a file of /proc.
func field(info []byte, name string) string {
	for line := range bytes.Lines(info) {
		if rest, ok := bytes.CutPrefix(line, []byte(name)); ok {
			return string(bytes.TrimSpace(rest))
		}
	}
	return ""
}

func (m mount) has(options ...string) bool {
	for _, have := range m.options {
		for _, want := range options {
			if have == want {
				return true
			}
		}
	}
	return false
}

// What a filesystem's kind means for locks.
const (
	whyNetwork = "Another machine that uses the same files has a kernel, and a queue, of its own. Two machines exclude each other only if the server carries flock(2) between them, and SQLite and PGlite are not made for such a place."
	whyShared  = "The folder is another system's, the host's as a rule. Its programs have a kernel, and a queue, of their own, and see the lock file only."
	whyUser    = "A program serves this filesystem, and it is up to that whether locks and events are right."
)

// whyKind is what is to be known of a kind of filesystem; empty if it is one of this machine's.
func whyKind(kind string) string {
	switch kind {
	case "nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ceph", "lustre", "gfs2", "ocfs2", "coda", "beegfs", "gpfs", "orangefs",
		"fuse.sshfs", "fuse.glusterfs", "fuse.s3fs", "fuse.rclone", "fuse.gcsfuse":
		return whyNetwork
	case "9p", "virtiofs", "vboxsf", "prl_fs", "vmhgfs", "drvfs", "fakeowner", "fuse.vmhgfs-fuse", "fuse.grpcfuse", "fuse.osxfs":
		return whyShared
	}
	if strings.HasPrefix(kind, "fuse.") || kind == "fuse" {
		return whyUser
	}
	return ""
}

// filesystem says what kind of filesystem the lock is on.
func (v *visit) filesystem() []Finding {
	m, ok := mountOf(v.dir)
	if !ok {
		return []Finding{{"filesystem", OK, "not known: there is no /proc, or it does not show the mount", "", ""}}
	}
	all := []Finding{judgeMount(m)}
	if inner, ok := mountOf(v.names.State); ok && !v.bare && inner.point != m.point {
		all = append(all, Finding{"filesystem", Warning, "the state directory is on another filesystem (" + inner.kind + ") than the lock file", "dblock links its lock file from there, which does not work between two.", "unmount " + cli.Quote(inner.point)})
	}
	return all
}

func judgeMount(m mount) Finding {
	f := Finding{"filesystem", OK, m.kind, "Locks are the kernel's, and only who uses the same kernel and the same files sees them.", ""}
	why := whyKind(m.kind)
	const move = "keep the database on a disk of the machine that uses it, or let all that use it run on one machine"
	switch {
	case m.has("ro"):
		f.Level, f.Found, f.Do = Problem, m.kind+", read-only", "mount it writable, or keep the lock file elsewhere with --lock-file"
		f.Why = "A lock is a few small files."
	case strings.HasPrefix(m.kind, "nfs") && m.has("nolock", "local_lock=all", "local_lock=flock"), m.kind == "lustre" && m.has("localflock", "noflock"), m.kind == "cifs" && m.has("nobrl"):
		f.Level, f.Found, f.Why, f.Do = Warning, m.kind+" from "+m.source+", mounted such that locks stay on this machine", whyNetwork, "mount it with locks, or let one machine alone use the database"
	case why != "":
		f.Level, f.Found, f.Why, f.Do = Warning, m.kind+" from "+m.source, why, move
	case m.kind == "overlay" || m.kind == "aufs":
		f.Found += ", a container's own as a rule"
		f.Why = "What is not on a volume is seen by this container alone, its locks included, and goes when it goes."
	case m.kind == "tmpfs" || m.kind == "ramfs":
		f.Found += ", in memory"
	}
	return f
}

// mountedAt reports whether a mount begins at the path.
func mountedAt(path string) bool {
	table, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range bytes.Lines(table) {
		if f := strings.Fields(string(line)); len(f) > 4 && unescapeMount(f[4]) == path {
			return true
		}
	}
	return false
}

// openers finds who has the database open and does not work under the lock.
func (v *visit) openers() []Finding {
	const why = "dblock keeps apart only those who take the lock. Who works on the database without it can meet a holder."
	switch {
	case v.report == nil || v.names.DB == "" || lock.IsURL(v.names.DB):
		return nil
	case !seesProcesses():
		return fine("openers", "not known: there is no /proc")
	case v.facts == nil:
		return []Finding{{"openers", Warning, "who has the database open could not be found out in time", why, "try again when the machine is less busy"}}
	}
	var all []Finding
	for _, o := range v.facts.Openers {
		f := Finding{"openers", Warning, cli.Name(o.Process), why, "start it with dblock, or end it before others work on the database"}
		if o.Process.UID >= 0 && !mine(o.Process.UID) {
			f.Found += " of user " + cli.UserName(o.Process.UID)
		}
		f.Found += " has the database open without the lock"
		switch {
		case o.Locked:
			f.Found += ", and has locked it for itself"
		case o.Writing:
			f.Found += ", for writing"
		}
		if !v.facts.HoldersKnown {
			f.Found += "; or it is the holder, which cannot be told"
		}
		all = append(all, f)
	}
	if len(all) == 0 {
		found := "nobody has the database open without the lock"
		switch n := hidden(); {
		case hidesProcesses():
			found += "; processes of other users are hidden"
		case n == 1:
			found += "; 1 process of another user could not be looked at"
		case n > 1:
			found += fmt.Sprintf("; %d processes of other users could not be looked at", n)
		}
		all = []Finding{{"openers", OK, found, why, ""}}
	}
	return all
}

// hidden counts the processes whose open files this user may not see.
func hidden() (n int) {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		d, err := os.Open(dir + "/fd")
		if errors.Is(err, fs.ErrPermission) {
			n++
		} else if err == nil {
			d.Close()
		}
	}
	return n
}

// usage is what this user's processes use of what is limited.
type usage struct{ threads, instances, watches int }

func used() (u usage) {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		status, err := os.ReadFile(dir + "/status")
		if err != nil {
			continue
		}
		if ids := strings.Fields(field(status, "Uid:")); len(ids) == 0 || ids[0] != strconv.Itoa(os.Getuid()) {
			continue
		}
		threads, _ := strconv.Atoi(field(status, "Threads:"))
		u.threads += threads
		d, err := os.Open(dir + "/fd")
		if err != nil {
			continue
		}
		fds, _ := d.Readdirnames(-1)
		d.Close()
		for _, fd := range fds {
			if name, _ := os.Readlink(dir + "/fd/" + fd); name != "anon_inode:inotify" {
				continue
			}
			u.instances++
			info, _ := os.ReadFile(dir + "/fdinfo/" + fd)
			u.watches += bytes.Count(info, []byte("inotify wd:"))
		}
	}
	return u
}

// What must be left of a limit. A dblock has some ten threads at most, and its command some more.
const (
	fewThreads     = 40
	fewDescriptors = 64
	fewInstances   = 4
	fewWatches     = 8
)

// seesProcesses reports whether the system shows processes at all.
func seesProcesses() bool {
	_, err := os.Stat("/proc/self/stat")
	return err == nil
}

// limits finds out whether this user may have the processes, files and events that locking takes.
func (v *visit) limits() []Finding {
	if !seesProcesses() {
		return fine("limits", "not known: there is no /proc")
	}
	var all []Finding
	warn := func(found, why, do string) { all = append(all, Finding{"limits", Warning, found, why, do}) }
	u := used()
	var files, procs unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &files) == nil && files.Cur < fewDescriptors {
		warn(fmt.Sprintf("a process may have %d open files", files.Cur), "dblock uses numbers from 32 on for its own, so that they do not meet a script's.", "raise it: ulimit -n 1024")
	}
	const whyProcs = "Where a user may have no more processes the Go runtime ends dblock, and the command with it."
	if unix.Getrlimit(unix.RLIMIT_NPROC, &procs) == nil && procs.Cur != unix.RLIM_INFINITY && procs.Cur < 1<<31 && os.Getuid() != 0 && int(procs.Cur)-u.threads < fewThreads {
		warn(fmt.Sprintf("this user has %d threads, and may have %d", u.threads, procs.Cur), whyProcs, "end what is not needed, or raise it: ulimit -u")
	}
	if most, now, ok := pids(); ok && most-now < fewThreads {
		warn(fmt.Sprintf("this control group has %d threads, and may have %d (pids.max)", now, most), whyProcs, "raise it: for a container --pids-limit, for a service TasksMax")
	}
	const whyEvents = "By the kernel's events a holder notices at once what happens to its lock file. Without them it looks every 20 ms."
	if most, ok := inotify("instances"); ok && most-u.instances < fewInstances {
		warn(fmt.Sprintf("this user has %d of %d inotify instances", u.instances, most), whyEvents, "raise it: sysctl fs.inotify.max_user_instances=1024")
	}
	if most, ok := inotify("watches"); ok && most-u.watches < fewWatches {
		warn(fmt.Sprintf("this user has %d of %d inotify watches", u.watches, most), whyEvents, "raise it: sysctl fs.inotify.max_user_watches=65536")
	}
	if len(all) == 0 {
		return []Finding{{"limits", OK, "enough processes, open files and inotify watches are left", whyProcs, ""}}
	}
	return all
}

// inotify is a limit of the machine's or, where that is lower, of this user namespace's.
func inotify(of string) (least int, ok bool) {
	for _, path := range []string{"/proc/sys/fs/inotify/max_user_" + of, "/proc/sys/user/max_inotify_" + of} {
		b, err := os.ReadFile(path)
		if n, nerr := strconv.Atoi(strings.TrimSpace(string(b))); err == nil && nerr == nil && (!ok || n < least) {
			least, ok = n, true
		}
	}
	return least, ok
}

// pids is the limit of this process's control group, and how much of it is used.
func pids() (most, now int, ok bool) {
	b, _ := os.ReadFile("/proc/self/cgroup")
	for line := range strings.Lines(string(b)) {
		dir, found := strings.CutPrefix(strings.TrimSpace(line), "0::")
		if !found {
			continue
		}
		read := func(name string) (int, error) {
			b, err := os.ReadFile(filepath.Join("/sys/fs/cgroup", dir, name))
			if err != nil {
				return 0, err
			}
			return strconv.Atoi(strings.TrimSpace(string(b)))
		}
		most, err1 := read("pids.max")
		now, err2 := read("pids.current")
		return most, now, err1 == nil && err2 == nil
	}
	return 0, 0, false
}

// namespaces says whose processes can be seen from here.
func (v *visit) namespaces() []Finding {
	const why = "By its process dblock knows whether a holder lives that is none of its kind. Where it cannot be seen its age decides (--stale-timeout)."
	var st unix.Stat_t
	if unix.Stat("/proc/self/ns/pid", &st) != nil {
		if !seesProcesses() {
			return []Finding{{"namespaces", Warning, "there is no /proc", why + " Nor can dblock see what its command has started.", "mount it: mount -t proc proc /proc"}}
		}
		return nil
	}
	if hidesProcesses() {
		return []Finding{{"namespaces", OK, "processes of other users are hidden (hidepid)", why, ""}}
	}
	const initial = 0xEFFFFFFC
	if st.Ino != initial {
		return []Finding{{"namespaces", OK, "a pid namespace of its own: holders in other containers are judged by their age", why + " Give containers that share a database different host names.", ""}}
	}
	return []Finding{{"namespaces", OK, "all processes of the machine can be seen", why, ""}}
}

// hidesProcesses reports whether /proc is mounted such that it hides the processes of others.
func hidesProcesses() bool {
	if os.Geteuid() == 0 {
		return false
	}
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return false
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		words := strings.Fields(lines.Text())
		if len(words) > 4 && words[4] == "/proc" {
			options := words[len(words)-1]
			return strings.Contains(options, "hidepid=") && !strings.Contains(options, "hidepid=0") && !strings.Contains(options, "hidepid=off")
		}
	}
	return false
}
