package queue

import (
	"context"
	"time"
)

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

// ShowDeadline lets others know until when we wait for somebody who has the lock without
// being in the queue.
func (p *Place) ShowDeadline(ctx context.Context) { p.showDeadline(ctx, p.room) }

// showDeadline shows it on the file that we wait for first. We keep that open until the wait is
// over, so once is enough.
func (p *Place) showDeadline(ctx context.Context, f *File) {
	end := p.wants.Patience.End
	if at, ends := ctx.Deadline(); ends && (end.IsZero() || at.Before(end)) {
		end = at
	}
	if f != nil && !end.IsZero() && !p.wants.Patience.Waited() {
		f.ShowDeadline(end)
	}
}
