//go:build !linux || portable

package signals

import "syscall"

var extra, extraFaults []syscall.Signal
