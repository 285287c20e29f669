package status

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"github.com/mattn/go-isatty"

	"github.com/dblock-dev/dblock/internal/cli"
	"github.com/dblock-dev/dblock/internal/term"
	"github.com/dblock-dev/dblock/lock"
)

// Force is the grammar of `dblock force`.
type Force struct {
	cli.Database
	cli.Foreign

	Yes       bool         `short:"y" help:"Also end a live holder, without asking."`
	ID        string       `name:"id" placeholder:"ID" help:"Only the lock that dblock status -v showed with this id, live or not."`
	IfStale   bool         `help:"Only what is stale; for cron."`
	KillAfter cli.Duration `default:"10s" placeholder:"D" help:"How long after SIGTERM to send SIGKILL (${default})."`
	Quiet     bool         `short:"q" help:"Print nothing but errors."`
}

// Run removes the lock.
func (f *Force) Run(k *kong.Context) error {
	if err := f.Check(cli.Given(k)); err != nil {
		return err
	}
	opts := lock.BreakOptions{Options: f.Options(f.Foreign), IfStale: f.IfStale, ID: f.ID, KillAfter: time.Duration(f.KillAfter), Consent: f.ask, Tell: f.progress}
	b, err := lock.Break(context.Background(), f.DB, opts)
	if err != nil {
		return f.refused(b, err)
	}
	if f.Quiet {
		return nil
	}
	s := newStyle(os.Stdout)
	if !b.Removed {
		fmt.Println(s.head("✅", green, "Database is not locked"))
		return nil
	}
	fmt.Println(s.head("⚠️ ", yellow, "Database lock forcibly removed"))
	fmt.Println("Lock file: " + term.Path(b.Report.Notice))
	if len(b.Ended) > 0 {
		fmt.Println("Ended: " + pids(b.Ended))
	}
	if b.Running != 0 {
		fmt.Printf("Its process still runs, without a lock now: pid %d\n", b.Running)
	}
	if b.Spared != 0 {
		fmt.Printf("The process that it named was not shown to have the lock, and was left alone: pid %d\n", b.Spared)
	}
	return nil
}

// progress says on stderr what takes long, and whose processes root ends.
func (f *Force) progress(step lock.BreakStep, ps []lock.Process) {
	switch {
	case step == lock.BreakEnding:
		for _, p := range ps {
			if p.UID >= 0 && p.UID != os.Getuid() {
				fmt.Fprintf(os.Stderr, "dblock: ending %s of user %s\n", cli.Name(p), userName(p.UID))
			}
		}
	case f.Quiet:
	case step == lock.BreakLooking:
		fmt.Fprintln(os.Stderr, "dblock: waiting to see whether its holder puts the lock file back")
	case step == lock.BreakWaiting:
		fmt.Fprintf(os.Stderr, "dblock: waiting for %s to end; after %s it is killed\n", cli.NamesOf(ps), term.Ago(time.Duration(f.KillAfter)))
	}
}

// ask gets consent for a holder that is alive.
func (f *Force) ask(r *lock.Report) bool {
	if f.Yes {
		return true
	}
	if !isatty.IsTerminal(os.Stdin.Fd()) || !isatty.IsTerminal(os.Stderr.Fd()) {
		return false
	}
	switch {
	case r.State == lock.StateOrphaned:
		return f.confirm("A killed dblock has left running what has the lock: %s.\nIt will be ended.", pids(r.Orphans))
	case len(r.Owners) > 0:
		return f.confirm("The lock is held without a lock file by %s.\nIt will be ended.", cli.NamesOf(r.Owners))
	case r.Holder == nil || r.State == lock.StateStale:
		return f.confirm("%s, which is stopped, keeps others waiting.\nIt will be ended.", cli.NamesOf(r.Stopped))
	}
	what := "Its lock file will be removed, but its process goes on."
	if r.Holder.Dblock {
		what = "It and its command will be ended."
	}
	command := ""
	if r.Holder.Command != "" {
		command = " runs " + term.Clean(r.Holder.Command) + " and"
	}
	return f.confirm("%s%s has held the lock for %s.\n%s", cli.Who(r.Holder), command, term.Ago(r.Age), what)
}

func (f *Force) confirm(format string, args ...any) bool {
	fmt.Fprintf(os.Stderr, format+" Go on? [y/N] ", args...)
	answer, _ := bufio.NewReader(os.Stdin).ReadString('\n')
	answer = strings.ToLower(strings.TrimSpace(answer))
	return answer == "y" || answer == "yes"
}

// refused words the refusal.
func (f *Force) refused(b *lock.Broken, err error) error {
	var held *lock.HeldError
	if !errors.As(err, &held) {
		return err
	}
	r := held.Report
	e := &cli.ConflictError{Code: 75, Err: err}
	switch {
	case b != nil && b.Restored:
		e.Text = fmt.Sprintf("%s was put back at once by its holder, %s: nothing has changed", term.Path(held.Path), cli.Who(r.Holder))
		e.Hint = "end it where it runs"
	case b != nil:
		what := cli.NamesOf(b.Left)
		if what == "" {
			what = "what has its lock"
		}
		e.Text = fmt.Sprintf("%s is still locked: %s cannot be ended", term.Path(held.Path), what)
	case f.ID == "" && !f.IfStale && r.State == lock.StateOrphaned:
		e.Text = fmt.Sprintf("%s is held by what a killed dblock left running (%s): %s", term.Path(held.Path), pids(r.Orphans), r.Evidence)
		if len(r.Orphans) == 0 {
			e.Text = fmt.Sprintf("%s is held by what a killed dblock left running: %s", term.Path(held.Path), r.Evidence)
		}
		e.Hint = "to end it, give --yes"
	case f.ID == "" && !f.IfStale && len(r.Owners) > 0:
		e.Text = fmt.Sprintf("%s is locked, without a lock file, by %s", term.Path(held.Path), cli.NamesOf(r.Owners))
		e.Hint = "to end it, give --yes"
	case len(r.Stopped) > 0 && (r.Holder == nil || r.State == lock.StateStale):
		e.Text = fmt.Sprintf("%s is not held, but %s, which is stopped, keeps others waiting", term.Path(held.Path), cli.NamesOf(r.Stopped))
		e.Hint = "to end it, give --yes; to let it go on, send it SIGCONT"
	case f.ID != "" && r.ID == "":
		e.Text = fmt.Sprintf("%s has no id: there is no lock file: %s", term.Path(held.Path), r.Evidence)
	case f.ID != "" && f.ID != r.ID:
		e.Text = fmt.Sprintf("%s is another lock by now: its id is %s", term.Path(held.Path), r.ID)
	case f.IfStale:
		e.Text = fmt.Sprintf("%s is not stale: %s", term.Path(held.Path), r.Evidence)
	default:
		e.Text = fmt.Sprintf("%s is held by %s, which is alive: %s", term.Path(held.Path), cli.Who(r.Holder), r.Evidence)
		e.Hint = "to end it nevertheless, give --yes, or --id " + r.ID
	}
	return e
}
