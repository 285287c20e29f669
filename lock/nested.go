package lock

import (
	"context"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/dblock-dev/dblock/lock/internal/notice"
	"github.com/dblock-dev/dblock/lock/internal/proc"
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
		o := outer{t, p, path}
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
		mode, live := o.live(a.names, a.me)
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
		h.attendLater()
		return h, nil
	}
	return nil, nil
}

// about reports whether the hold is of the lock with these names. A directory that
// is mounted at two places has two names, and the files in it are the same.
func (o outer) about(n Names) bool {
	if o.path == n.Notice {
		return true
	}
	theirs, err1 := notice.Identify(Names{State: o.path + ".d"}.room())
	ours, err2 := notice.Identify(n.room())
	return err1 == nil && err2 == nil && theirs == ours
}

// live reports whether the hold is still there and an ancestor of ours has it:
// its process must be the one around us, and either the notice or the kernel
// must say that it holds. The notice alone may be missing for the moment between
// a peer's unlink and our side's heal.
func (o outer) live(n Names, me proc.Me) (Mode, bool) {
	if around, known := proc.Descends(o.pid); known && !around || !known && proc.Look(o.pid) != proc.Alive {
		return 0, false
	}
	seen, err := notice.Read(n.Notice)
	if err == nil && seen.Info.Dblock != nil && seen.Info.Dblock.Boot == me.Boot {
		d := seen.Info.Dblock
		if d.Mode == notice.Exclusive && d.Token == o.token && seen.Info.PID == o.pid { // check: live-token: d.Token == o.token -> true
			return Exclusive, true
		}
		if d.Mode == notice.Exclusive && proc.Look(seen.Info.PID) == proc.Alive {
			return 0, false
		}
	}
	room, err := n.identifyRoom()
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

// lookOuter checks that the hold we lean on is still there. When it is over
// while our command goes on, the lock is taken by ourselves if that is possible
// at once, and else it counts as lost.
func (h *hold) lookOuter() {
	if h.ended || h.lost != nil || h.successor != nil {
		return
	}
	if _, live := h.outer.live(h.names, h.me); live {
		return
	}
	l := New(h.db, h.opts)
	l.opts.Wait, l.opts.Unattended = NoWait, false
	a := newAttempt(l, h.names)
	own, err := a.run(context.Background())
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
