//go:build linux && !portable

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
// without reaping first: between its death and its reaping nobody may signal it. What
// others have started and left to us (see tree.Adopt) is reaped on the way.
func (ch *child) wait(stopped chan<- syscall.Signal) syscall.WaitStatus {
	for {
		var info unix.Siginfo
		err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WSTOPPED|unix.WNOWAIT, nil)
		if err == unix.EINTR {
			continue
		}
		pid := who(&info)
		if err == nil && (info.Code == cldStopped || info.Code == cldTrapped) {
			// Consume this stop, or the next look would see it again.
			_ = unix.Waitid(unix.P_PID, pid, nil, unix.WSTOPPED|unix.WNOHANG, nil)
			if pid == ch.pid {
				select {
				case stopped <- stopSignal(&info):
				default:
				}
			}
			continue
		}
		if err == nil && pid != ch.pid {
			_, _ = syscall.Wait4(pid, nil, syscall.WNOHANG, nil)
			continue
		}
		var status syscall.WaitStatus
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

// childless reports whether this process has no child, not even one that has ended.
func childless() bool {
	for {
		err := unix.Waitid(unix.P_ALL, 0, nil, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			return err == unix.ECHILD
		}
	}
}

// childInGroup reports whether a child is in our process group.
func childInGroup() bool {
	for {
		err := unix.Waitid(unix.P_PGID, unix.Getpgrp(), nil, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			return err == nil
		}
	}
}

// childNews returns when a child has ended and is not reaped, or there is none.
func childNews() {
	for unix.Waitid(unix.P_ALL, 0, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
		continue
	}
}

// reap reaps the children that have ended, and returns how many.
func reap() (n int) {
	for {
		pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
		switch {
		case err == syscall.EINTR:
		case err != nil || pid == 0:
			return n
		default:
			n++
		}
	}
}

// Values of si_code for SIGCHLD.
const (
	cldTrapped = 4
	cldStopped = 5
)

// What x/sys does not name of a siginfo: si_pid, si_uid and si_status follow the head of
// three numbers, which is filled up to the size of a pointer.
const infoHead = (3*4 + unsafe.Sizeof(uintptr(0)) - 1) &^ (unsafe.Sizeof(uintptr(0)) - 1)

// who is the child that it is about.
func who(info *unix.Siginfo) int {
	return int(*(*int32)(unsafe.Add(unsafe.Pointer(info), infoHead)))
}

// stopSignal is the signal that stopped it.
func stopSignal(info *unix.Siginfo) syscall.Signal {
	return syscall.Signal(*(*int32)(unsafe.Add(unsafe.Pointer(info), infoHead+8)))
}

// isStopped reports whether the command is stopped.
func (ch *child) isStopped() bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(ch.pid) + "/stat")
	return err == nil && bytes.Contains(stat, []byte(") T "))
}
