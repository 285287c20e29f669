package test

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What somebody is told who has made a mistake: what is wrong, in the words of the manual,
// and what would be right. Each is wrong usage, 64, and leaves nothing behind.
func TestMisuse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, c := range []struct{ args, problem, hint string }{
		{"", "no database is named", "dblock -d PATH -- COMMAND, or set DBLOCK_DB; `dblock --help` shows more"},
		{"-d x", "no command is given", "`dblock -d DIR/x -- COMMAND`"},
		{"-d x -w 5 -p a'b", "no command is given", "`dblock -d x -w 5 -p 'a'\\''b' -- COMMAND`"},
		{"run --nb --db=x --", "no command is given", "`dblock run --nonblock --db=x -- COMMAND`"},
		{"status", "no database is named", "name it with -d PATH, or set DBLOCK_DB"},
		// Words that are meant for dblock.
		{"statsu -d x", "statsu is neither a subcommand nor a program", "did you mean `dblock status -d x`?"},
		{"statsu -v -d a'b", "statsu is neither a subcommand nor a program", `did you mean ` + "`dblock status -v -d 'a'\\''b'`?"},
		{"-d x froce --yes", "froce is neither a subcommand nor a program", "did you mean `dblock force -d DIR/x --yes`?"},
		{"rnu -d x -- true", "rnu is neither a subcommand nor a program", "did you mean `dblock run -d x -- true`?"},
		{"version", "version is neither a subcommand nor a program", "did you mean `dblock --version`?"},
		{"hlep", "hlep is neither a subcommand nor a program", "did you mean `dblock --help`?"},
		{"help node", "there is no help on node", "`dblock --help` is on running a command; on the rest `dblock help status`, `force`, `hold`, `release` or `session`"},
		{"hlep status", "hlep is neither a subcommand nor a program", "did you mean `dblock status --help`?"},
		{"-d x status", "status comes before its flags", "`dblock status -d DIR/x`, or, to run a program of that name, `dblock -d DIR/x -- status`"},
		{"-w 3 -d x status -v", "status comes before its flags", "`dblock status -d DIR/x -v`, or, to run a program of that name, `dblock -d DIR/x -- status -v`"},
		{"status x.db", `dblock status takes flags only, and no "x.db"`, "the database is named with -d: `dblock status -d x.db`"},
		{"force -d x y", `dblock force takes flags only, and no "y"`, "leave it out; a path with a space in it is quoted"},
		{"status --lock-file=x extra", `dblock status takes flags only, and no "extra"`, "leave it out; a path with a space in it is quoted"},
		{"status help", `dblock status takes flags only, and no "help"`, "see `dblock status --help`"},
		{"status -d x -- true", "status takes no command", "`dblock -d PATH -- COMMAND` runs one"},
		{"hodl -d x", "hodl is neither a subcommand nor a program", "did you mean `dblock hold -d x`?"},
		{"-d x release", "release is neither a subcommand nor a program", "did you mean `dblock release -d DIR/x`?"},
		{"hold", "no database is named", "`eval \"$(dblock hold -d PATH)\"`, or set DBLOCK_DB"},
		{"hold -d x -E 0", "0 cannot be the exit code when the lock was not acquired: the script would go on without it", "`eval ... || exit 0` ends the script"},
		{"hold -d x --for sh", `--for: "sh" is not the number of a process`, "give a shell's own as --for $$"},
		{"hold -d x -n -w 3", "--nonblock and --wait exclude each other", "give one of them"},
		{"hold -d x -- true", "hold takes no command", "`dblock -d PATH -- COMMAND` runs one"},
		{"ls a b", `dblock ls takes one dir, and no "b" as well`, "leave it out; a path with a space in it is quoted"},
		{"ls -d x", "unknown flag -d for dblock ls", "see `dblock ls --help`"},
		{"ls a --al", "unknown flag --al", "did you mean --all?"},
		{"ls a -- true", "ls takes no command", "`dblock -d PATH -- COMMAND` runs one"},
		{"status -w 3 -d x", "--wait goes with --until-free", "`dblock status --until-free` waits"},
		{"status --until-free -d x -d y", "--until-free is about one database, and several are named", "name one at a time"},
		{"status --watch --force -d x", "--force and --watch exclude each other", "give one of them"},
		{"status --until-free -E 256 -d x", `--conflict-exit-code: "256" is not an exit code`, "give a whole number from 0 to 255"},
		{"release x", `dblock release takes flags only, and no "x"`, "the database is named with -d: `dblock release -d x`"},
		// A database that is named where the command's arguments are.
		{"unlock -d x", `-d must come before the command: what follows "unlock" belongs to it`, "`dblock force -d DIR/x`"},
		{"run unlock -d x", `-d must come before the command: what follows "unlock" belongs to it`, "`dblock force -d DIR/x`"},
		{"-n lock --lock-file x -v", `--lock-file must come before the command: what follows "lock" belongs to it`, "`dblock --lock-file DIR/x -- lock -v`"},
		{"lock -d x -w 5 -- true -d y", `-d must come before the command: what follows "lock" belongs to it`, "`dblock -d DIR/x -w 5 -- true -d y`"},
		{"true -v -d x", `-d must come before the command: what follows "true" belongs to it`, "`dblock -d DIR/x -- true -v`"},
		{"x.db true a'b", "no database is named", "if x.db is the database: `dblock -d DIR/x.db -- true 'a'\\''b'`"},
		{"./x.db -- true", "no database is named", "if ./x.db is the database: `dblock -d DIR/x.db -- true`"},
		{"x.db", "no database is named", "if x.db is the database: `dblock -d DIR/x.db -- COMMAND`"},
		{"true", "no database is named", "dblock -d PATH -- COMMAND, or set DBLOCK_DB; `dblock --help` shows more"},
		{"nonesuch -d", "no database is named", "dblock -d PATH -- COMMAND, or set DBLOCK_DB; `dblock --help` shows more"},
		{"-- unlock -d x", "no database is named", "dblock -d PATH -- COMMAND, or set DBLOCK_DB; `dblock --help` shows more"},
		// Flags.
		{"--bogus -d x true", "unknown flag --bogus", "see `dblock run --help`"},
		{"status --bogus", "unknown flag --bogus", "see `dblock status --help`"},
		{"--version=1 status -s", "unknown flag -s for dblock status", "see `dblock status --help`"},
		{"force -n -d x", "unknown flag -n for dblock force", "see `dblock force --help`"},
		{"--help run --= x", "unknown flag --", "see `dblock run --help`"},
		{"-Z -d x true", "unknown flag -Z", "see `dblock run --help`"},
		{"--nonblok -d x true", "unknown flag --nonblok", "did you mean --nonblock?"},
		{"--d x true", "unknown flag --d", "did you mean -d?"},
		{"-d x --json true", "unknown flag --json for dblock run", "`dblock status` has one; see `dblock status --help`"},
		{"-wait 5 -d x true", "-wait: a flag of more than one letter begins with two dashes", "did you mean --wait?"},
		{"-n5 -d x true", "unknown flag -5", "see `dblock run --help`"},
		{"-d=x true", `-d=x: no "=" comes between a letter and its value`, `give -d x, or the long flag; a value that begins with "=" is an argument of its own`},
		{"-q=2 -d x true", `-q=2: no "=" comes between a letter and its value`, "give --quiet=2, or -q alone"},
		{"-nq=9 -d x true", `-nq=9: no "=" comes between a letter and its value`, "give -q alone"},
		{"status -q=2 -d x", `-q=2: no "=" comes between a letter and its value`, "give -q alone"},
		{"-= -d x true", "unknown flag -=", "see `dblock run --help`"},
		{"-d x -c", "--command needs a value", "give --command STRING"},
		{"-d x --command=", "--command is empty", "give what the shell is to run, as in -c 'node export.js | gzip > export.gz'"},
		{"-d x --command= true", "--command is empty", "give what the shell is to run, as in -c 'node export.js | gzip > export.gz'"},
		{"-d", "--db needs a value", "give --db PATH"},
		{"-d x -w", "--wait needs a value", "give seconds like 2.5, or 90s, 5m, forever"},
		{"-d -- true", "--db needs a value", "give --db PATH"},
		{"-d --nonblock true", "--db needs a value, and --nonblock looks like a flag", "a value that begins with a dash is written `--db=--nonblock`"},
		{"-w -n -d x true", "--wait needs a value, and -n looks like a flag", "give seconds like 2.5, or 90s, 5m, forever"},
		{"-n -w 3 -d x true", "--nonblock and --wait exclude each other", "give one of them"},
		// Values.
		{"-w soon -d x true", `--wait: "soon" is not a length of time`, "give seconds like 2.5, or 90s, 5m, forever"},
		{"-w -1 -d x true", `--wait: "-1" is not a length of time`, "give seconds like 2.5, or 90s, 5m, forever"},
		{"--kill-after=x -d x true", `--kill-after: "x" is not a length of time`, "give seconds like 2.5, or 90s, 5m, forever"},
		{"--stale-timeout 0.9 -d x true", `--stale-timeout: "0.9" is no time after which a lock can count as abandoned`, "give 1s or more, like 30s"},
		{"--retry-delay 0 -d x true", `--retry-delay: "0" is not how long a retry can be`, "give a time like 100ms"},
		{"--max-retries x -d x true", `--max-retries: "x" is not a number of times`, "give a whole number, 0 or larger"},
		{"-E 256 -d x true", `--conflict-exit-code: "256" is not an exit code`, "give a whole number from 0 to 255"},
		{"--priority urgent -d x true", `--priority: "urgent" is not a priority`, "give low, normal or high"},
		{"--stale maybe -d x true", `--stale: "maybe" is not accepted`, "give dead or age"},
		{"status --stale maybe -d x", `--stale: "maybe" is not accepted`, "give dead or age"},
		{"--on-lost cry -d x true", `--on-lost: "cry" is not accepted`, "give term, kill or warn"},
		{"--orphan=no -d x true", `--orphan: "no" is not accepted`, "give term or keep"},
		{"--shared=maybe -d x true", `--shared: "maybe" is neither yes nor no`, "give true or false"},
		{"--quiet=9 -d x true", `--quiet: "9" is not how quiet one can be`, "give true, or 2 to be silent about giving up as well"},
		{"--wait=\xff -d x true", `--wait: "?" is not a length of time`, "give seconds like 2.5, or 90s, 5m, forever"},
		// Variables are named as such, unless a flag says the same.
		{"DBLOCK_WAIT=soon -d x true", `DBLOCK_WAIT: "soon" is not a length of time`, "give seconds like 2.5, or 90s, 5m, forever"},
		{"DBLOCK_WAIT=soon -E x -d x true", `--conflict-exit-code: "x" is not an exit code`, "give a whole number from 0 to 255"},
		{"DBLOCK_WAIT=soon DBLOCK_STALE=never -w 3 -d x true", `DBLOCK_STALE: "never" is not accepted`, "give dead or age"},
		{"DBLOCK_SHARED=perhaps -d x true", `DBLOCK_SHARED: "perhaps" is neither yes nor no`, "give true or false"},
		{"DBLOCK_QUIET=9 -d x true", `DBLOCK_QUIET: "9" is not how quiet one can be`, "give true, or 2 to be silent about giving up as well"},
		{"DBLOCK_CONFLICT_EXIT_CODE=300 -d x true", `DBLOCK_CONFLICT_EXIT_CODE: "300" is not an exit code`, "give a whole number from 0 to 255"},
		{"DBLOCK_KILL_AFTER=x force -d x", `DBLOCK_KILL_AFTER: "x" is not a length of time`, "give seconds like 2.5, or 90s, 5m, forever"},
		{"DBLOCK_JSON=x status -d x", `DBLOCK_JSON: "x" is neither yes nor no`, "give true or false"},
	} {
		var env, args []string
		for _, word := range strings.Fields(c.args) {
			if strings.HasPrefix(word, "DBLOCK_") {
				env = append(env, word)
			} else {
				args = append(args, word)
			}
		}
		r := finish(t, with(command(t, dir, args...), env...))
		require.Equal(t, 64, r.code(), c.args)
		fails := "" // what a shell is to evaluate
		if args != nil && (args[0] == "hold" || args[0] == "release") {
			fails = "(exit 64)\n"
		}
		require.Equal(t, fails, r.stdout, c.args)
		require.Equal(t, "dblock: "+c.problem+"\nhint: "+c.hint+"\n", strings.ReplaceAll(r.stderr, dir, "DIR"), c.args)
	}
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)
}

