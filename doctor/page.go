package doctor

import (
	"cmp"
	"fmt"
	"os"
	"strings"

	"github.com/dblock-dev/dblock/internal/cli"
	"github.com/dblock-dev/dblock/internal/term"
)

// style is what the output can show.
type style struct {
	color bool
	width int // of the terminal; 0 if there is none
}

func newStyle(f *os.File) style {
	s := style{color: term.Color(f)}
	if term.Live(f) {
		s.width = term.Width(f)
	}
	return s
}

// color is the level's, as a terminal knows it.
func (l Level) color() string {
	switch l {
	case OK:
		return "32"
	case Warning:
		return "33"
	}
	return "31"
}

// The columns of a line.
const (
	levelWidth  = len("problem") + 2
	nameWidth   = len("other-locks") + 2
	indentation = 2 + levelWidth
)

// printable is what came from names of files and processes, fit to be shown.
func printable(s string) string { return term.Path(s) }

// page is what people see.
func (v *visit) page(s style, verbose bool) string {
	wrap := func(begin, text, indent string) string { return term.Wrap(begin, text, indent, s.width) }
	var b strings.Builder
	// Where the path leads nowhere it is shown as it was given.
	if db := cmp.Or(v.names.DB, cli.Shown(v.DB)); db != "" {
		b.WriteString("Database: " + printable(db) + "\n")
	}
	if v.names.Notice != "" && !v.bare {
		b.WriteString("Lock file: " + printable(v.names.Notice) + "\n")
	} else if v.dir != "" {
		b.WriteString("Directory: " + printable(v.dir) + "\n")
	}
	b.WriteString("\n")
	for _, f := range v.findings {
		level := fmt.Sprintf("%-*s", levelWidth, f.Level)
		if s.color {
			level = "\x1b[" + f.Level.color() + "m" + level + "\x1b[0m"
		}
		begin := fmt.Sprintf("%-*s", nameWidth, f.Name)
		indent := strings.Repeat(" ", indentation+nameWidth)
		b.WriteString("  " + level)
		b.WriteString(strings.TrimPrefix(wrap(strings.Repeat(" ", indentation)+begin, printable(f.Found), indent), strings.Repeat(" ", indentation)))
		if f.Level == OK && !verbose {
			continue
		}
		if f.Why != "" {
			b.WriteString(wrap(indent, printable(f.Why), indent))
		}
		if f.Do != "" {
			b.WriteString(wrap(indent+"What to do: ", printable(f.Do), indent))
		}
	}
	b.WriteString("\n" + v.summary() + "\n")
	return b.String()
}

// summary is the last line.
func (v *visit) summary() string {
	problems, warnings := v.count()
	switch {
	case problems == 0 && warnings == 0:
		return "Locking works here."
	case problems == 0:
		return "Locking works here, with " + plural(warnings, "warning") + "."
	case warnings == 0:
		return "Locking does not work here as it should: " + plural(problems, "problem") + "."
	}
	return "Locking does not work here as it should: " + plural(problems, "problem") + ", " + plural(warnings, "warning") + "."
}

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}
