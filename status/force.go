package status

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"github.com/mattn/go-isatty"
	"golang.org/x/sys/unix"

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
	NoHistory bool         `help:"Do not add to the history of the lock."`
	Quiet     bool         `short:"q" help:"Print nothing but errors."`

	denied   error // somebody else's process would have to be ended, or lock file to be removed
	fixed    bool  // the lock file cannot be removed by this user
	declined bool  // the answer to the question was not yes
}

// Run removes the lock, after a question if need be. What it does is lock.Break; the processes are
// ended in lock/kill_holders.go.
func (f *Force) Run(k *kong.Context) error {
	if err := f.CheckOne(cli.Given(k)); err != nil {
		return err
	}
	o := f.Options(f.Foreign)
	o.NoHistory = f.NoHistory
	opts := lock.BreakOptions{Options: o, IfStale: f.IfStale, ID: f.ID, KillAfter: time.Duration(f.KillAfter), Consent: f.ask, Tell: f.progress}
	b, err := lock.Break(context.Background(), f.DB, opts)
	if f.denied != nil {
		err = f.denied
	}
	if f.declined {
		fmt.Fprintln(os.Stderr, "Nothing was changed.")
		return &cli.ExitError{Code: cli.ExitConflict}
	}
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
	fmt.Println(placed(b.Report.Names))
	if r := b.Report; r.Holder != nil {
		fmt.Println(whose(r))
	}
	if len(b.Gone) > 0 {
		fmt.Println("Ended: " + cli.NamesOf(b.Gone))
	}
	if b.Running != 0 {
		fmt.Printf("Its process still runs, without a lock now: pid %d\n", b.Running)
	}
	if b.Spared != 0 {
		fmt.Printf("The process that it named was not shown to have the lock, and was left alone: pid %d\n", b.Spared)
	}
	return nil
}

// placed says where a lock is.
func placed(n lock.Names) string {
	if n.Shown() != n.Notice {
		return "Lock: " + term.Path(n.Shown())
	}
	return "Lock file: " + term.Path(n.Notice)
}

// whose says whose lock was removed.
func whose(r *lock.Report) string {
	who, info := cli.Who(r.Holder), cli.Info(r.Holder.Info)
	switch {
	case !r.Locked():
		return fmt.Sprintf("It was left by: %s, acquired %s ago%s", who, term.Ago(r.Age), info)
	case len(r.Readers) > 1:
		return fmt.Sprintf("It was held by: %d readers, for %s", len(r.Readers), term.Ago(r.Age))
	}
	return fmt.Sprintf("It was held by: %s, for %s%s", who, term.Ago(r.Age), info)
}

// progress says on stderr what takes long, and whose processes root ends.
func (f *Force) progress(step lock.BreakStep, ps []lock.Process) {
	switch {
	case step == lock.BreakEnding:
		for _, p := range ps {
			if p.UID >= 0 && p.UID != os.Getuid() {
				fmt.Fprintf(os.Stderr, "dblock: ending %s of user %s\n", cli.Name(p), cli.UserName(p.UID))
			}
		}
	case f.Quiet:
	case step == lock.BreakLooking:
		fmt.Fprintln(os.Stderr, "dblock: waiting to see whether its holder puts the lock file back")
	case step == lock.BreakWaiting && len(ps) == 0:
		fmt.Fprintln(os.Stderr, "dblock: waiting for its command to end, where that runs")
	case step == lock.BreakWaiting:
		fmt.Fprintf(os.Stderr, "dblock: waiting for %s to end; after %s it is killed\n", cli.NamesOf(ps), term.Ago(time.Duration(f.KillAfter)))
	}
}

// ask gets consent for a holder that is alive.
func (f *Force) ask(r *lock.Report) bool {
	condemned, denied := f.condemned(r)
	if denied {
		return false
	}
	if f.Yes {
		return true
	}
	if !isatty.IsTerminal(os.Stdin.Fd()) || !isatty.IsTerminal(os.Stderr.Fd()) {
		return false
	}
	f.declined = !confirm(question(r, r.Facts(), condemned, newStyle(os.Stderr)))
	return !f.declined
}

