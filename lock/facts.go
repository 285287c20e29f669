package lock

import (
	"os"
	"slices"
	"time"

	"github.com/dblock-dev/dblock/lock/internal/inode"
	"github.com/dblock-dev/dblock/lock/internal/proc"
	"github.com/dblock-dev/dblock/lock/internal/queue"
)

// Facts are what this system shows of those whom a Report names, beyond what it takes to
// know the state of the lock. Nothing of it is written down anywhere.
type Facts struct {
	// Running are the processes that work under the lock: the command of each dblock, as long
	// as it has not ended and is in this pid namespace, a holder that is none, what a killed dblock has left.
	Running []Running
	// Inside says that this process runs under that hold itself.
	Inside bool
	// Deadlines tells by pid when those who wait will give up. Who waits for ever, or
	// may not be looked at, is not in it.
	Deadlines map[int]time.Time

	// Openers have the database open, and do not belong to those who hold the lock.
	Openers []Opener
	// OpenersKnown is false where not all processes may be looked at: those of others. Of
	// them only who has locked the database can be seen.
	OpenersKnown bool
	// HoldersKnown is false where the holder may be one of the Openers: its process
	// cannot be told from here, and may be in a container of this machine.
	HoldersKnown bool
}

// Running is a process, and what it was started with. That is known of processes of the
// same user only, and to root; it may be anybody's text.
type Running struct {
	Process Process
	Under   int      // the pid of the holder to whom it belongs
	Args    []string // nil if they are not known
	Dir     string   // its working directory; empty if that is not known
}

// Opener is a process that has the database open.
type Opener struct {
	Process Process
	Writing bool // for writing
	Locked  bool // it has locked the database's file, or a part of it, as engines do
}

// Facts looks at all processes for what a Report leaves out. Like Inspect it touches
// nothing, and it asks no filesystem but the database's own.
func (r *Report) Facts() *Facts { return r.facts(false) }

// AllFacts is Facts, and among the openers also has who has mapped the database and does not keep
// it open, as those may who write to it through memory. It takes twice as long.
func (r *Report) AllFacts() *Facts { return r.facts(true) }

func (r *Report) facts(mapped bool) *Facts {
	f := &Facts{Running: r.Running(), Deadlines: map[int]time.Time{}, Inside: r.Inside()}
	holders, sure := r.holders()
	f.HoldersKnown = sure
	files := r.Names.queueFiles()
	for _, p := range r.Waiters {
		if ms := proc.SignsFrom(p.PID, queue.FirstDeadline, files...); ms > 0 {
			f.Deadlines[p.PID] = time.UnixMilli(ms)
		}
	}
	if r.Names.DB == "" || r.Names.shared() {
		return f
	}
	for _, pid := range holders {
		if served := proc.Serves(pid); served != 0 {
			holders = append(holders, served)
		}
	}
	opened, known := proc.Opening(r.Names.DB, mapped)
	f.OpenersKnown = known
	for _, o := range opened {
		// One that has ended meanwhile cannot be told from those without the lock.
		if p := describe(o.PID); !descends(o.PID, holders) && proc.Look(o.PID) == proc.Alive {
			f.Openers = append(f.Openers, Opener{p, o.Writing, o.Locked})
		}
	}
	return f
}

// holders are the processes of this machine that hold the lock. sure is false if it may also
// be others.
func (r *Report) holders() (pids []int, sure bool) {
	add := func(ps ...Process) {
		for _, p := range ps {
			if p.Host == "" {
				pids = append(pids, p.PID)
			}
		}
	}
	switch {
	case !r.Locked() || r.Alien():
	case r.State == StateOrphaned:
		pids = r.Orphans
	case len(r.Readers) > 0 || len(r.Owners) > 0:
		add(r.Readers...)
		add(r.Owners...)
	case r.State == StateForeign && r.provenAlive():
		pids = []int{r.Holder.PID}
	case r.State == StateForeign:
		return nil, false
	case r.seen == nil || r.seen.Info.Dblock == nil:
	case r.ends() && proc.Look(r.Holder.PID) == proc.Alive:
		pids = []int{r.Holder.PID}
	case r.seen.Info.Dblock.Boot == proc.Self().Boot:
		// In another pid namespace. What has its lock may be seen all the same.
		room, _ := r.Names.identifyRoom()
		for _, h := range proc.Holding(room) {
			pids = append(pids, h.PID)
		}
		return pids, len(pids) > 0
	}
	return pids, true
}

// Running looks at the processes that work under the lock, as in Facts, and at no others.
func (r *Report) Running() (all []Running) {
	if elsewhere := r.Holder != nil && r.Holder.Dblock && r.seen != nil && !r.ends(); elsewhere || len(r.Remaining) > 0 {
		return nil
	}
	holders, _ := r.holders()
	for _, pid := range holders {
		all = append(all, r.running(pid)...)
	}
	return all
}

// running is what works under a holder: the command of a dblock, or the process itself.
func (r *Report) running(holder int) []Running {
	pid := holder
	if r.Holder != nil && r.Holder.Dblock && r.State != StateOrphaned || describe(holder).Dblock {
		if pid = proc.Serves(holder); pid == 0 {
			pid = proc.FirstChild(holder)
			if st, _ := proc.Stat(pid); pid == 0 || st.Forked {
				return nil // there is none, or it is about to become the command
			}
		}
	}
	w := Running{Process: describe(pid), Under: holder}
	if me := os.Geteuid(); me == 0 || w.Process.UID == me {
		w.Args, w.Dir = proc.Command(pid), proc.Dir(pid)
	}
	return []Running{w}
}

// Inside reports whether this process runs under the hold.
func (r *Report) Inside() bool {
	if r.Holder == nil || !r.Locked() {
		return false
	}
	return slices.ContainsFunc(outers(), func(o outer) bool {
		ours := o.token == r.Holder.Token && o.pid == r.Holder.PID ||
			slices.ContainsFunc(r.Readers, func(p Process) bool { return p.PID == o.pid && p.Host == "" })
		around, known := enclosed(os.Getppid(), o.pid)
		return ours && o.about(r.Names) && (around || !known)
	})
}

// queueFiles are the files that others may wait for.
func (n Names) queueFiles() (ids []inode.ID) {
	dir, err := inode.OpenDir(n.State)
	if err != nil {
		return nil
	}
	defer dir.Close()
	for _, name := range []string{roomName, turnstileName(High), turnstileName(Normal), turnstileName(Low)} {
		if id, err := dir.At(name).Identify(); err == nil {
			ids = append(ids, id)
		}
	}
	return ids
}

// descends reports whether a process is one of those, or was started by one of them, by
// what that has started, and so on.
func descends(pid int, from []int) bool {
	for range 1000 {
		if slices.Contains(from, pid) {
			return true
		}
		st, ok := proc.Stat(pid)
		if !ok || st.Parent <= 1 {
			return false
		}
		pid = st.Parent
	}
	return false
}
