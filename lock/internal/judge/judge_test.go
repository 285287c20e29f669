package judge

import (
	"fmt"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dblock-dev/dblock/lock/internal/notice"
	"github.com/dblock-dev/dblock/lock/internal/proc"
)

// A host on which there are three processes, the first one of them 1.
const (
	self  = 4321
	alive = 5000 // since just now
	dead  = 6000
)

var me = proc.Me{PID: self, Started: 77, Boot: "this-boot", PIDNS: 4026531836, Host: "here", UID: 1000}

type table map[int]uint64 // when each was started, in clock ticks since boot

// uptime is how long the host has been running, in clock ticks.
const uptime = 100 * 3600 * 24 * 7

var processes = table{1: 1, self: me.Started, alive: uptime}

func (p table) Look(pid int) proc.Life {
	switch _, lives := p[pid]; {
	case lives:
		return proc.Alive
	case pid <= 0:
		return proc.Unknown
	}
	return proc.Gone
}

func (p table) Stat(pid int) (proc.Status, bool) {
	started, ok := p[pid]
	return proc.Status{State: 'S', Threads: 1, Parent: 1, Started: started}, ok
}

func (table) Age(started uint64) (time.Duration, bool) {
	return time.Duration(uptime-started) * 10 * time.Millisecond, started != 0
}

func (table) Seen() bool { return true }

func ms(t time.Time) int64 { return t.UnixMilli() }

// of judges these bytes on that host.
func of(f Facts, text string) Verdict {
	f.Me, f.Processes = me, processes
	return f.Of(sighting([]byte(text)))
}

// sighting is what Read makes of a file with these bytes.
func sighting(b []byte) *notice.Sighting {
	s := &notice.Sighting{Bytes: b[:min(len(b), notice.MaxSize)], Clipped: len(b) > notice.MaxSize}
	s.Info, s.Err = notice.Parse(s.Bytes)
	return s
}

// peerNotice is what the TypeScript peer writes.
func peerNotice(pid int, host string, timestamp int64) string {
	return fmt.Sprintf(`{"pid":%d,"timestamp":%d,"host":%q,"process":"mcp-server"}`, pid, timestamp, host)
}

// dblockNotice is a notice of our own, made now, as change has it.
func dblockNotice(now time.Time, change func(*notice.Info)) string {
	i := notice.Info{
		PID: me.PID, Timestamp: ms(now), Dated: true, Host: me.Host, Process: "dblock",
		Dblock: &notice.Dblock{
			Version: notice.Version, Mode: notice.Exclusive, Token: 1, ID: "0123456789abcdef",
			Acquired: ms(now), Started: me.Started, Boot: me.Boot, PIDNS: me.PIDNS, UID: me.UID,
		},
	}
	if change != nil {
		change(&i)
	}
	return string(notice.Format(i))
}

