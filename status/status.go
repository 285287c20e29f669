// Package status shows what lock.Inspect found, and breaks locks that are stuck.
// It knows nothing of how locks work.
package status

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/user"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/dblock-dev/dblock/internal/cli"
	"github.com/dblock-dev/dblock/internal/term"
	"github.com/dblock-dev/dblock/lock"
)

// Command is the grammar of `dblock status`.
type Command struct {
	cli.Database
	cli.Foreign

	Verbose  bool         `short:"v" help:"Show all that is known: evidence, token, who waits."`
	JSON     bool         `name:"json" help:"Print one JSON object (see the manual)."`
	Quiet    bool         `short:"q" help:"Print nothing."`
	ExitCode bool         `help:"Exit with 1 if it is locked."`
	Force    bool         `help:"Remove the lock, like dblock force."`
	Yes      bool         `short:"y" help:"With --force: also end a live holder, without asking."`
	ID       string       `name:"id" placeholder:"ID" help:"With --force: only this lock, live or not."`
	IfStale  bool         `help:"With --force: only what is stale."`
	Kill     cli.Duration `name:"kill-after" default:"10s" placeholder:"D" help:"With --force: how long after SIGTERM to send SIGKILL (${default})."`
}

// Run shows the lock.
func (c *Command) Run(k *kong.Context) error {
	if err := c.Check(cli.Given(k)); err != nil {
		return err
	}
	if c.Force {
		f := Force{Database: c.Database, Foreign: c.Foreign, Yes: c.Yes, ID: c.ID, IfStale: c.IfStale, KillAfter: c.Kill, Quiet: c.Quiet}
		return f.Run(k)
	}
	r, err := lock.Inspect(c.DB, c.Options(c.Foreign))
	if err != nil {
		return err
	}
	switch {
	case c.Quiet:
	case c.JSON:
		err = writeJSON(os.Stdout, r)
	default:
		_, err = io.WriteString(os.Stdout, c.text(r, newStyle(os.Stdout)))
	}
	if err != nil {
		return err
	}
	if c.ExitCode && r.Locked() {
		return &cli.ExitError{Code: 1}
	}
	return nil
}

// style is what the output can show.
type style struct{ emoji, color bool }

func newStyle(f *os.File) style {
	return style{emoji: term.UTF8(), color: term.Color(f)}
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

func (c *Command) text(r *lock.Report, s style) string {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "  %s: %s\n", name, fmt.Sprintf(format, args...))
	}
	b.WriteString(headline(r, s) + "\n")
	if r.State == lock.StateFree && !c.Verbose && len(r.Stopped) == 0 {
		return b.String()
	}
	if h := r.Holder; h != nil {
		b.WriteString("\nLock Details:\n")
		line("Process", "%s", term.Clean(h.Process))
		line("PID", "%d", h.PID)
		line("Host", "%s", term.Clean(h.Host))
		line("Age", "%s", term.Ago(r.Age))
	} else if c.Verbose || r.Evidence != "" {
		b.WriteString("\nLock Details:\n")
	}
	if r.State == lock.StateStale || r.State == lock.StateOrphaned || r.State == lock.StateInvalid || (c.Verbose || r.Holder == nil) && r.Evidence != "" {
		line("Evidence", "%s", r.Evidence)
	}
	if len(r.Orphans) > 0 {
		line("Still running", "%s", pids(r.Orphans))
	}
	if len(r.Owners) > 0 {
		line("Locked by", "%s", cli.NamesOf(r.Owners))
	}
	if len(r.Remaining) > 0 {
		line("Still running", "%s; the command has ended", cli.NamesOf(r.Remaining))
	}
	for _, p := range r.Stopped {
		line("Stopped", "%s: until it goes on, or is ended, others may wait in vain", cli.Name(p))
	}
	if c.Verbose {
		c.details(r, line)
		if r.Links > 1 {
			line("Warning", "the database has %d hard links, and each name has a lock of its own", r.Links)
		}
	}
	for i, p := range r.Readers {
		if c.Verbose || len(r.Readers) > 1 {
			line("Reader "+strconv.Itoa(i+1), "%s", process(p))
		}
	}
	if !c.Verbose {
		if n := len(r.Waiters); n > 0 {
			line("Waiting", "%d", n)
		}
		return b.String()
	}
	for i, p := range r.Waiters {
		line("Waiting "+strconv.Itoa(i+1), "%s, %s, %s priority", process(p), p.Mode, p.Priority)
	}
	switch {
	case !r.WaitersKnown:
		line("Waiting", "this system does not tell who waits")
	case len(r.Waiters) == 0:
		line("Waiting", "nobody")
	}
	return b.String()
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
		return s.head("🔒", red, "Database is locked by readers")
	case lock.StateOrphaned:
		return s.head("🔒", red, "Database is locked by an orphaned command")
	case lock.StateInvalid:
		return s.head("⚠️ ", yellow, "Database lock is invalid")
	}
	return s.head("🔒", red, "Database is locked")
}

