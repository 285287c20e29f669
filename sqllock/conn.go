//lint:file-ignore SA1019 drivers still have what is deprecated

package sqllock

import (
	"context"
	"database/sql/driver"
	"errors"

	"github.com/dblock-dev/dblock/lock"
)

// conn is a connection. database/sql does not use one from two goroutines at once.
type conn struct {
	inner driver.Conn
	db    string
	opts  Options

	hold   *lock.Lock // nil if it holds nothing
	open   bool       // a transaction is open
	doubts bool       // a transaction may be open that should not: to be closed
}

func (c *conn) wrapped() *conn { return c }

// shaped is the connection with those methods of the driver's own whose absence database/sql
// makes something of: it prepares statements then, and converts their arguments otherwise. All
// others do, where the driver has none, what database/sql would do itself.
func (c *conn) shaped() driver.Conn {
	execs, queries := false, false
	switch c.inner.(type) {
	case driver.ExecerContext, driver.Execer:
		execs = true
	}
	switch c.inner.(type) {
	case driver.QueryerContext, driver.Queryer:
		queries = true
	}
	switch {
	case execs && queries:
		return struct {
			*conn
			execer
			queryer
		}{c, execer{c}, queryer{c}}
	case execs:
		return struct {
			*conn
			execer
		}{c, execer{c}}
	case queries:
		return struct {
			*conn
			queryer
		}{c, queryer{c}}
	}
	return c
}

// acquire gets the lock. Until the next statement or the pool comes, the hold of a query may
// still be there.
func (c *conn) acquire(ctx context.Context, mode lock.Mode) error {
	if c.open {
		return c.hold.Err() // a part of the transaction
	}
	_ = c.release()
	o := c.opts.Lock
	o.Mode = mode
	l := lock.New(c.db, o)
	if err := l.Acquire(ctx); err != nil {
		return err
	}
	c.hold = l
	return nil
}

// release ends the hold, unless it is a transaction's.
func (c *conn) release() error {
	if c.open || c.hold == nil {
		return nil
	}
	l := c.hold
	c.hold = nil
	return l.Release()
}

// mode is how a statement outside of a transaction locks.
func (c *conn) mode(query string) lock.Mode {
	if c.opts.Shared != nil && c.opts.Shared(query) {
		return lock.Shared
	}
	return lock.Exclusive
}

// run runs a statement under the lock, one after which nothing is open.
func (c *conn) run(ctx context.Context, query string, do func() (driver.Result, error)) (driver.Result, error) {
	if err := c.acquire(ctx, c.mode(query)); err != nil {
		return nil, err
	}
	result, err := do()
	c.note(query, err)
	if rerr := c.release(); err == nil && rerr != nil {
		return nil, rerr
	}
	return result, err
}

// ask runs a query under the lock, which lasts for as long as its rows may.
func (c *conn) ask(ctx context.Context, query string, do func() (driver.Rows, error)) (driver.Rows, error) {
	if err := c.acquire(ctx, c.mode(query)); err != nil {
		return nil, err
	}
	rows, err := do()
	c.note(query, err)
	if err != nil {
		if rerr := c.release(); rerr != nil && !errors.Is(err, driver.ErrBadConn) && !errors.Is(err, driver.ErrSkip) {
			return nil, rerr
		}
		return nil, err
	}
	return rows, nil
}

// Prepare is PrepareContext for those who have no context.
func (c *conn) Prepare(query string) (driver.Stmt, error) {
	return c.PrepareContext(context.Background(), query)
}

// PrepareContext prepares under the lock, since the engine may read the schema for that.
func (c *conn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	if err := c.acquire(ctx, lock.Shared); err != nil {
		return nil, err
	}
	s, err := c.prepare(ctx, query)
	if rerr := c.release(); err == nil && rerr != nil {
		_ = s.Close()
		return nil, rerr
	}
	if err != nil {
		return nil, err
	}
	return newStmt(c, s, query), nil
}

func (c *conn) prepare(ctx context.Context, query string) (driver.Stmt, error) {
	if p, ok := c.inner.(driver.ConnPrepareContext); ok {
		return p.PrepareContext(ctx, query)
	}
	s, err := c.inner.Prepare(query)
	if err == nil && ctx.Err() != nil {
		_ = s.Close()
		return nil, ctx.Err()
	}
	return s, err
}

