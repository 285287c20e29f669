package test

import (
	"bufio"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/internal/portable"
)

// A session that is killed leaves its locks to the program, which may be in the middle of its
// work, until that closes the session's input, has ended, or somebody forces it.
func TestAKilledSessionKeepsItsLocks(t *testing.T) {
	portable.Needs(t, portable.Witness)
	t.Parallel()
	for _, how := range []string{"the input is closed", "the program ends", "force"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			// cat has the other end of the session's input.
			program := exec.Command("sh", "-c", `mkfifo in; "$0" session <in & echo $!; exec cat >in`, binary)
			program.Dir = dir
			in, err := program.StdinPipe()
			require.NoError(t, err)
			out, err := program.StdoutPipe()
			require.NoError(t, err)
			start(t, program)
			lines := bufio.NewReader(out)
			line := func() string {
				s, err := lines.ReadString('\n')
				require.NoError(t, err)
				return s
			}
			pid, hello := line(), line()
			if strings.HasPrefix(pid, "{") {
				pid, hello = hello, pid
			}
			require.Contains(t, hello, `"witness"`)
			_, err = io.WriteString(in, `{"id":1,"op":"acquire","db":"app.db"}`+"\n")
			require.NoError(t, err)
			require.Contains(t, line(), `"ok":true`)
			n, err := strconv.Atoi(strings.TrimSpace(pid))
			require.NoError(t, err)
			require.NoError(t, unix.Kill(n, unix.SIGKILL))
			_, err = lines.ReadString('\n')
			require.ErrorIs(t, err, io.EOF, "the program sees that")
			await(t, "it is known to be an orphan's", func() bool { return statusOf(t, dir, "app.db").State == "orphaned" })
			require.Equal(t, 75, execute(t, dir, "-n", "-q", "-d", "app.db", "--", "true").code())
			switch how {
			case "force":
				require.Zero(t, execute(t, dir, "force", "--yes", "-d", "app.db").code())
			case "the program ends":
				require.NoError(t, program.Process.Kill())
			default:
				require.NoError(t, in.Close())
			}
			await(t, "the lock is free", func() bool { return statusOf(t, dir, "app.db").State != "orphaned" })
			require.Zero(t, execute(t, dir, "-d", "app.db", "--", "true").code())
			require.Empty(t, litter(t, dir))
		})
	}
}

// The same for a keeper: the shell goes on, and does not know.
func TestAKilledKeeperKeepsTheLock(t *testing.T) {
	portable.Needs(t, portable.Witness)
	t.Parallel()
	need(t, shells...)
	for _, shell := range shells {
		t.Run(shell, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			r := finish(t, scripted(t, dir, shell, holds+`kill -KILL $DBLOCK_HOLD_KEEPER; until ! kill -0 $DBLOCK_HOLD_KEEPER 2>/dev/null; do sleep 0.02; done
				env -u DBLOCK_HOLD_LOCK_FILE -u DBLOCK_HOLD_OUTER dblock -n -q -d x.db -- true; echo $?`))
			require.Equal(t, "75\n", r.stdout)
			require.Zero(t, execute(t, dir, "-d", "x.db", "--", "true").code(), "it ends with the shell")
			require.Empty(t, litter(t, dir))
		})
	}
}

// The shell goes on only when its keeper has a witness.
func TestAKeeperKilledAtOnceKeepsTheLock(t *testing.T) {
	portable.Needs(t, portable.Witness)
	t.Parallel()
	need(t, "strace", "sh")
	dir := t.TempDir()
	// Processes begin late, the witness among them.
	r := finish(t, scripted(t, dir, "sh", `strace -D -f -o /dev/null -e trace=clone -e inject=clone:delay_enter=100000 dblock hold --for $$ -d x.db >said 2>&1 </dev/null
		eval "$(cat said)"; kill -KILL $DBLOCK_HOLD_KEEPER; until ! kill -0 $DBLOCK_HOLD_KEEPER 2>/dev/null; do sleep 0.02; done
		env -u DBLOCK_HOLD_LOCK_FILE -u DBLOCK_HOLD_OUTER dblock -n -q -d x.db -- true; echo $?`))
	require.Equal(t, "75\n", r.stdout, r.stderr)
	require.Zero(t, execute(t, dir, "-d", "x.db", "--", "true").code(), "it ends with the shell")
	require.Empty(t, litter(t, dir))
}

// The shell that has learned of it lets others in, also where readers beside it show no orphan, and
// keeps what it holds besides.
func TestReleaseDismissesWhatAKilledKeeperHasLeft(t *testing.T) {
	portable.Needs(t, portable.Witness)
	t.Parallel()
	need(t, "sh")
	dir := t.TempDir()
	reader := hold(t, dir, "-s", "-d", "x.db")
	r := finish(t, scripted(t, dir, "sh", `eval "$(dblock hold -d y.db)"; other=$DBLOCK_HOLD_KEEPER; eval "$(dblock hold -s -d x.db)"
		kill -KILL $DBLOCK_HOLD_KEEPER; dblock release -qq >said; echo $?; touch go
		dblock -w 20 -q -d x.db -- true; echo $?
		ps -o pid= --ppid $other | wc -l`))
	require.NoError(t, reader.Wait())
	require.Equal(t, "69\n0\n1\n", r.stdout, r.stderr)
	require.Zero(t, execute(t, dir, "-d", "y.db", "--", "true").code(), "the other one ends with the shell")
	require.Empty(t, litter(t, dir))
}

// Who ends as he should leaves no second process behind.
func TestNoWitnessIsLeft(t *testing.T) {
	portable.Needs(t, portable.Witness)
	t.Parallel()
	dir := t.TempDir()
	c := converse(t, dir)
	c.acquire("app.db", nil)
	children := func(pid int) string {
		out, _ := exec.Command("ps", "-o", "pid=", "--ppid", strconv.Itoa(pid)).Output()
		return strings.TrimSpace(string(out))
	}
	witness := children(c.cmd.Process.Pid)
	require.NotEmpty(t, witness)
	c.end()
	n, err := strconv.Atoi(witness)
	require.NoError(t, err)
	require.True(t, gone(n))
}
