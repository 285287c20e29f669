package lock

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/internal/tree"
	"github.com/dblock-dev/dblock/lock/internal/inode"
	"github.com/dblock-dev/dblock/lock/internal/proc"
	"github.com/dblock-dev/dblock/lock/internal/queue"
)

// unstuck is how long a dblock has to let go when all that it waits for has gone.
const unstuck = time.Second

// ending is the end, by force, of those who have a lock or a place in its queue.
type ending struct {
	of    *Report
	opts  BreakOptions
	room  inode.ID
	roots []*target // dblocks; or what a killed dblock has left
	rest  []*target // what the roots have started
	dead  []int     // dblocks that were killed; their locks live on in what they have left
	begin time.Time
	told  bool // that we wait

	commands map[int]int // what each root runs
}

// target is a process that is to end.
type target struct {
	handle  *proc.Handle
	process Process
	started uint64 // clock ticks since boot, where it is one of a tree
	stopped bool   // it was found stopped in the queue
	told    bool   // it got a signal
}

// end ends all who are shown to have the lock: SIGTERM to the dblocks, which pass it
// on and keep the lock until all that they have started has gone, then SIGKILL to
// that. A dblock is killed only if it does not let go then: it may be the only one
// who knows what it has started. Whom it has ended it writes down in b.
func (r *Report) end(ctx context.Context, opts BreakOptions, b *Broken) error {
	e := &ending{of: r, opts: opts, begin: time.Now()}
	defer e.close()
	room, err := r.Names.genuine(roomName)
	if err != nil && !inode.IsGone(err) {
		return err
	}
	e.room = room
	if err := e.find(); err != nil || len(e.roots) == 0 {
		return err
	}
	opts.Tell(BreakEnding, processesOf(e.roots))
	e.remember()
	before := processesOf(slices.Concat(e.roots, e.rest))
	err = e.run(ctx)
	b.Ended = e.pids()
	b.Left = processesOf(living(slices.Concat(e.roots, e.rest)))
	b.Gone = e.gone(before, b.Left)
	return err
}

// Condemned lists the processes that Break would end now, if it had consent: those that
// have the lock, and what they have started. The error is an *OthersError if they are
// another user's.
func (r *Report) Condemned() ([]Process, error) {
	e := &ending{of: r}
	defer e.close()
	room, err := r.Names.genuine(roomName)
	if err != nil && !inode.IsGone(err) {
		return nil, err
	}
	e.room = room
	if err := e.find(); err != nil {
		return nil, err
	}
	e.remember()
	return processesOf(slices.Concat(e.roots, e.rest)), nil
}

func (e *ending) run(ctx context.Context) error {
	if err := e.ask(); err != nil {
		return err
	}
	if !e.wait(ctx, e.opts.KillAfter, e.ended) {
		// Nobody can refuse this, however impatient the caller is.
		if err := e.kill(ctx, max(e.opts.KillAfter, DefaultKillAfter)); err != nil {
			return err
		}
	}
	return e.clear(ctx)
}

func (e *ending) close() {
	for _, t := range slices.Concat(e.roots, e.rest) {
		t.handle.Close()
	}
}

// find collects the processes that have the lock, and those that are stopped in the
// queue.
func (e *ending) find() error {
	if e.of.ends() {
		pids := e.of.Orphans
		if e.of.State != StateOrphaned {
			pids = e.owners()
		}
		if e.of.State == StateHeld && e.of.Holder != nil && !slices.Contains(pids, e.of.Holder.PID) {
			pids = append(pids, e.of.Holder.PID)
		}
		for _, pid := range pids {
			if err := e.add(pid, false, e.shows); err != nil {
				return err
			}
		}
		if e.of.State == StateOrphaned {
			e.dead = slices.DeleteFunc(e.owners(), func(pid int) bool { return proc.Look(pid) == proc.Alive })
			for _, root := range slices.Clone(e.roots) {
				e.addTree(root.handle.PID, &e.roots)
			}
		}
	}
	for _, p := range e.of.Stopped {
		if err := e.add(p.PID, true, e.queues); err != nil {
			return err
		}
	}
	return nil
}

