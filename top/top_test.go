package top

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gdamore/tcell/v2"
	"github.com/stretchr/testify/require"

	"github.com/dblock-dev/dblock/history"
	"github.com/dblock-dev/dblock/internal/cli"
	"github.com/dblock-dev/dblock/lock"
)

var noon = time.Date(2026, 3, 1, 12, 0, 5, 0, time.Local)

// told is a hold that was released so long before noon.
func told(ago, waited, held time.Duration) *history.Event {
	at := noon.Add(-ago)
	return &history.Event{
		Kind: history.Hold, At: at.UnixMilli(), Process: "job", PID: 7, Ended: history.Exited, Waited: waited, Held: held,
		Acquired: at.Add(-held).UnixMilli(), Released: at.UnixMilli(), Requested: at.Add(-held - waited).UnixMilli(),
	}
}

func TestMinutes(t *testing.T) {
	t.Parallel()
	p := &past{keep: 10}
	p.add(told(5*time.Second, 3*time.Second, 20*time.Second), noon) // 11:59:40 to 12:00:00
	p.add(told(time.Hour, 0, time.Minute), noon)                    // long ago
	p.add(told(9*time.Minute+50*time.Second, 0, time.Hour), noon)   // from before that until 11:50:15
	p.add(told(-time.Hour, time.Second, time.Minute), noon)         // when the clock was set wrong
	p.add(&history.Event{Kind: history.GaveUp, At: noon.UnixMilli(), Waited: 7 * time.Second, Ended: history.TimedOut}, noon)
	m := p.minutes(&lock.Report{State: lock.StateFree}, noon, noon)
	require.Equal(t, []float64{1, 1, 0}, m.held[pieces-3:])
	require.Equal(t, []float64{0.5, 0, 0}, m.held[:3])
	require.Equal(t, 7*time.Second, m.worst)
	require.Equal(t, 2, m.came, "who came in the last ten minutes")
	require.Equal(t, 2, m.waited)
	require.Equal(t, 3.0, m.longest[pieces-3], "where the wait has ended")

	// Who has it now, and who waits now.
	r := &lock.Report{State: lock.StateHeld, Holder: &lock.Holder{}, Age: 2 * time.Second, Waiters: []lock.Process{{Age: 30 * time.Second}}}
	now := noon.Add(3 * time.Second)
	m = p.minutes(r, noon, now)
	require.Equal(t, 0.5, m.held[pieces-1], "from 12:00:03 to 12:00:08")
	require.Equal(t, 33*time.Second, m.worst)
	require.Zero(t, p.minutes(&lock.Report{State: lock.StateFree}, noon, noon.Add(time.Hour)).busy, "everything is long ago")
}

func TestPastIsBounded(t *testing.T) {
	t.Parallel()
	p := &past{keep: 3}
	for i := range 100 {
		e := told(0, 0, 0)
		e.Token = int64(i)
		p.add(e, noon)
		require.LessOrEqual(t, len(p.events), 2*p.keep)
	}
	last := p.last(2, func(*history.Event) bool { return true })
	require.Equal(t, []int64{99, 98}, []int64{last[0].Token, last[1].Token})
}

// scene is a model with all that there is to show.
func scene() *model {
	m := &model{order: byName, looked: true}
	evil := "ev\x1b[2Jil\u202e" + strings.Repeat("x", 200)
	p := &past{keep: 100}
	for i := range 40 {
		p.add(told(time.Duration(10*i)*time.Second, time.Duration(i)*time.Second, 4*time.Second), noon)
	}
	for _, k := range []history.Kind{history.GaveUp, history.Killed, history.TookOver, history.Healed, history.Lost, history.Forced, "later"} {
		p.add(&history.Event{Kind: k, At: noon.UnixMilli(), Process: evil, Command: "c", PID: 1}, noon)
	}
	holder := &lock.Holder{PID: 4711, Host: "elsewhere", Process: evil, Dblock: true, Command: "migrate", Info: evil}
	waiters := []lock.Process{
		{PID: 1, Process: evil, Command: evil, Age: time.Minute, Info: evil},
		{PID: 2, Command: "sh", Mode: lock.Shared, Priority: lock.Low, Stopped: true},
		{PID: 3, Process: "数据库备份", Command: "e\u0301tl"},
	}
	for i, v := range []*view{
		{name: "/srv/a/very/long/path/to/some/database/which/has/a/name/app.db", report: &lock.Report{State: lock.StateHeld, Holder: holder, Age: time.Hour, Waiters: waiters, WaitersKnown: true}},
		{name: "free.db", report: &lock.Report{State: lock.StateFree, WaitersKnown: true}},
		{name: "blocked.db", report: &lock.Report{State: lock.StateFree, Stopped: waiters[1:2], Waiters: waiters, WaitersKnown: true}},
		{name: "shared.db", report: &lock.Report{State: lock.StateShared, Holder: holder, Readers: waiters, Age: 3 * time.Second}},
		{name: "orphaned.db", report: &lock.Report{State: lock.StateOrphaned, Holder: holder, Left: waiters, Evidence: evil}},
		{name: "owned.db", report: &lock.Report{State: lock.StateHeld, Owners: waiters, Evidence: evil, Remaining: waiters}},
		{name: "stale.db", report: &lock.Report{State: lock.StateStale, Holder: holder, Evidence: evil, Barred: os.ErrPermission}},
		{name: "invalid.db", report: &lock.Report{State: lock.StateInvalid, Evidence: evil}},
		{name: "unreadable.db", err: errors.New("open x: " + evil)},
	} {
		v.past, v.at, v.DB = p, noon, v.name
		v.running = []lock.Running{{Process: lock.Process{PID: 5, Command: evil, Stopped: true}, Args: []string{evil, "a b"}, Dir: "/srv/\x1b"}}
		v.deadlines = map[int]time.Time{1: noon.Add(time.Minute * time.Duration(i))}
		m.take(v)
	}
	return m
}

