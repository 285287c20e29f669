//go:build !(linux && !portable && (amd64 || arm64))

// Package entry is what happens before the Go runtime does; nothing, here.
package entry

// Exists says that there is nothing to be linked so.
const Exists = false

// Ran reports that nothing was done.
func Ran() bool { return false }

// Narrowed reports that nothing was added.
func Narrowed() bool { return false }

// Ignored knows nothing: only an ignored HUP or INT, which the Go runtime respects
// by itself, stays ignored.
func Ignored() uint64 { return 0 }

// Closed knows nothing.
func Closed(int) bool { return false }

// Restore does nothing: no timer has been made less exact, and what was blocked is not known.
func Restore() {}