// TestJudging is the table of docs/protocol.md, row by row.
func TestJudging(t *testing.T) {
	t.Parallel()
	now := time.Now()
	const (
		timeout  = 30 * time.Second
		thisRoom = 4711
	)
	ago := func(d time.Duration) int64 { return ms(now.Add(-d)) }
	dblock := func(change func(*notice.Info)) string { return dblockNotice(now, change) }
	elsewhere := func(i *notice.Info) { i.Host, i.Dblock.Boot = "elsewhere", "another-boot" }

	for _, c := range []struct {
		name      string
		notice    string
		unchanged time.Duration
		byAge     bool
		noRoom    bool
		stale     bool
		again     time.Duration // 0: whatever it is
	}{
		{name: "dblock, this boot, gone", notice: dblock(func(i *notice.Info) { i.PID = dead }), stale: true},
		{name: "dblock, this boot, gone, judged without the room", notice: dblock(func(i *notice.Info) { i.PID = dead }), noRoom: true, stale: true},
		{name: "dblock, this boot, its pid is another process now", notice: dblock(func(i *notice.Info) { i.PID, i.Dblock.Started = alive, 1 }), stale: true},
		{name: "dblock, this boot, alive and fresh, but the room is ours", notice: dblock(nil), again: timeout},
		{name: "dblock, this boot, alive, silent for long", notice: dblock(func(i *notice.Info) { i.Timestamp = ago(timeout + time.Second) }), stale: true},
		{name: "dblock, this boot, alive, silent for long, no room", notice: dblock(func(i *notice.Info) { i.Timestamp = ago(time.Hour) }), noRoom: true, again: timeout},
		{name: "dblock, this boot, stopped by Ctrl-Z", notice: dblock(func(i *notice.Info) { i.Timestamp = ago(-24 * time.Hour) }), again: timeout},
		{name: "dblock, this boot, other pid namespace", notice: dblock(func(i *notice.Info) { i.Dblock.PIDNS++; i.PID = dead }), stale: true},
		{name: "dblock, this boot, other pid namespace, no room", notice: dblock(func(i *notice.Info) { i.Dblock.PIDNS++; i.PID = dead }), noRoom: true, again: timeout},
		{name: "dblock, this boot, other pid namespace, this room", notice: dblock(func(i *notice.Info) { i.Dblock.PIDNS++; i.Dblock.Room = thisRoom }), stale: true},
		{name: "dblock, this boot, other pid namespace, other room", notice: dblock(func(i *notice.Info) { i.Dblock.PIDNS++; i.Dblock.Room = thisRoom + 1 }), again: timeout},
		{name: "dblock, this boot, other pid namespace, other room, silent", notice: dblock(func(i *notice.Info) { i.Dblock.PIDNS++; i.Dblock.Room = thisRoom + 1 }), unchanged: timeout, stale: true},
		{name: "dblock, this boot, gone, other room", notice: dblock(func(i *notice.Info) { i.PID = dead; i.Dblock.Room = thisRoom + 1 }), stale: true},
		{name: "dblock, this boot, its pid is another process now, other room", notice: dblock(func(i *notice.Info) { i.PID, i.Dblock.Started, i.Dblock.Room = alive, 1, thisRoom+1 }), stale: true},
		{name: "dblock, this boot, alive, other room, dated long ago", notice: dblock(func(i *notice.Info) { i.Timestamp, i.Dblock.Room = ago(time.Hour), thisRoom+1 }), again: timeout},
		{name: "dblock, older boot", notice: dblock(func(i *notice.Info) { i.Dblock.Boot = "another-boot"; i.PID = alive }), stale: true},
		{name: "dblock, other host, young", notice: dblock(elsewhere), again: timeout},
		{name: "dblock, other host, old but just seen", notice: dblock(func(i *notice.Info) { elsewhere(i); i.Timestamp = ago(time.Hour) }), again: timeout},
		{name: "dblock, other host, unchanged for a while", notice: dblock(elsewhere), unchanged: 20 * time.Second, again: 10 * time.Second},
		{name: "dblock, other host, unchanged for the timeout", notice: dblock(elsewhere), unchanged: timeout, stale: true},
		{name: "dblock, other host, never for its age", notice: dblock(func(i *notice.Info) { elsewhere(i); i.Timestamp = ago(time.Hour) }), byAge: true, again: timeout},

		{name: "peer, gone", notice: peerNotice(dead, me.Host, ms(now)), stale: true},
		{name: "peer, gone, dated ahead", notice: peerNotice(dead, me.Host, ago(-time.Hour)), stale: true},
		{name: "peer, pid reused", notice: peerNotice(alive, me.Host, ago(48*time.Hour)), stale: true},
		{name: "peer, alive, young", notice: peerNotice(alive, me.Host, ms(now))},
		{name: "peer, alive, ahead", notice: peerNotice(alive, me.Host, ago(-time.Hour))},
		{name: "peer, alive since before, old", notice: peerNotice(1, me.Host, ago(31*time.Second))},
		{name: "peer, alive since before, old, by age", notice: peerNotice(1, me.Host, ago(31*time.Second)), byAge: true, stale: true},
		{name: "peer, alive, young, by age", notice: peerNotice(alive, me.Host, ms(now)), byAge: true, again: timeout},
		{name: "peer, alive, undated", notice: fmt.Sprintf(`{"pid":%d,"host":%q}`, alive, me.Host)},
		{name: "peer, alive, dated in words", notice: fmt.Sprintf(`{"pid":%d,"host":%q,"timestamp":"0"}`, alive, me.Host)},

		{name: "peer, other host, young", notice: peerNotice(dead, "elsewhere", ago(10*time.Second)), again: 20*time.Second + time.Millisecond},
		{name: "peer, other host, exactly the timeout", notice: peerNotice(dead, "elsewhere", ago(timeout)), again: time.Millisecond},
		{name: "peer, other host, old", notice: peerNotice(dead, "elsewhere", ago(timeout+time.Millisecond)), stale: true},
		{name: "peer, other host, ahead", notice: peerNotice(dead, "elsewhere", ago(-time.Hour)), again: timeout},
		{name: "peer, other host, ahead, unchanged for the timeout", notice: peerNotice(dead, "elsewhere", ago(-time.Hour)), unchanged: timeout, stale: true},
		{name: "peer, other host, in microseconds", notice: peerNotice(dead, "elsewhere", now.UnixMicro()), again: timeout},
		{name: "peer, other host, in nanoseconds", notice: peerNotice(dead, "elsewhere", now.UnixNano()), again: timeout},
		{name: "peer, other host, far ahead", notice: `{"pid":7,"host":"elsewhere","timestamp":1e300}`, again: timeout},
		{name: "peer, other host, long before the epoch", notice: `{"pid":7,"host":"elsewhere","timestamp":-1e300}`, stale: true},
		{name: "peer, alive, in microseconds", notice: peerNotice(alive, me.Host, now.UnixMicro())},
		{name: "peer, alive, far ahead", notice: fmt.Sprintf(`{"pid":%d,"host":%q,"timestamp":1e300}`, alive, me.Host)},
		{name: "peer, alive, ahead, by age", notice: peerNotice(alive, me.Host, now.UnixMicro()), byAge: true},
		{name: "peer, other host, undated", notice: `{"pid":7,"host":"elsewhere"}`, again: timeout},
		{name: "peer, other host, undated, unchanged for the timeout", notice: `{"pid":7,"host":"elsewhere"}`, unchanged: timeout, stale: true},
		{name: "peer without pid, young", notice: fmt.Sprintf(`{"timestamp":%d,"host":%q}`, ms(now), me.Host), again: timeout + time.Millisecond},
		{name: "peer with an impossible pid, old", notice: peerNotice(-1, me.Host, ago(time.Hour)), stale: true},
		{name: "an object without anything", notice: `{}`, again: timeout},

		{name: "empty", notice: "", again: Grace},
		{name: "empty for a while", notice: "", unchanged: 1500 * time.Millisecond, again: 500 * time.Millisecond},
		{name: "empty for too long", notice: "", unchanged: Grace, stale: true},
		{name: "empty, by age", notice: "", byAge: true, again: Grace},
		{name: "half written", notice: `{"pid":1,"timest`, again: Grace},
		{name: "not an object", notice: `[]`, again: Grace},
		{name: "invalid for too long", notice: "locked", unchanged: Grace, stale: true},
		{name: "too large", notice: `{"process":"` + strings.Repeat("x", 5000) + `"}`, unchanged: Grace, again: timeout},
		{name: "too large for too long", notice: `{"process":"` + strings.Repeat("x", 5000) + `"}`, unchanged: timeout, again: timeout},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := of(Facts{Now: ms(now), Unchanged: c.unchanged, Timeout: timeout, ByAge: c.byAge, InRoom: !c.noRoom, Room: thisRoom}, c.notice)
			require.Equal(t, c.stale, v.Stale, v.Why)
			require.NotEmpty(t, v.Why)
			if c.stale {
				return
			}
			require.Positive(t, v.Again)
			if c.again != 0 {
				require.Equal(t, c.again, v.Again)
			}
		})
	}
}

