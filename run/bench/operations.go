//go:build bench

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dblock-dev/dblock/lock"
)

// operations prints how many times a second a program has the lock, adds one to the number in
// a file and releases it, and how long a second program waits meanwhile, in each language.
// It runs in the checkout, whose Node client must have been built (npm run build).
func (b *bench) operations(quick bool) error {
	seconds := 3.0
	if quick {
		seconds = 0.5
	}
	load, _ := os.ReadFile("/proc/loadavg")
	fmt.Printf("load %.4s, %v s for each figure\n\n", load, seconds)
	if err := b.overhead(quick); err != nil {
		return err
	}
	fmt.Println("\n| | cycles/s | beside a second program | that one waits, ms, median | 99 % |\n|---|---:|---:|---:|---:|")
	for _, language := range [][]string{{"Node", "node", "clients/node/bench/bench.mjs"}, {"Python", "python3", "clients/python/bench/bench.py"}} {
		cmd := exec.Command(language[1], language[2], fmt.Sprint(seconds), "table")
		cmd.Env = append(os.Environ(), "DBLOCK_BINARY="+b.dblock)
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			return fmt.Errorf("%s: %w", language[0], err)
		}
		for line := range strings.Lines(string(out)) {
			cells := append(strings.Split(strings.TrimSpace(line), "\t"), "", "", "", "")[:5]
			for i, cell := range cells[1:] {
				if n, err := strconv.ParseFloat(cell, 64); err == nil {
					cells[i+1] = strconv.FormatFloat(n, 'f', []int{0, 0, 2, 2}[i], 64)
				}
			}
			fmt.Printf("| %s: %s |\n", language[0], strings.Join(cells, " | "))
		}
	}
	count, err := b.counter()
	if err != nil {
		return err
	}
	l := lock.New(filepath.Join(b.dir, "operations.db"), lock.Options{})
	for _, way := range []struct {
		name  string
		cycle func() error
	}{
		{"in the process", func() error {
			if err := l.Acquire(context.Background()); err != nil {
				return err
			}
			return errors.Join(count(), l.Release())
		}},
		{"no lock", count},
	} {
		n, begin := 0, time.Now()
		for ; time.Since(begin).Seconds() < seconds; n++ {
			if err := way.cycle(); err != nil {
				return err
			}
		}
		fmt.Printf("| Go: %s | %.0f | | | |\n", way.name, float64(n)/time.Since(begin).Seconds())
	}
	return nil
}

// counter is an operation: it adds one to the number in a file.
func (b *bench) counter() (func() error, error) {
	f, err := os.Create(filepath.Join(b.dir, "counter"))
	if err != nil {
		return nil, err
	}
	if _, err := f.WriteString("00000000"); err != nil {
		return nil, err
	}
	digits := make([]byte, 8)
	return func() error {
		if _, err := f.ReadAt(digits, 0); err != nil {
			return err
		}
		n, err := strconv.Atoi(string(digits))
		if err != nil {
			return err
		}
		_, err = f.WriteAt(fmt.Appendf(nil, "%08d", n+1), 0)
		return err
	}, nil
}

// overhead measures a free lock in the process and through a session, in turn.
func (b *bench) overhead(quick bool) error {
	c, err := b.converse()
	if err != nil {
		return err
	}
	defer c.end()
	l := lock.New(filepath.Join(b.dir, "here.db"), lock.Options{})
	rounds := 20_000
	if quick {
		rounds = 500
	}
	var here, there []float64
	for range rounds {
		begin := time.Now()
		if err := l.Acquire(context.Background()); err != nil {
			return err
		}
		if err := l.Release(); err != nil {
			return err
		}
		here = append(here, micros(begin))
		begin = time.Now()
		answer, err := c.ask([]byte(`{"id":1,"op":"acquire","env":false}` + "\n"))
		if err != nil {
			return err
		}
		_, rest, _ := bytes.Cut(answer, []byte(`"hold":`))
		hold, _, found := bytes.Cut(rest, []byte(","))
		if !found {
			return fmt.Errorf("the session answers %s", answer)
		}
		if _, err := c.ask(slices.Concat([]byte(`{"id":2,"op":"release","hold":`), hold, []byte("}\n"))); err != nil {
			return err
		}
		there = append(there, micros(begin))
	}
	fmt.Printf("Acquire and release of a free lock, %d times in turn, medians: in the process %.0f microseconds, through a session %.0f, %.0f more.\n",
		rounds, median(here), median(there), median(there)-median(here))
	return nil
}

func micros(begin time.Time) float64 { return float64(time.Since(begin).Nanoseconds()) / 1000 }
