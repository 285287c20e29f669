package test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What a command finds, how it ends, and what others are told meanwhile.
func TestRun(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		one, two := newMachine(t), newMachine(t)
		r := one.run("-d", s.url, "-p", "first", "--", "sh", "-c", "env | grep DBLOCK_HOLD; exit 3")
		require.Equal(t, 3, r.code, r.stderr)
		require.Empty(t, r.stderr)
		require.Contains(t, r.stdout, "DBLOCK_HOLD_DB="+s.url+"\n")
		require.Regexp(t, `(?m)^DBLOCK_HOLD_TOKEN=[1-9]\d*$`, r.stdout)

		h := one.hold(s.url, "-p", "first", "--info", "a ticket")
		for _, m := range []*machine{one, two} {
			r = m.run("-d", s.url, "-n", "--", "true")
			require.Equal(t, 75, r.code, r.stderr)
			require.Contains(t, r.stderr, "dblock: "+s.url+" is held by first (pid "+strconv.Itoa(h.Process.Pid)+" on ")
			require.Contains(t, r.stderr, "true was not run\nhint: ")
			r = m.run("-d", s.url, "-w", "0.3", "-E", "9", "--", "true")
			require.Equal(t, 9, r.code, r.stderr)
			r = m.run("status", "-v", "-d", s.url)
			require.Zero(t, r.code, r.stderr)
			for _, what := range []string{"first", "a ticket", "sh", s.url} {
				require.Contains(t, r.stdout, what)
			}
			r = m.run("status", "--json", "-d", s.url)
			var doc struct {
				State    string
				Database string
				Holder   struct {
					PID     int
					Process string
					Token   int64
				}
			}
			require.NoError(t, json.Unmarshal([]byte(r.stdout), &doc), r.stdout)
			require.Equal(t, "held", doc.State)
			require.Equal(t, s.url, doc.Database)
			require.Equal(t, h.Process.Pid, doc.Holder.PID)
			require.Equal(t, "first", doc.Holder.Process)
			require.Positive(t, doc.Holder.Token)
			require.Equal(t, 1, m.run("status", "-q", "--exit-code", "-d", s.url).code)
		}
		w := background(t, two.command("-d", s.url, "-w", "60", "-p", "second", "--", "sh", "-c", "echo $DBLOCK_HOLD_TOKEN > token"))
		await(t, "the waiter shows", func() bool { return strings.Contains(one.run("status", "-v", "-d", s.url).stdout, "second") })
		one.letGo()
		require.NoError(t, h.Wait())
		require.NoError(t, w.Wait())
		require.True(t, exists(two.dir+"/token"))
		r = one.run("status", "-d", s.url)
		require.Contains(t, r.stdout, "Database is not locked")
		require.Contains(t, one.run("log", "-d", s.url).stdout, "first")
		require.Zero(t, one.run("stats", "-d", s.url).code)
	})
}

// The token grows from hold to hold, whatever machine it is on.
func TestTokens(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		last := int64(0)
		for range 4 {
			r := newMachine(t).run("-d", s.url, "--", "printenv", "DBLOCK_HOLD_TOKEN")
			require.Zero(t, r.code, r.stderr)
			token, err := strconv.ParseInt(strings.TrimSpace(r.stdout), 10, 64)
			require.NoError(t, err)
			require.Greater(t, token, last)
			require.Less(t, token, int64(1)<<53, "JavaScript knows it exactly")
			last = token
		}
	})
}

func TestNested(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		m := newMachine(t)
		r := m.run("-d", s.url, "--", "dblock", "-n", "-d", s.url, "--", "sh", "-c", "dblock -n -- echo $DBLOCK_HOLD_DB")
		require.Zero(t, r.code, r.stderr)
		require.Equal(t, s.url+"\n", r.stdout)
	})
}

func TestReaders(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		one, two, three := newMachine(t), newMachine(t), newMachine(t)
		a, b := one.hold(s.url, "-s"), two.hold(s.url, "-s")
		require.Equal(t, 75, three.run("-n", "-d", s.url, "--", "true").code)
		require.Zero(t, three.run("-n", "-s", "-d", s.url, "--", "true").code)
		one.letGo()
		require.NoError(t, a.Wait())
		require.Equal(t, 75, three.run("-n", "-d", s.url, "--", "true").code)
		two.letGo()
		require.NoError(t, b.Wait())
		require.Zero(t, three.run("-n", "-d", s.url, "--", "true").code)
	})
}

