//go:build !(linux && (amd64 || arm64))

// Package entry is what happens before the Go runtime does; nothing, here.
package entry

// Ran reports that nothing was done.
func Ran() bool { return false }

// Ignored knows nothing: only an ignored HUP or INT, which the Go runtime respects
// by itself, stays ignored.
func Ignored() uint64 { return 0 }

// Closed knows nothing.
func Closed(int) bool { return false }
