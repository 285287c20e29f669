package etcd_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dblock-dev/dblock/lock"
	"github.com/dblock-dev/dblock/remote/etcd"
)

// refused is the error with which all that can be asked of an engine fails within a bounded time: one
// line, in which no password is.
func refused(t *testing.T, url string, within time.Duration, contains string) *lock.EngineError {
	t.Helper()
	var e *lock.EngineError
	for what, ask := range map[string]func() error{
		"wait":    func() error { _, err := etcd.Engine.Acquire(bounded(t), request(url)); return err },
		"no wait": func() error { _, err := etcd.Engine.Acquire(bounded(t), noWait(url)); return err },
		"inspect": func() error { _, err := etcd.Engine.Inspect(bounded(t), url); return err },
		"break":   func() error { return etcd.Engine.Break(bounded(t), url, "1-1") },
	} {
		begun := time.Now()
		err := ask()
		require.Less(t, time.Since(begun), within, what)
		require.ErrorAs(t, err, &e, what)
		require.ErrorContains(t, err, contains, what)
		require.NotContains(t, err.Error()+e.Hint+e.Name, "secret", what)
		require.NotContains(t, err.Error()+e.Hint, "\n", what)
		require.NotContains(t, err.Error(), "desc =", what)
	}
	t.Log(e.Error(), "|", e.Hint)
	return e
}

func TestNoServer(t *testing.T) {
	free := freePort(t)
	e := refused(t, "etcd://"+free+"/x", time.Second, "no etcd answers at "+free+": connection refused")
	require.False(t, e.Denied || e.Misuse)
	refused(t, "etcd://"+free+","+freePort(t)+"/x", time.Second, "connection refused")
	refused(t, "etcd://u:secret@"+free+"/x", time.Second, "connection refused")
	refused(t, "etcd://nowhere.invalid/x", 6*time.Second, "no etcd answers at nowhere.invalid:2379: ")

	silent, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = silent.Close() }()
	refused(t, "etcd://"+silent.Addr().String()+"/x?dial-timeout=1s", 2*time.Second, "no etcd answers")
	refused(t, "etcd://u:secret@"+silent.Addr().String()+"/x?dial-timeout=1s", 2*time.Second, "no etcd answers")
	t.Setenv("ETCDCTL_DIAL_TIMEOUT", "500ms")
	refused(t, "etcd://"+silent.Addr().String()+"/x", time.Second, "no etcd answers")
}

func TestStoppedServerRefuses(t *testing.T) {
	s := serve(t)
	s.signal(syscall.SIGSTOP)
	defer s.signal(syscall.SIGCONT)
	refused(t, s.url("x?dial-timeout=1s"), 2*time.Second, "no etcd answers")
}

func TestUsers(t *testing.T) {
	s := serve(t, "--bcrypt-cost", "4")
	c := s.direct(t)
	ctx := context.Background()
	_, err := c.UserAdd(ctx, "root", "secret-root")
	require.NoError(t, err)
	_, err = c.UserGrantRole(ctx, "root", "root")
	require.NoError(t, err)
	_, err = c.UserAdd(ctx, "app", "secret/p%@:")
	require.NoError(t, err)
	_, err = c.RoleAdd(ctx, "jobs")
	require.NoError(t, err)
	_, err = c.RoleGrantPermission(ctx, "jobs", "/dblock/jobs/", "/dblock/jobs0", 2)
	require.NoError(t, err)
	_, err = c.UserGrantRole(ctx, "app", "jobs")
	require.NoError(t, err)
	_, err = c.AuthEnable(ctx)
	require.NoError(t, err)

	at := func(user string) string { return "etcd://" + user + s.client + "/jobs/x" }
	e := refused(t, at("app:secret-wrong@"), time.Second, `refuses the user "app"`)
	require.True(t, e.Denied)
	require.True(t, refused(t, at("nobody:secret-wrong@"), time.Second, `refuses the user "nobody"`).Denied)
	require.True(t, refused(t, at(""), time.Second, "wants a user and a password").Denied)
	e = refused(t, "etcd://app:secret%2Fp%25%40%3A@"+s.client+"/other", time.Second, "below /dblock/other//")
	require.True(t, e.Denied)

	good := at("app:secret%2Fp%25%40%3A@")
	h := get(t, request(good))
	s.user, s.secret = "root", "secret-root"
	w := wait(t, s, "jobs/x", request(good))
	w.waits(t, ttl+time.Second)
	keeps(t, h)
	require.NoError(t, h.Release())
	require.NoError(t, w.gets(t).Release())

	t.Setenv("ETCDCTL_USER", "app:secret/p%@:")
	require.NoError(t, get(t, request(at(""))).Release())
	require.NoError(t, get(t, request(at("app@"))).Release())
	t.Setenv("ETCDCTL_USER", "app")
	t.Setenv("ETCDCTL_PASSWORD", "secret/p%@:")
	require.NoError(t, get(t, request(at(""))).Release())
}

// authority is one that signs certificates.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newAuthority(t *testing.T) *authority {
	a := &authority{dir: t.TempDir()}
	a.file, _ = a.issue(t, "ca", nil)
	return a
}

// issue makes a certificate for this host, and its key.
func (a *authority) issue(t *testing.T, name string, by *authority) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, BasicConstraintsValid: true, IsCA: by == nil,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	parent, signer := template, k
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &k.PublicKey, signer)
	require.NoError(t, err)
	if by == nil {
		a.cert, err = x509.ParseCertificate(der)
		require.NoError(t, err)
		a.key = k
	}
	keyDER, err := x509.MarshalECPrivateKey(k)
	require.NoError(t, err)
	write := func(suffix, kind string, der []byte) string {
		var b bytes.Buffer
		require.NoError(t, pem.Encode(&b, &pem.Block{Type: kind, Bytes: der}))
		path := filepath.Join(a.dir, name+suffix)
		require.NoError(t, os.WriteFile(path, b.Bytes(), 0o600))
		return path
	}
	return write(".crt", "CERTIFICATE", der), write(".key", "EC PRIVATE KEY", keyDER)
}

