package etcd

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dblock-dev/dblock/lock"
)

const (
	defaultPort = "2379"
	// defaultTTL is the lease's length where nobody gives one.
	defaultTTL = 15 * time.Second
	// ttlAbove is how much longer than the grace of a command a lease must be: for a few renewals that
	// fail, as in an election.
	ttlAbove = 4 * time.Second
	// dialTime is how long a server has for the first answer.
	dialTime = 5 * time.Second
	// requestTime is how long it has for each later one, before another member is asked.
	requestTime = 2 * time.Second
)

// place is what a URL names: a lock, where it is, and how one gets in.
type place struct {
	secure   bool
	hosts    []string // host:port
	key      string
	user     string
	password string
	ttl      time.Duration // 0: not given

	ca, cert, certKey string // files
	unverified        bool   // the server's certificate is not looked at

	dialTime    time.Duration
	requestTime time.Duration
}

// The settings that a URL may have.
const (
	setTTL        = "ttl"
	setCA         = "cacert"
	setCert       = "cert"
	setKey        = "key"
	setUnverified = "insecure-skip-tls-verify"
	setDial       = "dial-timeout"
	setRequest    = "command-timeout"
)

// parse takes a URL apart. It is done by hand, since there may be several hosts, each with a port. The
// error has no password in it.
func parse(raw string) (*place, error) {
	p := &place{dialTime: dialTime, requestTime: requestTime}
	if err := p.read(raw); err != nil {
		return nil, &lock.EngineError{Name: bare(raw), Err: err, Misuse: true, Hint: "Such a URL is etcd://HOST:2379,HOST:2379/KEY, or etcds://... with TLS."}
	}
	return p, nil
}

// bare is a URL of which nothing is known without what may be a secret: the user and the settings.
func bare(raw string) string {
	scheme, rest, _ := strings.Cut(raw, "://")
	rest, _, _ = strings.Cut(rest, "?")
	// A password may have a slash in it that should have been written as %2F.
	rest = rest[strings.LastIndexByte(rest, '@')+1:]
	return scheme + "://" + rest
}

func (p *place) read(raw string) error {
	scheme, rest, _ := strings.Cut(raw, "://")
	p.secure = scheme == "etcds"
	rest, query, _ := strings.Cut(rest, "?")
	authority, path, _ := strings.Cut(rest, "/")
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		user, password, _ := strings.Cut(authority[:i], ":")
		authority = authority[i+1:]
		var err, perr error
		p.user, err = url.PathUnescape(user)
		p.password, perr = url.PathUnescape(password)
		if err != nil || perr != nil {
			return errors.New("a character of the user or the password must be written as %XX")
		}
	}
	if err := p.readKey(path); err != nil {
		return err
	}
	if err := p.readHosts(authority); err != nil {
		if strings.Contains(path, "@") {
			// It may be a part of a password, which has a slash in it.
			return errors.New("what is before the first / is not HOST:PORT; in a password it is written as %2F")
		}
		return err
	}
	if err := p.readEnvironment(); err != nil {
		return err
	}
	return p.readSettings(query)
}

// readKey takes the lock's name. The keys of its queue are behind an empty part, which no name has, so
// that the lock a/b is not in the queue of a.
func (p *place) readKey(path string) error {
	key, err := url.PathUnescape(path)
	if err != nil {
		return errors.New("a character of the lock's name must be written as %XX")
	}
	if key == "" {
		return errors.New("it names no lock: there is nothing behind the hosts")
	}
	if slices.Contains(strings.Split(key, "/"), "") {
		return errors.New("a part of the lock's name is empty")
	}
	p.key = key
	return nil
}

func (p *place) readHosts(authority string) error {
	if authority == "" {
		authority = os.Getenv("ETCDCTL_ENDPOINTS")
		if authority == "" {
			return errors.New("it names no host, and ETCDCTL_ENDPOINTS is not set")
		}
	}
	for _, h := range strings.Split(authority, ",") {
		h = strings.TrimSpace(h)
		if scheme, rest, ok := strings.Cut(h, "://"); ok {
			if scheme != "http" && scheme != "https" {
				return fmt.Errorf("etcd cannot be reached by %q", scheme)
			}
			p.secure = p.secure || scheme == "https"
			h = strings.TrimSuffix(rest, "/")
		}
		host, port, err := net.SplitHostPort(h)
		if err != nil {
			host, port = strings.Trim(h, "[]"), defaultPort
		}
		if n, err := strconv.Atoi(port); host == "" || err != nil || n < 1 || n > 65535 {
			return fmt.Errorf("%q is no host with a port", h)
		}
		p.hosts = append(p.hosts, net.JoinHostPort(strings.ToLower(host), port))
	}
	return nil
}

