package lock

import (
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Calls run one way: from a file to those that stand below it in the list in doc.go.
func TestFilesCallDownwards(t *testing.T) {
	t.Parallel()
	var order []string
	for _, m := range regexp.MustCompile(`(?m)^//\t(\w+\.go)\b`).FindAllStringSubmatch(contents(t, "doc.go"), -1) {
		order = append(order, m[1])
	}
	fset := token.NewFileSet()
	files := map[string]*ast.File{}
	entries, err := os.ReadDir(".")
	require.NoError(t, err)
	for _, e := range entries {
		name := e.Name()
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			continue
		}
		require.Contains(t, order, name, "it stands nowhere in the list in doc.go")
		files[name], err = parser.ParseFile(fset, name, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
	}
	require.Len(t, order, len(files), "the list in doc.go has what is not there")

	// What other packages declare is of no interest, so they are not looked at, and what
	// cannot be understood without them is left out.
	info := &types.Info{Uses: map[*ast.Ident]types.Object{}}
	conf := types.Config{Importer: nowhere{}, Error: func(error) {}}
	_, _ = conf.Check("lock", fset, slices.Collect(maps.Values(files)), info)
	calls := 0
	for id, used := range info.Uses {
		if _, is := used.(*types.Func); !is || !used.Pos().IsValid() {
			continue
		}
		calls++
		from, to := fset.Position(id.Pos()), fset.Position(used.Pos())
		if slices.Index(order, to.Filename) < slices.Index(order, from.Filename) {
			t.Errorf("%s calls %s, which stands above it, in %s", from, used.Name(), to.Filename)
		}
	}
	require.Greater(t, calls, 200, "it was looked at")
}

// nowhere has no packages.
type nowhere struct{}

func (nowhere) Import(path string) (*types.Package, error) {
	return types.NewPackage(path, filepath.Base(path)), nil
}

// A struct has its parts by name: what is borrowed from an embedded one is found nowhere.
func TestNothingIsEmbedded(t *testing.T) {
	t.Parallel()
	fset := token.NewFileSet()
	structs := 0
	require.NoError(t, filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			s, is := n.(*ast.StructType)
			if !is {
				return true
			}
			structs++
			for _, f := range s.Fields.List {
				if len(f.Names) == 0 {
					t.Errorf("%s: a struct embeds another type", fset.Position(f.Pos()))
				}
			}
			return true
		})
		return nil
	}))
	require.Greater(t, structs, 30, "they were looked at")
}
