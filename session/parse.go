package session

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// maxID is how long an id may be, as it is written.
const maxID = 256

// kind is what a value is.
type kind byte

const (
	absent kind = iota // or null
	text
	number
	yes
	no
	other // an array, an object
)

// value is one value of a request. For a string text is what it means, for a number how it
// is written.
type value struct {
	kind kind
	text string
}

// field is the place of a value in a request.
type field int

// The fields, in the order of their names.
const (
	fieldOp field = iota
	fieldDB
	fieldLockFile
	fieldMode
	fieldWait
	fieldPriority
	fieldProcess
	fieldInfo
	fieldStaleTimeout
	fieldStale
	fieldWanted
	fieldEvents
	fieldEnv
	fieldHold
	fieldYes
	fieldIfStale
	fieldLockID
	fieldKillAfter
	fieldTimeLimit
	fieldOnTimeLimit
	fields
)

var names = [fields]string{
	"op", "db", "lock_file", "mode", "wait", "priority", "process", "info", "stale_timeout", "stale", "wanted", "events", "env", "hold",
	"yes", "if_stale", "lock_id", "kill_after", "time_limit", "on_time_limit",
}

// request is a line that was understood.
type request struct {
	id     string // as it was written: 1 or "x"
	target string // the same, of another request
	values [fields]value
}

// problem is what is wrong with a request, or went wrong with it.
type problem struct {
	code, message, hint string
}

func (p *problem) Error() string { return p.message }

func bad(format string, args ...any) *problem {
	return &problem{code: codeBadLine, message: fmt.Sprintf(format, args...), hint: "one JSON object a line, with an \"id\""}
}

// parse reads a line. With an error it returns as much of the request as was understood: its
// id, if that is known.
func parse(line []byte) (*request, *problem) {
	if !utf8.Valid(line) {
		return &request{}, bad("the line is not UTF-8")
	}
	r, ok := parsePlain(line)
	if !ok {
		var p *problem
		if r, p = parseAny(line); p != nil {
			return r, p
		}
	}
	switch {
	case r.id == "":
		return r, bad("the request has no \"id\", which is a string or a number")
	case len(r.id) > maxID:
		return &request{}, bad("the request's id is longer than %d bytes", maxID)
	}
	return r, nil
}

// parsePlain is parse for what nearly all requests look like: one flat object without
// escapes. What it does not understand is left to the whole parser.
func parsePlain(b []byte) (*request, bool) {
	r := &request{}
	i := space(b, 0)
	if i >= len(b) || b[i] != '{' {
		return nil, false
	}
	for {
		name, next, ok := plainString(b, space(b, i+1))
		if !ok {
			return nil, false
		}
		if i = space(b, next); i >= len(b) || b[i] != ':' {
			return nil, false
		}
		if i = space(b, i+1); i >= len(b) {
			return nil, false
		}
		v, next, ok := plainValue(b, i)
		if !ok {
			return nil, false
		}
		r.set(string(name), v, b[i:next])
		if i = space(b, next); i >= len(b) {
			return nil, false
		}
		switch b[i] {
		case ',':
		case '}':
			return r, space(b, i+1) == len(b)
		default:
			return nil, false
		}
	}
}

func space(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\t' || b[i] == '\r' || b[i] == '\n') {
		i++
	}
	return i
}

// plainString reads a string without escapes; next is behind it.
func plainString(b []byte, i int) (s []byte, next int, ok bool) {
	if i >= len(b) || b[i] != '"' {
		return nil, 0, false
	}
	for j := i + 1; j < len(b); j++ {
		switch c := b[j]; {
		case c == '"':
			return b[i+1 : j], j + 1, true
		case c == '\\' || c < ' ':
			return nil, 0, false
		}
	}
	return nil, 0, false
}

