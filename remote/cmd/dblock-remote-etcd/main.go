// Command dblock-remote-etcd is dblock-remote with all engines. It is a program of its own for the sake of locks in PostgreSQL, which
// do not wait for etcd's client at each start.
package main

import (
	"os"

	"github.com/dblock-dev/dblock/internal/companion"
	"github.com/dblock-dev/dblock/internal/program"
	"github.com/dblock-dev/dblock/stats"
	"github.com/dblock-dev/dblock/top"

	_ "github.com/dblock-dev/dblock/remote/etcd"
	_ "github.com/dblock-dev/dblock/remote/postgres"
)

// version may be set by the linker, as that of dblock.
var version string

func main() {
	// The other companions do not know these engines.
	if len(os.Args) > 1 && os.Args[1] == "stats" {
		os.Exit(companion.Code(stats.Run(os.Args[2:])))
	}
	if len(os.Args) > 1 && os.Args[1] == "top" {
		os.Exit(companion.Code(top.Run(os.Args[2:])))
	}
	program.Main(version)
}
