// Command dblock-top is `dblock top`: locks in the terminal, as they change.
package main

import (
	"os"

	"github.com/dblock-dev/dblock/internal/companion"
	"github.com/dblock-dev/dblock/top"
)

func main() { os.Exit(companion.Code(top.Run(os.Args[1:]))) }
