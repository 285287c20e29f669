package lock

import (
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/lock/internal/inode"
	"github.com/dblock-dev/dblock/lock/internal/proc"
)

// SurveyOptions say where Survey looks, and by which rules.
type SurveyOptions struct {
	OneFileSystem bool // stay out of other filesystems that are mounted below the directory

	StaleTimeout time.Duration // as in Options
	Stale        Stale
}

// Survey looks at all locks below a directory, as Inspect does: at lock files called .NAME.lock,
// by whomever, and at the state directories of dblock, which are there also while the lock is free.
// A file of that name that is none by its content does not count unless there is such a directory.
// The reports come in the order of their paths.
//
// An error comes alone if it is about a directory: then the others go on without it. With a
// report, of which there are only the Names then, it is about that lock. Both are *fs.PathErrors.
//
// Symbolic links are not followed, apart from dir. No file is opened but those of locks, and nothing
// below the filesystems of the kernel's own, like /proc, of which there are no locks.
func Survey(dir string, opts SurveyOptions) iter.Seq2[*Report, error] {
	return func(yield func(*Report, error) bool) {
		root, err := realDir(dir)
		if err != nil {
			yield(nil, err)
			return
		}
		w := newWalk(root, opts.OneFileSystem)
		for len(w.ahead) > 0 {
			if err := w.step(); err != nil && !yield(nil, err) {
				return
			}
		}
		slices.SortFunc(w.found, func(a, b place) int { return strings.Compare(a.notice, b.notice) })
		var t sharedTable
		o := Options{StaleTimeout: opts.StaleTimeout, Stale: opts.Stale}.withDefaults()
		for i, p := range w.found {
			if i+1 < len(w.found) && w.found[i+1].notice == p.notice { // file and directory
				w.found[i+1].state = true
				continue
			}
			n := Names{Notice: p.notice, State: p.notice + stateSuffix}
			r, err := t.inspect(n, o)
			switch {
			case inode.IsGone(err):
			case err != nil:
				if !yield(&Report{Names: n, KeptBy: -1}, err) {
					return
				}
			case r.Holder == nil && !p.state:
			case !yield(r, nil):
				return
			}
		}
	}
}

// place is where a lock seems to be.
type place struct {
	notice string
	state  bool // there is a state directory
}

// walk is a Survey on its way.
type walk struct {
	root   string
	ahead  []string // directories
	found  []place
	mounts map[string]proc.Mount // by path; nil where the system does not tell
	one    bool
	device uint64     // of the filesystem to stay in
	mount  proc.Mount // the same, as the system tells it
}

func newWalk(root string, one bool) *walk {
	w := &walk{root: root, ahead: []string{root}, mounts: proc.Mounts(), one: one}
	for at := root; ; at = filepath.Dir(at) {
		if m, is := w.mounts[at]; is || at == filepath.Dir(at) {
			w.mount = m
			break
		}
	}
	return w
}

// step reads one directory.
func (w *walk) step() error {
	last := len(w.ahead) - 1
	dir := w.ahead[last]
	w.ahead = w.ahead[:last]
	entries, err := w.read(dir)
	if inode.IsGone(err) && dir != w.root {
		err = nil // it was there a moment ago
	}
	for _, e := range entries {
		name, kind := e.Name(), e.Type()
		switch notice, state := noticeOf(name, kind); {
		case notice == "" && kind.IsDir():
			if below := filepath.Join(dir, name); w.follows(below) {
				w.ahead = append(w.ahead, below)
			}
		case notice != "":
			w.found = append(w.found, place{filepath.Join(dir, notice), state})
		}
	}
	return err
}

// read lists a directory, as far as it can be read; nothing if it is in another filesystem
// than it is to be.
func (w *walk) read(dir string) ([]fs.DirEntry, error) {
	f, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if w.one && w.mounts == nil {
		info, err := f.Stat()
		if err != nil {
			return nil, err
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && w.device == 0 {
			w.device = uint64(st.Dev)
		} else if ok && uint64(st.Dev) != w.device {
			return nil, nil
		}
	}
	return f.ReadDir(-1)
}

// follows reports whether the walk goes on in a directory. One that is mounted may be in a filesystem
// that does not answer any more: the system's own list says where they are, and nobody asks them.
func (w *walk) follows(dir string) bool {
	m, is := w.mounts[dir]
	return !is || !m.Kernel && !(w.one && m.Device != w.mount.Device)
}

// noticeOf is the name of the lock file to which an entry of a directory belongs, or "";
// state is true if it is the state directory.
func noticeOf(name string, kind fs.FileMode) (notice string, state bool) {
	if kind.IsDir() {
		notice, state = strings.CutSuffix(name, stateSuffix)
		if !state {
			return "", false
		}
	} else if notice = name; !kind.IsRegular() {
		return "", false
	}
	if stem, is := strings.CutSuffix(notice, noticeSuffix); !is || len(stem) < 2 || stem[0] != '.' {
		return "", false
	}
	return notice, state
}

// sharedTable is the kernel's table of locks for many reports: reading it keeps others from
// locking.
type sharedTable struct {
	all   proc.Locks
	known bool
	since time.Time
}

// lasts is how long a table is used.
const lasts = 500 * time.Millisecond

// inspect looks at one lock.
func (t *sharedTable) inspect(n Names, opts Options) (*Report, error) {
	r, err := inspectBy(t.reader(), n, opts)
	if err == nil && r.State == StateOrphaned { // check: old-table
		// The table may have a holder before the one that has gone since.
		return inspect(n, opts)
	}
	return r, err
}

// reader gives one report the table that was read last, unless that is too old, and a new one
// whenever it asks again since what it sees does not go together.
func (t *sharedTable) reader() func() (proc.Locks, bool) {
	asked := false
	return func() (proc.Locks, bool) {
		if asked || time.Since(t.since) > lasts {
			t.all, t.known = proc.AllLocks()
			t.since = time.Now()
		}
		asked = true
		return t.all, t.known
	}
}
