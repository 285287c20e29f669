package top

import (
	"context"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/gdamore/tcell/v2"
	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/internal/cli"
	terms "github.com/dblock-dev/dblock/internal/term"
	"github.com/dblock-dev/dblock/signals"
)

// redraw is the shortest time between two drawings.
const redraw = 100 * time.Millisecond

// app is the dashboard while it runs. All of it is the loop's, but what is said to be others'.
type app struct {
	screen  tcell.Screen
	utf8    bool
	foreign cli.Foreign
	model   model

	noHistory bool
	views     chan *view    // from the eyes
	found     chan []*eye   // from the search, each time all that there are
	search    chan struct{} // to the search
	progress  chan progress // from what is being forced
	stops     chan os.Signal
	eyes      map[string]*watching

	dirty bool      // what is shown has changed
	busy  time.Time // when something has happened last, or a key was pressed
	drawn time.Time // when it was shown
	size  [2]int
	shown []line // as the screen has them
}

// watching is an eye at work.
type watching struct {
	eye  *eye
	stop context.CancelFunc
}

// loop runs until the user wants no more, which is nil, or a signal ends it.
func (a *app) loop(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events := make(chan tcell.Event, 16)
	quit := make(chan struct{})
	defer close(quit)
	go a.screen.ChannelEvents(events, quit)
	ends := make(chan os.Signal, 4)
	for _, sig := range []os.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT} {
		if !signal.Ignored(sig) {
			signal.Notify(ends, sig)
		}
	}
	defer signal.Stop(ends)
	signal.Notify(a.stops, unix.SIGTSTP, unix.SIGCONT)
	defer signal.Stop(a.stops)
	tick := time.NewTimer(0)
	defer tick.Stop()
	for a.dirty = true; ; {
		var soon <-chan time.Time
		if wait := redraw - time.Since(a.drawn); a.dirty && wait <= 0 {
			a.draw()
			tick.Reset(a.untilTick(time.Now()))
		} else if a.dirty {
			soon = time.After(wait)
		}
		select {
		case ev := <-events:
			a.busy = time.Now()
			switch ev := ev.(type) {
			case *tcell.EventKey:
				if a.key(ctx, ev) {
					return nil
				}
				a.dirty = true
			case *tcell.EventResize:
				a.size = [2]int{}
				a.dirty = true
			case *tcell.EventError: // the terminal has gone
				return &cli.SignalError{Signal: unix.SIGHUP}
			}
		case v := <-a.views:
			if a.eyes[v.name] != nil {
				a.model.take(v)
				a.dirty, a.busy = true, time.Now()
			}
		case found := <-a.found:
			a.meet(ctx, found)
			a.dirty = true
		case p := <-a.progress:
			a.forced(p)
			a.dirty = true
		case <-tick.C:
			a.dirty = true
		case <-soon:
		case sig := <-a.stops:
			if sig == unix.SIGTSTP {
				a.suspend()
			} else {
				a.again() // somebody had stopped us in another way
			}
			a.dirty = true
		case sig := <-ends:
			return &cli.SignalError{Signal: sig.(syscall.Signal)}
		}
	}
}

// rested is after how long without a key or a change ages move on less often: drawing is most
// of what it costs at rest.
const rested = time.Minute

// untilTick is how long what is drawn stays true by itself: ages change each second, and where
// there are none, the last minutes move on.
func (a *app) untilTick(now time.Time) time.Duration {
	every := slice
	switch {
	case !slices.ContainsFunc(a.model.views, (*view).used):
	case now.Sub(a.busy) > rested:
		every = usedAgain
	default:
		every = time.Second
	}
	return now.Truncate(every).Add(every + 20*time.Millisecond).Sub(now)
}

// meet begins to look at what has been found, and ends that for what has gone.
func (a *app) meet(ctx context.Context, found []*eye) {
	a.model.looked = true
	there := map[string]bool{}
	for _, e := range found {
		there[e.name] = true
		if a.eyes[e.name] != nil {
			continue
		}
		ctx, cancel := context.WithCancel(ctx)
		a.eyes[e.name] = &watching{e, cancel}
		go func() {
			defer a.rescue()
			e.run(ctx, a.views)
		}()
	}
	for name, w := range a.eyes {
		if !there[name] {
			w.stop()
			delete(a.eyes, name)
			a.model.drop(name)
		}
	}
}

// draw shows the model. The terminal gets what differs.
func (a *app) draw() {
	a.dirty, a.drawn = false, time.Now()
	width, height := a.screen.Size()
	if width < 1 || height < 1 {
		return
	}
	if w, h := a.size[0], a.size[1]; w != width || h != height {
		a.screen.Clear()
		a.size, a.shown = [2]int{width, height}, make([]line, height)
	}
	colours := a.screen.Colors() > 2
	for y, l := range newSheet(width, height, a.drawn, a.utf8).draw(&a.model) {
		if l.same(a.shown[y]) {
			continue // most of them, each second
		}
		a.shown[y] = l
		x := 0
		for _, sp := range l.spans {
			x = a.put(x, y, sp.text, style(sp.look, l.chosen, colours))
		}
		for ; x < width; x++ {
			a.screen.Put(x, y, " ", style(plain, l.chosen, colours))
		}
	}
	a.screen.Show()
	if f := a.model.forcing; f != nil && f.question != "" {
		f.drawn = true
	}
}

