// Command probe shows what the entry point has done.
package main

import (
	"fmt"
	"os"
	"runtime"

	"github.com/dblock-dev/dblock/internal/entry"
)

func main() {
	before := runtime.GOMAXPROCS(0)
	entry.Spread()
	fmt.Println(entry.Ran(), before, runtime.GOMAXPROCS(0) == runtime.NumCPU(), os.Getenv("GOMAXPROCS"), len(os.Environ()))
}
