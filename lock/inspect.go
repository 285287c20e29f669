package lock

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/dblock-dev/dblock/internal/tree"
	"github.com/dblock-dev/dblock/lock/internal/claim"
	"github.com/dblock-dev/dblock/lock/internal/inode"
	"github.com/dblock-dev/dblock/lock/internal/judge"
	"github.com/dblock-dev/dblock/lock/internal/ledger"
	"github.com/dblock-dev/dblock/lock/internal/notice"
	"github.com/dblock-dev/dblock/lock/internal/proc"
	"github.com/dblock-dev/dblock/lock/internal/queue"
)

// State is what a lock is found to be in.
type State string

// The states.
const (
	StateFree     State = "free"
	StateHeld     State = "held"     // by a dblock, alone
	StateShared   State = "shared"   // by dblock readers
	StateForeign  State = "foreign"  // by another implementation of the protocol
	StateStale    State = "stale"    // its holder has gone: the next one takes it over
	StateOrphaned State = "orphaned" // its dblock has gone, but the command still runs
	StateInvalid  State = "invalid"  // what is at the path is no lock file
)

// Holder is what a lock file says of who holds it. The strings are anybody's:
// they may contain control characters.
type Holder struct {
	PID       int // 0 if the lock file names none
	Host      string
	Process   string    // label
	Timestamp time.Time // last sign of life; zero if the lock file has none

	// Only for a dblock:
	Dblock   bool
	Mode     Mode
	Token    int64 // fencing number
	Acquired time.Time
	UID      int
	Command  string // base name
	Info     string // what the user wants others to know; empty if he gave nothing
}

// Process is a process that holds or waits.
type Process struct {
	PID      int
	Host     string // machine, if it is another one
	Process  string // label, if it is known
	Command  string // base name, if it is known
	Mode     Mode
	Priority Priority
	Age      time.Duration // since it was started
	UID      int           // whose it is; -1 if that is not known
	Stopped  bool          // it does not run until it is continued
	Dblock   bool          // it is a dblock, and Command is what it runs or is to run
	Info     string        // what its user wants others to know, if that is known
}

// Report is what Inspect found.
type Report struct {
	Names    Names
	State    State
	Stale    bool          // the next dblock takes it over without waiting
	Holder   *Holder       // nil if there is no lock file, or no valid one
	ID       string        // identity, for BreakOptions.ID; empty if there is no lock file
	Age      time.Duration // since it was acquired, as far as the lock file tells
	Evidence string        // why it is in that state, in words

	Readers []Process // all readers of a shared hold
	Orphans []int     // pids that keep an orphaned lock
	Left    []Process // the same, described
	Owners  []Process // who has a lock that is held without a lock file
	Waiters []Process // in the order in which they will go
	// Remaining is what a holder waits for whose command was ended: what that has
	// left running. Only while it does.
	Remaining []Process
	// Stopped are processes that keep others waiting, because they were stopped
	// while they had the lock or a place in the queue that nobody else passes.
	Stopped []Process
	// WaitersKnown is false where the system does not tell who waits, and who
	// reads: no /proc/locks.
	WaitersKnown bool

	// KeptBy is the user whose lock file this is, where the directory is sticky and this user
	// may not remove it: whoever it is for, this user does not get the lock. Else it is -1.
	KeptBy int
	// Barred says why this user is refused in the queue; nil if he is not.
	Barred error

	// Links is how many hard links the database has, if it is a regular file with more
	// than one: each name has a lock of its own. Else it is 0.
	Links int

	seen  *notice.Sighting
	alien bool // what is at the path is no lock file

	table func() (all proc.Locks, known bool) // the kernel's table of locks
}

// Locked reports whether somebody has the lock.
func (r *Report) Locked() bool {
	switch r.State {
	case StateFree, StateStale:
		return false
	case StateInvalid:
		return !r.Stale
	}
	return true
}

// Alien reports whether what is at the lock file's path is something else, which no dblock
// touches.
func (r *Report) Alien() bool { return r.State == StateInvalid && (r.alien || r.seen == nil) }

// ClockSet reports whether the wall clock was set since the last hold that the state directory
// remembers, if that was since the last boot.
func (r *Report) ClockSet() bool {
	last := ledger.Last(r.Names.State)
	return last.Boot != 0 && last.ClockMoved(proc.Self().Booted(time.Now().UnixMilli()))
}

