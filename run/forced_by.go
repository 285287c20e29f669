package run

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/internal/cli"
	"github.com/dblock-dev/dblock/internal/tree"
	"github.com/dblock-dev/dblock/signals"
)

// forcedBy names the `dblock force` that has sent a signal, or is empty. It is still there
// to be looked at, since it waits for what it ends.
func forcedBy(sig signals.Received) string {
	pid, uid := sig.Sender()
	if pid == 0 || sig.Signal != unix.SIGTERM {
		return ""
	}
	proc := "/proc/" + strconv.Itoa(pid)
	// The program of another user's process is not to be seen, its name is.
	name, _ := os.ReadFile(proc + "/comm")
	if string(name) != "dblock\n" && !tree.IsDblock(tree.Process{PID: pid}) {
		return ""
	}
	line, _ := os.ReadFile(proc + "/cmdline")
	args := bytes.Split(line, []byte{0})
	is := func(arg string) func([]byte) bool { return func(a []byte) bool { return string(a) == arg } }
	if len(args) < 2 || !is("force")(args[1]) && !(is("status")(args[1]) && slices.ContainsFunc(args[2:], is("--force"))) {
		return ""
	}
	return fmt.Sprintf("ended by `dblock force` (pid %d, user %s)", pid, cli.UserName(uid))
}

// tellOfForce says who has ended the command, or the wait, if that was `dblock force`.
func tellOfForce(v cli.Voice, sig signals.Received) {
	if by := forcedBy(sig); by != "" {
		v.Tell("%s", by)
	}
}