// Every page, in every size that a terminal may have, fills the screen and no more, and nothing
// that somebody else has written commands the terminal.
func TestPagesFit(t *testing.T) {
	t.Parallel()
	for _, size := range [][2]int{{80, 24}, {40, 12}, {200, 60}, {60, 10}, {59, 9}, {20, 5}, {10, 3}, {5, 2}, {1, 1}} {
		for _, utf8 := range []bool{true, false} {
			for p := pageList; p <= pageForce; p++ {
				m := scene()
				for range m.views {
					m.page, m.scroll = p, 1
					m.forcing = &forcing{name: "x", question: "Somebody holds the lock.\n  Runs: " + strings.Repeat("sh ", 100) + "\n", answer: make(chan bool)}
					lines := newSheet(size[0], size[1], noon.Add(time.Second), utf8).draw(m)
					require.Len(t, lines, size[1], "%v page %d", size, p)
					for _, l := range lines {
						require.LessOrEqual(t, l.columns(), size[0], "%q", l.String())
						require.NotContains(t, l.String(), "\x1b")
						require.NotContains(t, l.String(), "\u202e")
					}
					m.move(1)
				}
			}
		}
	}
}

// shows is a page as text.
func shows(m *model, width, height int) string {
	var all []string
	for _, l := range newSheet(width, height, noon, true).draw(m) {
		all = append(all, strings.TrimRight(l.String(), " "))
	}
	return strings.Join(all, "\n")
}

func TestList(t *testing.T) {
	t.Parallel()
	m := &model{order: byName}
	wait := func(ds ...time.Duration) (ps []lock.Process) {
		for i, d := range ds {
			ps = append(ps, lock.Process{PID: 10 + i, Command: "sh", Age: d})
		}
		return ps
	}
	host, _ := os.Hostname()
	for _, v := range []*view{
		{name: "b.db", report: &lock.Report{State: lock.StateHeld, Age: 2 * time.Minute, WaitersKnown: true, Holder: &lock.Holder{PID: 1, Host: host, Process: "old"}}},
		{name: "c.db", report: &lock.Report{State: lock.StateHeld, Age: time.Second, WaitersKnown: true, Holder: &lock.Holder{PID: 2, Host: host, Process: "new"}, Waiters: wait(time.Second, 9*time.Second)}},
		{name: "a.db", report: &lock.Report{State: lock.StateFree, WaitersKnown: true}},
	} {
		v.past, v.at = &past{}, noon
		m.take(v)
	}
	list := func() string { return strings.Join(strings.Split(shows(m, 80, 24), "\n")[:5], "\n") }
	require.Equal(t, `dblock top  2 of 3 held, 2 waiting                                       by name
  DATABASE STATE        FOR  WAITING  HOLDER                          10 MIN
> a.db     free                                                       ··········
  b.db     held       2m00s           old (pid 1)                     ·······▄██
  c.db     held          1s   2 9s    new (pid 2)                     ·········▁`, list())
	m.order = byAge
	m.sort()
	require.Regexp(t, `(?s)b\.db.*c\.db.*a\.db`, list())
	require.Contains(t, list(), "> b.db", "the first one is chosen until the user has chosen one")
	m.move(2)
	m.order = byWaits
	m.sort()
	require.Regexp(t, `(?s)c\.db.*a\.db.*b\.db`, list())
	require.Contains(t, list(), "> a.db")
	m.drop("a.db")
	require.Contains(t, list(), "> b.db", "the next one, when that has gone")

	require.Equal(t, `dblock top  2 of 2 held, 2 waiting
  DATABASE STATE        FOR WAIT
  c.db     held          1s    2
> b.db     held       2m00s
────────────────────────────────────────
held  old (pid 1)  2m00s
Last 10 minutes
  held       ·········███  20 %
  waits      ············  nobody waited
  contention ············

enter open  l log  f force  s sort`, shows(m, 40, 12))
}

