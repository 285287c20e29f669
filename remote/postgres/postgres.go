// Package postgres has locks in PostgreSQL: session advisory locks in the database that a URL
// names, which is usually the very one that is worked at. Importing it registers the engine for
// postgres:// and postgresql://.
//
// # URL
//
// It is libpq's, with its variables (PGHOST, PGUSER, PGPASSWORD, PGSSLMODE, ...), .pgpass and service
// files, several hosts, sockets, and one more parameter: lock=NAME says which lock in that database,
// "dblock" unless it is given.
//
// # Keys
//
// The first 8 bytes of SHA-256 of "dblock/NAME", big-endian, are the key; those of
// "dblock-after/NAME" are the key of the aftermath. Anybody sees who has them:
//
//	SELECT l.pid, l.mode, a.application_name, a.query FROM pg_locks l JOIN pg_stat_activity a USING (pid)
//	WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND (l.classid::bigint << 32 | l.objid::bigint) =
//	  ('x' || left(encode(sha256('dblock/dblock'), 'hex'), 16))::bit(64)::bigint;
//
// and other programs can take part with pg_advisory_lock of both, in this order, each in a session of
// its own.
//
// # Two sessions
//
// A holder has two sessions. The first has the key. If an administrator ends it, or the holder dies,
// the key is free at once, though what worked under the lock may need a while to end. So the
// second has the key of the aftermath, and a successor waits for that one, too. The command inherits
// the second one's socket: a dblock that is killed leaves the lock to its command.
//
// Keys are only ever tried for, each in a statement of its own: a blocked statement, or an open transaction,
// has a snapshot for which CREATE INDEX CONCURRENTLY under the lock would wait for ever. Who waits
// listens on a channel, on which a release is told, and tries in between for the sake of holders
// that were killed. So there is no order among those who wait, and a stream of readers keeps writers waiting.
//
// One of those who wait is the heir: who has got the key that "dblock-next/NAME" makes. It keeps a second
// session open, which the others open when they need it, and tries at once when a release is told, while the others
// leave it a few milliseconds. Nothing depends on it: an heir that does not move is passed.
//
// # Cut off
//
// A holder asks the server for an answer on both sessions every two seconds, and has lost the lock when there was
// none for three: its command is ended, within the grace. The server is told to keep sessions that long, and
// a little longer, when it hears nothing from them (tcp_user_timeout, tcp_keepalives_*). A server that was
// started, has crashed, or was promoted a moment ago knows nothing of those who had its locks before. Who
// gets the key there waits until they must have ended. Of a promotion these are the signs: the server has replayed
// WAL, and its last checkpoint is still of the old timeline, or is less than 16 MB of WAL behind the replay and that recent.
// A server that is being stopped ends its sessions one after the other, and so frees keys: who has got one shows by a connection
// that is made after that that the server still lets others in. Mostly it is that of the second session: if both keys were
// free when the first one was got.
// An old primary that still runs, and is reached by its holders, is told apart by the token alone.
//
// # Token
//
// The fencing number is timeline << 43 | transaction id. The transaction writes a message to the WAL and is
// flushed before the lock is used, so that no crash takes it back; a standby that is promoted may lag, but has a greater
// timeline. JavaScript has it exactly until timeline 1023. The transaction id must be below 2^43.
package postgres

import (
	"context"
	"time"

	"github.com/dblock-dev/dblock/lock"
)

const (
	// beatEvery is the time from one question to the server to the next.
	beatEvery = 2 * time.Second
	// answerTime is how long the server may take for the answer.
	answerTime = 3 * time.Second
	// reach is how long a lock can be held by one who is cut off: an answer that came late, and a question without.
	reach = 2 * answerTime
	// margin is for clocks and timers that are not exact.
	margin = time.Second
	// connectTime is how long a server may take to let us in.
	connectTime = 5 * time.Second
	// releaseTime is how long a release may take.
	releaseTime = 4500 * time.Millisecond
	// notInTheWay is how long one who has released the lock leaves server and processors to the next one.
	notInTheWay = 4 * time.Millisecond
	// parting is how long a session may outlast the use of it, in a process that goes on.
	parting = 20 * time.Millisecond
)

// newFor is how long after its birth the first start of a cluster may be: nobody had locks in it before.
var newFor = time.Minute

func init() {
	lock.Register("postgres", engine{})
	lock.Register("postgresql", engine{})
}

type engine struct{}

// Name tells what a URL names.
func (engine) Name(url string) (shown, identity string, err error) {
	t, err := parse(url)
	if err != nil {
		return "", "", err
	}
	return t.shown, t.identity, nil
}

// afterlife is how long those who are cut off from the server may still work under its locks.
func afterlife(grace time.Duration) time.Duration { return reach + max(0, grace) + margin }

// sleep waits; the error is the context's.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
