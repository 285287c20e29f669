package postgres

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// proveOpen finds out whether the server lets anybody in. One that is being stopped (pg_ctl stop -m fast) ends its sessions one
// after the other, so that a key may be free whose holder was ended a moment ago, and not be ours for
// long either; but before the first of them it has begun to turn new ones away. So who has got a key in a session
// that is older than that asks for another one: if it is let in, nobody's was ended for that reason.
func (s *session) proveOpen(ctx context.Context) error {
	ctx, stop := context.WithTimeout(ctx, connectTime)
	defer stop()
	s.mu.Lock()
	raw := s.raw
	s.mu.Unlock()
	var d net.Dialer
	if _, secure := s.pg.Conn().(*tls.Conn); secure {
		// It might refuse another one without TLS, and write that down each time.
		config := s.target.config.Copy()
		config.RuntimeParams["application_name"] = looks
		config.DialFunc = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return d.DialContext(ctx, raw.RemoteAddr().Network(), raw.RemoteAddr().String())
		}
		c, err := pgconn.ConnectConfig(ctx, config)
		if err != nil {
			return passable(err)
		}
		go (&session{pg: c}).close()
		return nil
	}
	c, err := d.DialContext(ctx, raw.RemoteAddr().Network(), raw.RemoteAddr().String())
	if err != nil {
		return err
	}
	deadline, _ := ctx.Deadline()
	_ = c.SetDeadline(deadline)
	f := pgproto3.NewFrontend(c, c)
	f.Send(&pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: map[string]string{
		"user": s.target.config.User, "database": s.target.config.Database, "application_name": looks,
	}})
	var answer pgproto3.BackendMessage
	if err = f.Flush(); err == nil {
		answer, err = f.Receive()
	}
	if said, ok := answer.(*pgproto3.ErrorResponse); ok && err == nil {
		err = passable(pgconn.ErrorResponseToPgError(said))
	}
	go leave(c, f, answer)
	return err
}

// passable is the error of one who was turned away, if that is since the server is being stopped or started. Any other
// reason is one that a server has which is open.
func passable(err error) error {
	var said *pgconn.PgError
	if errors.As(err, &said) && said.Code != startingUp && said.Code != adminShutdown && said.Code != crashShutdown {
		return nil
	}
	return err
}

// leave ends the connection as one does who was let in, or turns back at the door.
func leave(c net.Conn, f *pgproto3.Frontend, answer pgproto3.BackendMessage) {
	defer func() { _ = c.Close() }()
	if _, in := answer.(*pgproto3.AuthenticationOk); !in {
		return
	}
	_ = c.SetDeadline(time.Now().Add(connectTime))
	f.Send(&pgproto3.Terminate{})
	for err := f.Flush(); err == nil; {
		_, err = f.Receive()
	}
}
