// Package cli is what the commands share: flags, where their values come from, errors that
// say how to end, and words.
package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/dblock-dev/dblock/lock"
)

// Database is which lock is meant; all commands share it.
type Database struct {
	Named    []string `name:"db" short:"d" sep:"none" placeholder:"PATH" help:"The database: a file or a directory, which need not exist."`
	LockFile string   `placeholder:"PATH" help:"The lock file itself, where its name does not follow from the database's."`

	DB   string   `kong:"-"` // the database that was named, or the first of several
	More []string `kong:"-"` // the others
}

// Check finds out which lock is named. fromFlag tells which flags were given on
// the command line: they win over variables, --db also over DBLOCK_LOCK_FILE, which
// would name another database's lock. Where nothing names one, inside a hold the
// enclosing lock is meant.
func (d *Database) Check(fromFlag func(string) bool) error {
	if fromFlag("db") && !fromFlag("lock-file") {
		d.LockFile = ""
	}
	if d.DB == "" && d.LockFile == "" {
		d.DB, d.LockFile = os.Getenv(lock.EnvDB), os.Getenv(lock.EnvLockFile)
		if lock.IsURL(d.DB) {
			d.LockFile = "" // it follows from the URL
		}
	}
	if d.DB == "" && d.LockFile == "" || slices.Contains(d.More, "") {
		return Usage("no database is named", "name it with -d PATH, or set DBLOCK_DB")
	}
	if len(d.More) > 0 && d.LockFile != "" {
		return Usage("--lock-file is about one database, and several are named", "leave it out, or name one database")
	}
	if d.LockFile != "" {
		if err := NoURL(d.LockFile); err != nil {
			return err
		}
	}
	for _, db := range append([]string{d.DB}, d.More...) {
		if !lock.IsURL(db) {
			if err := NoURL(db); err != nil {
				return err
			}
		}
		if !lock.IsURL(db) {
			continue
		}
		if d.LockFile != "" {
			return Usage("--lock-file is about a file, and a server is named", "leave it out")
		}
		if _, err := lock.EngineFor(db); err != nil {
			return &ConflictError{
				Code: ExitLost, Err: err,
				Text: "a lock on a server needs " + Remote(db) + ", which is not installed",
				Hint: "it belongs beside dblock; install.sh installs both",
			}
		}
	}
	return nil
}

// NoURL refuses what looks like a URL where a path is meant.
func NoURL(path string) error {
	scheme, _, found := strings.Cut(path, "://")
	if !found || scheme == "" || strings.Trim(strings.ToLower(scheme), "abcdefghijklmnopqrstuvwxyz0123456789+-.") != "" {
		return nil
	}
	return Usage("nothing is to be found by "+scheme+"://", "a lock on a server is named by -d postgres://... or -d etcd://..., a file by its path")
}

// CheckOne is Check for commands that are about one lock.
func (d *Database) CheckOne(fromFlag func(string) bool) error {
	if len(d.More) > 0 {
		return Usage("more than one database is named", "name one at a time")
	}
	return d.Check(fromFlag)
}

// Foreign is how foreign locks are judged; run, status and force share it.
type Foreign struct {
	StaleTimeout StaleTimeout `default:"30s" placeholder:"D" help:"The age from which a foreign lock may count as abandoned (${default})."`
	Stale        Stale        `default:"dead" placeholder:"RULE" help:"When it counts as abandoned: 'dead': when its process has ended; 'age': whenever it is older than that (${default})."`
}

// One is a lock that was named.
type One struct {
	DB, LockFile string // as they were given, one of them perhaps empty
	Names        lock.Names
}

// Each finds the files of all locks that are named, each once: two paths can lead to one. The
// error is Nowhere's where there is no directory for one.
func (d *Database) Each() (all []One, err error) {
	for i, db := range append([]string{d.DB}, d.More...) {
		one := One{DB: db}
		if i == 0 {
			one.LockFile = d.LockFile
		}
		one.Names, err = lock.Resolve(db, one.LockFile)
		if err == nil {
			_, err = os.Stat(filepath.Dir(one.Names.Notice))
		}
		if err != nil {
			return nil, Nowhere(err, db, one.LockFile)
		}
		if !slices.ContainsFunc(all, func(have One) bool { return have.Names.Notice == one.Names.Notice }) {
			all = append(all, one)
		}
	}
	return all, nil
}

// Options are the lock's options for these flags.
func (d Database) Options(f Foreign) lock.Options {
	o := lock.Options{LockFile: d.LockFile, StaleTimeout: time.Duration(f.StaleTimeout)}
	if f.Stale == "age" {
		o.Stale = lock.StaleAge
	}
	return o
}

// Stale is when a foreign lock counts as abandoned: "dead" or "age".
type Stale string

// UnmarshalText parses it.
func (s *Stale) UnmarshalText(text []byte) error { return Choose(s, text) }

// Values are those that it accepts.
func (Stale) Values() []string { return []string{"dead", "age"} }

// Chosen is a value of which there are only a few. What Values returns is accepted, and is what
// shells complete.
type Chosen interface {
	~string
	Values() []string
}

// Choose parses a value of which there are only a few.
func Choose[T Chosen](to *T, text []byte) error {
	*to = T(text)
	accepted := (*to).Values()
	if slices.Contains(accepted, string(text)) {
		return nil
	}
	last := len(accepted) - 1
	list := strings.Join(accepted[:last], ", ") + " or " + accepted[last]
	return Usage(fmt.Sprintf("%q is not accepted", text), "give "+list)
}

// Unescape gives the arguments their bytes back. Nothing is to be asked of them before.
func (d *Database) Unescape() {
	for i, path := range d.Named {
		d.Named[i] = Unescape(path)
	}
	if len(d.Named) > 0 {
		d.DB, d.More = d.Named[0], d.Named[1:]
	}
	d.LockFile = Unescape(d.LockFile)
}

// Environment finds the value of a flag that was not given: DBLOCK_ and its name.
// An empty variable is one that is not set.
var Environment kong.ResolverFunc = func(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	if v := valueOf(flag); v != "" {
		return Escape(v), nil
	}
	return nil, nil
}

// valueOf is the value that a flag's variable gives it, or "".
func valueOf(flag *kong.Flag) string {
	if flag.Name == "help" || flag.Name == "version" {
		return ""
	}
	v := os.Getenv(variable(flag.Name))
	if flag.Name == "quiet" && flag.Target.Kind() == reflect.Bool && v == "2" {
		return "true" // only run has degrees of it
	}
	return v
}

func variable(flag string) string {
	return "DBLOCK_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// Given tells which flags were given on the command line, by name; those set
// by the environment do not count.
func Given(k *kong.Context) func(string) bool {
	return func(name string) bool {
		if k == nil {
			return name == "db" // a plain run
		}
		for _, p := range k.Path {
			if p.Flag != nil && !p.Resolved && p.Flag.Name == name {
				return true
			}
		}
		return false
	}
}
