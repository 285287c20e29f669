package lock

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

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

	around  bool   // it was seen that it is around us
	started uint64 // when its process was, in clock ticks since boot, if that was seen

	hidden bool      // its process cannot be seen from here
	seen   bool      // its notice was there, in this mode
	at     time.Time // when it was seen last, where that is all there is
	mode   Mode
}

// Variables are what a command that runs under these grants is told of them, name and value;
// those without a value are left out. Of several it is that of the first; the others are
// among the outer ones. Further names that begin with EnvHold are not to reach it.
func Variables(grants []Grant) [][2]string {
	g, waited := grants[0], time.Duration(0)
	for _, each := range grants {
		waited += each.Waited
	}
	vars := [][2]string{
		{EnvDB, g.Names.DB},
		{EnvLockFile, g.Names.Notice},
		{EnvPID, strconv.Itoa(g.Keeper())},
		{EnvHold + "HOST", g.Holder.Host},
		{EnvHold + "PROCESS", g.Holder.Process},
		{EnvHold + "TIMESTAMP", strconv.FormatInt(g.Holder.Timestamp.UnixMilli(), 10)},
		{EnvMode, g.Holder.Mode.String()},
		{EnvToken, strconv.FormatInt(g.Holder.Token, 10)},
		{EnvHold + "WAITED_MS", strconv.FormatInt(waited.Milliseconds(), 10)},
		{EnvOuter, Enclosing(grants)},
	}
	return slices.DeleteFunc(vars, func(v [2]string) bool { return v[1] == "" })
}

// Keeper is the pid of the process that holds the lock: this one, or the enclosing dblock.
func (g Grant) Keeper() int {
	if g.Leaned {
		return g.LeanedPID
	}
	return g.Holder.PID
}

// KeptFor is the process that a keeper, as `dblock hold` leaves one, keeps a lock for; 0 if
// pid is none, or that cannot be seen.
func KeptFor(pid int) int { return proc.Keeps(pid) }

// Program is what people call what a process runs: its program, or for a shell its script. It is
// empty if that is not known, and anybody's text.
func Program(pid int) string { return proc.Program(pid) }

// Enclosing returns what EnvOuter must say for a command that runs under these grants: all
// but the first of them, and the holds that this process itself runs under. It is empty if
// there are none.
func Enclosing(grants []Grant) string {
	var lines []string
	line := func(token int64, pid int, path string) {
		lines = append(lines, strconv.FormatInt(token, 10)+":"+strconv.Itoa(pid)+":"+escapeLine.Replace(path))
	}
	for _, g := range grants[1:] {
		line(g.Holder.Token, g.Keeper(), g.Names.Notice)
	}
	for _, o := range outers() {
		if !slices.ContainsFunc(grants, func(g Grant) bool { return g.Names.Notice == o.path }) {
			line(o.token, o.pid, o.path)
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

// about reports whether the hold is of the lock with these names. A directory that
// is mounted at two places has two names, and the files in it are the same.
func (o outer) about(n Names) bool {
	if o.path == n.Notice {
		return true
	}
	theirs, err1 := Names{State: o.path + stateSuffix}.identifyRoom()
	ours, err2 := n.identifyRoom()
	return err1 == nil && err2 == nil && theirs == ours
}

// enclosed reports whether a process descends from a holder, be it that holder itself, or from
// the one that the holder serves. known is false if the system does not tell.
func enclosed(process, holder int) (yes, known bool) {
	yes, known = proc.Under(process, holder)
	if yes || !known {
		return yes, known
	}
	served := proc.Serves(holder)
	if served == 0 {
		return false, true
	}
	yes, known = proc.Under(process, served)
	if !yes { // check: serves
		return false, known
	}
	return true, true
}
