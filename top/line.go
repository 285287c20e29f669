package top

import (
	"slices"
	"strings"

	"github.com/rivo/uniseg"
)

// look is how a piece of a line is drawn.
type look int

const (
	plain look = iota
	bold
	dim
	red
	green
	yellow
)

type span struct {
	text string
	look look
}

// line is a line of the screen.
type line struct {
	spans  []span
	chosen bool // it is the one that the keys are about
}

func text(of look, s ...string) line { return line{spans: []span{{strings.Join(s, ""), of}}} }

func (l line) and(of look, s ...string) line {
	l.spans = append(l.spans[:len(l.spans):len(l.spans)], span{strings.Join(s, ""), of})
	return l
}

func (l line) columns() (n int) {
	for _, s := range l.spans {
		n += columnsOf(s.text)
	}
	return n
}

// columnsOf is how many columns a text takes.
func columnsOf(t string) int {
	for i := range len(t) {
		if t[i] >= 0x80 {
			return uniseg.StringWidth(t)
		}
	}
	return len(t)
}

func (l line) String() string {
	var b strings.Builder
	for _, s := range l.spans {
		b.WriteString(s.text)
	}
	return b.String()
}

// cut is what of a text fits in that many columns, with an ellipsis where something is missing.
func (s *sheet) cut(t string, columns int) string {
	if columns <= 0 {
		return ""
	}
	if columnsOf(t) <= columns {
		return t
	}
	columns -= columnsOf(s.dots)
	used, end := 0, 0
	for rest, state := t, -1; rest != ""; {
		var c string
		var w int
		c, rest, w, state = uniseg.FirstGraphemeClusterInString(rest, state)
		if used += w; used > columns {
			break
		}
		end += len(c)
	}
	return strings.TrimRight(t[:end], " ") + s.dots[:max(0, min(len(s.dots), len(s.dots)+min(0, columns)))]
}

// pad is cut, filled up with blanks.
func (s *sheet) pad(t string, columns int) string {
	t = s.cut(t, columns)
	return t + strings.Repeat(" ", max(0, columns-columnsOf(t)))
}

// right is pad with the blanks first.
func (s *sheet) right(t string, columns int) string {
	t = s.cut(t, columns)
	return strings.Repeat(" ", max(0, columns-columnsOf(t))) + t
}

// wrap breaks a text between words, and indents what follows.
func (s *sheet) wrap(of look, begin, t, indent string) (all []line) {
	l := begin
	empty := true
	for _, word := range strings.Fields(t) {
		space := " "
		if empty {
			space = ""
		}
		if !empty && columnsOf(l+space+word) > s.width {
			all = append(all, text(of, l))
			l, space = indent, ""
		}
		l, empty = l+space+word, false
	}
	return append(all, text(of, l))
}

// same reports whether two lines look the same.
func (l line) same(m line) bool { return l.chosen == m.chosen && slices.Equal(l.spans, m.spans) }

// levels are the heights of a sparkline, from nothing upwards.
func (s *sheet) levels() []rune {
	if s.utf8 {
		return []rune("·▁▂▃▄▅▆▇█")
	}
	return []rune(".,:;+*#%@")
}

// spark draws values in that many columns; one that is greater than most is as high as that.
func (s *sheet) spark(values []float64, most float64, columns int) string {
	columns = min(columns, len(values))
	if columns <= 0 {
		return ""
	}
	levels := s.levels()
	var b strings.Builder
	for i := range columns {
		v := 0.0 // the greatest of those that share a column
		for _, one := range values[i*len(values)/columns : (i+1)*len(values)/columns] {
			v = max(v, one)
		}
		level := 0
		if v > 0 && most > 0 {
			level = min(len(levels)-1, 1+int(v/most*float64(len(levels)-1)*0.999))
		}
		b.WriteRune(levels[level])
	}
	return b.String()
}
