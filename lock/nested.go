package lock

import (
	"context"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/dblock-dev/dblock/lock/internal/notice"
	"github.com/dblock-dev/dblock/lock/internal/proc"
	"github.com/dblock-dev/dblock/lock/internal/queue"
)

// The environment in which a command finds the lock that it runs under. These
// names are no flags' variables, which are the user's.
const (
	EnvHold     = "DBLOCK_HOLD_" // what all of them begin with
	EnvDB       = EnvHold + "DB"
	EnvLockFile = EnvHold + "LOCK_FILE"
	EnvPID      = EnvHold + "PID"
	EnvToken    = EnvHold + "TOKEN"
	EnvMode     = EnvHold + "MODE"
	// EnvOuter lists the holds around that one: a line each of TOKEN:PID:PATH. In
	// the path a line feed is written %0A, and a percent sign %25.
	EnvOuter = EnvHold + "OUTER"
)

var (
	escapeLine   = strings.NewReplacer("%", "%25", "\n", "%0A")
	unescapeLine = strings.NewReplacer("%25", "%", "%0A", "\n")
)

// outer is a hold of an enclosing dblock, as the environment tells of it.
type outer struct {
	token int64
	pid   int
	path  string

	hidden bool // its process cannot be seen from here
	seen   bool // its notice was there, in this mode
	mode   Mode
}

// Enclosing returns what EnvOuter must say for a command that runs under g: the
// holds that this process itself runs under, except g's. It is empty if there
// are none.
func Enclosing(g Grant) string {
	var lines []string
	for _, o := range outers() {
		if o.path != g.Notice {
			lines = append(lines, strconv.FormatInt(o.token, 10)+":"+strconv.Itoa(o.pid)+":"+escapeLine.Replace(o.path))
		}
	}
	return strings.Join(lines, "\n")
}

func outers() []outer {
	var found []outer
	add := func(token, pid, path string) {
		t, err1 := strconv.ParseInt(token, 10, 64)
		p, err2 := strconv.Atoi(pid)
		o := outer{token: t, pid: p, path: path}
		if err1 == nil && err2 == nil && path != "" && !slices.Contains(found, o) {
			found = append(found, o)
		}
	}
	add(os.Getenv(EnvToken), os.Getenv(EnvPID), os.Getenv(EnvLockFile))
	for line := range strings.SplitSeq(os.Getenv(EnvOuter), "\n") {
		if f := strings.SplitN(line, ":", 3); len(f) == 3 {
			add(f[0], f[1], unescapeLine.Replace(f[2]))
		}
	}
	return found
}

// lean finds an enclosing dblock that holds this lock now. Then there is nothing
// to take, and taking it could only be a deadlock. What the environment says is
// not believed but checked; what does not hold makes us an ordinary stranger.
func (a *attempt) lean() (*hold, error) {
	for _, o := range outers() {
		if !o.about(a.names) {
			continue
		}
		mode, live := a.live(&o)
		if !live {
			if room, err := a.names.identifyRoom(); err == nil && proc.Holds(room) { // check: own-descriptor
				return nil, ErrOrphan
			}
			continue
		}
		if mode == Shared && a.opts.Mode == Exclusive {
			return nil, ErrUpgrade
		}
		h := &hold{attempt: a, lostc: make(chan struct{}), stop: make(chan struct{}), outer: &o}
		a.info = a.describe()
		h.grant = Grant{Names: a.names, Holder: holderOf(a.info), Leaned: true, LeanedPID: o.pid}
		h.grant.Mode = mode
		h.grant.Token = o.token
		a.openRoom()
		h.attendLater()
		return h, nil
	}
	return nil, nil
}

// openRoom opens the room and locks nothing. The command inherits it, so if this
// hold outlives the one that it leans on, and locks the very same open file, the
// command keeps that even when we are killed.
func (a *attempt) openRoom() {
	dir, err := notice.OpenDir(a.names.State)
	if err != nil {
		return
	}
	defer dir.Close()
	f, err := queue.Existing(dir.At(roomName))
	if err != nil {
		return // where flock does not work there is none
	}
	if f.Raise() != nil {
		f.Close()
		return
	}
	a.room = f
}

