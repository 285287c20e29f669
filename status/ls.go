package status

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/dblock-dev/dblock/internal/cli"
	"github.com/dblock-dev/dblock/internal/term"
	"github.com/dblock-dev/dblock/lock"
)

// List is the grammar of `dblock ls`.
type List struct {
	cli.Foreign

	Dir           string `arg:"" optional:"" default:"." name:"dir" help:"The directory (the present one)."`
	All           bool   `short:"a" help:"Also list locks that are free."`
	OneFileSystem bool   `short:"x" help:"Stay out of other filesystems."`
	JSON          bool   `name:"json" help:"Print one JSON object (see the manual)."`
	Quiet         bool   `short:"q" help:"Print nothing but errors."`
	ExitCode      bool   `help:"Exit with 1 if any is locked."`

	root string // the directory's real path
}

// Unescape gives the arguments their bytes back.
func (l *List) Unescape() { l.Dir = cli.Unescape(l.Dir) }

// listed is one lock of the list.
type listed struct {
	report *lock.Report
	err    error // it could not be looked at
}

// Run lists the locks.
func (l *List) Run() error {
	if err := cli.NoURL(l.Dir); err != nil {
		return err
	}
	abs, err := filepath.Abs(l.Dir)
	if err != nil {
		return err
	}
	if l.root, err = filepath.EvalSymlinks(abs); err != nil {
		l.root = abs
	}
	rules := cli.Database{}.Options(l.Foreign)
	opts := lock.SurveyOptions{OneFileSystem: l.OneFileSystem, StaleTimeout: rules.StaleTimeout, Stale: rules.Stale}
	var all []listed
	var failed error
	locked := false
	failures := []failureJSON{}
	for r, err := range lock.Survey(l.Dir, opts) {
		switch {
		case r == nil && isRoot(err, l.Dir, l.root):
			return l.noDirectory(abs, err)
		case r == nil:
			failed = worse(failed, err)
			failures = append(failures, failureOf(err))
			fmt.Fprintf(os.Stderr, "dblock: %s\n", term.Path(err.Error()))
		default:
			locked = locked || err != nil || r.Locked()
			if l.All || err != nil || r.State != lock.StateFree || len(r.Waiters)+len(r.Stopped) > 0 {
				all = append(all, listed{r, err})
			}
		}
	}
	switch {
	case l.Quiet:
	case l.JSON:
		err = l.writeJSON(os.Stdout, all, failures)
	default:
		_, err = io.WriteString(os.Stdout, l.text(all, newStyle(os.Stdout)))
	}
	switch {
	case err != nil:
		return err
	case errors.Is(failed, fs.ErrPermission):
		return &cli.ExitError{Code: cli.ExitDenied}
	case failed != nil:
		return &cli.ExitError{Code: cli.ExitCannotCreate}
	case l.ExitCode && locked:
		return &cli.ExitError{Code: 1}
	}
	return nil
}

// isRoot reports whether an error is about the directory that was named.
func isRoot(err error, names ...string) bool {
	var path *fs.PathError
	if !errors.As(err, &path) {
		return true
	}
	for _, name := range names {
		if path.Path == name {
			return true
		}
	}
	return false
}

// worse is the error that decides how to end.
func worse(a, b error) error {
	if a == nil || errors.Is(b, fs.ErrPermission) {
		return b
	}
	return a
}

// noDirectory words the error of a directory that was named and cannot be listed.
func (l *List) noDirectory(abs string, err error) error {
	if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
		return err
	}
	text := fmt.Sprintf("there is no directory %s", term.Path(l.Dir))
	hint := fmt.Sprintf("look whether %s is the right path, seen from this directory", cli.Quote(l.Dir))
	if errors.Is(err, syscall.ENOTDIR) {
		text = cli.NoDirectory(abs)
		hint = fmt.Sprintf("give a directory, or ask for one lock: `dblock status %s`", cli.Database{DB: l.Dir}.Selector())
	}
	return &cli.ConflictError{Code: cli.ExitCannotCreate, Err: err, Text: text, Hint: hint}
}

// inventory is the JSON form; see docs/dblock.1, LS AS JSON. Names are only added while its
// version is 1.
type inventory struct {
	Version   int           `json:"version"`
	Directory string        `json:"directory"`
	Locks     []entryJSON   `json:"locks"`
	Errors    []failureJSON `json:"errors"`
}

type entryJSON struct {
	lockJSON
	Error string `json:"error,omitempty"`
}

type failureJSON struct {
	Path  string `json:"path"`
	Error string `json:"error"`
}

func failureOf(err error) failureJSON {
	var path *fs.PathError
	if errors.As(err, &path) {
		return failureJSON{path.Path, path.Err.Error()}
	}
	return failureJSON{Error: err.Error()}
}

func (l *List) writeJSON(w io.Writer, all []listed, failures []failureJSON) error {
	doc := inventory{Version: 1, Locks: []entryJSON{}, Errors: failures}
	var err error
	if doc.Directory, err = filepath.Abs(l.Dir); err != nil {
		return err
	}
	for _, e := range all {
		j := entryJSON{lockJSON: lockOf(e.report, nil)}
		if e.err != nil {
			j.State, j.Locked, j.Error = unreadable, true, failureOf(e.err).Error
		}
		doc.Locks = append(doc.Locks, j)
	}
	out, err := json.MarshalIndent(doc, "", "  ")
	if err == nil {
		_, err = w.Write(append(ascii(out), '\n'))
	}
	return err
}

