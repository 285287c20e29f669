package program

import (
	"github.com/dblock-dev/dblock/internal/entry"
	about "github.com/dblock-dev/dblock/internal/version"
)

// version is set by Main.
var version string

// number is the version alone, details what --version says after "dblock".
func number() string  { return about.Number(version) }
func details() string { return about.About(version, entry.Ran()) }
