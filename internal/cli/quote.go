package cli

import (
	"fmt"
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/dblock-dev/dblock/lock"
)

// Selector is how to name this lock on another command line, in whatever directory: one
// that a person can paste into a shell.
func (d Database) Selector() string {
	flag, path := "-d ", d.DB
	if d.LockFile != "" {
		flag, path = "--lock-file ", d.LockFile
	}
	if lock.IsURL(path) {
		return flag + Quote(Shown(path))
	}
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	return flag + Quote(path)
}

// Shown is what people may see of a database's name: of a URL no password.
func Shown(db string) string {
	if !lock.IsURL(db) {
		return db
	}
	n, err := lock.Resolve(db, "")
	if err != nil {
		scheme, _, _ := strings.Cut(db, "://")
		return scheme + "://..."
	}
	return n.DB
}

// Quote writes an argument as a shell reads it, without anything that could command a
// terminal. Control characters, invisible ones and bytes that are no text take the form $'...',
// which bash, zsh, ksh and the newer POSIX shells know.
func Quote(s string) string {
	switch {
	case s != "" && !strings.ContainsFunc(s, special):
		return s
	case utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }):
		return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
	}
	var b strings.Builder
	b.WriteString("$'")
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == '\'' || r == '\\':
			b.WriteString(`\` + string(r))
		case r == utf8.RuneError && n == 1 || !unicode.IsPrint(r):
			for i := range n {
				// Octal: what follows a \x might be taken for one more digit of it.
				fmt.Fprintf(&b, `\%03o`, s[i])
			}
		default:
			b.WriteString(s[:n])
		}
		s = s[n:]
	}
	return b.String() + "'"
}

// special reports whether a shell may give a character a meaning.
func special(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("/._-+,:@%=", r) &&
		(r < 0x80 || !unicode.IsLetter(r))
}
