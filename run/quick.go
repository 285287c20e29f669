package run

import (
	"os"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/dblock-dev/dblock/internal/cli"
	"github.com/dblock-dev/dblock/lock"
)

// Kong builds its model of a grammar anew at each start, flag by flag, help texts
// included: for all commands that takes it 2 ms, for Command alone 0.8 ms, as long as
// flock(1) needs in all. So simple runs get by with less: quick takes 0.3 ms, plain
// nothing. A test compares them with the whole.

// plain is dblock -d DB COMMAND, in which there is nothing to parse.
func plain(args []string) *Command {
	if len(args) < 2 || args[0] != "-d" && args[0] != "--db" || args[1] == "" || args[1][0] == '-' ||
		len(args) > 2 && (args[2] == "" || args[2][0] == '-') || !fits(nil, "", "db") {
		return nil
	}
	q := &quick{DB: args[1:2], Process: "dblock"}
	if len(args) > 2 {
		q.Argv = args[2:]
	}
	return q.whole()
}

// quick knows the flags that are given most.
type quick struct {
	DB       []string     `name:"db" short:"d" sep:"none"`
	LockFile string       ``
	Wait     cli.Duration `short:"w"`
	Nonblock bool         `short:"n"`
	Shared   bool         `short:"s"`
	Process  string       `short:"p" default:"dblock"`
	Quiet    cli.Quiet    `short:"q"`
	Argv     []string     `arg:"" optional:"" passthrough:"partial" name:"command"`
}

// whole is the whole command with the defaults of all other flags.
func (q *quick) whole() *Command {
	c := &Command{
		Asking: Asking{
			Database: cli.Database{Named: q.DB, LockFile: q.LockFile},
			Wait:     q.Wait, Nonblock: q.Nonblock,
			MaxRetries: lock.DefaultRetries, RetryDelay: Delay(lock.DefaultRetryDelay),
			ConflictExitCode: cli.ExitConflict,
			Shared:           q.Shared,
			Process:          q.Process,
			Foreign:          cli.Foreign{StaleTimeout: cli.StaleTimeout(lock.DefaultStaleTimeout), Stale: "dead"},
		},
		OnLost: "term", KillAfter: cli.Duration(10 * time.Second), OnTimeLimit: "term", Orphan: "term",
		Voice: cli.Voice{Quiet: q.Quiet},
		Argv:  q.Argv,
	}
	c.Unescape()
	return c
}

// Quick parses the arguments of a run with as little grammar as possible. It returns
// nil if they take all of it: to be understood or to be refused. There is no context
// of a plain run, of which cli.Given knows.
func Quick(args []string) (*Command, *kong.Context) {
	if len(args) > 0 && slices.Contains(cli.Subcommands, args[0]) {
		return nil, nil
	}
	if c := plain(args); c != nil {
		return c, nil
	}
	if fits(args, "dwnspq", "db", "lock-file", "wait", "nonblock", "shared", "process", "quiet") {
		var q quick
		if ctx := parseInto(&q, args); ctx != nil {
			return q.whole(), ctx
		}
	}
	var c Command
	if ctx := parseInto(&c, args); ctx != nil {
		c.Unescape()
		return &c, ctx
	}
	return nil, nil
}

// fits reports whether the environment sets no other flags than these, and guesses
// from the looks of the arguments whether they do: kong will tell.
func fits(args []string, letters string, names ...string) bool {
	for _, arg := range args {
		name, long := strings.CutPrefix(arg, "--")
		name, _, _ = strings.Cut(name, "=")
		short := !long && strings.HasPrefix(arg, "-")
		if long && !slices.Contains(names, name) || short && (len(arg) < 2 || !strings.Contains(letters, arg[1:2])) {
			return false
		}
	}
	for _, kv := range os.Environ() {
		rest, ours := strings.CutPrefix(kv, "DBLOCK_")
		if !ours {
			continue
		}
		name, _, _ := strings.Cut(rest, "=")
		if !strings.HasPrefix(kv, lock.EnvHold) && !slices.Contains(names, strings.ToLower(strings.ReplaceAll(name, "_", "-"))) {
			return false
		}
	}
	return true
}

func parseInto(grammar any, args []string) *kong.Context {
	k, err := kong.New(grammar, kong.Name("dblock"), kong.NoDefaultHelp(), kong.Resolvers(cli.Environment))
	if err != nil {
		return nil
	}
	ctx, err := k.Parse(args)
	if err != nil {
		return nil
	}
	return ctx
}