// A hold in one line.
func TestTells(t *testing.T) {
	t.Parallel()
	by := history.Party{PID: 9, UID: -1, Process: "thief"}
	for _, c := range []struct {
		e    history.Event
		want string
	}{
		{history.Event{Kind: history.Hold, Held: time.Minute, Ended: history.Exited, Code: 3}, "held it for 1m00s, exit code 3"},
		{history.Event{Kind: history.Hold, Held: time.Second, Ended: history.Signaled, Signal: 9, Shared: true}, "held it for 1s, shared, and was ended by SIGKILL"},
		{history.Event{Kind: history.Hold, Held: time.Second, Ended: history.LostIt, By: &by}, "held it for 1s, and lost it"},
		{history.Event{Kind: history.Hold, Waited: 2 * time.Second, Ended: history.Late, Blockers: []history.Blocker{{Party: by}}}, "held it for 0ms, waited 2s for thief, and was ended: its time was up"},
		{history.Event{Kind: history.Killed, Held: time.Second}, "held it for 1s, and was killed"},
	} {
		c.e.Process, c.e.PID = "etl", 5
		require.Equal(t, "etl (pid 5) "+c.want, tells(&c.e))
	}
}

// app is one on a screen that nobody sees.
func newTestApp(t *testing.T) (*app, tcell.SimulationScreen) {
	t.Helper()
	screen := tcell.NewSimulationScreen("UTF-8")
	require.NoError(t, screen.Init())
	screen.SetSize(80, 24)
	return &app{screen: screen, utf8: true, progress: make(chan progress), eyes: map[string]*watching{}, search: make(chan struct{}, 1)}, screen
}

func press(a *app, keys ...tcell.Key) {
	for _, k := range keys {
		a.key(context.Background(), tcell.NewEventKey(k, 0, tcell.ModNone))
	}
}

func letter(a *app, letters string) (quit bool) {
	for _, r := range letters {
		quit = a.key(context.Background(), tcell.NewEventKey(tcell.KeyRune, r, tcell.ModNone))
	}
	return quit
}

func TestKeys(t *testing.T) {
	t.Parallel()
	a, screen := newTestApp(t)
	defer screen.Fini()
	a.model = *scene()
	m := &a.model
	first := m.chosen
	letter(a, "j")
	require.NotEqual(t, first, m.chosen)
	press(a, tcell.KeyUp)
	require.Equal(t, first, m.chosen)
	letter(a, "s")
	require.Equal(t, byAge, m.order)
	press(a, tcell.KeyEnter)
	require.Equal(t, pageOne, m.page)
	letter(a, "l")
	require.Equal(t, pageLog, m.page)
	letter(a, "?")
	require.Equal(t, pageHelp, m.page)
	press(a, tcell.KeyEscape, tcell.KeyEscape, tcell.KeyEscape, tcell.KeyEscape)
	require.Equal(t, pageList, m.page)
	require.True(t, letter(a, "q"))
	require.True(t, a.key(context.Background(), tcell.NewEventKey(tcell.KeyCtrlC, 0, tcell.ModNone)))
}

// A y that was typed before there was a question is no answer, and each other key is a no.
func TestConsent(t *testing.T) {
	t.Parallel()
	a, screen := newTestApp(t)
	defer screen.Fini()
	a.model = *scene()
	asked := func() (*forcing, chan bool) {
		f := &forcing{name: "x", ended: func() {}}
		a.model.forcing = f
		a.model.open(pageForce)
		answer := make(chan bool, 1)
		letter(a, "y")
		a.forced(progress{of: f, question: "Really?", answer: answer})
		letter(a, "y")
		require.Empty(t, answer)
		a.draw()
		return f, answer
	}
	f, answer := asked()
	letter(a, "y")
	require.True(t, <-answer)
	a.forced(progress{of: &forcing{}, step: "of another one"})
	require.NotContains(t, fmt.Sprint(f.steps), "another")
	a.forced(progress{of: f, step: "The lock was removed.", over: true})
	require.Contains(t, shows(&a.model, 80, 24), "The lock was removed.")
	press(a, tcell.KeyEscape)
	require.Equal(t, pageList, a.model.page)
	_, answer = asked()
	press(a, tcell.KeyEnter)
	require.False(t, <-answer)
	require.Equal(t, pageList, a.model.page)
	require.Contains(t, shows(&a.model, 80, 24), "Nothing was changed.")
}