// question says who has the lock, since when, what he runs, and what becomes of him.
func question(r *lock.Report, facts *lock.Facts, condemned []lock.Process, s style) string {
	var b strings.Builder
	line := func(name, format string, args ...any) { b.WriteString(s.field(name, fmt.Sprintf(format, args...))) }
	say := func(format string, args ...any) { b.WriteString(s.wrap("", fmt.Sprintf(format, args...), "")) }
	h := r.Holder
	switch {
	case r.State == lock.StateOrphaned:
		say("A dblock that was killed has left its command running, which keeps the lock.")
	case len(r.Owners) > 0:
		say("The lock is held without a lock file by %s.", cli.NamesOf(r.Owners))
	case h == nil || r.State == lock.StateStale:
		say("%s, which is stopped, keeps others waiting.", cli.NamesOf(r.Stopped))
		h = nil
	case len(r.Readers) > 1:
		say("%d readers share the lock.", len(r.Readers))
		for i, reader := range r.Readers {
			line("Reader "+strconv.Itoa(i+1), "%s", process(reader))
		}
	default:
		say("%s holds the lock.", cli.Who(h))
	}
	if h != nil && h.Dblock {
		line("User", "%s", cli.UserName(h.UID))
		line("Since", "%s, for %s", h.Acquired.Format(time.DateTime), term.Ago(r.Age))
	} else if h != nil {
		line("Since", "%s ago", term.Ago(r.Age))
	}
	for _, w := range facts.Running {
		line("Runs", "%s", runs(w))
	}
	if h != nil && h.Info != "" {
		line("Info", "%s", term.Clean(h.Info))
	}
	if facts.Inside {
		line("This is you", "the command that has the lock has started this dblock force")
	}
	switch n := len(condemned); {
	case n == 0 && r.Names.Shown() != r.Names.Notice:
		say("The server takes the lock away; the command is ended where it runs.")
	case r.State == lock.StateForeign && n == 0:
		say("Its lock file will be removed, but its process goes on.")
	case n == 0:
		say("It cannot be ended from here. Its lock file will be removed; it may put it back.")
	case n == 1:
		say("1 process will be ended: %s.", cli.NamesOf(condemned))
	default:
		say("%d processes will be ended: %s.", n, cli.NamesOf(condemned))
	}
	return b.String()
}

func confirm(question string) bool {
	fmt.Fprint(os.Stderr, question+"Go on? [y/N] ")
	answer, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err != nil {
		fmt.Fprintln(os.Stderr) // Ctrl-D leaves the line unfinished
	}
	answer = strings.ToLower(strings.TrimSpace(answer))
	return answer == "y" || answer == "yes"
}

// refused words the refusal.
func (f *Force) refused(b *lock.Broken, err error) error {
	var held *lock.HeldError
	var others *lock.OthersError
	var conflict *cli.ConflictError
	switch {
	case errors.As(err, &conflict):
		return err
	case errors.As(err, &others):
		if b != nil {
			h := b.Report.Holder
			f.fixed = f.fixed || !b.Report.Removable()
			if others.Process.UID < 0 && h != nil && h.Dblock && h.PID == others.Process.PID {
				others.Process.UID = h.UID // as its lock file says
			}
		}
		return f.notYours(others, err)
	case b != nil && b.Report.KeptBy >= 0 && errors.Is(err, fs.ErrPermission):
		return f.keptBy(b.Report, err)
	case b != nil && b.Report.Holder != nil && errors.Is(err, fs.ErrPermission) && !b.Report.Removable():
		return f.outOfReach(b.Report)
	case !errors.As(err, &held):
		return cli.Nowhere(err, f.Database.DB, f.Database.LockFile)
	}
	r := held.Report
	path := term.Path(held.Path)
	force := func(flag string) string { return "dblock force " + flag + " " + f.Selector() }
	e := &cli.ConflictError{Code: cli.ExitConflict, Err: err}
	switch {
	case b != nil && b.Kept:
		e.Text = fmt.Sprintf("%s was removed, but is still locked: what %s has left running has the kernel lock", path, cli.Who(r.Holder))
		e.Hint = "this system does not tell who that is: lsof " + term.Path(filepath.Join(r.Names.State, "room"))
	case b != nil && b.Restored:
		e.Text = fmt.Sprintf("%s was put back at once by its holder, %s: nothing has changed", path, cli.Who(r.Holder))
		e.Hint = fmt.Sprintf("end process %d where it runs: on host %s, or in a container there", r.Holder.PID, term.Clean(r.Holder.Host))
	case b != nil:
		what := cli.NamesOf(b.Left)
		if what == "" {
			what = "what has its lock"
		}
		e.Text = fmt.Sprintf("%s is still locked: %s does not end, though it was killed", path, what)
		e.Hint = "it may be waiting for a disk or a network that does not answer; the lock is free when it has ended"
	case f.ID == "" && !f.IfStale && r.State == lock.StateOrphaned:
		e.Text = path + " is " + cli.Orphaned(r)
		e.Hint = "to end it: " + force("--yes")
	case f.ID == "" && !f.IfStale && len(r.Owners) > 0:
		e.Text = fmt.Sprintf("%s is locked, without a lock file, by %s", path, cli.NamesOf(r.Owners))
		e.Hint = "to end it: " + force("--yes")
	case len(r.Stopped) > 0 && (r.Holder == nil || r.State == lock.StateStale):
		e.Text = fmt.Sprintf("%s is not held, but %s, which is stopped, keeps others waiting", path, cli.NamesOf(r.Stopped))
		e.Hint = fmt.Sprintf("to let it go on: kill -CONT %d; to end it: %s", r.Stopped[0].PID, force("--yes"))
	case f.ID != "" && r.ID == "":
		e.Text = fmt.Sprintf("%s has no id: there is no lock file: %s", path, r.Evidence)
		e.Hint = "to end it: " + force("--yes")
	case f.ID != "" && f.ID != r.ID:
		e.Text = fmt.Sprintf("%s is another lock by now: its id is %s", path, r.ID)
		e.Hint = "see who it is: dblock status -v " + f.Selector()
	case f.IfStale:
		e.Text = fmt.Sprintf("%s is not stale: %s", path, r.Evidence)
	case len(r.Readers) > 1:
		e.Text = fmt.Sprintf("%s is held by %d readers: %s", path, len(r.Readers), cli.NamesOf(r.Readers))
		e.Hint = fmt.Sprintf("to end all %d nevertheless: %s", len(r.Readers), force("--id "+r.ID))
	default:
		e.Text = fmt.Sprintf("%s is held by %s: %s", path, cli.Who(r.Holder), r.Evidence)
		e.Hint = "to end it nevertheless: " + force("--id "+r.ID)
		if !r.Holder.Dblock {
			e.Hint = "to remove its lock file nevertheless, while its process goes on: " + force("--id "+r.ID)
		}
	}
	return e
}

