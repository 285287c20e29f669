package history

import (
	"bytes"
	"errors"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// ErrLine says that a line is none of ours: torn, empty, no JSON object, or of another
// version.
var ErrLine = errors.New("not a line of history")

// Parse reads a line, with or without its newline. Members that it does not know are skipped,
// and so are values of another type than they should have; the error is ErrLine. It is some ten times as quick as
// encoding/json: a night can be a million lines.
func Parse(line []byte) (Event, error) {
	e := Event{UID: -1}
	s := scanner{rest: bytes.TrimSpace(line)}
	s.object(func(key []byte) { e.member(&s, key) })
	if s.failed || len(s.rest) > 0 || e.Version != Version || e.Kind == "" {
		return Event{}, ErrLine
	}
	return e, nil
}

func (e *Event) member(s *scanner, key []byte) {
	switch string(key) {
	case "v":
		e.Version = int(s.int())
	case "event":
		e.Kind = Kind(s.common(kinds))
	case "at":
		e.At = s.moment()
	case "token":
		e.Token = s.int()
	case "process":
		e.Process = s.text()
	case "info":
		e.Info = s.text()
	case "pid":
		e.PID = int(s.int())
	case "host":
		e.Host = s.text()
	case "uid":
		e.UID = int(s.int())
	case "command":
		e.Command = s.text()
	case "mode":
		e.Shared = s.common(modes) == modes[0]
	case "priority":
		e.Priority = s.text()
	case "requested":
		e.Requested = s.moment()
	case "acquired":
		e.Acquired = s.moment()
	case "released":
		e.Released = s.moment()
	case "waited_ms":
		e.Waited = s.millis()
	case "held_ms":
		e.Held = s.millis()
	case "ended":
		e.Ended = Ended(s.common(ends))
	case "code":
		e.Code = int(s.int())
	case "signal":
		e.Signal = int(s.int())
	case "heals":
		e.Heals = int(s.int())
	case "by":
		p := Party{UID: -1}
		s.object(func(key []byte) { p.member(s, key) })
		e.By = &p
	case "ahead":
		e.Ahead = int(s.int())
	case "blockers":
		s.array(func() {
			b := Blocker{Party: Party{UID: -1}}
			s.object(func(key []byte) {
				if string(key) == "ms" {
					b.For = s.millis()
				} else {
					b.member(s, key)
				}
			})
			e.Blockers = append(e.Blockers, b)
		})
	default:
		s.skip()
	}
}

// The texts that nearly every line has, which need not be copied.
var (
	kinds = []string{string(Hold), string(GaveUp), string(Killed), string(TookOver), string(Healed), string(Lost), string(Forced)}
	modes = []string{"shared", "exclusive"}
	ends  = []string{string(Exited), string(Signaled), string(Released), string(Late), string(LostIt), string(TimedOut), string(Busy), string(Interrupted), string(Deadlocked)}
)

func (p *Party) member(s *scanner, key []byte) {
	switch string(key) {
	case "pid":
		p.PID = int(s.int())
	case "uid":
		p.UID = int(s.int())
	case "process":
		p.Process = s.text()
	case "command":
		p.Command = s.text()
	case "token":
		p.Token = s.int()
	default:
		s.skip()
	}
}

// Who reads of a line as [Append] writes it whose it is, and no further: what comes behind the
// command is not looked at.
func Who(line []byte) (Party, error) {
	var p Party
	found := false
	s := scanner{rest: line}
	s.object(func(key []byte) {
		p.member(&s, key)
		if string(key) == "command" && !s.failed {
			found = true
			s.fail() // enough
		}
	})
	if !found {
		return Party{}, ErrLine
	}
	return p, nil
}

// scanner reads one JSON value after another. Once it has failed it reads nothing.
type scanner struct {
	rest   []byte
	depth  int
	failed bool
}

const maxDepth = 100

// next is the first byte of what follows, after blanks; 0 at the end.
func (s *scanner) next() byte {
	for i, c := range s.rest {
		if c != ' ' && c != '\t' && c != '\r' && c != '\n' {
			s.rest = s.rest[i:]
			return c
		}
	}
	s.rest = nil
	return 0
}

func (s *scanner) fail() { s.failed, s.rest = true, nil }

// take reads that byte.
func (s *scanner) take(c byte) bool {
	if s.next() != c {
		return false
	}
	s.rest = s.rest[1:]
	return true
}

// list reads what is between two brackets, separated by commas.
func (s *scanner) list(open, end byte, item func()) {
	if s.depth++; s.depth > maxDepth || !s.take(open) {
		s.fail()
		return
	}
	defer func() { s.depth-- }()
	if s.take(end) {
		return
	}
	for {
		item()
		if s.failed || s.take(end) {
			return
		}
		if !s.take(',') {
			s.fail()
			return
		}
	}
}

// object reads an object; another value is skipped.
func (s *scanner) object(member func(key []byte)) {
	if s.next() != '{' {
		s.skip()
		return
	}
	s.list('{', '}', func() {
		key, ok := s.string()
		if !ok || !s.take(':') {
			s.fail()
			return
		}
		member(key)
	})
}

// array reads an array; another value is skipped.
func (s *scanner) array(item func()) {
	if s.next() != '[' {
		s.skip()
		return
	}
	s.list('[', ']', item)
}

// skip reads any value.
func (s *scanner) skip() {
	switch s.next() {
	case '{':
		s.object(func([]byte) { s.skip() })
	case '[':
		s.array(s.skip)
	case '"':
		if _, ok := s.string(); !ok {
			s.fail()
		}
	default:
		s.word()
	}
}

// word reads a number, or true, false or null.
func (s *scanner) word() string {
	s.next()
	n := 0
	for n < len(s.rest) {
		c := s.rest[n]
		if c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c == '-' || c == '+' || c == '.' || c == 'E' {
			n++
			continue
		}
		break
	}
	w := string(s.rest[:n])
	s.rest = s.rest[n:]
	if w == "true" || w == "false" || w == "null" {
		return w
	}
	if !isNumber(w) {
		s.fail()
	}
	return w
}

// isNumber reports whether w is a number as JSON has it.
func isNumber(w string) bool {
	digits := func() (n int) {
		for n < len(w) && w[n] >= '0' && w[n] <= '9' {
			n++
		}
		w = w[n:]
		return n
	}
	w = strings.TrimPrefix(w, "-")
	zero := strings.HasPrefix(w, "0")
	if n := digits(); n == 0 || zero && n > 1 {
		return false
	}
	if rest, ok := strings.CutPrefix(w, "."); ok {
		if w = rest; digits() == 0 {
			return false
		}
	}
	if w != "" && (w[0] == 'e' || w[0] == 'E') {
		w = w[1:]
		if w != "" && (w[0] == '+' || w[0] == '-') {
			w = w[1:]
		}
		if digits() == 0 {
			return false
		}
	}
	return w == ""
}

// int reads a whole number; another value is skipped and 0.
func (s *scanner) int() int64 {
	n, ok := s.digits()
	if ok {
		return n
	}
	return int64(s.float())
}

// digits reads a whole number the quick way, if it is one.
func (s *scanner) digits() (n int64, ok bool) {
	i, negative := 0, false
	if s.next() == '-' {
		i, negative = 1, true
	}
	begin := i
	for ; i < len(s.rest) && i < begin+18 && s.rest[i] >= '0' && s.rest[i] <= '9'; i++ {
		n = 10*n + int64(s.rest[i]-'0')
	}
	if i == begin || s.rest[begin] == '0' && i > begin+1 || i == len(s.rest) || s.rest[i] != ',' && s.rest[i] != '}' {
		return 0, false
	}
	s.rest = s.rest[i:]
	if negative {
		n = -n
	}
	return n, true
}

// micros reads a number with three decimals the quick way, if it is one, and returns it times
// a thousand.
func (s *scanner) micros() (n int64, ok bool) {
	s.next()
	point := bytes.IndexByte(s.rest[:min(len(s.rest), 14)], '.')
	end := point + 4
	if point < 1 || s.rest[0] == '0' && point > 1 || end >= len(s.rest) || s.rest[end] != ',' && s.rest[end] != '}' {
		return 0, false
	}
	for i, c := range s.rest[:end] {
		switch {
		case c >= '0' && c <= '9':
			n = 10*n + int64(c-'0')
		case i != point:
			return 0, false
		}
	}
	s.rest = s.rest[end:]
	return n, true
}

// float reads a number; another value is skipped and 0.
func (s *scanner) float() float64 {
	if c := s.next(); c != '-' && (c < '0' || c > '9') {
		s.skip()
		return 0
	}
	f, _ := strconv.ParseFloat(s.word(), 64)
	return min(max(f, -1<<53), 1<<53)
}

// What nobody has waited for, and when nobody has: lines can be forged, and readers add them up.
const (
	longest = 10 * 365 * 24 * time.Hour
	latest  = 9e12 // in milliseconds, the year 2255: what is left until then is a time.Duration
)

// moment reads a time in milliseconds.
func (s *scanner) moment() int64 { return min(max(s.int(), 0), latest) }

// millis reads a number of milliseconds.
func (s *scanner) millis() time.Duration {
	if us, ok := s.micros(); ok {
		return time.Duration(us) * time.Microsecond
	}
	us := math.Round(s.float() * 1000)
	return time.Duration(min(max(us, 0), float64(longest/time.Microsecond))) * time.Microsecond
}

// text reads a string; another value is skipped and empty.
func (s *scanner) text() string { return s.common(nil) }

// common reads a string that most likely is one of those; another value is skipped and empty.
func (s *scanner) common(likely []string) string {
	if s.next() != '"' {
		s.skip()
		return ""
	}
	t, ok := s.string()
	if !ok {
		s.fail()
	}
	for _, l := range likely {
		if string(t) == l {
			return l
		}
	}
	return string(t)
}

// string reads a string. What it returns may be part of the line.
func (s *scanner) string() ([]byte, bool) {
	if !s.take('"') {
		return nil, false
	}
	for i, c := range s.rest {
		switch {
		case c == '"':
			t := s.rest[:i]
			s.rest = s.rest[i+1:]
			return t, true
		case c < ' ':
			return nil, false
		case c == '\\' || c >= utf8.RuneSelf:
			return s.escaped(append([]byte(nil), s.rest[:i]...), i)
		}
	}
	return nil, false
}

// escaped reads the rest of a string, from the i-th byte on.
func (s *scanner) escaped(t []byte, i int) ([]byte, bool) {
	for i < len(s.rest) {
		c := s.rest[i]
		switch {
		case c == '"':
			s.rest = s.rest[i+1:]
			return t, true
		case c < ' ':
			return nil, false
		case c == '\\':
			r, size := unescape(s.rest[i:])
			if size == 0 {
				return nil, false
			}
			t = utf8.AppendRune(t, r)
			i += size
		default:
			r, size := utf8.DecodeRune(s.rest[i:])
			t = utf8.AppendRune(t, r)
			i += size
		}
	}
	return nil, false
}

// unescape reads an escape sequence, two of them if they are the halves of one character;
// size 0 says that it is none.
func unescape(b []byte) (r rune, size int) {
	if len(b) < 2 {
		return 0, 0
	}
	switch b[1] {
	case '"', '\\', '/':
		return rune(b[1]), 2
	case 'b':
		return '\b', 2
	case 'f':
		return '\f', 2
	case 'n':
		return '\n', 2
	case 'r':
		return '\r', 2
	case 't':
		return '\t', 2
	case 'u':
		r, ok := unit(b)
		if !ok {
			return 0, 0
		}
		if utf16.IsSurrogate(r) {
			low, ok := unit(b[6:])
			if pair := utf16.DecodeRune(r, low); ok && pair != utf8.RuneError {
				return pair, 12
			}
			return utf8.RuneError, 6
		}
		return r, 6
	}
	return 0, 0
}

// unit reads \uXXXX.
func unit(b []byte) (rune, bool) {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	n, err := strconv.ParseUint(string(b[2:6]), 16, 16)
	return rune(n), err == nil
}
