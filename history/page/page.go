// Package page draws histories as one HTML file that needs nothing else: no network, no other
// file, and no script for its figures. The timeline, the distributions and what is filtered are
// the work of page.js, which has no dependency either.
package page

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"html/template"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/dblock-dev/dblock/history"
	"github.com/dblock-dev/dblock/internal/term"
)

// MaxEvents is how many events a page has at most, the last ones: a browser still draws them
// at once.
const MaxEvents = 200_000

// Database is the history of one lock.
type Database struct {
	Name   string // as people know it: a path, or a part of it
	Events []history.Event
}

//go:embed page.html
var source string

//go:embed page.js
var script string

//go:embed page.css
var style string

// Write writes the page. All texts in the events may come from strangers: none of them is
// markup, nor does it command how the others are shown. The error is that of the writer.
func Write(w io.Writer, databases []Database) error {
	databases, left := latest(databases)
	f := figures(databases)
	page := template.Must(template.New("page").Funcs(template.FuncMap{"duration": duration, "count": count, "percent": percent, "moment": moment, "label": label, "bar": bar}).Parse(source))
	return page.Execute(w, map[string]any{
		"Policy": "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; script-src " + digest(script) + "; style-src " + digest(style),
		"Title":  title(databases),
		"Names":  names(databases),
		"Left":   left,
		"Kept":   MaxEvents,
		"F":      f,
		"Data":   template.JS(encode(databases)),
		"Script": template.JS(script),
		"Style":  template.CSS(style),
	})
}

// digest lets a policy allow this one script or style, and no other.
func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// latest makes names fit to be shown, and leaves out the events that are too many, the oldest of each database, and says how
// many they are.
func latest(databases []Database) (kept []Database, left int) {
	total := 0
	for _, db := range databases {
		total += len(db.Events)
	}
	for _, db := range databases {
		db.Name = term.Path(db.Name)
		if total > MaxEvents {
			n := int(int64(len(db.Events)) * MaxEvents / int64(total))
			left += len(db.Events) - n
			db.Events = db.Events[len(db.Events)-n:]
		}
		kept = append(kept, db)
	}
	return kept, left
}

func names(databases []Database) (all []string) {
	for _, db := range databases {
		all = append(all, db.Name)
	}
	return all
}

func title(databases []Database) string {
	switch n := len(databases); {
	case n == 0:
		return "No database"
	case n > 3:
		return count(n) + " databases"
	}
	var all []string
	for _, db := range databases {
		all = append(all, filepath.Base(db.Name))
	}
	return strings.Join(all, ", ")
}

func label(process string) string {
	if process == "" {
		return "(no label)"
	}
	return term.Clean(process)
}

// Moment is a point in time for people and for the script.
type Moment struct {
	UTC   string
	Milli int64
}

func moment(ms int64) Moment {
	ms = min(max(ms, 0), latestTime)
	return Moment{time.UnixMilli(ms).UTC().Format("Mon 2 Jan 2006, 15:04:05") + " UTC", ms}
}