// add makes a process a root if it is shown to be concerned. The handle comes first:
// what is shown afterwards is true of the process that the handle refers to, or that
// one has ended and no signal reaches anybody.
func (e *ending) add(pid int, stopped bool, shown func(int) (bool, error)) error {
	if pid <= 0 || pid == os.Getpid() || slices.ContainsFunc(e.roots, func(t *target) bool { return t.handle.PID == pid }) {
		return nil
	}
	h, err := proc.Hold(pid)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return err
	}
	yes, err := shown(pid)
	if !yes { // check: shown-to-hold
		h.Close()
		return err
	}
	e.roots = append(e.roots, &target{handle: h, process: describe(pid), stopped: stopped})
	return nil
}

// shows reports whether a process has the lock: a lock of the room; or, where the
// room is gone or cannot be locked, the notice, open for writing, as its owner.
func (e *ending) shows(pid int) (bool, error) {
	yes, known := proc.Has(strconv.Itoa(pid), e.room)
	switch {
	case yes && e.planted(pid):
		return false, &OthersError{Process: describe(pid), Planted: true}
	case yes:
		return true, nil
	case !known && slices.Contains(e.owners(), pid):
		return false, notOurs(pid)
	case e.of.seen == nil:
		return false, nil
	}
	owner := proc.Owner(pid)
	return proc.Writes(pid, e.of.seen.ID, e.of.Names.Notice, filepath.Join(e.of.Names.State, spareName)) && (owner == -1 || owner == e.of.seen.UID), nil
}

// planted reports whether a process of root's may have been given the lock by somebody who
// wants root to end it: an open file can be sent to any process that accepts one. Where
// others may write, only a lock file of root's speaks against that, or that it has taken the
// lock itself.
func (e *ending) planted(pid int) bool {
	if os.Geteuid() != 0 || proc.Owner(pid) != 0 || e.of.seen != nil && e.of.seen.UID == 0 || slices.Contains(e.owners(), pid) {
		return false
	}
	var st unix.Stat_t
	err := unix.Stat(filepath.Dir(e.of.Names.Notice), &st)
	return err != nil || st.Uid != 0 || st.Mode&0o022 != 0
}

// genuine identifies a state file, which must be one: somebody may have given that name
// to a file that another process, which has nothing to do with this lock, has locked.
func (n Names) genuine(name string) (inode.ID, error) {
	dir, err := inode.OpenDir(n.State)
	if err != nil {
		return inode.ID{}, err
	}
	defer dir.Close()
	f, err := queue.Existing(dir.At(name))
	if err != nil {
		return inode.ID{}, err
	}
	defer f.Close()
	return f.ID()
}

// queues reports whether a stopped process has a place in the queue.
func (e *ending) queues(pid int) (bool, error) {
	for _, name := range []string{roomName, turnstileName(High), turnstileName(Normal), turnstileName(Low)} {
		id, err := e.of.Names.genuine(name)
		if err != nil {
			continue
		}
		if yes, known := proc.Has(strconv.Itoa(pid), id); yes && proc.Stopped(pid) {
			return true, nil
		} else if !known {
			return false, notOurs(pid)
		}
	}
	return false, nil
}

// OthersError says that a process which is to be ended is another user's. It unwraps to
// fs.ErrPermission.
type OthersError struct {
	Process Process
	Planted bool // it is root's, and may have been sent the lock's open file by anybody
}

func (e *OthersError) Error() string {
	return fmt.Sprintf("process %d belongs to user %d: %v", e.Process.PID, e.Process.UID, fs.ErrPermission)
}

// Unwrap returns fs.ErrPermission.
func (e *OthersError) Unwrap() error { return fs.ErrPermission }

