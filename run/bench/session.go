//go:build bench

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// coprocess is a session, with the plainest client: it blocks in system calls.
type coprocess struct {
	cmd     *exec.Cmd
	in, out *os.File
	buf     [64 << 10]byte
}

func (b *bench) converse() (*coprocess, error) {
	c := &coprocess{cmd: exec.Command(b.dblock, "session", "-d", filepath.Join(b.dir, "session.db"))}
	theirIn, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	out, theirOut, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	c.in, c.out = in, out
	c.cmd.Stdin, c.cmd.Stdout = theirIn, theirOut
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	theirIn.Close()
	theirOut.Close()
	_, err = c.line()
	return c, err
}

// line reads an answer, which comes with one write.
func (c *coprocess) line() ([]byte, error) {
	for n := 0; ; {
		m, err := unix.Read(int(c.out.Fd()), c.buf[n:])
		if err == unix.EINTR {
			continue
		}
		if err != nil || m == 0 {
			return nil, fmt.Errorf("the session has ended: %w", err)
		}
		if n += m; c.buf[n-1] == '\n' {
			return c.buf[:n], nil
		}
	}
}

func (c *coprocess) ask(line []byte) ([]byte, error) {
	if _, err := unix.Write(int(c.in.Fd()), line); err != nil {
		return nil, err
	}
	return c.line()
}

func (c *coprocess) end() {
	c.in.Close()
	_ = c.cmd.Wait()
	c.out.Close()
}

// session measures a free lock through a co-process, beside a question that needs no lock.
func (b *bench) session() error {
	c, err := b.converse()
	if err != nil {
		return err
	}
	defer c.end()
	var us, ping []float64
	for range b.rounds * 20 {
		begin := time.Now()
		answer, err := c.ask([]byte(`{"id":1,"op":"acquire","env":false}` + "\n"))
		if err != nil {
			return err
		}
		_, rest, _ := bytes.Cut(answer, []byte(`"hold":`))
		hold, _, found := bytes.Cut(rest, []byte(","))
		if !found {
			return fmt.Errorf("the session answers %s", answer)
		}
		if _, err := c.ask(append(append([]byte(`{"id":2,"op":"release","hold":`), hold...), "}\n"...)); err != nil {
			return err
		}
		us = append(us, float64(time.Since(begin).Nanoseconds())/1000)
		begin = time.Now()
		if _, err := c.ask([]byte(`{"id":3,"op":"ping"}` + "\n")); err != nil {
			return err
		}
		ping = append(ping, float64(time.Since(begin).Nanoseconds())/1000)
	}
	before, rss := usage([]*exec.Cmd{c.cmd})
	time.Sleep(time.Second)
	after, _ := usage([]*exec.Cmd{c.cmd})
	fmt.Printf("\n### Through a session\n\nAcquire and release of a free lock: median %.0f microseconds; a ping: %.0f. Idle: %.2f ms of CPU in a second, %d KiB resident.\n",
		median(us), median(ping), after-before, rss)
	return nil
}
