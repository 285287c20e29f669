package version

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Each kind of build tells what it knows.
func TestAbout(t *testing.T) {
	vcs := []debug.BuildSetting{
		{Key: "vcs.revision", Value: "2d33b5922f5c0d1e7d4c1b0a9f8e7d6c5b4a3928"},
		{Key: "vcs.time", Value: "2026-11-27T17:40:00Z"}, {Key: "vcs.modified", Value: "false"},
	}
	dirty := append(vcs[:2:2], debug.BuildSetting{Key: "vcs.modified", Value: "true"})
	for _, c := range []struct {
		name, linked, module string
		settings             []debug.BuildSetting
		want                 string
	}{
		{"a checkout at a tag", "", "v0.2.3", vcs, "0.2.3 (2d33b5922f5c, 2026-11-27, "},
		{"a checkout before the first tag", "", "v0.0.0-20261127174000-2d33b5922f5c", vcs, Release + "-dev (2d33b5922f5c, 2026-11-27, "},
		{"a checkout after a tag, changed", "", "v0.2.4-0.20261127174000-2d33b5922f5c+dirty", dirty, Release + "-dev (2d33b5922f5c+dirty, 2026-11-27, "},
		{"go install ...@v0.2.3", "", "v0.2.3", nil, "0.2.3 ("},
		{"go install ...@v0.3.0-rc.1", "", "v0.3.0-rc.1", nil, "0.3.0-rc.1 ("},
		{"go install ...@main", "", "v0.2.4-0.20261127174000-2d33b5922f5c", nil, Release + "-dev (2d33b5922f5c, 2026-11-27, "},
		{"go install ...@main after a candidate", "", "v0.3.0-rc.1.0.20261127174000-2d33b5922f5c", nil, Release + "-dev (2d33b5922f5c, 2026-11-27, "},
		{"sources without a repository", "", "(devel)", nil, Release + "-dev ("},
		{"a package", "v0.2.3", "(devel)", nil, "0.2.3 ("},
		{"a package that is called as a commit is not", "v0.2.3-1-nightly", "", nil, "0.2.3-1-nightly ("},
		{"nothing is known", "", "", nil, Release + "-dev ("},
	} {
		info := &debug.BuildInfo{Main: debug.Module{Version: c.module}, Settings: c.settings}
		require.Equal(t, c.want+"entry point yes, "+runtime.Version()+")", about(c.linked, true, info), c.name)
	}
	require.Contains(t, about("", false, &debug.BuildInfo{}), "(entry point no, ")
}

// The program, its clients and the list of changes are of one version.
func TestReleaseIsTheSameEverywhere(t *testing.T) {
	read := func(path string) []byte {
		b, err := os.ReadFile(filepath.Join("..", "..", path))
		require.NoError(t, err)
		return b
	}
	first := func(path, pattern string) string {
		found := regexp.MustCompile(pattern).FindSubmatch(read(path))
		require.NotNil(t, found, "%s in %s", pattern, path)
		return string(found[1])
	}
	require.Equal(t, Release, first("CHANGELOG.md", `(?m)^## \[?(\d+\.\d+\.\d+)`))
	require.Equal(t, Release, first("clients/python/pyproject.toml", `(?m)^version = "(.+)"`))
	require.Equal(t, Release, first("clients/python/src/dblock/__init__.py", `(?m)^__version__ = "(.+)"`))
	var npm struct{ Version string }
	require.NoError(t, json.Unmarshal(read("clients/node/package.json"), &npm))
	require.Equal(t, Release, npm.Version)
}

// `go install github.com/dblock-dev/dblock/...@latest` installs dblock and its companions, and
// nothing else.
func TestWhatGoInstalls(t *testing.T) {
	c := exec.Command("go", "list", "-f", `{{if eq .Name "main"}}{{.ImportPath}}{{end}}`, "./...")
	c.Dir = filepath.Join("..", "..")
	out, err := c.Output()
	require.NoError(t, err)
	const module = "github.com/dblock-dev/dblock"
	require.Equal(t, []string{module, module + "/cmd/dblock-stats", module + "/cmd/dblock-top"}, strings.Fields(string(out)))
}