// readEnvironment takes what the URL does not say from the variables of etcdctl.
func (p *place) readEnvironment() error {
	user, password, _ := strings.Cut(os.Getenv("ETCDCTL_USER"), ":")
	if v := os.Getenv("ETCDCTL_PASSWORD"); v != "" {
		password = v
	}
	if p.user == "" {
		p.user = user
	}
	if p.password == "" && (p.user == user || user == "") {
		p.password = password
	}
	if p.secure {
		p.ca, p.cert, p.certKey = os.Getenv("ETCDCTL_CACERT"), os.Getenv("ETCDCTL_CERT"), os.Getenv("ETCDCTL_KEY")
		p.unverified, _ = strconv.ParseBool(os.Getenv("ETCDCTL_INSECURE_SKIP_TLS_VERIFY"))
	}
	for name, to := range map[string]*time.Duration{"ETCDCTL_DIAL_TIMEOUT": &p.dialTime, "ETCDCTL_COMMAND_TIMEOUT": &p.requestTime} {
		if err := duration(name, os.Getenv(name), to); err != nil {
			return err
		}
	}
	return nil
}

func (p *place) readSettings(query string) error {
	settings, err := url.ParseQuery(query)
	if err != nil {
		return errors.New("what is behind the ? cannot be read")
	}
	for name, values := range settings {
		v := values[len(values)-1]
		switch name {
		case setTTL:
			err = duration(name, v, &p.ttl)
		case setCA:
			p.ca = v
		case setCert:
			p.cert = v
		case setKey:
			p.certKey = v
		case setUnverified:
			if p.unverified, err = strconv.ParseBool(v); err != nil {
				err = fmt.Errorf("%s is true or false, not %q", name, v)
			}
		case setDial:
			err = duration(name, v, &p.dialTime)
		case setRequest:
			err = duration(name, v, &p.requestTime)
		default:
			err = fmt.Errorf("there is no setting %q", name)
		}
		if err != nil {
			return err
		}
		if !p.secure && (name == setCA || name == setCert || name == setKey || name == setUnverified) {
			return fmt.Errorf("%s is for TLS: write etcds://", name)
		}
	}
	if (p.cert == "") != (p.certKey == "") {
		return errors.New("a certificate of one's own needs both cert and key")
	}
	return nil
}

// duration reads a duration, unless it is empty.
func duration(name, text string, to *time.Duration) error {
	if text == "" {
		return nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return fmt.Errorf("%s is a time such as 10s, not %q", name, text)
	}
	*to = d
	return nil
}

// shown is the lock's name for people.
func (p *place) shown() string {
	user := ""
	if p.user != "" {
		user = url.PathEscape(p.user) + "@"
	}
	scheme := "etcd://"
	if p.secure {
		scheme = "etcds://"
	}
	return scheme + user + strings.Join(p.hosts, ",") + "/" + p.key
}

// identity is the same for all who mean this lock.
func (p *place) identity() string {
	hosts := slices.Clone(p.hosts)
	slices.Sort(hosts)
	return "etcd://" + strings.Join(slices.Compact(hosts), ",") + "/" + p.key
}

// prefix is what the keys of the queue begin with.
func (p *place) prefix() string { return "/dblock/" + p.key + "//" }

// length is how long the lease of one who asks is to be, in whole seconds as etcd has them.
func (p *place) length(ask lock.EngineRequest) (time.Duration, error) {
	grace := max(0, ask.Grace)
	if grace == lock.Forever {
		return 0, p.misuse("a command that is given for ever to end may work on when its lease has run out: give --kill-after a time")
	}
	ttl := ask.TTL
	if ttl == 0 {
		ttl = p.ttl
	}
	if ttl == 0 {
		if ttl = defaultTTL; grace+ttlAbove > ttl {
			ttl = grace + ttlAbove + time.Second
		}
	}
	if ttl < grace+ttlAbove {
		return 0, p.misuse("a command that may take %v to end could outlive a lease of %v: give a longer --ttl (%v at least) or a shorter --kill-after", grace, ttl, grace+ttlAbove)
	}
	return (ttl + time.Second - 1).Truncate(time.Second), nil
}

func (p *place) misuse(format string, args ...any) error {
	return &lock.EngineError{Name: p.shown(), Err: fmt.Errorf(format, args...), Misuse: true}
}
