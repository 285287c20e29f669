package test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// The outermost of three holds is found again whatever its path contains.
func TestNestedWithALineFeedInThePath(t *testing.T) {
	dir := t.TempDir()
	odd := filepath.Join(dir, "line\nfeed%0A", "a.db")
	require.NoError(t, os.Mkdir(filepath.Dir(odd), 0o755))
	r := execute(t, dir, "-d", odd, "--", binary, "-d", "b.db", "--", binary, "-n", "-d", odd, "--", "echo", "inner")
	require.Equal(t, "inner\n", r.stdout, r.stderr)
}
