package doctor

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/dblock-dev/dblock/internal/cli"
	"github.com/dblock-dev/dblock/internal/entry"
	"github.com/dblock-dev/dblock/lock"
)

// exported are the variables that a command finds, behind lock.EnvHold.
var exported = []string{"DB", "LOCK_FILE", "PID", "HOST", "PROCESS", "TIMESTAMP", "MODE", "TOKEN", "WAITED_MS", "OUTER", "KEEPER", "BEFORE"}

// environment looks for variables that mean nothing, or name a hold that is over.
func (v *visit) environment() (all []Finding) {
	var known, set []string
	for _, node := range v.kong.Model.Children {
		for _, f := range node.Flags {
			known = append(known, "DBLOCK_"+strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_")))
		}
	}
	for _, name := range exported {
		known = append(known, lock.EnvHold+name)
	}
	for _, kv := range os.Environ() {
		name, value, _ := strings.Cut(kv, "=")
		switch {
		case !strings.HasPrefix(name, "DBLOCK_") || value == "":
		case !slices.Contains(known, name):
			f := Finding{"environment", Warning, "there is no variable " + name, "dblock takes what is not given as a flag from variables, and ignores names that it does not know.", "unset " + name}
			if near := cli.Near(name, known); near != "" {
				f.Do = "did you mean " + near + "?"
			}
			all = append(all, f)
		case !strings.HasPrefix(name, lock.EnvHold):
			set = append(set, name)
		}
	}
	inside := ""
	if path := os.Getenv(lock.EnvLockFile); path != "" {
		r, err := lock.Inspect(os.Getenv(lock.EnvDB), lock.Options{LockFile: path})
		switch {
		case err == nil && r.Inside():
			inside = "inside a hold of " + path
		default:
			all = append(all, Finding{"environment", Warning, lock.EnvHold + "... name a hold of " + path + " that is over, or is not of this process's", "A dblock without -d takes that lock, and programs may believe that it is held for them.", "start a new shell, or: unset " + strings.Join(holdVariables(), " ")})
		}
	}
	if len(all) > 0 {
		return all
	}
	found := "no variable of dblock's is set"
	if len(set) > 0 {
		slices.Sort(set)
		found = strings.Join(set, ", ") + " set"
	}
	if inside != "" {
		found = inside
		if len(set) > 0 {
			found += "; " + strings.Join(set, ", ") + " set"
		}
	}
	return []Finding{{"environment", OK, found, "dblock takes what is not given as a flag from variables.", ""}}
}

func holdVariables() (names []string) {
	for _, kv := range os.Environ() {
		if name, _, _ := strings.Cut(kv, "="); strings.HasPrefix(name, lock.EnvHold) {
			names = append(names, name)
		}
	}
	return names
}

// binary says how this program was built.
func (v *visit) binary() []Finding {
	const why = "It notes which signals are ignored before the Go runtime changes that (nohup), and makes the start quicker."
	if !entry.Exists || entry.Ran() {
		return []Finding{{"binary", OK, "dblock " + v.version, why, ""}}
	}
	return []Finding{{"binary", Warning, "dblock " + v.version + " was built without its entry point", why, "build it with install.sh"}}
}

// versions finds other dblocks, and its companions, where commands are looked for.
func (v *visit) versions() []Finding {
	self, err := os.Executable()
	if err != nil {
		return nil
	}
	own, err := os.Stat(self)
	if err != nil {
		return nil
	}
	const why = "Which one runs depends on PATH, and an older one may not know what a newer one does."
	seen := []os.FileInfo{own}
	var all []Finding
	var companions []string
	first := true
	end := time.Now().Add(2 * patience)
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), filepath.Dir(self)) {
		if !filepath.IsAbs(dir) {
			continue
		}
		others, _ := filepath.Glob(filepath.Join(dir, "dblock-*"))
		for _, path := range others {
			if name := filepath.Base(path); executable(path) && !slices.Contains(companions, name) {
				companions = append(companions, name)
			}
		}
		path := filepath.Join(dir, "dblock")
		info, err := os.Stat(path)
		if err != nil || !executable(path) {
			continue
		}
		winner := first
		first = false
		if slices.ContainsFunc(seen, func(s os.FileInfo) bool { return os.SameFile(s, info) }) {
			continue
		}
		seen = append(seen, info)
		said := "which was not asked: it belongs to another user"
		if who := owner(info); who == 0 || mine(who) {
			said = versionOf(path, min(patience, time.Until(end)))
		}
		if said == v.version {
			continue
		}
		found := fmt.Sprintf("%s is another dblock: %s; this one is %s", path, said, v.version)
		if winner {
			found += ", and the first on PATH"
		}
		all = append(all, Finding{"versions", Warning, found, why, "remove one of them, or put the right directory first in PATH"})
	}
	if len(all) > 0 {
		return all
	}
	found := "no other dblock on PATH"
	if len(seen) > 1 {
		found = "all dblocks on PATH are of this version"
	}
	if len(companions) > 0 {
		found += "; companions: " + strings.Join(companions, ", ")
	}
	return []Finding{{"versions", OK, found, why, ""}}
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0
}

// versionOf asks a program that is called dblock for its version.
func versionOf(path string, limit time.Duration) string {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	var out bytes.Buffer
	c := exec.CommandContext(ctx, path, "--version")
	c.Stdout = &limited{w: &out, left: 1000}
	c.WaitDelay = limit
	// What it has started ends with it.
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }
	if err := c.Run(); err != nil {
		return "it does not tell its version"
	}
	line, _, _ := strings.Cut(out.String(), "\n")
	said, found := strings.CutPrefix(line, "dblock ")
	if !found || said == "" {
		return "it does not tell its version"
	}
	return said
}

// limited takes the beginning of what is written to it.
type limited struct {
	w    io.Writer
	left int
}

func (l *limited) Write(b []byte) (int, error) {
	n := min(len(b), l.left)
	l.left -= n
	_, err := l.w.Write(b[:n])
	return len(b), err
}
