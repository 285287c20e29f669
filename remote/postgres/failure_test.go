package postgres

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/lock"
)

func jsonNumber(n int64) string { return strconv.FormatInt(n, 10) }

// refused is the error of one who is not let in, in bounded time.
func refused(t *testing.T, r lock.EngineRequest) *lock.EngineError {
	t.Helper()
	from := time.Now()
	_, err := engine{}.Acquire(within(t, limit), r)
	require.Less(t, time.Since(from), connectTime+2*time.Second)
	var failed *lock.EngineError
	require.True(t, errors.As(err, &failed), "%v", err)
	require.NotContains(t, err.Error()+failed.Hint, "\n")
	require.NotContains(t, err.Error()+failed.Hint, "s3cr3t")
	return failed
}

func TestNotLetIn(t *testing.T) {
	s := shared(t)
	as := func(user string) string { return strings.Replace(s.url("in"), "postgres@", user+"@", 1) }
	for name, c := range map[string]struct {
		url, says string
		denied    bool
	}{
		"wrong password": {as("locked:s3cr3t"), `password authentication failed for user "locked" (28P01)`, true},
		"no password":    {as("locked"), "28P01", true},
		"no such role":   {as("nobody"), `role "nobody" does not exist (28000)`, true},
		"not from here":  {as("none:s3cr3t"), "pg_hba.conf rejects connection", true},
		"no database":    {strings.Replace(s.url("in"), "/postgres?", "/nowhere?", 1), `database "nowhere" does not exist (3D000)`, false},
		"no TLS":         {strings.Replace(s.url("in"), "sslmode=disable", "sslmode=require", 1), "server refused TLS connection", false},
		"no server":      {fmt.Sprintf("postgres://x:s3cr3t@127.0.0.1:%d/x", freePort(t)), "connection refused", false},
		"no socket":      {"postgres://x:s3cr3t@/x?host=/does/not/exist", "no such file or directory", false},
		"no host":        {"postgres://x:s3cr3t@nowhere.invalid/x", "nowhere.invalid", false},
		"no parameter":   {s.url("in", "nonsense=1"), `unrecognized configuration parameter "nonsense"`, false},
	} {
		t.Run(name, func(t *testing.T) {
			for _, r := range []lock.EngineRequest{asking(c.url), noWait(c.url)} {
				failed := refused(t, r)
				require.Equal(t, c.denied, failed.Denied)
				require.Equal(t, name == "no parameter", failed.Misuse)
				require.Contains(t, failed.Error(), c.says)
			}
			_, err := engine{}.Inspect(within(t, limit), c.url)
			require.ErrorContains(t, err, c.says)
		})
	}
	require.True(t, free(t, as("locked:right")))
	t.Setenv("PGPASSWORD", "right")
	require.True(t, free(t, as("locked")))
	t.Setenv("PGPASSWORD", "")
	pass := filepath.Join(t.TempDir(), "pgpass")
	require.NoError(t, os.WriteFile(pass, []byte("127.0.0.1:*:*:locked:right\n"), 0o600))
	t.Setenv("PGPASSFILE", pass)
	require.True(t, free(t, as("locked")))
}

func TestSilentServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	failed := refused(t, asking(fmt.Sprintf("postgres://x:s3cr3t@%s/x", l.Addr())))
	require.ErrorContains(t, failed, "the server does not answer")
}

// An ordinary role without rights has all that it takes.
func TestUnprivileged(t *testing.T) {
	s := shared(t)
	url := strings.Replace(s.url("plain"), "postgres@", "app@", 1)
	h := get(t, asking(url))
	r := shown(t, url, h.Token())
	require.NoError(t, engine{}.Break(within(t, limit), url, r.ID))
	lostIn(t, h, time.Second)
}

func TestUnixSocket(t *testing.T) {
	s := shared(t)
	url := fmt.Sprintf("postgres:///postgres?host=%s&port=%d&user=postgres&lock=socket", filepath.Dir(s.dir), s.port)
	get(t, asking(url))
	held(t, s.url("socket"))
}

