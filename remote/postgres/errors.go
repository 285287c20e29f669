package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/dblock-dev/dblock/lock"
)

// What PostgreSQL calls its errors.
const (
	invalidPassword      = "28P01"
	invalidAuthorization = "28000"
	insufficientRight    = "42501"
	noSuchDatabase       = "3D000"
	tooManyConnections   = "53300"
	startingUp           = "57P03"
	adminShutdown        = "57P01"
	crashShutdown        = "57P02"
	unknownSetting       = "42704"
	invalidSetting       = "22023"
	cannotChangeSetting  = "55P02"
	protocolViolation    = "08P01"
)

// awayError says that the server is not there, or lets nobody in, for the moment.
type awayError struct {
	failed *lock.EngineError
	soon   bool // it said itself that this will pass
}

func (e *awayError) Error() string { return e.failed.Error() }
func (e *awayError) Unwrap() error { return e.failed }

func (t *target) failed(err error) *lock.EngineError {
	return &lock.EngineError{Name: t.shown, Err: err}
}

func (t *target) misused(problem, hint string) *lock.EngineError {
	return &lock.EngineError{Name: t.shown, Err: errors.New(problem), Hint: hint, Misuse: true}
}

// explain makes an error of pgconn's one line, and finds out whether it may pass.
func (t *target) explain(err error) error {
	var known *lock.EngineError
	if errors.As(err, &known) || err == lock.ErrHeld {
		return err
	}
	e := t.failed(cause(err))
	var (
		said *pgconn.PgError
		none *pgconn.NotPreferredError
	)
	switch {
	case errors.As(err, &none):
		e.Err = errors.New("none of its servers is a primary")
		return &awayError{failed: e}
	case !errors.As(err, &said):
		return &awayError{failed: e}
	}
	switch said.Code {
	case invalidPassword, invalidAuthorization:
		e.Denied = true
		e.Hint = "the password comes from PGPASSWORD, ~/.pgpass, or the URL"
	case insufficientRight:
		e.Denied = true
	case unknownSetting:
		e.Misuse = true
	case noSuchDatabase:
		e.Hint = "the database is named after the last / of the URL"
	case startingUp:
		return &awayError{failed: e, soon: true}
	case tooManyConnections:
		e.Hint = "everybody who holds needs two connections, everybody who waits one"
		return &awayError{failed: e, soon: true}
	case adminShutdown, crashShutdown:
		return &awayError{failed: e}
	default:
		if class := said.Code[:min(2, len(said.Code))]; class == "08" || class == "53" || class == "57" {
			return &awayError{failed: e}
		}
	}
	return e
}

// cause is what is behind an error, in one line.
func cause(err error) error {
	var (
		said *pgconn.PgError
		dns  *net.DNSError
		op   *net.OpError
	)
	switch {
	case errors.As(err, &said):
		return fmt.Errorf("%s (%s)", said.Message, said.Code)
	case errors.As(err, &dns):
		if dns.IsTimeout {
			return fmt.Errorf("the name server did not answer for %s", dns.Name)
		}
		return fmt.Errorf("there is no host %s", dns.Name)
	case pgconn.Timeout(err), errors.Is(err, context.DeadlineExceeded):
		return errors.New("the server does not answer")
	case errors.As(err, &op) && op.Timeout():
		return errors.New("the server does not answer")
	}
	for {
		switch inner := err.(type) { //nolint:errorlint // one step further is what is wanted
		case interface{ Unwrap() error }:
			if inner.Unwrap() == nil {
				return err
			}
			err = inner.Unwrap()
		case interface{ Unwrap() []error }:
			if len(inner.Unwrap()) == 0 {
				return err
			}
			err = inner.Unwrap()[0]
		default:
			return err
		}
	}
}