// Close closes the connection, with a transaction that may be open, and after that the hold ends.
func (c *conn) Close() error {
	err := c.inner.Close()
	c.open = false
	if rerr := c.release(); err == nil {
		err = rerr
	}
	return err
}

// Begin is BeginTx for those who have no context.
func (c *conn) Begin() (driver.Tx, error) {
	return c.BeginTx(context.Background(), driver.TxOptions{})
}

// BeginTx acquires the lock for a transaction.
func (c *conn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	mode := lock.Exclusive
	if opts.ReadOnly {
		mode = lock.Shared
	}
	if err := c.acquire(ctx, mode); err != nil {
		return nil, err
	}
	nested := c.open // the driver has a word to say about that
	inner, err := c.begin(ctx, opts)
	if err != nil {
		if rerr := c.release(); rerr != nil && !errors.Is(err, driver.ErrBadConn) {
			err = rerr
		}
		return nil, err
	}
	c.open = true
	return &tx{c, inner, nested}, nil
}

// begin begins a transaction of the driver's as database/sql would.
func (c *conn) begin(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	if b, ok := c.inner.(driver.ConnBeginTx); ok {
		return b.BeginTx(ctx, opts)
	}
	switch {
	case opts.Isolation != 0:
		return nil, errors.New("sqllock: the driver does not support a level of isolation other than its default")
	case opts.ReadOnly:
		return nil, errors.New("sqllock: the driver does not support read-only transactions")
	}
	t, err := c.inner.Begin()
	if err == nil && ctx.Err() != nil {
		_ = t.Rollback()
		return nil, ctx.Err()
	}
	return t, err
}

// Ping asks the driver, if it can be asked. It is not about the database's content.
func (c *conn) Ping(ctx context.Context) error {
	if p, ok := c.inner.(driver.Pinger); ok {
		return p.Ping(ctx)
	}
	return nil
}

// ResetSession is called before the connection is used again.
func (c *conn) ResetSession(ctx context.Context) error {
	if r, ok := c.inner.(driver.SessionResetter); ok {
		return r.ResetSession(ctx)
	}
	return nil
}

// IsValid is called when the connection goes back to the pool: then its rows are closed, and a
// query's hold ends. One with an open transaction is not for others.
func (c *conn) IsValid() bool {
	if c.open || c.doubts {
		return false // Close ends the hold
	}
	if c.release() != nil {
		return false
	}
	if v, ok := c.inner.(driver.Validator); ok {
		return v.IsValid()
	}
	return true
}

// CheckNamedValue lets the driver check an argument; driver.ErrSkip leaves it to database/sql.
func (c *conn) CheckNamedValue(v *driver.NamedValue) error {
	if ch, ok := c.inner.(driver.NamedValueChecker); ok {
		return ch.CheckNamedValue(v)
	}
	return driver.ErrSkip
}

// execer is for connections that can execute without preparing.
type execer struct{ on *conn }

func (e execer) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	c := e.on
	return c.run(ctx, query, func() (driver.Result, error) {
		if x, ok := c.inner.(driver.ExecerContext); ok {
			return x.ExecContext(ctx, query, args)
		}
		values, err := plain(ctx, args)
		if err != nil {
			return nil, err
		}
		return c.inner.(driver.Execer).Exec(query, values)
	})
}

// queryer is for connections that can query without preparing.
type queryer struct{ on *conn }

func (q queryer) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	c := q.on
	return c.ask(ctx, query, func() (driver.Rows, error) {
		if x, ok := c.inner.(driver.QueryerContext); ok {
			return x.QueryContext(ctx, query, args)
		}
		values, err := plain(ctx, args)
		if err != nil {
			return nil, err
		}
		return c.inner.(driver.Queryer).Query(query, values)
	})
}

// plain are arguments for drivers that know no names.
func plain(ctx context.Context, args []driver.NamedValue) ([]driver.Value, error) {
	values := make([]driver.Value, len(args))
	for i, a := range args {
		if a.Name != "" {
			return nil, errors.New("sqllock: the driver does not support named parameters")
		}
		values[i] = a.Value
	}
	return values, ctx.Err()
}