// A program that is called like a subcommand, or nearly, can be run all the same.
func TestProgramsThatAreCalledLikeSubcommands(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"status", "statsu", "help", "version", "ls"} {
		executable(t, dir+"/"+name, []byte("#!/bin/sh\necho my $0 $*\n"))
	}
	path := "PATH=" + dir + ":" + os.Getenv("PATH")
	for _, args := range [][]string{
		{"-d", "x.db", "--", "status", "-v"}, {"run", "-d", "x.db", "status", "-v"}, {"-d", "x.db", "./status", "-v"},
		{"-d", "x.db", "statsu", "-v"}, {"-d", "x.db", "version", "-v"}, {"-d", "x.db", "help", "-v"},
		{"-d", "x.db", "ls", "-v"},
	} {
		r := finish(t, with(command(t, dir, args...), path))
		require.Zero(t, r.code(), "%q: %s", args, r.stderr)
		require.Regexp(t, `^my \S*(status|statsu|help|version|ls) -v\n$`, r.stdout)
	}
	// One that is not called like that at all is not found, as ever.
	for _, args := range [][]string{{"-d", "x.db", "bun", "install"}, {"-d", "x.db", "nonesuch"}, {"-d", "x.db", "./statuses"}, {"-d", "x.db", "--", "statsuu"}} {
		require.Equal(t, 127, execute(t, dir, args...).code(), "%q", args)
	}
}
