package top

import (
	"iter"
	"path/filepath"

	"github.com/dblock-dev/dblock/internal/cli"
	"github.com/dblock-dev/dblock/lock"
)

// found is a lock below a directory.
type found struct {
	name   string // of the lock file, by the name of the directory that was given
	report *lock.Report
	err    error // it could not be looked at; then the report has the names only
}

// find looks at all locks below a directory. What cannot be listed is passed over.
func find(dir string, f cli.Foreign) iter.Seq[found] {
	return func(yield func(found) bool) {
		abs, _ := filepath.Abs(dir)
		root, _ := filepath.EvalSymlinks(abs)
		rules := cli.Database{}.Options(f)
		for r, err := range lock.Survey(dir, lock.SurveyOptions{StaleTimeout: rules.StaleTimeout, Stale: rules.Stale}) {
			if r == nil {
				continue
			}
			name := r.Names.Notice
			if below, err := filepath.Rel(root, name); err == nil {
				name = filepath.Join(dir, below)
			}
			if !yield(found{name, r, err}) {
				return
			}
		}
	}
}
