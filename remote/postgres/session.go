package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sys/unix"
)

// session is a connection. It is one goroutine's at a time, but for cut.
type session struct {
	target *target
	pg     *pgconn.PgConn
	over   atomic.Bool // nobody dials any more, not even to cancel a statement
	parted atomic.Bool // the last word was said, and is on its way when the connection below is closed

	mu  sync.Mutex
	raw net.Conn // the connection below that of TLS
}

// connect opens a session. name is what others see of it, grace how long its holder may need to end.
func (t *target) connect(ctx context.Context, name string, grace time.Duration) (*session, error) {
	ctx, stop := context.WithTimeout(ctx, time.Duration(t.hosts)*connectTime)
	defer stop()
	silence := (afterlife(grace) + margin).Round(time.Second)
	wanted := settings(int(silence / time.Second))
	s, err := t.dial(ctx, name, silence, wanted)
	var said *pgconn.PgError
	if err == nil || !errors.As(err, &said) || !slices.Contains(refusals, said.Code) {
		return s, t.explained(err)
	}
	// It does not know one of the settings, or is a pooler that does not: the others count nonetheless.
	s, err = t.dial(ctx, name, silence, nil)
	if err != nil {
		return nil, t.explain(err)
	}
	for _, k := range slices.Sorted(maps.Keys(wanted)) {
		_, err = s.row(ctx, "SET "+k+" = "+quote(wanted[k]))
		if s.pg.IsClosed() {
			s.close()
			return nil, t.explain(err)
		}
	}
	return s, nil
}

func (t *target) explained(err error) error {
	if err == nil {
		return nil
	}
	return t.explain(err)
}

// refusals are how a server says that it does not take a setting.
var refusals = []string{unknownSetting, invalidSetting, cannotChangeSetting, insufficientRight, protocolViolation}

// settings are those of our sessions, whatever the database or the role has. silence is how many seconds
// the server must keep the session of one who is cut off: not shorter, or that one's tree may
// still be at work, and not much longer.
func settings(silence int) map[string]string {
	return map[string]string{
		"search_path":                         "pg_catalog",
		"client_encoding":                     "UTF8",
		"standard_conforming_strings":         "on",
		"default_transaction_read_only":       "off",
		"synchronous_commit":                  "local",
		"statement_timeout":                   "0",
		"lock_timeout":                        "0",
		"idle_in_transaction_session_timeout": "0",
		"idle_session_timeout":                "0",
		"tcp_keepalives_idle":                 strconv.Itoa(silence/2 + 1),
		"tcp_keepalives_interval":             strconv.Itoa(silence/8 + 1),
		"tcp_keepalives_count":                "6",
		"tcp_user_timeout":                    strconv.Itoa(silence * 1000),
	}
}

func (t *target) dial(ctx context.Context, name string, silence time.Duration, more map[string]string) (*session, error) {
	s := &session{target: t}
	config := t.config.Copy()
	maps.Copy(config.RuntimeParams, more)
	config.RuntimeParams["application_name"] = name
	if config.ConnectTimeout == 0 || config.ConnectTimeout > connectTime {
		config.ConnectTimeout = connectTime
	}
	// Our kernel must not give up a connection before the server does: what that sends then
	// would be answered with a reset, and the lock be free at once.
	dialer := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: silence + time.Minute, Interval: 15 * time.Second, Count: 9}}
	var plain withoutTLS
	config.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		if s.over.Load() {
			return nil, net.ErrClosed
		}
		c := plain.take(address)
		if c == nil {
			var err error
			if c, err = dialer.DialContext(ctx, network, address); err != nil {
				return nil, err
			}
		}
		s.mu.Lock()
		s.raw = c
		s.mu.Unlock()
		return &offered{Conn: c, address: address, refused: &plain, parted: &s.parted}, nil
	}
	pg, err := pgconn.ConnectConfig(ctx, config)
	s.over.Store(true)
	if c := plain.take(plain.address); c != nil {
		_ = c.Close()
	}
	if err != nil {
		return nil, err
	}
	s.pg = pg
	return s, nil
}

// withoutTLS is a connection on which the server has said that it has no TLS. Where one may go on without (sslmode=prefer) libpq does so
// on the same connection. pgconn closes it and dials again, and gets this one.
type withoutTLS struct {
	conn    net.Conn // nil if there is none
	address string
}

