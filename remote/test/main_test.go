// Package test looks at dblock-remote from outside: what is true of dblock is true of it, among
// machines. A machine is a directory for states: nothing else is shared by those of one test.
package test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var (
	binary string // dblock, with dblock-remote beside it
	storm  = flag.Duration("storm", 3*time.Second, "how long a storm lasts")
)

func TestMain(m *testing.M) {
	flag.Parse()
	dir, err := os.MkdirTemp("", "dblock-remote-test")
	if err != nil {
		panic(err)
	}
	binary = filepath.Join(dir, "bin", "dblock")
	install := exec.Command("sh", "../../install.sh")
	install.Env = append(os.Environ(), "PREFIX="+dir)
	if out, err := install.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%s%v\n", out, err)
		os.Exit(1)
	}
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		if strings.HasPrefix(name, "DBLOCK_") || strings.HasPrefix(name, "PG") || strings.HasPrefix(name, "ETCDCTL_") {
			os.Unsetenv(name)
		}
	}
	os.Setenv("PATH", filepath.Dir(binary)+string(os.PathListSeparator)+os.Getenv("PATH"))
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// server is PostgreSQL or etcd, which a test may stop, kill and start again.
type server struct {
	t    *testing.T
	name string
	url  string // of a lock there
	dir  string
	port int
	argv []string
	as   *syscall.Credential
	cmd  *exec.Cmd
	gone chan struct{} // closed when that has ended
	is   func() bool   // it answers
}

// each runs a test with a server of each kind.
func each(t *testing.T, test func(t *testing.T, s *server)) {
	for _, make := range []func(*testing.T) *server{postgres, etcd} {
		s := make(t)
		t.Run(s.name, func(t *testing.T) { test(t, s) })
	}
}

func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil && os.Getenv("CI") == "" {
			t.Skip(p + " is not here")
		} else {
			require.NoError(t, err)
		}
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// pgBin is where the programs of PostgreSQL are that are in no PATH.
func pgBin(t *testing.T) string {
	t.Helper()
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	require.NoError(t, err)
	if len(found) == 0 {
		need(t, "postgres")
		return ""
	}
	return filepath.Dir(found[len(found)-1]) + "/"
}

// postgres is a new cluster, of a user who is not root.
func postgres(t *testing.T) *server {
	t.Helper()
	bin := pgBin(t)
	dir, err := os.MkdirTemp("", "dblock-pg")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &server{t: t, name: "postgres", dir: dir, port: freePort(t)}
	if os.Getuid() == 0 {
		nobody, err := user.Lookup("nobody")
		require.NoError(t, err)
		uid, _ := strconv.Atoi(nobody.Uid)
		gid, _ := strconv.Atoi(nobody.Gid)
		s.as = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		require.NoError(t, os.Chown(dir, uid, gid))
	}
	init := exec.Command(bin+"initdb", "-D", dir+"/data", "-U", "app", "-A", "trust", "-N", "--no-instructions")
	init.SysProcAttr = &syscall.SysProcAttr{Credential: s.as}
	init.Dir = dir
	out, err := init.CombinedOutput()
	require.NoError(t, err, "%s", out)
	s.argv = []string{bin + "postgres", "-D", dir + "/data", "-p", strconv.Itoa(s.port), "-k", dir, "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", "max_connections=200"}
	s.url = fmt.Sprintf("postgres://app@127.0.0.1:%d/postgres", s.port)
	s.is = func() bool {
		return exec.Command(bin+"pg_isready", "-q", "-h", "127.0.0.1", "-p", strconv.Itoa(s.port)).Run() == nil
	}
	s.start()
	return s
}

