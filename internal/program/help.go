package program

import (
	"bytes"
	"io"

	"github.com/alecthomas/kong"
)

// summary is what most people need who ask for help.
const summary = `Run a command while holding a database's lock. Others wait until it has ended.

Usage:
  dblock [flags] [--] COMMAND [ARGUMENT...]
  dblock [flags] -c STRING
  dblock status -d PATH            show who holds the lock, and who waits
  dblock force -d PATH             remove a lock that is stuck
  dblock log -d PATH               show what has happened to the lock
  dblock stats -d PATH             who waited how long, and for whom
  dblock top -d PATH               watch it in the terminal
  eval "$(dblock hold -d PATH)"    hold the lock in a shell script
  dblock release                   release it before the script ends
  dblock session                   serve a program, by lines of JSON
  dblock ls [DIR]                  list all locks below a directory
  dblock doctor -d PATH            find out whether locking works there
  dblock completion SHELL          make bash, zsh or fish complete all this

Flags:
  -d, --db PATH                    the database, a file or a directory
  -w, --wait TIME                  how long to wait: 2.5, 90s, 5m, forever (5s)
  -n, --nonblock                   do not wait
  -s, --shared                     share the lock with others that only read
  -p, --process LABEL              the name that others see while they wait
  -c, --command STRING             run STRING with the shell
  -E, --conflict-exit-code N       exit code if the lock was not acquired (75)

Examples:
  dblock -d app.db -- node migrate.js               # wait up to 5 seconds
  dblock -d app.db -w 10m -p backup -- ./backup.sh  # wait up to 10 minutes
  dblock -d app.db -n -E 0 -- ./report.sh           # skip it if it is locked
  dblock -d app.db -c 'node export.js | gzip > export.gz'

All flags: dblock help run, dblock help status, and so on.
The manual: man dblock
`

// help prints the summary, or all that there is to say about the command that was named.
func help(options kong.HelpOptions, ctx *kong.Context) error {
	node := ctx.Selected()
	if node == nil || len(ctx.Args) == 0 || ctx.Args[0] != node.Name {
		_, err := io.WriteString(ctx.Stdout, summary)
		return err
	}
	var all bytes.Buffer
	out := ctx.Stdout
	ctx.Stdout = &all
	options.Compact = true
	err := kong.DefaultHelpPrinter(options, ctx)
	ctx.Stdout = out
	if err != nil {
		return err
	}
	// The parser does not know that flags end where the command begins.
	text := bytes.Replace(all.Bytes(), []byte("run [<command> ...] [flags]"), []byte("run [flags] [--] COMMAND [ARGUMENT...]"), 1)
	text = bytes.Replace(text, []byte("\nArguments:\n  [<command> ...]    The command and its arguments.\n"), nil, 1)
	_, err = out.Write(text)
	return err
}