// freshForPeers is the TypeScript peers' rule, on numbers as JavaScript has them.
func freshForPeers(i notice.Info, now int64) bool {
	return !i.Dated || !(float64(now)-float64(i.Timestamp) > 30000)
}

func FuzzJudge(f *testing.F) {
	now := time.Now()
	me := proc.Self()
	f.Add([]byte(peerNotice(os.Getpid(), me.Host, ms(now))))
	f.Add([]byte(peerNotice(os.Getpid(), "elsewhere", ms(now))))
	f.Add([]byte(peerNotice(0, me.Host, ms(now))))
	f.Add([]byte(dblockNotice(now, nil)))
	for _, ts := range []string{"null", `"1"`, "1e300", "-1", "-1e300", "9007199254740993", "1.5", "1e13", "1763876543210000", fmt.Sprint(now.UnixNano()), fmt.Sprint(int64(math.MaxInt64))} {
		f.Add([]byte(`{"pid":7,"timestamp":` + ts + `,"host":"elsewhere"}`))
		f.Add([]byte(fmt.Sprintf(`{"pid":%d,"timestamp":%s,"host":%q}`, os.Getpid(), ts, me.Host)))
	}
	started, _ := proc.Stat(os.Getpid())
	lived, _ := proc.Age(started.Started)
	f.Fuzz(func(t *testing.T, b []byte) {
		s := sighting(b)
		j := Facts{Me: me, Processes: Here{}, Now: ms(now), Timeout: PeersTimeout, InRoom: true}
		v := j.Of(s)
		require.NotEmpty(t, v.Why)
		if !v.Stale {
			require.Positive(t, v.Again)
		}
		if s.Err != nil {
			require.False(t, v.Stale, "it may be in the making")
			return
		}
		if s.Info.Dblock != nil || !freshForPeers(s.Info, j.Now) {
			return
		}
		// Whoever wrote it lives, and did so before it was written.
		if s.Info.Dated && s.Info.Timestamp < j.Now-lived.Milliseconds() {
			return
		}
		s.Info.PID, s.Info.Host = os.Getpid(), me.Host
		require.False(t, j.Of(s).Stale, "a live holder's, fresh by the peers' rule: %q", b)
		j.ByAge = true
		require.False(t, j.Of(s).Stale, "a live holder's, fresh by the peers' rule: %q", b)
		s.Info.Host = "elsewhere"
		require.False(t, j.Of(s).Stale, "perhaps a live holder's, fresh by the peers' rule: %q", b)
	})
}

