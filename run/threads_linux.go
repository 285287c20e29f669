//go:build linux && !portable

package run

import (
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// threads is how many a run needs at most beside the first: for signals, for the children,
// for the heartbeat, for messages, for the Go runtime's own work, and one to wake them.
const threads = 8

// prepare starts the threads that will be needed while the command runs, if the command could
// use up the number of processes that its user may have: the Go runtime ends a
// program that can start no thread. They stay idle until then.
func prepare() {
	var limit unix.Rlimit
	if os.Geteuid() == 0 || unix.Getrlimit(unix.RLIMIT_NPROC, &limit) != nil || limit.Cur == unix.RLIM_INFINITY {
		return
	}
	var up, idle sync.WaitGroup
	down := make(chan struct{})
	for range threads {
		up.Add(1)
		idle.Add(1)
		go func() {
			runtime.LockOSThread()
			up.Done()
			<-down
			runtime.UnlockOSThread()
			idle.Done()
		}()
	}
	up.Wait()
	close(down)
	// Until it has been unlocked no thread can do anything else, and on a busy machine that
	// takes its time.
	idle.Wait()
}
