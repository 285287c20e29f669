package etcd_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/dblock-dev/dblock/lock"
	"github.com/dblock-dev/dblock/remote/etcd"
)

// A free lock, acquired and released by one who connects for that, as a command does.
func BenchmarkFree(b *testing.B) {
	s := serve(b)
	for b.Loop() {
		h, err := etcd.Engine.Acquire(context.Background(), request(s.url("free")))
		if err != nil {
			b.Fatal(err)
		}
		if err := (tidy{h}).Release(); err != nil {
			b.Fatal(err)
		}
	}
}

// From one to the next, with others behind.
func BenchmarkHandOver(b *testing.B) {
	for _, n := range []int{1, 10, 100} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := serve(b)
			h, err := etcd.Engine.Acquire(context.Background(), request(s.url("over")))
			if err != nil {
				b.Fatal(err)
			}
			got := make(chan lock.EngineHold)
			ctx, stop := context.WithCancel(context.Background())
			ask := func() {
				if h, err := etcd.Engine.Acquire(ctx, request(s.url("over"))); err == nil {
					got <- h
				}
			}
			for range n {
				wait := len(keys(b, s.direct(b), "over"))
				go ask()
				for len(keys(b, s.direct(b), "over")) == wait {
				}
			}
			for b.Loop() {
				released := make(chan error)
				go func() { released <- tidy{h}.Release() }()
				next := <-got
				b.StopTimer() // the rest of the release, and a new waiter
				if err := <-released; err != nil {
					b.Fatal(err)
				}
				h = next
				wait := len(keys(b, s.direct(b), "over"))
				go ask()
				for len(keys(b, s.direct(b), "over")) == wait {
				}
				b.StartTimer()
			}
			_ = h.Release()
			stop()
		})
	}
}
