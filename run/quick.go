package run

import (
	"os"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/dblock-dev/dblock/lock"
)

// Kong builds its model of a grammar anew at each start, flag by flag, help texts
// included; that of Command takes it 0.8 ms, as long as flock(1) needs in all. So
// simple runs are parsed with less of it: plain takes a tenth of that, quick a
// third. What they do not know is left to the whole grammar. A test compares them.

// plain is what most runs are: dblock -d DB -- COMMAND.
type plain struct {
	DB   string   `name:"db" short:"d"`
	Argv []string `arg:"" optional:"" passthrough:"partial" name:"command"`
}

// quick is the part of Command's grammar that nearly all others get by with.
type quick struct {
	DB       string   `name:"db" short:"d"`
	LockFile string   ``
	Wait     Duration `short:"w"`
	Nonblock bool     `short:"n"`
	Shared   bool     `short:"s"`
	Process  string   `short:"p" default:"dblock"`
	Quiet    bool     `short:"q"`
	Argv     []string `arg:"" optional:"" passthrough:"partial" name:"command"`
}

// command is the whole command with the defaults of all other flags.
func (q *quick) command() *Command {
	return &Command{
		Database: Database{DB: q.DB, LockFile: q.LockFile},
		Wait:     q.Wait, Nonblock: q.Nonblock,
		MaxRetries: lock.DefaultRetries, RetryDelay: Duration(lock.DefaultRetryDelay),
		ConflictExitCode: 75,
		Shared:           q.Shared,
		Process:          q.Process,
		Foreign:          Foreign{StaleTimeout: Duration(lock.DefaultStaleTimeout), Stale: "dead"},
		OnLost:           "term", KillAfter: Duration(10 * time.Second), Orphan: "term",
		Quiet: q.Quiet,
		Argv:  q.Argv,
	}
}

// Quick parses the arguments of a simple run. It returns nil if they, or the
// environment, take the whole grammar: to be understood or to be refused.
func Quick(args []string) (*Command, *kong.Context) {
	if len(args) > 0 && (args[0] == "run" || args[0] == "status" || args[0] == "force") {
		return nil, nil
	}
	if flags(args) <= 1 && onlySet("DB") {
		var p plain
		if ctx := parseInto(&p, args); ctx != nil {
			return (&quick{DB: p.DB, Process: "dblock", Argv: p.Argv}).command(), ctx
		}
	}
	if onlySet("DB", "LOCK_FILE", "PROCESS") {
		var q quick
		if ctx := parseInto(&q, args); ctx != nil {
			return q.command(), ctx
		}
	}
	return nil, nil
}

// flags counts what looks like a flag: to guess which grammar is worth a try.
func flags(args []string) (n int) {
	for _, arg := range args {
		if strings.HasPrefix(arg, "-") {
			n++
		}
	}
	return n
}

func parseInto(grammar any, args []string) *kong.Context {
	k, err := kong.New(grammar, kong.Name("dblock"), kong.NoDefaultHelp(), kong.Resolvers(Environment))
	if err != nil {
		return nil
	}
	ctx, err := k.Parse(args)
	if err != nil {
		return nil
	}
	return ctx
}

// onlySet reports whether the environment sets no other flags than these. Some
// variables are no flags: they are there for what runs under a dblock.
func onlySet(names ...string) bool {
	for _, kv := range os.Environ() {
		rest, ours := strings.CutPrefix(kv, "DBLOCK_")
		if !ours {
			continue
		}
		name, _, _ := strings.Cut(rest, "=")
		switch name {
		case "PID", "HOST", "TIMESTAMP", "MODE", "TOKEN", "WAITED_MS", "OUTER":
		default:
			if !slices.Contains(names, name) {
				return false
			}
		}
	}
	return true
}
