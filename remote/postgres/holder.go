package postgres

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"

	"github.com/dblock-dev/dblock/lock"
)

const (
	// nameSize is how much of application_name the server keeps.
	nameSize = 63
	// commentSize is how much of a statement is to be seen for sure, where track_activity_query_size is as it was made.
	commentSize = 1000
)

// The application_name of a session, which everybody sees, begins with what it does.
const (
	holds = "dblock "       // it has the lock: PID@HOST LABEL
	waits = "dblock waits " // it waits: KEY PID@HOST LABEL
	looks = "dblock looks"
)

// appName is the name of a session: what it does, and for whom.
func appName(what string, h lock.Holder) string {
	name := what + fmt.Sprintf("%d@%s %s", h.PID, h.Host, h.Process)
	name = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, name)
	return name[:min(len(name), nameSize)]
}

// details are what those see of a holder who have the right to see its statements.
type details struct {
	PID      int    `json:"pid"`
	Host     string `json:"host,omitempty"`
	Process  string `json:"process,omitempty"`
	Command  string `json:"command,omitempty"`
	Info     string `json:"info,omitempty"`
	UID      int    `json:"uid"`
	Mode     string `json:"mode,omitempty"`
	Token    int64  `json:"token,omitempty"`
	Acquired int64  `json:"acquired,omitempty"` // by the server's clock, in milliseconds
}

func detailsOf(h lock.Holder) details {
	return details{PID: h.PID, Host: h.Host, Process: h.Process, Command: h.Command, Info: h.Info, UID: h.UID, Mode: h.Mode.String()}
}

// comment makes them one, for the beginning of a statement.
func (d details) comment() string {
	for {
		text, _ := json.Marshal(d)
		if c := "/*" + plain(string(text)) + "*/ "; len(c) <= commentSize {
			return c
		}
		longest := &d.Info
		for _, s := range []*string{&d.Host, &d.Process, &d.Command} {
			if len(*s) > len(*longest) {
				longest = s
			}
		}
		*longest = strings.ToValidUTF8((*longest)[:len(*longest)*3/4], "")
	}
}

// plain writes JSON without what ends or begins a comment, and in ASCII: the server may have another encoding.
func plain(text string) string {
	var b strings.Builder
	for _, r := range text {
		switch {
		case r == '/':
			b.WriteString(`\u002f`)
		case r <= '~':
			b.WriteRune(r)
		case r > 0xffff:
			hi, lo := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, hi, lo)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// seen is what pg_stat_activity tells of a session.
type seen struct {
	name, text string // application_name, query
	address    string
}

// waiting reports whether it has no lock yet.
func (s seen) waiting() bool { return strings.HasPrefix(s.name, waits) }

// holder is whom a session is for.
func (s seen) holder() lock.Holder {
	if d, ok := s.details(); ok {
		h := lock.Holder{
			Dblock: true, PID: d.PID, Host: d.Host, Process: d.Process, Command: d.Command, Info: d.Info, UID: d.UID, Token: d.Token,
		}
		if d.Mode == lock.Shared.String() {
			h.Mode = lock.Shared
		}
		if d.Acquired > 0 {
			h.Acquired = time.UnixMilli(d.Acquired)
		}
		return h
	}
	h := lock.Holder{Process: s.name, Host: s.address, UID: -1}
	rest, ok := strings.CutPrefix(s.name, waits)
	if ok {
		_, rest, _ = strings.Cut(rest, " ")
	} else if rest, ok = strings.CutPrefix(s.name, holds); !ok {
		return h
	}
	who, label, _ := strings.Cut(rest, " ")
	pid, host, ok := strings.Cut(who, "@")
	if n, err := strconv.Atoi(pid); ok && err == nil {
		h.Dblock, h.PID, h.Host, h.Process = true, n, host, label
	}
	return h
}

// details are those of the statement, if it is to be seen, and begins with them.
func (s seen) details() (d details, ok bool) {
	if !strings.HasPrefix(s.name, holds) {
		return d, false
	}
	text, ok := strings.CutPrefix(s.text, "/*")
	if !ok {
		return d, false
	}
	text, _, ok = strings.Cut(text, "*/")
	return d, ok && json.Unmarshal([]byte(text), &d) == nil && d.PID != 0
}
