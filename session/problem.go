package session

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"time"

	"github.com/dblock-dev/dblock/internal/cli"
	"github.com/dblock-dev/dblock/internal/term"
	"github.com/dblock-dev/dblock/lock"
)

// The codes of errors, which never change.
const (
	codeUsage        = "usage"
	codeBadLine      = "bad-line"
	codeHeld         = "held"
	codeCancelled    = "cancelled"
	codeLost         = "lost"
	codeNoHold       = "no-hold"
	codePermission   = "permission"
	codeCannotCreate = "cannot-create"
	codeOrphan       = "orphan"
	codeUpgrade      = "upgrade"
	codeName         = "name"
	codeUnreachable  = "unreachable"
	codeFault        = "fault"
)

func (p *problem) write(o *object, more func(*object)) {
	o.object("error", func(o *object) {
		o.text("code", p.code)
		o.text("message", p.message)
		if p.hint != "" {
			o.text("hint", p.hint)
		}
		if more != nil {
			more(o)
		}
	})
}

// usage is the problem with a value.
func usage(err error) *problem {
	var u *cli.UsageError
	if errors.As(err, &u) {
		return &problem{codeUsage, u.Problem, u.Hint}
	}
	return &problem{codeUsage, err.Error(), ""}
}

// explain makes a problem of an error of package lock, as main does for a run.
func explain(err error) *problem {
	var (
		dead   *lock.DeadlockError
		held   *lock.HeldError
		lost   *lock.LostError
		path   *fs.PathError
		engine *lock.EngineError
	)
	switch {
	case errors.As(err, &engine):
		return unreached(engine)
	case errors.Is(err, lock.ErrNoEngine):
		return &problem{codeUnreachable, "a lock on a server needs dblock-remote, one in etcd dblock-remote-etcd, which is not installed", "it belongs beside dblock; install.sh installs both"}
	case errors.Is(err, context.Canceled):
		return &problem{codeCancelled, "the wait was cancelled", ""}
	case errors.As(err, &dead):
		text, hint := cli.Deadlock(dead)
		return &problem{codeHeld, text, hint}
	case errors.As(err, &held):
		return heldBy(held)
	case errors.As(err, &lost):
		return lostTo(lost)
	case errors.Is(err, lock.ErrUpgrade):
		return &problem{codeUpgrade, err.Error(), "acquire the outer lock for itself, or this one shared"}
	case errors.Is(err, lock.ErrOrphan):
		return &problem{codeOrphan, err.Error(), "end what the killed dblock has left, with `dblock force`"}
	case errors.Is(err, lock.ErrName):
		return &problem{codeName, err.Error(), `name the lock file with "lock_file"`}
	case errors.Is(err, fs.ErrPermission):
		return &problem{codePermission, err.Error(), cli.WhyDenied(err)}
	case errors.Is(err, syscall.EROFS):
		return &problem{codeCannotCreate, err.Error(), `the filesystem is read-only; the lock file must be beside the database, or elsewhere with "lock_file"`}
	case errors.Is(err, lock.ErrNotRegular), errors.Is(err, lock.ErrNotLockFile):
		return &problem{codeCannotCreate, err.Error(), `move it away, or name another lock file with "lock_file"`}
	case errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.ENOTDIR):
		message, hint := cli.WhyMissing(err)
		return &problem{codeCannotCreate, message, hint}
	case errors.As(err, &path):
		return &problem{codeCannotCreate, err.Error(), ""}
	}
	return &problem{codeFault, err.Error(), "this is a fault in dblock; please report it"}
}

// unreached is the problem with a server.
func unreached(e *lock.EngineError) *problem {
	code := codeUnreachable
	switch {
	case e.Misuse:
		code = codeUsage
	case e.Denied:
		code = codePermission
	}
	return &problem{code, e.Error(), e.Hint}
}

func heldBy(held *lock.HeldError) *problem {
	p := &problem{codeHeld, term.Path(held.Path) + " is locked", "see who it is with `dblock status`, or wait longer"}
	if r := held.Report; r != nil && r.Holder != nil {
		p.message = fmt.Sprintf("%s is held by %s for %s%s", term.Path(held.Path), cli.Who(r.Holder), term.Ago(r.Age), cli.Info(r.Holder.Info))
	}
	if held.Waited > 100*time.Millisecond {
		p.message += fmt.Sprintf("; gave up after %s", term.Ago(held.Waited))
	}
	return p
}

func lostTo(lost *lock.LostError) *problem {
	by := ""
	if lost.Holder != nil {
		by = " by " + cli.Who(lost.Holder)
	}
	return &problem{codeLost, fmt.Sprintf("the lock %s was lost: %s%s", term.Path(lost.Path), lost.Reason, by), "what was done since then may have met somebody else's work"}
}
