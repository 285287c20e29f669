// Command dblock runs a command while holding a database's lock, like flock(1),
// among programs in any language that keep to the same protocol.
package main

import (
	// First, so that the linker puts it beside Go's runtime, whose pages are in use at that time.
	_ "github.com/dblock-dev/dblock/internal/entry"
	"github.com/dblock-dev/dblock/internal/program"
)

// version may be set by the linker (-X main.version=v0.1.0), for sources without their repository.
var version string

func main() { program.Main(version) }
