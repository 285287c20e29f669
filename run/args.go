package run

import (
	"slices"
	"strings"

	"github.com/dblock-dev/dblock/internal/cli"
)

// What the scanner must know of the flags to find where the command begins. A test
// compares it with the grammar.
const valued = "dwEpc" // letters with a value

var switches = []string{ // long flags without one
	"nonblock", "shared", "exclusive", "close", "quiet", "verbose", "json", "exit-code", "force", "yes", "if-stale", "no-history", "follow", "watch", "until-free", "all", "one-file-system", "help", "version",
}

// Spellings are flock(1)'s for flags that have other names here; -e is -x, too.
func Spellings() map[string]string {
	return map[string]string{"nb": "nonblock", "nonblocking": "nonblock", "timeout": "wait"}
}

// Own prepares dblock's own arguments, those before "--", for the grammar: it takes
// flock's spellings, makes bytes that are not UTF-8 pass through, and refuses what
// looks like a long flag's value behind a letter: -d=x would lock a file named "=x".
// Whatever it returns is undone by Unescape.
func Own(args []string) ([]string, error) {
	own := make([]string, len(args))
	for i, arg := range args {
		own[i] = cli.Escape(arg)
	}
	at, isRun := 0, true
	if len(own) > 0 && slices.Contains(cli.Subcommands, own[0]) {
		at, isRun = 1, own[0] == "run"
	}
	for ; at < len(own) && len(own[at]) > 1 && own[at][0] == '-'; at++ {
		var next bool
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
	if ours := Spellings()[name]; ours != "" && isRun {
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
			return "", false, cli.EqualsBehind(string(b[i]), value[1:])
		}
		return string(b), value == "", nil
	}
	return string(b), false, nil
}

// Unescape gives the arguments their bytes back.
func (c *Command) Unescape() {
	c.Asking.Unescape()
	c.Command = cli.Unescape(c.Command)
	for i, arg := range c.Argv {
		c.Argv[i] = cli.Unescape(arg)
	}
}