// provenAlive reports whether the foreign holder's process is known to live here.
func (r *Report) provenAlive() bool {
	me := proc.Self()
	return r.Holder.Host == me.Host && proc.Seen() && proc.Look(r.Holder.PID) == proc.Alive
}

// ends reports whether the lock's holders may be processes of this host that can be
// ended.
func (r *Report) ends() bool {
	if r.State != StateHeld && r.State != StateShared && r.State != StateOrphaned {
		return false
	}
	if r.seen == nil {
		return true // the kernel's own table shows them
	}
	me, d := proc.Self(), r.seen.Info.Dblock
	return d.Boot == me.Boot && d.PIDNS == me.PIDNS && (d.Boot != "" || r.Holder.Host == me.Host)
}

// Inspect looks at a lock and touches nothing: it takes no lock, not even for an
// instant, since a probe that has it makes others fail. The error is a
// *fs.PathError if the lock file could not be looked at, or is in a directory that does not
// exist. Of opts it uses LockFile, StaleTimeout, Stale and Now.
func Inspect(db string, opts Options) (*Report, error) {
	n, err := Resolve(db, opts.LockFile)
	if err != nil {
		return nil, err
	}
	if n.shared() {
		return inspectURL(db, n, opts.withDefaults())
	}
	r, err := inspect(n, opts.withDefaults())
	if err == nil {
		r.Links = n.links()
	}
	return r, err
}

// inspectURL finds out who holds the lock of an engine: what the engine tells, and of a holder on this
// machine what is to be seen here.
func inspectURL(url string, n Names, opts Options) (*Report, error) {
	local, err := inspect(n, opts)
	if err != nil {
		return nil, err
	}
	e, err := EngineFor(url)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithTimeout(context.Background(), lookTime)
	defer stop()
	r, err := e.Inspect(ctx, url)
	if err != nil {
		return nil, err
	}
	mine := local.Holder != nil && local.State != StateStale
	switch {
	case mine && r.State == StateFree:
		local.Evidence = "it works, or ends, here, though the server has the lock no more: " + local.Evidence
		return local, nil
	case mine && r.State == StateHeld && r.Holder != nil && r.Holder.PID == local.Holder.PID && r.Holder.Host == local.Holder.Host:
		local.ID, local.Evidence = r.ID, r.Evidence
		local.Readers, local.Waiters = r.Readers, queueOf(r.Waiters, local.Waiters)
		r = local
	default:
		r.Names, r.KeptBy, r.table = n, -1, local.table
		if r.Holder != nil && r.Holder.Timestamp.IsZero() {
			r.Holder.Timestamp = r.Holder.Acquired
		}
		r.Waiters = queueOf(r.Waiters, local.Waiters)
	}
	r.WaitersKnown = true
	here, _ := os.Hostname()
	for _, ps := range [][]Process{r.Readers, r.Waiters} {
		for i := range ps {
			if ps[i].Host == here {
				ps[i].Host = ""
			}
		}
	}
	return r, nil
}

// queueOf is the queue of all machines: those whom the server knows, and behind them those of this machine who
// are yet to ask it. Of those that are in both more is known here.
func queueOf(server, local []Process) (all []Process) {
	host, _ := os.Hostname()
	known := map[int]bool{}
	for _, p := range server {
		at := slices.IndexFunc(local, func(q Process) bool { return p.PID == q.PID && p.Host == host })
		if at >= 0 {
			p, known[p.PID] = local[at], true
		}
		all = append(all, p)
	}
	for _, p := range local {
		if !known[p.PID] {
			all = append(all, p)
		}
	}
	return all
}

// lookTime is how long a server may take to tell who holds a lock.
const lookTime = 3 * time.Second

func inspect(n Names, opts Options) (*Report, error) { return inspectBy(proc.AllLocks, n, opts) }

// inspectBy does that with a table that may have been read before.
func inspectBy(table func() (proc.Locks, bool), n Names, opts Options) (*Report, error) {
	for tries := 0; ; tries++ {
		r, err := look(n, opts, table)
		if err != nil || tries > 3 || r.seen == nil || r.State != StateStale && r.State != StateOrphaned {
			return r, err
		}
		// The table of locks, the notice and the processes cannot be seen all at
		// the same moment. A holder that ended in between only looks dead.
		if id, err := inode.Identify(n.Notice); err == nil && id == r.seen.ID {
			return r, nil
		}
		table = proc.AllLocks
	}
}

