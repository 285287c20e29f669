package doctor

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/internal/cli"
	"github.com/dblock-dev/dblock/lock"
)

// directory finds out whether the lock's files can be made.
func (v *visit) directory() []Finding {
	const why = "A lock is a few small files beside the database, or where --lock-file says."
	bad := func(found, do string) []Finding { return []Finding{{"directory", Problem, found, why, do}} }
	info, err := os.Stat(v.dir)
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && !info.IsDir():
		return bad(cli.NoDirectory(v.dir), "make it, or see whether the path is right")
	case err != nil:
		return bad(err.Error(), "see who may look there: ls -ld "+cli.Quote(v.dir))
	}
	err = unix.Faccessat(unix.AT_FDCWD, v.dir, unix.W_OK|unix.X_OK, unix.AT_EACCESS)
	switch {
	case err == unix.EROFS:
		return bad("the filesystem is read-only", "mount it writable, or keep the lock file elsewhere with --lock-file")
	case err != nil:
		return bad(fmt.Sprintf("you may not make files in it (it belongs to %s, mode %s)", cli.UserName(owner(info)), octal(info.Mode())),
			"let its owner allow it, or keep the lock file elsewhere with --lock-file")
	}
	var st unix.Statfs_t
	if unix.Statfs(v.dir, &st) == nil && st.Blocks > 0 {
		if st.Bavail <= 0 {
			return bad("the disk is full", "make room: df -h "+cli.Quote(v.dir))
		}
		if st.Files > 0 && st.Ffree <= 0 {
			return bad("the filesystem has no room for another file (inodes)", "make room: df -i "+cli.Quote(v.dir))
		}
	}
	return []Finding{{"directory", OK, "you can make files in it", why, ""}}
}

func owner(info fs.FileInfo) int {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(st.Uid)
	}
	return -1
}

// octal is a mode as chmod has it.
func octal(m fs.FileMode) string {
	n := uint32(m.Perm())
	if m&fs.ModeSticky != 0 {
		n |= 0o1000
	}
	if m&fs.ModeSetgid != 0 {
		n |= 0o2000
	}
	return fmt.Sprintf("%04o", n)
}

// server finds out whether the server of a lock answers.
func (v *visit) server() []Finding {
	const why = "The lock is there: whoever cannot reach it cannot get it."
	var unreached *lock.EngineError
	switch {
	case !lock.IsURL(v.names.DB):
		return nil
	case errors.As(v.barrier, &unreached):
		do := unreached.Hint
		if do == "" {
			do = "see whether the URL is right, and whether the server runs and may be reached from here"
		}
		return []Finding{{"server", Problem, unreached.Err.Error(), why, do}}
	case v.barrier != nil:
		return nil
	}
	return []Finding{{"server", OK, fmt.Sprintf("it answers, in %s", v.took.Round(time.Millisecond)), why, ""}}
}

// lock says in which state the lock is, where that hinders.
func (v *visit) lock() []Finding {
	r := v.report
	var unreached *lock.EngineError
	switch {
	case errors.As(v.barrier, &unreached):
		return nil // said already
	case r == nil && (v.bare || v.refused() || v.barrier == nil):
		return nil
	case r == nil:
		return []Finding{{"lock", Problem, "the lock file cannot be looked at: " + v.barrier.Error(), "", "see whose it is: ls -l " + cli.Quote(v.names.Notice)}}
	}
	f := Finding{Name: "lock", Level: OK, Why: r.Evidence}
	selector := v.Selector()
	switch {
	case r.Barred != nil:
		f.Level, f.Found, f.Do = Problem, "you are refused in the queue: "+r.Barred.Error(), "let its owner give you access to "+cli.Quote(r.Names.State)
	case r.Alien():
		f.Level, f.Found, f.Do = Problem, "what is at the lock file's path is no lock file", "move it away, or name another lock file with --lock-file"
	case r.KeptBy >= 0 && r.Stale:
		f.Level, f.Found = Problem, "its lock file was left by user "+cli.UserName(r.KeptBy)+", and you may not remove it"
		f.Do = "ask that user, or root, for: dblock force --if-stale " + selector
	case r.State == lock.StateOrphaned:
		f.Level, f.Found, f.Do = Warning, cli.Orphaned(r), "wait until that has ended, or end it: dblock force "+selector
	case r.State == lock.StateFree:
		f.Found = "free"
	case r.State == lock.StateStale:
		f.Found = "free; the last holder was killed, and the next one takes the lock over"
	case r.State == lock.StateInvalid:
		f.Found = "the lock file is incomplete; the next dblock replaces it"
	case r.Holder != nil:
		f.Found = "held by " + cli.Who(r.Holder)
	default:
		f.Found = "held"
	}
	all := []Finding{f}
	for _, p := range r.Stopped {
		all = append(all, Finding{"stopped", Warning, cli.Name(p) + " has a place in the queue, and was stopped", "Until it goes on or ends others may wait in vain.", "let it go on: kill -CONT " + strconv.Itoa(p.PID)})
	}
	return all
}

