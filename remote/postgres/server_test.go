package postgres

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// programs is where Debian has the server, which is in no PATH.
var programs = func() string {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if len(found) == 0 {
		return ""
	}
	return filepath.Dir(found[len(found)-1])
}()

// need skips a test where a program is missing, but for CI.
func need(t testing.TB, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		path, err = exec.LookPath(filepath.Join(programs, program))
	}
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("there is no %s", program)
		}
		t.Skipf("there is no %s", program)
	}
	return path
}

// server is one on loopback.
type server struct {
	dir     string
	port    int
	address string // where it listens
	wrap    []string
	params  []string
}

// asPostgres makes a command one of a user that is not root, whom the server refuses.
func asPostgres(c *exec.Cmd) *exec.Cmd {
	if os.Geteuid() == 0 {
		uid, gid := unprivileged()
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid}}
	}
	c.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "TZ=UTC")
	return c
}

func unprivileged() (uid, gid uint32) {
	for _, name := range []string{"postgres", "nobody"} {
		if u, err := user.Lookup(name); err == nil {
			a, _ := strconv.Atoi(u.Uid)
			b, _ := strconv.Atoi(u.Gid)
			return uint32(a), uint32(b)
		}
	}
	return 65534, 65534
}

func output(t testing.TB, c *exec.Cmd) string {
	t.Helper()
	out, err := c.CombinedOutput()
	require.NoError(t, err, "%v: %s", c.Args, out)
	return string(out)
}

// place is a directory that the server's user can have.
func place(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "dblock-pg")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if os.Geteuid() == 0 {
		uid, gid := unprivileged()
		require.NoError(t, os.Chown(dir, int(uid), int(gid)))
	}
	return dir
}

func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// newServer makes a cluster, and starts it. It ends with the test.
func newServer(t testing.TB, params ...string) *server {
	t.Helper()
	s := &server{dir: filepath.Join(place(t), "data"), port: freePort(t), address: "127.0.0.1", params: params}
	s.create(t)
	s.start(t)
	return s
}

func (s *server) create(t testing.TB) {
	t.Helper()
	initdb := need(t, "initdb")
	output(t, asPostgres(exec.Command(initdb, "-D", s.dir, "-U", "postgres", "--auth=trust", "-N", "-E", "UTF8")))
	hba := "local all all trust\nhost all locked 0.0.0.0/0 scram-sha-256\nhost all none 0.0.0.0/0 reject\nhost all all 0.0.0.0/0 trust\nhost replication all 0.0.0.0/0 trust\n"
	require.NoError(t, os.WriteFile(filepath.Join(s.dir, "pg_hba.conf"), []byte(hba), 0o644))
	t.Cleanup(func() { s.stop("immediate") })
}

func (s *server) command(program string, args ...string) *exec.Cmd {
	all := append(append([]string{}, s.wrap...), append([]string{filepath.Join(programs, program)}, args...)...)
	c := exec.Command(all[0], all[1:]...)
	if len(s.wrap) > 0 {
		return c // it becomes another user by itself
	}
	return asPostgres(c)
}

func (s *server) start(t testing.TB) {
	t.Helper()
	opts := fmt.Sprintf("-p %d -k %s -c listen_addresses=%s -c shared_buffers=16MB -c max_connections=100 -c log_line_prefix='%%m [%%p] '", s.port, filepath.Dir(s.dir), s.address)
	for _, p := range s.params {
		opts += " -c " + p
	}
	var out []byte
	var err error
	// What a killed one has left needs a moment to go.
	for range 50 {
		c := s.command("pg_ctl", "-D", s.dir, "-w", "-t", "60", "-l", filepath.Join(filepath.Dir(s.dir), "log"), "-o", opts, "start")
		c.Stdout = nil
		if out, err = nil, c.Run(); err == nil {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	logged, _ := os.ReadFile(filepath.Join(filepath.Dir(s.dir), "log"))
	t.Fatalf("the server does not start: %v %s %s", err, out, tail(string(logged)))
}

func tail(s string) string { return s[max(0, len(s)-1000):] }

func (s *server) stop(how string) {
	_ = s.command("pg_ctl", "-D", s.dir, "-w", "-m", how, "stop").Run()
}

// postmaster is the pid of the server.
func (s *server) postmaster(t testing.TB) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(s.dir, "postmaster.pid"))
	require.NoError(t, err)
	line, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(line)
	require.NoError(t, err)
	return pid
}

// processes are the server's.
func (s *server) processes(t testing.TB) []int {
	t.Helper()
	master := s.postmaster(t)
	pids := []int{master}
	out, _ := exec.Command("pgrep", "-P", strconv.Itoa(master)).Output()
	for _, f := range strings.Fields(string(out)) {
		pid, _ := strconv.Atoi(f)
		pids = append(pids, pid)
	}
	return pids
}

// kill ends the server by SIGKILL, all of it.
func (s *server) kill(t testing.TB) {
	t.Helper()
	for _, pid := range s.processes(t) {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

// freeze stops the server, all of it, for as long as the test wants.
func (s *server) freeze(t testing.TB) (thaw func()) {
	t.Helper()
	pids := s.processes(t)
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != syscall.ESRCH { // who was turned away has gone
			require.NoError(t, err)
		}
	}
	var once sync.Once
	thaw = func() {
		once.Do(func() {
			for _, pid := range pids {
				_ = syscall.Kill(pid, syscall.SIGCONT)
			}
		})
	}
	t.Cleanup(thaw)
	return thaw
}

// url is that of a lock.
func (s *server) url(name string, more ...string) string {
	u := fmt.Sprintf("postgres://postgres@%s:%d/postgres?sslmode=disable&lock=%s", s.address, s.port, name)
	for _, m := range more {
		u += "&" + m
	}
	return u
}

// sql is what a statement returns.
func (s *server) sql(t testing.TB, statement string) string {
	t.Helper()
	out, err := s.try(statement)
	require.NoError(t, err, "%s", statement)
	return out
}

func (s *server) try(statement string) (string, error) {
	// By its socket, which a network that is cut does not touch.
	target, err := parse(fmt.Sprintf("postgres://postgres@/postgres?host=%s&port=%d", filepath.Dir(s.dir), s.port))
	if err != nil {
		return "", err
	}
	ctx, stop := context.WithTimeout(context.Background(), 10*time.Second)
	defer stop()
	c, err := target.dial(ctx, "test", time.Minute, nil)
	if err != nil {
		return "", err
	}
	defer c.close()
	row, err := c.row(ctx, statement)
	if err != nil || len(row) == 0 {
		return "", err
	}
	return string(row[0]), nil
}

var (
	commonOnce sync.Once
	common     *server
	ending     []func()
)

// shared is a server for the tests that leave it as it is.
func shared(t testing.TB) *server {
	t.Helper()
	need(t, "initdb")
	commonOnce.Do(func() {
		c := &forAll{TB: t}
		common = newServer(c)
		common.sql(t, "CREATE ROLE app LOGIN")
		common.sql(t, "CREATE ROLE other LOGIN")
		common.sql(t, "CREATE ROLE locked LOGIN PASSWORD 'right'")
	})
	if common == nil {
		t.Fatal("there is no server")
	}
	return common
}

// forAll keeps what a test has made until all have ended.
type forAll struct{ testing.TB }

func (forAll) Cleanup(f func()) { ending = append(ending, f) }