func TestTLS(t *testing.T) {
	a, other := newAuthority(t), newAuthority(t)
	cert, key := a.issue(t, "server", a)
	s := serve(t, "--cert-file", cert, "--key-file", key)
	at := func(settings string) string { return "etcds://" + s.client + "/x" + settings }
	require.NoError(t, get(t, request(at("?cacert="+a.file))).Release())
	require.NoError(t, get(t, request(at("?insecure-skip-tls-verify=true"))).Release())
	refused(t, at(""), time.Second, "TLS with "+s.client+" fails: failed to verify certificate")
	refused(t, at("?cacert="+other.file), time.Second, "certificate signed by unknown authority")
	require.True(t, refused(t, at("?cacert=/no/such/file"), time.Second, "/no/such/file").Misuse)
	e := refused(t, "etcd://"+s.client+"/x", 6*time.Second, s.client)
	require.Contains(t, e.Hint, "etcds://")
	t.Setenv("ETCDCTL_CACERT", a.file)
	require.NoError(t, get(t, request(at(""))).Release())
	t.Setenv("ETCDCTL_ENDPOINTS", "https://"+s.client)
	require.NoError(t, get(t, request("etcd:///x")).Release())

	plain := serve(t)
	e = refused(t, "etcds://"+plain.client+"/x", time.Second, "TLS with "+plain.client+" fails")
	require.Contains(t, e.Hint, "etcd://")
}

// A server without TLS may close the connection without having read all that it does not understand.
func TestTLSIsReset(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Read(make([]byte, 1))
			_ = c.(*net.TCPConn).SetLinger(0)
			c.Close()
		}
	}()
	e := refused(t, "etcds://"+l.Addr().String()+"/x", time.Second, "connection reset by peer")
	require.Contains(t, e.Hint, "etcd://")
}

func TestClientCertificates(t *testing.T) {
	a, other := newAuthority(t), newAuthority(t)
	cert, key := a.issue(t, "server", a)
	s := serve(t, "--cert-file", cert, "--key-file", key, "--client-cert-auth", "--trusted-ca-file", a.file)
	at := func(settings string) string { return "etcds://" + s.client + "/x?cacert=" + a.file + settings }
	own, ownKey := a.issue(t, "client", a)
	require.NoError(t, get(t, request(at("&cert="+own+"&key="+ownKey))).Release())
	require.True(t, refused(t, at(""), time.Second, "the server says").Denied)
	wrong, wrongKey := other.issue(t, "client", other)
	require.True(t, refused(t, at("&cert="+wrong+"&key="+wrongKey), time.Second, "the server says").Denied)
	require.True(t, refused(t, at("&cert="+own), time.Second, "both").Misuse)
}

func TestNames(t *testing.T) {
	for url, want := range map[string][2]string{
		"etcd://h1:2379,h2:2380/jobs/nightly":    {"etcd://h1:2379,h2:2380/jobs/nightly", "etcd://h1:2379,h2:2380/jobs/nightly"},
		"etcd://u:secret@h2,H1/k?ttl=30s":        {"etcd://u@h2:2379,h1:2379/k", "etcd://h1:2379,h2:2379/k"},
		"etcds://u:sec@ret@h/k":                  {"etcds://u@h:2379/k", "etcd://h:2379/k"},
		"etcd://[::1]:2379,[fe80::1]/a%20b":      {"etcd://[::1]:2379,[fe80::1]:2379/a b", "etcd://[::1]:2379,[fe80::1]:2379/a b"},
		"etcd://h,h:2379/k?command-timeout=10ms": {"etcd://h:2379,h:2379/k", "etcd://h:2379/k"},
	} {
		shown, identity, err := etcd.Engine.Name(url)
		require.NoError(t, err, url)
		require.Equal(t, want, [2]string{shown, identity}, url)
	}
	for url, why := range map[string]string{
		"etcd://h":                             "names no lock",
		"etcd://h/":                            "names no lock",
		"etcd://h/a//b":                        "empty",
		"etcd://h/a/":                          "empty",
		"etcd:///k":                            "ETCDCTL_ENDPOINTS",
		"etcd://h:99999/k":                     "no host",
		"etcd://u:secret@h:x/k":                "no host",
		"etcd://,h/k":                          "no host",
		"etcd://u:sec%ret@h/k":                 "%XX",
		"etcd://u:secret@h/%k":                 "%XX",
		"etcd://u:secret@h/k?tl=3s":            `no setting "tl"`,
		"etcd://u:secret@h/k?ttl=3":            "such as 10s",
		"etcd://u:secret@h/k?ttl=-3s":          "such as 10s",
		"etcd://u:secret@h/k?cacert=x":         "etcds://",
		"etcd://u:secret/secret@h/k":           "HOST:PORT",
		"etcds://u:secret@h/k?key=x":           "both",
		"etcds://h/k?insecure-skip-tls-verify": "true or false",
	} {
		_, _, err := etcd.Engine.Name(url)
		var e *lock.EngineError
		require.ErrorAs(t, err, &e, url)
		require.True(t, e.Misuse, url)
		require.ErrorContains(t, err, why, url)
		require.NotContains(t, e.Error()+e.Hint, "secret", url)
		require.True(t, strings.HasPrefix(e.Name, "etcd"), url)
	}
}