// permissions finds out who could disturb the lock.
func (v *visit) permissions() []Finding {
	const why = "Who may write in the directory can remove the lock, or hold it for ever."
	var all []Finding
	warn := func(found, do string) { all = append(all, Finding{"permissions", Warning, found, why, do}) }
	info, err := os.Stat(v.dir)
	if err != nil {
		return nil // said already
	}
	mode, uid := info.Mode(), owner(info)
	notes := []string{}
	switch {
	case mode.Perm()&0o002 != 0 && mode&fs.ModeSticky == 0:
		warn("everybody may write in the directory (mode "+octal(mode)+")", "take that away: chmod o-w "+cli.Quote(v.dir))
	case mode.Perm()&0o002 != 0:
		warn("everybody may make files in the directory (sticky, mode "+octal(mode)+"), and hold the lock", "keep the database in a directory of its own; for several users see docs/security.md")
	case mode.Perm()&0o020 != 0:
		notes = append(notes, "group "+groupName(info)+" may use the lock, too")
	}
	switch {
	case uid == 0 || mine(uid):
	case os.Geteuid() == 0:
		all = append(all, Finding{"permissions", Warning, "you are root, and the directory belongs to user " + cli.UserName(uid), why + " Root's command may then lose the lock.", "run it as that user, or use a directory of root's with --lock-file"})
	default:
		notes = append(notes, "the directory belongs to user "+cli.UserName(uid))
	}
	for above := filepath.Dir(v.dir); ; above = filepath.Dir(above) {
		if up, err := os.Stat(above); err == nil {
			who := owner(up)
			switch {
			case up.Mode().Perm()&0o002 != 0 && up.Mode()&fs.ModeSticky == 0:
				all = append(all, Finding{"permissions", Warning, "everybody may write in " + above + ", above the directory (mode " + octal(up.Mode()) + ")", "Who may write there can put another directory in the place of this one.", "take that away: chmod o-w " + cli.Quote(above)})
			case os.Geteuid() == 0 && who != 0 && who != uid:
				all = append(all, Finding{"permissions", Warning, "you are root, and " + above + ", above the directory, belongs to user " + cli.UserName(who), "That user can put another directory in the place of this one.", "do not let root use a lock there"})
			}
		}
		if above == filepath.Dir(above) {
			break
		}
	}
	all = append(all, v.queue(info)...)
	if len(all) == 0 {
		found := "nobody else can disturb the lock"
		if len(notes) > 0 {
			found = strings.Join(notes, "; ")
		}
		all = []Finding{{"permissions", OK, found, why, ""}}
	}
	return all
}

func groupName(info fs.FileInfo) string {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "?"
	}
	gid := strconv.Itoa(int(st.Gid))
	if g, err := user.LookupGroupId(gid); err == nil {
		return g.Name
	}
	return gid
}

