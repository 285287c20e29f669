package session

import (
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/dblock-dev/dblock/lock"
)

// object is a JSON object that is being written.
type object struct {
	b     []byte
	begun bool
}

// answer begins the answer to a request.
func answer(space []byte, id string, ok bool) object {
	o := object{b: append(space[:0], '{')}
	if id == "" {
		id = "null"
	}
	o.raw("id", id)
	o.bool("ok", ok)
	return o
}

// event begins an event.
func event(space []byte, name string) object {
	o := object{b: append(space[:0], '{')}
	o.text("event", name)
	return o
}

// line ends the outermost object.
func (o *object) line() []byte { return append(o.b, '}', '\n') }

func (o *object) name(n string) {
	if o.begun {
		o.b = append(o.b, ',')
	}
	o.begun = true
	o.b = append(append(append(o.b, '"'), n...), '"', ':')
}

func (o *object) raw(name, json string) {
	o.name(name)
	o.b = append(o.b, json...)
}

func (o *object) text(name, s string) {
	o.name(name)
	o.b = quote(o.b, s)
}

func (o *object) int(name string, n int64) {
	o.name(name)
	o.integer(n)
}

func (o *object) integer(n int64) { o.b = strconv.AppendInt(o.b, n, 10) }

func (o *object) bool(name string, v bool) {
	o.name(name)
	o.b = strconv.AppendBool(o.b, v)
}

// ms writes a length of time in milliseconds, to the microsecond.
func (o *object) ms(name string, d time.Duration) {
	o.name(name)
	o.b = strconv.AppendFloat(o.b, float64(d.Microseconds())/1000, 'f', -1, 64)
}

// object writes an object within this one.
func (o *object) object(name string, fill func(*object)) {
	o.name(name)
	inner := object{b: append(o.b, '{')}
	fill(&inner)
	o.b = append(inner.b, '}')
}

// quote appends a JSON string. Bytes that are no UTF-8 become U+FFFD.
func quote(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			switch {
			case r == utf8.RuneError && n == 1:
				b = append(append(b, s[from:i]...), `\ufffd`...)
				from = i + n
			case r == '\u2028' || r == '\u2029' || r < 0xa0:
				// A terminal, or a program that looks for the end of a line, may trip over these.
				b = append(b, s[from:i]...)
				b = append(b, '\\', 'u', hex[r>>12&15], hex[r>>8&15], hex[r>>4&15], hex[r&15])
				from = i + n
			}
			i += n
			continue
		}
		if c < ' ' || c == '"' || c == '\\' || c == 0x7f {
			b = append(b, s[from:i]...)
			if c == '"' || c == '\\' {
				b = append(b, '\\', c)
			} else {
				b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
			}
			from = i + 1
		}
		i++
	}
	return append(append(b, s[from:]...), '"')
}

// holder describes whoever has a lock, as far as it is known.
func holder(o *object, h *lock.Holder, age time.Duration) {
	if h == nil {
		return
	}
	o.object("holder", func(o *object) {
		o.int("pid", int64(h.PID))
		o.text("process", h.Process)
		o.text("host", h.Host)
		if h.Command != "" {
			o.text("command", h.Command)
		}
		if h.Info != "" {
			o.text("info", h.Info)
		}
		if h.Dblock {
			o.text("mode", h.Mode.String())
		}
		if age >= 0 {
			o.int("held_ms", age.Milliseconds())
		}
	})
}
