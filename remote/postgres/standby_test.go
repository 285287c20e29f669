package postgres

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dblock-dev/dblock/lock"
)

// replica makes a standby of a server.
func (s *server) replica(t *testing.T) *server {
	t.Helper()
	r := &server{dir: filepath.Join(place(t), "data"), port: freePort(t), address: "127.0.0.1", params: s.params}
	output(t, asPostgres(exec.Command(need(t, "pg_basebackup"), "-D", r.dir, "-R", "-c", "fast", "-X", "stream",
		"-d", fmt.Sprintf("host=127.0.0.1 port=%d user=postgres", s.port))))
	t.Cleanup(func() { r.stop("immediate") })
	r.start(t)
	return r
}

func TestStandby(t *testing.T) {
	s := newServer(t)
	url := s.url("standby")
	h := get(t, asking(url))
	r := s.replica(t)
	require.ErrorContains(t, refused(t, asking(r.url("standby"))), "the server is a standby")
	_, err := engine{}.Inspect(within(t, limit), r.url("standby"))
	require.ErrorContains(t, err, "the server is a standby")

	// Of several hosts the primary is found.
	both := fmt.Sprintf("postgres://postgres@127.0.0.1:%d,127.0.0.1:%d/postgres?sslmode=disable&lock=standby", r.port, s.port)
	held(t, both)

	// What came after the standby's last news from the primary is not known there.
	r.sql(t, "SELECT pg_wal_replay_pause()")
	require.NoError(t, h.Release())
	for range 50 {
		h = get(t, asking(url))
		require.NoError(t, h.Release())
	}
	h = get(t, asking(both))
	waiter := s.waiting(t, within(t, time.Minute), asking(both))
	s.kill(t)
	r.sql(t, "SELECT pg_wal_replay_resume()")
	output(t, r.command("pg_ctl", "-D", r.dir, "-w", "promote"))
	promoted := time.Now()
	lostIn(t, h, time.Second)
	require.Error(t, h.Release())
	require.ErrorIs(t, firstOf(engine{}.Acquire(within(t, limit), noWait(both))), lock.ErrHeld)
	<-waiter.done
	require.NoError(t, waiter.err)
	require.Greater(t, waiter.at.Sub(promoted), afterlife(grace)-time.Second, "old holders may still work")
	require.Greater(t, waiter.h.Token(), h.Token())
	require.EqualValues(t, 2, waiter.h.Token()>>xidBits)
	require.NoError(t, waiter.h.Release())

	// Later checkpoints are no sign of a promotion, once enough was written.
	r.sql(t, "CREATE TABLE much AS SELECT repeat('x', 1000) FROM generate_series(1, 20000)")
	r.sql(t, "CHECKPOINT")
	require.True(t, free(t, both))
}

// A primary that has become a standby under its holder.
func TestDemoted(t *testing.T) {
	s := newServer(t)
	h := get(t, asking(s.url("demoted")))
	require.ErrorContains(t, verdict(h.first.session, [][]byte{[]byte(fmt.Sprint(h.first.pg.PID())), []byte("t"), []byte("t")}), "standby")
}