// put writes a text and returns the column behind it.
func (a *app) put(x, y int, text string, of tcell.Style) int {
	for text != "" {
		rest, width := a.screen.Put(x, y, text, of)
		if width == 0 {
			break
		}
		x, text = x+width, rest
	}
	return x
}

func style(of look, chosen, colours bool) tcell.Style {
	s := tcell.StyleDefault
	switch {
	case of == bold:
		s = s.Bold(true)
	case of == dim && !chosen:
		s = s.Dim(true)
	case !colours || chosen:
	case of == red:
		s = s.Foreground(tcell.ColorMaroon)
	case of == green:
		s = s.Foreground(tcell.ColorGreen)
	case of == yellow:
		s = s.Foreground(tcell.ColorOlive)
	}
	return s.Reverse(chosen)
}

// suspend gives the terminal back and stops, as SIGTSTP does to any program.
func (a *app) suspend() {
	_ = a.screen.Suspend()
	signals.Stop(unix.SIGTSTP, func() bool { return false })
	select {
	case <-a.stops: // that we go on
	case <-time.After(redraw): // there is no shell that could have stopped us
	}
	a.resume()
}

// again takes the terminal anew after a stop that nobody had told of.
func (a *app) again() {
	_ = a.screen.Suspend()
	a.resume()
}

// awaitTerminal waits until the terminal is ours. Who takes it from the background is stopped in the
// middle of that, again each time when he goes on, and hears of nothing else. Where no shell is left
// that stops and continues us the terminal will say what is the matter.
func awaitTerminal() {
	for range 50 {
		if terms.Ours(os.Stdout) {
			return
		}
		signals.Stop(unix.SIGTTOU, func() bool { return false })
		<-time.After(redraw) // for a signal that is to end us
	}
}

// resume takes the terminal again.
func (a *app) resume() {
	awaitTerminal()
	_ = a.screen.Resume()
	a.size = [2]int{} // nothing of it is there any more
}

// rescue gives the terminal back before a fault is shown on it.
func (a *app) rescue() {
	if fault := recover(); fault != nil {
		a.screen.Fini()
		panic(fault)
	}
}

// key is a key, and whether it was the last one.
func (a *app) key(ctx context.Context, ev *tcell.EventKey) (quit bool) {
	m := &a.model
	m.notice = ""
	key := ev.Rune()
	switch ev.Key() {
	case tcell.KeyCtrlC:
		return true
	case tcell.KeyCtrlZ:
		// The terminal sends no signal here, and those before and behind us are to stop, too.
		_ = unix.Kill(0, unix.SIGTSTP)
		return false
	case tcell.KeyCtrlL:
		a.screen.Sync()
		return false
	case tcell.KeyUp:
		key = 'k'
	case tcell.KeyDown:
		key = 'j'
	case tcell.KeyPgUp:
		a.scroll(-1, true)
		return false
	case tcell.KeyPgDn:
		a.scroll(1, true)
		return false
	case tcell.KeyHome:
		key = 'g'
	case tcell.KeyEnd:
		key = 'G'
	case tcell.KeyEnter, tcell.KeyRight:
		key = '\n'
	case tcell.KeyEscape, tcell.KeyLeft, tcell.KeyBackspace, tcell.KeyBackspace2:
		key = '\b'
	case tcell.KeyRune:
	default:
		return false
	}
	if m.page == pageForce {
		switch {
		case m.forcing.answer != nil && key != 'j' && key != 'k':
			a.answer(key)
			return false
		case key == '\b' && (m.forcing.over || len(m.forcing.steps) == 0):
			a.endForcing()
			return false
		case key == 'q' && !m.forcing.over && len(m.forcing.steps) > 0:
			m.notice = "Not before the lock is removed; Ctrl-C breaks off."
			return false
		}
	}
	switch key {
	case 'q':
		return true
	case 'j':
		a.scroll(1, false)
	case 'k':
		a.scroll(-1, false)
	case 'g':
		a.scroll(-1<<20, false)
	case 'G':
		a.scroll(1<<20, false)
	case '\b':
		if m.page != pageForce {
			m.leave()
		}
	case '?':
		if m.page != pageHelp && m.page != pageForce {
			m.open(pageHelp)
		}
	case 'r':
		select {
		case a.search <- struct{}{}:
		default:
		}
		for _, w := range a.eyes {
			w.eye.bell.ring(true)
		}
	case 's':
		if m.page == pageList {
			m.order = orders[(slices.Index(orders, m.order)+1)%len(orders)]
			m.sort()
		}
	case '\n':
		if m.page == pageList && m.one() != nil {
			m.open(pageOne)
		}
	case 'l':
		if (m.page == pageList || m.page == pageOne) && m.one() != nil {
			m.open(pageLog)
		}
	case 'f':
		if m.page == pageList || m.page == pageOne {
			a.startForcing(ctx)
		}
	}
	return false
}

// scroll moves the choice in the list, and the page elsewhere.
func (a *app) scroll(by int, pages bool) {
	if pages {
		_, height := a.screen.Size()
		by *= max(1, height-3)
	}
	if a.model.page == pageList {
		a.model.move(by)
		return
	}
	a.model.scroll = max(0, a.model.scroll+by) // drawing knows where it ends
}
