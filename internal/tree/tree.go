// Package tree is what a process has started, and what that has started: the
// children of a wrapped command that nobody else would look after.
package tree

// Process is one process as the kernel describes it.
type Process struct {
	PID     int
	Parent  int    // pid
	Group   int    // process group
	Front   int    // the process group that its terminal listens to; -1 if it has no terminal
	Session int    // the session's id
	State   byte   // of its first thread: R, S, D, T, Z ...
	Threads int    // that have not ended, the first one included in any case
	Ran     uint64 // how long it has run on a processor, in clock ticks
	Started uint64 // clock ticks since boot
	Name    string // of its program, at most 15 bytes; anybody's text
}

// Stopped reports whether the process does not run until it is continued.
func (p Process) Stopped() bool { return p.State == 'T' || p.State == 't' }

// ended reports whether nothing of the process runs any more. Its first thread may end long
// before the others, and of those that are killed any may be the last to close its files.
func (p Process) ended() bool { return (p.State == 'Z' || p.State == 'X') && p.Threads <= 1 }

// members picks from all processes those that descend from root and are still in
// its session, or in the one that the command leads, if that began one of its own.
// Who has left both is a daemon, and what it starts is its own. Zombies have ended.
// What descends from an excepted process does not count.
func members(all []Process, root, command int, except []int) []Process {
	children := map[int][]Process{}
	session, found := 0, false
	for _, p := range all {
		children[p.Parent] = append(children[p.Parent], p)
		if p.PID == root {
			session, found = p.Session, true
		}
	}
	if !found {
		return nil
	}
	skip := map[int]bool{root: true}
	for _, pid := range except {
		skip[pid] = true
	}
	var tree []Process
	for next := []int{root}; len(next) > 0; next = next[1:] {
		for _, p := range children[next[0]] {
			if skip[p.PID] {
				continue
			}
			skip[p.PID] = true
			next = append(next, p.PID)
			if !p.ended() && (p.Session == session || command != 0 && p.Session == command) {
				tree = append(tree, p)
			}
		}
	}
	return tree
}

// Members picks from all processes those that descend from root and are still in its session,
// as Of does.
func Members(all []Process, root int) []Process { return members(all, root, 0, nil) }

// Below tells which of the processes descend from one of them that is such.
func Below(processes []Process, such func(Process) bool) map[int]bool {
	parents := map[int]int{}
	is := map[int]bool{}
	for _, p := range processes {
		parents[p.PID] = p.Parent
		is[p.PID] = such(p)
	}
	below := map[int]bool{}
	for _, p := range processes {
		for at, ok := p.Parent, true; ok && !below[p.PID]; at, ok = parents[at] {
			below[p.PID] = is[at]
		}
	}
	return below
}
