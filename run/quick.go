package run

import (
	"os"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/dblock-dev/dblock/lock"
)

// quick is the part of Command's grammar that most runs get by with. Kong builds
// its model of a grammar anew at each start, flag by flag, help texts included;
// that of Command takes it 0.8 ms, as long as flock(1) needs in all, and this one
// a fifth of that. What it does not know is left to the whole grammar. A test
// compares the two.
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
	if len(args) > 0 && (args[0] == "run" || args[0] == "status" || args[0] == "force") || !quickEnvironment() {
		return nil, nil
	}
	var q quick
	k, err := kong.New(&q, kong.Name("dblock"), kong.NoDefaultHelp(), kong.Resolvers(Environment))
	if err != nil {
		return nil, nil
	}
	ctx, err := k.Parse(args)
	if err != nil {
		return nil, nil
	}
	return q.command(), ctx
}

// quickEnvironment reports whether the environment sets no other flags: it does
// set some of these, and variables that are no flags, for what runs under a dblock.
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
