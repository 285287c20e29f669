package status

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/history"
	"github.com/dblock-dev/dblock/internal/cli"
	"github.com/dblock-dev/dblock/internal/say"
	"github.com/dblock-dev/dblock/internal/term"
)

// Log is the grammar of `dblock log`.
type Log struct {
	cli.Database

	Number events     `short:"n" default:"20" placeholder:"N" help:"How many events are shown, the last ones (${default}); 0 for all."`
	Since  cli.Moment `placeholder:"WHEN" help:"Only what has happened since: 2h or 3d ago, 04:30, 2026-03-01."`
	Follow bool       `short:"f" help:"Go on with what happens from now on."`
	JSON   bool       `name:"json" help:"Print one JSON object a line (see the manual)."`
}

// events is a number of them.
type events int

// UnmarshalText parses it.
func (n *events) UnmarshalText(text []byte) error {
	parsed, err := strconv.ParseUint(string(text), 10, 31)
	if err != nil {
		return cli.Usage(fmt.Sprintf("%q is no number of events", text), "give how many are to be shown, or 0 for all")
	}
	*n = events(parsed)
	return nil
}

// followEvery is how soon a new event is shown, and how often that costs a look at a file.
const followEvery = 100 * time.Millisecond

// chronicle is the history of one lock, and how it is called among several.
type chronicle struct {
	name   string
	reader *history.Reader
}

// entry is an event of one of them.
type entry struct {
	history.Event
	of string
}

// Run shows the history.
func (l *Log) Run(k *kong.Context) error {
	if err := l.Check(cli.Given(k)); err != nil {
		return err
	}
	all, err := l.open()
	if err != nil {
		return err
	}
	entries, err := news(all)
	if err != nil {
		return err
	}
	entries = slices.DeleteFunc(entries, func(e entry) bool { return !l.Since.IsZero() && e.At < l.Since.UnixMilli() })
	if len(entries) == 0 && !l.JSON && !l.Follow {
		fmt.Fprintln(say.Stderr, "dblock: nothing has been recorded of it")
	}
	if n := int(l.Number); n > 0 && len(entries) > n && (l.Since.IsZero() || l.Number != defaultNumber) {
		entries = entries[len(entries)-n:]
	}
	unread := make(chan struct{})
	if l.Follow {
		go func() {
			awaitHangUp(os.Stdout)
			close(unread)
		}()
	}
	style := newStyle(os.Stdout)
	for {
		if err := l.print(style, entries); err != nil || !l.Follow {
			return err
		}
		if entries, err = news(all); err != nil {
			return err
		}
		select {
		case <-unread:
			return nil
		case <-time.After(followEvery):
		}
	}
}

// defaultNumber is how many events are shown if nothing else was said.
const defaultNumber = 20

func (l *Log) open() (all []chronicle, err error) {
	named, err := l.Each()
	for _, one := range named {
		c := chronicle{reader: history.Open(one.Names.State)}
		if len(l.More) > 0 {
			c.name = cli.Shown(one.DB)
		}
		all = append(all, c)
	}
	return all, err
}

// news is what has happened since the last time, in order.
func news(all []chronicle) (entries []entry, err error) {
	for _, c := range all {
		if err := c.reader.Next(func(e *history.Event) { entries = append(entries, entry{*e, c.name}) }); err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(entries, func(a, b entry) int { return int(min(1, max(-1, a.At-b.At))) })
	return entries, nil
}

func (l *Log) print(s style, entries []entry) error {
	out := bufio.NewWriter(os.Stdout)
	var line []byte
	for i := range entries {
		e := &entries[i]
		if l.JSON {
			line = history.Append(line[:0], &e.Event)
			_, _ = out.Write(line)
			continue
		}
		begin := time.UnixMilli(e.At).Format(time.DateTime) + "  "
		text := cli.Event(&e.Event)
		if e.of != "" {
			text = term.Path(e.of) + ": " + text
		}
		color := ""
		switch {
		case !s.color:
		case e.Kind == history.Lost || e.Kind == history.Killed || e.Kind == history.Forced || e.Ended == history.LostIt:
			color = red
		case e.Kind != history.Hold:
			color = yellow
		}
		text = s.wrap(begin, text, "    ")
		if color != "" {
			text = "\x1b[" + color + "m" + strings.TrimSuffix(text, "\n") + "\x1b[0m\n"
		}
		_, _ = out.WriteString(text)
	}
	err := out.Flush()
	if errors.Is(err, unix.EPIPE) {
		return nil // whoever reads has read enough
	}
	return err
}
