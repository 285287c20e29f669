package cli

import (
	"fmt"
	"strconv"
	"syscall"
)

// UsageError is a fault of the caller's: exit code 64.
type UsageError struct{ Problem, Hint string }

func (e *UsageError) Error() string { return e.Problem }

// Usage makes a UsageError; the hint says what would be right, or is empty.
func Usage(problem, hint string) error { return &UsageError{problem, hint} }

// SignalError says that dblock is to die of a signal: the command did, or it came where
// it ends a wait, or a session.
type SignalError struct{ Signal syscall.Signal }

func (e *SignalError) Error() string { return "killed by " + e.Signal.String() }

// ExitError is how the command ended, as an exit code.
type ExitError struct{ Code int }

func (e *ExitError) Error() string { return "exit code " + strconv.Itoa(e.Code) }

// ConflictError says that the lock was not acquired, with the exit code for that.
type ConflictError struct {
	Code  int
	Quiet Quiet
	Text  string
	Hint  string
	Err   error
}

func (e *ConflictError) Error() string { return e.Text }

// Tell tells the user as much as is wanted, and returns the exit code.
func (e *ConflictError) Tell(tell func(code int, problem, hint string) int) int {
	switch {
	case e.Quiet >= Silent:
		return e.Code
	case e.Quiet > 0:
		return tell(e.Code, e.Text, "")
	}
	return tell(e.Code, e.Text, e.Hint)
}

// Unwrap returns the lock's error.
func (e *ConflictError) Unwrap() error { return e.Err }

// EqualsBehind is the error for -d=x, which would mean a file called "=x". The value is what
// is behind the "=".
func EqualsBehind(letter, value string) error {
	value = Unescape(value)
	return Usage(
		fmt.Sprintf("-%s=%s: no \"=\" comes between a letter and its value", letter, value),
		fmt.Sprintf("give -%s %s, or the long flag; a value that begins with \"=\" is an argument of its own", letter, value))
}