// unreadable is the state of a lock that this user may not look at.
const unreadable lock.State = "unreadable"

// row is a lock as the table has it.
type row struct{ state, age, waiting, holder, path string }

func (l *List) row(e listed) row {
	path := e.report.Names.Notice
	if below, err := filepath.Rel(l.root, path); err == nil && filepath.IsLocal(below) {
		path = filepath.Join(l.Dir, below)
	}
	r := row{path: term.Path(path)}
	if e.err != nil {
		r.state, r.holder = string(unreadable), failureOf(e.err).Error
		return r
	}
	r.state, r.holder = string(e.report.State), holderName(e.report)
	if e.report.Holder != nil || e.report.State == lock.StateInvalid {
		r.age = term.Ago(e.report.Age)
	}
	if n := len(e.report.Waiters); n > 0 {
		r.waiting = strconv.Itoa(n)
	}
	if e.report.State == lock.StateFree && len(e.report.Waiters)+len(e.report.Stopped) > 0 {
		r.state = "waiting"
	}
	return r
}

// holderName is who has a lock, or what there is in place of one who has it.
func holderName(r *lock.Report) string {
	switch {
	case r.State == lock.StateOrphaned && len(r.Left) > 0:
		return cli.NamesOf(r.Left)
	case len(r.Owners) > 0:
		return cli.NamesOf(r.Owners)
	case r.State == lock.StateFree && len(r.Stopped) > 0:
		return "stopped: " + cli.NamesOf(r.Stopped)
	case r.Holder == nil:
		return term.Path(r.Evidence)
	}
	h := r.Holder
	label := term.Clean(h.Process)
	if label == "" {
		label = "somebody"
	}
	var at []string
	if h.PID != 0 {
		at = append(at, "pid "+strconv.Itoa(h.PID))
	}
	if h.Host != hostName() {
		at = append(at, "on "+term.Clean(h.Host))
	}
	if len(at) > 0 {
		label += " (" + strings.Join(at, " ") + ")"
	}
	if n := len(r.Readers) - 1; n > 0 {
		label += fmt.Sprintf(" and %d more", n)
	}
	return label
}

// text is the list for people: a table with the paths at the end, which may be long, or where the terminal
// is too narrow for that, some lines for each lock.
func (l *List) text(all []listed, s style) string {
	if len(all) == 0 {
		what := "No lock below %s is held"
		if l.All {
			what = "There are no locks below %s"
		}
		return s.head("✅", green, fmt.Sprintf(what, term.Path(l.Dir))) + "\n"
	}
	rows := []row{{"STATE", "AGE", "WAITING", "HOLDER", "LOCK FILE"}}
	for _, e := range all {
		rows = append(rows, l.row(e))
	}
	var wide [4]int
	for _, r := range rows {
		for i, cell := range []string{r.state, r.age, r.waiting, r.holder} {
			wide[i] = max(wide[i], term.Columns(cell))
		}
	}
	const gap = 2
	const least = 16 // columns for a path
	if s.width > 0 {
		if room := s.width - (wide[0] + wide[1] + wide[2] + 4*gap) - least; wide[3] > room && room >= least {
			wide[3] = room // there is room for the beginning
		}
	}
	used := wide[0] + wide[1] + wide[2] + wide[3] + 4*gap
	var out strings.Builder
	if s.width > 0 && s.width-used < least {
		for _, r := range rows[1:] {
			out.WriteString(s.block(r))
		}
		return out.String()
	}
	for i, r := range rows {
		if s.width > 0 {
			r.holder = term.Shorten(r.holder, wide[3])
			r.path = term.ShortenPath(r.path, s.width-used)
		}
		line := pad(r.state, wide[0], gap)
		if color := colorOf(r.state); s.color && i > 0 && color != "" {
			line = "\x1b[" + color + "m" + line + "\x1b[0m"
		}
		out.WriteString(line + pad(r.age, wide[1], gap) + pad(r.waiting, wide[2], gap) + pad(r.holder, wide[3], gap) + r.path + "\n")
	}
	return out.String()
}

// block is a row on lines of its own.
func (s style) block(r row) string {
	text := r.state
	if r.holder != "" {
		text += ": " + r.holder
	}
	if r.age != "" {
		text += ", " + r.age
	}
	if r.waiting != "" {
		text += ", " + r.waiting + " waiting"
	}
	return term.ShortenPath(r.path, s.width) + "\n" + s.wrap("  ", text, "    ")
}

func pad(cell string, columns, gap int) string {
	return cell + strings.Repeat(" ", max(0, columns-term.Columns(cell))+gap)
}

func colorOf(state string) string {
	switch lock.State(state) {
	case lock.StateFree:
		return green
	case lock.StateStale, lock.StateInvalid, unreadable:
		return yellow
	}
	return red
}
