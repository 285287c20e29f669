package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/internal/portable"
)

// A nested run outlives the hold that it leaned on, takes the lock itself, and is
// killed: what it ran keeps the lock.
func TestKilledAfterItSucceeded(t *testing.T) {
	dir := t.TempDir()
	script := `"$0" --orphan keep -d x.db -- sh -c 'touch in; while [ -e in ] && [ ! -e go ]; do sleep 0.02; done; touch ended' >out 2>&1 & echo $! > pid; until [ -e in ]; do sleep 0.02; done`
	r := execute(t, dir, "-d", "x.db", "--", "sh", "-c", script, binary)
	require.Zero(t, r.code(), r.stderr)
	pid, err := strconv.Atoi(strings.TrimSpace(read(t, dir, "pid")))
	require.NoError(t, err)
	await(t, "the nested run has the lock itself", func() bool {
		b, err := os.ReadFile(filepath.Join(dir, ".x.lock"))
		return err == nil && strings.HasPrefix(string(b), `{"pid": `+strconv.Itoa(pid)+" ")
	})
	require.NoError(t, unix.Kill(pid, unix.SIGKILL))
	await(t, "it is gone", func() bool { return gone(pid) })
	r = execute(t, dir, "-n", "-d", "x.db", "--", "true")
	require.Equal(t, 75, r.code(), "its command still runs: %s", r.stderr)
	require.NoFileExists(t, filepath.Join(dir, "ended"))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "go"), nil, 0o644))
	r = execute(t, dir, "-w", "20", "-d", "x.db", "--", "ls")
	require.Zero(t, r.code(), r.stderr)
	require.Contains(t, r.stdout, "ended")
}

func gone(pid int) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err != nil || strings.Contains(string(b), ") Z ")
}

func read(t *testing.T, dir, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	require.NoError(t, err)
	return string(b)
}

// isolated is a shell script in namespaces of its own, where it may mount what it
// likes; $0 is the program.
func isolated(t *testing.T, dir, script string, flags ...string) result {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("namespaces are root's")
	}
	args := append(append([]string{"-m", "--propagation", "private"}, flags...), "sh", "-ec", script, binary)
	c := exec.Command("unshare", args...)
	c.Dir = dir
	return finish(t, c)
}

// The outer one's process has another number in there, or none.
func TestNestedInAnotherPIDNamespace(t *testing.T) {
	portable.Needs(t, portable.Processes)
	for _, mode := range []string{"-x", "-s"} {
		dir := t.TempDir()
		r := isolated(t, dir, `"$0" `+mode+` -d x.db -- unshare -pf --mount-proc "$0" -n `+mode+` -v -d x.db -- sh -c 'sleep 0.6; echo inner'`)
		require.Equal(t, "inner\n", r.stdout, "%s: %s", mode, r.stderr)
		require.Zero(t, r.code())
	}
	dir := t.TempDir()
	r := isolated(t, dir, `"$0" -o -d x.db -- unshare -pf --mount-proc "$0" -n -d x.db -- echo never`)
	require.Equal(t, 75, r.code(), "nothing proves it without the descriptor")
	require.Empty(t, r.stdout)
}

// Where other users' processes cannot be seen, or none at all, the descriptor that
// a nested run has inherited is the proof.
func TestNestedWhereProcessesAreHidden(t *testing.T) {
	nobody := `setpriv --reuid 65534 --regid 65534 --clear-groups `
	for name, script := range map[string]string{
		"hidepid=2": `mount -t proc -o hidepid=2 proc /proc; "$0" -d x.db -- sh -c '` + nobody + `sh -c "\"$0\" -n -d x.db -- echo inner; true"' "$0"`,
		"no /proc":  `mount -t tmpfs none /proc; "$0" -d x.db -- sh -c 'sh -c "\"$0\" -n -d x.db -- echo inner; true"' "$0"`,
	} {
		t.Run(name, func(t *testing.T) {
			r := isolated(t, open(t), script)
			require.Equal(t, "inner\n", r.stdout, r.stderr)
		})
	}
}

