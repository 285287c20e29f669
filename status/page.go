package status

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dblock-dev/dblock/history"
	"github.com/dblock-dev/dblock/internal/cli"
	"github.com/dblock-dev/dblock/internal/term"
	"github.com/dblock-dev/dblock/internal/tree"
	"github.com/dblock-dev/dblock/lock"
)

// style is what the output can show.
type style struct {
	emoji, color bool
	width        int // of the terminal; 0 if there is none
}

func newStyle(f *os.File) style {
	s := style{emoji: term.UTF8(), color: term.Color(f)}
	if term.Live(f) {
		s.width = term.Width(f)
	}
	return s
}

// head is a headline with its symbol: with an emoji where the locale has them.
func (s style) head(emoji, color, text string) string {
	if s.color {
		text = "\x1b[" + color + "m" + text + "\x1b[0m"
	}
	if s.emoji {
		return emoji + " " + text
	}
	return text
}

const (
	green  = "32"
	red    = "31"
	yellow = "33"
)

// field is a line with its name.
func (s style) field(name, text string) string { return s.wrap("  "+name+": ", text, "    ") }

// wrap breaks what is longer than the terminal is wide between words, and indents what follows.
func (s style) wrap(begin, text, indent string) string {
	return term.Wrap(begin, text, indent, s.width)
}

// page is what status shows.
type page struct {
	cli.Database
	style
	report  *lock.Report
	facts   *lock.Facts // only with --verbose
	stopped []stopped

	out strings.Builder
}

func (p *page) line(name, format string, args ...any) {
	p.out.WriteString(p.field(name, fmt.Sprintf(format, args...)))
}

// command is a command line that can be copied, on a line of its own, however long.
func (p *page) command(line string) { p.out.WriteString("    " + line + "\n") }

// stopped is a process that does not run, for whose sake others may wait in vain.
type stopped struct {
	pid   int
	name  string
	waits bool // it does not have the lock
}

// stoppedOf lists who is stopped of those that block the queue, and of what works under the lock.
func stoppedOf(r *lock.Report) (all []stopped) {
	holds := func(pid int) bool {
		is := func(p lock.Process) bool { return p.PID == pid }
		return r.Locked() && r.Holder != nil && r.Holder.PID == pid || slices.ContainsFunc(r.Readers, is) || slices.ContainsFunc(r.Owners, is)
	}
	for _, p := range r.Stopped {
		s := stopped{pid: p.PID, name: cli.Name(p), waits: !holds(p.PID)}
		if s.waits && p.Process != "" {
			s.name = fmt.Sprintf("%s (pid %d)", term.Clean(p.Process), p.PID)
		}
		if s.waits {
			s.name += ", which waits for the lock"
		}
		all = append(all, s)
	}
	for _, w := range r.Running() {
		if w.Process.Stopped && !slices.ContainsFunc(r.Stopped, func(p lock.Process) bool { return p.PID == w.Process.PID }) {
			all = append(all, stopped{pid: w.Process.PID, name: cli.Name(w.Process) + ", which works under the lock"})
		}
	}
	return all
}

func (p *page) text() string {
	r := p.report
	p.stopped = stoppedOf(r)
	p.out.WriteString(headline(r, p.style) + "\n")
	if r.State == lock.StateFree && p.facts == nil && len(r.Stopped) == 0 && r.Barred == nil {
		p.out.WriteString(placed(r.Names) + "\n")
		p.out.WriteString(p.last(""))
		return p.out.String()
	}
	p.out.WriteString("\nLock Details:\n")
	p.who()
	p.advice()
	if p.facts != nil {
		p.details()
		p.running()
	}
	for i, reader := range r.Readers {
		if p.facts != nil || len(r.Readers) > 1 {
			p.line("Reader "+strconv.Itoa(i+1), "%s", process(reader))
		}
	}
	p.waiters()
	if p.facts != nil {
		p.openers()
	}
	name, path, _ := strings.Cut(placed(r.Names), ": ")
	p.line(name, "%s", path)
	p.out.WriteString(p.last("  "))
	return p.out.String()
}

// last is the last event of the lock's history, if that explains something.
func (p *page) last(indent string) string {
	e := history.Last(p.report.Names.State)
	switch {
	case e == nil:
		return ""
	case e.Kind == history.Lost, e.Kind == history.Killed, e.Kind == history.Forced, e.Ended == history.LostIt, e.Ended == history.Late:
	default:
		return ""
	}
	when := time.UnixMilli(e.At).Format(time.DateTime)
	if ago := time.Since(time.UnixMilli(e.At)); ago > -time.Second { // a clock may have been set back
		when = term.Ago(max(0, ago)) + " ago"
	}
	return p.wrap(indent+"Last event: ", when+", "+cli.Event(e), indent+"  ")
}

