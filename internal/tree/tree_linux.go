//go:build linux && !portable

package tree

import (
	"bytes"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Adopt makes the calling process the parent of every descendant whose own parent
// ends, in place of the system's first process.
func Adopt() error { return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }

// Of lists the living descendants of root that are in its session, or in that of
// its child command, if command is not 0; root itself and what descends from the
// excepted processes excluded. It misses nobody if root has called Adopt and none of its
// own children ended meanwhile. complete is false where the system does not show all
// processes: without /proc, or with those of others hidden.
func Of(root, command int, except ...int) (processes []Process, complete bool) {
	all, err := list()
	if err != nil {
		return nil, false
	}
	return members(all, root, command, except), len(all) > 0 && all[0].PID == 1
}

// Look describes one process; ok is false if there is none, or it has ended.
func Look(pid int) (p Process, ok bool) {
	p, ok = read(pid)
	return p, ok && !p.ended()
}

// IsDblock reports whether a process runs the same program as this one.
func IsDblock(p Process) bool {
	mine, err1 := os.Stat("/proc/self/exe")
	its, err2 := os.Stat("/proc/" + strconv.Itoa(p.PID) + "/exe")
	return err1 == nil && err2 == nil && os.SameFile(mine, its)
}

// Whole lists root and its living descendants that are in its session; nobody, if root has
// ended or cannot be seen.
func Whole(root int) []Process {
	all, _ := list()
	at := slices.IndexFunc(all, func(p Process) bool { return p.PID == root })
	if at < 0 || all[at].ended() {
		return nil
	}
	return append(all[at:at+1:at+1], members(all, root, 0, nil)...)
}

// Children lists the children of this process, zombies included.
func Children() []int {
	all, _ := list()
	var pids []int
	for _, p := range all {
		if p.Parent == os.Getpid() {
			pids = append(pids, p.PID)
		}
	}
	return pids
}

// All lists all processes, as far as they can be seen.
func All() []Process {
	all, _ := list()
	return all
}

// list reads the table of processes in ascending order, so that a process that is
// forked meanwhile is met after its parent.
func list() ([]Process, error) {
	proc, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer proc.Close()
	names, err := proc.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var all []Process
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			if p, ok := read(pid); ok {
				all = append(all, p)
			}
		}
	}
	return all, nil
}

// read parses a process's line of /proc. The second field is the program's name in
// parentheses, which can contain anything, parentheses and spaces included.
func read(pid int) (Process, bool) {
	fd, err := unix.Open("/proc/"+strconv.Itoa(pid)+"/stat", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return Process{}, false
	}
	defer unix.Close(fd)
	var b [1024]byte
	n, _ := unix.Read(fd, b[:])
	line := b[:max(n, 0)]
	begin, end := bytes.IndexByte(line, '('), bytes.LastIndexByte(line, ')')
	if begin < 0 || end < begin {
		return Process{}, false
	}
	f := strings.Fields(string(line[end+1:]))
	if len(f) < 20 {
		return Process{}, false
	}
	p := Process{PID: pid, State: f[0][0], Name: string(line[begin+1 : end])}
	p.Parent, _ = strconv.Atoi(f[1])
	p.Group, _ = strconv.Atoi(f[2])
	p.Session, _ = strconv.Atoi(f[3])
	p.Front, _ = strconv.Atoi(f[5])
	user, _ := strconv.ParseUint(f[11], 10, 64)
	system, _ := strconv.ParseUint(f[12], 10, 64)
	p.Ran = user + system
	p.Threads, _ = strconv.Atoi(f[17])
	p.Started, err = strconv.ParseUint(f[19], 10, 64)
	return p, err == nil
}
