// Package proc is what can be known about a process, and about those that hold
// or wait for a kernel lock. What a system cannot tell is reported as unknown,
// never guessed: the callers decide what an unknown is worth.
package proc

import (
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Me is what a notice says of the process that writes it.
type Me struct {
	PID     int
	Started uint64 // clock ticks since boot; 0 if unknown
	Boot    string // boot id; empty if unknown
	PIDNS   uint64 // inode of the pid namespace; 0 if unknown
	Host    string
	UID     int
}

// Self describes the calling process.
func Self() Me {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "localhost"
	}
	me := unchanging()
	me.Host, me.UID = host, os.Getuid()
	return me
}

// unchanging is what stays as it is for as long as this process lives: reading it
// takes half as long as taking a lock that is free.
var unchanging = sync.OnceValue(func() Me {
	me := Me{PID: os.Getpid(), Boot: bootID(), PIDNS: namespace("pid")}
	if st, ok := Stat(me.PID); ok {
		me.Started = st.Started
	}
	return me
})

// Booted is when this kernel was booted, by a wall clock that shows now (both in
// milliseconds since the epoch), and a number for this boot; 0 if unknown. Within
// one boot it only changes when the clock is set.
func (m Me) Booted(now int64) (ms, boot int64) {
	up, ok := sinceBoot()
	id, _, _ := strings.Cut(m.Boot, "-")
	boot, err := strconv.ParseInt(id, 16, 64)
	if !ok || err != nil {
		return 0, 0
	}
	return now - up.Milliseconds(), boot
}

// Life is whether a process exists.
type Life int

// Unknown is for processes that cannot be seen from here.
const (
	Unknown Life = iota
	Alive
	Gone // does not exist, or is a zombie
)

// Look reports whether the process exists in this pid namespace.
func Look(pid int) Life {
	if pid <= 0 {
		return Unknown
	}
	if ended(pid) {
		return Gone
	}
	return Alive
}

// Status is a process as the kernel describes it.
type Status struct {
	State   byte   // of its first thread: R, S, D, T, Z ...
	Threads int    // that have not ended, the first one included in any case
	Parent  int    // pid
	Started uint64 // clock ticks since boot
	Forked  bool   // it has not become another program since it was forked
}

// ticks per second of the times in /proc, on every Linux that Go supports.
const ticks = 100

// Age is how long ago a process with that start time was started. It is
// measured on the clock that runs on while the machine sleeps and that nobody
// can set.
func Age(started uint64) (time.Duration, bool) {
	up, ok := sinceBoot()
	if !ok || started == 0 {
		return 0, false
	}
	return up - time.Duration(started)*(time.Second/ticks), true
}

// Seen reports whether process ids that a program on a host of our name wrote
// down mean the same processes here. Two containers that share the host's name
// (and so its UTS namespace) but not its pid namespace see different processes.
func Seen() bool {
	const initialPID, initialUTS = 0xEFFFFFFC, 0xEFFFFFFE
	ns := namespace("pid")
	return ns == 0 || ns == initialPID || namespace("uts") != initialUTS
}

// Descends reports whether pid is a parent, grandparent... of this process.
// known is false if the system does not tell.
func Descends(pid int) (yes, known bool) { return Under(os.Getppid(), pid) }

// Stopped reports whether the process exists and does not run until it is continued.
func Stopped(pid int) bool {
	st, ok := Stat(pid)
	return ok && (st.State == 'T' || st.State == 't')
}

// Holder is a process that has a lock.
type Holder struct {
	PID    int
	Takers []int // who took the locks that it has; 0 for one that has ended, where that is not told
}

// Claim is one line of the kernel's table of locks.
type Claim struct {
	PID     int  // of the process that asked; it may be gone if a child inherited the lock
	Waiting bool // not granted yet
	Shared  bool
}

// Opened is a process that has a file open.
type Opened struct {
	PID     int
	Writing bool // it may write to it by that descriptor
	Locked  bool // it has locked it, or a part of it
}

// Mount is a filesystem where it is mounted.
type Mount struct {
	Device string // the same for all mounts of one filesystem
	Kernel bool   // it has the kernel's own files, and no others
}
