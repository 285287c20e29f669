package lock

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dblock-dev/dblock/lock/internal/judge"
)

// What is no lock file is nobody's to remove: a user who names his database with
// --lock-file keeps it.
func TestAlienFilesStay(t *testing.T) {
	t.Parallel()
	sqlite := "SQLite format 3\x00" + strings.Repeat("\x10", 84)
	for name, c := range map[string]struct {
		content string
		derived bool // also where the name was made of the database's
	}{
		"SQLite":             {sqlite, true},
		"a large SQLite":     {sqlite + strings.Repeat("x", 8192), true},
		"large text":         {strings.Repeat("text\n", 1000), true},
		"a large object":     {`{"pid":1,"x":"` + strings.Repeat("x", 5000) + `"}`, true},
		"a padded notice":    {peerNotice(1, "elsewhere", 0) + strings.Repeat(" ", 5000), true},
		"text":               {"locked", false},
		"a list":             {`[{"pid":1}]`, false},
		"JSON of others":     {`{"users":[]}`, false},
		"settings":           {`{"name":"x"}`, false},
		"JSON lines":         {"{\"a\":1}\n{\"a\":2}\n", false},
		"a log in JSON":      {"{\"pid\":1,\"msg\":\"a\"}\n{\"pid\":1,\"msg\":\"b\"}\n", false},
		"JSON with comments": {"{\n  // the pid\n  \"compilerOptions\": {},\n}\n", false},
		"a template":         {"{{template \"page\"}}\n", false},
		"RTF":                {`{\rtf1\ansi pid}`, false},
		"a JSON store, cut":  {`{"users":[{"name":"a"},{"na`, false},
		"a byte order mark":  {"\ufeff" + peerNotice(1, "elsewhere", 0), false},
		"zeros":              {strings.Repeat("\x00", 512), false},
		"zeros and a number": {"\x00\x00\x01\x00", true},
	} {
		for _, derived := range []bool{false, true} {
			if derived && !c.derived {
				continue
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				path, db, lockFile := filepath.Join(dir, "app.db"), "", ""
				if derived {
					path, db = filepath.Join(dir, ".app.lock"), filepath.Join(dir, "app.db")
				} else {
					lockFile = path
				}
				id := put(t, path, c.content)
				old := time.Now().Add(-time.Hour)
				require.NoError(t, os.Chtimes(path, old, old))
				for _, o := range []Options{{}, {Wait: NoWait}, {Stale: StaleAge}, {Mode: Shared}, {StaleTimeout: time.Millisecond}} {
					o.LockFile = lockFile
					require.ErrorIs(t, New(db, o).Acquire(t.Context()), ErrNotLockFile)
				}
				r := inspected(t, db, Options{LockFile: lockFile})
				require.Equal(t, StateInvalid, r.State)
				require.False(t, r.Stale)
				require.True(t, r.Locked())
				require.Contains(t, r.Evidence, "not a lock file")
				for _, o := range []BreakOptions{{}, {IfStale: true}, {ID: r.ID}, {Consent: func(*Report) bool { return true }}} {
					o.Options.LockFile = lockFile
					_, err := Break(t.Context(), db, o)
					require.ErrorIs(t, err, ErrNotLockFile)
				}
				require.Equal(t, id, inodeOf(t, path))
				require.Equal(t, c.content, contents(t, path))
				require.NoDirExists(t, path+".d")
			})
		}
	}
}

// What was left of a notice is none, whoever has named it.
func TestDamagedNoticeThatWasNamed(t *testing.T) {
	t.Parallel()
	for _, content := range []string{
		"", "{", "{\n  \"pi", `{"timest`, `{"pid":1,"timest`, "{\n  \"host\": \"h\",\n  \"pid\": 1,", `{"pid":1}"}`, `{"pid":"x"}`,
	} {
		path := filepath.Join(t.TempDir(), "named")
		put(t, path, content)
		old := time.Now().Add(-time.Hour)
		require.NoError(t, os.Chtimes(path, old, old))
		b, err := Break(t.Context(), "", BreakOptions{Options: Options{LockFile: path}})
		require.NoError(t, err, "%q", content)
		require.True(t, b.Removed)
	}
}

// What a peer has begun to write may become a notice: force gives it its time.
func TestBreakWaitsForWhatIsBeingWritten(t *testing.T) {
	t.Parallel()
	needsSight(t)
	peer := live(t)
	for _, content := range []string{"", `{"pid":1,"timest`} {
		db, n := database(t)
		put(t, n.Notice, content)
		begin := time.Now()
		b, err := Break(t.Context(), db, BreakOptions{})
		require.NoError(t, err)
		require.True(t, b.Removed)
		require.GreaterOrEqual(t, time.Since(begin), judge.Grace)

		put(t, n.Notice, content)
		full := peerNotice(peer.Process.Pid, host(), ms(time.Now()))
		done := make(chan error, 1)
		go func() {
			_, err := Break(t.Context(), db, BreakOptions{})
			done <- err
		}()
		require.NoError(t, os.WriteFile(n.Notice, []byte(full), 0o644))
		mustHeld(t, <-done)
		require.Equal(t, full, contents(t, n.Notice))
	}
}
