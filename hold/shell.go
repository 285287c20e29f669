package hold

import (
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/internal/cli"
	"github.com/dblock-dev/dblock/internal/tree"
)

// reader finds the process that evaluates what this one prints: of those that have started it,
// the nearest that has the other end of the pipe. `$(...)` may run commands in a process
// between the two, which ends with them. For a file it is the parent.
func reader() (pid int, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(unix.Stdout, &st); err != nil {
		return 0, os.NewSyscallError("fstat", err)
	}
	all, hidden := ancestors(), false
	if st.Mode&unix.S_IFMT == unix.S_IFREG || len(all) == 0 {
		return os.Getppid(), nil
	}
	for _, pid := range all {
		reads, err := reads(pid)
		if reads {
			return pid, nil
		}
		hidden = hidden || err != nil
	}
	if hidden {
		return 0, cli.Usage("the shell that reads what this prints cannot be seen", howItIsRead)
	}
	return 0, errNotRead
}

const howItIsRead = "in a shell: `eval \"$(dblock hold -d PATH)\"`; elsewhere, name the process with --for"

var errNotRead = cli.Usage("no process that has started this one reads what it prints", howItIsRead)

// stillReads reports whether the process that was found to evaluate what this one prints has
// the other end of the pipe still: in a pipeline a shell has it for a moment, too, until it has
// started the next part.
func stillReads(pid int) bool {
	var st unix.Stat_t
	if unix.Fstat(unix.Stdout, &st) != nil || st.Mode&unix.S_IFMT == unix.S_IFREG || len(ancestors()) == 0 {
		return true
	}
	yes, err := reads(pid)
	return yes || err != nil
}

// ancestors are the parent of this process, its parent, and so on; nobody where the system
// does not tell.
func ancestors() (pids []int) {
	for pid := os.Getppid(); pid > 0 && len(pids) < 1000; {
		p, ok := tree.Look(pid)
		if !ok {
			break
		}
		pids = append(pids, pid)
		pid = p.Parent
	}
	return pids
}

// above reports whether a process has started this one, or what has started it, as far as
// the system tells.
func above(pid int) bool {
	all := ancestors()
	return len(all) == 0 && pid == os.Getppid() || slices.Contains(all, pid)
}
