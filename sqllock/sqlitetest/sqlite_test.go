// Package sqlitetest tries sqllock with SQLite.
package sqlitetest

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"modernc.org/sqlite"

	"github.com/dblock-dev/dblock/lock"
	"github.com/dblock-dev/dblock/sqllock"
)

const envWorker = "SQLITETEST_WORKER"

func TestMain(m *testing.M) {
	if path := os.Getenv(envWorker); path != "" {
		if err := work(path); err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// open opens a database that does not wait for anybody: who meets somebody fails.
func open(path string) (*sql.DB, error) {
	c, err := sqllock.Connector(&sqlite.Driver{}, "file:"+path+"?_pragma=busy_timeout(0)")
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(sqllock.Wrap(c, path, sqllock.Options{Lock: lock.Options{Wait: lock.Forever}})), nil
}

// work adds one to a number, again and again, by reading it first, in a transaction that SQLite begins
// as a reader: among others that do the same that fails or loses. Every tenth time it does so by
// statements, and every third reads only.
func work(path string) error {
	db, err := open(path)
	if err != nil {
		return err
	}
	defer db.Close()
	ctx := context.Background()
	for i := range 100 {
		err := sqllock.WithTx(ctx, db, nil, func(tx *sql.Tx) error {
			var n int
			if err := tx.QueryRow("SELECT n FROM counter").Scan(&n); err != nil {
				return err
			}
			if _, err := tx.Exec("UPDATE counter SET n = ?", n+1); err != nil {
				return err
			}
			_, err := tx.Exec("INSERT INTO log (pid, n) VALUES (?, ?)", os.Getpid(), n+1)
			return err
		})
		if err != nil {
			return err
		}
		fmt.Println("did", i)
		if i%3 == 0 {
			tx, err := db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
			if err != nil {
				return err
			}
			var n, rows int
			if err := tx.QueryRow("SELECT n, (SELECT count(*) FROM log) FROM counter").Scan(&n, &rows); err != nil {
				return err
			}
			if err := tx.Rollback(); err != nil {
				return err
			}
			if n != rows {
				return fmt.Errorf("%d updates and %d rows", n, rows)
			}
		}
	}
	return nil
}

func TestEightProcessesOnOneDatabase(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.db")
	db, err := open(path)
	require.NoError(t, err)
	for _, q := range []string{"CREATE TABLE counter (n INTEGER)", "INSERT INTO counter VALUES (0)", "CREATE TABLE log (pid INTEGER, n INTEGER UNIQUE)"} {
		_, err := db.Exec(q)
		require.NoError(t, err)
	}
	var mu sync.Mutex
	acknowledged, killed := 0, 0
	var all sync.WaitGroup
	for w := range 8 {
		all.Go(func() {
			for {
				mu.Lock()
				toKill := w%3 == 0 && killed < 12
				mu.Unlock()
				cmd := exec.Command(os.Args[0])
				cmd.Env = append(os.Environ(), envWorker+"="+path)
				out, err := cmd.StdoutPipe()
				if err != nil || cmd.Start() != nil {
					t.Error("it does not start")
					return
				}
				after := rand.N(60)
				for lines, n := bufio.NewScanner(out), 0; lines.Scan(); n++ {
					if text := lines.Text(); len(text) > 4 && text[:4] == "did " {
						mu.Lock()
						acknowledged++
						mu.Unlock()
					} else {
						t.Error(text)
					}
					if toKill && n == after {
						_ = cmd.Process.Kill()
					}
				}
				err = cmd.Wait()
				if !toKill {
					if err != nil {
						t.Error(err)
					}
					return
				}
				mu.Lock()
				killed++
				mu.Unlock()
			}
		})
	}
	all.Wait()
	var n, rows, most int
	require.NoError(t, db.QueryRow("SELECT n, (SELECT count(*) FROM log), (SELECT max(n) FROM log) FROM counter").Scan(&n, &rows, &most))
	t.Logf("%d updates, %d acknowledged, %d processes killed", n, acknowledged, killed)
	require.Equal(t, n, rows)
	require.Equal(t, n, most)
	require.GreaterOrEqual(t, n, acknowledged)
	require.LessOrEqual(t, n, acknowledged+killed, "who is killed between commit and word")
	require.NoError(t, db.Close())
	left, err := filepath.Glob(path + "-*")
	require.NoError(t, err)
	require.Empty(t, left)
	require.NoFileExists(t, filepath.Join(filepath.Dir(path), ".app.lock"))
}

func TestWithSQLite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.db")
	db, err := open(path)
	require.NoError(t, err)
	defer db.Close()
	notice := filepath.Join(filepath.Dir(path), ".app.lock")
	_, err = db.Exec("CREATE TABLE t (n INTEGER, s TEXT)")
	require.NoError(t, err)
	s, err := db.Prepare("INSERT INTO t VALUES (@n, ?)")
	require.NoError(t, err)
	for i := range 5 {
		_, err := s.Exec(sql.Named("n", i), strconv.Itoa(i))
		require.NoError(t, err)
	}
	require.NoError(t, s.Close())
	r, err := db.Query("SELECT n, s FROM t")
	require.NoError(t, err)
	types, err := r.ColumnTypes()
	require.NoError(t, err)
	require.Equal(t, "INTEGER", types[0].DatabaseTypeName(), "the rows are the driver's own")
	require.True(t, r.Next())
	require.FileExists(t, notice)
	require.NoError(t, r.Close())
	require.NoFileExists(t, notice)

	// A transaction that was begun by a statement does not stay in the pool.
	_, err = db.Exec("BEGIN")
	require.NoError(t, err)
	require.NoFileExists(t, notice)
	tx, err := db.Begin()
	require.NoError(t, err)
	_, err = tx.Exec("DELETE FROM t")
	require.NoError(t, err)
	require.NoError(t, tx.Rollback())

	// A query whose context ends.
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = db.ExecContext(ctx, "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c) INSERT INTO t SELECT x, 'x' FROM c")
	require.Error(t, err)
	require.NoFileExists(t, notice)

	// Somebody else has it.
	other := lock.New(path, lock.Options{})
	require.NoError(t, other.Acquire(t.Context()))
	ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = db.ExecContext(ctx, "DELETE FROM t")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NoError(t, other.Release())
	var n int
	require.NoError(t, db.QueryRow("SELECT count(*) FROM t").Scan(&n))
	require.Equal(t, 5, n)
	require.NoError(t, errors.Join(db.Close(), db.Close()))
}

func BenchmarkUpdate(b *testing.B) {
	for _, locked := range []bool{false, true} {
		b.Run(fmt.Sprint("locked=", locked), func(b *testing.B) {
			path := filepath.Join(b.TempDir(), "app.db")
			c, err := sqllock.Connector(&sqlite.Driver{}, "file:"+path+"?_pragma=synchronous(off)")
			require.NoError(b, err)
			if locked {
				c = sqllock.Wrap(c, path, sqllock.Options{})
			}
			db := sql.OpenDB(c)
			defer db.Close()
			_, err = db.Exec("CREATE TABLE t (n INTEGER)")
			require.NoError(b, err)
			for b.Loop() {
				if _, err := db.Exec("UPDATE t SET n = 1"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
