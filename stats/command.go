// Package stats is `dblock stats`: what the histories of locks add up to, for people, as JSON, as
// metrics, and as a trace.
package stats

import (
	"cmp"
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"

	"github.com/dblock-dev/dblock/history"
	picture "github.com/dblock-dev/dblock/history/page"
	"github.com/dblock-dev/dblock/history/summary"
	"github.com/dblock-dev/dblock/internal/cli"
	"github.com/dblock-dev/dblock/internal/companion"
	"github.com/dblock-dev/dblock/lock"
)

// Grammar is how dblock-stats parses its arguments.
type Grammar struct {
	Stats Command `cmd:"" help:"Show what the history of a lock adds up to: who had it, who waited, and for whom."`
}

// Command is the grammar of `dblock stats`.
type Command struct {
	cli.Database

	From        string     `placeholder:"FILE" help:"Read lines of history from a file, or from standard input (-), in place of a database's."`
	Since       cli.Moment `placeholder:"WHEN" help:"Only what has happened since: 2h or 3d ago, 04:30, 2026-03-01."`
	Until       cli.Moment `placeholder:"WHEN" help:"Only what had happened until then."`
	By          By         `placeholder:"WHAT" help:"Also a table of each process (label), command, user or host."`
	JSON        bool       `name:"json" help:"Print one JSON object (see the manual)."`
	OpenMetrics bool       `name:"openmetrics" help:"Print metrics, in the text format of Prometheus."`
	Output      string     `short:"o" placeholder:"FILE" help:"Where the metrics go; the file is replaced at once."`
	HTML        string     `name:"html" placeholder:"FILE" help:"Write a page with a picture of all that has happened, or print it (-)."`
	Trace       string     `placeholder:"FILE" help:"Write a trace that ui.perfetto.dev shows, or print it (-)."`
}

// By is what the table is of.
type By summary.By

// UnmarshalText parses it.
func (b *By) UnmarshalText(text []byte) error {
	return cli.Choose(b, text)
}

// Values are those that it accepts.
func (By) Values() []string {
	return []string{string(summary.Process), string(summary.Command), string(summary.User), string(summary.Host)}
}

// source is where a history comes from.
type source struct {
	name     string     // for people
	database string     // path, or empty
	lockFile string     // the same
	names    lock.Names // zero if it is no database's
	file     io.Reader  // in place of one
}

// Run runs the command with these arguments.
func Run(args []string) error {
	var g Grammar
	ctx, err := companion.Parse(&g, "stats", args, "")
	if err != nil {
		return err
	}
	c := &g.Stats
	c.Unescape()
	for _, path := range []*string{&c.From, &c.Output, &c.HTML, &c.Trace} {
		*path = cli.Unescape(*path)
	}
	if err = c.run(cli.Given(ctx)); errors.Is(err, syscall.EPIPE) {
		return nil // whoever reads has read enough
	}
	return err
}

func (c *Command) run(given func(string) bool) error {
	if err := c.check(given); err != nil {
		return err
	}
	sources, err := c.sources(given)
	if err != nil {
		return err
	}
	switch {
	case c.HTML != "":
		return c.html(sources)
	case c.Trace != "":
		return c.trace(sources)
	case c.OpenMetrics:
		return c.metrics(sources)
	}
	all, err := c.summarise(sources, summary.By(c.By))
	if err != nil {
		return err
	}
	if c.JSON {
		return writeJSON(os.Stdout, all)
	}
	return newPage().write(os.Stdout, all)
}

// check refuses what makes no sense together.
func (c *Command) check(given func(string) bool) error {
	forms := 0
	for _, form := range []string{"json", "openmetrics", "html", "trace"} {
		if given(form) {
			forms++
		}
	}
	for _, file := range []struct{ name, path string }{{"output", c.Output}, {"html", c.HTML}, {"trace", c.Trace}, {"from", c.From}} {
		if given(file.name) && file.path == "" {
			return cli.Usage("--"+file.name+" names no file", "give a path, or - for the terminal; is a variable empty?")
		}
	}
	switch {
	case forms > 1:
		return cli.Usage("--json, --openmetrics, --html and --trace are different answers", "give one of them")
	case given("output") && !c.OpenMetrics:
		return cli.Usage("-o says where metrics go, and none are wanted", "add --openmetrics, or leave it out")
	case !c.Since.IsZero() && !c.Until.IsZero() && !c.Since.Before(c.Until.Time):
		return cli.Usage("--since is not before --until: nothing has happened between them", "exchange them")
	case given("by") && (c.OpenMetrics || c.HTML != "" || c.Trace != ""):
		return cli.Usage("--by is for the text and for --json", "leave it out")
	case given("from") && (given("db") || given("lock-file")):
		return cli.Usage("--from is in place of a database, and one is named", "leave one of the two out")
	}
	return nil
}

func (c *Command) sources(given func(string) bool) ([]source, error) {
	if c.From != "" && !given("db") && !given("lock-file") {
		if c.From == "-" {
			return []source{{name: "stdin", file: os.Stdin}}, nil
		}
		f, err := os.Open(c.From)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, &cli.ConflictError{
				Code: cli.ExitCannotCreate, Err: err, Text: err.Error(),
				Hint: "--from reads lines of history, like .app.lock.d/history.jsonl; a database is named with -d",
			}
		}
		if err != nil {
			return nil, err
		}
		return []source{{name: c.From, file: f}}, nil
	}
	if err := c.Check(given); err != nil {
		return nil, err
	}
	named, err := c.Each()
	var all []source
	for _, one := range named {
		all = append(all, source{name: cmp.Or(cli.Shown(one.DB), one.LockFile), database: one.DB, lockFile: one.LockFile, names: one.Names})
	}
	return all, err
}

// read calls each for all events; the event is only valid during that call.
func (s *source) read(each func(*history.Event)) error {
	if s.file != nil {
		return history.ReadFrom(s.file, each)
	}
	return history.Read(s.names.State, each)
}

// events are those of the window.
func (c *Command) events(s *source) (all []history.Event, err error) {
	since, until := millis(c.Since), millis(c.Until)
	err = s.read(func(e *history.Event) {
		if e.At >= since && (until == 0 || e.At < until) {
			all = append(all, *e)
		}
	})
	return all, err
}

// html writes the page.
func (c *Command) html(sources []source) error {
	var all []picture.Database
	for i := range sources {
		events, err := c.events(&sources[i])
		if err != nil {
			return err
		}
		all = append(all, picture.Database{Name: sources[i].name, Events: events})
	}
	return write(c.HTML, 0o666, func(w io.Writer) error { return picture.Write(w, all) })
}

// summarised is a history, added up.
type summarised struct {
	source
	*summary.Summary
}

func (c *Command) summarise(sources []source, by summary.By) (all []summarised, err error) {
	for _, s := range sources {
		o := summary.Options{Since: millis(c.Since), Until: millis(c.Until), By: by}
		if s.file == nil {
			o.Now = time.Now().UnixMilli()
		}
		one := summarised{s, summary.New(o)}
		if err := s.read(one.Add); err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, nil
}

// millis is a moment as events have them; 0 if there is none.
func millis(m cli.Moment) int64 {
	if m.IsZero() {
		return 0
	}
	return m.UnixMilli()
}
