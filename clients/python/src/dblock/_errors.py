"""What can go wrong, as exceptions with data; nobody has to read their text."""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional, Type


class DblockError(Exception):
    """Any failure of dblock.

    code is one of the stable words of the session protocol (docs/session.md);
    hint says what can be done, and is empty where there is nothing to say.
    """

    code: str = "fault"
    hint: str = ""

    def __init__(self, message: str, *, code: str = "", hint: str = "") -> None:
        super().__init__(message)
        if code:
            self.code = code
        if hint:
            self.hint = hint


class LockHeld(DblockError, TimeoutError):
    """The lock was not had in time. `dblock.Timeout` is the same class.

    holder: who has it, as the lock file says: `pid`, `process`, `host` and more,
    empty where nobody could tell. waited: seconds. ahead: how many waited before
    us at the end. lock_file: its path, empty where it is not known.
    """

    code = "held"

    def __init__(
        self,
        message: str,
        *,
        code: str = "",
        hint: str = "",
        holder: Optional[Mapping[str, Any]] = None,
        waited: float = 0.0,
        ahead: int = 0,
        lock_file: str = "",
    ) -> None:
        super().__init__(message, code=code, hint=hint)
        self.holder: Dict[str, Any] = dict(holder or {})
        self.waited = waited
        self.ahead = ahead
        self.lock_file = lock_file


Timeout = LockHeld


class LockLost(DblockError):
    """Somebody took the lock away, or the session that kept it has died."""

    code = "lost"


class LockCancelled(DblockError):
    """The wait was ended by the program itself."""

    code = "cancelled"


class LockPermission(DblockError, PermissionError):
    """The lock, or its directory, belongs to somebody else."""

    code = "permission"


class LockUpgrade(DblockError):
    """Exclusive was asked for inside a shared hold; that could only wait for itself."""

    code = "upgrade"


class UsageError(DblockError, ValueError):
    """What was asked for makes no sense, whatever the state of the lock."""

    code = "usage"


class DblockNotFound(DblockError, FileNotFoundError):
    """There is no dblock program, or one that is too old for this package."""

    code = "not-found"


class SessionEnded(DblockError):
    """The co-process ended before it had answered."""

    code = "ended"


_classes: Dict[str, Type[DblockError]] = {
    "lost": LockLost,
    "cancelled": LockCancelled,
    "permission": LockPermission,
    "upgrade": LockUpgrade,
    "usage": UsageError,
    "bad-line": UsageError,
    "name": UsageError,
    "ended": SessionEnded,
}


def from_answer(error: Mapping[str, Any], lock_file: str = "") -> DblockError:
    """The exception for the member "error" of an answer."""
    code = str(error.get("code", "fault"))
    message = str(error.get("message", code))
    hint = str(error.get("hint") or "")
    if code == "held":
        return LockHeld(
            message,
            hint=hint,
            holder=error.get("holder"),
            waited=float(error.get("waited_ms") or 0) / 1000,
            ahead=int(error.get("ahead") or 0),
            lock_file=str(error.get("lock_file") or lock_file),
        )
    return _classes.get(code, DblockError)(message, code=code, hint=hint)
