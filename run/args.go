package run

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// What the scanner must know of the flags to find where the command begins. A test
// compares it with the grammar.
const valued = "dwEpc" // letters with a value

var switches = []string{ // long flags without one
	"nonblock", "shared", "exclusive", "close", "quiet", "verbose", "json", "exit-code", "force", "yes", "if-stale", "help", "version",
}

// spellings are flock(1)'s for flags that have other names here; -e is -x, too.
var spellings = map[string]string{"nb": "nonblock", "nonblocking": "nonblock", "timeout": "wait"}

// Own prepares dblock's own arguments, those before "--", for the grammar: it takes
// flock's spellings, makes bytes that are not UTF-8 pass through, and refuses what
// looks like a long flag's value behind a letter: -d=x would lock a file named "=x".
// Whatever it returns is undone by Unescape.
func Own(args []string) ([]string, error) {
	own := make([]string, len(args))
	for i, arg := range args {
		own[i] = escape(arg)
	}
	at, isRun := 0, true
	if len(own) > 0 && slices.Contains([]string{"run", "status", "force"}, own[0]) {
		at, isRun = 1, own[0] == "run"
	}
	for ; at < len(own) && len(own[at]) > 1 && own[at][0] == '-'; at++ {
		next := false
		var err error
		if long, ok := strings.CutPrefix(own[at], "--"); ok {
			own[at], next = longFlag(long, isRun)
		} else if own[at], next, err = letters(own[at], isRun); err != nil {
			return nil, err
		}
		if next {
			at++
		}
	}
	return own, nil
}

// longFlag spells a flag as the grammar does. next says that its value is the next
// argument.
func longFlag(flag string, isRun bool) (spelled string, next bool) {
	name, value, has := strings.Cut(flag, "=")
	if ours := spellings[name]; ours != "" && isRun {
		name = ours
	}
	if has {
		return "--" + name + "=" + value, false
	}
	return "--" + name, !slices.Contains(switches, name)
}

// letters is the same for short flags, of which several may stand together.
func letters(arg string, isRun bool) (spelled string, next bool, err error) {
	b := []byte(arg)
	for i := 1; i < len(b); i++ {
		if b[i] == 'e' && isRun {
			b[i] = 'x'
		}
		if !strings.Contains(valued, string(b[i:i+1])) {
			continue
		}
		value := string(b[i+1:])
		if strings.HasPrefix(value, "=") {
			letter := string(b[i])
			return "", false, &UsageError{
				fmt.Sprintf("-%s%s: no \"=\" comes between a letter and its value", letter, unescape(value)),
				fmt.Sprintf("give -%s %s, or the long flag; a value that begins with \"=\" is an argument of its own", letter, unescape(value[1:])),
			}
		}
		return string(b), value == "", nil
	}
	return string(b), false, nil
}

// Bytes that are not UTF-8 stand for themselves in arguments, but kong puts U+FFFD
// in their place. So each is written as a rune of the private use area while kong
// has them, and so are the bytes of such a rune that was there before.
const (
	firstEscape = 0x10FF00
	lastEscape  = firstEscape + 0xFF
)

func escape(s string) string {
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

func unescape(s string) string {
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

// Unescape gives the arguments their bytes back.
func (d *Database) Unescape() {
	d.DB, d.LockFile = unescape(d.DB), unescape(d.LockFile)
}

// Unescape gives the arguments their bytes back.
func (c *Command) Unescape() {
	c.Database.Unescape()
	c.Process, c.Command = unescape(c.Process), unescape(c.Command)
	for i, arg := range c.Argv {
		c.Argv[i] = unescape(arg)
	}
}

// Misused is the error of a command line that the grammar refuses.
func Misused(err error) error {
	return &UsageError{Problem: unescape(err.Error()), Hint: "see dblock --help"}
}
