package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dblock-dev/dblock/lock"
)

// breakTime is how long the server may take to end a session.
const breakTime = 5 * time.Second

// party is a session that has one of the keys, or waits.
type party struct {
	seen
	pid     int64
	started int64 // when the session was, in microseconds; 0 if that is not to be seen
	now     int64 // the server's clock, in milliseconds
	since   int64 // when it has said something, in milliseconds; 0 if that is not to be seen
	key     int64 // which it has; 0 for none
	mode    lock.Mode
}

// id names the hold of this session.
func (p party) id() string { return fmt.Sprintf("%08x%016x", uint32(p.pid), uint64(p.started)) }

// idSize is how long it is; those of readers are in a row.
const idSize = 24

const stamp = "(extract(epoch FROM %s) * %d)::bigint"

// parties is the statement that finds them.
func (t *target) parties() string {
	const who = "a.application_name, a.query, coalesce(a.client_hostname, host(a.client_addr)), "
	times := fmt.Sprintf(stamp+", "+stamp+", "+stamp, "a.backend_start", 1000000, "clock_timestamp()", 1000, "a.state_change", 1000)
	has := func(which int, key int64) string {
		return "SELECT l.pid, " + who + times + fmt.Sprintf(", %d, l.mode FROM (SELECT pid, mode FROM pg_locks WHERE %s) AS l LEFT JOIN pg_stat_activity AS a USING (pid)", which, inLocks(key))
	}
	return has(1, t.key) + " UNION ALL " + has(2, t.after) +
		" UNION ALL SELECT a.pid, " + who + times + ", 0, NULL FROM pg_stat_activity AS a WHERE a.datname = current_database() AND a.application_name LIKE " +
		quote(waits+t.hex()+" %")
}

// look asks the server for them, and for its youth.
func (s *session) look(ctx context.Context, more string) (all []party, row [][]byte, err error) {
	results, err := s.query(ctx, s.target.parties()+"; "+more)
	if err != nil {
		return nil, nil, s.target.explain(err)
	}
	if len(results) != 2 || len(results[1].Rows) != 1 {
		return nil, nil, s.target.failed(errors.New("the server does not answer what it was asked"))
	}
	for _, r := range results[0].Rows {
		p := party{
			seen: seen{name: string(r[1]), text: string(r[2]), address: string(r[3])},
			pid:  number(r[0]), started: number(r[4]), now: number(r[5]), since: number(r[6]),
		}
		switch number(r[7]) {
		case 1:
			p.key = s.target.key
		case 2:
			p.key = s.target.after
		}
		if string(r[8]) == "ShareLock" {
			p.mode = lock.Shared
		}
		all = append(all, p)
	}
	slices.SortStableFunc(all, func(a, b party) int { return cmp.Compare(a.started, b.started) })
	return all, results[1].Rows[0], nil
}

// open is a session of one who looks only.
func open(ctx context.Context, url string) (*session, error) {
	t, err := parse(url)
	if err != nil {
		return nil, err
	}
	s, err := t.connect(ctx, looks, 0)
	var away *awayError
	switch {
	case err == nil:
		row, err := s.ask(ctx, "SELECT pg_backend_pid()")
		if err != nil {
			err = t.explain(err)
		} else if len(row) == 1 {
			err = t.direct(s, row[0])
		}
		if err != nil {
			s.close()
			return nil, plainly(ctx, err)
		}
		return s, nil
	case ctx.Err() == context.Canceled:
		return nil, ctx.Err()
	case errors.As(err, &away):
		return nil, away.failed
	}
	return nil, err
}

// Inspect finds out who has the lock and who waits.
func (engine) Inspect(ctx context.Context, url string) (*lock.Report, error) {
	s, err := open(ctx, url)
	if err != nil {
		return nil, err
	}
	defer s.close()
	all, row, err := s.look(ctx, "SELECT pg_is_in_recovery(), CASE WHEN NOT pg_is_in_recovery() THEN "+youth()+" END")
	if err != nil {
		return nil, plainly(ctx, err)
	}
	if string(row[0]) != "f" {
		return nil, s.target.failed(errors.New("the server is a standby"))
	}
	return s.target.report(all, row[1]), nil
}

// plainly is an error without what it means to one who waits.
func plainly(ctx context.Context, err error) error {
	var away *awayError
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &away):
		return away.failed
	}
	return err
}

