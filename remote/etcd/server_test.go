package etcd_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// patience is how long a test waits for what must come.
const patience = 30 * time.Second

// need skips a test where a program is missing, except where everything is to be tested.
func need(t testing.TB, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	return path
}

// server is a member of etcd, of a cluster or alone.
type server struct {
	name         string
	client, peer string // host:port
	args         []string
	user, secret string // who may look directly
	log          bytes.Buffer
	cmd          *exec.Cmd
	ended        chan struct{}
}

// freePort is a port of this host that nobody uses at the moment.
func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// serve starts etcd alone, with what args add.
func serve(t testing.TB, args ...string) *server { t.Helper(); return cluster(t, 1, args...)[0] }

// cluster starts n members and waits until they serve.
func cluster(t testing.TB, n int, args ...string) []*server {
	t.Helper()
	program := need(t, "etcd")
	dir := t.TempDir()
	scheme := "http"
	if strings.Contains(strings.Join(args, " "), "--cert-file") {
		scheme = "https"
	}
	var all []*server
	var initial []string
	for i := range n {
		s := &server{name: fmt.Sprint("m", i), client: freePort(t), peer: freePort(t)}
		all = append(all, s)
		initial = append(initial, s.name+"=http://"+s.peer)
	}
	for _, s := range all {
		s.args = append([]string{program, "--name", s.name, "--data-dir", filepath.Join(dir, s.name),
			"--listen-client-urls", scheme + "://" + s.client, "--advertise-client-urls", scheme + "://" + s.client,
			"--listen-peer-urls", "http://" + s.peer, "--initial-advertise-peer-urls", "http://" + s.peer,
			"--initial-cluster", strings.Join(initial, ","), "--initial-cluster-state", "new", "--log-level", "error"}, args...)
		s.start(t)
		t.Cleanup(s.kill)
	}
	for _, s := range all {
		s.await(t)
	}
	return all
}

func (s *server) start(t testing.TB) {
	t.Helper()
	s.cmd = exec.Command(s.args[0], s.args[1:]...)
	s.cmd.Stdout, s.cmd.Stderr = &s.log, &s.log
	s.cmd.SysProcAttr = endsWithUs()
	require.NoError(t, s.cmd.Start())
	s.ended = make(chan struct{})
	go func(cmd *exec.Cmd, ended chan struct{}) { _ = cmd.Wait(); close(ended) }(s.cmd, s.ended)
}

// await waits until the member takes connections: from then on it serves, or waits for the others.
func (s *server) await(t testing.TB) {
	t.Helper()
	require.Eventually(t, func() bool {
		c, err := net.Dial("tcp", s.client)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	}, patience, 20*time.Millisecond, "etcd does not start: %s", &s.log)
}

func (s *server) signal(sig syscall.Signal) { _ = s.cmd.Process.Signal(sig) }

func (s *server) kill() {
	s.signal(syscall.SIGKILL)
	<-s.ended
}

// hosts are the members as a URL has them.
func hosts(all []*server) string {
	var h []string
	for _, s := range all {
		h = append(h, s.client)
	}
	return strings.Join(h, ",")
}

func (s *server) url(rest string) string { return "etcd://" + s.client + "/" + rest }

// watched waits until so many keys are watched.
func (s *server) watched(t testing.TB, n int) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // of which nothing stays
	require.Eventually(t, func() bool {
		r, err := client.Get("http://" + s.client + "/metrics")
		if err != nil {
			return false
		}
		defer r.Body.Close()
		text, err := io.ReadAll(r.Body)
		return err == nil && strings.Contains(string(text), fmt.Sprintf("\netcd_debugging_mvcc_watcher_total %d\n", n))
	}, patience, 5*time.Millisecond)
}

// direct is a client of etcd beside the engine.
func (s *server) direct(t testing.TB) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{s.client}, Username: s.user, Password: s.secret, Logger: zap.NewNop()})
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// keys are those of the queue of a lock, first come first.
func keys(t testing.TB, c *clientv3.Client, lock string) []string {
	t.Helper()
	ctx, stop := context.WithTimeout(context.Background(), patience)
	defer stop()
	r, err := c.Get(ctx, "/dblock/"+lock+"//", clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortAscend))
	require.NoError(t, err)
	var k []string
	for _, kv := range r.Kvs {
		k = append(k, string(kv.Key))
	}
	return k
}

// proxy passes connections on to a server, unless it swallows all that is sent, both ways.
type proxy struct {
	at       string
	swallows atomic.Bool
}

func passOn(t testing.TB, to string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	p := &proxy{at: l.Addr().String()}
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				_ = in.Close()
				continue
			}
			go p.copy(in, out)
			go p.copy(out, in)
		}
	}()
	return p
}

func (p *proxy) copy(to, from net.Conn) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			_ = to.Close()
			return
		}
		if !p.swallows.Load() {
			_, _ = to.Write(buf[:n])
		}
	}
}

func (p *proxy) url(rest string) string { return "etcd://" + p.at + "/" + rest }
