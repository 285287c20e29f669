// Command probe shows what the entry point has done.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"github.com/dblock-dev/dblock/internal/entry"
)

// slack is how late the timers of the first thread may be, which is the one that initialises.
var slack = func() uintptr {
	const prGetTimerslack = 30
	ns, _, _ := syscall.RawSyscall(syscall.SYS_PRCTL, prGetTimerslack, 0, 0)
	return ns
}()

func main() {
	fmt.Println(entry.Ran(), entry.Narrowed(), runtime.GOMAXPROCS(0), len(os.Environ()), runtime.MemProfileRate, slack)
	free, err := syscall.Open(os.DevNull, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	fmt.Println("first free descriptor", free, err)
	child := exec.Command("/bin/sh", "-c", "ulimit -Sn; ulimit -Hn; cat /proc/self/timerslack_ns")
	child.Stdout, child.Stderr = os.Stdout, os.Stderr
	runtime.LockOSThread()
	entry.Restore()
	if err := child.Run(); err != nil {
		fmt.Println(err)
	}
}
