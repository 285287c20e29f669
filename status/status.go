// Package status shows what lock.Inspect found, and breaks locks that are stuck.
// It knows nothing of how locks work.
package status

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/alecthomas/kong"

	"github.com/dblock-dev/dblock/internal/cli"
	"github.com/dblock-dev/dblock/lock"
	"github.com/dblock-dev/dblock/run"
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

	Watch            bool         `help:"Print a line for each change, until it is interrupted."`
	UntilFree        bool         `help:"Wait until it is free, without joining the queue."`
	Wait             cli.Duration `short:"w" default:"forever" placeholder:"D" help:"With --until-free: how long to wait (${default})."`
	ConflictExitCode run.ExitCode `short:"E" default:"75" placeholder:"N" help:"With --until-free: the exit code when it was not free in time (${default})."`
}

// Run shows the lock.
func (c *Command) Run(k *kong.Context) error {
	if err := c.Check(cli.Given(k)); err != nil {
		return err
	}
	if c.Watch || c.UntilFree {
		return c.follow()
	}
	for _, name := range []string{"wait", "conflict-exit-code"} {
		if given := cli.Given(k); given(name) {
			return cli.Usage("--"+name+" goes with --until-free", "`dblock status --until-free` waits")
		}
	}
	if c.Force {
		f := Force{Database: c.Database, Foreign: c.Foreign, Yes: c.Yes, ID: c.ID, IfStale: c.IfStale, KillAfter: c.Kill, Quiet: c.Quiet}
		return f.Run(k)
	}
	if c.JSON && len(c.More) > 0 {
		return cli.Usage("--json is about one database, and several are named", "name one at a time")
	}
	locked, err := c.show(c.Database)
	for _, db := range c.More {
		if err != nil {
			return err
		}
		if !c.Quiet {
			fmt.Println()
		}
		var another bool
		another, err = c.show(cli.Database{DB: db})
		locked = locked || another
	}
	if err == nil && c.ExitCode && locked {
		err = &cli.ExitError{Code: 1}
	}
	return err
}

// show shows the lock of one database.
func (c *Command) show(d cli.Database) (locked bool, err error) {
	r, err := lock.Inspect(d.DB, d.Options(c.Foreign))
	if err != nil {
		return false, cli.Nowhere(err, d.DB, d.LockFile)
	}
	switch {
	case c.Quiet:
	case c.JSON:
		err = writeJSON(os.Stdout, r, r.Facts())
	default:
		p := page{Database: d, style: newStyle(os.Stdout), report: r}
		if c.Verbose {
			p.facts = r.Facts()
		}
		_, err = io.WriteString(os.Stdout, p.text())
	}
	return r.Locked(), err
}

// document is the JSON form; see docs/dblock.1, STATUS AS JSON. Names are only
// added while its version is 1.
type document struct {
	Version int   `json:"version"`
	Time    int64 `json:"time,omitempty"`
	lockJSON
	Running      []runningJSON `json:"running"`
	Inside       bool          `json:"inside"`
	Openers      []openerJSON  `json:"openers"`
	OpenersKnown bool          `json:"openers_known"`
	HoldersKnown bool          `json:"holders_known"`
}

// lockJSON is what a report says of a lock.
type lockJSON struct {
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
	Left         []briefJSON   `json:"left"`
	Owners       []briefJSON   `json:"owners"`
	Remaining    []briefJSON   `json:"remaining"`
	Stopped      []briefJSON   `json:"stopped"`
	KeptBy       *int          `json:"kept_by,omitempty"`
	Barred       string        `json:"barred,omitempty"`
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
	Info      string `json:"info,omitempty"`
}

type processJSON struct {
	PID      int    `json:"pid"`
	Host     string `json:"host,omitempty"`
	Process  string `json:"process,omitempty"`
	Command  string `json:"command,omitempty"`
	Mode     string `json:"mode"`
	Priority string `json:"priority"`
	ForMS    int64  `json:"for_ms"`
	Info     string `json:"info,omitempty"`
	Deadline int64  `json:"deadline,omitempty"`
}

type briefJSON struct {
	PID     int    `json:"pid"`
	Command string `json:"command,omitempty"`
	Stopped bool   `json:"stopped"`
	Dblock  bool   `json:"dblock"`
}

