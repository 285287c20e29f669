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

// Redact takes the passwords out of the URLs in a text.
func Redact(text string) string {
	var b strings.Builder
	for {
		at := strings.Index(text, "://")
		if at < 0 {
			return b.String() + text
		}
		end := len(text)
		if n := strings.IndexFunc(text[at+3:], func(r rune) bool { return unicode.IsSpace(r) || strings.ContainsRune("'\"`", r) }); n >= 0 {
			end = at + 3 + n
		}
		b.WriteString(redact(text[:end], at))
		text = text[end:]
	}
}

// redact takes the password out of a URL, whose :// is there.
func redact(s string, at int) string {
	head, rest := s[:at+3], s[at+3:]
	authority, path := rest, ""
	if end := strings.IndexAny(rest, "/?#"); end >= 0 {
		authority, path = rest[:end], rest[end:]
	}
	// A password may have a slash in it, though it should not: then the @ is behind it.
	if last := strings.LastIndexByte(rest, '@'); last > len(authority) && strings.ContainsFunc(after(authority, ":"), notPort) {
		authority, path = rest[:last+1], rest[last+1:]
	}
	if user, host, ok := cutLast(authority, "@"); ok {
		user, _, _ = strings.Cut(user, ":")
		authority = user + "@" + host
	}
	for _, name := range []string{"?password=", "&password=", "&sslpassword=", "?sslpassword="} {
		before, value, found := strings.Cut(path, name)
		if !found {
			continue
		}
		path = before + name + "..."
		if _, more, ok := strings.Cut(value, "&"); ok {
			path += "&" + more
		}
	}
	return head + authority + path
}

func after(s, sep string) string {
	_, rest, _ := strings.Cut(s, sep)
	return rest
}

// notPort reports whether a character is in no list of hosts and ports by their numbers.
func notPort(r rune) bool { return !strings.ContainsRune("0123456789.,:[]", r) }

func cutLast(s, sep string) (before, after string, found bool) {
	at := strings.LastIndex(s, sep)
	if at < 0 {
		return s, "", false
	}
	return s[:at], s[at+len(sep):], true
}

// Quote writes an argument as a shell reads it, without anything that could command a
// terminal. Control characters, invisible ones and bytes that are no text take the form $'...',
// which bash, zsh, ksh and the newer POSIX shells know.
//
// What is shown may end in a mail or a log: in a URL the password is left out.
func Quote(s string) string {
	s = Redact(s)
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
