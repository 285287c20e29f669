package history

import (
	"strconv"
	"time"
	"unicode/utf8"
)

// maxText bounds each text in bytes, before escaping, such that no line exceeds MaxLine.
const (
	maxText  = 128
	maxBrief = 48 // of a blocker's label and command
)

// Append appends the event as a line to b.
func Append(b []byte, e *Event) []byte {
	begin := len(b)
	b = appendEvent(b, e, maxText, maxBrief)
	if len(b)-begin > MaxLine { // every byte of them had to be escaped
		b = appendEvent(b[:begin], e, maxText/6, maxBrief/6)
	}
	return b
}

func appendEvent(b []byte, e *Event, most, brief int) []byte {
	b = number(b, `{"v":`, Version)
	b = text(b, `,"event":`, string(e.Kind), most)
	b = number(b, `,"at":`, e.At)
	b = optional(b, `,"token":`, e.Token)
	b = text(b, `,"process":`, e.Process, most)
	if e.Info != "" {
		b = text(b, `,"info":`, e.Info, most)
	}
	b = number(b, `,"pid":`, int64(e.PID))
	b = text(b, `,"host":`, e.Host, most)
	b = number(b, `,"uid":`, int64(e.UID))
	b = text(b, `,"command":`, e.Command, most)
	if e.Shared {
		b = append(b, `,"mode":"shared"`...)
	} else {
		b = append(b, `,"mode":"exclusive"`...)
	}
	if e.Priority != "" {
		b = text(b, `,"priority":`, e.Priority, most)
	}
	b = optional(b, `,"requested":`, e.Requested)
	b = optional(b, `,"acquired":`, e.Acquired)
	b = optional(b, `,"released":`, e.Released)
	b = millis(b, `,"waited_ms":`, e.Waited)
	b = millis(b, `,"held_ms":`, e.Held)
	if e.Ended != "" {
		b = text(b, `,"ended":`, string(e.Ended), most)
	}
	if e.Ended == Exited {
		b = number(b, `,"code":`, int64(e.Code))
	}
	b = optional(b, `,"signal":`, int64(e.Signal))
	b = optional(b, `,"heals":`, int64(e.Heals))
	if e.By != nil {
		b = append(party(append(b, `,"by":{`...), e.By, most), '}')
	}
	b = optional(b, `,"ahead":`, int64(e.Ahead))
	if len(e.Blockers) > 0 {
		b = append(b, `,"blockers":[`...)
		for i := range e.Blockers[:min(len(e.Blockers), MaxBlockers)] {
			if i > 0 {
				b = append(b, ',')
			}
			b = party(append(b, '{'), &e.Blockers[i].Party, brief)
			b = append(millis(b, `,"ms":`, e.Blockers[i].For), '}')
		}
		b = append(b, ']')
	}
	return append(b, '}', '\n')
}

func party(b []byte, p *Party, most int) []byte {
	b = number(b, `"pid":`, int64(p.PID))
	b = number(b, `,"uid":`, int64(p.UID))
	b = text(b, `,"process":`, p.Process, most)
	b = text(b, `,"command":`, p.Command, most)
	return optional(b, `,"token":`, p.Token)
}

func number(b []byte, key string, n int64) []byte {
	return strconv.AppendInt(append(b, key...), n, 10)
}

// optional leaves out a number that is not known.
func optional(b []byte, key string, n int64) []byte {
	if n == 0 {
		return b
	}
	return number(b, key, n)
}

// millis is a duration in milliseconds with three decimals.
func millis(b []byte, key string, d time.Duration) []byte {
	us := max(d, 0).Microseconds()
	b = number(b, key, us/1000)
	rest := us % 1000
	return append(b, '.', byte('0'+rest/100), byte('0'+rest/10%10), byte('0'+rest%10))
}

const hex = "0123456789abcdef"

// text is a JSON string of at most that many bytes before escaping. What is no UTF-8 becomes
// U+FFFD, as in every JSON.
func text(b []byte, key, s string, most int) []byte {
	b = append(append(b, key...), '"')
	if len(s) > most {
		for s = s[:most]; len(s) > 0 && !utf8.ValidString(s[max(0, len(s)-utf8.UTFMax):]); {
			s = s[:len(s)-1]
		}
	}
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < ' ' || c == 0x7f:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		case c < utf8.RuneSelf:
			b = append(b, c)
		default:
			r, size := utf8.DecodeRuneInString(s[i:])
			if r < 0xa0 { // what a terminal takes for commands
				b = append(b, '\\', 'u', '0', '0', hex[r>>4], hex[r&15])
			} else {
				b = utf8.AppendRune(b, r)
			}
			i += size
			continue
		}
		i++
	}
	return append(b, '"')
}
