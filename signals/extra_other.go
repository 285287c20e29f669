//go:build !linux

package signals

import "syscall"

var extra, extraFaults []syscall.Signal