func look(n Names, opts Options, table func() (proc.Locks, bool)) (*Report, error) {
	r := &Report{Names: n, KeptBy: -1, table: table}
	queued := r.lookAtQueue()
	seen, err := notice.Read(n.Notice)
	begin := time.Now()
	for pause := time.Millisecond; errors.Is(err, fs.ErrNotExist) && len(queued) > 0 && time.Since(begin) < passing; pause = min(2*pause, maxPause) {
		// The room is locked and there is no notice: somebody is on the way in
		// or out, which takes microseconds, or leaves the path free for peers.
		time.Sleep(pause)
		seen, err = notice.Read(n.Notice)
		queued = r.lookAtQueue()
	}
	switch {
	case inode.IsGone(err):
		if err := n.exists(); err != nil {
			return nil, err
		}
		r.State = StateFree
		if time.Since(begin) >= passing { // check: unannounced
			r.withoutNotice(queued)
		}
		return r, nil
	case errors.Is(err, ErrNotRegular):
		r.State, r.Evidence = StateInvalid, "it is not a regular file"
		return r, nil
	case err != nil:
		return nil, err
	}
	r.seen, r.ID, r.KeptBy = seen, identity(seen), keptBy(n.Notice, seen.UID)
	j := &judge.Facts{Me: proc.Self(), Processes: judge.Here{}, Now: opts.Now().UnixMilli(), Timeout: opts.StaleTimeout, ByAge: opts.Stale == StaleAge, Named: n.named()}
	j.ClockMoved = ledger.Last(r.Names.State).ClockMoved(j.Me.Booted(j.Now))
	r.Age = max(0, notice.Since(j.Now, seen.Info.Timestamp))
	if why := seen.Alien(j.Named); why != "" || seen.Err != nil {
		j.Unchanged = max(0, time.Duration(j.Now-seen.Changed)*time.Millisecond)
		v := j.Of(seen)
		r.State, r.Stale, r.Evidence, r.Age, r.alien = StateInvalid, v.Stale, v.Why, j.Unchanged, v.Alien
		if r.alien {
			r.Evidence = "it is not a lock file: " + v.Why
		}
		r.waitBefore(queued)
		return r, nil
	}
	h := holderOf(seen.Info)
	r.Holder = &h
	if !seen.Info.Dated {
		r.Age = max(0, time.Duration(j.Now-seen.Changed)*time.Millisecond)
	}
	if h.Dblock {
		r.Age = max(0, time.UnixMilli(j.Now).Sub(h.Acquired))
		r.stateOfDblock(j, queued)
		return r, nil
	}
	v := j.Of(seen)
	r.State, r.Stale, r.Evidence = StateForeign, v.Stale, v.Why
	if v.Stale {
		r.State = StateStale
	}
	r.waitBefore(queued)
	return r, nil
}

// passing is how long the room may be locked without a notice by one that is on its
// way in or out, with time to spare on a busy machine.
const passing = 2 * claim.GapFor

// withoutNotice says who keeps the room though the notice is gone: what a killed dblock
// has left running, after somebody deleted its lock file, or a program that locks
// the room and announces nothing.
func (r *Report) withoutNotice(inRoom []proc.Claim) {
	if len(inRoom) == 0 || slices.ContainsFunc(inRoom, func(c proc.Claim) bool { return c.PID == os.Getpid() }) {
		return
	}
	for _, c := range inRoom {
		if proc.Look(c.PID) == proc.Alive {
			r.Owners = append(r.Owners, describe(c.PID))
		}
	}
	if len(r.Owners) > 0 {
		r.State = StateHeld
		r.Evidence = fmt.Sprintf("process %d has the kernel lock, and there is no lock file", r.Owners[0].PID)
		return
	}
	r.findOrphans()
	r.State = StateOrphaned
	r.Evidence = fmt.Sprintf("the dblock that held the lock (process %d) was killed, and its lock file was deleted, but its command runs on and keeps the kernel lock", inRoom[0].PID)
}