func TestTLS(t *testing.T) {
	s := newServer(t)
	key, cert := filepath.Join(s.dir, "server.key"), filepath.Join(s.dir, "server.crt")
	output(t, asPostgres(exec.Command(need(t, "openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
		"-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", cert)))
	output(t, s.command("pg_ctl", "-D", s.dir, "-m", "fast", "-w", "stop"))
	s.params = append(s.params, "ssl=on")
	s.start(t)
	at := func(host, mode string) string {
		return fmt.Sprintf("postgres://postgres@%s:%d/postgres?sslmode=%s&sslrootcert=%s&lock=tls", host, s.port, mode, cert)
	}
	h := get(t, asking(at("localhost", "verify-full")))
	held(t, at("127.0.0.1", "verify-ca"))
	require.ErrorContains(t, refused(t, asking(at("127.0.0.1", "verify-full"))), "x509: ")
	answered(t, h)
	require.NoError(t, h.Check())
	s.sql(t, fmt.Sprintf("SELECT pg_terminate_backend(%d)", h.first.pg.PID()))
	lostIn(t, h, time.Second)
	require.Error(t, h.Release())
	require.True(t, free(t, at("localhost", "verify-full")))
}

func TestPooler(t *testing.T) {
	s := shared(t)
	bouncer := need(t, "/usr/sbin/pgbouncer")
	for _, mode := range []string{"transaction", "session"} {
		t.Run(mode, func(t *testing.T) {
			dir, port := place(t), freePort(t)
			conf, users := filepath.Join(dir, "conf"), filepath.Join(dir, "users")
			require.NoError(t, os.WriteFile(users, []byte("\"postgres\" \"\"\n"), 0o644))
			require.NoError(t, os.WriteFile(conf, fmt.Appendf(nil, `[databases]
* = host=127.0.0.1 port=%d
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = trust
auth_file = %s
pool_mode = %s
logfile = %s
`, s.port, port, users, mode, filepath.Join(dir, "log")), 0o644))
			c := asPostgres(exec.Command(bouncer, conf))
			require.NoError(t, c.Start())
			t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
			require.Eventually(t, func() bool {
				n, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
				if err == nil {
					n.Close()
				}
				return err == nil
			}, limit, 10*time.Millisecond)
			url := fmt.Sprintf("postgres://postgres@127.0.0.1:%d/postgres?sslmode=disable&lock=pooled", port)
			failed := refused(t, asking(url))
			require.True(t, failed.Misuse, "%v", failed)
			require.ErrorContains(t, failed, "pooler")
			require.True(t, free(t, s.url("pooled")), "nothing was taken")
			_, err := engine{}.Inspect(within(t, limit), url)
			require.ErrorContains(t, err, "pooler")
		})
	}
}

func TestTooManyConnections(t *testing.T) {
	s := newServer(t, "superuser_reserved_connections=3")
	s.params = nil
	s.sql(t, "CREATE ROLE app LOGIN CONNECTION LIMIT 3")
	url := strings.Replace(s.url("many"), "postgres@", "app@", 1)
	h := get(t, asking(url)) // two
	one := s.waiting(t, within(t, limit), asking(url))
	failed := refused(t, noWait(url))
	require.ErrorContains(t, failed, "53300")
	require.NotEmpty(t, failed.Hint)
	_, err := engine{}.Acquire(within(t, 500*time.Millisecond), asking(url))
	require.ErrorContains(t, err, "53300")
	two := pend(within(t, limit), asking(url))
	require.NoError(t, h.Release())
	over := make(chan error, 2)
	for _, p := range []*pending{one, two} {
		go func() {
			if <-p.done; p.err == nil {
				p.err = p.h.Release()
			}
			over <- p.err
		}()
	}
	require.NoError(t, <-over)
	require.NoError(t, <-over)
}

// old makes a cluster one that may have had holders before it was started.
func old(t *testing.T) {
	t.Helper()
	was := newFor
	newFor = -time.Hour
	t.Cleanup(func() { newFor = was })
}

// What worked under the locks of a server that was killed may still be ending when it is there again.
func TestServerKilled(t *testing.T) {
	s := newServer(t)
	old(t)
	url := s.url("restart")
	time.Sleep(afterlife(grace)) // not the first start's
	h := get(t, asking(url))
	next := s.waiting(t, within(t, limit), asking(url))
	s.kill(t)
	lostIn(t, h, time.Second)
	s.start(t)
	started := time.Now()
	held(t, url)
	r, err := engine{}.Inspect(within(t, limit), url)
	require.NoError(t, err)
	require.Equal(t, lock.StateHeld, r.State)
	require.Nil(t, r.Holder)
	require.Contains(t, r.Evidence, "the server was started")
	<-next.done
	require.NoError(t, next.err, "it has gone on waiting")
	require.Greater(t, next.at.Sub(started), afterlife(grace)-2*time.Second)
	require.Greater(t, next.h.Token(), h.Token(), "nothing takes a token back")
	require.Error(t, h.Release())
	require.NoError(t, next.h.Release())
}

// A server process that dies of a signal makes the server forget all locks, though it was not started again.
func TestServerProcessKilled(t *testing.T) {
	s := newServer(t)
	url := s.url("crash")
	h := get(t, asking(url))
	before := s.sql(t, "SELECT pg_postmaster_start_time()")
	require.NoError(t, syscall.Kill(int(h.first.pg.PID()), syscall.SIGKILL))
	crashed := time.Now()
	lostIn(t, h, time.Second)
	var after string
	require.Eventually(t, func() (ok bool) {
		var err error
		after, err = s.try("SELECT pg_postmaster_start_time()")
		return err == nil
	}, limit, 10*time.Millisecond)
	require.Equal(t, before, after)
	// The answer may have come before the server has noticed.
	require.Eventually(t, func() bool {
		_, err := engine{}.Acquire(within(t, limit), noWait(url))
		return errors.Is(err, lock.ErrHeld)
	}, limit, 10*time.Millisecond)
	next := get(t, asking(url))
	require.Greater(t, time.Since(crashed), afterlife(grace)-time.Second)
	require.Greater(t, next.Token(), h.Token())
}

// A new cluster has had no holders.
func TestNewCluster(t *testing.T) {
	s := newServer(t)
	require.True(t, free(t, s.url("new")))
}

// A server that answers no more has its locks lost, and keeps them until their holders have ended.
func TestServerStopped(t *testing.T) {
	s := newServer(t)
	url := s.url("stopped")
	h := get(t, asking(url))
	thaw := s.freeze(t)
	from := time.Now()
	require.ErrorContains(t, lostIn(t, h, reach+time.Second), "it has not answered for 3")
	require.Less(t, time.Since(from), beatEvery+answerTime+time.Second)
	thaw()
	for range 5 {
		held(t, url)
	}
	require.Error(t, h.Release())
	require.True(t, free(t, url))
}

// A release ends, whatever the server does.
func TestReleaseEnds(t *testing.T) {
	s := newServer(t)
	h := get(t, asking(s.url("release")))
	s.freeze(t)
	from := time.Now()
	require.Error(t, h.Release())
	require.Less(t, time.Since(from), 5*time.Second)
}

// A holder that was stopped has lost nothing, unless the server was away meanwhile.
func TestHolderStopped(t *testing.T) {
	s := newServer(t)
	url := s.url("holder")
	o := elsewhere(t, url)
	o.says(t, "held")
	require.NoError(t, o.Process.Signal(syscall.SIGSTOP))
	time.Sleep(reach + time.Second)
	held(t, url)
	require.NoError(t, o.Process.Signal(syscall.SIGCONT))
	time.Sleep(answerTime + time.Second)
	held(t, url)
	require.NoError(t, o.Process.Signal(syscall.SIGSTOP))
	s.stop("immediate")
	s.start(t)
	require.NoError(t, o.Process.Signal(syscall.SIGCONT))
	require.Contains(t, o.says(t, "lost"), "connection to the server was lost")
}

// Check asks the server if what is known is too old.
func TestCheckAfterSleep(t *testing.T) {
	s := newServer(t)
	h := get(t, asking(s.url("sleep")))
	sleepLong := func() {
		for _, k := range []*kept{h.first, h.second} {
			k.mu.Lock()
			k.confirmed -= time.Hour
			k.mu.Unlock()
		}
	}
	sleepLong()
	require.NoError(t, h.Check())
	require.Less(t, h.first.age(), reach)
	thaw := s.freeze(t)
	sleepLong()
	from := time.Now()
	require.Error(t, h.Check())
	require.Less(t, time.Since(from), answerTime+time.Second)
	thaw()
}

// A waiter outlives the server, several times.
func TestWaiterOutlivesRestarts(t *testing.T) {
	s := newServer(t)
	url := s.url("waiter")
	h := get(t, asking(url))
	old(t) // so that nobody gets it between one and the next
	p := s.waiting(t, within(t, limit), asking(url))
	for range 2 {
		s.stop("fast")
		s.start(t)
	}
	<-p.done
	require.NoError(t, p.err)
	require.Error(t, h.Release())
	require.NoError(t, p.h.Release())
}

// Behind one name there may be two servers. A lock of both is none.
func TestTwoServers(t *testing.T) {
	here, there := shared(t), newServer(t)
	for _, taken := range []bool{false, true} {
		a := &attempt{target: must(parse(here.url("two"))), request: asking(here.url("two"))}
		if taken {
			get(t, asking(there.url("two")))
		}
		a.first = must(a.connect(within(t, limit), "first", grace))
		a.second = must(must(parse(there.url("two"))).connect(within(t, limit), "second", grace))
		_, err := a.getFirst(within(t, limit))
		require.NoError(t, err)
		require.ErrorContains(t, a.getSecond(within(t, limit)), "two connections have led to two servers")
		a.end()
	}
}

// A server that gives everybody every lock.
func TestNoLocks(t *testing.T) {
	s := shared(t)
	a := &attempt{target: must(parse(s.url("none"))), request: asking(s.url("none"))}
	a.first = must(a.connect(within(t, limit), "first", grace))
	_, err := a.getFirst(within(t, limit))
	require.NoError(t, err)
	_, err = a.first.row(within(t, limit), "SELECT pg_advisory_unlock_all()")
	require.NoError(t, err)
	var failed *lock.EngineError
	require.ErrorAs(t, a.getSecond(within(t, limit)), &failed)
	require.True(t, failed.Misuse)
	a.end()
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// A server without TLS is talked to on the connection on which it has said so.
func TestRefusedTLS(t *testing.T) {
	s := shared(t)
	target, err := parse(strings.Replace(s.url("plain"), "sslmode=disable", "sslmode=prefer", 1))
	require.NoError(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	target.config.Host, target.config.Port = "127.0.0.1", uint16(l.Addr().(*net.TCPAddr).Port)
	for _, f := range target.config.Fallbacks {
		f.Host, f.Port = target.config.Host, target.config.Port
	}
	var accepted atomic.Int32
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted.Add(1)
			up, err := net.Dial("tcp", net.JoinHostPort(s.address, strconv.Itoa(s.port)))
			if err != nil {
				_ = c.Close()
				return
			}
			go func() { _, _ = io.Copy(up, c); _ = up.Close() }()
			go func() { _, _ = io.Copy(c, up); _ = c.Close() }()
		}
	}()
	c, err := target.connect(within(t, limit), "plain", grace)
	require.NoError(t, err)
	_, err = c.row(within(t, limit), "SELECT 1")
	require.NoError(t, err)
	require.EqualValues(t, 1, accepted.Load())
	fd, err := c.descriptor()
	require.NoError(t, err)
	require.NoError(t, unix.Close(fd))
	c.close()
}

// Whoever waits behind another one of its machine goes on waiting when the server goes away.
func TestServerIsAwayForThePrepared(t *testing.T) {
	s := newServer(t)
	for _, connected := range []bool{true, false} {
		h := get(t, asking(s.url("away")))
		if !connected {
			s.kill(t)
		}
		p := engine{}.Prepare(asking(s.url("away")))
		if connected {
			require.Eventually(t, func() bool {
				return s.sql(t, "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'dblock%'") == "4"
			}, limit, 5*time.Millisecond)
			s.kill(t)
		}
		lostIn(t, h, time.Second)
		next := &pending{done: make(chan struct{})}
		go func() {
			next.h, next.err = p.Acquire(within(t, limit))
			close(next.done)
		}()
		require.Never(t, func() bool { return ended(next) }, 300*time.Millisecond, 10*time.Millisecond)
		s.start(t)
		<-next.done
		require.NoError(t, next.err)
		release(next.h)
	}
}

// withFirstKey is an attempt that has the first key.
func withFirstKey(t *testing.T, url string) *attempt {
	t.Helper()
	ask := asking(url)
	target, err := parse(url)
	require.NoError(t, err)
	a := &attempt{target: target, request: ask}
	require.NoError(t, a.open(within(t, limit)))
	t.Cleanup(a.end)
	_, err = a.getFirst(within(t, limit))
	require.NoError(t, err)
	return a
}

// A server that has crashed since the first session got the key, and whose key is another one's now, is not the one that gave it.
func TestCrashBetweenTheSessions(t *testing.T) {
	s := newServer(t)
	a := withFirstKey(t, s.url("between"))
	require.NoError(t, syscall.Kill(int(a.first.pg.PID()), syscall.SIGKILL))
	var other *session
	var err error
	require.Eventually(t, func() bool {
		if other, err = a.connect(within(t, limit), "other", grace); err != nil {
			return false
		}
		row, err := other.row(within(t, limit), "SELECT "+try(a.key, lock.Exclusive))
		return err == nil && string(row[0]) == "t"
	}, limit, 100*time.Millisecond)
	t.Cleanup(other.close)
	require.Error(t, a.getSecond(within(t, limit)))
}

// The key of the aftermath may have become free since the server is being stopped, after the second session was let in.
func TestAftermathEndsSinceTheServerIsBeingStopped(t *testing.T) {
	s := newServer(t)
	h := get(t, asking(s.url("ends")))
	require.NoError(t, syscall.Kill(int(h.first.pg.PID()), syscall.SIGTERM))
	lostIn(t, h, time.Second)
	a := withFirstKey(t, s.url("ends"))
	a.expectSecond(within(t, limit))
	<-a.coming
	master := s.postmaster(t)
	require.NoError(t, syscall.Kill(master, syscall.SIGSTOP))
	t.Cleanup(func() { _ = syscall.Kill(master, syscall.SIGCONT) })
	require.NoError(t, syscall.Kill(master, syscall.SIGINT))
	require.NoError(t, syscall.Kill(int(h.second.pg.PID()), syscall.SIGTERM))
	require.Eventually(t, func() bool {
		row, err := a.first.row(within(t, limit), "SELECT "+try(a.after, lock.Exclusive)+" AND "+unlock(a.after, lock.Exclusive))
		return err == nil && string(row[0]) == "t"
	}, limit, 5*time.Millisecond)
	require.Error(t, a.getSecond(within(t, time.Second)))
}

func ended(p *pending) bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// A server that is being stopped ends the sessions of the holder before those of one who waits: that one does not get the lock, also if
// it has the first key already.
func TestServerIsBeingStopped(t *testing.T) {
	old(t)
	for _, mode := range []string{"waits", "is ready", "has the first key"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			url := s.url("stopping")
			h := get(t, asking(url))
			acquire := func() (lock.EngineHold, error) { return engine{}.Acquire(within(t, limit), asking(url)) }
			var next *pending
			if mode != "is ready" {
				next = s.waiting(t, within(t, limit), asking(url))
			} else {
				p := engine{}.Prepare(asking(url))
				require.Eventually(t, func() bool {
					return s.sql(t, "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'dblock waits %'") == "1"
				}, limit, 5*time.Millisecond)
				acquire = func() (lock.EngineHold, error) { return p.Acquire(within(t, limit)) }
			}
			// Its second session is there, or on its way for long.
			require.Eventually(t, func() bool {
				return s.sql(t, "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'dblock%'") == "4"
			}, limit, 5*time.Millisecond)
			master := s.postmaster(t)
			if mode == "has the first key" {
				require.NoError(t, syscall.Kill(int(h.first.pg.PID()), syscall.SIGTERM))
				lostIn(t, h, time.Second)
				require.Eventually(t, func() bool {
					return s.sql(t, "SELECT count(*) FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid) WHERE locktype = 'advisory' AND application_name LIKE 'dblock waits %'") == "2"
				}, limit, 5*time.Millisecond) // that, and the one of the heir
				require.Never(t, func() bool { return ended(next) }, 200*time.Millisecond, 10*time.Millisecond)
			}
			require.NoError(t, syscall.Kill(master, syscall.SIGSTOP))
			t.Cleanup(func() { _ = syscall.Kill(master, syscall.SIGCONT) })
			require.NoError(t, syscall.Kill(master, syscall.SIGINT))
			if mode != "has the first key" {
				require.NoError(t, syscall.Kill(int(h.first.pg.PID()), syscall.SIGTERM))
			}
			require.NoError(t, syscall.Kill(int(h.second.pg.PID()), syscall.SIGTERM))
			if mode != "has the first key" {
				lostIn(t, h, time.Second)
			}
			if next == nil {
				next = &pending{done: make(chan struct{})}
				go func() {
					next.h, next.err = acquire()
					close(next.done)
				}()
			}
			select {
			case <-next.done:
				t.Fatal("it has got the lock: ", next.err)
			case <-time.After(3 * time.Second): // it tries each second
			}
			require.NoError(t, syscall.Kill(master, syscall.SIGCONT))
			require.Eventually(t, func() bool { return syscall.Kill(master, 0) != nil }, limit, 10*time.Millisecond)
			s.start(t)
			<-next.done
			require.NoError(t, next.err)
			release(next.h)
		})
	}
}
