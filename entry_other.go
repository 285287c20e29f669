//go:build !(linux && (amd64 || arm64))

package main

import "github.com/dblock-dev/dblock/signals"

// ignoredAtStart knows nothing here: only an ignored HUP or INT, which the Go
// runtime respects by itself, stays ignored.
func ignoredAtStart() signals.Set { return 0 }
