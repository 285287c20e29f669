package notice

import (
	"bytes"
	"errors"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/lock/internal/inode"
)

// ErrNotRegular says that the lock's path is a directory, FIFO, socket, device
// or symbolic link. Nothing of it is read and it is never removed.
var ErrNotRegular = errors.New("not a regular file")

// Sighting is what was found at a path at one moment.
type Sighting struct {
	ID      inode.ID
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

// Read looks at the notice at path; see ReadAt.
func Read(path string) (*Sighting, error) { return ReadAt(inode.Path(path)) }

// ReadAt looks at the notice with that name. It never blocks and reads at most MaxSize
// bytes. The error is ErrNotRegular, or a *fs.PathError (fs.ErrNotExist when
// there is none). A file that is no notice is not an error: see Sighting.Err.
func ReadAt(n inode.Name) (*Sighting, error) {
	const flags = unix.O_RDONLY | unix.O_NOCTTY
	fd, err := n.Open(flags|noTrace, 0)
	if err == unix.EPERM {
		fd, err = n.Open(flags, 0) // only the owner may leave no trace
	}
	if err != nil {
		// Which error O_NOFOLLOW gives for a link differs between systems, and a
		// socket cannot be opened at all; what it is decides, not the error.
		var st unix.Stat_t
		if n.Stat(&st) == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
			return nil, n.Fail("open", ErrNotRegular)
		}
		return nil, n.Fail("open", err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, n.Fail("stat", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG { // check: regular-only
		return nil, n.Fail("open", ErrNotRegular)
	}
	buf := make([]byte, MaxSize)
	size := 0
	for size < MaxSize {
		m, err := unix.Pread(fd, buf[size:], int64(size))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, n.Fail("read", err)
		}
		if m == 0 {
			break
		}
		size += m
	}
	s := &Sighting{ID: inode.IDOf(&st), Bytes: buf[:size], Clipped: st.Size > MaxSize, UID: int(st.Uid), Changed: st.Mtim.Nano() / 1e6}
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
	id   inode.ID
	size int64 // of all of it
	born int64 // when it had last been read, as the filesystem has it, when that was asked last
}

// Create writes a complete notice with that name, readable by everybody whatever the
// umask: peers delete what they cannot read. The error is fs.ErrExist if something has
// the name; on any other nothing is left.
func Create(n inode.Name, i Info) (*File, error) {
	fd, err := n.Open(unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, 0o644)
	if err != nil {
		return nil, n.Fail("create", err)
	}
	f := &File{fd: fd, last: clamp(i.Timestamp)}
	if err := f.fill(i); err != nil {
		_ = n.Remove()
		f.Close()
		return nil, n.Fail("write", err)
	}
	return f, nil
}

func (f *File) fill(i Info) error {
	var st unix.Stat_t
	if err := unix.Fstat(f.fd, &st); err != nil {
		return err
	}
	f.id, f.born = inode.IDOf(&st), accessed(&st)
	if st.Mode&0o777 != 0o644 { // check: notice-mode
		if err := unix.Fchmod(f.fd, 0o644); err != nil {
			return err
		}
	}
	text := Format(i)
	f.size = int64(len(text))
	return inode.WriteAll(f.fd, text, 0)
}

// Damaged reports whether somebody has emptied the file, or has written something of
// another length over it, in place.
func (f *File) Damaged() bool {
	var st unix.Stat_t
	return unix.Fstat(f.fd, &st) == nil && st.Size != f.size
}

// Restore writes the notice again over what has been made of it, in place.
func (f *File) Restore(i Info) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	i.Timestamp = f.last
	text := Format(i)
	if err := inode.WriteAll(f.fd, text, 0); err != nil {
		return err
	}
	f.size = int64(len(text))
	return inode.Retry(func() error { return unix.Ftruncate(f.fd, f.size) })
}

// Adopt opens the notice with that name, which must be the one that was seen, for
// refreshing: how a later reader joins a shared hold.
func Adopt(n inode.Name, seen *Sighting) (*File, error) {
	fd, err := n.Open(unix.O_RDWR, 0)
	if err != nil {
		return nil, n.Fail("open", err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || inode.IDOf(&st) != seen.ID {
		unix.Close(fd)
		return nil, n.Fail("open", unix.ESTALE)
	}
	return &File{fd: fd, id: seen.ID, size: int64(len(seen.Bytes)), born: accessed(&st), last: clamp(seen.Info.Timestamp)}, nil
}

// ID names the inode.
func (f *File) ID() inode.ID { return f.id }

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
	err := inode.WriteAll(f.fd, digits, lowAt)
	if err == nil {
		f.last = f.last/lowDigits*lowDigits + ms%lowDigits
	}
	return err
}

func (f *File) beatHigh(ms int64) error {
	err := inode.WriteAll(f.fd, strconv.AppendInt(nil, ms/lowDigits, 10), highAt)
	if err == nil {
		f.last = ms/lowDigits*lowDigits + f.last%lowDigits
	}
	return err
}

// SetPID writes the pid in place.
func (f *File) SetPID(pid int) error {
	return inode.WriteAll(f.fd, pidWord(pid), pidAt)
}

// Unlinked is when a name of the file was last removed, if it was not written or
// linked since: the time of change of its inode, in nanoseconds.
func (f *File) Unlinked() (int64, error) {
	var st unix.Stat_t
	if err := unix.Fstat(f.fd, &st); err != nil {
		return 0, err
	}
	return st.Ctim.Nano(), nil
}

// WasRead reports whether somebody who is no dblock has read the notice, where
// the filesystem keeps times of access: what dblocks read they read without a
// trace, as far as the system lets them. It tells of each read once. Where the
// filesystem keeps times of access relative to that of the last change, the next
// read shows only after a Beat.
func (f *File) WasRead() bool {
	var st unix.Stat_t
	if unix.Fstat(f.fd, &st) != nil || accessed(&st) == f.born {
		return false
	}
	f.born = accessed(&st)
	return true
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