type runningJSON struct {
	briefJSON
	Under int      `json:"under"`
	Args  []string `json:"args,omitempty"`
	Dir   string   `json:"dir,omitempty"`
}

type openerJSON struct {
	briefJSON
	UID     *int `json:"uid,omitempty"`
	Writing bool `json:"writing"`
	Locked  bool `json:"locked"`
}

func writeJSON(w io.Writer, r *lock.Report, f *lock.Facts) error {
	flat, err := JSON(r, f)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	if err := json.Indent(&out, flat, "", "  "); err != nil {
		return err
	}
	_, err = w.Write(append(out.Bytes(), '\n'))
	return err
}

// JSON is the report as one JSON object, which --json prints with line breaks. It is safe to
// show.
func JSON(r *lock.Report, f *lock.Facts) ([]byte, error) { return jsonAt(time.Time{}, r, f) }

// jsonAt is that with the time at which it was so.
func jsonAt(at time.Time, r *lock.Report, f *lock.Facts) ([]byte, error) {
	d := document{
		Version: 1, lockJSON: lockOf(r, f.Deadlines),
		Running: []runningJSON{}, Inside: f.Inside, Openers: []openerJSON{}, OpenersKnown: f.OpenersKnown, HoldersKnown: f.HoldersKnown,
	}
	if !at.IsZero() {
		d.Time = at.UnixMilli()
	}
	for _, p := range f.Running {
		d.Running = append(d.Running, runningJSON{brief(p.Process), p.Under, p.Args, p.Dir})
	}
	for _, p := range f.Openers {
		o := openerJSON{briefJSON: brief(p.Process), Writing: p.Writing, Locked: p.Locked}
		if p.Process.UID >= 0 {
			o.UID = &p.Process.UID
		}
		d.Openers = append(d.Openers, o)
	}
	out, err := json.Marshal(d)
	return ascii(out), err
}

// lockOf is what a report says of a lock, and when those will give up who wait, by pid.
func lockOf(r *lock.Report, deadlines map[int]time.Time) lockJSON {
	d := lockJSON{
		State: r.State, Locked: r.Locked(), Stale: r.Stale, Database: r.Names.DB, LockFile: r.Names.Notice, ID: r.ID,
		AgeMS: r.Age.Milliseconds(), Evidence: r.Evidence, WaitingKnown: r.WaitersKnown,
		Readers: processes(r.Readers, nil), Waiting: processes(r.Waiters, deadlines), Orphans: append([]int{}, r.Orphans...),
		Left: briefs(r.Left), Owners: briefs(r.Owners), Remaining: briefs(r.Remaining), Stopped: briefs(r.Stopped),
	}
	if r.KeptBy >= 0 {
		d.KeptBy = &r.KeptBy
	}
	if r.Barred != nil {
		d.Barred = r.Barred.Error()
	}
	if h := r.Holder; h != nil {
		j := &holderJSON{PID: h.PID, Host: h.Host, Process: h.Process, Dblock: h.Dblock}
		if !h.Timestamp.IsZero() {
			j.Timestamp = h.Timestamp.UnixMilli()
		}
		if h.Dblock {
			j.Mode, j.Token, j.Acquired, j.UID, j.Command, j.Info = h.Mode.String(), h.Token, h.Acquired.UnixMilli(), &h.UID, h.Command, h.Info
		}
		d.Holder = j
	}
	return d
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

func brief(p lock.Process) briefJSON { return briefJSON{p.PID, p.Command, p.Stopped, p.Dblock} }

func briefs(ps []lock.Process) []briefJSON {
	out := []briefJSON{}
	for _, p := range ps {
		out = append(out, brief(p))
	}
	return out
}

func processes(ps []lock.Process, deadlines map[int]time.Time) []processJSON {
	out := []processJSON{}
	for _, p := range ps {
		j := processJSON{PID: p.PID, Host: p.Host, Process: p.Process, Command: p.Command, Mode: p.Mode.String(), Priority: p.Priority.String(), ForMS: p.Age.Milliseconds(), Info: p.Info}
		if at := deadlines[p.PID]; !at.IsZero() && p.Host == "" {
			j.Deadline = at.UnixMilli()
		}
		out = append(out, j)
	}
	return out
}
