package hold

import (
	"os"
	"slices"
	"strings"

	"github.com/dblock-dev/dblock/lock"
)

// Variables that a shell has beside those of lock.Variables.
const (
	envPID    = lock.EnvHold + "KEEPER" // the keeper's pid
	envBefore = lock.EnvHold + "BEFORE" // the variables of the hold before this one, a line each
)

// known are the names of all variables of a hold. No others are touched in a shell: the
// name of a variable can be anything.
var known = []string{
	lock.EnvDB, lock.EnvLockFile, lock.EnvPID, lock.EnvHold + "HOST", lock.EnvHold + "PROCESS", lock.EnvHold + "TIMESTAMP", lock.EnvMode, lock.EnvToken,
	lock.EnvHold + "WAITED_MS", lock.EnvOuter, envPID, envBefore,
}

// hold is the variables of one, by name.
type variables map[string]string

// present are those of this process's environment.
func present() variables {
	v := variables{}
	for _, name := range known {
		if value, ok := os.LookupEnv(name); ok {
			v[name] = value
		}
	}
	return v
}

// parse reads lines of NAME=VALUE; what is none, and names that are not known, are left out.
func parse(lines []string) variables {
	v := variables{}
	for _, line := range lines {
		if name, value, ok := strings.Cut(line, "="); ok && slices.Contains(known, name) {
			v[name] = value
		}
	}
	return v
}

var (
	escape   = strings.NewReplacer("%", "%25", "\n", "%0A")
	unescape = strings.NewReplacer("%25", "%", "%0A", "\n")
)

// before are the variables of the hold before this one; nil if there is none.
func (v variables) before() variables {
	text, ok := v[envBefore]
	if !ok {
		return nil
	}
	var lines []string
	for line := range strings.SplitSeq(text, "\n") {
		lines = append(lines, unescape.Replace(line))
	}
	return parse(lines)
}

// behind makes another hold the one before this one.
func (v variables) behind(before variables) {
	delete(v, envBefore)
	if len(before) == 0 {
		return
	}
	var lines []string
	for _, name := range known {
		if value, ok := before[name]; ok {
			lines = append(lines, escape.Replace(name+"="+value))
		}
	}
	v[envBefore] = strings.Join(lines, "\n")
}

// commands are what a POSIX shell evaluates to have these variables, and no others of a hold.
func (v variables) commands() string {
	var set, unset strings.Builder
	for _, name := range known {
		if value, ok := v[name]; ok {
			set.WriteString(" " + name + "='" + strings.ReplaceAll(value, "'", `'\''`) + "'")
		} else {
			unset.WriteString(" " + name)
		}
	}
	var all string
	if unset.Len() > 0 {
		all = "unset" + unset.String() + "\n"
	}
	if set.Len() > 0 {
		all += "export" + set.String() + "\n"
	}
	return all
}

// exports is what a shell evaluates that has a new hold, by what its keeper has told.
func exports(lines []string) string {
	v := parse(lines)
	v.behind(present())
	return v.commands()
}
