// Package historytest makes histories up: for tests of what reads them, and for pictures.
package historytest

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/dblock-dev/dblock/history"
)

// request is somebody who wants the lock.
type request struct {
	at       time.Time
	process  string
	command  string
	info     string
	uid      int
	shared   bool
	priority string
	takes    time.Duration
	patience time.Duration // how long it waits; 0: for ever
	event    history.Event // how it ends; empty: with exit code 0
	by       *history.Party
}

// night is a lock of which somebody told what will happen to it.
type night struct {
	random   *rand.Rand
	requests []request
	pid      int
}

// Begin is when the nights begin.
var Begin = time.Date(2025, 11, 27, 22, 0, 0, 0, time.UTC)

// Night is what happens to a database from ten in the evening to six in the morning: jobs every
// minute and every five, people's sessions, a backup, and migrations at two, when somebody is
// killed, forced, robbed, and others give up. The same each time.
func Night() []history.Event {
	n := &night{random: rand.New(rand.NewPCG(1, 2)), pid: 1200}
	end := 8 * time.Hour
	n.every(time.Minute, end, request{process: "cron-sync", command: "sync-orders", uid: 33, takes: 4 * time.Second})
	n.every(5*time.Minute, end, request{process: "metrics", command: "collect", uid: 998, takes: 700 * time.Millisecond, patience: 30 * time.Second})
	n.every(17*time.Minute, end, request{process: "report-reader", command: "psql", uid: 1001, shared: true, takes: 95 * time.Second})
	n.every(23*time.Minute, end, request{process: "report-export", command: "python3", uid: 1001, shared: true, takes: 50 * time.Second})
	for _, session := range []struct{ from, to time.Duration }{{6 * time.Minute, 92 * time.Minute}, {4 * time.Hour, 4*time.Hour + 35*time.Minute}, {5*time.Hour + 20*time.Minute, 5*time.Hour + 50*time.Minute}} {
		for at := session.from; at < session.to; at += n.about(38 * time.Second) {
			n.want(at, request{process: "mcp-server", command: "node", info: "assistant session", uid: 1000, takes: n.about(1500 * time.Millisecond)})
		}
	}
	// At three the backup meets a long migration, and everybody waits.
	n.want(30*time.Minute, request{process: "vacuum", command: "sqlite3", uid: 0, priority: "low", takes: 6 * time.Minute})
	n.want(3*time.Hour, request{process: "nightly-backup", command: "pg_dump", info: "to s3, weekly full", uid: 0, shared: true, takes: 13 * time.Minute})
	for i := range 4 {
		n.want(2*time.Hour+time.Duration(i)*3*time.Minute, request{process: "migrate", command: "npm", info: fmt.Sprintf("00%d_%s.sql", 41+i, []string{"orders_index", "split_names", "backfill", "drop_old"}[i]), uid: 1000, priority: "high",
			takes: time.Duration([]int{9, 70, 470, 20}[i]) * time.Second, event: history.Event{Code: []int{0, 0, 0, 1}[i]}})
	}
	n.want(2*time.Hour+8*time.Minute, request{process: "deploy", command: "make", info: "release 2025.48", uid: 1000, takes: 20 * time.Second, patience: 2 * time.Minute})
	n.want(3*time.Hour+4*time.Minute, request{process: "deploy", command: "make", info: "release 2025.48", uid: 1000, takes: 20 * time.Second, patience: 5 * time.Minute})
	n.want(3*time.Hour+40*time.Minute, request{process: "etl", command: "python3", uid: 1001, takes: 4 * time.Minute, event: history.Event{Kind: history.Killed}})
	n.want(4*time.Hour+12*time.Minute, request{process: "etl", command: "python3", info: "second attempt", uid: 1001, takes: 17 * time.Minute, event: history.Event{Kind: history.Forced, Signal: 15}, by: &history.Party{PID: 20871, UID: 0, Process: "operator", Command: "dblock"}})
	n.want(5*time.Hour+4*time.Minute, request{process: "reindex", command: "sqlite3", uid: 1000, takes: 3 * time.Minute, event: history.Event{Kind: history.Lost}, by: &history.Party{PID: 9911, UID: -1, Process: "legacy-tool", Command: "node"}})
	n.want(5*time.Hour+31*time.Minute, request{process: "analyze", command: "psql", uid: 1001, takes: 5 * time.Minute, event: history.Event{Ended: history.Late, Signal: 15}})
	n.want(5*time.Hour+45*time.Minute, request{process: "vacuum", command: "sqlite3", uid: 0, takes: 40 * time.Second, event: history.Event{Heals: 1}})
	n.want(6*time.Hour+51*time.Minute, request{process: "legacy-tool", uid: -1, takes: 90 * time.Second, event: history.Event{Kind: history.TookOver}})
	return n.happen()
}

