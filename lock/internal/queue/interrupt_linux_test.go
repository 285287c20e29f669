//go:build linux && !portable

package queue

import (
	"context"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dblock-dev/dblock/signals"
)

// A wait that can be interrupted leaves the kernel's queue when its context ends, at every
// moment. It needs a handler, which would be in the way of the other tests: so it is
// another process that does it.
func TestInterruptedWaitLeavesTheQueue(t *testing.T) {
	t.Parallel()
	const child = "QUEUE_TEST_INTERRUPT"
	if os.Getenv(child) == "" {
		c := exec.Command(os.Args[0], "-test.run=^TestInterruptedWaitLeavesTheQueue$", "-test.v")
		c.Env = append(os.Environ(), child+"=1")
		out, err := c.CombinedOutput()
		require.NoError(t, err, "%s", out)
		return
	}
	if !signals.Listen(0).Interrupts() {
		t.Skip("no handler of our own here")
	}
	path := file(t)
	for i := range 200 {
		holder := open(t, path)
		mustLock(t, holder, Exclusive)
		ctx, cancel := context.WithCancel(t.Context())
		f := open(t, path)
		f.Interruptible(signals.Interrupt)
		got := wait(t, ctx, f, Exclusive)
		var wg sync.WaitGroup
		if i%2 == 0 {
			require.Eventually(t, func() bool { return claims(t, holder, true) == 1 }, patience, time.Millisecond)
			cancel()
			require.ErrorIs(t, <-got, context.Canceled)
			require.Zero(t, claims(t, holder, true), "nothing waits in the kernel")
			holder.Close()
		} else {
			wg.Go(cancel)
			wg.Go(holder.Close)
			if <-got == nil {
				f.Close()
			}
		}
		wg.Wait()
		cancel()
		probe := open(t, path)
		require.True(t, try(t, probe, Exclusive), "nobody has it, and nobody will")
		probe.Close()
	}
	require.Empty(t, left.waits)
}