// stateOfDblock finds out, from the kernel's table if it shows this lock, whether
// the dblock that wrote the notice still holds it.
func (r *Report) stateOfDblock(j *judge.Facts, inRoom []proc.Claim) {
	i := r.seen.Info
	r.State = StateHeld
	if i.Dblock.Mode == notice.Shared {
		r.State = StateShared
	}
	if i.Dblock.Boot != j.Me.Boot || !j.Sees(i.Dblock) || !r.WaitersKnown {
		// The beat is all there is.
		v := j.Of(r.seen)
		if v.Stale && r.State == StateShared && r.ends() && notice.Since(j.Now, i.Timestamp) < 2*maxBeat {
			// The one that wrote last has left. Any other one would write in its turn.
			r.Evidence = fmt.Sprintf("process %d has gone, and other readers may be left", i.PID)
			return
		}
		if v.Stale || !j.Fresh(i) {
			r.State, r.Stale, r.Evidence = StateStale, v.Stale, v.Why
			switch {
			case v.Stale && !r.WaitersKnown:
				r.Evidence += ", but its command may run on"
			case !v.Stale:
				r.Evidence = fmt.Sprintf("last sign of life %s ago, longer than the stale timeout", notice.Since(j.Now, i.Timestamp))
			}
			return
		}
		r.Evidence = "refreshed lately"
		if r.ends() && j.Owns(i) {
			r.Evidence = v.Why
		}
		return
	}
	alive := slices.ContainsFunc(inRoom, func(c proc.Claim) bool {
		return proc.Look(c.PID) == proc.Alive && (i.Dblock.Mode == notice.Shared || c.PID == i.PID)
	})
	switch {
	case alive && r.State == StateShared:
		for _, c := range inRoom {
			p := describe(c.PID)
			p.Mode = Shared
			r.Readers = append(r.Readers, p)
		}
		r.nameReader()
		r.Evidence = fmt.Sprintf("%d readers hold the kernel lock", len(r.Readers))
		if len(r.Readers) == 1 {
			r.Evidence = "one reader holds the kernel lock"
		}
		r.lookAtRest()
	case alive:
		r.lookAtRest()
		r.Evidence = fmt.Sprintf("process %d is alive and holds the kernel lock", i.PID)
		if st, ok := proc.Stat(i.PID); ok {
			if age, ok := proc.Age(st.Started); ok {
				r.Evidence += ", started " + time.UnixMilli(j.Now).Add(-age).Format("15:04:05")
			}
		}
	case len(inRoom) > 0 && proc.Look(i.PID) != proc.Alive:
		if slices.ContainsFunc(inRoom, func(c proc.Claim) bool { return proc.Look(c.PID) == proc.Alive }) {
			// The next one has the room in hand and is about to take over.
			r.State, r.Stale, r.Evidence = StateStale, true, fmt.Sprintf("the dblock that held it (process %d) has gone", i.PID)
			return
		}
		r.findOrphans()
		r.State, r.Evidence = StateOrphaned, fmt.Sprintf("the dblock that held the lock (process %d) was killed, but its command runs on and keeps the kernel lock", i.PID)
	case j.Owns(i) && j.Fresh(i):
		// Its room was deleted, or this filesystem shows other inodes in the table.
		r.Evidence = fmt.Sprintf("process %d is alive and refreshes it", i.PID)
	default:
		r.State, r.Stale, r.Evidence = StateStale, true, fmt.Sprintf("the dblock that held it (process %d) has gone", i.PID)
	}
}

// findOrphans lists who keeps the room that nobody alive has locked.
func (r *Report) findOrphans() {
	room, _ := r.Names.identifyRoom()
	for _, h := range proc.Holding(room) {
		r.Orphans = append(r.Orphans, h.PID)
		r.Left = append(r.Left, describe(h.PID))
	}
}

// exists reports whether there is a directory for the lock: a *fs.PathError if not.
func (n Names) exists() error {
	dir := filepath.Dir(n.Notice)
	info, err := os.Stat(dir)
	if err == nil && !info.IsDir() {
		err = &fs.PathError{Op: "open", Path: dir, Err: syscall.ENOTDIR}
	}
	if inode.IsGone(err) {
		return err
	}
	return nil
}

// keptBy is the owner of a lock file that this user may not remove, since the directory is
// sticky; -1 if he may.
func keptBy(path string, owner int) int {
	me := os.Geteuid()
	info, err := os.Stat(filepath.Dir(path))
	if err != nil || info.Mode()&fs.ModeSticky == 0 || me == 0 || me == owner {
		return -1
	}
	if st, ok := info.Sys().(*syscall.Stat_t); !ok || int(st.Uid) == me {
		return -1
	}
	return owner
}