func notOurs(pid int) error { return &OthersError{Process: describe(pid)} }

// owners are the processes that took the locks of the room that are held now. They
// need not live any more.
func (e *ending) owners() []int {
	var pids []int
	claims, _ := proc.Claims(e.room)
	for _, c := range claims {
		if !c.Waiting {
			pids = append(pids, c.PID)
		}
	}
	return pids
}

// addTree adds what a process has started, and is not known yet, and reports
// whether there was any.
func (e *ending) addTree(root int, to *[]*target) bool {
	members, _ := tree.Of(root, e.commandOf(root))
	members = append(members, kept(root)...)
	for _, p := range members {
		known := func(t *target) bool { return t.handle.PID == p.PID && (t.started == 0 || t.started == p.Started) }
		if p.PID == os.Getpid() || slices.ContainsFunc(slices.Concat(e.roots, e.rest), known) {
			continue
		}
		if h, err := proc.Hold(p.PID); err == nil {
			if st, ok := proc.Stat(p.PID); !ok || st.Started != p.Started {
				h.Close()
				continue
			}
			*to = append(*to, &target{handle: h, process: member(p), started: p.Started})
		}
	}
	return len(members) > 0
}

// kept is the shell that a keeper is for, and what that has started: it works under the lock,
// and goes on without the keeper. A command line is anybody's text: nobody can make another
// user's process one that is to be ended.
func kept(keeper int) []tree.Process {
	shell := proc.Keeps(keeper)
	if proc.Owner(shell) != proc.Owner(keeper) { // check: kept-owner
		return nil
	}
	return tree.Whole(shell)
}

// commandOf is the child that a dblock runs, which may have begun a session: its first
// one, before anybody is told to end. After that a daemon may be the first.
func (e *ending) commandOf(root int) int {
	if len(e.of.Remaining) > 0 {
		return 0
	}
	if e.commands == nil {
		e.commands = map[int]int{}
	}
	command, known := e.commands[root]
	if !known {
		command = proc.FirstChild(root)
		e.commands[root] = command
	}
	return command
}

