"""dblock: one process at a time on a database.

    import dblock

    with dblock.lock("app.db", timeout=5, process="etl") as hold:
        ...

The lock is the one that the program dblock takes, and so shared with programs in
any language.
"""

from ._binary import find_binary
from ._database import DatabaseLock, DatabaseLockError, LockInfo, LockState
from ._errors import (
    DblockError,
    DblockNotFound,
    LockCancelled,
    LockHeld,
    LockLost,
    LockPermission,
    LockUpgrade,
    SessionEnded,
    Timeout,
    UsageError,
)
from ._lock import AsyncLock, Hold, Lock, Waiting, alock, force, lock, status
from ._session import close
from ._store import LockingStore

__version__ = "0.1.0"

__all__ = [
    "AsyncLock",
    "DatabaseLock",
    "DatabaseLockError",
    "DblockError",
    "DblockNotFound",
    "Hold",
    "Lock",
    "LockCancelled",
    "LockHeld",
    "LockInfo",
    "LockLost",
    "LockPermission",
    "LockState",
    "LockUpgrade",
    "LockingStore",
    "SessionEnded",
    "Timeout",
    "UsageError",
    "Waiting",
    "alock",
    "close",
    "find_binary",
    "force",
    "lock",
    "status",
]
