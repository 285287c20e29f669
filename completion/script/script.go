// Package script makes the scripts that complete dblock's arguments, from its grammar: kong's
// model has the names and what is said about them, and a value's type has what it accepts.
package script

import (
	"bytes"
	"embed"
	"reflect"
	"slices"
	"strings"
	"text/template"

	"github.com/alecthomas/kong"
)

//go:embed *.tmpl
var templates embed.FS

// Program is all that there is to complete.
type Program struct {
	Commands []Command
}

// Command is a subcommand.
type Command struct {
	Name, Help string
	Runs       bool // flags end where a command begins
	Flags      []Flag
	Place      *Value // what stands in places of its own; nil if nothing does
}

// Flag is a flag; the letter may be missing.
type Flag struct {
	Letter, Name string
	Also         []string // names that are understood, and not shown
	Help         string
	Repeats      bool
	Value        *Value // nil if it is a switch
}

// Value is what a flag or a place accepts.
type Value struct {
	Kind  string   // "file": a file or a directory; "directory"; "words": one of Words; "text": anything
	What  string   // what it is, in a word
	Words []string // what is accepted
	Many  bool     // there can be several, each in a place of its own
}

// New reads the grammar. Spellings are flags' other names, of the command that runs another.
func New(model *kong.Application, spellings map[string]string) *Program {
	p := &Program{}
	for _, node := range model.Children {
		c := Command{
			Name: node.Name, Help: brief(node.Help),
			Runs: node == model.DefaultCmd,
		}
		for _, group := range node.AllFlags(true) {
			for _, f := range group {
				if f.Name == "version" && !c.Runs {
					continue // it is about no command
				}
				flag := Flag{Name: f.Name, Help: brief(f.Help)}
				if f.Short != 0 {
					flag.Letter = string(f.Short)
				}
				flag.Repeats = f.IsCumulative() || f.IsBool() && f.Target.Kind() == reflect.Int
				if !f.IsBool() {
					flag.Value = valueOf(f.Value, f.PlaceHolder)
				}
				for other, name := range spellings {
					if name == f.Name && c.Runs {
						flag.Also = append(flag.Also, other)
					}
				}
				slices.Sort(flag.Also)
				c.Flags = append(c.Flags, flag)
			}
		}
		if len(node.Positional) > 0 && !c.Runs {
			c.Place = valueOf(node.Positional[0], strings.ToUpper(node.Positional[0].Name))
			c.Place.Many = node.Positional[0].IsSlice()
		}
		p.Commands = append(p.Commands, c)
	}
	return p
}

// whats are words for placeholders that are none.
var whats = map[string]string{"D": "duration", "N": "number", "ID": "id", "PID": "process id", "DIR": "directory"}

func valueOf(v *kong.Value, placeholder string) *Value {
	value := &Value{Kind: "text", What: whats[placeholder]}
	if value.What == "" {
		value.What = strings.ToLower(placeholder)
	}
	few, ok := v.Target.Interface().(interface{ Values() []string })
	switch {
	case ok:
		value.Kind, value.Words = "words", few.Values()
	case placeholder == "PATH" || placeholder == "FILE":
		value.Kind = "file"
	case placeholder == "DIR":
		value.Kind = "directory"
	}
	return value
}

// brief is the first sentence, without its end.
func brief(help string) string {
	first, _, _ := strings.Cut(help, ". ")
	return strings.TrimSuffix(first, ".")
}

// Names are those of the flags as they are typed, with or without those that are not shown.
func (f Flag) Names(all bool) (names []string) {
	if f.Letter != "" {
		names = append(names, "-"+f.Letter)
	}
	names = append(names, "--"+f.Name)
	if all {
		for _, name := range f.Also {
			names = append(names, "--"+name)
		}
	}
	return names
}

// Takes is the kind of a value, and the words that it can be.
func (v *Value) Takes() string {
	return strings.Join(append([]string{v.Kind}, v.Words...), " ")
}

// Group is flags whose values are alike.
type Group struct {
	Takes string
	Names []string
}

// Groups are the flags that take a value.
func (c Command) Groups() (groups []Group) {
	for _, f := range c.Flags {
		if f.Value == nil {
			continue
		}
		takes := f.Value.Takes()
		at := slices.IndexFunc(groups, func(g Group) bool { return g.Takes == takes })
		if at < 0 {
			at, groups = len(groups), append(groups, Group{Takes: takes})
		}
		groups[at].Names = append(groups[at].Names, f.Names(true)...)
	}
	return groups
}

// Shown are the names of all flags that are offered.
func (c Command) Shown() (names []string) {
	for _, f := range c.Flags {
		names = append(names, f.Names(false)...)
	}
	return names
}

// Names are those of all commands.
func (p *Program) Names() string {
	var names []string
	for _, c := range p.Commands {
		names = append(names, c.Name)
	}
	return strings.Join(names, " ")
}

// Script returns the script for "bash", "zsh" or "fish".
func (p *Program) Script(shell string) ([]byte, error) {
	t, err := template.New("").Funcs(template.FuncMap{
		"join": func(sep string, words []string) string { return strings.Join(words, sep) },
		// In single quotes, which end for a quote in bash and zsh, and not in fish.
		"quote":     func(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" },
		"fishquote": func(s string) string { return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'" },
		"zshflags":  zshFlags,
		"zshplace":  zshPlace,
	}).ParseFS(templates, "*.tmpl")
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = t.ExecuteTemplate(&out, shell+".tmpl", p)
	return out.Bytes(), err
}
