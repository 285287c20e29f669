package doctor

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

func dirOf(path string) string { return filepath.Dir(path) }

// probing is what the probes share: a directory beside the lock file, and two other processes.
type probing struct {
	*room
	guard  *assistant // also removes the directory if this process is killed
	victim *assistant // is killed
}

// probes tries in a directory of its own, beside the lock file, all that a lock there needs.
func (v *visit) probes() []Finding {
	if v.refused() {
		return nil
	}
	guard, err := newAssistant()
	if err != nil {
		return []Finding{{"flock", Problem, "no second process can be started: " + err.Error(), "Locking is between processes, and a command is one.", "see how many processes you may have: ulimit -u"}}
	}
	defer guard.dismiss()
	victim, err := newAssistant()
	if err != nil {
		return []Finding{{"flock", Problem, "no second process can be started: " + err.Error(), "Locking is between processes, and a command is one.", "see how many processes you may have: ulimit -u"}}
	}
	defer victim.kill()
	path := filepath.Join(v.dir, fmt.Sprintf("%s-%d-%08x", probeName, os.Getpid(), rand.Uint32()))
	if err := guard.ask(fmt.Sprintf("guard %q", path)); err != nil {
		return []Finding{{"flock", Problem, "a second process cannot be talked to: " + err.Error(), "", "try again; please report it if it stays so"}}
	}
	if err := unix.Mkdir(path, 0o700); err != nil {
		return []Finding{{"directory", Problem, "no directory can be made there: " + err.Error(), "The queue is a small directory beside the database.", "see whether a quota is used up, or a security module forbids it"}}
	}
	r, err := enter(path)
	if err != nil {
		_ = unix.Rmdir(path)
		return []Finding{{"directory", Problem, "a directory that was made there cannot be opened: " + err.Error(), "Something else works on what is in this directory, or the filesystem does not keep owners and modes.", "see whose the directory is, and which filesystem"}}
	}
	defer r.clear()
	p := &probing{r, guard, victim}
	enter := fmt.Sprintf("enter %q", path)
	if err := errors.Join(guard.ask(enter), victim.ask(enter)); err != nil {
		return []Finding{{"flock", Problem, "another process does not find a directory that was just made: " + err.Error(), "", "see which filesystem this is"}}
	}
	var all []Finding
	for _, probe := range []func() []Finding{p.flock, p.signs, p.names, p.events, p.times} {
		if err := p.fresh(); err != nil {
			return append(all, Finding{"directory", Problem, "no file can be written there: " + err.Error(), "A lock is a few small files beside the database.", "see whether the disk is full (df, df -i), or a quota is used up"})
		}
		all = append(all, probe()...)
	}
	return all
}

// fresh leaves one file in the directory, with something in it.
func (p *probing) fresh() error {
	for _, name := range probeFiles {
		_ = p.remove(name)
	}
	fd, err := p.open("file", unix.O_RDWR|unix.O_CREAT|unix.O_EXCL)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte("dblock doctor\n"))
	return err
}

// slow is how long something may take that is done in an instant where it works.
const slow = time.Second

// flock tries whether two processes exclude each other.
func (p *probing) flock() []Finding {
	bad := func(found, do string) []Finding {
		return []Finding{{"flock", Problem, found, "flock(2) is how dblocks exclude each other.", do}}
	}
	const elsewhere = "keep the database, or the lock file at least (--lock-file), on a disk of this machine"
	fd, err := p.open("file", unix.O_RDWR)
	if err != nil {
		return bad("a file that was just made cannot be opened: "+err.Error(), elsewhere)
	}
	defer func() { _ = unix.Close(fd) }()
	try := func() error { return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) }
	if err := try(); err != nil {
		return bad("files cannot be locked there: "+err.Error()+". dblock works with the lock file alone", elsewhere)
	}
	if err := p.victim.ask("flock"); err == nil {
		return bad("two processes had the lock of one file at the same time", elsewhere)
	} else if err != unix.EWOULDBLOCK {
		return bad("the other process cannot lock: "+err.Error(), elsewhere)
	}
	if err := unix.Flock(fd, unix.LOCK_UN); err != nil {
		return bad("a lock cannot be released: "+err.Error(), elsewhere)
	}
	if err := p.victim.ask("flock"); err != nil {
		return bad("a lock that was released cannot be had: "+err.Error(), elsewhere)
	}
	if try() == nil {
		return bad("two processes had the lock of one file at the same time", elsewhere)
	}
	p.victim.kill()
	for end := time.Now().Add(slow); ; time.Sleep(time.Millisecond) {
		if err := try(); err == nil {
			break
		} else if time.Now().After(end) {
			return bad("the lock of a process that was killed is not released: "+err.Error(), elsewhere)
		}
	}
	_ = unix.Close(fd)
	fd = -1
	if err := p.guard.ask("flock"); err != nil {
		return bad("closing a file does not release its lock: "+err.Error(), elsewhere)
	}
	_ = p.guard.ask("drop")
	return []Finding{{"flock", OK, "two processes exclude each other; a lock is released by closing, and when its process is killed", "flock(2) is how dblocks exclude each other.", ""}}
}

