// Package notice is the lock file on disk: its layout, how it is read without
// trusting it, and how it is refreshed in place.
//
// Peers written in other languages parse the file whenever they please, and at
// least one of them deletes whatever it fails to parse. So a notice is complete
// from the first instant at which its path exists, and no refresh may ever be
// seen half done.
package notice

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// MaxSize is the number of bytes of a notice that are ever read. What dblock
// writes is always smaller.
const MaxSize = 4096

// Modes of a hold, as the notice spells them.
const (
	Exclusive = "exclusive"
	Shared    = "shared"
)

// Version is the version of the "dblock" object.
const Version = 1

// Info is the content of a notice. The first four fields are the protocol that
// every implementation shares; Dblock is nil in a peer's notice.
type Info struct {
	PID       int    // 0 when the notice names none that could exist
	Timestamp int64  // milliseconds since the epoch; meaningless unless Dated
	Dated     bool   // the notice has a numeric timestamp
	Host      string // host name
	Process   string // label
	Dblock    *Dblock
}

// Dblock is what dblock adds to a notice, for other dblocks.
type Dblock struct {
	Version  int    `json:"version"`
	Mode     string `json:"mode"`
	Token    int64  `json:"token"`    // fencing number
	ID       string `json:"id"`       // random identity of this hold
	Acquired int64  `json:"acquired"` // milliseconds since the epoch
	Started  uint64 `json:"started"`  // start of the holder's process, clock ticks since boot
	Boot     string `json:"boot"`     // boot id of the holder's kernel
	PIDNS    uint64 `json:"pidns"`    // inode of the holder's pid namespace
	// Room is the inode of the room that the holder has locked; 0 without one. The
	// holder keeps it open, so nobody else's room on this filesystem has its number.
	// The device would say less: one filesystem can have several numbers.
	Room    uint64 `json:"room"`
	UID     int    `json:"uid"`
	Command string `json:"command"` // base name only: arguments can hold secrets
	// Info is what the user wants others to know: a reason, a ticket, an address. A notice
	// without it does not have the member.
	Info string `json:"info,omitempty"`
}

// The layout. A reader copies the file while the holder rewrites its timestamp,
// and a copy is only guaranteed not to mix old and new bytes when all that
// changes lies in one aligned machine word. So the low eight digits of the
// timestamp are the word at lowAt, and the pid, which readers of a shared lock
// hand on, is the word at pidAt, padded with spaces; both in the first cache line.
const (
	pidAt  = 8
	highAt = 35
	lowAt  = 40
	word   = 8

	lowDigits = 100_000_000
	// minTimestamp keeps the number at 13 digits when the clock has not been
	// set yet; peers never call a timestamp in the future stale.
	minTimestamp = 1_000_000_000_000
	maxTimestamp = 9_999_999_999_999
)

// maxText bounds the label, host, command and info in bytes, so that a notice always
// fits MaxSize even if every byte of the first three must be escaped.
const maxText = 160

// Format lays out a notice. It always ends with a newline.
func Format(i Info) []byte {
	return layOut(make([]byte, 0, 512), i) // on the caller's stack where it does not stay
}

func layOut(b []byte, i Info) []byte {
	b = append(b, `{"pid": `...)
	b = append(b, pidWord(i.PID)...)
	b = append(b, `,"timestamp":      `...)
	b = strconv.AppendInt(b, clamp(i.Timestamp), 10)
	b = append(b, `,"host":`...)
	b = append(b, quote(i.Host)...)
	b = append(b, `,"process":`...)
	b = append(b, quote(i.Process)...)
	if d := i.Dblock; d != nil {
		b = appendInt(b, `,"dblock":{"version":`, int64(d.Version))
		b = append(append(b, `,"mode":`...), quote(d.Mode)...)
		b = appendInt(b, `,"token":`, d.Token)
		b = append(append(b, `,"id":`...), quote(d.ID)...)
		b = appendInt(b, `,"acquired":`, d.Acquired)
		b = strconv.AppendUint(append(b, `,"started":`...), d.Started, 10)
		b = append(append(b, `,"boot":`...), quote(d.Boot)...)
		b = strconv.AppendUint(append(b, `,"pidns":`...), d.PIDNS, 10)
		b = strconv.AppendUint(append(b, `,"room":`...), d.Room, 10)
		b = appendInt(b, `,"uid":`, int64(d.UID))
		b = append(append(b, `,"command":`...), quote(d.Command)...)
		if d.Info != "" {
			b = append(append(b, `,"info":`...), quoteShort(d.Info, MaxSize-1-len(b)-len(`,"info":}}`+"\n"))...)
		}
		b = append(b, '}')
	}
	return append(b, '}', '\n')
}

