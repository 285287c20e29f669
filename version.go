package main

import (
	"github.com/dblock-dev/dblock/internal/entry"
	about "github.com/dblock-dev/dblock/internal/version"
)

// version may be set by the linker (-X main.version=v0.1.0), for sources without their repository.
var version string

// number is the version alone, details what --version says after "dblock".
func number() string  { return about.Number(version) }
func details() string { return about.About(version, entry.Ran()) }
