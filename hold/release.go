package hold

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/internal/cli"
	"github.com/dblock-dev/dblock/internal/crew"
	"github.com/dblock-dev/dblock/internal/say"
	"github.com/dblock-dev/dblock/internal/term"
	"github.com/dblock-dev/dblock/internal/tree"
	"github.com/dblock-dev/dblock/lock"
)

// Release is the grammar of `dblock release`.
type Release struct {
	cli.Database
	Quiet cli.Quiet `short:"q" help:"Do not say that there was nothing to release; given twice, nor that the lock was lost."`
}

// releaseWithin is how long a keeper may take to release the lock; a hold that leaves
// the path free for others takes a fraction of a second.
const releaseWithin = 10 * time.Second

// Run ends a hold of the shell's: the last one, or that of the database that is named.
func (r *Release) Run(k *kong.Context) error {
	if given := cli.Given(k); given("db") && !given("lock-file") {
		r.LockFile = ""
	}
	holds := stack(present())
	at, err := r.which(holds)
	if err != nil {
		return err
	}
	if at < 0 {
		r.nothing(holds)
		return nil
	}
	h := holds[at]
	err = r.end(h)
	if evaluated() {
		_, werr := os.Stdout.WriteString(without(holds, at).commands())
		if err == nil {
			err = werr
		}
	}
	return err
}

// stack are the holds of a shell, the last one first.
func stack(v variables) (all []variables) {
	for ; len(v) > 0; v = v.before() {
		all = append(all, v)
	}
	return all
}

// without are the variables that a shell has after the end of one of its holds.
func without(holds []variables, at int) variables {
	paths := holds[at].paths()
	left := slices.Delete(slices.Clone(holds), at, at+1)
	var v variables
	for i := len(left) - 1; i >= 0; i-- {
		h := variables{}
		for name, value := range left[i] {
			h[name] = value
		}
		if i < at {
			h.forget(paths)
		}
		h.behind(v)
		v = h
	}
	return v
}

// forget takes locks out of those that enclose a hold.
func (v variables) forget(paths []string) {
	var lines []string
	for line := range strings.SplitSeq(v[lock.EnvOuter], "\n") {
		if f := strings.SplitN(line, ":", 3); len(f) == 3 && !slices.Contains(paths, unescape.Replace(f[2])) {
			lines = append(lines, line)
		}
	}
	delete(v, lock.EnvOuter)
	if len(lines) > 0 {
		v[lock.EnvOuter] = strings.Join(lines, "\n")
	}
}

// which of the holds is to end: -1 if there is none. Several locks that were taken together
// are one hold, and released together.
func (r *Release) which(holds []variables) (int, error) {
	var paths []string
	for i, db := range append([]string{r.DB}, r.More...) {
		lockFile := ""
		if i == 0 {
			lockFile = r.LockFile
		}
		if db == "" && lockFile == "" {
			continue
		}
		n, err := lock.Resolve(db, lockFile)
		if err != nil {
			return -1, err
		}
		paths = append(paths, n.Notice)
	}
	return slices.IndexFunc(holds, func(v variables) bool {
		own := v.paths()
		return v[envPID] != "" && !slices.ContainsFunc(paths, func(path string) bool { return !slices.Contains(own, path) })
	}), nil
}

// paths are the lock files of a hold: of one that has several, the others are among those
// that enclose it, with the same holder.
func (v variables) paths() []string {
	all := []string{v[lock.EnvLockFile]}
	for line := range strings.SplitSeq(v[lock.EnvOuter], "\n") {
		if f := strings.SplitN(line, ":", 3); len(f) == 3 && f[1] == v[envPID] {
			all = append(all, unescape.Replace(f[2]))
		}
	}
	return all
}

// nothing says that there is nothing to release, which is no fault: a hold is over after it
// was released twice.
func (r *Release) nothing(holds []variables) {
	switch {
	case r.Quiet > 0:
	case r.DB != "" || r.LockFile != "":
		fmt.Fprintf(say.Stderr, "dblock: this shell does not hold %s: there is nothing to release\n", r.named())
	case len(holds) > 0:
		fmt.Fprintf(say.Stderr, "dblock: the lock is held by the dblock that runs this (pid %s): it is released when that has ended\n", term.Clean(holds[0][lock.EnvPID]))
	default:
		fmt.Fprintln(say.Stderr, "dblock: this shell holds no lock: there is nothing to release")
	}
}

