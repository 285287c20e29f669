package doctor

import (
	"cmp"
	"os"
	"slices"
	"time"

	"github.com/alecthomas/kong"

	"github.com/dblock-dev/dblock/internal/cli"
	"github.com/dblock-dev/dblock/lock"
)

// Level is what a finding means.
type Level string

// The levels. What is OK may be worth knowing all the same.
const (
	OK      Level = "ok"
	Warning Level = "warning" // it works, but not as well, or not for everybody
	Problem Level = "problem" // locking does not work here, or not for this user
)

// Finding is what one check has found.
type Finding struct {
	Name  string `json:"name"` // of the check; see docs/doctor.md
	Level Level  `json:"level"`
	Found string `json:"found"`
	Why   string `json:"why,omitempty"`
	Do    string `json:"do,omitempty"`
}

// visit is what the checks of one database know.
type visit struct {
	cli.Database
	kong    *kong.Context
	version string

	names   lock.Names    // of a directory alone only its own
	dir     string        // of the lock
	bare    bool          // no database is named: only the directory is looked at
	report  *lock.Report  // nil if there is none
	facts   *lock.Facts   // nil if there are none
	barrier error         // why there is no report
	took    time.Duration // to find that out

	findings []Finding
	hung     bool // the filesystem has not answered
}

// patience is how long one check may take. A filesystem whose server has gone never answers.
const patience = 2 * time.Second

// within is what f returns, if it does so in time. What f was waiting for it goes on waiting
// for: nothing that others use may be written by it.
func within[T any](limit time.Duration, f func() T) (result T, ok bool) {
	done := make(chan T, 1)
	go func() { done <- f() }()
	select {
	case result = <-done:
		return result, true
	case <-time.After(limit):
		return result, false
	}
}

// check is one check, or several that are made together.
type check struct {
	name  string
	limit time.Duration
	files bool // it touches the lock's filesystem
	found func(*visit) []Finding
}

// make makes a check, and keeps what it found. Once the filesystem has not answered it is left alone.
func (v *visit) make(c check) {
	if c.files && v.hung {
		return
	}
	snapshot := *v
	found, ok := within(c.limit, func() []Finding { return c.found(&snapshot) })
	if !ok {
		found = []Finding{{c.name, Warning, "not found out within " + c.limit.String(), "The machine is very busy.", "try again"}}
		if c.files {
			found, v.hung = []Finding{v.silent(c.name, c.limit)}, true
		}
	}
	v.findings = append(v.findings, found...)
}

// silent is what is said of a check that has not ended in time.
func (v *visit) silent(name string, limit time.Duration) Finding {
	f := Finding{name, Problem, "did not answer within " + limit.String(), "Looking there takes for ever, as on a network filesystem whose server has gone; dblock would hang there, too.", ""}
	if path := cmp.Or(v.dir, v.LockFile, v.DB); path != "" {
		f.Do = "see whether the filesystem answers: stat " + cli.Quote(path)
	}
	return f
}

// checks are all checks, in the order in which they are shown.
func checks() []check {
	return []check{
		{"directory", patience, true, (*visit).directory},
		{"filesystem", patience, true, (*visit).filesystem},
		{"flock", 5 * patience, true, (*visit).probes}, // it starts processes, which a busy machine takes its time for
		{"permissions", patience, true, (*visit).permissions},
		{"server", patience, true, (*visit).server},
		{"lock", patience, true, (*visit).lock},
		{"openers", patience, true, (*visit).openers},
		{"names", patience, true, (*visit).spelling},
		{"other-locks", patience, true, (*visit).others},
		{"leftovers", patience, true, (*visit).leftovers},
		{"clock", patience, true, (*visit).clock},
		{"limits", 5 * patience, false, (*visit).limits},
		{"namespaces", 5 * patience, false, (*visit).namespaces},
		{"environment", patience, true, (*visit).environment},
		{"binary", 5 * patience, false, (*visit).binary},
		{"versions", 5 * patience, false, (*visit).versions},
	}
}

// examine makes all checks of one database.
func (v *visit) examine() {
	type resolved struct {
		names lock.Names
		err   error
	}
	r, ok := within(patience, func() resolved {
		if v.bare {
			n, err := lock.Resolve("", probeName+".lock")
			return resolved{n, err}
		}
		n, err := lock.Resolve(v.DB, v.LockFile)
		return resolved{n, err}
	})
	switch {
	case !ok:
		v.hung = true
		v.findings = append(v.findings, v.silent("directory", patience))
	case r.err != nil:
		v.hung = true
		v.findings = append(v.findings, Finding{"directory", Problem, r.err.Error(), "The path does not lead to a place where something can be locked.", "look whether it is the right path, seen from this directory"})
	default:
		v.names = r.names
		v.dir = dirOf(r.names.Notice)
	}
	if !v.hung && !v.bare {
		v.inspect()
	}
	for _, c := range checks() {
		v.make(c)
	}
}

// inspect finds out about the lock, which several checks want to know.
func (v *visit) inspect() {
	begin := time.Now()
	type inspected struct {
		report *lock.Report
		err    error
	}
	r, ok := within(patience, func() inspected {
		r, err := lock.Inspect(v.DB, lock.Options{LockFile: v.LockFile})
		return inspected{r, err}
	})
	if !ok {
		v.hung = true
		v.findings = append(v.findings, v.silent("lock", patience))
		return
	}
	v.took = time.Since(begin)
	if v.report, v.barrier = r.report, r.err; v.report != nil {
		v.facts, _ = within(patience, v.report.AllFacts)
	}
}

// refused reports whether no file can be made in the lock's directory, and that was said.
func (v *visit) refused() bool {
	return slices.ContainsFunc(v.findings, func(f Finding) bool { return f.Name == "directory" && f.Level == Problem })
}

func fine(name, found string) []Finding { return []Finding{{Name: name, Level: OK, Found: found}} }

// mine reports whether a user is this one.
func mine(uid int) bool { return uid == os.Geteuid() }
