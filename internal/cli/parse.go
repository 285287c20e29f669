package cli

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/dblock-dev/dblock/internal/term"
)

// Parse parses arguments by a grammar whose first level are the commands. Its errors are
// UsageErrors.
func Parse(grammar any, args []string, options ...kong.Option) (*kong.Context, error) {
	k, err := kong.New(grammar, append(options, kong.Name("dblock"), kong.Resolvers(Environment))...)
	if err != nil {
		return nil, err
	}
	k.Model.HelpFlag.Help = "Print this help."
	ctx, err := k.Parse(args)
	if err != nil {
		return nil, explain(k, args)
	}
	return ctx, nil
}

// explain finds out what is wrong with arguments that the parser has refused, and says it in
// the words of the manual. The parser's own would be its programmer's: types and tokens.
func explain(k *kong.Kong, args []string) error {
	e := explainer{commands: k.Model.Children, node: k.Model.DefaultCmd, given: map[string]bool{}}
	// The flags that all commands share may stand before the command.
	at := slices.IndexFunc(args, func(arg string) bool {
		name, _, _ := strings.Cut(arg, "=")
		return name != "--help" && name != "-h" && name != "--version"
	})
	for _, c := range e.commands {
		if at >= 0 && args[at] == c.Name {
			e.node, args = c, slices.Delete(slices.Clone(args), at, at+1)
			break
		}
	}
	e.flags = flagsOf(e.node)
	if why := e.arguments(args, e.node == k.Model.DefaultCmd); why != nil {
		return why
	}
	if why := e.variables(); why != nil {
		return why
	}
	return Usage("these arguments make no sense together", e.help())
}

type explainer struct {
	commands []*kong.Node
	node     *kong.Node // the command that is meant
	flags    []*kong.Flag
	given    map[string]bool // names of flags that are right
}

func flagsOf(node *kong.Node) (all []*kong.Flag) {
	for _, group := range node.AllFlags(false) {
		all = append(all, group...)
	}
	return all
}

func (e *explainer) help() string { return fmt.Sprintf("see `dblock %s --help`", e.node.Name) }

// arguments returns what is wrong with the first argument that is.
func (e *explainer) arguments(args []string, runs bool) error {
	places := len(e.node.Positional)
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		if arg == "-" || !strings.HasPrefix(arg, "-") {
			if runs {
				return nil // the command begins here
			}
			if places > 0 {
				places--
				continue
			}
			if e.node.Positional != nil {
				return Usage(fmt.Sprintf("dblock %s takes one %s, and no %q as well", e.node.Name, e.node.Positional[0].Name, Unescape(arg)), "leave it out; a path with a space in it is quoted")
			}
			hint := fmt.Sprintf("the database is named with -d: `dblock %s -d %s`", e.node.Name, Quote(Unescape(arg)))
			switch {
			case arg == "help":
				hint = e.help()
			case e.given["db"] || e.given["lock-file"]:
				hint = "leave it out; a path with a space in it is quoted"
			}
			return Usage(fmt.Sprintf("dblock %s takes flags only, and no %q", e.node.Name, Unescape(arg)), hint)
		}
		used, err := e.flag(arg, args)
		if err != nil {
			return err
		}
		args = args[used:]
	}
	return nil
}

// flag returns what is wrong with a flag, or with several letters, and how many of the next
// arguments are its value.
func (e *explainer) flag(arg string, next []string) (used int, err error) {
	if long, ok := strings.CutPrefix(arg, "--"); ok {
		name, value, has := strings.Cut(long, "=")
		f := e.find(func(f *kong.Flag) bool { return f.Name == name })
		switch {
		case f == nil:
			return 0, e.unknown("--"+name, name)
		case has:
			return 0, e.value(f, value)
		case f.IsBool():
			e.given[f.Name] = true
			return 0, nil
		}
		return 1, e.next(f, next)
	}
	if name, _, _ := strings.Cut(arg[1:], "="); len(name) > 1 && e.find(func(f *kong.Flag) bool { return f.Name == name }) != nil {
		return 0, Usage("-"+name+": a flag of more than one letter begins with two dashes", "did you mean --"+name+"?")
	}
	letters := []rune(arg[1:])
	for i, letter := range letters {
		f := e.find(func(f *kong.Flag) bool { return f.Short == letter })
		switch {
		case f == nil && letter == '=' && i > 0:
			return 0, e.equals(arg, letters[i-1], string(letters[i+1:]))
		case f == nil:
			return 0, e.unknown("-"+string(letter), "")
		case f.IsBool():
			e.given[f.Name] = true
		case i+1 < len(letters):
			return 0, e.value(f, string(letters[i+1:]))
		default:
			return 1, e.next(f, next)
		}
	}
	return 0, nil
}