func plainValue(b []byte, i int) (v value, next int, ok bool) {
	switch c := b[i]; {
	case c == '"':
		s, next, ok := plainString(b, i)
		return value{text, string(s)}, next, ok
	case c >= '0' && c <= '9' || c == '-':
		next = i + 1
		for next < len(b) && (b[next] >= '0' && b[next] <= '9' || b[next] == '.') {
			next++
		}
		// What has an exponent, a leading zero or a dot at its end is the whole parser's.
		digits := b[i:next]
		if c == '-' {
			digits = digits[1:]
		}
		plain := len(digits) > 0 && digits[len(digits)-1] != '.' && digits[0] != '.' && bytes.Count(digits, []byte(".")) < 2 &&
			(digits[0] != '0' || len(digits) == 1 || digits[1] == '.')
		return value{number, string(b[i:next])}, next, plain
	case bytes.HasPrefix(b[i:], []byte("true")):
		return value{kind: yes}, i + 4, true
	case bytes.HasPrefix(b[i:], []byte("false")):
		return value{kind: no}, i + 5, true
	case bytes.HasPrefix(b[i:], []byte("null")):
		return value{}, i + 4, true
	}
	return value{}, 0, false
}

// parseAny is parse for any JSON.
func parseAny(line []byte) (*request, *problem) {
	r := &request{}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(line, &all); err != nil {
		if json.Valid(line) {
			return r, bad("the line is no JSON object")
		}
		return r, bad("the line is not JSON: %v", err)
	}
	if all == nil {
		return r, bad("the line is no JSON object")
	}
	for name, raw := range all {
		v := value{kind: other}
		switch c := raw[0]; {
		case c == '"':
			v.kind = text
			if err := json.Unmarshal(raw, &v.text); err != nil {
				return &request{}, bad("the line is not JSON: %v", err)
			}
		case c == 't':
			v.kind = yes
		case c == 'f':
			v.kind = no
		case c == 'n':
			v.kind = absent
		case c == '-' || c >= '0' && c <= '9':
			v = value{number, string(raw)}
		}
		r.set(name, v, raw)
	}
	return r, nil
}

// set notes a value. Of several with the same name the last one counts.
func (r *request) set(name string, v value, raw []byte) {
	id := ""
	if v.kind == text || v.kind == number {
		id = string(raw)
	}
	switch name {
	case "id":
		r.id = id
	case "target":
		r.target = id
	default:
		for f, n := range names {
			if n == name {
				r.values[f] = v
			}
		}
	}
}

// has reports whether the request says something about the field.
func (r *request) has(f field) bool { return r.values[f].kind != absent }

func wrong(f field, want string) *problem {
	return &problem{code: codeUsage, message: fmt.Sprintf("%q must be %s", names[f], want)}
}

// text is a field that is a string, "" if it is absent.
func (r *request) text(f field) (string, *problem) {
	switch v := r.values[f]; {
	case v.kind == text && bytes.IndexByte([]byte(v.text), 0) >= 0:
		return "", wrong(f, "a string without NUL characters")
	case v.kind == text, v.kind == absent:
		return v.text, nil
	}
	return "", wrong(f, "a string")
}

// flag is a field that is true or false, the latter if it is absent.
func (r *request) flag(f field) (bool, *problem) {
	switch r.values[f].kind {
	case yes:
		return true, nil
	case no, absent:
		return false, nil
	}
	return false, wrong(f, "true or false")
}

// whole is a field that is a whole number.
func (r *request) whole(f field) (int64, *problem) {
	if v := r.values[f]; v.kind == number {
		if n, err := strconv.ParseInt(v.text, 10, 64); err == nil {
			return n, nil
		}
	}
	return 0, wrong(f, "a whole number")
}

// as parses a field whose values have a type of their own, given as a string or a number.
func (r *request) as(f field, to interface{ UnmarshalText([]byte) error }) *problem {
	v := r.values[f]
	switch v.kind {
	case absent:
		return nil
	case text, number:
	default:
		return wrong(f, "a string or a number")
	}
	if err := to.UnmarshalText([]byte(v.text)); err != nil {
		p := usage(err)
		p.message = fmt.Sprintf("%q: %s", names[f], p.message)
		return p
	}
	return nil
}
