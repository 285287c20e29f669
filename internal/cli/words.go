package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/dblock-dev/dblock/internal/term"
	"github.com/dblock-dev/dblock/lock"
)

// Subcommands are the first words that are not a command's.
var Subcommands = []string{"run", "status", "force", "log", "hold", "release", "session", "ls", "doctor", "completion"}

// Companions are the first words that are programs of their own, which dblock comes with.
var Companions = []string{"stats", "top"}

// IsCompanion reports whether a word is one of them.
func IsCompanion(word string) bool { return slices.Contains(Companions, word) }

// Remote names the companion that has the engine for a URL. The one for etcd has all engines, and is the greater one as a string,
// too; it starts later by what etcd's client needs for that.
func Remote(url string) string {
	if strings.HasPrefix(url, "etcd") {
		return "dblock-remote-etcd"
	}
	return "dblock-remote"
}

// Who names a holder: label (pid N on HOST).
func Who(h *lock.Holder) string {
	label := term.Clean(h.Process)
	if label == "" {
		label = "somebody"
	}
	where := "on " + term.Clean(h.Host)
	switch {
	case h.Host == "" && h.PID == 0:
		return label
	case h.Host == "":
		return fmt.Sprintf("%s (pid %d)", label, h.PID)
	case h.PID == 0:
		return fmt.Sprintf("%s (%s)", label, where)
	}
	return fmt.Sprintf("%s (pid %d %s)", label, h.PID, where)
}

// Name is a process as a message names it: its program, and its number. A dblock is told from
// the command that it runs or waits to run.
func Name(p lock.Process) string {
	pid := PID(p)
	switch {
	case p.Command == "":
		return pid
	case p.Dblock && p.Command != "dblock":
		return fmt.Sprintf("dblock for %s (%s)", term.Clean(p.Command), pid)
	}
	return fmt.Sprintf("%s (%s)", term.Clean(p.Command), pid)
}

// PID is a process's number, and its machine if that is another one.
func PID(p lock.Process) string {
	s := "pid " + strconv.Itoa(p.PID)
	if p.Host != "" {
		s += " on " + term.Clean(p.Host)
	}
	return s
}

// Deadlock says who waits for whom, and what prevents that.
func Deadlock(e *lock.DeadlockError) (text, hint string) {
	name := func(path string) string {
		if path == "" {
			return "another lock"
		}
		return term.Path(filepath.Base(path))
	}
	for i, d := range e.Cycle {
		who := fmt.Sprintf("; pid %d", d.Holder.PID)
		if command := term.Clean(d.Holder.Command); command != "" {
			who += " (" + command + ")"
		}
		if i == 0 {
			who = "deadlock: this command"
			hint = fmt.Sprintf("take both at once, with `-d %s -d %s`, in each of them", Quote(d.Holds), Quote(d.Waits))
		}
		text += fmt.Sprintf("%s holds %s and waits for %s", who, name(d.Holds), name(d.Waits))
	}
	return text, hint
}

// Info is what a user wants others to know, behind what a message says of him; empty if it is.
func Info(info string) string {
	if info == "" {
		return ""
	}
	return fmt.Sprintf(`, "%s"`, term.Clean(info))
}

// Orphaned says who has a lock whose dblock was killed.
func Orphaned(r *lock.Report) string {
	s := "held by an orphaned command: the dblock that held it was killed"
	if len(r.Left) == 0 {
		return s + ", and its command runs on"
	}
	return s + "; its command runs on: " + NamesOf(r.Left)
}

// NamesOf lists processes, the first of many.
func NamesOf(ps []lock.Process) string {
	const most = 5
	var s []string
	for _, p := range ps[:min(len(ps), most)] {
		s = append(s, Name(p))
	}
	if len(ps) > most {
		s = append(s, fmt.Sprintf("%d more", len(ps)-most))
	}
	return strings.Join(s, ", ")
}

// UserName names a user, by the number if the name is not known.
func UserName(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return term.Clean(u.Username)
	}
	return strconv.Itoa(uid)
}

// NoDirectory says that the directory of a lock does not exist, or that what should be one
// on the way there is something else.
func NoDirectory(dir string) string {
	if file := notDirectory(dir); file != "" {
		return term.Path(file) + " is not a directory"
	}
	return fmt.Sprintf("there is no directory %s: nothing is locked there, and nothing can be", term.Path(dir))
}

// Nowhere is the error about a lock in a directory that does not exist; another error it leaves
// as it is.
func Nowhere(err error, db, lockFile string) error {
	var path *fs.PathError
	if !errors.As(err, &path) || !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
		return err
	}
	if lockFile != "" {
		db = lockFile
	}
	return &ConflictError{
		Code: ExitCannotCreate, Err: err,
		Text: NoDirectory(path.Path),
		Hint: fmt.Sprintf("look whether %s is the right path, seen from this directory", Quote(db)),
	}
}

// notDirectory returns what stands where a path needs a directory, or "".
func notDirectory(dir string) string {
	for {
		info, err := os.Stat(dir)
		above := filepath.Dir(dir)
		switch {
		case err == nil && !info.IsDir():
			return dir
		case err == nil || above == dir:
			return ""
		}
		dir = above
	}
}

// WhyMissing words an error that tells of a missing directory, and the hint for it.
func WhyMissing(err error) (problem, hint string) {
	var path *fs.PathError
	if !errors.As(err, &path) || !filepath.IsAbs(path.Path) {
		return err.Error(), "create the directory of the database first"
	}
	dir := path.Path
	if path.Op != "stat" {
		dir = filepath.Dir(dir)
	}
	if file := notDirectory(dir); file != "" {
		return NoDirectory(dir), fmt.Sprintf("is the path right? If %s is the database: `-d %[1]s`", Quote(file))
	}
	if _, statErr := os.Stat(dir); statErr == nil {
		return err.Error(), "" // something else was missing
	}
	return NoDirectory(dir), fmt.Sprintf("is the path right? If so: `mkdir -p %s`", Quote(dir))
}

// WhyDenied is the hint for an error of permissions: whose the directory is.
func WhyDenied(err error) string {
	var path *fs.PathError
	if !errors.As(err, &path) {
		return ""
	}
	dir := path.Path
	info, err := os.Stat(dir)
	for err != nil && filepath.Dir(dir) != dir {
		dir = filepath.Dir(dir)
		info, err = os.Stat(dir)
	}
	if err != nil {
		return ""
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !ok:
		return ""
	case int(st.Uid) != os.Geteuid() && dir == path.Path && errors.Is(path, syscall.EPERM) && sticky(filepath.Dir(dir)):
		return fmt.Sprintf("it belongs to user %d, and in a sticky directory (%s) only that user, root and the owner of the directory can remove it: ask one of them", st.Uid, filepath.Dir(dir))
	case int(st.Uid) != os.Geteuid():
		return fmt.Sprintf("%s belongs to another user (uid %d), and its mode (%v) does not let you in", dir, st.Uid, info.Mode())
	case info.IsDir() && errors.Is(path, syscall.EACCES):
		return fmt.Sprintf("%s is your own, but its mode (%v) does not let you create files there", dir, info.Mode())
	}
	return fmt.Sprintf("%s is your own (mode %v): something else forbids it, as an attribute or a security module does", dir, info.Mode())
}

// sticky reports whether nobody may remove another user's files in the directory, except its
// owner and root.
func sticky(dir string) bool {
	info, err := os.Stat(dir)
	if err != nil || info.Mode()&fs.ModeSticky == 0 {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) != os.Geteuid()
}