// names tries the steps by which the lock file gets and loses its name.
func (p *probing) names() (all []Finding) {
	link := Finding{"link", OK, "a file can have a second name", "So a lock file is complete when it appears.", ""}
	if err := unix.Linkat(p.fd, "file", p.fd, "link", 0); err != nil {
		link.Level, link.Found = Warning, "there are no hard links: "+err.Error()
		link.Why, link.Do = "dblock moves its lock file into place instead, and cannot put the same file back when somebody has deleted it.", "nothing, if no other programs use the lock file; else use another filesystem"
	} else {
		_ = p.remove("link")
	}
	all = append(all, link)
	all = append(all, p.exchange()...)
	fd, err := p.open("file", unix.O_RDWR)
	if err != nil {
		return all
	}
	defer unix.Close(fd)
	open := Finding{"unlink", OK, "an open file stays usable when it is deleted", "So a holder notices that its lock file was deleted, and restores it.", ""}
	var st unix.Stat_t
	if err := p.remove("file"); err != nil {
		open.Level, open.Found = Problem, "an open file cannot be deleted: "+err.Error()
	} else if err := unix.Fstat(fd, &st); err != nil {
		open.Level, open.Found = Warning, "a deleted file that is open is gone: "+err.Error()
	} else if st.Nlink != 0 {
		open.Level, open.Found = Warning, "a deleted file keeps a hidden name while it is open, as on NFS"
	}
	if open.Level != OK {
		open.Do = "use another filesystem if other programs delete the lock file"
	}
	return append(all, open)
}

// times compares the filesystem's clock with this machine's.
func (p *probing) times() []Finding {
	fd, err := p.open("file", unix.O_RDWR)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	stamp := func() (ns int64, err error) {
		if _, err := unix.Pwrite(fd, []byte("d"), 0); err != nil {
			return 0, err
		}
		var st unix.Stat_t
		err = unix.Fstat(fd, &st)
		return st.Mtim.Nano(), err
	}
	first, err := stamp()
	if err != nil {
		return nil
	}
	now, begin := time.Now(), time.Now()
	for time.Since(begin) < coarse {
		if next, err := stamp(); err != nil || next != first {
			break
		}
		time.Sleep(time.Millisecond)
	}
	return judgeTimes(time.Unix(0, first).Sub(now), time.Since(begin))
}

// What of the filesystem's clock is worth a warning: by how much it may differ from
// the machine's, and how long it may show the same.
const (
	skewed = 2 * time.Second
	coarse = 200 * time.Millisecond
)

func judgeTimes(skew, grain time.Duration) []Finding {
	f := Finding{"file-times", OK, "the filesystem's clock is this machine's", "By the times of files dblock sees that somebody came and went, and how old a lock file is that has no date.", ""}
	switch {
	case skew.Abs() > skewed && skew.Abs() > grain+skewed:
		f.Level, f.Found = Warning, fmt.Sprintf("the filesystem's clock is %s from this machine's", skew.Round(100*time.Millisecond))
		f.Do = "let the server and this machine keep the same time (NTP)"
	case grain >= coarse:
		f.Level, f.Found = Warning, "the filesystem's times are coarse: two changes within "+coarse.String()+" have the same"
		f.Do = "nothing, if only dblocks use the database"
	}
	return []Finding{f}
}