// notYours says whose process it is that may not be ended.
func (f *Force) notYours(others *lock.OthersError, err error) error {
	if others.Planted {
		return &cli.ConflictError{
			Code: cli.ExitDenied, Err: err,
			Text: fmt.Sprintf("%s is root's and has the lock open, but anybody who may write here can have sent it that: it is not ended", cli.Name(others.Process)),
			Hint: fmt.Sprintf("find out what it is; to end it: kill %d", others.Process.PID),
		}
	}
	whose, whom := "another user", "that user"
	if others.Process.UID >= 0 {
		whose = "user " + cli.UserName(others.Process.UID)
		whom = whose
	}
	cannot := "may not end it"
	if f.fixed {
		cannot = "may neither end it nor remove the lock file"
	}
	return &cli.ConflictError{
		Code: cli.ExitDenied, Err: err,
		Text: fmt.Sprintf("%s belongs to %s, and you %s: the lock stays", cli.Name(others.Process), whose, cannot),
		Hint: fmt.Sprintf("ask %s to end it, or root: dblock force %s", whom, f.Selector()),
	}
}

// outOfReach says of a lock whose file this user may not remove, and whose holder is not
// to be ended, who can do something.
func (f *Force) outOfReach(r *lock.Report) error {
	held, uid := "held by "+cli.Who(r.Holder), -1
	ws := r.Running()
	switch {
	case r.State == lock.StateOrphaned:
		held = cli.Orphaned(r)
	case r.State == lock.StateStale:
		held = "left by " + cli.Who(r.Holder)
	case r.Holder.Dblock:
		uid = r.Holder.UID
	case len(ws) > 0:
		uid = ws[0].Process.UID
	}
	e := &cli.ConflictError{Code: cli.ExitDenied, Err: fs.ErrPermission}
	e.Text = fmt.Sprintf("%s is %s: you may not remove the lock file", term.Path(r.Names.Shown()), held)
	if uid >= 0 && uid != os.Geteuid() {
		e.Text = fmt.Sprintf("%s is %s, which belongs to user %s: you may neither end it nor remove the lock file", term.Path(r.Names.Shown()), held, cli.UserName(uid))
	}
	owner, whom := r.KeptBy, "root"
	if owner < 0 {
		owner = ownerOf(filepath.Dir(r.Names.Notice))
	}
	if owner > 0 {
		whom = "user " + cli.UserName(owner) + ", or root"
	}
	e.Hint = fmt.Sprintf("ask %s: dblock force %s", whom, f.Selector())
	return e
}

// ownerOf is whose a directory is; -1 if that is not known.
func ownerOf(dir string) int {
	var st unix.Stat_t
	if unix.Stat(dir, &st) != nil {
		return -1
	}
	return int(st.Uid)
}

// keptBy says who may remove a lock file in a sticky directory.
func (f *Force) keptBy(r *lock.Report, err error) error {
	owner := cli.UserName(r.KeptBy)
	return &cli.ConflictError{
		Code: cli.ExitDenied, Err: err,
		Text: fmt.Sprintf("%s belongs to user %s, and in a sticky directory only that user, root and the owner of the directory can remove it", term.Path(r.Names.Shown()), owner),
		Hint: fmt.Sprintf("ask one of them: dblock force %s", f.Selector()),
	}
}
