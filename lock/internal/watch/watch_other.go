//go:build unix && (!linux || portable)

// Package watch tells when something happens to single files. This system has
// no inotify: callers look from time to time instead.
package watch

import (
	"errors"
	"time"
)

// Watcher cannot be had here.
type Watcher struct{}

// What happened.
type What uint32

// The events.
const (
	Moved What = 1 << iota
	Written
	Closed
)

// New always fails.
func New() (*Watcher, error) { return nil, errors.ErrUnsupported }

// Add is never called.
func (*Watcher) Add(string, What) error { return errors.ErrUnsupported }

// AddName is never called.
func (*Watcher) AddName(string, string) error { return errors.ErrUnsupported }

// Forget is never called.
func (*Watcher) Forget() {}

// Wait is never called.
func (*Watcher) Wait(time.Time) (What, error) { return 0, errors.ErrUnsupported }

// Interrupt is never called.
func (*Watcher) Interrupt() {}

// Close is never called.
func (*Watcher) Close() {}