func BenchmarkJudge(b *testing.B) {
	now := time.Now()
	s := sighting([]byte(dblockNotice(now, nil)))
	f := Facts{Me: me, Processes: Here{}, Now: ms(now), Timeout: PeersTimeout}
	for b.Loop() {
		f.Of(s)
	}
}

// unborn are processes of which only their life is known, as where there is no /proc.
type unborn struct{ table }

func (unborn) Stat(int) (proc.Status, bool) { return proc.Status{}, false }

// TestUnknownStart has a notice whose pid a later process may have: who has the room knows.
func TestUnknownStart(t *testing.T) {
	t.Parallel()
	const room = 4711
	now := time.Now()
	for _, c := range []struct {
		name   string
		mode   string
		of     uint64 // the notice's room
		inRoom bool
		stale  bool
	}{
		{"in his room", notice.Exclusive, room, true, true},
		{"in another room", notice.Exclusive, room + 1, true, false},
		{"in a room that he does not name", notice.Exclusive, 0, true, false},
		{"outside", notice.Exclusive, room, false, false},
		{"beside readers", notice.Shared, room, true, false},
	} {
		f := Facts{Me: me, Processes: unborn{processes}, Now: ms(now), Timeout: time.Minute, InRoom: c.inRoom, Room: room}
		text := dblockNotice(now, func(i *notice.Info) { i.PID, i.Dblock.Mode, i.Dblock.Room = alive, c.mode, c.of })
		require.Equal(t, c.stale, f.Of(sighting([]byte(text))).Stale, c.name)
	}
}
