// Package term is what the commands need to know to write for people: whether
// they look at a terminal, what it can show, and how to show what came from
// somebody else's file.
package term

import (
	"fmt"
	"os"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/mattn/go-isatty"
	"golang.org/x/sys/unix"
)

// Is reports whether the file is a terminal, at which somebody may sit.
func Is(f *os.File) bool { return isatty.IsTerminal(f.Fd()) }

// Live reports whether a line on the file can be rewritten.
func Live(f *os.File) bool { return Is(f) && os.Getenv("TERM") != "dumb" }

// Ours reports whether our process group is in the foreground of the terminal, and
// may write on its screen.
func Ours(f *os.File) bool {
	group, err := unix.IoctlGetInt(int(f.Fd()), unix.TIOCGPGRP)
	return err != nil || group == unix.Getpgrp()
}

// UTF8 reports whether the locale can show more than ASCII.
func UTF8() bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := os.Getenv(name); v != "" {
			v = strings.ToLower(v)
			return strings.Contains(v, "utf-8") || strings.Contains(v, "utf8")
		}
	}
	return false
}

// Color reports whether the file may get colours (https://no-color.org).
func Color(f *os.File) bool {
	return os.Getenv("NO_COLOR") == "" && Live(f)
}

// Width is the number of columns, 80 if nobody knows.
func Width(f *os.File) int {
	if ws, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err == nil && ws.Col > 0 {
		return int(ws.Col)
	}
	return 80
}

// Clean makes text from a lock file, a command line or a path fit to be shown:
// control characters, which could command a terminal, and what could disguise
// the text (bidirectional overrides, invisible characters) become question
// marks, and it is cut at 128 characters.
func Clean(s string) string {
	const most = 128
	clean := strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
	if r := []rune(clean); len(r) > most {
		clean = string(r[:most]) + "..."
	}
	return clean
}

// Path is Clean without the cut.
func Path(s string) string {
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

// Fit cuts a line so that it does not wrap in that many columns.
func Fit(s string, columns int) string {
	used := 0
	for i, r := range s {
		if used += width(r); used > columns {
			return s[:i]
		}
	}
	return s
}

// Columns is how many columns a line takes.
func Columns(s string) (n int) {
	for _, r := range s {
		n += width(r)
	}
	return n
}

// width is that of a character: two columns if it may be wide, which dashes, quotes and the
// ellipsis are not.
func width(r rune) int {
	if r >= 0x1100 && (r < 0x2010 || r > 0x2027) {
		return 2
	}
	return 1
}

// Shorten cuts a line like Fit, with an ellipsis where something is missing.
func Shorten(s string, columns int) string {
	if Fit(s, columns) == s {
		return s
	}
	dots := ellipsis()
	return strings.TrimRight(Fit(s, columns-utf8.RuneCountInString(dots)), " ") + dots
}

// ShortenPath cuts a path at its beginning, which says least, and at the end only if its
// last element alone is too long.
func ShortenPath(path string, columns int) string {
	if Fit(path, columns) == path {
		return path
	}
	dots := ellipsis()
	for i, r := range path {
		if r == '/' && i > 0 {
			if short := dots + path[i:]; Fit(short, columns) == short {
				return short
			}
		}
	}
	return Shorten(path[strings.LastIndexByte(path, '/')+1:], columns)
}

func ellipsis() string {
	if UTF8() {
		return "…"
	}
	return "..."
}

// Ago renders a length of time for people: 0.3s, 12s, 3m05s, 2h07m, 4d3h.
func Ago(d time.Duration) string {
	switch {
	case d < 10*time.Second:
		return strings.TrimSuffix(fmt.Sprintf("%.1f", d.Truncate(100*time.Millisecond).Seconds()), ".0") + "s"
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd%dh", int(d.Hours())/24, int(d.Hours())%24)
}

// Wrap breaks what is longer than a number of columns between words, and indents what
// follows; 0 columns are no end of them. The last line ends, too.
func Wrap(begin, text, indent string, columns int) string {
	if line := begin + text; columns == 0 || Fit(line, columns) == line {
		return line + "\n"
	}
	var b strings.Builder
	line, space := strings.TrimSuffix(begin, " "), ""
	if begin != "" {
		space = " "
	}
	for word := range strings.FieldsSeq(text) {
		if longer := line + space + word; Fit(longer, columns) == longer {
			line, space = longer, " "
			continue
		}
		b.WriteString(line + "\n")
		line, space = indent+word, " "
	}
	return b.String() + line + "\n"
}
