package lock_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/dblock-dev/dblock/lock"
)

// scratch is a directory for one example.
func scratch() (dir string, remove func()) {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	return dir, func() { _ = os.RemoveAll(dir) }
}

func ExampleNew() {
	dir, remove := scratch()
	defer remove()

	l := lock.New(filepath.Join(dir, "app.db"), lock.Options{Process: "importer", Wait: 10 * time.Second})
	if err := l.Acquire(context.Background()); err != nil {
		log.Fatal(err)
	}
	g, _ := l.Grant()
	fmt.Printf("%s holds %s, %s\n", g.Holder.Process, filepath.Base(g.Names.Notice), g.Holder.Mode)
	// The error tells whether the lock was still ours at the end.
	if err := l.Release(); err != nil {
		log.Fatal(err)
	}
	// Output: importer holds .app.lock, exclusive
}

func ExampleLock_Acquire_held() {
	dir, remove := scratch()
	defer remove()
	db := filepath.Join(dir, "app.db")
	first := lock.New(db, lock.Options{Process: "importer"})
	if err := first.Acquire(context.Background()); err != nil {
		log.Fatal(err)
	}
	defer first.Release()

	err := lock.New(db, lock.Options{Wait: lock.NoWait}).Acquire(context.Background())
	var held *lock.HeldError
	if errors.As(err, &held) {
		fmt.Println("held by", held.Report.Holder.Process)
	}
	fmt.Println(errors.Is(err, lock.ErrHeld))
	// Output:
	// held by importer
	// true
}

func ExampleWith() {
	dir, remove := scratch()
	defer remove()

	err := lock.With(context.Background(), filepath.Join(dir, "app.db"), lock.Options{}, func(ctx context.Context) error {
		// ctx is cancelled when the lock is lost: let what takes long depend on it.
		fmt.Println("working alone")
		return ctx.Err()
	})
	fmt.Println(err)
	// Output:
	// working alone
	// <nil>
}

func ExampleWith_readers() {
	dir, remove := scratch()
	defer remove()
	db := filepath.Join(dir, "app.db")

	read := lock.Options{Mode: lock.Shared}
	err := lock.With(context.Background(), db, read, func(ctx context.Context) error {
		return lock.With(ctx, db, read, func(context.Context) error {
			fmt.Println("two readers")
			return nil
		})
	})
	fmt.Println(err)
	// Output:
	// two readers
	// <nil>
}

func ExampleInspect() {
	dir, remove := scratch()
	defer remove()
	db := filepath.Join(dir, "app.db")

	show := func() {
		r, err := lock.Inspect(db, lock.Options{})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Print(r.State)
		if r.Holder != nil {
			fmt.Print(" by ", r.Holder.Process)
		}
		fmt.Println()
	}
	show()
	err := lock.With(context.Background(), db, lock.Options{Process: "importer"}, func(context.Context) error {
		show()
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	show()
	// Output:
	// free
	// held by importer
	// free
}

func ExampleBreak() {
	dir, remove := scratch()
	defer remove()
	db := filepath.Join(dir, "app.db")
	// A program on another machine has taken the lock, long ago, and nothing was heard of
	// it since.
	left := `{"pid":1234,"timestamp":1763876543210,"host":"elsewhere","process":"migration"}`
	if err := os.WriteFile(filepath.Join(dir, ".app.lock"), []byte(left), 0o644); err != nil {
		log.Fatal(err)
	}

	b, err := lock.Break(context.Background(), db, lock.BreakOptions{IfStale: true})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(b.Report.State, b.Report.Holder.Process, b.Removed)
	// Output: stale migration true
}

// Several databases at once, in one order for everybody.
func ExampleSet() {
	dir, remove := scratch()
	defer remove()
	s, err := lock.NewSet([]string{filepath.Join(dir, "orders.db"), filepath.Join(dir, "customers.db")}, lock.Options{}, nil)
	if err != nil {
		log.Fatal(err)
	}
	if err := s.Acquire(context.Background()); err != nil {
		log.Fatal(err)
	}
	for _, g := range s.Grants() {
		fmt.Println(filepath.Base(g.Names.DB))
	}
	if err := s.Release(); err != nil {
		log.Fatal(err)
	}
	// Output:
	// orders.db
	// customers.db
}

// Whoever writes for long looks whether the lock is still there.
func ExampleLock_Lost() {
	dir, remove := scratch()
	defer remove()
	l := lock.New(filepath.Join(dir, "app.db"), lock.Options{})
	if err := l.Acquire(context.Background()); err != nil {
		log.Fatal(err)
	}
	// A program that does not cooperate removes everything.
	_ = os.RemoveAll(filepath.Join(dir, ".app.lock.d"))
	<-l.Lost()
	fmt.Println(errors.Is(l.Err(), lock.ErrLost))
	fmt.Println(errors.Is(l.Release(), lock.ErrLost))
	// Output:
	// true
	// true
}

type store struct{ rows int }

// A value that is used under the lock only.
func ExampleGuard() {
	dir, remove := scratch()
	defer remove()
	orders := lock.NewGuard(filepath.Join(dir, "orders.db"), lock.Options{Process: "shop"}, &store{})
	ctx := context.Background()
	err := orders.Use(ctx, func(ctx context.Context, s *store) error {
		s.rows++
		// Inside of a use another one does not wait.
		return orders.Read(ctx, func(_ context.Context, s *store) error {
			fmt.Println(s.rows, "row")
			return nil
		})
	})
	fmt.Println(err)
	// Output:
	// 1 row
	// <nil>
}

// A program that shows who has a lock, and for how long it stays so.
func ExampleWatch() {
	for r, err := range lock.Watch(context.Background(), "data/app.db", lock.Options{}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(r.State, len(r.Waiters), "waiting")
	}
}

// All locks below a directory.
func ExampleSurvey() {
	for r, err := range lock.Survey("/srv", lock.SurveyOptions{OneFileSystem: true}) {
		if err != nil {
			log.Print(err) // a directory, or a lock, that may not be read
			continue
		}
		fmt.Println(r.State, r.Names.Notice)
	}
}
