//go:build unix && (!linux || portable)

package tree

import "errors"

// Adopt is not to be had here.
func Adopt() error { return errors.ErrUnsupported }

// Of knows nothing here.
func Of(_, _ int, _ ...int) ([]Process, bool) { return nil, false }

// Look knows nothing here.
func Look(int) (Process, bool) { return Process{}, false }

// All knows nothing here.
func All() []Process { return nil }

// IsDblock knows nothing here.
func IsDblock(Process) bool { return false }

// Whole knows nothing here.
func Whole(int) []Process { return nil }

// Children knows nothing here.
func Children() []int { return nil }
