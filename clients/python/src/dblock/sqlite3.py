"""sqlite3 with the database's lock around each transaction.

    from dblock import sqlite3

    db = sqlite3.connect("app.db")
    db.execute("UPDATE counter SET n = n + 1")   # the lock is acquired here
    db.commit()                                  # and released here

A connection as that of the module sqlite3, which it is, with these differences:

* Before the first statement that writes, and before BEGIN or SAVEPOINT, the
  database's lock is acquired. It is released when the transaction has ended: by
  commit, rollback, the end of `with db:`, close, or at once where there is none.
* What only reads, outside a transaction, runs under the shared lock, and its rows are
  fetched at once: who iterates over them later, or forgets them half way, keeps
  nobody waiting. With reads="unlocked" they are read as ever and without the lock,
  which is right for a database in WAL mode.
* Where the lock is not had in time, DatabaseLocked is raised: it is an
  OperationalError, and a LockHeld that says who has it.

What this does not replace: SQLite's own locks and its busy timeout, which keep out
programs that know nothing of dblock; BEGIN IMMEDIATE, if a transaction that begins by
reading is also to keep those out; and what works on the file without a statement of
SQL, such as backup, blobopen, serialize and deserialize: use `with db.locked():`.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import sqlite3 as _sqlite3
from collections import deque
from sqlite3 import (
    PARSE_COLNAMES,
    PARSE_DECLTYPES,
    Binary,
    DatabaseError,
    DataError,
    Error,
    IntegrityError,
    InterfaceError,
    InternalError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
    Row,
    Warning,
    adapters,
    apilevel,
    complete_statement,
    converters,
    paramstyle,
    register_adapter,
    register_converter,
    sqlite_version,
    sqlite_version_info,
    threadsafety,
)
from typing import Any, Callable, Deque, Dict, Generator, Iterator, List, Optional, Type, TypeVar, cast
from urllib.parse import unquote, urlsplit

from ._errors import LockHeld, LockUpgrade, UsageError
from ._lock import Hold, Lock, Path

__all__ = [
    "PARSE_COLNAMES",
    "PARSE_DECLTYPES",
    "Binary",
    "Connection",
    "Cursor",
    "DataError",
    "DatabaseError",
    "DatabaseLocked",
    "Error",
    "IntegrityError",
    "InterfaceError",
    "InternalError",
    "NotSupportedError",
    "OperationalError",
    "ProgrammingError",
    "Row",
    "Warning",
    "adapters",
    "apilevel",
    "complete_statement",
    "connect",
    "converters",
    "paramstyle",
    "register_adapter",
    "register_converter",
    "sqlite_version",
    "sqlite_version_info",
    "threadsafety",
]

T = TypeVar("T")

_comment = re.compile(r"\s+|--[^\n]*(?:\n|$)|/\*.*?(?:\*/|$)", re.DOTALL)
_word = re.compile(r"[A-Za-z_]+")
_quoted = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|`(?:[^`]|``)*`|\[[^\]]*\]|--[^\n]*|/\*.*?(?:\*/|$)", re.DOTALL)
_pragma = re.compile(r"PRAGMA\s+(?:\w+\s*\.\s*)?(\w+)\s*([=(]?)", re.IGNORECASE)
_frame = re.compile(r"\s*(?:BEGIN(?:\s+DEFERRED)?(?:\s+TRANSACTION)?|COMMIT|END|ROLLBACK|SAVEPOINT|RELEASE)\b(?!\s+(?:IMM|EXC))", re.IGNORECASE)

# Pragmas that say something about the database, and those that set something for the connection.
_queries = frozenset(
    "application_id collation_list compile_options data_version database_list encoding foreign_key_check "
    "foreign_key_list freelist_count function_list index_info index_list index_xinfo integrity_check "
    "journal_mode module_list page_count page_size pragma_list quick_check schema_version table_info table_list "
    "table_xinfo user_version".split()
)
_settings = frozenset(
    "busy_timeout cache_size cache_spill case_sensitive_like foreign_keys ignore_check_constraints mmap_size "
    "query_only recursive_triggers synchronous temp_store threads".split()
)

_changes = re.compile(r"\b(?:INSERT|UPDATE|DELETE|REPLACE)\b", re.IGNORECASE)


class DatabaseLocked(LockHeld, _sqlite3.OperationalError):
    """The lock was not had in time: both a dblock.LockHeld and an OperationalError."""


@functools.lru_cache(maxsize=256)
def _reads(sql: str) -> bool:
    """Whether a statement only reads. In doubt it does not."""
    start = 0
    while True:
        found = _comment.match(sql, start)
        if found is None or found.end() == start:
            break
        start = found.end()
    word = _word.match(sql, start)
    first = word.group().upper() if word else ""
    if first in ("SELECT", "VALUES", "EXPLAIN"):
        return True
    if first == "WITH":
        return _changes.search(_quoted.sub(" ", sql)) is None
    if first == "PRAGMA":
        pragma = _pragma.match(sql, start)
        if pragma is None:
            return False
        name = pragma.group(1).lower()
        return name in _settings or (name in _queries and pragma.group(2) != "=")
    return False


@functools.lru_cache(maxsize=64)
def _plain(sql: str) -> bool:
    """Whether a statement is fit for a block that shares the lock: it reads, or begins or ends that."""
    return _reads(sql) or _frame.match(_quoted.sub(" ", sql)) is not None


class Cursor(_sqlite3.Cursor):
    """A cursor of such a connection. Use connection.cursor()."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._owner = connection
        self._rows: Optional[Deque[Any]] = None

    def execute(self, sql: str, parameters: Any = (), /) -> Cursor:
        self._rows = None
        owner = self._owner
        if not owner._only_reads(sql):
            with owner._statement(sql):
                super().execute(sql, parameters)
        elif not owner._reads_shared:
            super().execute(sql, parameters)
        else:
            with _translated(owner._shared.acquire):
                super().execute(sql, parameters)
                self._rows = deque(super().fetchall())
        return self

    def executemany(self, sql: str, parameters: Any, /) -> Cursor:
        self._rows = None
        with self._owner._statement():
            super().executemany(sql, parameters)
        return self

    def executescript(self, sql_script: str, /) -> Cursor:
        self._rows = None
        with self._owner._statement():
            super().executescript(sql_script)
        return self

    def fetchone(self) -> Any:
        if self._rows is None:
            return super().fetchone()
        return self._rows.popleft() if self._rows else None

    def fetchmany(self, size: Optional[int] = None) -> List[Any]:
        size = self.arraysize if size is None else size
        if self._rows is None:
            return super().fetchmany(size)
        rows = self._rows
        return [rows.popleft() for _ in range(len(rows) if size < 0 else min(size, len(rows)))]

    def fetchall(self) -> List[Any]:
        if self._rows is None:
            return super().fetchall()
        rows, self._rows = list(self._rows), deque()
        return rows

    def __iter__(self) -> Cursor:
        return self

    def __next__(self) -> Any:
        if self._rows is None:
            return super().__next__()
        if not self._rows:
            raise StopIteration
        return self._rows.popleft()

    def close(self) -> None:
        self._rows = None
        super().close()


