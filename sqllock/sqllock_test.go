//lint:file-ignore SA1019 drivers still have what is deprecated

package sqllock

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dblock-dev/dblock/lock"
)

// fake is a driver whose connections have any subset of the optional methods.
type fake struct {
	mu     sync.Mutex
	calls  []string
	shape  func(*base) driver.Conn
	fail   map[string]error
	closed int
	held   func() bool // is the lock held?
	unheld []string    // calls without the lock
}

func (f *fake) Connect(context.Context) (driver.Conn, error) {
	if err := f.call("Connect"); err != nil {
		return nil, err
	}
	return f.shape(&base{f}), nil
}
func (f *fake) Driver() driver.Driver { return nil }
func (f *fake) Close() error          { return f.call("CloseConnector") }

func (f *fake) call(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, name)
	if f.held != nil && !f.held() {
		f.unheld = append(f.unheld, name)
	}
	return f.fail[name]
}

func (f *fake) made() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	calls := f.calls
	f.calls = nil
	return calls
}

// base has what every connection has.
type base struct{ *fake }

func (b *base) Prepare(string) (driver.Stmt, error) {
	if err := b.call("Prepare"); err != nil {
		return nil, err
	}
	return &baseStmt{b.fake}, nil
}
func (b *base) Close() error { b.closed++; return b.call("Close") }
func (b *base) Begin() (driver.Tx, error) {
	if err := b.call("Begin"); err != nil {
		return nil, err
	}
	return b, nil
}
func (b *base) Commit() error   { return b.call("Commit") }
func (b *base) Rollback() error { return b.call("Rollback") }

type baseStmt struct{ *fake }

func (s *baseStmt) Close() error  { return s.call("CloseStmt") }
func (s *baseStmt) NumInput() int { return -1 }
func (s *baseStmt) Exec([]driver.Value) (driver.Result, error) {
	return driver.RowsAffected(1), s.call("Stmt.Exec")
}
func (s *baseStmt) Query([]driver.Value) (driver.Rows, error) {
	return &rows{s.fake, 2}, s.call("Stmt.Query")
}

type rows struct {
	*fake
	left int
}

func (r *rows) Columns() []string { return []string{"n"} }
func (r *rows) Close() error      { return r.call("Rows.Close") }
func (r *rows) Next(dest []driver.Value) error {
	if r.left--; r.left < 0 {
		return io.EOF
	}
	dest[0] = int64(r.left)
	return r.call("Next")
}

// The optional methods, each in a type of its own.
type (
	withExec     struct{ *fake }
	withOldExec  struct{ *fake }
	withQuery    struct{ *fake }
	withPing     struct{ *fake }
	withBegin    struct{ *fake }
	withPrepare  struct{ *fake }
	withReset    struct{ *fake }
	withValid    struct{ *fake }
	withChecker  struct{ *fake }
	skipsExec    struct{ *fake }
	skipsQueries struct{ *fake }
)

func (w withExec) ExecContext(context.Context, string, []driver.NamedValue) (driver.Result, error) {
	return driver.RowsAffected(1), w.call("ExecContext")
}
func (w withOldExec) Exec(string, []driver.Value) (driver.Result, error) {
	return driver.RowsAffected(1), w.call("Exec")
}
func (w withQuery) QueryContext(context.Context, string, []driver.NamedValue) (driver.Rows, error) {
	return &rows{w.fake, 2}, w.call("QueryContext")
}
func (w withPing) Ping(context.Context) error { return w.call("Ping") }
func (w withBegin) BeginTx(_ context.Context, o driver.TxOptions) (driver.Tx, error) {
	return &base{w.fake}, w.call(fmt.Sprint("BeginTx ", o.ReadOnly))
}
func (w withPrepare) PrepareContext(context.Context, string) (driver.Stmt, error) {
	return &baseStmt{w.fake}, w.call("PrepareContext")
}
func (w withReset) ResetSession(context.Context) error { return w.call("ResetSession") }
func (w withValid) IsValid() bool                      { return w.call("IsValid") == nil }
func (w withChecker) CheckNamedValue(v *driver.NamedValue) error {
	if v.Value == "odd" {
		v.Value = "made even"
		return nil
	}
	return driver.ErrSkip
}
func (w skipsExec) ExecContext(context.Context, string, []driver.NamedValue) (driver.Result, error) {
	_ = w.call("ExecContext")
	return nil, driver.ErrSkip
}
func (w skipsQueries) QueryContext(context.Context, string, []driver.NamedValue) (driver.Rows, error) {
	_ = w.call("QueryContext")
	return nil, driver.ErrSkip
}