func appendInt(b []byte, key string, n int64) []byte {
	return strconv.AppendInt(append(b, key...), n, 10)
}

func pidWord(pid int) []byte {
	return append(strconv.AppendInt(nil, int64(pid), 10), "        "...)[:word]
}

func clamp(ms int64) int64 {
	return min(max(ms, minTimestamp), maxTimestamp)
}

// quote renders s as a JSON string of bounded length.
func quote(s string) []byte {
	if len(s) > maxText {
		s = s[:maxText]
		for len(s) > 0 && !utf8.ValidString(s[max(0, len(s)-utf8.UTFMax):]) {
			s = s[:len(s)-1]
		}
	}
	if simple(s) {
		return []byte(`"` + s + `"`)
	}
	q, err := json.Marshal(s)
	if err != nil {
		return []byte(`""`)
	}
	return q
}

// quoteShort is quote for the last text, for which there is not always room: every byte
// of the others may have had to be escaped.
func quoteShort(s string, most int) []byte {
	q := quote(s)
	for len(q) > most && s != "" {
		s = s[:len(s)*max(most, 0)/len(q)]
		q = quote(s)
	}
	return q
}

// Parse reads a notice that anybody may have written. An error means that it
// is not a notice at all: no JSON object. Fields of the wrong type count as
// absent, as they do for the peers, whose arithmetic turns them into NaN.
//
// The keys are matched exactly, as JavaScript does; encoding/json into a struct
// would also accept "PID".
func Parse(b []byte) (Info, error) {
	if i, ok := parseOwn(b); ok {
		return i, nil
	}
	return parseAny(b)
}

func parseAny(b []byte) (Info, error) {
	var i Info
	if !bytes.HasPrefix(bytes.TrimLeft(b, " \t\r\n"), []byte("{")) {
		return i, fmt.Errorf("not a JSON object")
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(b, &fields); err != nil {
		return i, err
	}
	if pid, ok := number(fields["pid"]); ok && pid >= 1 && pid <= math.MaxInt32 && pid == math.Trunc(pid) {
		i.PID = int(pid)
	}
	if ts, ok := number(fields["timestamp"]); ok {
		i.Dated = true
		i.Timestamp = int64(min(max(ts, -1<<53), 1<<53))
	}
	_ = json.Unmarshal(fields["host"], &i.Host)
	_ = json.Unmarshal(fields["process"], &i.Process)
	var d Dblock
	if raw, ok := fields["dblock"]; ok && json.Unmarshal(raw, &d) == nil && d.Version > 0 && isID(d.ID) {
		i.Dblock = &d
	}
	return i, nil
}

// parseOwn reads what Format has written, in a tenth of the time: encoding/json's first
// use costs a process that waits as much as all else that it does with a notice. Laid
// out again it must be the same.
func parseOwn(b []byte) (i Info, ok bool) {
	rest, ok := string(b), true
	const info = `,"info":`
	next := func(key string) (value string) {
		var found bool
		value, rest, found = strings.Cut(rest, key)
		ok = ok && found
		return value
	}
	number := func(key string) int64 {
		n, err := strconv.ParseInt(strings.TrimRight(next(key), " "), 10, 64)
		ok = ok && err == nil
		return n
	}
	text := func(key string) string {
		s := next(key)
		ok = ok && len(s) >= 2
		return strings.Trim(s, `"`)
	}
	next(`{"pid": `)
	i.PID = int(number(`,"timestamp":      `))
	i.Timestamp, i.Dated = number(`,"host":`), true
	i.Host = text(`,"process":`)
	i.Process = text(`,"dblock":{"version":`)
	i.Dblock = &Dblock{
		Version: int(number(`,"mode":`)), Mode: text(`,"token":`), Token: number(`,"id":`), ID: text(`,"acquired":`),
		Acquired: number(`,"started":`), Started: uint64(number(`,"boot":`)), Boot: text(`,"pidns":`),
		PIDNS: uint64(number(`,"room":`)), Room: uint64(number(`,"uid":`)), UID: int(number(`,"command":`)),
	}
	if strings.Contains(rest, info) {
		i.Dblock.Command = text(info)
		i.Dblock.Info = text("}}\n")
	} else {
		i.Dblock.Command = text("}}\n")
	}
	return i, ok && rest == "" && i.PID >= 0 && i.Dblock.Version > 0 && isID(i.Dblock.ID) && bytes.Equal(Format(i), b)
}

// simple reports whether a string stands for itself between the quotes of JSON.
func simple(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			return false
		}
	}
	return true
}