func TestHoldAndSession(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		m, other := newMachine(t), newMachine(t)
		script := fmt.Sprintf(`eval "$(dblock hold -d '%s' -p script)" || exit; touch in; until [ -e go ]; do sleep 0.01; done; dblock release; touch out; sleep 60`, s.url)
		c := m.command()
		c.Path, c.Args = "/bin/sh", []string{"sh", "-c", script}
		c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		background(t, c)
		await(t, "it is held", func() bool { return exists(m.dir + "/in") })
		r := other.run("-n", "-d", s.url, "--", "true")
		require.Equal(t, 75, r.code)
		require.Contains(t, r.stderr, "held by script")
		m.letGo()
		await(t, "it is released", func() bool { return exists(m.dir + "/out") })
		require.Zero(t, other.run("-n", "-d", s.url, "--", "true").code)

		c = m.command("session")
		in, err := c.StdinPipe()
		require.NoError(t, err)
		out, err := c.StdoutPipe()
		require.NoError(t, err)
		background(t, c)
		lines := bufio.NewScanner(out)
		require.True(t, lines.Scan(), "hello")
		ops := []string{fmt.Sprintf(`"acquire","db":%q`, s.url), `"release"`}
		for i, op := range ops {
			var answer struct{ Hold int }
			_ = json.Unmarshal(lines.Bytes(), &answer)
			fmt.Fprintf(in, `{"id":%d,"hold":%d,"op":%s}`+"\n", i, answer.Hold, op)
			require.True(t, lines.Scan())
			require.Contains(t, lines.Text(), fmt.Sprintf(`"id":%d,"ok":true`, i))
			code := 75
			if i == 1 {
				code = 0
			}
			require.Equal(t, code, other.run("-n", "-d", s.url, "--", "true").code)
		}
	})
}

// Whoever forces a lock that is held elsewhere has its command ended there.
func TestForce(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		one, two := newMachine(t), newMachine(t)
		h := one.hold(s.url)
		r := two.run("force", "-d", s.url)
		require.Equal(t, 75, r.code, r.stdout)
		r = two.run("force", "--yes", "-d", s.url)
		require.Zero(t, r.code, r.stderr)
		require.Contains(t, r.stdout, "forcibly removed")
		_ = h.Wait()
		require.Equal(t, 69, h.ProcessState.ExitCode())
		require.Zero(t, two.run("-w", "20", "-d", s.url, "--", "true").code)
		require.Contains(t, two.run("force", "-d", s.url).stdout, "not locked")
		// On the same machine it is ended as any other.
		two.letGo()
		h = one.hold(s.url + "")
		require.Zero(t, one.run("force", "--yes", "-d", s.url).code)
		_ = h.Wait()
		require.Zero(t, two.run("-w", "20", "-d", s.url, "--", "true").code)
	})
}

func TestMistakes(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		m := newMachine(t)
		start := time.Now()
		r := m.run("-d", strings.Replace(s.url, strconv.Itoa(s.port), "1", 1), "--", "true")
		require.Equal(t, 69, r.code, r.stderr)
		require.Less(t, time.Since(start), 15*time.Second)
		require.LessOrEqual(t, strings.Count(r.stderr, "\n"), 2, r.stderr)
		r = m.run("-d", s.url, "--ttl", "5", "--", "true")
		require.Equal(t, 64, r.code, "no time to end a command in etcd, and no lease in PostgreSQL: %s", r.stderr)
		require.LessOrEqual(t, strings.Count(r.stderr, "\n"), 2, r.stderr)
		if s.name == "etcd" {
			require.Zero(t, m.run("-d", s.url, "-d", "x.db", "--ttl", "20", "--", "true").code)
		}
		r = m.run("-d", s.url, "--priority", "high", "--", "true")
		require.Equal(t, 64, r.code, r.stderr)
		r = m.run("-d", "postgres://app:secret@127.0.0.1:bad/x", "--", "true")
		require.Equal(t, 64, r.code, r.stderr)
		require.NotContains(t, r.stderr, "secret")
		r = m.run("-d", strings.Replace(strings.Replace(s.url, "app@", "", 1), "://", "://nobody:secret@", 1)+"x", "-n", "--", "env")
		require.NotContains(t, r.stderr+r.stdout, "secret")
	})
}

// A dblock that is killed keeps others out for as long as its command lives, in PostgreSQL; in
// etcd for as long as its lease.
func TestKilledDblock(t *testing.T) {
	s := postgres(t)
	one, two := newMachine(t), newMachine(t)
	h := one.hold(s.url, "--orphan=keep")
	require.NoError(t, h.Process.Kill())
	_ = h.Wait()
	require.Equal(t, 75, two.run("-w", "1", "-d", s.url, "--", "true").code)
	one.letGo()
	require.Zero(t, two.run("-w", "30", "-d", s.url, "--", "true").code)
}

// Who loses the lock ends all that it has started before the next one begins.
func TestLossEndsTheTree(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		one, two := newMachine(t), newMachine(t)
		log := filepath.Join(t.TempDir(), "log")
		tree := fmt.Sprintf(`sh -c 'trap "" TERM; for i in 1 2 3 4 5 6 7 8 9; do echo old >> %[1]s; sleep 0.1; done' & touch in; wait`, log)
		h := background(t, one.command("-d", s.url, "--kill-after", "5", "--", "sh", "-c", tree))
		await(t, "the lock is held", func() bool { return exists(one.dir + "/in") })
		next := background(t, two.command("-w", "60", "-d", s.url, "--", "sh", "-c", "echo new >> "+log))
		switch s.name {
		case "postgres":
			s.cut()
		default:
			require.Zero(t, two.run("force", "--yes", "-d", s.url).code)
		}
		_ = h.Wait()
		require.Equal(t, 69, h.ProcessState.ExitCode())
		require.NoError(t, next.Wait())
		b, err := os.ReadFile(log)
		require.NoError(t, err)
		require.True(t, strings.HasSuffix(string(b), "old\nnew\n"), string(b))
		require.Equal(t, 1, strings.Count(string(b), "new"))
	})
}

