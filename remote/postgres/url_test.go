package postgres

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dblock-dev/dblock/lock"
)

func TestName(t *testing.T) {
	t.Setenv("PGUSER", "me")
	for url, want := range map[string]string{
		"postgres://app:secret@db.internal/shop":                        "postgres://app@db.internal:5432/shop",
		"postgresql://app:secret@db.internal:5433/shop?sslmode=disable": "postgres://app@db.internal:5433/shop",
		"postgres://db/shop?lock=nightly%20job":                         "postgres://me@db:5432/shop?lock=nightly%20job",
		"postgres://db/shop?sslmode=disable&lock=a&connect_timeout=3":   "postgres://me@db:5432/shop?lock=a",
		"postgres://db/shop?lock=dblock":                                "postgres://me@db:5432/shop",
		"postgres://db/shop?gssencmode=prefer&keepalives=1":             "postgres://me@db:5432/shop",
		"postgres://db":                                                    "postgres://me@db:5432/me",
		"postgres://[::1]:5433/shop":                                       "postgres://me@[::1]:5433/shop",
		"postgres://a,b:5433/shop":                                         "postgres://me@a:5432,b:5433/shop",
		"postgres:///shop?host=/run/postgresql":                            "postgres://me@%2Frun%2Fpostgresql:5432/shop",
		"postgres://x:p?lock=no@db/shop":                                   "postgres://x@db:5432/shop",
		"postgres://x%40y:p%2Fq@db/s%2Fp?password=secret&sslpassword=more": "postgres://x%40y@db:5432/s%2Fp",
	} {
		shown, identity, err := engine{}.Name(url)
		require.NoError(t, err, url)
		require.Equal(t, want, shown, url)
		_, where, _ := strings.Cut(want, "@")
		require.Equal(t, "postgres://"+where, identity, url)
		require.True(t, lock.IsURL(shown))
	}
}

func TestNameOfEnvironment(t *testing.T) {
	t.Setenv("PGHOST", "db.internal")
	t.Setenv("PGPORT", "5444")
	t.Setenv("PGUSER", "app")
	t.Setenv("PGDATABASE", "shop")
	t.Setenv("PGPASSWORD", "secret")
	shown, _, err := engine{}.Name("postgres://?lock=x")
	require.NoError(t, err)
	require.Equal(t, "postgres://app@db.internal:5444/shop?lock=x", shown)
	service := filepath.Join(t.TempDir(), "service")
	require.NoError(t, os.WriteFile(service, []byte("[prod]\nhost=prod.internal\ndbname=main\npassword=secret\n"), 0o600))
	t.Setenv("PGSERVICEFILE", service)
	shown, _, err = engine{}.Name("postgres://?service=prod")
	require.NoError(t, err)
	require.Equal(t, "postgres://app@prod.internal:5444/main", shown)
}

// What cannot be understood is not quoted: any of it may be a password.
func TestMisunderstood(t *testing.T) {
	for _, url := range []string{
		"postgres://app:s3cr3t/x@db/shop",
		"postgres://app:s3cr3t@db/shop?lock=a&lock=b",
		"postgres://app:s3cr3t@db/shop?hostaddr=10.0.0.1",
		"postgres://app:s3cr3t@db/shop?gssencmode=require",
		"postgres://app:s3cr3t%zz@db/shop",
		"postgres://app:x@db:s3cr3t/shop",
		"postgres://app:s3cr3t x@db/shop",
		"postgres://app@db/shop?s3cr3t",
		"postgres://app@db/shop?sslmode=s3cr3t",
		"postgres://app@db/shop?password=s3cr3t&lock=",
		"postgres://app@db/shop?password=s3cr3t&lock=%00",
		"postgres://app:s3cr3t@db/shop?sslmode=verify-full&sslrootcert=/does/not/exist",
	} {
		_, _, err := engine{}.Name(url)
		var failed *lock.EngineError
		require.ErrorAs(t, err, &failed, url)
		require.True(t, failed.Misuse)
		require.NotContains(t, err.Error()+failed.Hint, "s3cr3t")
		require.NotContains(t, err.Error(), "\n")
	}
	_, _, err := engine{}.Name("postgres://app:s3cr3t@db/shop?sslmode=verify-full&sslrootcert=/does/not/exist")
	require.ErrorContains(t, err, "/does/not/exist")
	t.Setenv("PGPORT", "none")
	_, _, err = engine{}.Name("postgres://app:s3cr3t@db/shop")
	require.ErrorContains(t, err, "environment")
}

func TestKey(t *testing.T) {
	s := shared(t)
	target, err := parse("postgres://db/shop?lock=nightly")
	require.NoError(t, err)
	require.Equal(t, s.sql(t, "SELECT ('x' || left(encode(sha256('dblock/nightly'), 'hex'), 16))::bit(64)::bigint"), jsonNumber(target.key))
	require.Equal(t, s.sql(t, "SELECT ('x' || left(encode(sha256('dblock-after/nightly'), 'hex'), 16))::bit(64)::bigint"), jsonNumber(target.after))
}
