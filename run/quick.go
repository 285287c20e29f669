package run

import (
	"os"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/dblock-dev/dblock/lock"
)

// quick is the part of Command's grammar that most runs get by with. Kong builds
// its model of a grammar anew at each start, flag by flag, help texts included: for
// all commands that takes it 2 ms, for Command alone 0.8 ms, as long as flock(1)
// needs in all, and for this 0.3 ms. A test compares them.
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

// Quick parses the arguments of a run with as little grammar as possible. It returns
// nil if they take all of it: to be understood or to be refused.
func Quick(args []string) (*Command, *kong.Context) {
	if len(args) > 0 && (args[0] == "run" || args[0] == "status" || args[0] == "force") {
		return nil, nil
	}
	if looksQuick(args) && quickEnvironment() {
		var q quick
		if ctx := parseInto(&q, args); ctx != nil {
			return q.command(), ctx
		}
	}
	var c Command
	if ctx := parseInto(&c, args); ctx != nil {
		return &c, ctx
	}
	return nil, nil
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

// looksQuick guesses whether quick is worth a try: kong will tell.
func looksQuick(args []string) bool {
	for _, arg := range args {
		if !strings.HasPrefix(arg, "-") {
			continue
		}
		name, _, _ := strings.Cut(arg, "=")
		switch name {
		case "--db", "--lock-file", "--wait", "--nonblock", "--shared", "--process", "--quiet":
		default:
			if len(arg) < 2 || !strings.Contains("dwnspq", arg[1:2]) {
				return false
			}
		}
	}
	return true
}

// quickEnvironment reports whether the environment sets no other flags than those of
// quick. Some variables are no flags: they are there for what runs under a dblock.
func quickEnvironment() bool {
	for _, kv := range os.Environ() {
		rest, ours := strings.CutPrefix(kv, "DBLOCK_")
		if !ours {
			continue
		}
		name, _, _ := strings.Cut(rest, "=")
		switch name {
		case "DB", "LOCK_FILE", "PROCESS", "PID", "HOST", "TIMESTAMP", "MODE", "TOKEN", "WAITED_MS", "OUTER":
		default:
			return false
		}
	}
	return true
}