func pool(t *testing.T, f *fake, opts Options) (db *sql.DB, path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "app.db")
	if opts.Lock.Wait == 0 {
		opts.Lock.Wait = lock.NoWait
	}
	db = sql.OpenDB(Wrap(f, path, opts))
	t.Cleanup(func() { _ = db.Close() })
	f.held = func() bool { return isHeld(path) }
	return db, path
}

func isHeld(path string) bool {
	_, err := os.Stat(filepath.Join(filepath.Dir(path), ".app.lock"))
	return err == nil
}

var shapes = map[string]func(b *base) driver.Conn{
	"nothing": func(b *base) driver.Conn { return b },
	"exec": func(b *base) driver.Conn {
		return struct {
			*base
			withExec
		}{b, withExec{b.fake}}
	},
	"old exec": func(b *base) driver.Conn {
		return struct {
			*base
			withOldExec
		}{b, withOldExec{b.fake}}
	},
	"query": func(b *base) driver.Conn {
		return struct {
			*base
			withQuery
		}{b, withQuery{b.fake}}
	},
	"both": func(b *base) driver.Conn {
		return struct {
			*base
			withExec
			withQuery
		}{b, withExec{b.fake}, withQuery{b.fake}}
	},
	"skips": func(b *base) driver.Conn {
		return struct {
			*base
			skipsExec
			skipsQueries
		}{b, skipsExec{b.fake}, skipsQueries{b.fake}}
	},
	"ping": func(b *base) driver.Conn {
		return struct {
			*base
			withPing
		}{b, withPing{b.fake}}
	},
	"begin": func(b *base) driver.Conn {
		return struct {
			*base
			withBegin
		}{b, withBegin{b.fake}}
	},
	"prepare": func(b *base) driver.Conn {
		return struct {
			*base
			withPrepare
		}{b, withPrepare{b.fake}}
	},
	"reset": func(b *base) driver.Conn {
		return struct {
			*base
			withReset
		}{b, withReset{b.fake}}
	},
	"valid": func(b *base) driver.Conn {
		return struct {
			*base
			withValid
		}{b, withValid{b.fake}}
	},
	"checker": func(b *base) driver.Conn {
		return struct {
			*base
			withChecker
			withExec
		}{b, withChecker{b.fake}, withExec{b.fake}}
	},
	"all": func(b *base) driver.Conn {
		return struct {
			*base
			withExec
			withQuery
			withPing
			withBegin
			withPrepare
			withReset
			withValid
			withChecker
		}{b, withExec{b.fake}, withQuery{b.fake}, withPing{b.fake}, withBegin{b.fake}, withPrepare{b.fake}, withReset{b.fake}, withValid{b.fake}, withChecker{b.fake}}
	},
}

// To the driver it is as if nothing were wrapped: the same calls in the same order, and to who
// uses it the same answers.
func TestEveryShapeOfADriver(t *testing.T) {
	t.Parallel()
	work := func(db *sql.DB) (said []string) {
		say := func(what string, err error) { said = append(said, fmt.Sprint(what, " ", err)) }
		say("ping", db.Ping())
		_, err := db.Exec("UPDATE a", 1)
		say("exec", err)
		_, err = db.Exec("UPDATE a", "odd")
		say("exec odd", err)
		_, err = db.Exec("UPDATE a", sql.Named("n", 1))
		say("exec named", err)
		_, err = db.Exec("UPDATE a", struct{}{})
		say("exec refused", err)
		r, err := db.Query("SELECT n")
		say("query", err)
		if err == nil {
			for n := 0; r.Next(); {
				say("row", r.Scan(&n))
			}
			say("rows", errors.Join(r.Err(), r.Close()))
		}
		s, err := db.Prepare("SELECT n")
		say("prepare", err)
		if err == nil {
			_, err = s.Exec(1)
			say("stmt exec", err)
			say("stmt query", s.QueryRow().Scan(new(int)))
			say("stmt close", s.Close())
		}
		for _, o := range []*sql.TxOptions{nil, {}, {ReadOnly: true}, {Isolation: sql.LevelSerializable}} {
			tx, err := db.BeginTx(context.Background(), o)
			said = append(said, fmt.Sprint("begin ", err == nil))
			if err != nil {
				continue
			}
			_, err = tx.Exec("UPDATE a")
			say("tx exec", err)
			say("tx query", tx.QueryRow("SELECT n").Scan(new(int)))
			say("commit", tx.Commit())
		}
		say("close", db.Close())
		return said
	}
	for name, shape := range shapes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			plain, locked := &fake{shape: shape}, &fake{shape: shape}
			bare := sql.OpenDB(plain)
			db, path := pool(t, locked, Options{})
			want, got := work(bare), work(db)
			for i := range want { // but for the words of package sql itself
				if i < len(got) && (i == 3 || errorsAlike(want[i], got[i])) {
					got[i] = want[i]
				}
			}
			require.Equal(t, want, got)
			require.Equal(t, plain.made(), locked.made())
			for _, call := range locked.unheld {
				require.Contains(t, []string{"Ping", "ResetSession", "IsValid", "Close", "CloseStmt", "CloseConnector"}, call, "without the lock")
			}
			require.False(t, isHeld(path))
		})
	}
}