// A fault gives the terminal back before it is shown.
func TestRescue(t *testing.T) {
	t.Parallel()
	a, screen := newTestApp(t)
	require.PanicsWithValue(t, "fault", func() {
		defer a.rescue()
		panic("fault")
	})
	require.Nil(t, screen.PollEvent(), "the screen is closed")
}

// counter counts how often the screen is drawn.
type counter struct {
	tcell.SimulationScreen
	shown atomic.Int64
}

func (c *counter) Show() {
	c.shown.Add(1)
	c.SimulationScreen.Show()
}

// However much happens, the screen is drawn ten times a second, and not at all if nothing does.
func TestDrawings(t *testing.T) {
	t.Parallel()
	a, screen := newTestApp(t)
	c := &counter{SimulationScreen: screen}
	a.screen, a.views, a.stops = c, make(chan *view), make(chan os.Signal, 1)
	a.eyes["x"] = &watching{}
	done := make(chan error)
	begin := time.Now()
	go func() { done <- a.loop(context.Background()) }()
	for i := range 500 {
		a.views <- &view{name: "x", past: &past{}, at: begin, report: &lock.Report{State: lock.StateFree, WaitersKnown: true, Links: i}}
		time.Sleep(time.Millisecond)
	}
	time.Sleep(2 * redraw)
	require.LessOrEqual(t, c.shown.Load(), int64(time.Since(begin)/redraw)+1)
	before := c.shown.Load()
	time.Sleep(5 * redraw)
	require.LessOrEqual(t, c.shown.Load(), before+1, "the last minutes may have moved on")
	screen.InjectKey(tcell.KeyRune, 'q', tcell.ModNone)
	require.NoError(t, <-done)
	require.GreaterOrEqual(t, before, int64(3))
}

// The eye sees at once who comes and goes.
func TestEye(t *testing.T) {
	t.Parallel()
	db := filepath.Join(t.TempDir(), "x.db")
	e := &eye{view: view{Database: cli.Database{DB: db}, name: "x", past: &past{keep: 10}}, of: 1, pace: newPace(), watcher: newWatcher(), bell: newBell()}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	out := make(chan *view)
	go e.run(ctx, out)
	next := func(what string, is func(*view) bool) {
		t.Helper()
		for late := time.After(20 * time.Second); ; {
			select {
			case v := <-out:
				if is(v) {
					return
				}
			case <-late:
				t.Fatalf("never: %s", what)
			}
		}
	}
	next("it is free", func(v *view) bool { return v.err == nil && v.report.State == lock.StateFree })
	begin := time.Now()
	l := lock.New(db, lock.Options{Process: "me"})
	require.NoError(t, l.Acquire(ctx))
	next("it is held", func(v *view) bool { return v.held() && v.report.Holder.Process == "me" })
	require.NoError(t, l.Release())
	next("it is free again", func(v *view) bool {
		return !v.held() && len(v.past.events) == 1 && v.past.events[0].Process == "me"
	})
	require.NoError(t, os.RemoveAll(filepath.Join(filepath.Dir(db), ".x.lock.d"))) // what was watched
	require.NoError(t, l.Acquire(ctx))
	next("it is held again", (*view).held)
	require.NoError(t, l.Release())
	next("it is free at last", func(v *view) bool { return !v.held() })

	// Another directory comes to be at the path, in which there is nothing for a while.
	require.NoError(t, os.Rename(filepath.Dir(db), filepath.Dir(db)+".old"))
	t.Cleanup(func() { _ = os.RemoveAll(filepath.Dir(db) + ".old") })
	next("there is no directory", func(v *view) bool { return v.err != nil })
	require.NoError(t, os.Mkdir(filepath.Dir(db), 0o755))
	next("it is there again", func(v *view) bool { return v.err == nil })
	require.NoError(t, l.Acquire(ctx))
	next("it is held in the new one", (*view).held)
	require.NoError(t, l.Release())
	next("it is free there", func(v *view) bool { return !v.held() })
	require.Less(t, time.Since(begin), freeAgain/2, "nobody had to wait until the eye looks again by itself")
}

// Ages move on each second while somebody may look at them, and less often after that.
func TestTicks(t *testing.T) {
	t.Parallel()
	now := noon.Add(300 * time.Millisecond)
	a := &app{busy: now}
	require.Equal(t, 4720*time.Millisecond, a.untilTick(now), "nothing has an age: at 12:00:10")
	a.model.take(&view{name: "x", at: now, report: &lock.Report{State: lock.StateHeld}})
	require.Equal(t, 720*time.Millisecond, a.untilTick(now), "at 12:00:06")
	a.busy = now.Add(-2 * rested)
	require.Equal(t, 9720*time.Millisecond, a.untilTick(now), "at 12:00:15")
}
