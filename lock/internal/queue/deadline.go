package queue

import "time"

// FirstDeadline is the first byte at which a sign is the end of a wait. No clock that works
// shows an earlier time: it is in the year 2001.
const FirstDeadline = 1_000_000_000_000

// ShowDeadline lets others know when a wait will be given up: a sign at the byte whose
// number is that time in milliseconds since the epoch. Nobody asks the file for it; it is
// read from what the kernel says of this process. It is there until the file is closed.
func (f *File) ShowDeadline(at time.Time) {
	if ms := at.UnixMilli(); ms >= FirstDeadline {
		f.Show(Sign(ms))
	}
}