func errorsAlike(a, b string) bool {
	return a == b || len(a) > 10 && len(b) > 10 && a[:10] == b[:10] && a[len(a)-10:] == b[len(b)-10:]
}

func TestAHoldLastsForAStatement(t *testing.T) {
	t.Parallel()
	f := &fake{shape: shapes["all"]}
	db, path := pool(t, f, Options{})
	_, err := db.Exec("UPDATE a")
	require.NoError(t, err)
	require.False(t, isHeld(path))
	r, err := db.Query("SELECT n")
	require.NoError(t, err)
	require.True(t, isHeld(path), "while its rows are open")
	_, err = db.Exec("UPDATE a")
	require.ErrorIs(t, err, lock.ErrHeld, "another connection is a stranger")
	require.NotErrorIs(t, err, driver.ErrBadConn)
	require.NoError(t, r.Close())
	require.False(t, isHeld(path))
	require.NoError(t, db.QueryRow("SELECT n").Scan(new(int)))
	require.False(t, isHeld(path))
	f.fail = map[string]error{"QueryContext": errors.New("no such table")}
	_, err = db.Query("SELECT n")
	require.ErrorContains(t, err, "no such table")
	require.False(t, isHeld(path))
}

func TestAHoldLastsForATransaction(t *testing.T) {
	t.Parallel()
	f := &fake{shape: shapes["all"]}
	db, path := pool(t, f, Options{})
	for _, end := range []func(*sql.Tx) error{(*sql.Tx).Commit, (*sql.Tx).Rollback} {
		tx, err := db.Begin()
		require.NoError(t, err)
		_, err = tx.Exec("UPDATE a")
		require.NoError(t, err)
		require.NoError(t, tx.QueryRow("SELECT n").Scan(new(int)))
		require.True(t, isHeld(path))
		require.NoError(t, end(tx))
		require.False(t, isHeld(path))
	}
	ctx, cancel := context.WithCancel(t.Context())
	tx, err := db.BeginTx(ctx, nil)
	require.NoError(t, err)
	cancel()
	require.Eventually(t, func() bool { return !isHeld(path) }, 10*time.Second, time.Millisecond, "its context has ended")
	require.Error(t, tx.Commit())

	// Readers share it.
	var one *sql.Tx
	require.Eventually(t, func() bool {
		// That one's lock file goes before its lock does, and the rollback is not waited for.
		one, err = db.BeginTx(t.Context(), &sql.TxOptions{ReadOnly: true})
		return err == nil
	}, 10*time.Second, time.Millisecond)
	other, err := another(t, f, path).BeginTx(t.Context(), &sql.TxOptions{ReadOnly: true})
	require.NoError(t, err)
	_, err = db.Exec("UPDATE a")
	require.ErrorIs(t, err, lock.ErrHeld)
	require.NoError(t, errors.Join(one.Rollback(), other.Rollback()))

	require.ErrorContains(t, WithTx(t.Context(), db, nil, func(*sql.Tx) error { return errors.New("no") }), "no")
	require.NoError(t, WithTx(t.Context(), db, nil, func(tx *sql.Tx) error { return nil }))
	require.Panics(t, func() { _ = WithTx(t.Context(), db, nil, func(*sql.Tx) error { panic("x") }) })
	require.False(t, isHeld(path))
}

