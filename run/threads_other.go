//go:build unix && (!linux || portable)

package run

// prepare does nothing: see threads_linux.go for what it is good for.
func prepare() {}
