package history

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"sync"
)

// chunkSize is how much is parsed at once. It takes some times as much when it is parsed, and so do
// those that wait for their turn.
const chunkSize = 512 << 10

// chunk is a piece of a file, of whole lines.
type chunk struct {
	lines  []byte
	events []Event
	done   chan struct{}
}

// ReadFrom is like [Read] for lines from somewhere else: a file that was kept, of one lock. They
// are parsed on all processors; each is called for one after the other, in their order.
func ReadFrom(from io.Reader, each func(*Event)) error {
	workers := runtime.GOMAXPROCS(0)
	free := sync.Pool{New: func() any { return &chunk{lines: make([]byte, 0, chunkSize)} }}
	parse := make(chan *chunk, workers)
	deliver := make(chan *chunk, 2*workers) // bounds what is parsed ahead
	for range workers {
		go func() {
			for c := range parse {
				c.parse()
				c.done <- struct{}{}
			}
		}()
	}
	var failed error
	go func() {
		defer close(deliver)
		defer close(parse)
		failed = split(from, func() *chunk { return free.Get().(*chunk) }, func(c *chunk) {
			c.done = make(chan struct{}, 1)
			deliver <- c
			parse <- c
		})
	}()
	var told recent
	for c := range deliver {
		<-c.done
		for i := range c.events {
			if e := &c.events[i]; !told.twice(e) {
				each(e)
			}
		}
		c.lines = c.lines[:0]
		free.Put(c)
	}
	return failed
}

// split cuts a file between lines. A last line that has no end is torn, unless it parses.
func split(from io.Reader, empty func() *chunk, next func(*chunk)) error {
	c := empty()
	for {
		n, err := io.ReadFull(from, c.lines[len(c.lines):chunkSize])
		c.lines = c.lines[:len(c.lines)+n]
		if err != nil {
			next(c)
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				return nil
			}
			return err
		}
		following := empty()
		if end := bytes.LastIndexByte(c.lines, '\n') + 1; end > 0 {
			following.lines = append(following.lines, c.lines[end:]...)
			c.lines = c.lines[:end]
		} else {
			c.lines = c.lines[:0] // no line is that long: what is left of this one does not parse
		}
		next(c)
		c = following
	}
}

func (c *chunk) parse() {
	clear(c.events)
	c.events = c.events[:0]
	for line := range bytes.Lines(c.lines) {
		if e, err := Parse(line); err == nil {
			c.events = append(c.events, e)
		}
	}
}
