// Package top is the program dblock-top: a dashboard of locks in the terminal, which shows at
// once what happens to them. It knows nothing of how locks work; what it shows is what
// lock.Inspect finds and what the history tells.
//
// One goroutine has the screen and the model (app.go, model.go); for each lock another one looks
// at it (eye.go) and hands out views, which are not changed any more. What a page looks like is
// made of the model and a size alone (draw.go, line.go).
package top

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/gdamore/tcell/v2"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/dblock-dev/dblock/internal/cli"
	"github.com/dblock-dev/dblock/internal/companion"
	terms "github.com/dblock-dev/dblock/internal/term"
	"github.com/dblock-dev/dblock/signals"
)

// Command is the grammar of `dblock top`.
type Command struct {
	cli.Database
	cli.Foreign

	Dirs      []string `arg:"" optional:"" name:"dir" sep:"none" help:"Directories: all locks below them are shown."`
	Sort      sortBy   `default:"name" placeholder:"KEY" help:"How they are sorted at first: name, age or waits (${default})."`
	NoHistory bool     `help:"Do not add to the history when a lock is forced."`
}

// sortBy is an order on the command line.
type sortBy string

// UnmarshalText parses it.
func (s *sortBy) UnmarshalText(text []byte) error { return cli.Choose(s, text) }

// Values are those that it accepts.
func (sortBy) Values() []string { return []string{"name", "age", "waits"} }

// Grammar is how dblock-top parses its arguments.
type Grammar struct {
	Top Command `cmd:"" help:"Show locks as they change: who has them, who waits, and how long."`
}

const keys = `
Keys: arrows choose, enter opens, l shows what happened, f removes by force, s sorts,
? shows all keys, q quits.
`

// Run runs the program with these arguments.
func Run(args []string) error {
	var g Grammar
	ctx, err := companion.Parse(&g, "top", args, keys)
	if err != nil {
		return err
	}
	g.Top.Unescape()
	return g.Top.run(cli.Given(ctx))
}

// Unescape gives the arguments their bytes back.
func (c *Command) Unescape() {
	c.Database.Unescape()
	for i, dir := range c.Dirs {
		c.Dirs[i] = cli.Unescape(dir)
	}
}

func (c *Command) run(given func(string) bool) error {
	err := c.Check(given)
	switch {
	case len(c.Dirs) > 0 && !given("db") && !given("lock-file"):
		c.DB, c.LockFile, c.More = "", "", nil // a variable names another lock, which is not meant
	case err != nil:
		var usage *cli.UsageError
		if errors.As(err, &usage) && len(c.Dirs) == 0 {
			usage.Hint = "name it with -d PATH, or a directory with locks below it: `dblock top DIR`"
		}
		return err
	}
	for _, dir := range c.Dirs {
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			abs, _ := filepath.Abs(dir)
			return &cli.ConflictError{
				Code: cli.ExitCannotCreate, Err: err, Text: cli.NoDirectory(abs),
				Hint: "give a directory, or name a database with -d",
			}
		}
	}
	if c.DB != "" || c.LockFile != "" {
		if _, err := c.Each(); err != nil {
			return err
		}
	}
	for _, f := range []*os.File{os.Stdin, os.Stdout} {
		if !terms.Is(f) {
			return cli.Usage("dblock top needs a terminal", "for pipes and files: `dblock status --watch`")
		}
	}
	if !terms.Live(os.Stdout) {
		return cli.Usage(fmt.Sprintf("TERM=%s cannot show a dashboard", os.Getenv("TERM")), "elsewhere: `dblock status --watch`")
	}
	screen, err := tcell.NewTerminfoScreen()
	if err != nil {
		return cli.Usage(fmt.Sprintf("TERM=%s is not known here: %v", terms.Clean(os.Getenv("TERM")), err), "try TERM=xterm, or `dblock status --watch`")
	}
	before, err := term.GetState(int(os.Stdout.Fd()))
	if err != nil {
		return err
	}
	// Until it has the terminal signals do what they do.
	awaitTerminal()
	if err := screen.Init(); err != nil {
		return err
	}
	go dieInTime(before)
	// Who wakes up for an instant each second does not need a second thread that wakes with him.
	runtime.GOMAXPROCS(1)
	a := newApp(screen, c)
	defer screen.Fini()
	defer a.rescue()
	return a.loop(context.Background())
}

// dieInTime ends this process by the signal that is to end it if it has not done so itself: a
// terminal that takes nothing more holds up who writes to it.
func dieInTime(before *term.State) {
	ends := make(chan os.Signal, 1)
	for _, sig := range []os.Signal{unix.SIGTERM, unix.SIGHUP, unix.SIGINT, unix.SIGQUIT} {
		if !signal.Ignored(sig) {
			signal.Notify(ends, sig)
		}
	}
	sig := <-ends
	if terms.Ours(os.Stdout) {
		time.Sleep(2 * time.Second)
		_ = term.Restore(int(os.Stdout.Fd()), before)
	}
	signals.Die(sig.(syscall.Signal))
}

func newApp(screen tcell.Screen, c *Command) *app {
	a := &app{
		screen: screen, utf8: terms.UTF8(), foreign: c.Foreign, noHistory: c.NoHistory,
		views: make(chan *view), found: make(chan []*eye), search: make(chan struct{}, 1), progress: make(chan progress),
		stops: make(chan os.Signal, 2), eyes: map[string]*watching{},
	}
	a.model.order = order(c.Sort)
	if len(c.Dirs) == 0 && len(c.More) == 0 {
		a.model.open(pageOne)
	}
	go func() {
		defer a.rescue()
		c.look(a)
	}()
	return a
}

// look finds the locks that are meant, again from time to time where they are below directories.
func (c *Command) look(a *app) {
	watcher, pace := newWatcher(), newPace()
	eyeOf := func(name string, d cli.Database) *eye {
		return &eye{
			view:    view{Database: d, name: terms.Path(name), past: &past{}},
			options: d.Options(c.Foreign), pace: pace, watcher: watcher, bell: newBell(),
		}
	}
	for {
		begin := time.Now()
		var all []*eye
		switch {
		case c.LockFile != "":
			all = append(all, eyeOf(c.LockFile, c.Database))
		case c.DB != "":
			for _, db := range append([]string{c.DB}, c.More...) {
				all = append(all, eyeOf(cli.Shown(db), cli.Database{DB: db}))
			}
		}
		for _, dir := range c.Dirs {
			for found := range find(dir, c.Foreign) {
				e := eyeOf(found.name, cli.Database{LockFile: found.report.Names.Notice})
				e.report, e.err, e.at = found.report, found.err, begin
				all = append(all, e)
			}
		}
		for _, e := range all {
			e.of, e.past.keep = len(all), min(max(20000/len(all), 20), 500)
		}
		a.found <- all
		if len(c.Dirs) == 0 {
			return
		}
		select {
		case <-a.search:
		case <-time.After(max(searchAgain, searchShare*time.Since(begin))):
		}
	}
}

// How often new locks are searched for: searching takes one part of the time in so many.
const (
	searchAgain = 10 * time.Second
	searchShare = 1000
)
