//go:build linux && !portable

package doctor

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestJudgeMount(t *testing.T) {
	for _, c := range []struct {
		line  string
		level Level
		why   string // empty: any
	}{
		{"1 2 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw", OK, ""},
		{"1 2 0:33 / / rw - btrfs /dev/vda rw,subvol=/@", OK, ""},
		{"1 2 0:33 / / rw - zfs tank/home rw", OK, ""},
		{"1 2 8:1 / / rw - fuseblk /dev/sda1 rw,user_id=0", OK, ""},
		{"1 2 254:0 / / ro,relatime - ext4 /dev/vda rw", Problem, ""},
		{"1 2 254:0 / / rw,relatime - ext4 /dev/vda ro", Problem, ""},
		{"1 2 0:50 / / rw - nfs4 server:/x rw,vers=4.2", Warning, whyNetwork},
		{"1 2 0:50 / / rw - nfs server:/x rw,local_lock=all", Warning, whyNetwork},
		{"1 2 0:50 / / rw - cifs //server/x rw", Warning, whyNetwork},
		{"1 2 0:50 / / rw - 9p host rw", Warning, whyShared},
		{"1 2 0:50 / / rw - virtiofs host rw", Warning, whyShared},
		{"1 2 0:50 / / rw - fuse.sshfs me@there: rw", Warning, whyNetwork},
		{"1 2 0:50 / / rw - fuse.something x rw", Warning, whyUser},
	} {
		m, ok := parseMount([]byte("9 2 0:1 / /proc rw - proc proc rw\n"+c.line+"\n"), "1")
		require.True(t, ok, c.line)
		f := judgeMount(m)
		require.Equal(t, c.level, f.Level, c.line)
		if c.why != "" {
			require.Equal(t, c.why, f.Why, c.line)
		}
	}
	m, _ := parseMount([]byte(`1 2 254:0 / /a\040b rw - ext4 x rw`), "1")
	require.Equal(t, "/a b", m.point)
	_, ok := parseMount([]byte("1 2 254:0 / / rw - ext4 x rw"), "11")
	require.False(t, ok)
}

func TestJudgeTimes(t *testing.T) {
	for _, c := range []struct {
		skew, grain time.Duration
		level       Level
		found       string
	}{
		{0, 0, OK, "is this machine's"},
		{-4 * time.Millisecond, 4 * time.Millisecond, OK, "is this machine's"},
		{-time.Second, coarse, Warning, "coarse"},
		{-time.Hour, 0, Warning, "1h0m0s from this machine's"},
		{3 * time.Second, 0, Warning, "3s from this machine's"},
	} {
		f := judgeTimes(c.skew, c.grain)[0]
		require.Equal(t, c.level, f.Level)
		require.Contains(t, f.Found, c.found)
	}
}

// What does not answer ends a check in time, and with it all that touch the same filesystem.
func TestNothingHangs(t *testing.T) {
	v := &visit{}
	stuck := func(*visit) []Finding { select {} }
	v.make(check{"one", time.Millisecond, true, stuck})
	v.make(check{"two", time.Millisecond, true, stuck})
	v.make(check{"three", patience, false, func(*visit) []Finding { return fine("three", "fine") }})
	require.Len(t, v.findings, 2)
	require.Equal(t, Problem, v.findings[0].Level)
	require.Contains(t, v.findings[0].Found, "did not answer")
	require.Equal(t, "three", v.findings[1].Name)
}

// A directory that somebody has put in the place of ours is not entered.
func TestEnterOnlyWhatIsOurs(t *testing.T) {
	dir := t.TempDir()
	ours := filepath.Join(dir, "ours")
	require.NoError(t, os.Mkdir(ours, 0o700))
	r, err := enter(ours)
	require.NoError(t, err)
	r.clear()
	require.NoDirExists(t, ours)
	require.NoError(t, os.Symlink(dir, filepath.Join(dir, "link")))
	_, err = enter(filepath.Join(dir, "link"))
	require.Error(t, err)
	require.NoError(t, os.Mkdir(filepath.Join(dir, "open"), 0o700))
	require.NoError(t, os.Chmod(filepath.Join(dir, "open"), 0o777))
	_, err = enter(filepath.Join(dir, "open"))
	require.Error(t, err)
}

func TestHotJournal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db-journal")
	require.False(t, hot(path))
	for text, want := range map[string]bool{
		"": false, "\x00\x00\x00\x00\x00\x00\x00\x00rest": false, "\xd9\xd5\x05\xf9\x20\xa1\x63\xd7rest": true,
	} {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
		require.Equal(t, want, hot(path))
	}
}
