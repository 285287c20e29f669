package notice

import (
	"bytes"
	"errors"
	"io/fs"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// ErrNotRegular says that the lock's path is a directory, FIFO, socket, device
// or symbolic link. Nothing of it is read and it is never removed.
var ErrNotRegular = errors.New("not a regular file")

// ID names an inode.
type ID struct{ Dev, Ino uint64 }

func idOf(st *unix.Stat_t) ID {
	return ID{uint64(st.Dev), uint64(st.Ino)} //nolint:unconvert // the types differ between systems
}

// Identify returns the inode that path names now, without following a link.
func Identify(path string) (ID, error) {
	var st unix.Stat_t
	if err := retry(func() error { return unix.Lstat(path, &st) }); err != nil {
		return ID{}, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	return idOf(&st), nil
}

// Sighting is what was found at a path at one moment.
type Sighting struct {
	ID      ID
	Bytes   []byte // at most MaxSize
	Clipped bool   // the file is larger than MaxSize
	Info    Info
	Err     error // why it is no notice, nil if it is one
	Changed int64 // the inode's modification time, ms since the epoch
	UID     int   // its owner
}

// Same reports whether two sightings are of the same bytes in the same file.
func (s *Sighting) Same(t *Sighting) bool {
	return t != nil && s.ID == t.ID && bytes.Equal(s.Bytes, t.Bytes)
}

// Read looks at the notice at path. It never blocks and reads at most MaxSize
// bytes. The error is ErrNotRegular, or a *fs.PathError (fs.ErrNotExist when
// there is none). A file that is no notice is not an error: see Sighting.Err.
func Read(path string) (*Sighting, error) {
	const flags = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOCTTY
	fd, err := open(path, flags|noTrace, 0)
	if err == unix.EPERM {
		fd, err = open(path, flags, 0) // only the owner may leave no trace
	}
	if err != nil {
		// Which error O_NOFOLLOW gives for a link differs between systems, and a
		// socket cannot be opened at all; what it is decides, not the error.
		var st unix.Stat_t
		if unix.Lstat(path, &st) == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
			return nil, &fs.PathError{Op: "open", Path: path, Err: ErrNotRegular}
		}
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG { // check: regular-only
		return nil, &fs.PathError{Op: "open", Path: path, Err: ErrNotRegular}
	}
	buf := make([]byte, MaxSize)
	n := 0
	for n < MaxSize {
		m, err := unix.Pread(fd, buf[n:], int64(n))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, &fs.PathError{Op: "read", Path: path, Err: err}
		}
		if m == 0 {
			break
		}
		n += m
	}
	s := &Sighting{ID: idOf(&st), Bytes: buf[:n], Clipped: st.Size > MaxSize, UID: int(st.Uid), Changed: st.Mtim.Nano() / 1e6}
	s.Info, s.Err = Parse(s.Bytes)
	return s, nil
}

// File is a notice of our own, open for refreshing. Writing through the
// descriptor and not the path means that a refresh can never land in somebody
// else's file.
type File struct {
	mu   sync.Mutex
	fd   int
	last int64 // the timestamp in the file
	id   ID
	born int64 // when it had last been read, as the filesystem has it, at first
}

// Create writes a complete notice at path, readable by everybody whatever the umask:
// peers delete what they cannot read. The error is fs.ErrExist if something has that
// name; on any other nothing is left at path.
func Create(path string, i Info) (*File, error) {
	fd, err := open(path, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW, 0o644)
	if err != nil {
		return nil, &fs.PathError{Op: "create", Path: path, Err: err}
	}
	f := &File{fd: fd, last: clamp(i.Timestamp)}
	if err := f.fill(i); err != nil {
		_ = unix.Unlink(path)
		f.Close()
		return nil, &fs.PathError{Op: "write", Path: path, Err: err}
	}
	return f, nil
}

func (f *File) fill(i Info) error {
	var st unix.Stat_t
	if err := unix.Fstat(f.fd, &st); err != nil {
		return err
	}
	f.id, f.born = idOf(&st), accessed(&st)
	if st.Mode&0o777 != 0o644 { // check: notice-mode
		if err := unix.Fchmod(f.fd, 0o644); err != nil {
			return err
		}
	}
	return writeAll(f.fd, Format(i), 0)
}

// Adopt opens the notice at path, which must be the one that was seen, for
// refreshing: how a later reader joins a shared hold.
func Adopt(path string, seen *Sighting) (*File, error) {
	fd, err := open(path, unix.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || idOf(&st) != seen.ID {
		unix.Close(fd)
		return nil, &fs.PathError{Op: "open", Path: path, Err: unix.ESTALE}
	}
	return &File{fd: fd, id: seen.ID, born: accessed(&st), last: clamp(seen.Info.Timestamp)}, nil
}

// ID names the inode.
func (f *File) ID() ID { return f.id }

// Beat writes the timestamp ms (milliseconds since the epoch) in place, such
// that no reader sees a time before both the old and the new one.
func (f *File) Beat(ms int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	ms = clamp(ms)
	if ms/lowDigits == f.last/lowDigits {
		return f.beatLow(ms)
	}
	// The high digits change every 27.8 hours, and when a stopped holder dates
	// its notice ahead. The larger high digits must be there while the low ones
	// change, or a reader would see a time hours in the past.
	var err error
	if ms > f.last { // check: high-digits-first: ms > f.last -> ms < f.last
		if err = f.beatHigh(ms); err == nil {
			err = f.beatLow(ms)
		}
	} else if err = f.beatLow(ms); err == nil {
		err = f.beatHigh(ms)
	}
	return err
}

func (f *File) beatLow(ms int64) error {
	// fmt's zero padding costs an allocation more than adding a leading one.
	digits := strconv.AppendInt(make([]byte, 0, word+1), lowDigits+ms%lowDigits, 10)[1:]
	err := writeAll(f.fd, digits, lowAt)
	if err == nil {
		f.last = f.last/lowDigits*lowDigits + ms%lowDigits
	}
	return err
}

func (f *File) beatHigh(ms int64) error {
	err := writeAll(f.fd, strconv.AppendInt(nil, ms/lowDigits, 10), highAt)
	if err == nil {
		f.last = ms/lowDigits*lowDigits + f.last%lowDigits
	}
	return err
}

// SetPID writes the pid in place.
func (f *File) SetPID(pid int) error {
	return writeAll(f.fd, pidWord(pid), pidAt)
}

// WasRead reports whether somebody who is no dblock has read the notice, where
// the filesystem keeps times of access: what dblocks read they read without a
// trace, as far as the system lets them.
func (f *File) WasRead() bool {
	var st unix.Stat_t
	return unix.Fstat(f.fd, &st) == nil && accessed(&st) != f.born
}

// Close closes the descriptor. The names stay.
func (f *File) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fd >= 0 {
		unix.Close(f.fd)
		f.fd = -1
	}
}

func writeAll(fd int, b []byte, at int64) error {
	for len(b) > 0 {
		n, err := unix.Pwrite(fd, b, at)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		b, at = b[n:], at+int64(n)
	}
	return nil
}

func open(path string, flags int, mode uint32) (fd int, err error) {
	err = retry(func() error {
		fd, err = unix.Open(path, flags|unix.O_CLOEXEC, mode)
		return err
	})
	return fd, err
}

// retry repeats a call that a signal interrupted; slow filesystems (FUSE, NFS)
// return EINTR even from calls that local ones never interrupt.
func retry(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}
