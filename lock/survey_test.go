package lock

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dblock-dev/dblock/lock/internal/proc"
)

// surveyed is what Survey finds, by path below the directory.
func surveyed(t *testing.T, dir string, opts SurveyOptions) map[string]State {
	t.Helper()
	found := map[string]State{}
	last := ""
	for r, err := range Survey(dir, opts) {
		require.NoError(t, err)
		below, err := filepath.Rel(dir, r.Names.Notice)
		require.NoError(t, err)
		require.Less(t, last, r.Names.Notice, "they come in order, each once")
		found[below], last = r.State, r.Names.Notice
	}
	return found
}

func TestSurvey(t *testing.T) {
	t.Parallel()
	needsSight(t)
	dir, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	peer := peerNotice(1, "elsewhere", ms(time.Now()))
	for path, content := range map[string]string{
		"a/.peer.lock": peer, "a/.old.lock": peerNotice(gone(t), host(), ms(time.Now())), "a/b/c/.d.lock.d.lock": peer,
		"a/peer.lock": peer, "a/.lock": peer, "a/..lock": peer, "a/.peer.lock.new": peer, // other names
		"a/.empty.lock": "", "a/.json.lock": `{"name":"x"}`, "a/.text.lock": "text", // other contents
		"a/.inner.lock.d/.x.lock": peer, // what is in a state directory is dblock's
	} {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, path)), 0o755))
		put(t, filepath.Join(dir, path), content)
	}
	// A lock of dblock's whose file somebody has written over is one all the same.
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "b/.ours.lock.d"), 0o755))
	put(t, filepath.Join(dir, "b/.ours.lock"), "text")
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "b/.directory.lock"), 0o755))
	require.NoError(t, os.Symlink(filepath.Join(dir, "a/.peer.lock"), filepath.Join(dir, "b/.link.lock")))
	require.NoError(t, os.Symlink("../a", filepath.Join(dir, "b/linked")))
	holding(t, config{DB: filepath.Join(dir, "b/held.db")})
	want := map[string]State{
		"a/.peer.lock": StateForeign, "a/.old.lock": StateStale, "a/b/c/.d.lock.d.lock": StateForeign, "a/.inner.lock": StateFree,
		"b/.ours.lock": StateInvalid, "b/.held.lock": StateHeld,
	}
	require.Equal(t, want, surveyed(t, dir, SurveyOptions{}))
	require.Equal(t, want, surveyed(t, dir, SurveyOptions{OneFileSystem: true}))
	for range Survey(dir, SurveyOptions{}) {
		break // as a reader of it may
	}
	// The directory itself may be a link.
	require.Len(t, surveyed(t, filepath.Join(dir, "a"), SurveyOptions{}), 4)
	count := 0
	for r, err := range Survey(filepath.Join(dir, "b/linked"), SurveyOptions{}) {
		require.NoError(t, err)
		require.Contains(t, r.Names.Notice, filepath.Join(dir, "a")+"/")
		count++
	}
	require.Equal(t, 4, count)
}

func TestSurveyOfNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	put(t, filepath.Join(dir, "file"), "")
	for name, want := range map[string]error{"none": syscall.ENOENT, "file": syscall.ENOTDIR} {
		count := 0
		for r, err := range Survey(filepath.Join(dir, name), SurveyOptions{}) {
			var path *fs.PathError
			require.Nil(t, r)
			require.ErrorAs(t, err, &path)
			require.Equal(t, filepath.Join(dir, name), path.Path)
			require.ErrorIs(t, err, want)
			count++
		}
		require.Equal(t, 1, count, name)
	}
}

// A directory that goes away meanwhile is no error, unless it is the one that was named.
func TestSurveyWhileDirectoriesGo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "below"), 0o755))
	w := newWalk(dir, false)
	require.NoError(t, w.step())
	require.Equal(t, []string{filepath.Join(dir, "below")}, w.ahead)
	require.NoError(t, os.RemoveAll(dir))
	require.NoError(t, w.step())
	require.ErrorIs(t, newWalk(dir, false).step(), fs.ErrNotExist)
}

// A table of locks that was read before says the right thing of who has come or gone since.
func TestSurveyByAnOldTable(t *testing.T) {
	t.Parallel()
	needsSight(t)
	db, n := database(t)
	look := func(s *sharedTable) *Report {
		r, err := s.inspect(n, Options{}.withDefaults())
		require.NoError(t, err)
		return r
	}
	read := func() *sharedTable {
		s := &sharedTable{since: time.Now().Add(time.Hour)} // old, and not read again for that
		s.all, s.known = proc.AllLocks()
		return s
	}
	require.NoError(t, attemptOnce(t, db, Options{}))
	before := read()
	h := holding(t, config{DB: db})
	r := look(before)
	require.Equal(t, StateHeld, r.State)
	require.Equal(t, h.Process.Pid, r.Holder.PID)
	during := read()
	h.say(t, "release")
	h.line(t)
	require.Equal(t, StateFree, look(during).State)
	h = holding(t, config{DB: db})
	r = look(during)
	require.Equal(t, StateHeld, r.State)
	require.Equal(t, h.Process.Pid, r.Holder.PID)
	h.die(t)
	require.Equal(t, StateStale, look(during).State)
}

// One table serves many locks, for a while.
func TestSurveySharesTheTable(t *testing.T) {
	t.Parallel()
	var s sharedTable
	one := s.reader()
	_, _ = one()
	first := s.since
	require.False(t, first.IsZero())
	_, _ = s.reader()()
	require.Equal(t, first, s.since, "another one's first look")
	_, _ = one()
	require.NotEqual(t, first, s.since, "what one sees does not go together")
	s.since = time.Now().Add(-2 * lasts)
	first = s.since
	_, _ = s.reader()()
	require.NotEqual(t, first, s.since, "it is old")
}
