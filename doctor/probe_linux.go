//go:build linux && !portable

package doctor

import (
	"encoding/binary"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// ofdLock locks the first byte for reading and writing, by the open file.
func ofdLock(fd int) error {
	return unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK, Len: 1})
}

// signs tries the locks by which dblocks show each other what they are at.
func (p *probing) signs() []Finding {
	const why = "By them dblocks show each other what they are at. Without them locking is as safe, only that `dblock -n` takes half a second to find out that somebody is in."
	warn := func(found string) []Finding {
		return []Finding{{"ofd-locks", Warning, found, why, "nothing, or use a filesystem of this machine"}}
	}
	fd, err := p.open("file", unix.O_RDWR)
	if err != nil {
		return nil
	}
	err = ofdLock(fd)
	excluded := p.guard.ask("ofd")
	_ = unix.Close(fd)
	switch {
	case err != nil:
		return warn("locks of a part of a file do not work: " + err.Error())
	case excluded == nil:
		return warn("two processes had the lock of one byte at the same time")
	}
	if err := p.guard.ask("ofd"); err != nil {
		return warn("closing a file does not release the lock of a byte: " + err.Error())
	}
	_ = p.guard.ask("drop")
	return []Finding{{"ofd-locks", OK, "locks of a part of a file work, by the open file", why, ""}}
}

// exchange tries the two forms of rename that a takeover needs.
func (p *probing) exchange() []Finding {
	make := func(name string) {
		if fd, err := p.open(name, unix.O_RDWR|unix.O_CREAT); err == nil {
			_ = unix.Close(fd)
		}
	}
	make("other")
	swap := Finding{"exchange", OK, "two files can be exchanged in one step", "So an abandoned lock is taken over without a moment in which there is none.", ""}
	if err := unix.Renameat2(p.fd, "file", p.fd, "other", unix.RENAME_EXCHANGE); err != nil {
		swap.Level, swap.Found, swap.Do = Warning, "two files cannot be exchanged in one step: "+err.Error(), "nothing, if only dblocks use the database"
		swap.Why = "Taking over an abandoned lock takes several steps then, and another program may come in between."
	}
	fresh := Finding{"noreplace", OK, "renaming without replacing works", "So the queue's files are complete when they appear.", ""}
	err := unix.Renameat2(p.fd, "file", p.fd, "other", unix.RENAME_NOREPLACE)
	switch err {
	case unix.EEXIST:
		err = unix.Renameat2(p.fd, "other", p.fd, "link", unix.RENAME_NOREPLACE)
	case nil:
		err = fmt.Errorf("it replaces")
	}
	if err != nil {
		fresh.Level, fresh.Found, fresh.Do = Warning, "renaming without replacing does not work: "+err.Error(), "nothing; dblock takes two steps instead"
	}
	return []Finding{swap, fresh}
}

// events tries whether the kernel tells what another process does to a file.
func (p *probing) events() []Finding {
	const why = "By them a holder notices at once what happens to its lock file. Without them it looks every 20 ms."
	warn := func(found, do string) []Finding { return []Finding{{"events", Warning, found, why, do}} }
	in, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return warn("events are not to be had: "+err.Error(), "raise the limits: sysctl fs.inotify.max_user_instances (and ulimit -n)")
	}
	defer unix.Close(in)
	watch := func(name string) error {
		_, err := unix.InotifyAddWatch(in, fmt.Sprintf("%s/%s", p.path, name), unix.IN_MODIFY|unix.IN_ATTRIB|unix.IN_MOVE_SELF|unix.IN_DELETE_SELF|unix.IN_DONT_FOLLOW)
		return err
	}
	if err := watch("file"); err != nil {
		return warn("events are not to be had: "+err.Error(), "raise the limit: sysctl fs.inotify.max_user_watches")
	}
	for _, step := range []struct {
		op, what string
		mask     uint32
	}{
		{"write", "is written", unix.IN_MODIFY},
		{"remove file", "is deleted", unix.IN_DELETE_SELF | unix.IN_ATTRIB},
	} {
		if err := p.guard.ask(step.op); err != nil {
			return nil
		}
		if !arrives(in, step.mask) {
			return warn("the kernel does not tell when another process does something to a file: when it "+step.what, "nothing; on a network filesystem that is usual for what other machines do")
		}
	}
	return []Finding{{"events", OK, "the kernel tells at once what another process does to a file", why, ""}}
}

// arrives waits for an event.
func arrives(in int, mask uint32) bool {
	for end := time.Now().Add(slow / 2); time.Now().Before(end); {
		if n, _ := unix.Poll([]unix.PollFd{{Fd: int32(in), Events: unix.POLLIN}}, int(slow.Milliseconds()/10)); n <= 0 {
			continue
		}
		var buf [4096]byte
		n, _ := unix.Read(in, buf[:])
		// An event without a name is 16 bytes; the second word of it is what happened.
		for at := 0; at+16 <= n; at += 16 {
			if nativeWord(buf[at+4:])&mask != 0 {
				return true
			}
		}
	}
	return false
}

func nativeWord(b []byte) uint32 { return binary.NativeEndian.Uint32(b) }
