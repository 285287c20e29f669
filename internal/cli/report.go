package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"github.com/dblock-dev/dblock/internal/term"
	"github.com/dblock-dev/dblock/lock"
)

// Report tells the user about an error with which a program ends, and returns the exit code for it.
func Report(w io.Writer, err error) int {
	var (
		exit     *ExitError
		usage    *UsageError
		conflict *ConflictError
		engine   *lock.EngineError
		lost     *lock.LostError
		path     *fs.PathError
		link     *os.LinkError
	)
	tell := func(code int, problem, hint string) int { return Tell(w, code, problem, hint) }
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.Code
	case errors.As(err, &usage):
		return tell(ExitUsage, usage.Problem, usage.Hint)
	case errors.Is(err, lock.ErrName):
		return tell(ExitUsage, err.Error(), "name the lock file with --lock-file")
	case errors.As(err, &conflict):
		return conflict.Tell(tell)
	case errors.As(err, &engine):
		return tell(unreached(engine), engine.Error(), engine.Hint)
	case errors.As(err, &lost):
		return ExitLost // told when it happened
	case errors.Is(err, fs.ErrPermission):
		return tell(ExitDenied, err.Error(), WhyDenied(err))
	case errors.Is(err, syscall.EROFS):
		return tell(ExitCannotCreate, err.Error(), "the filesystem is read-only; the lock file must be beside the database, or elsewhere with --lock-file")
	case errors.Is(err, lock.ErrNotRegular), errors.Is(err, lock.ErrNotLockFile):
		return tell(ExitCannotCreate, err.Error(), "move it away, or name another lock file with --lock-file")
	case errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.ENOTDIR):
		problem, hint := WhyMissing(err)
		return tell(ExitCannotCreate, problem, hint)
	case errors.As(err, &path), errors.As(err, &link):
		return tell(ExitCannotCreate, err.Error(), "")
	}
	return tell(ExitFault, err.Error(), "this is a fault in dblock; please report it")
}

// Tell says what is wrong, and what the reader can do if there is something, and returns the code.
func Tell(w io.Writer, code int, problem, hint string) int {
	fmt.Fprintf(w, "dblock: %s\n", term.Path(Redact(problem)))
	if hint != "" {
		fmt.Fprintf(w, "hint: %s\n", term.Path(Redact(hint)))
	}
	return code
}

// unreached is the exit code for an engine that could not be asked.
func unreached(e *lock.EngineError) int {
	switch {
	case e.Misuse:
		return ExitUsage
	case e.Denied:
		return ExitDenied
	}
	return ExitLost
}
