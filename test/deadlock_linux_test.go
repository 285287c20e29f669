package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dblock-dev/dblock/internal/portable"
)

// meeting starts scripts in one directory, where each waits until all have come so far, and
// returns how they went. In a script $0 is the program.
func meeting(t *testing.T, dir string, scripts ...string) []result {
	t.Helper()
	all := make([]result, len(scripts))
	var done sync.WaitGroup
	for i, script := range scripts {
		met := fmt.Sprintf("in%d", i)
		wait := "touch " + met + "; until true"
		for j := range scripts {
			wait += fmt.Sprintf(" && [ -e in%d ]", j)
		}
		c := exec.Command("sh", "-c", strings.ReplaceAll(script, "MEET", wait+"; do sleep 0.01; done"), binary)
		c.Dir = dir
		done.Go(func() { all[i] = finish(t, c) })
	}
	done.Wait()
	return all
}

func codes(all []result) (codes []int) {
	for _, r := range all {
		codes = append(codes, r.code())
	}
	return codes
}

// nested runs under one lock, and then under another one within it.
func nested(outer, inner string) string {
	return `"$0" ` + outer + ` -- sh -c 'MEET; "$0" -w 60 ` + inner + ` -- echo done || exit; true' "$0"`
}

func TestDeadlock(t *testing.T) {
	portable.Needs(t, portable.Processes)
	t.Parallel()
	for name, scripts := range map[string][]string{
		"two":            {nested("-d a.db", "-d b.db"), nested("-d b.db", "-d a.db")},
		"three":          {nested("-d a.db", "-d b.db"), nested("-d b.db", "-d c.db"), nested("-d c.db", "-d a.db")},
		"by other names": {nested("-d a.db", "-d link/b.db"), nested("-d b.db", "-d alias.db")},
		"readers first":  {nested("-s -d a.db", "-d b.db"), nested("-s -d b.db", "-d a.db")},
		"readers last":   {nested("-d a.db", "-s -d b.db"), nested("-d b.db", "-s -d a.db")},
		"several":        {nested("-d c.db", "-d a.db -d b.db"), nested("-d b.db", "-d c.db")},
		"of priority":    {nested("-d a.db", "--priority low -d b.db"), nested("-d b.db", "--priority high -d a.db")},
		"more in between": {
			`"$0" -d a.db -- sh -c '"$0" -d a.db -- sh -c "MEET; sh -c \"\\\"$0\\\" -w 60 -d b.db -- echo done || exit; true\"; exit" "$0"; exit' "$0"`,
			nested("-d b.db", "-d a.db"),
		},
		"a shell's hold": {
			`eval "$("$0" hold -d a.db)"; MEET; "$0" -w 60 -d b.db -- echo done || exit; true`,
			`eval "$("$0" hold -d b.db)"; MEET; eval "$("$0" hold -w 60 -d a.db)" || exit; echo done`,
		},
		"several beside one in the other": {
			`"$0" -d b.db -- sh -c 'MEET; until [ -e .a.lock ]; do sleep 0.01; done; "$0" -w 60 -d a.db -- echo done || exit; true' "$0"`,
			`MEET; "$0" -w 60 -d a.db -d b.db -- echo done || exit; true`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			require.NoError(t, os.Symlink(".", filepath.Join(dir, "link")))
			require.NoError(t, os.Symlink("a.db", filepath.Join(dir, "alias.db")))
			begin := time.Now()
			all := meeting(t, dir, scripts...)
			require.Less(t, time.Since(begin), 50*time.Second, "it was not waited out")
			var said []string
			for i, r := range all {
				switch r.code() {
				case 0:
					require.Equal(t, "done\n", r.stdout)
				case 75:
					said = append(said, r.stderr)
				default:
					require.Fail(t, "neither done nor given up", "%d: %d: %s", i, r.code(), r.stderr)
				}
			}
			require.Len(t, said, 1, "exactly one gives up: %v", codes(all))
			require.Regexp(t, `^dblock: deadlock: this command holds \S+ and waits for \S+(; pid \d+ \(.+\) holds \S+ and waits for \S+)+; echo was not run\nhint: take both at once, with .-d \S+ -d \S+., in each of them\n$`+
				`|^dblock: deadlock: .*; it is not held for .*\nhint: .*\n$`, said[0])
			t.Log(said[0])
		})
	}
}

// As long as anything that runs under one of the locks may still end, nobody gives up.
func TestNoDeadlockWhileSomebodyWorks(t *testing.T) {
	t.Parallel()
	for name, first := range map[string]string{
		"beside it":     `"$0" -d a.db -- sh -c 'MEET; "$0" -w 60 -d b.db -- echo done & sleep 1' "$0"`,
		"in a pipe":     `"$0" -d a.db -- sh -c 'MEET; sleep 1 | "$0" -w 60 -d b.db -- echo done & sleep 1' "$0"`,
		"waits briefly": `"$0" -d a.db -- sh -c 'MEET; "$0" -n -d b.db -- echo never || echo done' "$0"`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for i, r := range meeting(t, t.TempDir(), first, nested("-d b.db", "-d a.db")) {
				require.Zero(t, r.code(), "%d: %s", i, r.stderr)
				require.Equal(t, "done\n", r.stdout)
			}
		})
	}
}

