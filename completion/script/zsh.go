package script

import "strings"

// zshFlags are the specifications of a flag for zsh's _arguments.
func zshFlags(f Flag) (specs []string) {
	names, value := f.Names(true), ""
	if f.Value != nil {
		value = ":" + f.Value.What + ":" + zshAction(f.Value)
	}
	shown := len(f.Names(false))
	for i, name := range names {
		spec := ""
		switch {
		case i >= shown:
			spec = "!"
		case f.Repeats:
			spec = "*"
		case f.Name == "help" || f.Name == "version":
			spec = "(- : *)" // nothing goes with it
		case len(names) > 1:
			spec = "(" + strings.Join(names, " ") + ")"
		}
		spec += name
		switch {
		case f.Value == nil:
		case strings.HasPrefix(name, "--"):
			spec += "="
		default:
			spec += "+"
		}
		if i < shown {
			spec += "[" + strings.NewReplacer(`\`, `\\`, "[", `\[`, "]", `\]`).Replace(f.Help) + "]"
		}
		specs = append(specs, spec+value)
	}
	return specs
}

// zshPlace is the specification of what stands in places of its own.
func zshPlace(v *Value) string {
	place := "1"
	if v.Many {
		place = "*"
	}
	return place + ":" + v.What + ":" + zshAction(v)
}

func zshAction(v *Value) string {
	switch v.Kind {
	case "file":
		return "_files"
	case "directory":
		return "_path_files -/"
	case "words":
		return "(" + strings.Join(v.Words, " ") + ")"
	}
	return " "
}
