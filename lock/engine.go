package lock

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// An engine's lock is behind one of this machine's. Who asks for it queues here first, in the
// state directory of the user, and whoever is at the front of that queue asks the engine, which
// keeps the other machines out. So everything that is true of a lock on this machine is true of
// it, too: the order, the tree that keeps the lock until it has gone, nested holds, the history;
// and the engine has one waiter of each machine and user, not one for each process.

// Engine is where locks are that several machines share: a server that is trusted with it. Engines
// are registered by the scheme of the URLs that name their locks, as those of package remote are.
// Their methods may be called by several goroutines.
type Engine interface {
	// Name tells what a URL names, without connecting: for people, with no password in it, and
	// as all who mean the same lock on the same server should call it, however they get in.
	Name(url string) (shown, identity string, err error)
	// Acquire gets the lock, or waits for it until ctx ends. The error is ErrHeld if the lock is
	// held and ask.NoWait is set, that of ctx, or an *EngineError. It is asked of a server that can
	// be lost at any moment: what it returns is confirmed.
	Acquire(ctx context.Context, ask EngineRequest) (EngineHold, error)
	// Inspect finds out who holds the lock and who waits, as far as the server tells: State, Holder,
	// ID, Age, Evidence, Readers and Waiters of the Report. The error is ctx's or an *EngineError.
	Inspect(ctx context.Context, url string) (*Report, error)
	// Break takes the lock from the holder with that Report.ID, who is told: its command is ended
	// where it runs, and the lock is not given to others before, if it answers. It returns when the
	// server has done so. Nothing is done if the holder is another one by now.
	Break(ctx context.Context, url, id string) error
}

// Preparer is an Engine that can get ready for somebody who will ask it soon: who waits for this machine's
// lock and is the next one. So the server is not to be reached first when the turn has come.
type Preparer interface {
	// Prepare begins to get ready and returns at once. Other machines may be kept out by it for as long only as they are
	// by somebody of this machine, whom it may stand behind in a queue.
	Prepare(ask EngineRequest) Prepared
}

// Prepared is an engine that is ready, or about to be. Once, one of the two is called.
type Prepared interface {
	// Acquire is the engine's, for what it was prepared for.
	Acquire(ctx context.Context) (EngineHold, error)
	// Drop gives up what was prepared. It returns at once, or in a few seconds at most if there is something to be taken back for
	// which others would have to wait.
	Drop()
}

// EngineRequest is what is asked of an engine.
type EngineRequest struct {
	URL    string
	Mode   Mode
	NoWait bool
	TTL    time.Duration // for engines with leases: how long a lock outlives its holder; 0: their default
	// Grace is how long what works under the lock may go on after the loss of it was told: nobody
	// else may have the lock in that time.
	Grace time.Duration
	// Holder is who asks, as others are to see it: Process, PID, Host, UID, Command, Info, Mode.
	Holder Holder
}

// EngineHold is a lock that was acquired.
type EngineHold interface {
	// Token is the fencing number: greater than those of all holds before, whatever server failed
	// in between.
	Token() int64
	// Waited reports whether it was not to be had at once, but for the time that the server took to say so.
	Waited() bool
	// Descriptor is an open file that keeps the lock for as long as any process has it; -1 if there
	// is none.
	Descriptor() int
	// Check tells whether the lock is still held, from what is known. It asks the server only where
	// that is too old, after a stop of this process, and for a few seconds at most.
	Check() error
	// Lost is closed when the lock is lost, or is about to be, Grace before that; Err says why.
	Lost() <-chan struct{}
	Err() error
	// Release gives the lock back: others may have it when it returns. The error says that it was not
	// held any more.
	Release() error
	// Settle does what is left to be done at the server after that, for which nobody needs to wait. If it is awaited by
	// somebody on this machine, who is about to ask, that may take a few milliseconds longer, not to be in the way.
	Settle(awaited bool)
}

// EngineError says why an engine could not be asked.
type EngineError struct {
	Name   string // the lock, as Engine.Name shows it
	Err    error
	Hint   string // what one can do; may be empty
	Denied bool   // the server refuses this user: a wrong password, say
	Misuse bool   // what was asked for makes no sense, or is not to be had there
}

func (e *EngineError) Error() string { return e.Name + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *EngineError) Unwrap() error { return e.Err }

// ErrNoEngine: the database is a URL whose scheme no engine is registered for.
var ErrNoEngine = errors.New("no engine for this URL")

// schemes are those that an engine may be registered for, so that a path never becomes a URL by
// what is linked.
var schemes = []string{"postgres", "postgresql", "etcd", "etcds"}

var (
	enginesMu sync.Mutex // guards engines
	engines   = map[string]Engine{}
)

// Register makes an engine known by the scheme of its URLs.
func Register(scheme string, e Engine) {
	enginesMu.Lock()
	defer enginesMu.Unlock()
	engines[scheme] = e
}

// IsURL reports whether a database is named by a URL, of a lock that several machines share.
func IsURL(db string) bool { return schemeOf(db) != "" }

func schemeOf(db string) string {
	for _, s := range schemes {
		if strings.HasPrefix(db, s+"://") {
			return s
		}
	}
	return ""
}

// EngineFor is the engine for a database that is a URL; ErrNoEngine if there is none in this program.
func EngineFor(db string) (Engine, error) {
	enginesMu.Lock()
	defer enginesMu.Unlock()
	if e := engines[schemeOf(db)]; e != nil {
		return e, nil
	}
	return nil, ErrNoEngine
}

// resolveURL finds the names for a URL: those of the lock of this machine that is before it.
func resolveURL(url string) (n Names, err error) {
	e, err := EngineFor(url)
	if err != nil {
		return n, err
	}
	shown, identity, err := e.Name(url)
	if err != nil {
		return n, err
	}
	dir, err := stateHome()
	if err != nil {
		return n, err
	}
	n.DB = shown
	n.Notice = filepath.Join(dir, "."+fileName(identity)+noticeSuffix)
	n.State = n.Notice + stateSuffix
	return n, nil
}

// fileName is a name for a file that tells people what it is about, and is no other identity's.
func fileName(identity string) string {
	sum := fnv.New64a()
	_, _ = sum.Write([]byte(identity))
	readable := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '.', r == '-', r == '_':
			return r
		}
		return '-'
	}, strings.Replace(identity, "://", "-", 1))
	const most = 80
	return fmt.Sprintf("%.*s-%016x", most, readable, sum.Sum64())
}

// stateHome is the directory for what is kept of the locks of engines on this machine: that of the
// XDG Base Directory Specification, or one below the directory for temporary files where there is
// no home. It is this user's alone.
func stateHome() (string, error) {
	base := os.Getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(base) {
		base = ""
		if home := os.Getenv("HOME"); filepath.IsAbs(home) {
			base = filepath.Join(home, ".local", "state")
		}
	}
	dir := filepath.Join(base, "dblock")
	if base == "" {
		dir = filepath.Join(os.TempDir(), fmt.Sprintf("dblock-%d", os.Getuid()))
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return "", err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); !info.IsDir() || ok && int(st.Uid) != os.Geteuid() {
		return "", &fs.PathError{Op: "use", Path: dir, Err: fs.ErrPermission}
	}
	return dir, nil
}