func (c *Command) details(r *lock.Report, line func(name, format string, args ...any)) {
	line("State", "%s", r.State)
	line("Lock file", "%s", term.Path(r.Notice))
	if r.ID != "" {
		line("ID", "%s", r.ID)
	}
	h := r.Holder
	if h == nil {
		return
	}
	if h.Dblock {
		line("Command", "%s", term.Clean(h.Command))
		line("User", "%s", userName(h.UID))
		line("Mode", "%s", h.Mode)
		line("Token", "%d", h.Token)
		line("Acquired", "%s", h.Acquired.Format(time.RFC3339))
	}
	if !h.Timestamp.IsZero() {
		line("Last beat", "%s", h.Timestamp.Format(time.RFC3339))
	}
}

// process describes one that reads or waits.
func process(p lock.Process) string {
	s := "pid " + strconv.Itoa(p.PID)
	if p.Process != "" {
		s += ", " + term.Clean(p.Process)
	}
	if p.Command != "" {
		s += ", " + term.Clean(p.Command)
	}
	return s + ", for " + term.Ago(p.Age)
}

func pids(ns []int) string {
	var s []string
	for _, n := range ns {
		s = append(s, "pid "+strconv.Itoa(n))
	}
	return strings.Join(s, ", ")
}

func userName(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return term.Clean(u.Username)
	}
	return strconv.Itoa(uid)
}

// document is the JSON form; see docs/dblock.1, STATUS AS JSON. Names are only
// added while its version is 1.
type document struct {
	Version      int           `json:"version"`
	State        lock.State    `json:"state"`
	Locked       bool          `json:"locked"`
	Stale        bool          `json:"stale"`
	Database     string        `json:"database,omitempty"`
	LockFile     string        `json:"lock_file"`
	ID           string        `json:"id,omitempty"`
	AgeMS        int64         `json:"age_ms"`
	Evidence     string        `json:"evidence,omitempty"`
	Holder       *holderJSON   `json:"holder"`
	Readers      []processJSON `json:"readers"`
	Waiting      []processJSON `json:"waiting"`
	WaitingKnown bool          `json:"waiting_known"`
	Orphans      []int         `json:"orphans"`
	Owners       []briefJSON   `json:"owners"`
	Remaining    []briefJSON   `json:"remaining"`
	Stopped      []briefJSON   `json:"stopped"`
}

type holderJSON struct {
	PID       int    `json:"pid"`
	Host      string `json:"host"`
	Process   string `json:"process"`
	Timestamp int64  `json:"timestamp"`
	Dblock    bool   `json:"dblock"`
	Mode      string `json:"mode,omitempty"`
	Token     int64  `json:"token,omitempty"`
	Acquired  int64  `json:"acquired,omitempty"`
	UID       *int   `json:"uid,omitempty"`
	Command   string `json:"command,omitempty"`
}

type processJSON struct {
	PID      int    `json:"pid"`
	Process  string `json:"process,omitempty"`
	Command  string `json:"command,omitempty"`
	Mode     string `json:"mode"`
	Priority string `json:"priority"`
	ForMS    int64  `json:"for_ms"`
}

type briefJSON struct {
	PID     int    `json:"pid"`
	Command string `json:"command,omitempty"`
	Stopped bool   `json:"stopped"`
}

func writeJSON(w io.Writer, r *lock.Report) error {
	d := document{
		Version: 1, State: r.State, Locked: r.Locked(), Stale: r.Stale, Database: r.DB, LockFile: r.Notice, ID: r.ID,
		AgeMS: r.Age.Milliseconds(), Evidence: r.Evidence, WaitingKnown: r.WaitersKnown,
		Readers: processes(r.Readers), Waiting: processes(r.Waiters), Orphans: append([]int{}, r.Orphans...),
		Owners: brief(r.Owners), Remaining: brief(r.Remaining), Stopped: brief(r.Stopped),
	}
	if h := r.Holder; h != nil {
		j := &holderJSON{PID: h.PID, Host: h.Host, Process: h.Process, Dblock: h.Dblock}
		if !h.Timestamp.IsZero() {
			j.Timestamp = h.Timestamp.UnixMilli()
		}
		if h.Dblock {
			j.Mode, j.Token, j.Acquired, j.UID, j.Command = h.Mode.String(), h.Token, h.Acquired.UnixMilli(), &h.UID, h.Command
		}
		d.Holder = j
	}
	out, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return err
	}
	_, err = w.Write(append(ascii(out), '\n'))
	return err
}

// ascii escapes what JSON allows and a terminal might not survive: C1 control
// characters and DEL; encoding/json has dealt with the others.
func ascii(b []byte) []byte {
	var out []byte
	for _, r := range string(b) {
		if r >= 0x7f && r < 0xa0 {
			out = fmt.Appendf(out, `\u%04x`, r)
		} else {
			out = append(out, string(r)...)
		}
	}
	return out
}

func brief(ps []lock.Process) []briefJSON {
	out := []briefJSON{}
	for _, p := range ps {
		out = append(out, briefJSON{p.PID, p.Command, p.Stopped})
	}
	return out
}

func processes(ps []lock.Process) []processJSON {
	out := []processJSON{}
	for _, p := range ps {
		out = append(out, processJSON{p.PID, p.Process, p.Command, p.Mode.String(), p.Priority.String(), p.Age.Milliseconds()})
	}
	return out
}
