package top

import (
	"io/fs"
	"path/filepath"
	"strings"
)

// find lists the lock files below a directory that a dblock has used: each has a state directory
// beside it, which stays. What cannot be read is passed over.
func find(dir string) (all []string) {
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() || !strings.HasSuffix(path, ".lock.d") {
			return nil
		}
		all = append(all, strings.TrimSuffix(path, ".d"))
		return fs.SkipDir
	})
	return all
}
