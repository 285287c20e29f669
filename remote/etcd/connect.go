package etcd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/grpclog"

	"github.com/dblock-dev/dblock/lock"
)

const (
	// The pause before a request is repeated grows from the first to the last of these.
	firstPause, lastPause = 50 * time.Millisecond, 2 * time.Second
	// electionTime is how long members that can be reached may take to agree on something.
	electionTime = 10 * time.Second
	// reconnectPause is the longest between two attempts to reach a member.
	reconnectPause = time.Second
	// A connection on which nothing has come for pingAfter is asked for a sign of life, and is given up after
	// pingTime more. Servers allow that no more often than every 5 s.
	pingAfter, pingTime = 10 * time.Second, 3 * time.Second
)

// What grpc has to say is in the errors. It would be written in the middle of the command's output.
func init() { grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, io.Discard)) }

// client is a connection to the members that a URL names: to all of them at once, and each request
// goes to the next one that is there.
type client struct {
	etcd     *clientv3.Client
	place    *place
	answered atomic.Bool           // a server has; from now on it is waited for
	trouble  atomic.Pointer[error] // why the last request failed that is repeated
}

// connect makes a client. Nothing is sent, unless there is a password.
func connect(ctx context.Context, p *place) (*client, error) {
	cfg := clientv3.Config{
		Endpoints: p.hosts, Username: p.user, Password: p.password, DialTimeout: p.dialTime, Logger: zap.NewNop(),
		DialKeepAliveTime: pingAfter, DialKeepAliveTimeout: pingTime,
		// Requests are repeated here, where it is known how often, and what that means.
		MaxUnaryRetries: 1,
		DialOptions: []grpc.DialOption{
			grpc.WithChainUnaryInterceptor(failFast),
			grpc.WithConnectParams(grpc.ConnectParams{
				Backoff:           backoff.Config{BaseDelay: 2 * firstPause, Multiplier: 1.6, Jitter: 0.2, MaxDelay: reconnectPause},
				MinConnectTimeout: dialTime,
			}),
		},
	}
	if p.secure {
		var err error
		if cfg.TLS, err = p.tls(); err != nil {
			return nil, &lock.EngineError{Name: p.shown(), Err: err, Misuse: true}
		}
	}
	base, cancel := context.WithCancel(context.Background())
	cfg.Context = base
	stop := context.AfterFunc(ctx, cancel)
	etcd, err := clientv3.New(cfg)
	if !stop() && err == nil {
		_ = etcd.Close()
		err = ctx.Err()
	}
	c := &client{etcd: etcd, place: p}
	if err != nil {
		cancel()
		if ctx.Err() == context.Canceled {
			return nil, ctx.Err()
		}
		return nil, c.explain(err)
	}
	return c, nil
}

// failFast has a request fail when no member can be reached, instead of waiting for one.
func failFast(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	return invoke(ctx, method, req, reply, cc, append(opts, grpc.WaitForReady(false))...)
}

// tls is what the settings make of TLS.
func (p *place) tls() (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: p.unverified}
	if p.ca != "" {
		pem, err := os.ReadFile(p.ca)
		if err != nil {
			return nil, err
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("there is no certificate in %s", p.ca)
		}
	}
	if p.cert != "" {
		own, err := tls.LoadX509KeyPair(p.cert, p.certKey)
		if err != nil {
			return nil, err
		}
		cfg.Certificates = []tls.Certificate{own}
	}
	return cfg, nil
}

func (c *client) close() { _ = c.etcd.Close() }

// do makes a request, and repeats it for as long as its failure may pass. What it does may happen more
// than once. A client whose servers have never answered waits for that no longer than is due. The error is
// ctx's or an *EngineError, or one of those that the caller expects.
func (c *client) do(ctx context.Context, request func(ctx context.Context) error, expected ...error) error {
	begun := time.Now()
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		limit := c.place.requestTime
		if !c.answered.Load() && !c.reached() {
			limit = min(limit, c.place.dialTime-time.Since(begun))
		}
		limited, stop := context.WithTimeout(ctx, limit)
		err := request(limited)
		late := limited.Err() != nil
		stop()
		if err == nil || answers(err) {
			c.answered.Store(true)
		}
		if err == nil {
			return nil
		}
		for _, e := range expected {
			if errors.Is(err, e) {
				return e
			}
		}
		known := c.answered.Load()
		switch {
		case ctx.Err() != nil && (known || ctx.Err() == context.Canceled):
			return ctx.Err()
		case ctx.Err() != nil, known && !passes(err), !known && !late:
			return c.explain(err)
		case !known && time.Since(begun) >= c.patience():
			return c.explain(context.DeadlineExceeded)
		}
		c.trouble.Store(&err)
		if err := idle(ctx, jitter(pause)); err != nil && known {
			return err
		}
	}
}

// reached reports whether there is a connection to a member.
func (c *client) reached() bool {
	return c.etcd != nil && c.etcd.ActiveConnection().GetState() == connectivity.Ready
}

// patience is how long the first answer may take: longer than an election, when there is somebody.
func (c *client) patience() time.Duration {
	if c.reached() {
		return max(c.place.dialTime, electionTime)
	}
	return c.place.dialTime
}

// idle waits.
func idle(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// jitter is a time around d, so that many who had the same fault do not come back at once.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d) }

// txn is a transaction, which may be done more than once.
func (c *client) txn(ctx context.Context, ifs []clientv3.Cmp, then, otherwise []clientv3.Op, expected ...error) (r *clientv3.TxnResponse, err error) {
	err = c.do(ctx, func(ctx context.Context) (err error) {
		r, err = c.etcd.Txn(ctx).If(ifs...).Then(then...).Else(otherwise...).Commit()
		return err
	}, expected...)
	return r, err
}

// get reads what is in etcd now: a member that was cut off from the others does not answer.
func (c *client) get(ctx context.Context, key string, opts ...clientv3.OpOption) (r *clientv3.GetResponse, err error) {
	err = c.do(ctx, func(ctx context.Context) (err error) {
		r, err = c.etcd.Get(ctx, key, opts...)
		return err
	})
	return r, err
}

func (c *client) where() string { return strings.Join(c.place.hosts, ", ") }