class Connection(_sqlite3.Connection):
    """A connection that holds the lock while it is in a transaction. Use connect()."""

    _lock: Lock
    _shared: Lock
    _hold: Optional[Hold] = None
    _depth = 0
    _reads_shared = True

    def _attach(self, lock: Lock, shared: Lock, reads: str) -> None:
        self._lock = lock
        self._shared = shared
        self._reads_shared = reads == "shared"

    # --- the lock

    @property
    def hold(self) -> Optional[Hold]:
        """The hold of the present transaction, if there is one."""
        return self._hold

    @contextlib.contextmanager
    def locked(self, shared: bool = False) -> Iterator[Hold]:
        """Hold the lock for a block, for what is no statement of SQL. With shared, only read there."""
        if self._hold is None and shared:
            self._hold = _translated(self._shared.acquire)
        with self._statement("" if shared else None):
            assert self._hold is not None
            yield self._hold

    def _open(self) -> bool:
        """Whether a transaction has begun that is not over."""
        if getattr(self, "autocommit", None) is False:
            # There is always one then. It touches the file with its first statement
            # and counts from there on, see commit.
            return self._hold is not None
        return self.in_transaction

    def _only_reads(self, sql: str) -> bool:
        """Whether a statement reads, and is no part of a transaction."""
        return (
            self._hold is None
            and getattr(self, "autocommit", None) is not False
            and not self.in_transaction
            and _reads(sql)
        )

    @contextlib.contextmanager
    def _statement(self, sql: Optional[str] = None, over: bool = False) -> Iterator[None]:
        """Run something that may write. over: it ends the transaction, if it succeeds."""
        if self._hold is None:
            self._hold = _translated(self._lock.acquire)
        elif self._hold.mode == "shared" and not over and (sql is None or sql and not _plain(sql)):
            raise LockUpgrade("this writes, in a block that only shares the lock", hint="use `with db.locked():`")
        self._depth += 1
        try:
            yield
        except BaseException:
            self._depth -= 1
            with contextlib.suppress(Exception):
                self._settle(False)
            raise
        self._depth -= 1
        self._settle(over)

    def _settle(self, over: bool) -> None:
        if self._hold is None or self._depth:
            return
        try:
            running = self._open() and not over
        except _sqlite3.ProgrammingError:  # it was closed
            running = False
        if not running:
            hold, self._hold = self._hold, None
            hold.release()

    def _ending(self, action: Callable[[], T]) -> T:
        if self._hold is None:
            return action()
        with self._statement(over=True):
            return action()

    # --- the methods that touch the file

    def cursor(self, factory: Optional[Callable[[Connection], Any]] = None) -> Any:  # type: ignore[override]
        return super().cursor(cast(Any, factory or Cursor))

    def execute(self, sql: str, parameters: Any = (), /) -> Cursor:
        cursor = cast(Cursor, self.cursor())
        return cursor.execute(sql, parameters)

    def executemany(self, sql: str, parameters: Any, /) -> Cursor:
        cursor = cast(Cursor, self.cursor())
        return cursor.executemany(sql, parameters)

    def executescript(self, sql_script: str, /) -> Cursor:
        cursor = cast(Cursor, self.cursor())
        return cursor.executescript(sql_script)

    def commit(self) -> None:
        hold = self._hold
        if hold is not None and hold.lost:
            # Nothing may be written any more. To look costs next to nothing.
            self.rollback()
        self._ending(super().commit)

    def rollback(self) -> None:
        self._ending(super().rollback)

    def close(self) -> None:
        self._ending(super().close)

    def __exit__(self, *error: Any) -> Any:
        hold = self._hold
        if hold is not None and error[0] is None and hold.lost:
            self.rollback()
        action = super().__exit__
        return self._ending(lambda: action(*error))

    def iterdump(self, **options: Any) -> Generator[str, None, None]:
        action = super().iterdump
        with self.locked(shared=True):
            lines = list(action(**options))
        yield from lines


