//go:build linux && !portable

package proc

import (
	"bytes"
	"slices"
	"strconv"
)

// kernels are the filesystems in which there are but the kernel's own files, or that
// mount something else when they are looked at.
var kernels = []string{
	"autofs", "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devpts", "efivarfs",
	"fusectl", "nsfs", "proc", "pstore", "rpc_pipefs", "securityfs", "selinuxfs", "sysfs", "tracefs",
}

// Mounts lists what is mounted, by path; nil if the system does not tell. It asks none of
// the filesystems.
func Mounts() map[string]Mount {
	b, _, err := table("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	mounts := map[string]Mount{}
	for line := range bytes.Lines(b) {
		// 36 35 98:0 /root /mnt rw,noatime master:1 - ext3 /dev/root rw
		f := bytes.Fields(line)
		dash := slices.IndexFunc(f, func(word []byte) bool { return string(word) == "-" })
		if dash < 6 || dash+1 >= len(f) {
			continue
		}
		mounts[unescape(f[4])] = Mount{Device: string(f[2]), Kernel: slices.Contains(kernels, string(f[dash+1]))}
	}
	return mounts
}

// unescape undoes what the kernel does to white space and backslashes in a path.
func unescape(path []byte) string {
	var b []byte
	for i := 0; i < len(path); i++ {
		if path[i] == '\\' && i+3 < len(path) {
			if n, err := strconv.ParseUint(string(path[i+1:i+4]), 8, 8); err == nil {
				b = append(b, byte(n))
				i += 3
				continue
			}
		}
		b = append(b, path[i])
	}
	return string(b)
}