// another is another pool of the same database whose connections are there already.
func another(t *testing.T, f *fake, path string) *sql.DB {
	t.Helper()
	db := sql.OpenDB(&wrappedOnce{Wrap(f, path, Options{Lock: lock.Options{Wait: lock.NoWait}}).(*connector)})
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// wrappedOnce opens without the lock, which a reader has here.
type wrappedOnce struct{ *connector }

func (w *wrappedOnce) Connect(ctx context.Context) (driver.Conn, error) {
	inner, err := w.inner.Connect(ctx)
	return (&conn{inner: inner, db: w.db, opts: w.opts}).shaped(), err
}

// A transaction that a statement has begun is one, too, and nobody else gets its connection.
func TestTransactionsByStatement(t *testing.T) {
	t.Parallel()
	f := &fake{shape: shapes["all"]}
	db, path := pool(t, f, Options{})
	c, err := db.Conn(t.Context())
	require.NoError(t, err)
	run := func(query string) {
		_, err := c.ExecContext(t.Context(), query)
		require.NoError(t, err)
	}
	run("-- new\n begin /* now */")
	run("UPDATE a")
	require.True(t, isHeld(path))
	run("ROLLBACK TO a")
	require.True(t, isHeld(path))
	require.NoError(t, c.Raw(func(raw any) error {
		require.NotZero(t, Token(raw))
		require.Implements(t, (*driver.Pinger)(nil), Unwrap(raw))
		return nil
	}))
	run("COMMIT;")
	require.False(t, isHeld(path))
	run("BEGIN; UPDATE a; COMMIT")
	require.False(t, isHeld(path))
	run("BEGIN; UPDATE a")
	require.NoError(t, c.Close())
	require.Equal(t, 1, f.closed, "it is not for others")
	require.False(t, isHeld(path))
	require.Equal(t, "x", Unwrap("x"))
	require.Zero(t, Token("x"))

	// A driver may know better.
	open := true
	db, path = pool(t, f, Options{InTransaction: func(driver.Conn) bool { return open }})
	_, err = db.Exec("UPDATE a")
	require.NoError(t, err)
	require.Equal(t, 2, f.closed)
	open = false
	_, err = db.Exec("BEGIN")
	require.NoError(t, err)
	require.Equal(t, 2, f.closed)
	require.False(t, isHeld(path))
}

func TestLost(t *testing.T) {
	t.Parallel()
	f := &fake{shape: shapes["all"]}
	db, path := pool(t, f, Options{})
	tx, err := db.Begin()
	require.NoError(t, err)
	notice := filepath.Join(filepath.Dir(path), ".app.lock")
	require.NoError(t, os.WriteFile(notice+".new", []byte(`{"pid":1,"timestamp":1,"host":"h","process":"cli"}`), 0o644))
	require.NoError(t, os.Rename(notice+".new", notice))
	f.made()
	err = tx.Commit()
	require.ErrorIs(t, err, lock.ErrLost)
	require.NotErrorIs(t, err, driver.ErrBadConn)
	require.Contains(t, f.made(), "Rollback")
	require.NoError(t, os.Remove(notice))

	tx, err = db.Begin()
	require.NoError(t, err)
	require.NoError(t, os.RemoveAll(notice+".d"))
	require.Eventually(t, func() bool {
		_, err = tx.Exec("UPDATE a")
		return errors.Is(err, lock.ErrLost)
	}, 10*time.Second, time.Millisecond)
	require.NoError(t, tx.Rollback())
}

// Whose transaction may still be open is not used again.
func TestCommitFails(t *testing.T) {
	t.Parallel()
	f := &fake{shape: shapes["all"], fail: map[string]error{"Commit": errors.New("busy")}}
	db, path := pool(t, f, Options{})
	tx, err := db.Begin()
	require.NoError(t, err)
	require.ErrorContains(t, tx.Commit(), "busy")
	require.Equal(t, 1, f.closed)
	require.False(t, isHeld(path))
}

func TestSharedStatements(t *testing.T) {
	t.Parallel()
	f := &fake{shape: shapes["all"]}
	db, path := pool(t, f, Options{Shared: func(query string) bool { return word(query) == "SELECT" }})
	r, err := db.Query("SELECT n")
	require.NoError(t, err)
	l := lock.New(path, lock.Options{Mode: lock.Shared, Wait: lock.NoWait})
	require.NoError(t, l.Acquire(t.Context()))
	require.NoError(t, errors.Join(l.Release(), r.Close()))
}

type converts struct{ *baseStmt }

func (converts) ColumnConverter(int) driver.ValueConverter { return driver.Bool }
func (converts) NumInput() int                             { return 1 }

func TestStatementsKeepTheirConverter(t *testing.T) {
	t.Parallel()
	c := &conn{inner: &base{&fake{}}}
	_, has := newStmt(c, &baseStmt{}, "").(driver.ColumnConverter)
	require.False(t, has)
	cc, has := newStmt(c, converts{}, "").(driver.ColumnConverter)
	require.True(t, has)
	require.Equal(t, reflect.TypeOf(driver.Bool), reflect.TypeOf(cc.ColumnConverter(0)))
}
