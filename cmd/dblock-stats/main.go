// Command dblock-stats is `dblock stats`: what a lock's history adds up to.
package main

import (
	"os"

	"github.com/dblock-dev/dblock/internal/companion"
	"github.com/dblock-dev/dblock/stats"
)

func main() { os.Exit(companion.Code(stats.Run(os.Args[1:]))) }