// lookAtRest lists what a holder waits for whose command was ended.
func (r *Report) lookAtRest() {
	dir, err := inode.OpenDir(r.Names.State)
	if err != nil {
		return
	}
	defer dir.Close()
	room, err := queue.Existing(dir.At(roomName))
	if err != nil {
		return
	}
	defer room.Close()
	if ending, _ := room.Shown(queue.Ending); !ending {
		return
	}
	holders := []int{r.Holder.PID}
	if id, err := room.ID(); err == nil && r.State == StateShared {
		holders = nil
		for _, p := range r.Readers {
			if proc.Signs(p.PID, id, int(queue.Ending)) {
				holders = append(holders, p.PID)
			}
		}
	}
	for _, pid := range holders {
		members, _ := tree.Of(pid, 0)
		for _, p := range members {
			r.Remaining = append(r.Remaining, member(p))
		}
	}
}

// nameReader makes the holder one reader. The lock file has the words of the one that made
// it, and the pid of the one that wrote to it last.
func (r *Report) nameReader() {
	// Several may have been started within one tick of the clock: of those the one that
	// says the same of itself, or else the one that was forked first.
	first := -1
	for i, p := range r.Readers {
		if st, ok := proc.Stat(p.PID); !ok || st.Started != r.seen.Info.Dblock.Started {
			continue
		}
		same := func(p Process) bool { return p.Process == r.Holder.Process }
		if first < 0 || same(p) && !same(r.Readers[first]) || same(p) == same(r.Readers[first]) && p.PID < r.Readers[first].PID {
			first = i
		}
	}
	if first >= 0 {
		r.Holder.PID = r.Readers[first].PID
		return
	}
	at := max(0, slices.IndexFunc(r.Readers, func(p Process) bool { return p.PID == r.Holder.PID }))
	p, h := r.Readers[at], r.Holder
	h.PID, h.Process, h.Command, h.Info, h.UID = p.PID, p.Process, p.Command, p.Info, p.UID
	if h.Process == "" {
		h.Process = "dblock"
	}
}

// lookAtQueue lists who waits, in order, and returns who is in the room.
func (r *Report) lookAtQueue() (inRoom []proc.Claim) {
	dir, err := inode.OpenDir(r.Names.State)
	if err != nil {
		r.Waiters, r.Stopped, r.WaitersKnown = nil, nil, inode.IsGone(err)
		if errors.Is(err, fs.ErrPermission) {
			r.Barred = err
		}
		return nil
	}
	defer dir.Close()
	// The kernel's table can leave out a line while others lock and unlock. The signs say
	// that somebody is there, though not who: for that the table is read again.
	for again := 0; ; again++ {
		inRoom, whole := r.readQueue(dir)
		if whole || again == tableReadings {
			return inRoom
		}
	}
}

// tableReadings is how often the kernel's table is read again that lacks what the signs show.
// In another pid namespace it always does.
const tableReadings = 2

// readQueue does that with one reading of the kernel's table; whole is false if somebody
// who shows a sign is not in it.
func (r *Report) readQueue(dir *inode.Dir) (inRoom []proc.Claim, whole bool) {
	r.Waiters, r.Stopped, r.WaitersKnown = nil, nil, true
	all, known := r.table()
	if !known {
		r.WaitersKnown = false
		return nil, true
	}
	whole = true
	for _, at := range []struct {
		name string
		p    Priority
	}{{roomName, High}, {turnstileName(High), High}, {turnstileName(Normal), Normal}, {turnstileName(Low), Low}} {
		id, err := dir.At(at.name).Identify()
		if err != nil {
			continue
		}
		has, waits := false, false
		// A table that changes while it is read can show a line twice.
		for _, c := range all.Claims(id) {
			r.noteStopped(c)
			has, waits = has || !c.Waiting, waits || c.Waiting
			switch {
			case c.Waiting && !slices.ContainsFunc(r.Waiters, func(p Process) bool { return p.PID == c.PID }):
				p := describe(c.PID)
				if at.p < p.Priority {
					p.Priority = at.p
				}
				if c.Shared {
					p.Mode = Shared
				}
				r.Waiters = append(r.Waiters, p)
			case !c.Waiting && at.name == roomName && !slices.Contains(inRoom, c):
				inRoom = append(inRoom, c)
			}
		}
		taken, awaited := queue.Signs(dir.At(at.name))
		whole = whole && (has || !taken) && (waits || !awaited) // check: table-again: (has || -> true || (has ||
	}
	return inRoom, whole
}