// queue looks at the state directory and the files in it, if there are any yet.
func (v *visit) queue(above fs.FileInfo) (all []Finding) {
	state := v.names.State
	info, err := os.Lstat(state)
	if v.bare || err != nil {
		return nil
	}
	bad := func(found, why, do string) { all = append(all, Finding{"queue", Problem, found, why, do}) }
	shown := filepath.Base(state)
	move := "move it away: mv " + cli.Quote(state) + " " + cli.Quote(state+".old")
	switch uid := owner(info); {
	case info.Mode()&fs.ModeSymlink != 0:
		bad(shown+" is a symbolic link", "It could lead dblock to other files, so it is refused (73).", move)
		return all
	case !info.IsDir():
		bad(shown+" is not a directory", "It is where the queue's files are.", move)
		return all
	case above.Mode()&fs.ModeSticky != 0 && uid != 0 && !mine(uid) && uid != owner(above):
		bad(shown+" belongs to user "+cli.UserName(uid), "Its owner could take the lock apart under you, so it is refused (77).", "let root, or the owner of the directory, run a dblock there first")
		return all
	}
	entries, err := os.ReadDir(state)
	if err != nil {
		return all // Barred
	}
	closed := false
	for _, e := range entries {
		file, err := e.Info()
		if err != nil || strings.Contains(e.Name(), passing) || e.Name() == "notice" {
			continue
		}
		st, ok := file.Sys().(*syscall.Stat_t)
		path := filepath.Join(shown, e.Name())
		switch {
		case !file.Mode().IsRegular():
			bad(path+" is not a regular file", "It stands where a file of the queue belongs, and is refused (73).", "remove it")
		case ok && st.Nlink > 1:
			bad(path+" has a second name", "It could be a file from somewhere else, so it is refused (73).", "remove it while nobody has the lock")
		case unix.Faccessat(unix.AT_FDCWD, filepath.Join(state, e.Name()), unix.R_OK|unix.W_OK, unix.AT_EACCESS) == unix.EACCES:
			bad(fmt.Sprintf("you may not write to %s (it belongs to user %s, mode %s)", path, cli.UserName(owner(file)), octal(file.Mode())),
				"Who cannot open the queue's files does not get the lock (77).", "let its owner give you access: chmod to the directory's own rights")
		case above.Mode().Perm()&0o020 != 0 && file.Mode().Perm()&0o060 != 0o060:
			closed = true
		}
	}
	if closed {
		all = append(all, Finding{"queue", Warning, "files in " + shown + " are closed to the group, which may write in the directory", "Others of that group do not get the lock (77).", "chmod -R g+rwX " + cli.Quote(state)})
	}
	return all
}

// passing is in the names of the queue's files while they are made.
const passing = ".new-"

// spelling finds out whether the database has several names.
func (v *visit) spelling() []Finding {
	db := v.names.DB
	if v.bare || db == "" || lock.IsURL(db) {
		return nil
	}
	f := Finding{"names", OK, "the database has one name", "The lock is named after the database: two names are two locks.", ""}
	info, err := os.Lstat(db)
	given, _ := filepath.Abs(v.DB)
	switch {
	case err != nil:
		f.Found = "there is no database yet"
	case v.report != nil && v.report.Links > 1:
		f.Level, f.Found = Warning, fmt.Sprintf("the database has %d hard links, and each name has a lock of its own", v.report.Links)
		f.Do = "find them: find DIRECTORY -samefile " + cli.Quote(db) + "; or give all users one --lock-file"
	case info.Mode().IsRegular() && mountedAt(db):
		f.Level, f.Found = Warning, "the database is a file that is mounted here by itself"
		f.Why, f.Do = "Its lock file is not: users of the other place have another lock.", "mount the directory that it is in"
	case given != db && v.DB != "":
		f.Found = "the path leads there by a symbolic link, and to the same lock"
	}
	f.Found += v.namesake()
	return []Finding{f}
}

// namesake names a database that has the same lock: app.db and app.sqlite have.
func (v *visit) namesake() string {
	entries, _ := os.ReadDir(filepath.Dir(v.names.DB))
	for _, e := range entries[:min(len(entries), 1000)] {
		ext := filepath.Ext(e.Name())
		if e.Name() == filepath.Base(v.names.DB) || ext != ".db" && ext != ".sqlite" && ext != ".sqlite3" && ext != ".duckdb" {
			continue
		}
		if n, err := lock.Resolve(filepath.Join(filepath.Dir(v.names.DB), e.Name()), ""); err == nil && n.Notice == v.names.Notice && n.DB != v.names.DB {
			return "; " + e.Name() + " has the same lock"
		}
	}
	return ""
}

// leftovers finds what killed processes have left.
func (v *visit) leftovers() []Finding {
	const old = time.Minute
	var left []string
	look := func(dir string, is func(string) bool) {
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			if info, err := e.Info(); is(e.Name()) && err == nil && time.Since(info.ModTime()) > old {
				left = append(left, filepath.Join(dir, e.Name()))
			}
		}
	}
	look(v.dir, func(name string) bool {
		return strings.HasPrefix(name, probeName+"-") || strings.Contains(name, passing) && strings.Contains(name, ".lock")
	})
	if !v.bare {
		look(v.names.State, func(name string) bool { return strings.Contains(name, passing) })
	}
	if len(left) == 0 {
		return fine("leftovers", "none")
	}
	var quoted []string
	for _, path := range left[:min(len(left), 5)] {
		quoted = append(quoted, cli.Quote(path))
	}
	return []Finding{{"leftovers", Warning, plural(len(left), "temporary file") + " of a dblock that was killed", "They are not used any more, and do no harm.", "rm -r " + strings.Join(quoted, " ")}}
}