// isID reports whether s can be the identity of a hold. It is shown to people and
// copied into command lines, so nothing else counts as one.
func isID(s string) bool {
	return len(s) == 16 && strings.Trim(s, "0123456789abcdef") == ""
}

// Alien says why the file is no lock file at all, nor one that is half written or
// was damaged; it is empty where that cannot be said. named means that the user has
// named this file, and may have named another than he thinks: his database.
func (s *Sighting) Alien(named bool) string {
	text := bytes.TrimLeft(s.Bytes, " \t\r\n")
	object := bytes.HasPrefix(text, []byte("{"))
	switch {
	case s.Clipped:
		return fmt.Sprintf("it is larger than %d bytes", MaxSize)
	case len(text) == 0 || object && !named || onlyBeats(text):
		return ""
	case object && !resembles(text):
		return "it begins like JSON, but not as a lock file does"
	case !object && named:
		return "it does not begin with {"
	case !object && bytes.IndexByte(bytes.TrimRight(text, "\x00"), 0) >= 0:
		return "it is not text"
	}
	return ""
}

// onlyBeats reports whether a file holds no more than what a dblock refreshes of its notice:
// somebody has emptied it under one that was then killed.
func onlyBeats(text []byte) bool {
	return len(text) <= lowAt+word && strings.Trim(string(text), "\x00 0123456789") == ""
}

// resembles reports whether a text that begins with { is a notice, or can be what was
// written of one, or has been left of it. Much else begins so: settings, a template, a log.
func resembles(text []byte) bool {
	var fields map[string]json.RawMessage
	if json.Unmarshal(text, &fields) == nil {
		for _, name := range members {
			if _, ok := fields[name]; ok {
				return true
			}
		}
		return false
	}
	if severalObjects(text) {
		return false
	}
	begun := bytes.TrimLeft(text[1:], " \t\r\n")
	for _, name := range members {
		if member := []byte(strconv.Quote(name)); bytes.Contains(text, member) || bytes.HasPrefix(member, begun) {
			return true
		}
	}
	return false
}

// members are those by one of which a notice is known.
var members = []string{"pid", "timestamp", "dblock"}

// severalObjects reports whether it is one object after another: a log, which may have
// pids and times in it.
func severalObjects(text []byte) bool {
	d := json.NewDecoder(bytes.NewReader(text))
	var first, second map[string]json.RawMessage
	return d.Decode(&first) == nil && d.Decode(&second) == nil
}

func number(raw json.RawMessage) (float64, bool) {
	var f *float64
	if len(raw) == 0 || json.Unmarshal(raw, &f) != nil || f == nil {
		return 0, false
	}
	return *f, true
}
