package history

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// Reader reads the history of one lock, and goes on reading while it grows. A file that is
// rotated meanwhile is read to its end. Its zero value is of no use; see [Open]. It is not
// safe for concurrent use.
type Reader struct {
	dir     string
	files   []*source // the older ones first; only the last one is still in its place
	told    recent
	buffer  []byte
	noticed bool // that there is a history
}

// source is a file, and how far it was read.
type source struct {
	file *os.File
	info os.FileInfo
	rest []byte // the beginning of a line that is not whole yet
}

// key is what a hold is known by. Readers who share a lock have one token.
type key struct {
	token int64
	pid   int
}

// Open returns a reader of the history in a lock's state directory, or of what is in that
// directory once there is one. Nothing is opened yet.
func Open(dir string) *Reader { return &Reader{dir: dir} }

// Read reads a lock's history as it is now.
func Read(dir string, each func(*Event)) error {
	r := Open(dir)
	defer r.Close()
	return r.Next(each)
}

// Next calls each for all events since the last call, in the order of their lines, and first
// for all that there are. The event is only valid during that call. Lines that [Parse] refuses
// are skipped, and so is a [Killed] of one whose own line is there: it was killed after that.
// No history is no error; errors are those of the files.
func (r *Reader) Next(each func(*Event)) error {
	for {
		// Who had the file open when it was rotated may still write to it, so it is read once
		// more than it was found in another place.
		read := r.files
		for _, s := range read {
			if err := r.drain(s, each); err != nil {
				return err
			}
		}
		more, err := r.renew()
		if err != nil || !more {
			return err
		}
		if len(read) > 1 {
			for _, s := range read[:len(read)-1] {
				s.file.Close()
			}
			r.files = r.files[len(read)-1:]
		}
	}
}

// renew looks whether the file has another in its place, and opens that, and more is true if
// it has.
func (r *Reader) renew() (more bool, err error) {
	path := filepath.Join(r.dir, Name)
	now, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		if r.noticed {
			return false, nil // between two files
		}
		now, err = os.Lstat(filepath.Join(r.dir, Older))
	}
	if missing(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if n := len(r.files); n > 0 && os.SameFile(now, r.files[n-1].info) {
		return false, nil
	}
	// One that has become the older one between the two is opened twice: then again.
	for {
		older, err := open(filepath.Join(r.dir, Older))
		if err != nil {
			return false, err
		}
		newer, err := open(path)
		if err == nil && older.is(newer) {
			older.close()
			newer.close()
			continue
		}
		if err == nil && newer != nil {
			if info, serr := os.Lstat(filepath.Join(r.dir, Older)); serr == nil && (older == nil || !os.SameFile(info, older.info)) {
				older.close()
				newer.close()
				continue
			}
		}
		if err != nil {
			older.close()
			return false, err
		}
		for _, s := range []*source{older, newer} {
			switch {
			case s == nil:
			case r.has(s):
				s.close()
			default:
				r.files, more, r.noticed = append(r.files, s), true, true
			}
		}
		return more, nil
	}
}

// has reports whether a file is read already.
func (r *Reader) has(s *source) bool {
	for _, have := range r.files {
		if have.is(s) {
			return true
		}
	}
	return false
}

// Close closes the files.
func (r *Reader) Close() {
	for _, s := range r.files {
		s.file.Close()
	}
	r.files = nil
}

// missing reports whether there is no such file, or no directory for it.
func missing(err error) bool {
	return errors.Is(err, fs.ErrNotExist)
}

// open opens a file; none is no error. Whoever may write in the directory can put something else
// there, or a link in place of the directory: a pipe, at which one would wait for ever, or a link to
// who knows what. That is none, too.
func open(path string) (*source, error) {
	if at, err := os.Lstat(filepath.Dir(path)); err == nil && at.Mode()&fs.ModeSymlink != 0 {
		return nil, nil
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if missing(err) || errors.Is(err, syscall.ELOOP) || errors.Is(err, syscall.EMLINK) || errors.Is(err, syscall.ENXIO) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		f.Close()
		return nil, err
	}
	return &source{file: f, info: info}, nil
}

func (s *source) is(other *source) bool {
	return s != nil && other != nil && os.SameFile(s.info, other.info)
}

// rewind goes back to the beginning of a file that was cut off: what is in it by now is new.
func (s *source) rewind() error {
	at, err := s.file.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	info, err := s.file.Stat()
	if err != nil || info.Size() >= at {
		return err
	}
	s.rest = nil
	_, err = s.file.Seek(0, io.SeekStart)
	return err
}

func (s *source) close() {
	if s != nil {
		s.file.Close()
	}
}

// drain reads a file to its end.
func (r *Reader) drain(s *source, each func(*Event)) error {
	if r.buffer == nil {
		r.buffer = make([]byte, 64<<10)
	}
	if err := s.rewind(); err != nil {
		return err
	}
	rest, err := lines(s.file, s.rest, r.buffer, func(line []byte) {
		if e, err := Parse(line); err == nil && !r.told.twice(&e) {
			each(&e)
		}
	})
	s.rest = rest
	return err
}

// lines calls each for the lines that a file has from here on, with its buffer, and returns
// what is no whole line yet. A line that is longer than any of ours is left out.
func lines(from io.Reader, rest, buffer []byte, each func([]byte)) ([]byte, error) {
	for {
		n, err := from.Read(buffer)
		b := buffer[:n]
		for len(b) > 0 {
			end := bytes.IndexByte(b, '\n')
			if end < 0 {
				rest = append(rest, b[:min(len(b), max(0, 2*MaxLine-len(rest)))]...)
				break
			}
			if len(rest) > 0 {
				each(append(rest, b[:end]...))
				rest = rest[:0]
			} else {
				each(b[:end])
			}
			b = b[end+1:]
		}
		if err == io.EOF {
			return rest, nil
		}
		if err != nil {
			return rest, err
		}
	}
}

// recent are the holds whose ends were told of last.
type recent struct {
	holds [64]key
	next  int
}

// twice reports whether the end of a hold was told of already: by itself, before its dblock was
// killed, or by one that was killed in the middle of taking the lock over. The next to have
// the lock tells of it again, so that few lines are between the two.
func (r *recent) twice(e *Event) bool {
	if e.Token == 0 || e.Kind != Hold && e.Kind != Killed {
		return false
	}
	k := key{e.Token, e.PID}
	if e.Kind == Killed && slices.Contains(r.holds[:], k) {
		return true
	}
	r.holds[r.next%len(r.holds)] = k
	r.next++
	return false
}

// Find returns the line of a hold, or nil if it is not there.
func Find(dir string, token int64, pid int) *Event {
	var found *Event
	_ = Read(dir, func(e *Event) {
		if e.Kind == Hold && e.Token == token && e.PID == pid {
			one := *e
			found = &one
		}
	})
	return found
}

// Last returns the last event of a history that is not about somebody who gave up, or nil. It
// reads no more than the end of the file.
func Last(dir string) *Event {
	s, err := open(filepath.Join(dir, Name))
	if s == nil || err != nil {
		return nil
	}
	defer s.close()
	const tail = 16 << 10
	if from := s.info.Size() - tail; from > 0 {
		_, _ = s.file.Seek(from, io.SeekStart)
	}
	r := Open(dir)
	var last *Event
	_ = r.drain(s, func(e *Event) {
		if e.Kind != GaveUp {
			one := *e
			last = &one
		}
	})
	return last
}