def _translated(acquire: Callable[[], Hold]) -> Hold:
    try:
        return acquire()
    except LockHeld as error:
        raise DatabaseLocked(
            f"database is locked: {error}",
            hint=error.hint,
            holder=error.holder,
            waited=error.waited,
            ahead=error.ahead,
            lock_file=error.lock_file,
        ) from None


def connect(
    database: Path,
    *args: Any,
    db: Optional[Path] = None,
    reads: str = "shared",
    lock_timeout: Optional[float] = None,
    lock_options: Optional[Dict[str, Any]] = None,
    **kwargs: Any,
) -> Connection:
    """sqlite3.connect, with the lock. Its own arguments are passed on.

    db: the path that is locked, if it is not the file that is opened.
    reads: "shared", or "unlocked" (see the module).
    lock_timeout: how long to wait for the lock, in seconds, as timeout of dblock.lock.
    lock_options: other options of dblock.lock, such as process and linger.
    """
    if reads not in ("shared", "unlocked"):
        raise UsageError(f"reads={reads!r} is neither 'shared' nor 'unlocked'")
    path = db if db is not None else _file(database, bool(kwargs.get("uri")))
    options: Dict[str, Any] = dict(lock_options or {})
    options.update(timeout=lock_timeout, thread_local=False)
    # Made first: a path that cannot be locked opens nothing.
    lock = Lock(path, **options)
    options["thread_local"] = True
    shared = Lock(path, shared=True, **options)
    kwargs.setdefault("factory", Connection)
    connection = _sqlite3.connect(database, *args, **kwargs)
    if not isinstance(connection, Connection):
        connection.close()
        raise UsageError("factory is no subclass of dblock.sqlite3.Connection")
    connection._attach(lock, shared, reads)
    return connection


def _file(database: Path, uri: bool) -> str:
    path = os.fspath(database)
    if isinstance(path, bytes):
        path = os.fsdecode(path)
    if uri and path.startswith("file:"):
        parts = urlsplit(path)
        if "mode=memory" in parts.query.split("&"):
            path = ":memory:"
        else:
            path = unquote(parts.path)
    if path in ("", ":memory:"):
        raise UsageError("a database in memory is this connection's own: there is nothing to lock")
    return path
