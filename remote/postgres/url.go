package postgres

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/dblock-dev/dblock/lock"
)

// defaultLock is the lock of a URL that names none.
const defaultLock = "dblock"

// target is what a URL names.
type target struct {
	shown, identity string
	key, after      int64
	next            int64 // the heir's
	config          *pgconn.Config
	hosts           int
}

// parse understands a URL. It connects to nothing, but reads the files that libpq would read.
func parse(raw string) (*target, error) {
	rest, name, err := cutLock(raw)
	if err != nil {
		return nil, misuse(err)
	}
	config, err := pgconn.ParseConfig(rest)
	if err != nil {
		return nil, misuse(explainParse(err))
	}
	if err := libpqOnly(config.RuntimeParams); err != nil {
		return nil, misuse(err)
	}
	t := &target{key: keyOf("dblock/" + name), after: keyOf("dblock-after/" + name), next: keyOf("dblock-next/" + name), config: config}
	hosts := []string{address(config.Host, config.Port)}
	for _, f := range config.Fallbacks {
		if h := address(f.Host, f.Port); h != hosts[len(hosts)-1] {
			hosts = append(hosts, h)
		}
	}
	t.hosts = len(hosts)
	if t.hosts > 1 && config.ValidateConnect == nil {
		config.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsPrimary
	}
	database := config.Database
	if database == "" {
		database = config.User
	}
	where := strings.Join(hosts, ",") + "/" + escape(database)
	if name != defaultLock {
		where += "?lock=" + escape(name)
	}
	t.identity = "postgres://" + where
	t.shown = "postgres://" + escape(config.User) + "@" + where
	return t, nil
}

// libpqOnly takes out what is libpq's own, which would be settings of the server here. What would make the
// connection another one is refused.
func libpqOnly(params map[string]string) error {
	if params["gssencmode"] == "require" {
		return errors.New("gssencmode=require cannot be had here")
	}
	for _, name := range []string{
		"keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout", "gssencmode", "gsslib", "gssdelegation",
		"sslcompression", "fallback_application_name", "load_balance_hosts",
	} {
		delete(params, name)
	}
	for _, name := range []string{"hostaddr", "requirepeer", "ssl_min_protocol_version", "ssl_max_protocol_version", "sslcrl", "sslcrldir", "replication"} {
		if _, given := params[name]; given {
			return fmt.Errorf("%s= cannot be had here", name)
		}
	}
	return nil
}

// keyOf makes a key for an advisory lock of a name.
func keyOf(name string) int64 {
	sum := sha256.Sum256([]byte(name))
	return int64(binary.BigEndian.Uint64(sum[:8]))
}

func address(host string, port uint16) string {
	if strings.HasPrefix(host, "/") {
		return escape(host) + ":" + strconv.Itoa(int(port))
	}
	return net.JoinHostPort(host, strconv.Itoa(int(port)))
}

// escape makes what has a meaning in URLs, or none that can be read, harmless.
func escape(s string) string {
	return strings.ReplaceAll(url.QueryEscape(s), "+", "%20")
}

var errURL = errors.New("it cannot be understood as the URL of a PostgreSQL database")

// cutLock takes the name of the lock out of a URL.
func cutLock(raw string) (rest, name string, err error) {
	_, after, ok := strings.Cut(raw, "://")
	if !ok {
		return "", "", errURL
	}
	// As for libpq, an @ before the first slash ends the user and password, whatever is before it.
	from := len(raw) - len(after)
	if i := strings.IndexAny(after, "@/"); i >= 0 && after[i] == '@' {
		from += i + 1
	}
	start := strings.IndexByte(raw[from:], '?')
	if start < 0 {
		return raw, defaultLock, nil
	}
	start += from
	name = ""
	var kept []string
	for pair := range strings.SplitSeq(raw[start+1:], "&") {
		key, value, _ := strings.Cut(pair, "=")
		if decoded, err := url.PathUnescape(key); err != nil || decoded != "lock" {
			kept = append(kept, pair)
			continue
		}
		if name != "" {
			return "", "", errors.New("lock= is given twice, and a URL names one lock")
		}
		if name, err = url.PathUnescape(value); err != nil || name == "" || strings.ContainsRune(name, 0) {
			return "", "", errors.New("lock= does not name a lock")
		}
	}
	if name == "" {
		name = defaultLock
	}
	rest = raw[:start]
	if len(kept) > 0 {
		rest += "?" + strings.Join(kept, "&")
	}
	return rest, name, nil
}

// explainParse says what is wrong without a word of the URL: where it is misunderstood, anything in
// it may be a part of the password.
func explainParse(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path
	}
	if _, err := pgconn.ParseConfig("postgres://"); err != nil {
		return errors.New("what the environment says about PostgreSQL (PGPORT, PGSSLMODE, PGSERVICE, ...) cannot be understood")
	}
	return errURL
}

func misuse(err error) error {
	e := &lock.EngineError{Name: "postgres://...", Err: err, Misuse: true}
	if err == errURL {
		e.Hint = "it is like postgres://USER@HOST:5432/DATABASE?lock=NAME; what is special in a password is percent-encoded"
	}
	return e
}

// channel is where releases are told.
func (t *target) channel() string { return "dblock_" + t.hex() }

// hex is the key for people and for names.
func (t *target) hex() string { return fmt.Sprintf("%016x", uint64(t.key)) }
