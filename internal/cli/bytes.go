package cli

import (
	"strings"
	"unicode/utf8"
)

// Bytes that are not UTF-8 stand for themselves in arguments, but kong puts U+FFFD
// in their place. So each is written as a rune of the private use area while kong
// has them, and so are the bytes of such a rune that was there before.
const (
	firstEscape = 0x10FF00
	lastEscape  = firstEscape + 0xFF
)

// Escape makes any argument valid UTF-8.
func Escape(s string) string {
	if plainText(s) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && n == 1 || escaped(r) {
			for i := range n {
				b.WriteRune(firstEscape + rune(s[i]))
			}
		} else {
			b.WriteString(s[:n])
		}
		s = s[n:]
	}
	return b.String()
}

// Unescape gives an argument its bytes back.
func Unescape(s string) string {
	if !strings.ContainsFunc(s, escaped) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if escaped(r) {
			b.WriteByte(byte(r - firstEscape))
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

func escaped(r rune) bool { return r >= firstEscape && r <= lastEscape }

func plainText(s string) bool { return utf8.ValidString(s) && !strings.ContainsFunc(s, escaped) }