// ask sends SIGTERM, which a stopped process would not see.
func (e *ending) ask() error {
	for _, t := range e.roots {
		if err := t.send(unix.SIGTERM); err != nil {
			return err
		}
		if proc.Stopped(t.handle.PID) {
			if err := t.send(unix.SIGCONT); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *target) send(sig unix.Signal) error {
	err := t.handle.Signal(sig)
	t.told = t.told || err == nil
	switch {
	case errors.Is(err, unix.ESRCH):
		return nil
	case errors.Is(err, fs.ErrPermission):
		return notOurs(t.handle.PID)
	}
	return err
}

func living(ts []*target) []*target {
	return slices.DeleteFunc(slices.Clone(ts), func(t *target) bool { return t.handle.Ended() })
}

// ended reports whether all have ended, those too that a dblock would leave running
// which does not see to them.
func (e *ending) ended() bool {
	e.remember()
	return len(living(e.roots)) == 0 && len(living(e.rest)) == 0
}

// remember notes what the roots have started, as long as that can be found out.
func (e *ending) remember() {
	e.rest = slices.DeleteFunc(e.rest, func(t *target) bool {
		ended := !t.told && t.handle.Ended()
		if ended {
			t.handle.Close()
		}
		return ended
	})
	for _, root := range living(e.roots) {
		e.addTree(root.handle.PID, &e.rest)
	}
}

// wait looks again when a root ends, and else less and less often: each look is one
// at all processes.
func (e *ending) wait(ctx context.Context, patience time.Duration, done func() bool) bool {
	pause := 10 * time.Millisecond
	for end := time.Now().Add(patience); !done(); pause = min(2*pause, maxPause) {
		left := time.Until(end)
		if left <= 0 || ctx.Err() != nil {
			return false
		}
		if !e.told && time.Since(e.begin) > time.Second {
			e.told = true
			e.opts.Tell(BreakWaiting, e.left())
		}
		var hs []*proc.Handle
		for _, t := range living(e.roots) {
			hs = append(hs, t.handle)
		}
		proc.Await(hs, min(pause, left))
	}
	return true
}

// left is what is waited for: what the dblocks have started, or else they themselves.
func (e *ending) left() []Process {
	if rest := living(e.rest); len(rest) > 0 {
		return processesOf(rest)
	}
	return processesOf(living(e.roots))
}

// kill sends SIGKILL to all that the dblocks have started, as long as there is
// something, and to a dblock only when it has not let go a while after that.
func (e *ending) kill(ctx context.Context, patience time.Duration) error {
	var failed error
	lastSeen := time.Now()
	stage := func() bool {
		for _, root := range living(e.roots) {
			if e.addTree(root.handle.PID, &e.rest) {
				lastSeen = time.Now()
			}
			failed = errors.Join(failed, root.letGo(e.of.State, time.Since(lastSeen)))
		}
		for _, t := range living(e.rest) {
			failed = errors.Join(failed, t.send(unix.SIGKILL))
		}
		return failed != nil || len(living(e.roots)) == 0 && len(living(e.rest)) == 0
	}
	if e.wait(ctx, patience, stage) {
		return failed
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return &HeldError{Path: e.of.Names.Notice, Report: e.of}
}

// letGo makes a root end which has had no tree for so long.
func (t *target) letGo(state State, alone time.Duration) error {
	switch {
	case state == StateOrphaned || t.stopped || alone > unstuck: // it is no dblock, has started nothing, or is stuck
		return t.send(unix.SIGKILL)
	case proc.Stopped(t.handle.PID):
		return t.send(unix.SIGCONT)
	}
	return nil
}

// clear ends what a dblock that was killed, or had to be, has left with its lock: daemons
// that have inherited the open file, and what an orphan has started while it was ended.
func (e *ending) clear(ctx context.Context) error {
	took := append(e.pids(), e.dead...)
	var refused error
	cleared := func() bool {
		clear := !slices.ContainsFunc(e.owners(), func(pid int) bool { return slices.Contains(took, pid) })
		for _, h := range proc.Holding(e.room) {
			if !slices.ContainsFunc(h.Takers, func(pid int) bool { return pid == 0 || slices.Contains(took, pid) }) {
				continue
			}
			clear = false
			if e.planted(h.PID) {
				refused = &OthersError{Process: describe(h.PID), Planted: true}
				return true
			}
			if p, err := proc.Hold(h.PID); err == nil {
				t := &target{handle: p, process: describe(h.PID)}
				_ = t.send(unix.SIGKILL)
				e.rest = append(e.rest, t)
			}
		}
		return clear
	}
	if e.wait(ctx, max(e.opts.KillAfter, DefaultKillAfter), cleared) {
		return refused
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return &HeldError{Path: e.of.Names.Notice, Report: e.of}
}

// pids are those that got a signal.
func (e *ending) pids() []int {
	var pids []int
	for _, t := range slices.Concat(e.roots, e.rest) {
		if t.told {
			pids = append(pids, t.handle.PID)
		}
	}
	return pids
}

// gone are those that were there before, and those that got a signal, unless they are left.
func (e *ending) gone(before, left []Process) (all []Process) {
	add := func(p Process) {
		same := func(o Process) bool { return o.PID == p.PID }
		if !slices.ContainsFunc(all, same) && !slices.ContainsFunc(left, same) {
			all = append(all, p)
		}
	}
	for _, p := range before {
		add(p)
	}
	for _, t := range slices.Concat(e.roots, e.rest) {
		if t.told {
			add(t.process)
		}
	}
	return all
}

func processesOf(ts []*target) []Process {
	var ps []Process
	for _, t := range ts {
		ps = append(ps, t.process)
	}
	return ps
}
