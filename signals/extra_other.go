//go:build !linux

package signals

import "syscall"

var extra []syscall.Signal
