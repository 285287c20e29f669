// Command dblock-top is `dblock top`: locks in the terminal, as they change.
package main

import (
	"os"

	"github.com/dblock-dev/dblock/top"
)

func main() { os.Exit(top.Main(os.Args[1:])) }