// report makes of what was found what people want to know.
func (t *target) report(all []party, young []byte) *lock.Report {
	r := &lock.Report{State: lock.StateFree, WaitersKnown: true}
	var holders, almost, remain []party
	for _, p := range all {
		switch {
		case p.key == 0:
			r.Waiters = append(r.Waiters, p.process())
		case p.key == t.key && p.waiting():
			almost = append(almost, p)
		case p.key == t.key:
			holders = append(holders, p)
		}
	}
	// Who has the key may still wait for that of the aftermath. Who has both has the lock, and shows it in a moment; or waits with
	// them for the end of those who had them when the server was another one.
	left := remaining(young, lock.DefaultKillAfter)
	for _, p := range all {
		if p.key != t.after {
			continue
		}
		mine := slices.IndexFunc(almost, func(q party) bool { return q.who() == p.who() })
		switch {
		case mine < 0:
			remain = append(remain, p)
		case left <= 0:
			holders = append(holders, almost[mine])
		}
	}
	switch {
	case len(holders) > 0:
		r.Evidence = "the server says so"
	case len(remain) > 0:
		holders = remain
		r.Evidence = "the session that had it was ended, and what worked under it may still be ending"
	case left > 0:
		r.State = lock.StateHeld
		ago := (afterlife(lock.DefaultKillAfter) - left).Round(time.Second)
		r.Evidence = fmt.Sprintf("the server was started %v ago; what worked under its locks before may still be ending", ago)
		return r
	default:
		r.Evidence = "no session has it"
		return r
	}
	first := holders[0]
	h := first.holder()
	h.Mode = first.mode
	if first.since > 0 {
		h.Timestamp = time.UnixMilli(first.since)
	}
	r.Holder, r.State = &h, lock.StateHeld
	if first.mode == lock.Shared {
		r.State = lock.StateShared
		for _, p := range holders {
			r.Readers = append(r.Readers, p.process())
		}
	}
	for _, p := range holders {
		r.ID += p.id()
	}
	if !h.Acquired.IsZero() {
		r.Age = time.Duration(first.now-h.Acquired.UnixMilli()) * time.Millisecond
	} else if first.started > 0 {
		r.Age = time.Duration(first.now-first.started/1000) * time.Millisecond
	}
	return r
}

// who is the process that a session is for.
func (p party) who() string {
	h := p.holder()
	return fmt.Sprintf("%d@%s", h.PID, h.Host)
}

// process is for whom a session is, as a process.
func (p party) process() lock.Process {
	h := p.holder()
	q := lock.Process{PID: h.PID, Host: h.Host, Process: h.Process, Command: h.Command, Info: h.Info, UID: h.UID, Mode: h.Mode, Dblock: h.Dblock}
	if p.started > 0 {
		q.Age = time.Duration(p.now-p.started/1000) * time.Millisecond
	}
	return q
}

// Break ends the sessions of the hold with that ID, and waits until the server has done so. The one that
// has the key of the aftermath is its holder's to end, as long as that has the other.
func (engine) Break(ctx context.Context, url, id string) error {
	s, err := open(ctx, url)
	if err != nil {
		return err
	}
	defer s.close()
	if len(id) == 0 || len(id)%idSize != 0 || strings.Trim(id, "0123456789abcdef") != "" {
		return s.target.misused("that is not the ID of one of its holds", "")
	}
	ctx, stop := context.WithTimeout(ctx, breakTime)
	defer stop()
	for again := 5 * time.Millisecond; ; again = min(2*again, 100*time.Millisecond) {
		all, _, err := s.look(ctx, "SELECT 1")
		if err != nil {
			return plainly(ctx, err)
		}
		var pids []string
		for _, p := range all {
			if p.key != 0 && contains(id, p.id()) {
				pids = append(pids, strconv.FormatInt(p.pid, 10))
			}
		}
		if len(pids) == 0 {
			return nil
		}
		for _, pid := range pids {
			if _, err := s.row(ctx, "SELECT pg_terminate_backend("+pid+")"); err != nil {
				return plainly(ctx, s.target.explain(err))
			}
		}
		if err := sleep(ctx, again); err != nil {
			return s.target.failed(errors.New("the server does not end the session that has it"))
		}
	}
}

// contains reports whether an ID is one of several in a row.
func contains(ids, id string) bool {
	for ; len(ids) >= idSize; ids = ids[idSize:] {
		if ids[:idSize] == id {
			return true
		}
	}
	return false
}
