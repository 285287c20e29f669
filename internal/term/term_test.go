package term

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestCleanShowsNothingThatCommandsATerminal(t *testing.T) {
	for in, want := range map[string]string{
		"mcp-server":         "mcp-server",
		"a\x1b[2Jb":          "a?[2Jb",
		"line\nbreak\rback":  "line?break?back",
		"\x9b31m":            "?31m",
		"c1\u009b31m":        "c1?31m",
		"\u202egnp.exe":      "?gnp.exe",
		"zero\u200bwidth":    "zero?width",
		"größe 数":            "größe 数",
		"\x00":               "?",
		"bell\a del\x7f end": "bell? del? end",
	} {
		require.Equal(t, want, Clean(in), "%q", in)
		require.Equal(t, want, Path(in), "%q", in)
	}
	require.Len(t, []rune(Clean(string(make([]byte, 1000)))), 131)
}

func TestFit(t *testing.T) {
	require.Equal(t, "abc", Fit("abcdef", 3))
	require.Equal(t, "abc", Fit("abc", 3))
	require.Equal(t, "数", Fit("数数", 3))
	require.Equal(t, "", Fit("数", 1))
}

func TestShorten(t *testing.T) {
	t.Setenv("LC_ALL", "C.UTF-8")
	for in, want := range map[string]string{"abc": "abc", "abcdef": "abcdef", "abcdefg": "abcde…", "abcd efg": "abcd…", "数数数数": "数数…", "…abcde": "…abcde", "": ""} {
		require.Equal(t, want, Shorten(in, 6), "%q", in)
	}
	for in, want := range map[string]string{"/x/.a.lock": "/x/.a.lock", "/home/me/.a.lock": "…/.a.lock", "/home/me/x/.a.lock": "…/.a.lock", "/home/.a-long-one.lock": ".a-long-o…", "/a/b/c/d/e/f": "…/c/d/e/f"} {
		require.Equal(t, want, ShortenPath(in, 10), "%q", in)
	}
	t.Setenv("LC_ALL", "C")
	require.Equal(t, "abc...", Shorten("abcdefg", 6))
	require.Equal(t, ".../.a.lock", ShortenPath("/home/me/.a.lock", 11))
}

func TestAgo(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 340 * time.Millisecond: "0.3s", 2 * time.Second: "2s", 59 * time.Second: "59s",
		3*time.Minute + 5*time.Second: "3m05s", 2*time.Hour + 7*time.Minute: "2h07m", 99 * time.Hour: "4d3h",
	} {
		require.Equal(t, want, Ago(d))
	}
}

func TestLocale(t *testing.T) {
	for _, c := range []struct {
		all, ctype, lang string
		want             bool
	}{
		{"", "", "", false}, {"C", "", "en_US.UTF-8", false}, {"", "", "en_US.UTF-8", true},
		{"", "de_DE.utf8", "C", true}, {"C.UTF-8", "C", "C", true}, {"", "", "POSIX", false},
	} {
		t.Setenv("LC_ALL", c.all)
		t.Setenv("LC_CTYPE", c.ctype)
		t.Setenv("LANG", c.lang)
		require.Equal(t, c.want, UTF8(), "%+v", c)
	}
}
