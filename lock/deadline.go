package lock

import (
	"context"

	"github.com/dblock-dev/dblock/lock/internal/queue"
)

// showDeadline lets others know until when we wait, on the file that we wait for first. We
// keep that open until the wait is over, so once is enough.
func (a *attempt) showDeadline(ctx context.Context, f *queue.File) {
	end, ends := ctx.Deadline()
	if a.wait != nil || f == nil || a.opts.Wait == Forever && !ends {
		return
	}
	if a.opts.Wait != Forever && (!ends || a.start.Add(a.opts.Wait).Before(end)) {
		end = a.start.Add(a.opts.Wait)
	}
	f.ShowDeadline(end)
}
