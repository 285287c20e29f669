package cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"unicode"

	"github.com/stretchr/testify/require"
)

func TestQuote(t *testing.T) {
	for in, want := range map[string]string{
		"/data/app-1.db": "/data/app-1.db", "größe": "größe", "": "''", "a b": "'a b'", "it's": `'it'\''s'`, "$HOME": "'$HOME'", "~": "'~'",
		"a\x1b[2J": `$'a\033[2J'`, "\xff'\\7": `$'\377\'\\7'`, "a\u202eb": `$'a\342\200\256b'`, "*": "'*'", "#x": "'#x'", "a=b": "a=b", "!x": "'!x'",
	} {
		require.Equal(t, want, Quote(in), "%q", in)
	}
}

// What is pasted names the same file.
func TestQuoteIsReadByTheShell(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("bash is not installed")
	}
	for _, s := range []string{"a b", "it's", "\x1b[2J\x07", "\xff\xfe1", "new\nline", "`id`", `\`, "\u202e数", "-", "{a,b}", "?*"} {
		quoted := Quote(s)
		for _, r := range quoted {
			require.True(t, unicode.IsPrint(r), "%q", quoted)
		}
		out, err := exec.Command(bash, "-c", "printf %s "+quoted).Output()
		require.NoError(t, err)
		require.Equal(t, s, string(out))
	}
}

func TestSelector(t *testing.T) {
	dir, err := os.Getwd()
	require.NoError(t, err)
	require.Equal(t, "-d "+Quote(filepath.Join(dir, "x.db")), Database{DB: "x.db"}.Selector())
	require.Equal(t, "-d '/a b/x.db'", Database{DB: "/a b/x.db"}.Selector())
	require.Equal(t, "--lock-file /x.lock", Database{DB: "/x.db", LockFile: "/x.lock"}.Selector())
}

// What is shown of a URL has no password in it; what is none stays as it is.
func TestQuoteLeavesPasswordsOut(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		"postgres://app:secret@db/shop":                         "postgres://app@db/shop",
		"--db=postgres://app:secret@db/shop":                    "--db=postgres://app@db/shop",
		"-dpostgres://app:se@cret@db/shop":                      "-dpostgres://app@db/shop",
		"postgres://app:sec/ret@db/shop":                        "postgres://app@db/shop",
		"postgres://db/shop?user=app&password=secret":           "'postgres://db/shop?user=app&password=...'",
		"postgres://db/shop?password=secret&sslmode=require":    "'postgres://db/shop?password=...&sslmode=require'",
		"mysql://root:secret@db":                                "mysql://root@db",
		"https://example.org/a:b@c":                             "https://example.org/a:b@c",
		"etcd://10.0.0.1:2379,10.0.0.2:2379/jobs/nightly":       "etcd://10.0.0.1:2379,10.0.0.2:2379/jobs/nightly",
		"etcd://app:secret@10.0.0.1:2379,10.0.0.2:2379/nightly": "etcd://app@10.0.0.1:2379,10.0.0.2:2379/nightly",
		"etcd://10.0.0.1:2379/jobs@home":                        "etcd://10.0.0.1:2379/jobs@home",
		"a://b":                                                 "a://b",
		"://":                                                   "://",
	} {
		require.Equal(t, want, Quote(given))
	}
	require.Equal(t, "psql 'postgres://a@b/c' and etcd://d@e were not run", Redact("psql 'postgres://a:x@b/c' and etcd://d:y@e were not run"))
}
