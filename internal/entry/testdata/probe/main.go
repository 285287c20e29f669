// Command probe shows what the entry point has done.
package main

import (
	"fmt"
	"os"
	"runtime"

	"github.com/dblock-dev/dblock/internal/entry"
)

func main() {
	fmt.Println(entry.Ran(), runtime.GOMAXPROCS(0), os.Getenv("GOMAXPROCS"), len(os.Environ()))
}