// noteStopped lists one that has locked a file of the queue and does not run.
func (r *Report) noteStopped(c proc.Claim) {
	if !c.Waiting && proc.Stopped(c.PID) && !slices.ContainsFunc(r.Stopped, func(p Process) bool { return p.PID == c.PID }) {
		r.Stopped = append(r.Stopped, describe(c.PID))
	}
}

// waitBefore counts those who have the room, but wait for a foreign holder, as
// the first in the queue.
func (r *Report) waitBefore(inRoom []proc.Claim) {
	var first []Process
	for _, c := range inRoom {
		p := describe(c.PID)
		if c.Shared {
			p.Mode = Shared
		}
		first = append(first, p)
	}
	r.Waiters = append(first, r.Waiters...)
}

func holderOf(i notice.Info) Holder {
	h := Holder{PID: i.PID, Host: i.Host, Process: i.Process}
	if i.Dated {
		h.Timestamp = time.UnixMilli(i.Timestamp)
	}
	if d := i.Dblock; d != nil {
		h.Dblock, h.Token, h.UID, h.Command, h.Info = true, d.Token, d.UID, d.Command, d.Info
		h.Acquired = time.UnixMilli(d.Acquired)
		if d.Mode == notice.Shared {
			h.Mode = Shared
		}
	}
	return h
}

// identity names a notice such that no later one has the same name.
func identity(s *notice.Sighting) string {
	if d := s.Info.Dblock; d != nil {
		return d.ID
	}
	sum := fnv.New64a()
	_, _ = sum.Write(s.Bytes)
	return fmt.Sprintf("%x-%x", s.ID.Ino, sum.Sum64())
}

// describe finds out what can be known of a process from its command line.
func describe(pid int) Process {
	p := Process{PID: pid, UID: proc.Owner(pid), Stopped: proc.Stopped(pid)}
	if st, ok := proc.Stat(pid); ok {
		p.Age, _ = proc.Age(st.Started)
	}
	argv := proc.Command(pid)
	if len(argv) == 0 {
		return p
	}
	p.Command = filepath.Base(argv[0])
	if p.Command != "dblock" {
		return p
	}
	p.Dblock = true
	env := proc.Environ(pid)
	p.Process, p.Info = env["DBLOCK_PROCESS"], env["DBLOCK_INFO"]
	p.Priority = priorityOf(env["DBLOCK_PRIORITY"])
	if env["DBLOCK_SHARED"] == "1" || env["DBLOCK_SHARED"] == "true" {
		p.Mode = Shared
	}
	p.readArgs(argv[1:])
	if served := proc.Serves(pid); served != 0 {
		p.Command = proc.Program(served)
	}
	return p
}

// member is a process of a tree.
func member(p tree.Process) Process {
	return Process{PID: p.PID, Command: p.Name, UID: proc.Owner(p.PID), Stopped: p.Stopped()}
}

// readArgs picks from a dblock's arguments what the queue cannot tell.
func (p *Process) readArgs(args []string) {
	for i := 0; i < len(args); i++ {
		arg := args[i]
		name, value, inline := strings.Cut(arg, "=")
		next := func() string {
			if !inline && i+1 < len(args) {
				i++
				value = args[i]
			}
			return value
		}
		switch {
		case arg == "--":
			if i+1 < len(args) {
				p.Command = filepath.Base(args[i+1])
			}
			return
		case !strings.HasPrefix(arg, "-"):
			if i == 0 && (arg == "run" || arg == "hold") {
				continue
			}
			p.Command = filepath.Base(arg)
			return
		}
		switch name {
		case "-s", "--shared":
			p.Mode = Shared
		case "-x", "--exclusive":
			p.Mode = Exclusive
		case "-n", "--nonblock", "-o", "--close", "-q", "--quiet", "-v", "--verbose":
		case "-p", "--process":
			p.Process = next()
		case "--info":
			p.Info = next()
		case "--priority":
			p.Priority = priorityOf(next())
		case "-c", "--command":
			next()
			p.Command = "sh -c"
		default:
			if strings.HasPrefix(name, "--") || len(name) == 2 {
				next()
			}
		}
	}
}

func priorityOf(s string) Priority {
	switch s {
	case "low":
		return Low
	case "high":
		return High
	}
	return Normal
}
