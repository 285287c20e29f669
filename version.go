package main

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/dblock-dev/dblock/internal/entry"
)

// version is set by the linker, see install.sh.
var version string

// about is what --version says: dblock VERSION (COMMIT, DATE, entry point yes, go1.26.8),
// with what is known of that.
func about() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	var details []string
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			details = append(details, s.Value[:min(12, len(s.Value))])
		case "vcs.time":
			date, _, _ := strings.Cut(s.Value, "T")
			details = append(details, date)
		}
	}
	entered := "no"
	if entry.Ran() {
		entered = "yes"
	}
	details = append(details, "entry point "+entered, runtime.Version())
	return fmt.Sprintf("dblock %s (%s)", number(), strings.Join(details, ", "))
}

// number is the version alone.
func number() string {
	module := ""
	if info, ok := debug.ReadBuildInfo(); ok {
		module = strings.Trim(info.Main.Version, "()")
	}
	return cmp.Or(version, module, "dev")
}
