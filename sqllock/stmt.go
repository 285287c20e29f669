//lint:file-ignore SA1019 drivers still have what is deprecated

package sqllock

import (
	"context"
	"database/sql/driver"
)

// stmt is a prepared statement.
type stmt struct {
	on    *conn
	inner driver.Stmt
	query string
}

// newStmt keeps the driver's own conversion of arguments, if it has one: that there is none
// means something to database/sql.
func newStmt(c *conn, inner driver.Stmt, query string) driver.Stmt {
	s := &stmt{c, inner, query}
	if cc, ok := inner.(driver.ColumnConverter); ok {
		return converting{s, cc}
	}
	return s
}

// converting is a statement with a conversion of its own.
type converting struct {
	*stmt
	by driver.ColumnConverter
}

func (c converting) ColumnConverter(i int) driver.ValueConverter { return c.by.ColumnConverter(i) }

func (s *stmt) Close() error  { return s.inner.Close() }
func (s *stmt) NumInput() int { return s.inner.NumInput() }

// Exec is ExecContext for those who have no context.
func (s *stmt) Exec(args []driver.Value) (driver.Result, error) {
	return s.on.run(context.Background(), s.query, func() (driver.Result, error) {
		return s.inner.Exec(args)
	})
}

// Query is QueryContext for those who have no context.
func (s *stmt) Query(args []driver.Value) (driver.Rows, error) {
	return s.on.ask(context.Background(), s.query, func() (driver.Rows, error) {
		return s.inner.Query(args)
	})
}

// ExecContext executes the statement under the lock.
func (s *stmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	return s.on.run(ctx, s.query, func() (driver.Result, error) {
		if x, ok := s.inner.(driver.StmtExecContext); ok {
			return x.ExecContext(ctx, args)
		}
		values, err := plain(ctx, args)
		if err != nil {
			return nil, err
		}
		return s.inner.Exec(values)
	})
}

// QueryContext asks under the lock, which lasts until the rows are closed.
func (s *stmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	return s.on.ask(ctx, s.query, func() (driver.Rows, error) {
		if x, ok := s.inner.(driver.StmtQueryContext); ok {
			return x.QueryContext(ctx, args)
		}
		values, err := plain(ctx, args)
		if err != nil {
			return nil, err
		}
		return s.inner.Query(values)
	})
}

// CheckNamedValue lets the statement check an argument, or else its connection.
func (s *stmt) CheckNamedValue(v *driver.NamedValue) error {
	if ch, ok := s.inner.(driver.NamedValueChecker); ok {
		return ch.CheckNamedValue(v)
	}
	return s.on.CheckNamedValue(v)
}
