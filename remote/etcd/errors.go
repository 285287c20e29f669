package etcd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dblock-dev/dblock/lock"
)

// errAnew: the own key has gone from the queue, so that it has to be entered anew.
var errAnew = errors.New("the lease has run out")

// answers reports whether it was a server of etcd that said so.
func answers(err error) bool {
	var e rpctypes.EtcdError
	return errors.As(rpctypes.Error(err), &e)
}

// passes reports whether a request that failed so may succeed when it is made again: another member is
// there, or an election is over.
func passes(err error) bool {
	err = rpctypes.Error(err)
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled),
		errors.Is(err, rpctypes.ErrInvalidAuthToken), errors.Is(err, rpctypes.ErrAuthOldRevision), errors.Is(err, rpctypes.ErrTooManyRequests):
		return true
	}
	var e rpctypes.EtcdError
	if errors.As(err, &e) {
		return e.Code() == codes.Unavailable
	}
	switch status.Code(err) {
	// A request whose member was stopped, or has lost the lead, in the middle of it is answered in many ways.
	case codes.Unavailable, codes.Unknown, codes.Internal, codes.Canceled, codes.DeadlineExceeded, codes.Aborted, codes.ResourceExhausted:
		return true
	}
	return false
}

// timedOut reports whether there was no answer in time. Who finds out first says that: the client, its connection, or
// a server that asks the others, whose error has no code of its own.
func timedOut(err error) bool {
	s := status.Convert(err)
	return errors.Is(err, context.DeadlineExceeded) || s.Code() == codes.DeadlineExceeded ||
		s.Code() == codes.Unknown && s.Message() == context.DeadlineExceeded.Error()
}

// explain says what has failed in one line, without what grpc wraps it in.
func (c *client) explain(err error) error {
	p := c.place
	e := &lock.EngineError{Name: p.shown()}
	err = rpctypes.Error(err)
	var said rpctypes.EtcdError
	switch {
	case errors.Is(err, rpctypes.ErrAuthFailed):
		e.Denied, e.Err = true, fmt.Errorf("etcd refuses the user %q: the name or the password is wrong", p.user)
	case errors.Is(err, rpctypes.ErrUserEmpty):
		e.Denied, e.Err = true, errors.New("etcd wants a user and a password")
		e.Hint = "Give the user in the URL or in ETCDCTL_USER, and the password in ETCDCTL_PASSWORD."
	case errors.Is(err, rpctypes.ErrPermissionDenied):
		e.Denied, e.Err = true, fmt.Errorf("etcd does not let the user %q use the keys below %s", p.user, p.prefix())
		e.Hint = fmt.Sprintf("etcdctl role grant-permission ROLE readwrite --prefix=true '%s'", p.prefix())
	case errors.As(err, &said):
		e.Err = fmt.Errorf("etcd says: %s", strings.TrimPrefix(said.Error(), "etcdserver: "))
	case timedOut(err) && c.reached():
		e.Err = fmt.Errorf("etcd at %s does not answer: most of its members may be away", c.where())
	case timedOut(err):
		e.Err = fmt.Errorf("no etcd answers at %s", c.where())
	default:
		c.explainTransport(e, cause(err))
	}
	return e
}

// explainTransport says why the connection failed.
func (c *client) explainTransport(e *lock.EngineError, why string) {
	const handshake, preface = "authentication handshake failed: ", "error reading server preface: "
	if _, failed, ok := strings.Cut(why, handshake); ok {
		e.Err = fmt.Errorf("TLS with %s fails: %s", c.where(), strings.TrimPrefix(failed, "tls: "))
		// Who closes the connection with something unread, as one may who does not know what it is, resets it.
		if failed == "EOF" || strings.Contains(failed, "first record does not look like a TLS handshake") || strings.Contains(failed, "connection reset by peer") {
			e.Hint = "If the server has no TLS, write etcd:// instead of etcds://."
		}
		return
	}
	if alert := c.alert(); alert != "" {
		e.Denied, e.Err = true, fmt.Errorf("TLS with %s fails: the server says: %s", c.where(), alert)
		e.Hint = "Give a certificate that it accepts: ETCDCTL_CERT and ETCDCTL_KEY, or cert= and key= in the URL."
		return
	}
	if _, rest, ok := strings.Cut(why, preface); ok {
		if !c.place.secure {
			e.Hint = "If it has TLS, write etcds://."
		}
		e.Err = fmt.Errorf("what answers at %s is no etcd: %s", c.where(), rest)
		return
	}
	e.Err = fmt.Errorf("no etcd answers at %s: %s", c.where(), why)
}

// alert is what the first server says to a client that it refuses by TLS. It does that when the client has
// begun to talk already, which as a rule only learns that the connection was closed.
func (c *client) alert() string {
	if !c.place.secure {
		return ""
	}
	cfg, err := c.place.tls()
	if err != nil {
		return ""
	}
	cfg.NextProtos = []string{"h2"}
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: time.Second}, "tcp", c.place.hosts[0], cfg)
	if err == nil {
		defer func() { _ = conn.Close() }()
		_ = conn.SetReadDeadline(time.Now().Add(time.Second))
		_, err = conn.Read(make([]byte, 1))
	}
	if err == nil {
		return ""
	}
	_, alert, _ := strings.Cut(err.Error(), "remote error: tls: ")
	return alert
}

// cause is the innermost of what grpc says of a connection.
func cause(err error) string {
	s := status.Convert(err).Message()
	for {
		i := strings.LastIndex(s, `desc = "`)
		if i < 0 {
			break
		}
		inner, perr := strconv.QuotedPrefix(s[i+len(`desc = `):])
		if perr != nil {
			break
		}
		if s, perr = strconv.Unquote(inner); perr != nil {
			break
		}
	}
	for _, prefix := range []string{"connection error: desc = ", "transport: ", "Error while dialing: "} {
		s = strings.TrimPrefix(s, prefix)
	}
	s = strings.TrimPrefix(s, "dial tcp: ")
	// "dial tcp 127.0.0.1:1: connect: connection refused"
	if rest, ok := strings.CutPrefix(s, "dial tcp "); ok {
		if _, why, ok := strings.Cut(rest, ": "); ok {
			s = strings.TrimPrefix(why, "connect: ")
		}
	}
	return s
}