func headline(r *lock.Report, s style) string {
	switch r.State {
	case lock.StateFree:
		if len(r.Stopped) > 0 {
			return s.head("⚠️ ", yellow, fmt.Sprintf("Database is not locked, but pid %d, which is stopped, blocks the queue", r.Stopped[0].PID))
		}
		return s.head("✅", green, "Database is not locked")
	case lock.StateStale:
		return s.head("✅", yellow, "Database is not locked: its lock is stale")
	case lock.StateShared:
		switch n := len(r.Readers); n {
		case 0: // this system does not tell
			return s.head("🔒", red, "Database is locked by readers")
		case 1:
			return s.head("🔒", red, "Database is locked by a reader")
		default:
			return s.head("🔒", red, fmt.Sprintf("Database is locked by %d readers", n))
		}
	case lock.StateOrphaned:
		return s.head("🔒", red, "Database is locked by an orphaned command")
	case lock.StateInvalid:
		return s.head("⚠️ ", yellow, "Database lock is invalid")
	}
	return s.head("🔒", red, "Database is locked")
}

// who shows who has the lock, and why that is so where it needs a reason.
func (p *page) who() {
	r := p.report
	if h := r.Holder; h != nil {
		p.line("Process", "%s", term.Clean(h.Process))
		p.line("PID", "%d", h.PID)
		p.line("Host", "%s", term.Clean(h.Host))
		p.line("Age", "%s", term.Ago(r.Age))
		if h.Info != "" {
			p.line("Info", "%s", term.Clean(h.Info))
		}
	}
	if r.Evidence != "" && (p.facts != nil || r.Holder == nil || r.State == lock.StateStale || r.State == lock.StateOrphaned) {
		p.line("Evidence", "%s", r.Evidence)
	}
	if len(r.Left) > 0 {
		p.line("Still running", "%s", cli.NamesOf(r.Left))
	}
	if len(r.Owners) > 0 {
		p.line("Locked by", "%s", cli.NamesOf(r.Owners))
	}
	if len(r.Remaining) > 0 {
		p.line("Still running", "%s; the command has ended", cli.NamesOf(r.Remaining))
	}
	if r.Inside() {
		p.line("This is you", "the command that has the lock has started this dblock status")
	}
	for _, stopped := range p.stopped {
		p.line("Stopped", "%s. Until it goes on, or is ended, others may wait in vain.", stopped.name)
	}
	if r.Barred != nil {
		p.line("Closed to you", "%s. Your own dblock ends with 77 here.", term.Path(r.Barred.Error()))
	}
}

// advice says what can be done, where it does not go without saying.
func (p *page) advice() {
	const todo = "What to do"
	r := p.report
	force := "dblock force " + p.Selector()
	switch {
	case r.KeptBy >= 0 && r.Stale:
		owner := cli.UserName(r.KeptBy)
		p.line(todo, "ask user %s, or root. You cannot have the lock: its lock file belongs to %s, and in a sticky directory only that user, root and the owner of the directory can remove it. Your own dblock ends with 77 until then. The command for them:", owner, owner)
		p.command("dblock force --if-stale " + p.Selector())
	case len(p.stopped) > 0:
		p.goOn(todo, force)
	case r.State == lock.StateStale && r.Stale && r.Holder != nil && r.Holder.Dblock && !r.WaitersKnown:
		p.line(todo, "nothing. The next dblock takes it over as soon as its command does not run any more.")
	case r.State == lock.StateStale && r.Stale:
		p.line(todo, "nothing. The next dblock takes it over.")
	case r.State == lock.StateStale:
		p.line(todo, "nothing. The next dblock watches it for the stale timeout, and then takes it over.")
	case r.State == lock.StateInvalid && r.Stale:
		p.line(todo, "nothing. The next dblock replaces it.")
	case r.State == lock.StateInvalid && !r.Alien():
		p.line(todo, "look again. If it stays so for 2 seconds, the next dblock replaces it.")
	case r.State == lock.StateInvalid:
		p.line(todo, "move it away, or name another lock file with --lock-file. No dblock touches it.")
	case r.State == lock.StateOrphaned, len(r.Owners) > 0:
		p.line(todo, "wait until it has ended, or end it:")
		p.command(force)
	case r.State == lock.StateForeign && r.Holder.Host != hostName():
		p.line(todo, "find out on %s whether pid %d still runs. If it does not:", term.Clean(r.Holder.Host), r.Holder.PID)
		p.command(force)
	}
}

