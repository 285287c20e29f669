"""A proxy that locks each method of any object that works on a database."""

from __future__ import annotations

import contextlib
import functools
import inspect
from fnmatch import fnmatchcase
from typing import Any, AsyncIterator, Callable, Dict, Iterable, Iterator, NamedTuple, Optional, Sequence, Union

from ._errors import LockUpgrade
from ._lock import Hold, Lock, Path, force, status

# What only reads, by the names that stores usually have for it.
SHARED = ("get*", "list*", "find*", "count*", "has*", "is_*", "__getitem__", "__contains__", "__len__")

Patterns = Union[str, Sequence[str]]


class StoreLockInfo(NamedTuple):
    """path: the lock file. current: the hold of this thread or task, if there is one."""

    path: str
    current: Optional[Hold]


class LockingStore:
    """A store whose methods run under its database's lock.

    store: any object. db: its database.
    shared, exclusive, unlocked: names of methods, or patterns of them such as "get*".
    What is in none of them is exclusive; what is in several is what comes first of
    unlocked, exclusive, shared. Attributes that are not methods are passed through.

    transaction: methods that are one hold: what is called inside, on this object and
    by the same thread or task, does not lock again. If such a method returns a context
    manager (`with store.transaction():`), the hold lasts until the end of its block.

    A coroutine method is awaited under the lock, without blocking the event loop. A
    generator is run to its end under one hold. What a method returns otherwise is
    used after the lock was released: a cursor, or rows that are loaded when they are
    touched, are not protected by it.

    Other options are those of dblock.lock.
    """

    def __init__(
        self,
        store: Any,
        db: Path,
        *,
        shared: Patterns = SHARED,
        exclusive: Patterns = (),
        unlocked: Patterns = (),
        transaction: Patterns = ("transaction",),
        **options: Any,
    ) -> None:
        self._store = store
        self._patterns = {
            "unlocked": _patterns(unlocked),
            "transaction": _patterns(transaction),
            "exclusive": _patterns(exclusive),
            "shared": _patterns(shared),
        }
        self._exclusive = Lock(db, shared=False, **options)
        self._shared = Lock(db, shared=True, **options)
        self._methods: Dict[str, Callable[..., Any]] = {}

    # --- the words of the protocol

    def is_locked(self) -> bool:
        """Whether the database is locked, by whomever."""
        return bool(self._status()["locked"])

    def force_unlock(self) -> bool:
        """Remove the lock, whoever has it; False if there was none. Use with caution."""
        lock = self._exclusive
        return force(lock.db, lock_file=lock._lock_file, yes=True, binary=lock.binary)

    def get_lock_info(self) -> StoreLockInfo:
        """The lock file, and the hold of this thread or task."""
        current = self._exclusive.hold or self._shared.hold
        path = current.lock_file if current is not None else str(self._status()["lock_file"])
        return StoreLockInfo(path, current)

    def get_inner_store(self) -> Any:
        """The store itself. What is done with it is not locked."""
        return self._store

    def _status(self) -> Dict[str, Any]:
        lock = self._exclusive
        return status(lock.db, lock_file=lock._lock_file, binary=lock.binary)

    # --- the proxy

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        known = self._methods.get(name)
        if known is not None:
            return known
        value = getattr(self._store, name)
        if not callable(value):
            return value
        kind = self._kind(name)
        if kind == "unlocked":
            return value
        method = self._wrap(value, kind)
        self._methods[name] = method
        return method

    def __dir__(self) -> Iterable[str]:
        return {*super().__dir__(), *dir(self._store)}

    def __repr__(self) -> str:
        return f"<LockingStore {self._store!r}>"

    def __getitem__(self, key: Any) -> Any:
        return self._item("__getitem__", key)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._item("__setitem__", key, value)

    def __delitem__(self, key: Any) -> None:
        self._item("__delitem__", key)

    def __contains__(self, key: Any) -> bool:
        return bool(self._item("__contains__", key))

    def __len__(self) -> int:
        return int(self._item("__len__"))

    def __bool__(self) -> bool:
        return True

    def _item(self, name: str, *args: Any) -> Any:
        method = getattr(self._store, name, None)
        if method is None:
            raise TypeError(f"{type(self._store).__name__!r} object has no {name}")
        kind = self._kind(name)
        return method(*args) if kind == "unlocked" else self._wrap(method, kind)(*args)

    def _kind(self, name: str) -> str:
        for kind, patterns in self._patterns.items():
            if any(fnmatchcase(name, pattern) for pattern in patterns):
                return kind
        return "exclusive"

    def _lock_for(self, kind: str) -> Optional[Lock]:
        """The lock to take for a call, or nothing inside one that has it."""
        if self._exclusive.is_locked:
            return None
        if kind == "shared":
            return None if self._shared.is_locked else self._shared
        if self._shared.is_locked:
            raise LockUpgrade(
                "a method that writes was called inside one that shares the lock; it could only wait for itself",
                hint="name the outer method in exclusive= or transaction=",
            )
        return self._exclusive

    def _wrap(self, method: Callable[..., Any], kind: str) -> Callable[..., Any]:
        if inspect.iscoroutinefunction(method):

            @functools.wraps(method)
            async def coroutine(*args: Any, **kwargs: Any) -> Any:
                lock = self._lock_for(kind)
                if lock is None:
                    return await method(*args, **kwargs)
                async with lock:
                    return await method(*args, **kwargs)

            return coroutine

        if inspect.isasyncgenfunction(method):

            @functools.wraps(method)
            async def asyncgenerator(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
                lock = self._lock_for(kind)
                if lock is None:
                    async for item in method(*args, **kwargs):
                        yield item
                    return
                async with lock:
                    async for item in method(*args, **kwargs):
                        yield item

            return asyncgenerator

        if inspect.isasyncgenfunction(inspect.unwrap(method)):
            # An async context manager. Nothing of it runs before its block is entered.
            @functools.wraps(method)
            @contextlib.asynccontextmanager
            async def block(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
                lock = self._lock_for(kind)
                if lock is None:
                    async with method(*args, **kwargs) as value:
                        yield value
                    return
                async with lock:
                    async with method(*args, **kwargs) as value:
                        yield value

            return block

        if inspect.isgeneratorfunction(method):

            @functools.wraps(method)
            def generator(*args: Any, **kwargs: Any) -> Iterator[Any]:
                lock = self._lock_for(kind)
                if lock is None:
                    return (yield from method(*args, **kwargs))
                with lock:
                    return (yield from method(*args, **kwargs))

            return generator

        @functools.wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            lock = self._lock_for(kind)
            if lock is None:
                return method(*args, **kwargs)
            with lock:
                result = method(*args, **kwargs)
                if kind == "transaction" and hasattr(result, "__enter__") and hasattr(result, "__exit__"):
                    return _Transaction(result, lock)
                return result

        return call


class _Transaction:
    """The context manager of a transaction, which keeps the lock until it ends."""

    def __init__(self, inner: Any, lock: Lock) -> None:
        self._inner = inner
        # Once more than the call that is about to return: the lock is not released
        # between the call and the block.
        self._hold: Optional[Hold] = lock.acquire()

    def __enter__(self) -> Any:
        try:
            return self._inner.__enter__()
        except BaseException:
            self._release()
            raise

    def __exit__(self, *error: Any) -> Any:
        try:
            return self._inner.__exit__(*error)
        finally:
            self._release()

    def _release(self) -> None:
        hold, self._hold = self._hold, None
        if hold is not None:
            hold.release()

    def __del__(self) -> None:
        if self._hold is not None:
            self._release()


def _patterns(patterns: Patterns) -> Sequence[str]:
    return (patterns,) if isinstance(patterns, str) else tuple(patterns)