// named is what was named, for people.
func (r *Release) named() string {
	s := strings.TrimPrefix(strings.TrimPrefix(r.Selector(), "-d "), "--lock-file ")
	for _, db := range r.More {
		s += " and " + cli.Quote(db)
	}
	if len(r.More) > 0 {
		s += " together"
	}
	return s
}

// end has a keeper release its lock, and waits until it has.
func (r *Release) end(v variables) error {
	path := v[lock.EnvLockFile]
	name := path
	if lock.IsURL(v[lock.EnvDB]) {
		name = v[lock.EnvDB]
	}
	pid, err := strconv.Atoi(v[envPID])
	if err != nil || pid <= 1 {
		return r.lost(path, name, "no process keeps it")
	}
	keeper, err := crew.Open(pid)
	if err != nil {
		return r.lost(path, name, fmt.Sprintf("its keeper, process %d, has ended before: it was released by then, or the keeper was killed", pid))
	}
	defer keeper.Close()
	// The handle comes first: what is seen afterwards is true of the process that it refers
	// to, or that one has ended and no signal reaches anybody.
	f := stateOf(pid)
	if f != nil {
		defer f.Close()
	}
	if served := lock.KeptFor(pid); f != nil && read(text(f)).path != path || served != 0 && !above(served) || served == 0 && len(ancestors()) > 0 {
		return r.lost(path, name, fmt.Sprintf("process %d does not keep it for this shell: it was released before, or its keeper was killed", pid))
	}
	keeper.Send(releases)
	keeper.Send(unix.SIGCONT)
	if !ends(keeper, releaseWithin) {
		return &cli.ConflictError{
			Code: cli.ExitConflict, Quiet: r.Quiet,
			Text: fmt.Sprintf("%s is not released: its keeper, process %d, does not answer", term.Path(name), pid),
			Hint: fmt.Sprintf("`dblock force --lock-file %s` ends it, and this shell with it", cli.Quote(path)),
		}
	}
	if f == nil {
		return nil
	}
	switch n := read(text(f)); {
	case n.word == wasLost:
		return &cli.ConflictError{Code: cli.ExitLost, Quiet: r.Quiet, Text: n.text}
	case n.word == wasLate:
		return &cli.ConflictError{Code: cli.ExitTimeLimit, Quiet: r.Quiet, Text: n.text}
	case n.word != wasReleased:
		return r.lost(path, name, fmt.Sprintf("its keeper, process %d, was killed", pid))
	case n.text != "":
		fmt.Fprintf(say.Stderr, "dblock: %s\n", n.text)
	}
	return nil
}

// lost is the error of a hold that had ended before. If its keeper was killed somebody else keeps
// the lock until the shell ends, or says, as now, that it knows.
func (r *Release) lost(path, name, why string) error {
	dismiss(path)
	return &cli.ConflictError{
		Code: cli.ExitLost, Quiet: r.Quiet,
		Text: fmt.Sprintf("%s was not held any more: %s", term.Path(name), why),
	}
}

// dismiss ends the witness of a keeper that was killed, if it was for this shell and kept that lock.
// A lock that others have, too, or whose keeper is in the middle of its end, shows no witness: so it
// is looked for among the processes. It has what its keeper had, and is no child of one that lives.
func dismiss(path string) {
	for _, p := range tree.All() {
		if served := lock.KeptFor(p.PID); served == 0 || !above(served) || p.Threads > 1 || lock.KeptFor(p.Parent) != 0 { // a keeper has threads
			continue
		}
		w, err := crew.Open(p.PID)
		if err != nil {
			continue
		}
		if keeps(p.PID, path) {
			w.Send(unix.SIGTERM)
			ends(w, releaseWithin)
		}
		w.Close()
	}
}

// keeps reports whether a process has the state of a keeper of that lock.
func keeps(pid int, path string) bool {
	f := stateOf(pid)
	if f == nil {
		return false
	}
	defer f.Close()
	return read(text(f)).path == path
}

// text is all that there is in a file, from its beginning.
func text(f *os.File) string {
	b, _ := io.ReadAll(io.NewSectionReader(f, 0, 1<<16))
	return string(b)
}

// ends waits for the end of a process.
func ends(s *crew.Process, within time.Duration) bool {
	ended := make(chan struct{})
	go func() {
		for !s.Gone() {
			s.Await(-1)
		}
		close(ended)
	}()
	select {
	case <-ended:
		return true
	case <-time.After(within):
		return false
	}
}
