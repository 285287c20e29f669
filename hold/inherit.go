package hold

import "golang.org/x/sys/unix"

// inheritNone keeps what this process has inherited, except the first three descriptors, from
// those that it starts: one by one.
func inheritNone() {
	const most = 1 << 16
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil || limit.Cur > most {
		limit.Cur = most
	}
	for fd := 3; fd < int(limit.Cur); fd++ {
		unix.CloseOnExec(fd)
	}
}
