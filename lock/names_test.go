package lock

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestResolve(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for db, want := range map[string]string{
		"app.db":         ".app.lock",
		"astrolabe.db":   ".astrolabe.lock",
		"pg":             ".pg.lock",
		"pg/":            ".pg.lock",
		"app.v2.sqlite":  ".app.v2.lock",
		".hidden":        ".hidden.lock",
		".hidden.db":     ".hidden.lock",
		"..odd.db":       ".odd.lock",
		"x.":             ".x.lock",
		"with space.db":  ".with space.lock",
		"näme.db":        ".näme.lock",
		"sub/app.db":     "sub/.app.lock",
		"sub/../app.db":  ".app.lock",
		"a.db.db":        ".a.db.lock",
		"-n":             ".-n.lock",
		".lock":          ".lock.lock",
		"no/such/dir.db": "no/such/.dir.lock",
	} {
		n, err := Resolve(filepath.Join(dir, db), "")
		require.NoError(t, err, db)
		require.Equal(t, filepath.Join(dir, want), n.Notice, db)
		require.Equal(t, n.Notice+".d", n.State)
		require.Equal(t, filepath.Join(dir, db), n.DB)
	}
	for _, db := range []string{"", "/", "..."} {
		_, err := Resolve(db, "")
		require.ErrorIs(t, err, ErrName, db)
	}
	n, err := Resolve("", filepath.Join(dir, ".astrotask.lock"))
	require.NoError(t, err)
	require.Equal(t, Names{Notice: filepath.Join(dir, ".astrotask.lock"), State: filepath.Join(dir, ".astrotask.lock.d")}, n)
	n, err = Resolve(filepath.Join(dir, "x.db"), filepath.Join(dir, "other.lock"))
	require.NoError(t, err)
	require.Equal(t, filepath.Join(dir, "x.db"), n.DB)
	require.Equal(t, filepath.Join(dir, "other.lock"), n.Notice)
}

func TestResolveRelative(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	n, err := Resolve("x.db", "")
	require.NoError(t, err)
	require.True(t, filepath.IsAbs(n.Notice))
	require.Equal(t, ".x.lock", filepath.Base(n.Notice))
	_, err = Resolve(".", "")
	require.NoError(t, err, "a directory has a name, whatever it is called here")
}

func TestResolveLinks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "real"), 0o755))
	link := func(target, name string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.Symlink(target, path))
		return path
	}
	real := filepath.Join(dir, "real", "app.db")
	for _, db := range []string{
		link("real/app.db", "relative.db"),
		link(real, "absolute.db"),
		link("relative.db", "twice.db"),
		real,
	} {
		n, err := Resolve(db, "")
		require.NoError(t, err)
		require.Equal(t, real, n.DB, "%s (which does not exist yet)", db)
		require.Equal(t, filepath.Join(dir, "real", ".app.lock"), n.Notice)
	}
	_, err := Resolve(link("loop.db", "loop.db"), "")
	require.True(t, errors.Is(err, syscall.ELOOP), "%v", err)
}

// The layout of a release that is switched: the database is behind two links, of
// which the second one starts from the first one's real place.
func TestResolveAsTheKernelDoes(t *testing.T) {
	top, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	at := func(path string) string { return top + "/" + path }
	for _, dir := range []string{"app/releases/42", "shared", "app/shared", "elsewhere/deep"} {
		require.NoError(t, os.MkdirAll(at(dir), 0o755))
	}
	for name, target := range map[string]string{
		"app/current":             "releases/42",
		"app/releases/42/data.db": "../../shared/data.db",
		"app/deep":                at("elsewhere/deep"),
		"app/pg":                  "shared/",
		"app/dots":                "deep/../x.db",
		"app/dangling":            "nowhere/x",
		"loop":                    "loop",
	} {
		require.NoError(t, os.Symlink(target, at(name)))
	}
	t.Chdir(at("app/current"))
	t.Setenv("PWD", at("app/current"))
	for db, want := range map[string]string{
		at("app/current/data.db"):              "app/shared/data.db",
		at("app/releases/42/data.db"):          "app/shared/data.db",
		at("app//current/.//data.db"):          "app/shared/data.db",
		"data.db":                              "app/shared/data.db",
		"../../current/data.db":                "app/shared/data.db",
		"../x.db":                              "app/releases/x.db",
		at("app/current/../x.db"):              "app/releases/x.db",
		at("app/deep/../x.db"):                 "elsewhere/x.db",
		at("app/dots"):                         "elsewhere/x.db",
		at("app/pg"):                           "app/shared",
		at("app/pg/"):                          "app/shared",
		at("app/pg/."):                         "app/shared",
		at("app/current/.."):                   "app/releases",
		".":                                    "app/releases/42",
		"..":                                   "app/releases",
		at("app/dangling"):                     "app/nowhere/x",
		at("app/missing/x.db"):                 "app/missing/x.db",
		at("app/current/data.db") + "/":        "app/shared/data.db",
		"./../../current/new.db":               "app/releases/42/new.db",
		"/proc/self/cwd/data.db":               "app/shared/data.db",
		at("app/current/../../../app/../y.db"): "y.db",
	} {
		if strings.HasPrefix(db, "/proc") && runtime.GOOS != "linux" {
			continue
		}
		n, err := Resolve(db, "")
		require.NoError(t, err, db)
		require.Equal(t, at(want), n.DB, db)
		require.Equal(t, filepath.Dir(at(want)), filepath.Dir(n.Notice), db)
	}
	n, err := Resolve("", at("app/deep/../.x.lock"))
	require.NoError(t, err)
	require.Equal(t, at("elsewhere/.x.lock"), n.Notice)
	n, err = Resolve("", at("app/current/data.db"))
	require.NoError(t, err)
	require.Equal(t, at("app/releases/42/data.db"), n.Notice, "the last name is not followed")

	_, err = Resolve(at("loop/x.db"), "")
	require.ErrorIs(t, err, syscall.ELOOP)
	_, err = walkDir(at("loop"))
	require.ErrorIs(t, err, syscall.ELOOP)
	for _, dir := range []string{".", "..", "../../deep/..", at("app/current/.."), at("app//deep/"), "/"} {
		real, err := realDir(dir)
		require.NoError(t, err)
		walked, err := walkDir(dir)
		require.NoError(t, err)
		require.Equal(t, real, walked, dir)
	}
	l := acquire(t, at("app/current/data.db"), Options{})
	mustHeld(t, attemptOnce(t, at("app/shared/data.db"), Options{}))
	require.NoError(t, l.Release())
}

