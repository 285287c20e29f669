// Package doctor finds out whether locking works in the directory of a database, for this
// user, and what else stands in the way there. It leaves nothing behind.
package doctor

import (
	"bytes"
	"encoding/json"
	"os"

	"github.com/alecthomas/kong"

	"github.com/dblock-dev/dblock/internal/cli"
)

// Command is the grammar of `dblock doctor`.
type Command struct {
	cli.Database

	JSON    bool `name:"json" help:"Print one JSON object (see the manual)."`
	Verbose bool `short:"v" help:"Say of all checks why they matter, also of those that are ok."`

	version string
}

// Called tells the version of this program.
func (c *Command) Called(version string) { c.version = version }

// exitProblems is the exit code if there are problems.
const exitProblems = 1

// Run examines each database that is named, or the present directory.
func (c *Command) Run(k *kong.Context) error {
	bare := false
	if err := c.Check(cli.Given(k)); err != nil {
		if bare = len(c.Named) == 0 && c.LockFile == ""; !bare {
			return err
		}
	}
	if c.JSON && len(c.More) > 0 {
		return cli.Usage("--json is about one database, and several are named", "name one at a time")
	}
	problems := 0
	for i, db := range append([]string{c.DB}, c.More...) {
		v := &visit{Database: cli.Database{DB: db, LockFile: c.LockFile}, kong: k, version: c.version, bare: bare}
		v.examine()
		n, _ := v.count()
		problems += n
		var err error
		if c.JSON {
			err = v.writeJSON(os.Stdout)
		} else {
			if i > 0 {
				_, _ = os.Stdout.WriteString("\n")
			}
			_, err = os.Stdout.WriteString(v.page(newStyle(os.Stdout), c.Verbose))
		}
		if err != nil {
			return err
		}
	}
	if problems > 0 {
		return &cli.ExitError{Code: exitProblems}
	}
	return nil
}

// count counts what is not as it should be.
func (v *visit) count() (problems, warnings int) {
	for _, f := range v.findings {
		switch f.Level {
		case Problem:
			problems++
		case Warning:
			warnings++
		}
	}
	return problems, warnings
}

// document is the JSON form; see docs/doctor.md. Names are only added while its version is 1.
type document struct {
	Version  int       `json:"version"`
	Database string    `json:"database,omitempty"`
	LockFile string    `json:"lock_file,omitempty"`
	Dir      string    `json:"directory,omitempty"`
	Checks   []Finding `json:"checks"`
	Problems int       `json:"problems"`
	Warnings int       `json:"warnings"`
}

func (v *visit) writeJSON(w *os.File) error {
	d := document{Version: 1, Database: v.names.DB, Dir: v.dir, Checks: []Finding{}}
	if !v.bare {
		d.LockFile = v.names.Notice
	}
	for _, f := range v.findings {
		f.Found, f.Why, f.Do = printable(f.Found), printable(f.Why), printable(f.Do)
		d.Checks = append(d.Checks, f)
	}
	d.Problems, d.Warnings = v.count()
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(d); err != nil {
		return err
	}
	_, err := w.Write(out.Bytes())
	return err
}
