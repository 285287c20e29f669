//go:build !linux || portable

package lock

// realDir is the path of a directory without symbolic links.
func realDir(dir string) (string, error) { return walkDir(dir) }
