//go:build linux

package test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dblock-dev/dblock/internal/portable"
)

// peer is the Node program that behaves as the TypeScript lock does.
func peer(t *testing.T, lockFile string, args ...string) *exec.Cmd {
	t.Helper()
	need(t, "node")
	path, err := filepath.Abs("peer/peer.mjs")
	require.NoError(t, err)
	return exec.Command("node", append([]string{path, lockFile}, args...)...)
}

// A peer that calls a lock stale after 1.5 s must never take one that a dblock
// with the same setting has held for longer; nor may anybody ever read a notice
// that is no JSON, or older than two beats.
func TestPeerNeverTakesALiveLock(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := hold(t, dir, "--stale-timeout", "1.5", "-d", "x.db")
	notice := filepath.Join(dir, ".x.lock")
	before, err := os.Stat(notice)
	require.NoError(t, err)
	p := peer(t, notice, "--stale", "1500", "--retries", "45", "--delay", "100")
	out, err := p.StdoutPipe()
	require.NoError(t, err)
	start(t, p)
	const beats = 2 * 250
	reads := 0
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); reads++ {
		b, err := os.ReadFile(notice)
		now := time.Now().UnixMilli()
		require.NoError(t, err)
		var n struct{ Timestamp int64 }
		require.NoError(t, json.Unmarshal(b, &n), "%q", b)
		// A busy machine may be late, but never by as much as makes a lock stale.
		require.Less(t, now-n.Timestamp, int64(beats+600))
	}
	require.Greater(t, reads, 1000)
	after, err := os.Stat(notice)
	require.NoError(t, err)
	require.True(t, os.SameFile(before, after))
	var result struct{ Ops, Timeouts int }
	require.NoError(t, json.NewDecoder(out).Decode(&result))
	require.Equal(t, 0, result.Ops)
	require.Equal(t, 1, result.Timeouts)
	letGo(t, dir)
	require.NoError(t, c.Wait())
}

// The protocol has windows with peers of this kind, which a busy machine makes wide; dblock tells
// when it was in one (69). Not time after time.
func TestPeerAndDblockTakeTurns(t *testing.T) {
	t.Parallel()
	for range 3 {
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(dir, "count"), []byte("0"), 0o644))
		p := start(t, peer(t, filepath.Join(dir, ".x.lock"), "--ops", "8", "--hold", "5", "--counter", filepath.Join(dir, "count"), "--retries", "300"))
		told := false
		for range 40 {
			code := execute(t, dir, "-q", "-w", "60", "-d", "x.db", "--", "sh", "-c", increment).code()
			require.Contains(t, []int{0, 69}, code)
			told = told || code == 69
		}
		require.NoError(t, p.Wait())
		require.Empty(t, litter(t, dir))
		if !told {
			require.Equal(t, 8+40, count(t, dir))
			return
		}
	}
	t.Fatal("the lock was lost each time")
}

// status and the giving-up message name a peer that holds the lock.
func TestPeerIsNamed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := peer(t, filepath.Join(dir, ".x.lock"), "--wait-stdin", "--process", "mcp-server")
	in, err := p.StdinPipe()
	require.NoError(t, err)
	out, err := p.StdoutPipe()
	require.NoError(t, err)
	start(t, p)
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "held\n", line)
	s := statusOf(t, dir, "x.db")
	require.Equal(t, "foreign", s.State)
	require.Equal(t, p.Process.Pid, s.Holder.PID)
	r := execute(t, dir, "-n", "-d", "x.db", "--", "true")
	require.Equal(t, 75, r.code())
	require.Contains(t, r.stderr, fmt.Sprintf("mcp-server (pid %d on ", p.Process.Pid))
	w := start(t, command(t, dir, "-q", "-w", "forever", "-d", "x.db", "--", "touch", "ran"))
	if !portable.Half { // who waits for a peer waits for no kernel lock
		await(t, "one waits", func() bool { return waiters(t, dir, "x.db") == 1 })
	}
	require.False(t, exists(dir, "ran"))
	require.NoError(t, in.Close())
	require.NoError(t, w.Wait())
	require.True(t, exists(dir, "ran"))
}

func TestMake(t *testing.T) {
	need(t, "make")
	t.Parallel()
	dir := t.TempDir()
	var rules strings.Builder
	fmt.Fprintf(&rules, "N := %s\nall: $(addprefix r,$(N))\nr%%:\n\t@dblock -q -w 60 -d x.db -- sh -c 'v=$$(cat count); echo $$((v+1)) > count'\nsub:\n\t@+dblock -d x.db -- $(MAKE) -s inner\ninner: part1 part2 part3\npart%%:\n\t@echo $@ >> made\n",
		"1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "Makefile"), []byte(rules.String()), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "count"), []byte("0"), 0o644))
	for _, target := range []string{"all", "sub"} {
		c := exec.Command("make", "-s", "-j4", target)
		c.Dir = dir
		out, err := c.CombinedOutput()
		require.NoError(t, err, "%s", out)
		require.Empty(t, string(out), "the job server reaches the command")
	}
	require.Equal(t, 20, count(t, dir))
	b, err := os.ReadFile(filepath.Join(dir, "made"))
	require.NoError(t, err)
	require.Len(t, strings.Fields(string(b)), 3)
}

// What cron gives: no terminal, hardly an environment, nothing on stdin.
func TestLikeCron(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cron := func(args ...string) result {
		c := command(t, dir, args...)
		c.Env = []string{"PATH=/usr/bin:/bin", "HOME=/", "LOGNAME=root", "SHELL=/bin/sh"}
		return finish(t, c)
	}
	r := cron("-d", dir+"/x.db", "--", "sh", "-c", "cat; echo done")
	require.Zero(t, r.code(), r.stderr)
	require.Equal(t, "done\n", r.stdout)
	require.Empty(t, r.stderr, "no mail without a reason")
	hold(t, dir, "-d", "x.db", "-p", "import")
	r = cron("-w", "0.5", "-d", dir+"/x.db", "-c", "echo never")
	require.Equal(t, 75, r.code())
	require.Regexp(t, `^dblock: /.*\.x\.lock is held by import \(pid \d+ on .*\) for .*; gave up after .*; "echo never" was not run\nhint: `, r.stderr)
	require.NotContains(t, r.stderr, "\x1b")
	require.NotContains(t, r.stderr, "\r")
	r = cron("-n", "-qq", "-E", "0", "-d", dir+"/x.db", "--", "true")
	require.Zero(t, r.code())
	require.Empty(t, r.stderr)
	letGo(t, dir)
}

func TestSQLite(t *testing.T) {
	need(t, "sqlite3")
	t.Parallel()
	dir := t.TempDir()
	require.Zero(t, execute(t, dir, "-d", "x.db", "--", "sqlite3", "x.db", "create table t(n); insert into t values(0)").code())
	contend(t, dir, 20, func(int) []string {
		return []string{"-q", "-w", "60", "-d", "x.db", "--", "sh", "-c", `n=$(sqlite3 x.db 'select n from t'); sqlite3 x.db "update t set n=$((n+1))"`}
	})
	r := execute(t, dir, "-s", "-d", "x.db", "--", "sqlite3", "x.db", "select n from t")
	require.Equal(t, "20\n", r.stdout)
}