// Whoever waits for a database that is behind a link gets the one that the link
// leads to when the wait is over.
func TestLinkSwitchedWhileWaiting(t *testing.T) {
	t.Parallel()
	first, n := database(t)
	second, _ := database(t)
	link := filepath.Join(t.TempDir(), "current.db")
	require.NoError(t, os.Symlink(first, link))
	holder := acquire(t, first, Options{})
	told := 0
	l := New(link, Options{Wait: Forever, OnWait: func() { told++ }})
	got := background(t, l)
	waiting(t, n, 1)
	require.NoError(t, os.Symlink(second, link+".new"))
	require.NoError(t, os.Rename(link+".new", link))
	require.NoError(t, holder.Release())
	require.NoError(t, result(t, got))
	g, _ := l.Grant()
	require.Equal(t, second, g.Names.DB)
	mustHeld(t, attemptOnce(t, second, Options{}))
	require.NoError(t, attemptOnce(t, first, Options{}))
	require.NoFileExists(t, n.Notice)
	require.NoError(t, l.Release())
	require.Equal(t, 1, told)
}

// It waits for that one no longer than it would have waited for the first.
func TestLinkSwitchedToALockedDatabase(t *testing.T) {
	t.Parallel()
	first, n := database(t)
	second, _ := database(t)
	link := filepath.Join(t.TempDir(), "current.db")
	require.NoError(t, os.Symlink(first, link))
	holder := acquire(t, first, Options{})
	acquire(t, second, Options{})
	l := New(link, Options{Wait: 2 * time.Second})
	got := background(t, l)
	waiting(t, n, 1)
	require.NoError(t, os.Remove(link))
	require.NoError(t, os.Symlink(second, link))
	require.NoError(t, holder.Release())
	var held *HeldError
	require.ErrorAs(t, result(t, got), &held)
	require.Equal(t, filepath.Dir(second), filepath.Dir(held.Path))
	require.GreaterOrEqual(t, held.Waited, 2*time.Second)
	require.Less(t, held.Waited, 4*time.Second)
}

func TestLinkAndTargetAreOneLock(t *testing.T) {
	t.Parallel()
	db, _ := database(t)
	link := filepath.Join(t.TempDir(), "link.db")
	require.NoError(t, os.Symlink(db, link))
	acquire(t, link, Options{})
	mustHeld(t, attemptOnce(t, db, Options{}))
}

func TestLockFileOption(t *testing.T) {
	t.Parallel()
	db, n := database(t)
	file := filepath.Join(filepath.Dir(db), ".astrotask.lock")
	acquire(t, db, Options{LockFile: file})
	require.FileExists(t, file)
	require.NoFileExists(t, n.Notice)
	require.NoError(t, attemptOnce(t, db, Options{}))
	mustHeld(t, attemptOnce(t, "", Options{LockFile: file}))
}

func TestHardLinksAreReported(t *testing.T) {
	t.Parallel()
	db, _ := database(t)
	links := func() int {
		r, err := Inspect(db, Options{})
		require.NoError(t, err)
		return r.Links
	}
	require.Zero(t, links(), "there is no file")
	require.NoError(t, os.WriteFile(db, nil, 0o644))
	require.Zero(t, links())
	require.NoError(t, os.Link(db, db+".other"))
	require.Equal(t, 2, links())
}