// Everybody can read the lock file and set variables after it.
func TestForgedHoldWhereProcessesAreHidden(t *testing.T) {
	portable.Needs(t, portable.Processes)
	forge := `export $(cat env | tr "\n" " "); exec "$0" -n -d x.db -- echo "without the lock"`
	for name, mount := range map[string]string{
		"hidepid=2": `mount -t proc -o hidepid=2 proc /proc; `,
		"no /proc":  `mount -t tmpfs none /proc; `,
	} {
		t.Run(name, func(t *testing.T) {
			dir := open(t)
			script := mount + `"$0" -d x.db -- sh -c 'env | grep ^DBLOCK_HOLD_ > env; touch in; while [ -e in ] && [ ! -e go ]; do sleep 0.02; done' & until [ -e in ]; do sleep 0.02; done; ` +
				`setpriv --reuid 65534 --regid 65534 --clear-groups sh -c '` + forge + `' "$0" || echo code $?; touch go; wait`
			r := isolated(t, dir, script)
			require.Equal(t, "code 75\n", r.stdout, r.stderr)
		})
	}
}

// Where /proc hides the processes of others, and those of programs that may not be read, what
// an ended command has left is waited for all the same.
func TestATreeThatCannotBeSeen(t *testing.T) {
	need(t, "gcc", "setpriv")
	for _, mount := range []string{`mount -t proc -o hidepid=1 proc /proc; `, `mount -t proc -o hidepid=2 proc /proc; `, `mount -t tmpfs none /proc; `} {
		dir := open(t)
		source := `#include <fcntl.h>
#include <signal.h>
#include <unistd.h>
int main(void) {
	signal(SIGTERM, SIG_IGN);
	for (int i = 0; i < 64; i++) close(i);
	int fd = open("log", O_WRONLY | O_APPEND | O_CREAT, 0666);
	write(fd, "begin\n", 6);
	usleep(700000);
	return write(fd, "end\n", 4) != 4;
}`
		require.NoError(t, os.WriteFile(filepath.Join(dir, "hidden.c"), []byte(source), 0o644))
		out, err := exec.Command("gcc", "-o", filepath.Join(dir, "hidden"), filepath.Join(dir, "hidden.c")).CombinedOutput()
		require.NoError(t, err, "%s", out)
		require.NoError(t, os.Chmod(filepath.Join(dir, "hidden"), 0o711)) // not to be read: not to be looked at
		as := `setpriv --reuid 65534 --regid 65534 --clear-groups `
		r := isolated(t, dir, mount+as+`"$0" -d x.db -- sh -c './hidden & sleep 2' & pid=$!; until [ -e log ]; do sleep 0.02; done; kill -TERM $pid; `+
			as+`"$0" -q -w 20 -d x.db -- cat log`)
		require.Equal(t, "begin\nend\n", r.stdout, "%s: %s", mount, r.stderr)
	}
}

// What a shell had started before it became dblock is no part of the command, seen or not.
func TestChildrenOfAFormerLifeAreNotWaitedFor(t *testing.T) {
	need(t, "setpriv")
	dir := open(t)
	r := isolated(t, dir, `mount -t proc -o hidepid=2 proc /proc; setpriv --reuid 65534 --regid 65534 --clear-groups `+
		`sh -c '(sleep 2; touch late) >/dev/null 2>&1 & exec "$0" -d x.db -- sh -c "kill -TERM \$\$"' "$0" || echo "code $?"; [ ! -e late ] && echo "not waited for"`)
	require.Equal(t, "code 143\nnot waited for\n", r.stdout, r.stderr)
}

// open is a directory that every user may write to.
func open(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "dblock-open")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o777))
	require.NoError(t, os.Chmod(filepath.Dir(binary), 0o755))
	return dir
}