// about reports whether the hold is of the lock with these names. A directory that
// is mounted at two places has two names, and the files in it are the same.
func (o outer) about(n Names) bool {
	if o.path == n.Notice {
		return true
	}
	theirs, err1 := Names{State: o.path + ".d"}.identifyRoom()
	ours, err2 := n.identifyRoom()
	return err1 == nil && err2 == nil && theirs == ours
}

// live reports whether the hold is still there and is around us: its process is an
// ancestor of ours, and either the notice or the kernel says that it holds. The
// notice alone may be missing for the moment between a peer's unlink and our side's
// heal. Where its process cannot be seen, what we have inherited must prove it.
func (a *attempt) live(o *outer) (Mode, bool) {
	seen, err := notice.Read(a.names.Notice)
	var d *notice.Dblock
	if err == nil && seen.Info.Dblock != nil && seen.Info.Dblock.Boot == a.me.Boot {
		d = seen.Info.Dblock
		if o.ours(seen) {
			o.hidden = d.PIDNS != a.me.PIDNS // its number is that of another process here
		}
	}
	around, known := proc.Descends(o.pid)
	if o.hidden || !known && proc.Complete {
		return a.inherited(o, seen, d)
	}
	if known && !around || !known && proc.Look(o.pid) != proc.Alive {
		return 0, false
	}
	if d != nil {
		if d.Mode == notice.Exclusive && o.ours(seen) {
			return Exclusive, true
		}
		if d.Mode == notice.Exclusive && proc.Look(seen.Info.PID) == proc.Alive {
			return 0, false
		}
	}
	room, err := a.names.identifyRoom()
	if err != nil {
		return 0, false
	}
	claims, _ := proc.Claims(room)
	for _, c := range claims {
		if c.PID == o.pid && !c.Waiting {
			if c.Shared {
				return Shared, true
			}
			return Exclusive, true
		}
	}
	return 0, false
}

// ours reports whether a notice is that of the hold.
func (o *outer) ours(seen *notice.Sighting) bool {
	return seen.Info.Dblock.Token == o.token && seen.Info.PID == o.pid // check: live-token: seen.Info.Dblock.Token == o.token -> true
}

// inherited is live for a process that is hidden from us, in another pid namespace
// or by the way /proc is mounted. Anybody can read a notice and set variables after
// it; but only what runs under a hold has its locked room among its descriptors. The
// notice's beats tell whether the hold's process lives.
func (a *attempt) inherited(o *outer, seen *notice.Sighting, d *notice.Dblock) (Mode, bool) {
	room, err := a.names.identifyRoom()
	if err != nil || !proc.Holds(room) && !a.signed(room) { // check: hidden-holder
		return 0, false
	}
	switch {
	case d == nil:
		// It is gone for the moment; whom it belonged to was seen before.
		return o.mode, o.seen && seen == nil
	case notice.Since(a.now(), seen.Info.Timestamp) > a.opts.StaleTimeout:
		return 0, false
	case d.Mode == notice.Shared:
		o.mode, o.seen = Shared, true
	case o.ours(seen):
		o.mode, o.seen = Exclusive, true
	default:
		return 0, false
	}
	return o.mode, true
}

// lookOuter checks that the hold we lean on is still there. When it is over
// while our command goes on, the lock is taken by ourselves if that is possible
// at once, and else it counts as lost.
func (h *hold) lookOuter() {
	if h.ended || h.lost != nil || h.successor != nil {
		return
	}
	if _, live := h.live(h.outer); live {
		return
	}
	l := New(h.db, h.opts)
	l.opts.Wait, l.opts.Unattended = NoWait, false
	a := newAttempt(l, h.names)
	a.bequeathed, h.room = h.room, nil
	own, err := a.run(context.Background())
	a.bequeathed.Close()
	if err != nil {
		h.lose("the enclosing dblock has ended, and the lock could not be taken", nil)
		return
	}
	h.successor = own
	go func() {
		select {
		case <-own.lostc:
			h.mu.Lock()
			defer h.mu.Unlock()
			h.lost = own.lost
			close(h.lostc)
		case <-h.stop:
		}
	}()
}
