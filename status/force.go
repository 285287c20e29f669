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

	"github.com/dblock-dev/dblock/internal/term"
	"github.com/dblock-dev/dblock/lock"
	"github.com/dblock-dev/dblock/run"
)

// Force is the grammar of `dblock force`.
type Force struct {
	run.Database
	run.Foreign

	Yes       bool         `short:"y" help:"Also end a live holder, without asking."`
	ID        string       `name:"id" placeholder:"ID" help:"Only the lock that dblock status -v showed with this id, live or not."`
	IfStale   bool         `help:"Only what is stale; for cron."`
	KillAfter run.Duration `default:"10s" placeholder:"D" help:"How long after SIGTERM to send SIGKILL (${default})."`
	Quiet     bool         `short:"q" help:"Print nothing but errors."`
}

// Run removes the lock.
func (f *Force) Run(k *kong.Context) error {
	if err := f.Check(run.GivenOn(k)); err != nil {
		return err
	}
	opts := lock.BreakOptions{Options: f.Options(f.Foreign), IfStale: f.IfStale, ID: f.ID, KillAfter: time.Duration(f.KillAfter), Consent: f.ask}
	b, err := lock.Break(context.Background(), f.DB, opts)
	if err != nil {
		return f.refused(err)
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
	return nil
}

// ask gets consent for a holder that is alive.
func (f *Force) ask(r *lock.Report) bool {
	if f.Yes {
		return true
	}
	if !isatty.IsTerminal(os.Stdin.Fd()) || !isatty.IsTerminal(os.Stderr.Fd()) {
		return false
	}
	what := "Its lock file will be removed, but its process goes on."
	if r.Holder.Dblock {
		what = "It and its command will be ended."
	}
	command := ""
	if r.Holder.Command != "" {
		command = " runs " + term.Clean(r.Holder.Command) + " and"
	}
	fmt.Fprintf(os.Stderr, "%s%s has held the lock for %s.\n%s Go on? [y/N] ", run.Who(r.Holder), command, term.Ago(r.Age), what)
	answer, _ := bufio.NewReader(os.Stdin).ReadString('\n')
	answer = strings.ToLower(strings.TrimSpace(answer))
	return answer == "y" || answer == "yes"
}

// refused words the refusal.
func (f *Force) refused(err error) error {
	var held *lock.HeldError
	if !errors.As(err, &held) {
		return err
	}
	r := held.Report
	e := &run.ConflictError{Code: 75, Err: err}
	switch {
	case f.ID != "" && f.ID != r.ID:
		e.Text = fmt.Sprintf("%s is another lock by now: its id is %s", term.Path(held.Path), r.ID)
	case f.IfStale:
		e.Text = fmt.Sprintf("%s is not stale: %s", term.Path(held.Path), r.Evidence)
	default:
		e.Text = fmt.Sprintf("%s is held by %s, which is alive: %s", term.Path(held.Path), run.Who(r.Holder), r.Evidence)
		e.Hint = "to end it nevertheless, give --yes, or --id " + r.ID
	}
	return e
}
