// Command dblock-remote is dblock with the engine for PostgreSQL: it takes locks that several machines share. dblock
// goes on as dblock-remote where a database is such a URL, and this as dblock-remote-etcd where more is needed.
package main

import (
	"github.com/dblock-dev/dblock/internal/program"

	_ "github.com/dblock-dev/dblock/remote/postgres"
)

// version may be set by the linker, as that of dblock.
var version string

func main() { program.Main(version) }