// goOn says how those who are stopped go on, or end. Who only waits is not ended by force,
// which would end the holder, too.
func (p *page) goOn(todo, force string) {
	pids, onlyWait := "", true
	for _, s := range p.stopped {
		pids += " " + strconv.Itoa(s.pid)
		onlyWait = onlyWait && s.waits
	}
	if !onlyWait && p.report.State == lock.StateForeign {
		p.line(todo, "let it go on:") // force does not end it
		p.command("kill -CONT" + pids)
		return
	}
	p.line(todo, "let it go on (first command), or end it (second):")
	p.command("kill -CONT" + pids)
	if onlyWait {
		force = "kill -KILL" + pids
	}
	p.command(force)
}

// details shows what the lock file says beyond the names.
func (p *page) details() {
	r := p.report
	p.line("State", "%s", r.State)
	if r.ID != "" {
		p.line("ID", "%s", r.ID)
	}
	h := r.Holder
	if h == nil {
		return
	}
	if h.Dblock {
		p.line("Command", "%s", term.Clean(h.Command))
		p.line("User", "%s", cli.UserName(h.UID))
		p.line("Mode", "%s", h.Mode)
		p.line("Token", "%d", h.Token)
		p.line("Acquired", "%s", h.Acquired.Format(time.RFC3339))
	}
	if !h.Timestamp.IsZero() {
		p.line("Last beat", "%s", h.Timestamp.Format(time.RFC3339))
	}
}

// running shows what works under the lock.
func (p *page) running() {
	for _, w := range p.facts.Running {
		p.line("Runs", "%s", runs(w))
	}
}

// runs describes a process by its arguments, if they are known.
func runs(w lock.Running) string {
	s := "pid " + strconv.Itoa(w.Process.PID)
	if w.Process.Stopped {
		s += ", stopped"
	}
	switch {
	case len(w.Args) > 0:
		var words []string
		for _, arg := range w.Args {
			words = append(words, cli.Quote(arg))
		}
		s += ": " + term.Clean(strings.Join(words, " "))
	case w.Process.Command != "":
		s += ": " + term.Clean(w.Process.Command)
	}
	if w.Dir != "" {
		s += ", in " + term.Path(w.Dir)
	}
	return s
}

func (p *page) waiters() {
	r := p.report
	if p.facts == nil {
		if n := len(r.Waiters); n > 0 {
			p.line("Waiting", "%d", n)
		}
		return
	}
	for i, w := range r.Waiters {
		until := ""
		if left := time.Until(p.facts.Deadlines[w.PID]); left > 0 && w.Host == "" {
			until = ", gives up in " + term.Ago(left)
		}
		p.line("Waiting "+strconv.Itoa(i+1), "%s%s, %s, %s priority", process(w), until, w.Mode, w.Priority)
	}
	switch {
	case r.Barred != nil:
		p.line("Waiting", "not known: you may not look there")
	case !r.WaitersKnown:
		p.line("Waiting", "this system does not tell who waits")
	case len(r.Waiters) == 0:
		p.line("Waiting", "nobody")
	}
}

// openers shows who works on the database without the lock.
func (p *page) openers() {
	r := p.report
	if r.Names.Shown() != r.Names.Notice {
		return // what a server has, others open by the server
	}
	for _, o := range p.facts.Openers {
		s := cli.Name(o.Process)
		if o.Process.UID >= 0 && o.Process.UID != os.Getuid() {
			s += ", user " + cli.UserName(o.Process.UID)
		}
		if o.Writing {
			s += ", for writing"
		}
		if o.Locked {
			s += ", and has locked it for itself"
		}
		if !p.facts.HoldersKnown {
			s += "; or this is the holder, which cannot be told"
		}
		p.line("Open without the lock", "%s", s)
	}
	_, seen := tree.Look(os.Getpid()) // any process at all
	switch {
	case r.Names.DB == "":
	case !p.facts.OpenersKnown && (!seen || !r.WaitersKnown && r.Barred == nil):
		p.line("Open without the lock", "this system does not tell")
	case len(p.facts.Openers) == 0 && p.facts.OpenersKnown:
		p.line("Open without the lock", "nobody has it")
	case len(p.facts.Openers) == 0:
		p.line("Open without the lock", "nobody, as far as can be seen: processes of other users may be hidden")
	}
	if r.Links > 1 {
		p.line("Warning", "the database has %d hard links, and each name has a lock of its own", r.Links)
	}
}

// process describes one that reads or waits.
func process(p lock.Process) string {
	s := cli.PID(p)
	if p.Process != "" {
		s += ", " + term.Clean(p.Process)
	}
	if p.Command != "" {
		s += ", " + term.Clean(p.Command)
	}
	return s + cli.Info(p.Info) + ", for " + term.Ago(p.Age)
}

func hostName() string {
	name, _ := os.Hostname()
	return name
}
