// Package stats is the program dblock-stats: it makes figures, metrics and pictures of the
// history of locks. It knows nothing of how locks work.
package stats

import (
	"bufio"
	"cmp"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/history"
	"github.com/dblock-dev/dblock/history/summary"
	"github.com/dblock-dev/dblock/internal/cli"
	"github.com/dblock-dev/dblock/internal/companion"
	"github.com/dblock-dev/dblock/lock"
)

// Command is the grammar of `dblock stats`.
type Command struct {
	cli.Database

	From  []string   `sep:"none" placeholder:"FILE" help:"Read such lines from FILE, '-' for standard input, in place of a database's history."`
	Since cli.Moment `placeholder:"WHEN" help:"Only what has happened since: 2h or 3d ago, 04:30, 2026-03-01."`
	Until cli.Moment `placeholder:"WHEN" help:"Only what had happened by then."`
	By    by         `placeholder:"KEY" help:"Figures of each process (label), command, user, host or database."`
	JSON  bool       `name:"json" help:"Print one JSON object (see the manual)."`
}

// by is what figures are told apart by.
type by summary.Key

// UnmarshalText parses it.
func (b *by) UnmarshalText(text []byte) error {
	return cli.Choose(b, text, by(summary.Process), by(summary.Command), by(summary.User), by(summary.Host), by(summary.Database))
}

type grammar struct {
	Stats Command `cmd:"" help:"Figures of what has happened to locks: how often they were waited for, how long, and for whom."`
}

// Run runs the program with these arguments.
func Run(args []string) error {
	var g grammar
	ctx, err := companion.Parse(&g, "stats", args, "")
	if err != nil {
		return err
	}
	g.Stats.Unescape()
	return g.Stats.run(cli.Given(ctx))
}

func (c *Command) run(given func(string) bool) error {
	if len(c.From) > 0 && !given("db") && !given("lock-file") {
		c.DB, c.More, c.LockFile = "", nil, ""
	} else if err := c.Check(given); err != nil {
		return err
	}
	if !c.Since.IsZero() && !c.Until.IsZero() && !c.Since.Before(c.Until.Time) {
		return cli.Usage("--until is not after --since", "give the earlier one as --since")
	}
	collector := summary.New(summary.Key(c.By), c.Since.Time, c.Until.Time)
	names, err := c.read(collector)
	if err != nil {
		return err
	}
	s := collector.Summary()
	name(s.Groups, c.By)
	if c.JSON {
		return c.write(func(w io.Writer) error { return writeJSON(w, names, c, s) })
	}
	return c.write(func(w io.Writer) error {
		p := newPage(w, os.Stdout)
		p.show(names, c, s)
		return nil
	})
}

// name gives users their names.
func name(groups []summary.Group, key by) {
	if key != by(summary.User) {
		return
	}
	for i := range groups {
		groups[i].Name = userName(groups[i].Name)
	}
}

// write prints to standard output. Whoever reads it may have read enough.
func (c *Command) write(f func(io.Writer) error) error {
	out := bufio.NewWriter(os.Stdout)
	if err := f(out); err != nil {
		return err
	}
	err := out.Flush()
	if errors.Is(err, syscall.EPIPE) {
		return &cli.SignalError{Signal: unix.SIGPIPE}
	}
	return err
}

// read hands over all events, and returns what they are of.
func (c *Command) read(to *summary.Collector) (names []string, err error) {
	if c.DB != "" || c.LockFile != "" {
		for i, db := range append([]string{c.DB}, c.More...) {
			lockFile := ""
			if i == 0 {
				lockFile = c.LockFile
			}
			n, err := lock.Resolve(db, lockFile)
			if err != nil {
				return nil, err
			}
			if dir := filepath.Dir(n.Notice); !exists(dir) {
				return nil, &cli.ConflictError{Code: cli.ExitCannotCreate, Err: syscall.ENOENT, Text: cli.NoDirectory(dir), Hint: "look whether " + cli.Quote(cmp.Or(db, lockFile)) + " is the right path, seen from this directory"}
			}
			shown := cmp.Or(n.DB, n.Notice)
			names = append(names, shown)
			if err := history.Read(n.State, func(e *history.Event) { to.Add(shown, e) }); err != nil {
				return nil, err
			}
		}
	}
	for _, file := range c.From {
		file = cli.Unescape(file)
		names = append(names, file)
		in := os.Stdin
		if file != "-" {
			if in, err = os.Open(file); err != nil {
				return nil, err
			}
		}
		err := history.ReadFrom(in, func(e *history.Event) { to.Add(file, e) })
		in.Close()
		if err != nil {
			return nil, err
		}
	}
	return names, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// list is names in a row.
func list(names []string) string { return strings.Join(names, ", ") }
