package session

import (
	"bytes"

	"golang.org/x/sys/unix"
)

// maxLine is how long a line may be, without its end.
const maxLine = 1 << 20

// reader reads lines. Only one goroutine at a time has it.
type reader struct {
	fd  int
	out *writer // which must not fall too far behind

	buf      []byte
	from, to int  // what was read and is not a line yet
	searched int  // up to here there is no end of a line
	skipping bool // the rest of a line that is too long
}

func newReader(fd int, out *writer) *reader {
	return &reader{fd: fd, out: out, buf: make([]byte, 16<<10)}
}

// next returns the next line, which is valid until the next call; long says that one was too
// long, and skipped. The end of the input, or an error, is not ok.
func (r *reader) next() (line []byte, long, ok bool) {
	for {
		if at := bytes.IndexByte(r.buf[r.searched:r.to], '\n'); at >= 0 {
			line = r.buf[r.from : r.searched+at]
			r.from = r.searched + at + 1
			r.searched = r.from
			if r.skipping || len(line) > maxLine {
				r.skipping = false
				return nil, true, true
			}
			return line, false, true
		}
		r.searched = r.to
		if r.to-r.from > maxLine {
			r.skipping = true
			r.from, r.to, r.searched = 0, 0, 0
		}
		r.makeRoom()
		n, ok := r.read()
		if !ok {
			return nil, false, false
		}
		r.to += n
	}
}

// makeRoom makes room behind what was read.
func (r *reader) makeRoom() {
	if r.from == r.to {
		r.from, r.to, r.searched = 0, 0, 0
	}
	if r.to < len(r.buf) {
		return
	}
	if r.from > 0 {
		copy(r.buf, r.buf[r.from:r.to])
		r.searched -= r.from
		r.to -= r.from
		r.from = 0
		return
	}
	r.buf = append(r.buf, make([]byte, len(r.buf))...)
}

// read reads what there is, with a call that blocks: one system call for a request, while the
// runtime's poller would need three. It stops where nobody takes the answers.
func (r *reader) read() (int, bool) {
	for {
		if r.out.behind() && !r.stall() {
			return 0, false
		}
		n, err := unix.Read(r.fd, r.buf[r.to:])
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			// Whoever started us has made the descriptor one that does not block.
			_, _ = unix.Poll([]unix.PollFd{{Fd: int32(r.fd), Events: unix.POLLIN}}, -1)
		case err != nil || n == 0:
			return 0, false
		default:
			return n, true
		}
	}
}

// stall waits until the answers are read again. Meanwhile the other end of the input may be
// closed, which is seen without reading it: that is not ok.
func (r *reader) stall() bool {
	for r.out.behind() {
		p := []unix.PollFd{{Fd: int32(r.fd), Events: hangUp}}
		_, _ = unix.Poll(p, 20)
		if p[0].Revents&(hangUp|unix.POLLHUP|unix.POLLERR|unix.POLLNVAL) != 0 {
			return false
		}
	}
	return true
}
