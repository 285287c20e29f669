//go:build linux && (amd64 || arm64)

package main

import "github.com/dblock-dev/dblock/signals"

// ignored is filled by entry before the Go runtime starts: bit n-1 for signal n.
var ignored uint64

// entry is where the program starts when it is linked with -E main.entry, as
// install.sh does. The runtime installs its handlers over those of signals that
// were ignored (trap ” TERM), HUP and INT excepted, and tells nobody; so this
// asks the kernel first.
//
//lint:ignore U1000 the linker refers to it
func entry()

func ignoredAtStart() signals.Set { return signals.Set(ignored) }