// others finds the locks of other tools.
func (v *visit) others() (all []Finding) {
	db := v.names.DB
	if v.bare || db == "" || lock.IsURL(db) {
		return nil
	}
	const why = "Who keeps to that lock does not see dblock's, and the other way round."
	dir, base := filepath.Split(db)
	add := func(level Level, found, why, do string) {
		all = append(all, Finding{"other-locks", level, found, why, do})
	}
	for _, name := range []string{base + ".lock", base + ".lck", "." + base + ".lck", "." + base + ".lock"} {
		path := dir + name
		info, err := os.Lstat(path)
		if err != nil || path == v.names.Notice {
			continue
		}
		tool := "another tool's lock file"
		if info.IsDir() && name == base+".lock" {
			tool = "a lock of proper-lockfile (Node)"
		}
		add(Warning, fmt.Sprintf("%s is %s, changed %s ago", name, tool, time.Since(info.ModTime()).Round(time.Second)), why, "find out which program uses it; if none does any more, remove it")
	}
	for _, name := range []string{".#" + base, "." + base + ".swp"} {
		if _, err := os.Lstat(dir + name); err == nil {
			add(Warning, name+": an editor has the database open", why, "close it there")
		}
	}
	if journal := db + "-journal"; hot(journal) {
		if v.facts != nil && len(v.facts.Openers) == 0 && (v.report == nil || !v.report.Locked()) {
			add(Warning, base+"-journal is hot: a writer of SQLite's was ended in the middle of a transaction", "The database is not consistent without it. The next one who opens the database rolls that back.", "do not remove or copy it alone; open the database once: sqlite3 "+cli.Quote(db)+" 'pragma quick_check'")
		}
	}
	if b, err := readSmall(filepath.Join(db, "postmaster.pid")); err == nil {
		first, _, _ := strings.Cut(string(b), "\n")
		// PGlite writes a number there that is no process.
		if pid, err := strconv.Atoi(strings.TrimSpace(first)); err == nil && pid > 0 && unix.Kill(pid, 0) != unix.ESRCH {
			add(Warning, fmt.Sprintf("postmaster.pid names process %d, which lives: a PostgreSQL server may run on this directory", pid), why, "stop the server, or let it alone use the directory")
		}
	}
	if len(all) == 0 {
		return fine("other-locks", "none beside the database")
	}
	return all
}

// hot reports whether a rollback journal of SQLite's has something to roll back: its header was
// neither removed nor overwritten with zeros at the end.
func hot(path string) bool {
	b, err := readSmall(path)
	return err == nil && bytes.HasPrefix(b, []byte{0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7})
}

// readSmall reads the beginning of a regular file.
func readSmall(path string) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	b := make([]byte, 512)
	n, err := unix.Read(fd, b)
	return b[:max(n, 0)], err
}

// clock compares the dates that were written down with the clock.
func (v *visit) clock() []Finding {
	f := Finding{"clock", OK, "it agrees with the dates of the lock", "By its date other programs judge how old a lock is, and dblock whether a process is older than it.", ""}
	now := time.Now()
	switch r := v.report; {
	case now.Year() < 2024:
		f.Level, f.Found, f.Do = Warning, "it shows "+now.Format(time.DateOnly), "set it (NTP)"
	case r == nil:
		f.Found = now.Format(time.DateTime)
	case r.Holder != nil && r.Holder.Dblock && r.Holder.Acquired.Sub(now) > skewed:
		f.Level, f.Found = Warning, "the lock was acquired in the future: "+r.Holder.Acquired.Format(time.DateTime)
		f.Do = "see whether the clock was set back, here or where the holder is; let the machines keep the same time (NTP)"
	case r.Holder != nil && !r.Holder.Dblock && r.Holder.Timestamp.Sub(now) > skewed:
		f.Level, f.Found = Warning, "the lock file's date is in the future: "+r.Holder.Timestamp.Format(time.DateTime)
		f.Do = "see whether the clock was set back, here or where the holder is; let the machines keep the same time (NTP)"
	case r.ClockSet():
		f.Level, f.Found = Warning, "it was set since the last hold"
		f.Why = "A process that is younger than the lock file that names it counts as alive then, since that proves nothing."
		f.Do = "nothing; after the next hold it is known again"
	}
	return []Finding{f}
}
