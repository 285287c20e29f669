package run

import (
	"bytes"
	"os"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// deathSignal makes the kernel end the command if dblock is killed. It is sent
// when the thread that started the command ends, and the Go runtime ends no
// thread but those of goroutines that end while locked to one: there are none.
func (c *Command) deathSignal() *syscall.SysProcAttr {
	if c.Orphan == "keep" {
		return nil
	}
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
}

// wait returns how the command ended, and tells of its stops meanwhile. It looks
// without reaping first: between its death and its reaping nobody may signal it.
func (ch *child) wait(stopped chan<- syscall.Signal) syscall.WaitStatus {
	for {
		var info unix.Siginfo
		err := unix.Waitid(unix.P_PID, ch.pid, &info, unix.WEXITED|unix.WSTOPPED|unix.WNOWAIT, nil)
		if err == unix.EINTR {
			continue
		}
		var status syscall.WaitStatus
		if err == nil && (info.Code == cldStopped || info.Code == cldTrapped) {
			// Consume this stop, or the next look would see it again.
			_ = unix.Waitid(unix.P_PID, ch.pid, nil, unix.WSTOPPED|unix.WNOHANG, nil)
			select {
			case stopped <- stopSignal(&info):
			default:
			}
			continue
		}
		ch.mu.Lock()
		for {
			if _, err = syscall.Wait4(ch.pid, &status, 0, nil); err != syscall.EINTR {
				break
			}
		}
		ch.reaped = true
		ch.mu.Unlock()
		return status
	}
}

// Values of si_code for SIGCHLD.
const (
	cldTrapped = 4
	cldStopped = 5
)

// stopSignal is the signal that stopped the command: si_status, which x/sys does
// not name. It follows si_pid and si_uid behind the 16 bytes of the head.
func stopSignal(info *unix.Siginfo) syscall.Signal {
	return syscall.Signal(*(*int32)(unsafe.Add(unsafe.Pointer(info), 24)))
}

// isStopped reports whether the command is stopped.
func (ch *child) isStopped() bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(ch.pid) + "/stat")
	return err == nil && bytes.Contains(stat, []byte(") T "))
}