func TestNoDeadlockInOrder(t *testing.T) {
	t.Parallel()
	const rounds = 84
	loop := func(command string) string {
		return fmt.Sprintf(`MEET; n=0; while [ $n -lt %d ]; do %s || exit; n=$((n+1)); done; echo done`, rounds, command)
	}
	inOrder := func(outer, inner string) string {
		return loop(`"$0" -w 60 -d ` + outer + ` -- "$0" -w 60 -d ` + inner + ` -- sleep 0.01`)
	}
	all := meeting(t, t.TempDir(), inOrder("a.db", "b.db"), inOrder("a.db", "b.db"), inOrder("b.db", "c.db"),
		inOrder("a.db", "c.db"), inOrder("c.db", "d.db"), loop(`"$0" -w 60 -d c.db -- sleep 0.07`))
	for i, r := range all {
		require.Zero(t, r.code(), "%d: %s", i, r.stderr)
		require.Equal(t, "done\n", r.stdout)
		require.Empty(t, r.stderr)
	}
}

// Two who have deadlocked do not make a third one, which only waits for them, give up.
func TestDeadlockOfOthers(t *testing.T) {
	portable.Needs(t, portable.Processes)
	t.Parallel()
	all := meeting(t, t.TempDir(), nested("-d a.db", "-d b.db"), nested("-d b.db", "-d a.db"), nested("-d c.db", "-d a.db"))
	require.Zero(t, all[2].code(), all[2].stderr)
	require.ElementsMatch(t, []int{0, 75}, codes(all[:2]))
}

// Nor one that has come before one of them into the queue of what both want. They do not look here, and
// wait for a while.
func TestDeadlockBehindAnother(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	waiting := func(db string, n int) {
		t.Helper()
		await(t, db+" is waited for", func() bool { return waiters(t, dir, db) == n })
	}
	all := make([]result, 3)
	var done sync.WaitGroup
	begin := func(i int, outer, inner, look string) {
		c := exec.Command("sh", "-c", `"$0" -d `+outer+` -- sh -c 'until [ -e go`+fmt.Sprint(i)+` ]; do sleep 0.01; done; `+look+`"$0" -w `+inner+` -- /bin/echo done || exit; true' "$0"`, binary)
		c.Dir = dir
		done.Go(func() { all[i] = finish(t, c) })
		await(t, outer+" is held", func() bool { return statusOf(t, dir, outer).Locked })
	}
	begin(0, "a.db", "4 -d b.db", "env -i ")
	begin(1, "b.db", "4 -d a.db", "env -i ")
	begin(2, "c.db", "60 -d a.db", "")
	for _, next := range []struct {
		i, n int
		db   string
	}{{2, 1, "a.db"}, {1, 2, "a.db"}, {0, 1, "b.db"}} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, fmt.Sprint("go", next.i)), nil, 0o644))
		waiting(next.db, next.n)
	}
	done.Wait()
	require.Zero(t, all[2].code(), all[2].stderr)
}

// Where the one that is to give up does not look, since it does not know what it runs under, another
// one gives up in its place.
func TestDeadlockWithOneThatDoesNotLook(t *testing.T) {
	portable.Needs(t, portable.Processes)
	t.Parallel()
	all := meeting(t, t.TempDir(),
		`"$0" -d a.db -- sh -c 'MEET; sh -c "touch first; exec \"\$0\" -w 60 -d b.db -- echo done" "$0" || exit; true' "$0"`,
		`"$0" -d b.db -- sh -c 'MEET; until [ -e first ]; do sleep 0.01; done; env -i "$0" -w 60 -d a.db -- /bin/echo done || exit; true' "$0"`)
	require.Equal(t, []int{75, 0}, codes(all), "%s%s", all[0].stderr, all[1].stderr)
	require.Contains(t, all[0].stderr, "dblock: deadlock: this command holds a.db and waits for b.db; pid ")
	require.Equal(t, "done\n", all[1].stdout)
}

// A program under a lock is told by its session that what it waits for waits for it.
func TestDeadlockOfASession(t *testing.T) {
	portable.Needs(t, portable.Processes)
	t.Parallel()
	dir := t.TempDir()
	other := exec.Command("sh", "-c", `"$0" -d b.db -- sh -c '"$0" -w 60 -d a.db -- echo done; exit' "$0"`, binary)
	other.Dir = dir
	program := exec.Command(binary, "-d", "a.db", "--", "sh", "-c", `exec 3<&0; "$0" session <&3 & wait`, binary)
	program.Dir = dir
	c := converseBy(t, program)
	c.event("hello") // it has a.db
	ended := make(chan result, 1)
	go func() { ended <- finish(t, other) }()
	await(t, "the other one waits", func() bool { return waiters(t, dir, "a.db") == 1 })
	a := c.ask(object{"id": 1, "op": "acquire", "db": "b.db", "wait": 60})
	require.Equal(t, "held", code(a))
	e := a["error"].(map[string]any)
	require.Equal(t, true, e["deadlock"])
	require.Contains(t, e["message"], "deadlock: this command holds a.db and waits for b.db; pid ")
	c.end()
	r := <-ended
	require.Zero(t, r.code(), r.stderr)
}
