"""DatabaseLock: the class of the peers that invented the protocol, with the real lock behind it."""

from __future__ import annotations

from typing import Any, Dict, NamedTuple, Optional, Type
from types import TracebackType

from ._errors import DblockError, LockHeld
from ._lock import Hold, Lock, Path, force, status


class LockInfo(NamedTuple):
    """Who holds a lock, as the lock file says."""

    pid: int
    timestamp: float
    """Its last sign of life, in seconds since the epoch."""
    host: str
    process: str


class LockState(NamedTuple):
    """Whether a database is locked, and by whom. True if it is."""

    locked: bool
    info: Optional[LockInfo] = None

    def __bool__(self) -> bool:
        return self.locked


class DatabaseLockError(LockHeld):
    """The lock was not had within the retries. lock_info: who has it, where that is known."""

    lock_info: Optional[LockInfo] = None


class DatabaseLock:
    """A database's lock by hand: acquire, release.

    max_retries, retry_delay: the product is how long acquire waits, in seconds. Nobody
    polls; they are the words of the protocol.
    stale_timeout: seconds after which the lock of a peer that cannot be seen counts as
    abandoned. process_type: the label that others see.
    Other options are those of dblock.lock.
    """

    def __init__(
        self,
        database_path: Path,
        *,
        max_retries: int = 50,
        retry_delay: float = 0.1,
        stale_timeout: float = 30.0,
        process_type: Optional[str] = None,
        **options: Any,
    ) -> None:
        self.max_retries = max_retries
        self.retry_delay = retry_delay
        options.setdefault("timeout", max_retries * retry_delay)
        options.setdefault("thread_local", False)
        self._lock = Lock(database_path, process=process_type, stale_timeout=stale_timeout, **options)
        self._hold: Optional[Hold] = None

    def acquire(self) -> None:
        """Acquire the lock. Raises DatabaseLockError if it cannot be had in time.

        Acquired twice it is held twice, and released with the second release.
        """
        try:
            self._hold = self._lock.acquire()
        except LockHeld as error:
            seconds = self._lock.timeout
            failure = DatabaseLockError(
                f"Failed to acquire database lock after {seconds:g}s timeout ({self.max_retries} retries): {error}",
                hint=error.hint,
                holder=error.holder,
                waited=error.waited,
                ahead=error.ahead,
                lock_file=error.lock_file,
            )
            failure.lock_info = _info(error.holder)
            raise failure from None

    def release(self) -> None:
        """Release the lock. Raises DblockError where it is not held, LockLost if it was lost."""
        if not self._lock.is_locked:
            raise DblockError("Cannot release lock that was not acquired by this instance", code="no-hold")
        self._lock.release()

    def is_locked(self) -> LockState:
        """Whether the database is locked, by whomever. What is stale does not count."""
        found = self._status()
        if not found["locked"] or found.get("stale"):
            return LockState(False)
        return LockState(True, _info(found.get("holder")))

    def force_unlock(self) -> bool:
        """Remove the lock, whoever has it; False if there was none.

        A dblock that holds it is ended, with what it runs. Use with caution.
        """
        return force(self._lock.db, lock_file=self._lock._lock_file, yes=True, binary=self._lock.binary)

    def get_lock_info(self) -> Optional[LockInfo]:
        """What the lock file says about our own hold, or None while there is none."""
        hold = self._lock.hold
        if hold is None:
            return None
        return LockInfo(hold.pid, hold.timestamp, hold.host, hold.process)

    def get_lock_path(self) -> str:
        """The path of the lock file."""
        if self._hold is not None:
            return self._hold.lock_file
        return str(self._status()["lock_file"])

    @property
    def hold(self) -> Optional[Hold]:
        """The present hold, if there is one."""
        return self._lock.hold

    def _status(self) -> Dict[str, Any]:
        return status(self._lock.db, lock_file=self._lock._lock_file, binary=self._lock.binary)

    def __enter__(self) -> DatabaseLock:
        self.acquire()
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self._lock.__exit__(kind, error, trace)


def _info(holder: Any) -> Optional[LockInfo]:
    if not holder or "pid" not in holder:
        return None
    return LockInfo(
        int(holder["pid"]),
        float(holder.get("timestamp") or 0) / 1000,
        str(holder.get("host", "")),
        str(holder.get("process", "")),
    )