// Busy is a history of that many requests, of a dozen labels who get into each other's way.
func Busy(requests int) []history.Event {
	n := &night{random: rand.New(rand.NewPCG(3, 4)), pid: 2000}
	labels := []string{"api", "worker-1", "worker-2", "worker-3", "worker-4", "cron", "import", "export", "search-index", "mailer", "cleanup", "reports"}
	at := time.Duration(0)
	for i := range requests {
		at += n.about(1600 * time.Millisecond)
		label := labels[n.random.IntN(len(labels))]
		n.want(at, request{process: label, command: "node", uid: 1000 + len(label)%3, shared: label == "reports", takes: n.about(time.Duration(400+(i/500%7)*160) * time.Millisecond), patience: 40 * time.Second})
	}
	return n.happen()
}

func (n *night) want(at time.Duration, r request) {
	r.at = Begin.Add(at)
	n.requests = append(n.requests, r)
}

func (n *night) every(period, end time.Duration, r request) {
	takes := r.takes
	for at := period; at < end; at += period {
		r.takes = n.about(takes)
		n.want(at+time.Duration(n.random.IntN(900))*time.Millisecond, r)
	}
}

// about is a duration from a half to three halves, and now and then three times as long.
func (n *night) about(d time.Duration) time.Duration {
	f := 0.5 + n.random.Float64()
	if n.random.IntN(20) == 0 {
		f *= 2
	}
	return time.Duration(float64(d) * f).Truncate(time.Microsecond)
}

// happen serves the requests in turn; readers who follow each other share the lock.
func (n *night) happen() (events []history.Event) {
	slices.SortStableFunc(n.requests, func(a, b request) int { return a.at.Compare(b.at) })
	var holds []history.Event
	var free, shared time.Time // for one who wants it alone, and for a reader
	var token int64
	for _, r := range n.requests {
		n.pid += 1 + n.random.IntN(9)
		from := free
		if r.shared {
			from = shared
		}
		acquired := r.at
		if from.After(acquired) {
			acquired = from
		}
		e := r.event
		e.Version, e.Process, e.Command, e.Info, e.UID, e.PID, e.Host = history.Version, r.process, r.command, r.info, r.uid, n.pid, "db-1"
		e.Shared, e.Priority, e.Requested = r.shared, r.priority, r.at.UnixMilli()
		if r.patience > 0 && acquired.Sub(r.at) > r.patience {
			acquired = r.at.Add(r.patience)
			e.Kind, e.Ended, e.At, e.Waited = history.GaveUp, history.TimedOut, acquired.UnixMilli(), r.patience
			e.Blockers, e.Ahead = blockers(holds, e.Requested, e.At)
			events = append(events, e)
			continue
		}
		released := acquired.Add(r.takes)
		token = max(token+1, acquired.UnixMilli())
		e.Token, e.Acquired, e.Released, e.Waited, e.Held = token, acquired.UnixMilli(), released.UnixMilli(), acquired.Sub(r.at), r.takes
		e.At = e.Released
		e.Blockers, e.Ahead = blockers(holds, e.Requested, e.Acquired)
		if e.Kind == "" {
			e.Kind = history.Hold
		}
		holds = append(holds, e)
		events = append(events, outcome(e, r.by)...)
		if released.After(free) {
			free = released
		}
		if !r.shared {
			shared = released
		}
	}
	slices.SortStableFunc(events, func(a, b history.Event) int { return cmp.Compare(a.At, b.At) })
	return events
}

// outcome is what is told of a hold that ended in another way than it should.
func outcome(e history.Event, by *history.Party) []history.Event {
	note := history.Event{Version: e.Version, Kind: e.Kind, At: e.At, Token: e.Token, Process: e.Process, Command: e.Command, Info: e.Info, UID: e.UID, PID: e.PID, Host: e.Host, Acquired: e.Acquired, By: by}
	switch e.Kind {
	case history.Killed, history.TookOver:
		e.At += 800
		e.Requested, e.Waited, e.Blockers, e.Ahead = 0, 0, nil, 0
		e.By = &history.Party{PID: e.PID + 40, UID: 33, Process: "cron-sync", Command: "sync-orders", Token: e.At}
		return []history.Event{e}
	case history.Forced:
		e.Kind, e.Ended = history.Hold, history.Signaled
		return []history.Event{note, e}
	case history.Lost:
		e.Kind, e.Ended, e.By = history.Hold, history.LostIt, by
		return []history.Event{note, e}
	}
	if e.Ended == "" {
		e.Ended = history.Exited
	}
	if e.Heals == 0 {
		return []history.Event{e}
	}
	note.Kind, note.At = history.Healed, e.At-e.Held.Milliseconds()/2
	return []history.Event{note, e}
}

// blockers finds who had the lock in that time, in milliseconds since the epoch.
func blockers(holds []history.Event, from, to int64) (all []history.Blocker, n int) {
	for _, h := range holds[max(0, len(holds)-200):] {
		if d := min(h.Released, to) - max(h.Acquired, from); d > 0 {
			all = append(all, history.Blocker{Party: history.Party{PID: h.PID, UID: h.UID, Process: h.Process, Command: h.Command, Token: h.Token}, For: time.Duration(d) * time.Millisecond})
		}
	}
	slices.SortStableFunc(all, func(a, b history.Blocker) int { return cmp.Compare(b.For, a.For) })
	return all[:min(len(all), history.MaxBlockers)], len(all)
}
