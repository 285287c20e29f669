package postgres

import (
	"fmt"
	"time"

	"github.com/dblock-dev/dblock/lock"
)

// inLocks is the condition for rows of pg_locks that they are about a key, and granted.
func inLocks(key int64) string {
	return fmt.Sprintf("locktype = 'advisory' AND objsubid = 1 AND granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"+
		" AND classid = %d AND objid = %d", uint32(uint64(key)>>32), uint32(uint64(key)))
}

// try gets an advisory lock, if that is possible at once.
func try(key int64, mode lock.Mode) string {
	if mode == lock.Shared {
		return fmt.Sprintf("pg_try_advisory_lock_shared(%d)", key)
	}
	return fmt.Sprintf("pg_try_advisory_lock(%d)", key)
}

// unlock gives it back.
func unlock(key int64, mode lock.Mode) string {
	if mode == lock.Shared {
		return fmt.Sprintf("pg_advisory_unlock_shared(%d)", key)
	}
	return fmt.Sprintf("pg_advisory_unlock(%d)", key)
}

// tryFirst is the statement of one who wants the key: the session's process, whether the server is a standby, whether
// the key was got, since when the server runs, whether that is so short, or so much has happened since, that youth is to be asked for,
// whether this one is the heir, if it is to try for that, and, if the key was got, whether that of the aftermath was free then. Behind a pooler, to whom the session belongs, it gets nothing.
func (t *target) tryFirst(s *session, mode lock.Mode, grace time.Duration, heir bool) string {
	inherit := "NULL"
	if heir {
		inherit = "CASE WHEN NOT got THEN " + try(t.next, lock.Exclusive) + " END"
	}
	return fmt.Sprintf("SELECT pid, standby, got, pg_postmaster_start_time(), pg_last_wal_replay_lsn() IS NOT NULL OR clock_timestamp() - pg_postmaster_start_time() < '%g s', ", afterlife(grace).Seconds()) +
		inherit + ", CASE WHEN got THEN CASE WHEN " + try(t.after, mode) + " THEN " + unlock(t.after, mode) + " ELSE false END END" +
		" FROM (SELECT pg_backend_pid() AS pid, pg_is_in_recovery() AS standby, CASE WHEN " + s.direct() + " AND NOT pg_is_in_recovery() THEN " + try(t.key, mode) + " END AS got OFFSET 0) AS tried"
}

// direct is the condition that it is the server itself that one talks to: see target.direct.
func (s *session) direct() string { return fmt.Sprintf("pg_backend_pid() = %d", s.pg.PID()) }

// draw is that of one who has the key: of what a token is made, and the time.
func (t *target) draw() string {
	return "SELECT txid_current(), " + timeline + ", pg_logical_emit_message(true, 'dblock', " + quote(t.hex()) + "), " + clock
}

// trySecond is that of one who has the key, in the first session, and wants that of the aftermath: the session's process, since when the
// server runs, and whether the key was got. That is NULL if the other one could be had as well: then
// this is not the server of the first session, or has no locks that work.
func (t *target) trySecond(s *session, mode lock.Mode) string {
	return "SELECT pg_backend_pid(), pg_postmaster_start_time(), CASE WHEN " + s.direct() + " AND NOT " + try(t.key, lock.Exclusive) + " THEN " + try(t.after, mode) + " END"
}

// clock is the server's, in milliseconds.
const clock = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint"

// timeline is the number of the one that is written.
const timeline = "('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::bigint"

// beat is what a holder asks: the session's process, whether the server is a standby, and whether the key is held.
func beat(key int64) string {
	return "SELECT pg_backend_pid(), pg_is_in_recovery(), EXISTS (SELECT FROM pg_locks WHERE pid = pg_backend_pid() AND " + inLocks(key) + ")"
}

// youth is an expression: how many seconds ago this server may have been another one, which had locks; NULL if it never was. It is
// none for a standby.
func youth() string {
	const replayed = "pg_last_wal_replay_lsn() IS NOT NULL"
	start := fmt.Sprintf("CASE WHEN pg_postmaster_start_time() > to_timestamp((system_identifier >> 32)::float8 + %g) THEN pg_postmaster_start_time() END", newFor.Seconds())
	// A crash does not end the postmaster. It makes it forget the statistics, and lets a checkpoint follow the replay.
	crash := "CASE WHEN " + replayed + " THEN (SELECT CASE WHEN stats_reset > pg_postmaster_start_time() THEN stats_reset END FROM pg_stat_archiver) END"
	promotion := "CASE WHEN " + replayed + " THEN (SELECT CASE WHEN timeline_id <> " + timeline + " THEN clock_timestamp() " +
		"WHEN redo_lsn - pg_last_wal_replay_lsn() < 16777216 THEN checkpoint_time END FROM pg_control_checkpoint()) END"
	return "(SELECT extract(epoch FROM clock_timestamp() - greatest(" + start + ", " + crash + ", " + promotion + ")) FROM pg_control_system())"
}