// A server that takes the connection and says nothing is waited for no longer than for a lock, and
// a signal ends that.
func TestSilentServer(t *testing.T) {
	for _, scheme := range []string{"postgres", "etcd"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer l.Close()
		url := fmt.Sprintf("%s://%s/x", scheme, l.Addr())
		m := newMachine(t)
		start := time.Now()
		r := m.run("-d", url, "-w", "1", "--", "true")
		require.Equal(t, 69, r.code, r.stderr)
		require.NotContains(t, r.stderr, "is locked")
		require.Less(t, time.Since(start), 12*time.Second)
		c := background(t, m.command("-d", url, "-w", "60", "--", "true"))
		await(t, "it waits", func() bool { return litter(m) > 0 })
		require.NoError(t, c.Process.Signal(syscall.SIGTERM))
		start = time.Now()
		_ = c.Wait()
		require.Equal(t, syscall.SIGTERM, c.ProcessState.Sys().(syscall.WaitStatus).Signal())
		require.Less(t, time.Since(start), 4*time.Second)
	}
}

// litter counts what is there of locks on a machine.
func litter(m *machine) int {
	all, _ := filepath.Glob(m.state + "/dblock/.*.d/*")
	return len(all)
}

// Who names both servers, in whatever way, gets who knows both.
func TestBothServers(t *testing.T) {
	p, e := postgres(t), etcd(t)
	m := newMachine(t)
	for _, args := range [][]string{{"-d", p.url, "-d", e.url}, {"--db=" + e.url, "-d" + p.url}} {
		r := m.run(append(args, "--", "true")...)
		require.Zero(t, r.code, r.stderr)
	}
	for _, urls := range [][2]string{{p.url, e.url}, {e.url, p.url}} {
		c := m.command("-d", urls[1], "--", "true")
		c.Env = append(c.Env, "DBLOCK_DB="+urls[0])
		require.Zero(t, finish(t, c).code)
	}
	for _, url := range []string{p.url, e.url} {
		require.Contains(t, m.run("stats", "-d", url).stdout, "Acquired")
	}
}

// The clients ask by a session, which goes on as dblock-remote-etcd.
func TestClients(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		m := newMachine(t)
		h := newMachine(t)
		py := m.command()
		py.Path, py.Args = "/usr/bin/env", []string{"env", "python3", "-c", fmt.Sprintf(`
import dblock, subprocess
url = %q
with dblock.lock(url, process="python") as hold:
    print(hold.token > 0, subprocess.run(["dblock", "-n", "-d", url, "--", "true"]).returncode)
print(subprocess.run(["dblock", "-n", "-d", url, "--", "true"]).returncode)
try:
    dblock.lock(url.replace(":%d", ":1"), timeout=1).acquire()
except dblock.DblockError as e:
    print(e.code)
`, s.url, s.port)}
		src, err := filepath.Abs("../../clients/python/src")
		require.NoError(t, err)
		py.Env = append(py.Env, "PYTHONPATH="+src)
		r := finish(t, py)
		require.Equal(t, "True 75\n0\nunreachable\n", r.stdout, r.stderr)
		require.Zero(t, h.run("-n", "-d", s.url, "--", "true").code)
	})
}

// The same with the client for Node, which is built before.
func TestNodeClient(t *testing.T) {
	need(t, "node")
	client, err := filepath.Abs("../../clients/node/dist/index.mjs")
	require.NoError(t, err)
	if !exists(client) && os.Getenv("CI") == "" {
		t.Skip("npm run build, in clients/node")
	}
	each(t, func(t *testing.T, s *server) {
		m, elsewhere := newMachine(t), newMachine(t)
		script := filepath.Join(m.dir, "client.mjs")
		require.NoError(t, os.WriteFile(script, fmt.Appendf(nil, `
import { withDatabaseLock } from %q;
import { spawnSync } from 'node:child_process';
const [url, binary, state, nobody] = process.argv.slice(2);
const code = () => spawnSync(binary, ['-n', '-d', url, '--', 'true'], { env: { ...process.env, XDG_STATE_HOME: state } }).status;
await withDatabaseLock(url, { processType: 'node' }, async () => console.log(code()));
console.log(code());
await withDatabaseLock(nobody, { processType: 'node' }, async () => {}).catch((e) => console.log(e.code));
`, client), 0o644))
		c := m.command()
		c.Path, c.Args = "/usr/bin/env", []string{"env", "node", script, s.url, binary, elsewhere.state, strings.Replace(s.url, fmt.Sprint(":", s.port), ":1", 1)}
		c.Env = append(c.Env, "DBLOCK_BINARY="+binary)
		r := finish(t, c)
		require.Equal(t, "75\n0\nunreachable\n", r.stdout, r.stderr)
	})
}
