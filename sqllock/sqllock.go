// Package sqllock holds a database's lock for as long as database/sql works on it, and no
// longer: for each transaction, or for each statement outside of one.
//
//	connector, err := sqllock.Connector(&sqlite.Driver{}, "app.db") // or the driver's own
//	db := sql.OpenDB(sqllock.Wrap(connector, "app.db", sqllock.Options{}))
//
// The pool stays as it is. A connection that lies in it holds nothing, so that programs in
// other languages, and commands under dblock, get in between two statements.
//
//   - A transaction has the lock from its begin to its end; one that was begun with
//     sql.TxOptions.ReadOnly shares it with other readers.
//   - A statement outside of a transaction has it while it runs. A query has it until its rows are
//     closed and its connection is back in the pool: of a [database/sql.Conn] that somebody keeps,
//     until the next statement on it, or until it is closed.
//   - A transaction that was begun by a statement, BEGIN or SAVEPOINT, has it until the statement that
//     ends it. A connection that goes back to the pool before that is closed.
//   - A connection is opened under the lock.
//
// Who has a transaction open, and uses the database beside it in the same goroutine, waits for
// himself, as with any lock: until the wait is over or the context ends.
//
// If the lock is not acquired in time the error is a [lock.HeldError]. If it is lost, because a
// program that does not cooperate took it away, statements and Commit fail with [lock.ErrLost], and what the
// transaction did is rolled back. Neither ever is driver.ErrBadConn, at which database/sql
// would try again by itself.
//
// # What it does not replace
//
// The engine's own locking: dblock keeps those out who ask for the lock. Leave SQLite's
// busy_timeout as it is, for those who do not. BEGIN IMMEDIATE is not needed among those who do: a
// transaction that reads first and writes later cannot fail for another one's write, since there is
// no other one.
//
// # What it costs
//
// An uncontended statement some 60 microseconds (docs/dev/benchmarks.md). Many small writes belong in
// one transaction with any SQLite, and with this even more.
package sqllock

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"io"

	"github.com/dblock-dev/dblock/lock"
)

// Options say how to lock.
type Options struct {
	// Lock is how the lock is asked for. Its Mode does not count.
	Lock lock.Options
	// Shared tells which statements outside of a transaction only read, and share the lock with
	// other readers; nil: none.
	Shared func(query string) bool
	// InTransaction tells whether a transaction is open on the driver's own connection. Without
	// it that is told from the statements: by their first word.
	InTransaction func(driver.Conn) bool
}

// Wrap makes a connector whose connections hold the lock of the database at path db while they
// work. Whatever else the driver can do its connections still can.
func Wrap(c driver.Connector, db string, opts Options) driver.Connector {
	return &connector{inner: c, db: db, opts: opts}
}

// Connector is a connector for drivers that are asked for connections by a data source name, as
// [database/sql.Open] asks them.
func Connector(d driver.Driver, name string) (driver.Connector, error) {
	if dc, ok := d.(driver.DriverContext); ok {
		return dc.OpenConnector(name)
	}
	return named{d, name}, nil
}

type named struct {
	driver driver.Driver
	name   string
}

func (n named) Connect(context.Context) (driver.Conn, error) { return n.driver.Open(n.name) }
func (n named) Driver() driver.Driver                        { return n.driver }

type connector struct {
	inner driver.Connector
	db    string
	opts  Options
}

// Connect opens a connection under the lock: that may write.
func (c *connector) Connect(ctx context.Context) (driver.Conn, error) {
	own := &conn{db: c.db, opts: c.opts}
	if err := own.acquire(ctx, lock.Exclusive); err != nil {
		return nil, err
	}
	inner, err := c.inner.Connect(ctx)
	if rerr := own.release(); err == nil && rerr != nil {
		_ = inner.Close()
		return nil, rerr
	}
	if err != nil {
		return nil, err
	}
	own.inner = inner
	return own.shaped(), nil
}

func (c *connector) Driver() driver.Driver { return c.inner.Driver() }

// Close closes the driver's connector, if it can be closed.
func (c *connector) Close() error {
	if closer, ok := c.inner.(io.Closer); ok {
		return closer.Close()
	}
	return nil
}

// wrapped is what all connections of this package are.
type wrapped interface{ wrapped() *conn }

// Unwrap is the driver's own connection under one that [database/sql.Conn.Raw] gives; one that is not of
// this package it returns as it is.
func Unwrap(driverConn any) any {
	if w, ok := driverConn.(wrapped); ok {
		return w.wrapped().inner
	}
	return driverConn
}

// Token is the fencing number of the hold that a connection, as [database/sql.Conn.Raw] gives it, has now; 0 if it
// has none.
func Token(driverConn any) int64 {
	if w, ok := driverConn.(wrapped); ok && w.wrapped().hold != nil {
		g, _ := w.wrapped().hold.Grant()
		return g.Holder.Token
	}
	return 0
}

// WithTx runs fn in a transaction, under the lock, and commits it. If fn fails or panics it is
// rolled back. The error is fn's, or that of begin or commit.
func WithTx(ctx context.Context, db *sql.DB, opts *sql.TxOptions, fn func(*sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, opts)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // does nothing after Commit
	if err := fn(tx); err != nil {
		return err
	}
	return tx.Commit()
}