// equals is what is wrong with a value behind the letter of a flag that is yes or no.
func (e *explainer) equals(arg string, letter rune, value string) error {
	f := e.find(func(f *kong.Flag) bool { return f.Short == letter })
	hint := fmt.Sprintf("give -%c alone", letter)
	if try(f, Unescape(value)) == nil {
		hint = fmt.Sprintf("give --%s=%s, or -%c alone", f.Name, Unescape(value), letter)
	}
	return Usage(fmt.Sprintf("%s: no \"=\" comes between a letter and its value", term.Path(Unescape(arg))), hint)
}

func (e *explainer) find(is func(*kong.Flag) bool) *kong.Flag {
	for _, f := range e.flags {
		if is(f) {
			return f
		}
	}
	return nil
}

// unknown is a flag that the command does not have; another one may, or it is misspelled.
func (e *explainer) unknown(spelled, name string) error {
	problem := "unknown flag " + term.Path(Unescape(spelled))
	var names []string
	for _, f := range e.flags {
		names = append(names, f.Name)
	}
	if len(name) == 1 && e.find(func(f *kong.Flag) bool { return string(f.Short) == name }) != nil {
		return Usage(problem, "did you mean -"+name+"?")
	}
	if near := Near(name, names); near != "" {
		return Usage(problem, "did you mean --"+near+"?")
	}
	for _, c := range e.commands {
		for _, f := range flagsOf(c) {
			switch {
			case f.Name == name:
				return Usage(problem+" for dblock "+e.node.Name, fmt.Sprintf("`dblock %s` has one; see `dblock %[1]s --help`", c.Name))
			case "-"+string(f.Short) == spelled: // which may mean something else there
				return Usage(problem+" for dblock "+e.node.Name, e.help())
			}
		}
	}
	return Usage(problem, e.help())
}

// next is what is wrong with a value that is an argument of its own.
func (e *explainer) next(f *kong.Flag, args []string) error {
	if len(args) == 0 {
		return Usage("--"+f.Name+" needs a value", e.accepted(f))
	}
	if value := Unescape(args[0]); len(value) > 1 && value[0] == '-' {
		problem := fmt.Sprintf("--%s needs a value, and %s looks like a flag", f.Name, term.Path(value))
		switch {
		case try(f, value) == nil:
			return Usage(problem, fmt.Sprintf("a value that begins with a dash is written `--%s=%s`", f.Name, Quote(value)))
		case e.isFlag(value):
			return Usage(problem, e.accepted(f))
		}
	}
	return e.value(f, args[0])
}

func (e *explainer) isFlag(arg string) bool {
	name, _, _ := strings.Cut(strings.TrimPrefix(arg, "--"), "=")
	return e.find(func(f *kong.Flag) bool { return f.Name == name || f.Short != 0 && arg == "-"+string(f.Short) }) != nil
}

// accepted says what the flag accepts.
func (e *explainer) accepted(f *kong.Flag) string {
	var usage *UsageError
	if errors.As(try(f, ""), &usage) && usage.Hint != "" {
		return usage.Hint
	}
	return fmt.Sprintf("give --%s %s", f.Name, f.FormatPlaceHolder())
}

func (e *explainer) value(f *kong.Flag, value string) error {
	if err := try(f, Unescape(value)); err != nil {
		return e.refused("--"+f.Name, Unescape(value), err)
	}
	e.given[f.Name] = true
	return nil
}

// variables returns what is wrong with the first variable that is, of those that no flag
// on the command line replaces.
func (e *explainer) variables() error {
	for _, f := range e.flags {
		if value := valueOf(f); value != "" && !e.given[f.Name] {
			if err := try(f, value); err != nil {
				return e.refused(variable(f.Name), value, err)
			}
		}
	}
	return nil
}

// refused blames a value on who has given it: a flag or a variable.
func (e *explainer) refused(who, value string, err error) error {
	var usage *UsageError
	if errors.As(err, &usage) {
		return Usage(who+": "+usage.Problem, usage.Hint)
	}
	return Usage(fmt.Sprintf("%s: %q is neither yes nor no", who, value), "give true or false")
}

// try parses a value without keeping it. Those of flags without one, true or false, are the
// parser's own; all others have types whose errors are UsageErrors.
func try(f *kong.Flag, value string) error {
	scan := kong.ScanFromTokens(kong.Token{Type: kong.FlagValueToken, Value: value})
	return f.Parse(scan, reflect.New(f.Target.Type()).Elem())
}
