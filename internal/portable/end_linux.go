package portable

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// End kills what still works in a directory of the test's own. Where a command does not hear that
// its dblock was killed it would go on for ever.
func End(t testing.TB, dir string) {
	name := strings.NewReplacer("/", "", " ", "_").Replace(t.Name())
	own := filepath.Base(filepath.Dir(dir))
	made := filepath.Dir(dir) == filepath.Clean(os.TempDir()) // by the test itself
	if !Half || !made && strings.TrimRight(own, "0123456789") != strings.TrimRight(name, "0123456789") {
		return
	}
	all, _ := filepath.Glob("/proc/[0-9]*/cwd")
	for _, cwd := range all {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(cwd)))
		at, lerr := os.Readlink(cwd)
		if err == nil && lerr == nil && pid != os.Getpid() && (at == dir || strings.HasPrefix(at, dir+"/")) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}
