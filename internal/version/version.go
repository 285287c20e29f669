// Package version tells which dblock this is, whatever way it was built.
package version

import (
	"runtime"
	"runtime/debug"
	"strings"
)

// Release is the version that is being worked on: CHANGELOG.md and the clients say the same.
const Release = "0.1.0"

// About is VERSION (COMMIT, DATE, entry point yes, go1.26.8), with what is known of that.
// Linked is what the linker was told, if anything; entered, whether the entry point of
// internal/entry ran.
func About(linked string, entered bool) string {
	return about(linked, entered, build())
}

// Number is the version alone.
func Number(linked string) string { return number(linked, build()) }

func build() *debug.BuildInfo {
	if info, ok := debug.ReadBuildInfo(); ok {
		return info
	}
	return &debug.BuildInfo{}
}

func about(linked string, entered bool, info *debug.BuildInfo) string {
	var details []string
	for _, detail := range []string{revision(info), day(info)} {
		if detail != "" {
			details = append(details, detail)
		}
	}
	entry := "entry point no"
	if entered {
		entry = "entry point yes"
	}
	details = append(details, entry, runtime.Version())
	return number(linked, info) + " (" + strings.Join(details, ", ") + ")"
}

// number is the version alone, without Go's "v". What was not built from a tag is the release
// that is to come, "-dev".
func number(linked string, info *debug.BuildInfo) string {
	if linked != "" {
		return strings.TrimPrefix(linked, "v")
	}
	module := info.Main.Version
	if module == "" || module == "(devel)" {
		return Release + "-dev"
	}
	if commit, _ := pseudo(module); commit != "" {
		return Release + "-dev"
	}
	return strings.TrimPrefix(module, "v")
}

// revision is the commit, shortened as Go shortens it, with "+dirty" if more was changed.
func revision(info *debug.BuildInfo) string {
	commit, _ := pseudo(info.Main.Version)
	dirty := ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			commit = s.Value[:min(12, len(s.Value))]
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "+dirty"
		}
	}
	if commit == "" {
		return ""
	}
	return commit + dirty
}

// day is the date of the commit, YYYY-MM-DD.
func day(info *debug.BuildInfo) string {
	_, date := pseudo(info.Main.Version)
	for _, s := range info.Settings {
		if s.Key == "vcs.time" {
			date, _, _ = strings.Cut(s.Value, "T")
		}
	}
	return date
}

// pseudo takes the commit and its date from a version that Go has made up for a commit without
// a tag: vX.Y.Z-yyyymmddhhmmss-abcdefabcdef, or with -0. or -pre.0. before the time, and "+dirty"
// after it. See https://go.dev/ref/mod#pseudo-versions.
func pseudo(version string) (commit, date string) {
	version, _, _ = strings.Cut(version, "+")
	rest, commit, found := cutLast(version, "-")
	if !found || len(commit) != 12 || strings.Trim(commit, "0123456789abcdef") != "" || len(rest) < 15 {
		return "", ""
	}
	before, stamp := rest[:len(rest)-14], rest[len(rest)-14:]
	if strings.Trim(stamp, "0123456789") != "" || !strings.HasSuffix(before, "-") && !strings.HasSuffix(before, ".") {
		return "", ""
	}
	return commit, stamp[:4] + "-" + stamp[4:6] + "-" + stamp[6:8]
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}