func (r *withoutTLS) take(address string) (c net.Conn) {
	if r.address == address {
		c, r.conn = r.conn, nil
	}
	if c != nil {
		_ = c.SetDeadline(time.Time{})
	}
	return c
}

// offered is a connection on which TLS may be asked for.
type offered struct {
	net.Conn
	address string
	refused *withoutTLS
	begun   bool // something was read
	no      bool // the server's answer was that it has none
	parted  *atomic.Bool
}

func (o *offered) Read(b []byte) (int, error) {
	n, err := o.Conn.Read(b)
	if !o.begun && n > 0 {
		// The answer is one byte, for which alone is asked.
		o.begun, o.no = true, len(b) == 1 && b[0] == 'N'
	}
	return n, err
}

// Close keeps the connection if the answer was the last word, or if it is the session's to close it.
func (o *offered) Close() error {
	if o.parted.Load() {
		return nil
	}
	if o.no && o.refused.conn == nil {
		o.no = false
		o.refused.conn, o.refused.address = o.Conn, o.address
		return nil
	}
	return o.Conn.Close()
}

// query asks, in one round trip. A statement is a transaction of its own.
func (s *session) query(ctx context.Context, sql string) ([]*pgconn.Result, error) {
	results, err := s.pg.Exec(ctx, sql).ReadAll()
	if err == nil {
		for _, r := range results {
			if err = r.Err; err != nil {
				break
			}
		}
	}
	return results, err
}

// row is the first row of the last statement, as text; nil is NULL.
func (s *session) row(ctx context.Context, sql string) ([][]byte, error) {
	results, err := s.query(ctx, sql)
	if err != nil {
		return nil, err
	}
	if len(results) == 0 || len(results[len(results)-1].Rows) == 0 {
		return nil, nil
	}
	return results[len(results)-1].Rows[0], nil
}

// ask is row for one who waits: it does not do so for a server that says nothing.
func (s *session) ask(ctx context.Context, sql string) ([][]byte, error) {
	ctx, stop := context.WithTimeout(ctx, connectTime)
	defer stop()
	return s.row(ctx, sql)
}

// listen waits until something was notified, or d has passed.
func (s *session) listen(ctx context.Context, d time.Duration) (notified bool, err error) {
	limited, stop := context.WithTimeout(ctx, d)
	defer stop()
	err = s.pg.WaitForNotification(limited)
	if s.pg.IsClosed() {
		return false, err
	}
	return err == nil, ctx.Err()
}

// cut ends the connection, whoever uses it.
func (s *session) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.raw != nil {
		_ = s.raw.Close()
	}
}

// close ends the session.
func (s *session) close() {
	if s == nil {
		return
	}
	s.goodbye()
	s.cut()
	<-s.pg.CleanupDone()
}

// part ends the session when this process ends, or in a moment. What the server has to do for that would keep
// from the processor a process that is about to end.
func (s *session) part() {
	s.mu.Lock()
	corked := cork(s.raw)
	s.mu.Unlock()
	if !corked {
		s.close()
		return
	}
	s.parted.Store(true)
	s.goodbye()
	time.AfterFunc(parting, s.cut)
}

// goodbye says the last word.
func (s *session) goodbye() {
	ctx, stop := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer stop()
	_ = s.pg.Close(ctx)
}

// descriptor is another number for the connection's socket, where a command may inherit it.
func (s *session) descriptor() (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	conn, ok := s.raw.(syscall.Conn)
	if !ok {
		return -1, fmt.Errorf("no socket in a %T", s.raw)
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return -1, err
	}
	fd := -1
	cerr := raw.Control(func(s uintptr) {
		// The limit may be lower than that.
		for _, lowest := range []int{32, 0} {
			if fd, err = unix.FcntlInt(s, unix.F_DUPFD_CLOEXEC, lowest); err == nil {
				return
			}
		}
	})
	if err = errors.Join(cerr, err); err != nil {
		return -1, err
	}
	return fd, nil
}

// quote makes a literal.
func quote(s string) string {
	return "'" + strings.ReplaceAll(strings.ReplaceAll(s, `\`, "?"), "'", "''") + "'"
}