// etcd is a cluster of one.
func etcd(t *testing.T) *server {
	t.Helper()
	need(t, "etcd", "etcdctl")
	s := &server{t: t, name: "etcd", dir: t.TempDir(), port: freePort(t)}
	at := fmt.Sprintf("http://127.0.0.1:%d", s.port)
	peer := fmt.Sprintf("http://127.0.0.1:%d", freePort(t))
	s.argv = []string{
		"etcd", "--data-dir", s.dir + "/data", "--listen-client-urls", at, "--advertise-client-urls", at,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "default=" + peer, "--log-level", "error", "--unsafe-no-fsync",
	}
	s.url = fmt.Sprintf("etcd://127.0.0.1:%d/jobs", s.port)
	s.is = func() bool {
		return exec.Command("etcdctl", "--endpoints", at, "--command-timeout", "1s", "endpoint", "health").Run() == nil
	}
	s.start()
	return s
}

func (s *server) start() {
	s.t.Helper()
	log, err := os.OpenFile(s.dir+"/log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	require.NoError(s.t, err)
	defer log.Close()
	var gone chan struct{}
	begin := func() {
		s.cmd = exec.Command(s.argv[0], s.argv[1:]...)
		s.cmd.Dir = s.dir
		s.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.as}
		s.cmd.Stdout, s.cmd.Stderr = log, log
		require.NoError(s.t, s.cmd.Start())
		cmd, ended := s.cmd, make(chan struct{})
		s.gone, gone = ended, ended
		go func() {
			_ = cmd.Wait()
			close(ended)
		}()
		s.t.Cleanup(func() {
			_ = cmd.Process.Kill()
			<-ended
		})
	}
	begin()
	await(s.t, "the server answers", func() bool {
		select {
		case <-gone:
			begin() // what a killed one has left was still about
		default:
		}
		return s.is()
	})
}

// kill kills it as a crash does.
func (s *server) kill() {
	s.t.Helper()
	require.NoError(s.t, s.cmd.Process.Kill())
	<-s.gone
}

func psql(s *server, query string) *exec.Cmd {
	return exec.Command("psql", "-XAtq", "-h", "127.0.0.1", "-p", strconv.Itoa(s.port), "-U", "app", "postgres", "-c", query)
}

// machine is where a dblock runs.
type machine struct {
	t     *testing.T
	state string
	dir   string
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	return &machine{t, t.TempDir(), t.TempDir()}
}

// command is a dblock on a machine.
func (m *machine) command(args ...string) *exec.Cmd {
	c := exec.Command(binary, args...)
	c.Dir = m.dir
	c.Env = append(os.Environ(), "XDG_STATE_HOME="+m.state)
	return c
}

type result struct {
	stdout, stderr string
	code           int
}

func (m *machine) run(args ...string) result {
	m.t.Helper()
	return finish(m.t, m.command(args...))
}

func finish(t *testing.T, c *exec.Cmd) result {
	t.Helper()
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	err := c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	status := c.ProcessState.Sys().(syscall.WaitStatus)
	code := status.ExitStatus()
	if status.Signaled() {
		code = 128 + int(status.Signal())
	}
	return result{out.String(), errs.String(), code}
}

// background starts a dblock that ends with the test.
func background(t *testing.T, c *exec.Cmd) *exec.Cmd {
	t.Helper()
	require.NoError(t, c.Start())
	t.Cleanup(func() {
		if c.ProcessState == nil {
			_ = c.Process.Kill()
			_ = c.Wait()
		}
	})
	return c
}

// hold holds the lock until the file "go" is there, and waits until it is held.
func (m *machine) hold(url string, args ...string) *exec.Cmd {
	m.t.Helper()
	_ = os.Remove(m.dir + "/in")
	c := background(m.t, m.command(append(append([]string{"-d", url}, args...), "--", "sh", "-c", "touch in; until [ -e go ]; do sleep 0.01; done")...))
	await(m.t, "the lock is held", func() bool { return exists(m.dir + "/in") })
	return c
}

func (m *machine) letGo() {
	m.t.Helper()
	require.NoError(m.t, os.WriteFile(m.dir+"/go", nil, 0o644))
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// await waits until something is true, for at most 60 seconds.
func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); <-tick.C {
		if done() {
			return
		}
	}
	t.Fatalf("never: %s", what)
}
