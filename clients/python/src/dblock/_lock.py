"""Locks and holds."""

from __future__ import annotations

import functools
import inspect
import json
import math
import os
import sys
import threading
from time import monotonic as _monotonic
import weakref
from types import TracebackType
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, Tuple, Type, TypeVar, Union, cast

from ._errors import DblockError, LockLost, SessionEnded, UsageError, from_answer
from ._session import ENDED_LOST, Answer, Grant, Session, session_for

if TYPE_CHECKING:
    import asyncio

Path = Union[str, "os.PathLike[str]"]
F = TypeVar("F", bound=Callable[..., Any])

# The default of `timeout`, in seconds: what dblock itself waits.
TIMEOUT = 5.0


class Waiting:
    """Whom a lock is waited for: what on_waiting is called with.

    holder: as the lock file says, see LockHeld. ahead: how many others are in front
    of us. waited: seconds so far.
    """

    __slots__ = ("holder", "ahead", "waited", "lock_file")

    def __init__(self, event: Answer) -> None:
        self.holder: Dict[str, Any] = dict(event.get("holder") or {})
        self.ahead = int(event.get("ahead") or 0)
        self.waited = float(event.get("waited_ms") or 0) / 1000
        self.lock_file = str(event.get("lock_file") or "")


class Hold:
    """A lock that was acquired. As a context manager it is released at the end."""

    __slots__ = ("_linger", "_context", "_grants", "_session", "_answer", "_lost", "_pid", "__weakref__")

    def __init__(self, lock: _Base, context: _Context) -> None:
        self._linger = bool(lock.linger)
        # Weak: a lock that is dropped goes at once then, and its hold with it.
        self._context = weakref.ref(context)
        # The grant is in here while the hold lasts. A list, since it is moved from
        # one to another within C, see _session.
        self._grants: List[Grant] = []
        self._session: Optional[Session] = None
        self._answer: Answer = {}
        self._lost: Optional[Answer] = None
        self._pid = os.getpid()
        # A hold that is dropped is released. Not by __del__: that would run at the end
        # of each, and swallow an interruption that comes meanwhile.
        _alive[id(self)] = weakref.ref(self, functools.partial(_dropped, id(self), self._grants))

    def __repr__(self) -> str:
        if not self._answer:
            return "<dblock.Hold>"
        state = "held" if self._grants and self._mine() else "released"
        if self._lost is not None:
            state = "lost"
        return f"<dblock.Hold {self.lock_file} {self.mode} token={self.token} {state}>"

    def _mine(self) -> bool:
        return self._pid == os.getpid()

    @property
    def token(self) -> int:
        """The fencing number: larger with each hold of this lock."""
        return int(self._answer["token"])

    @property
    def mode(self) -> str:
        """"exclusive" or "shared"."""
        return str(self._answer["mode"])

    @property
    def db(self) -> str:
        """The database's real path."""
        return str(self._answer["db"])

    @property
    def lock_file(self) -> str:
        """The path of the lock file."""
        return str(self._answer["lock_file"])

    @property
    def pid(self) -> int:
        """The process that the lock file names: the session's."""
        return int(self._answer["pid"])

    @property
    def host(self) -> str:
        """This machine, as the lock file names it."""
        return str(self._answer["host"])

    @property
    def process(self) -> str:
        """The label that others see."""
        return str(self._answer["process"])

    @property
    def timestamp(self) -> float:
        """When the lock was acquired, in seconds since the epoch, as time.time() counts."""
        return float(self._answer["timestamp"]) / 1000

    @property
    def waited(self) -> float:
        """How long the lock was waited for, in seconds."""
        return float(self._answer.get("waited_ms") or 0) / 1000

    @property
    def nested(self) -> bool:
        """Whether this leans on the hold of a dblock that runs this program."""
        return bool(self._answer.get("nested"))

    @property
    def env(self) -> Dict[str, str]:
        """The environment for a child process that works under this hold.

        All of os.environ, and what tells a dblock in the child that the lock is held
        for it: `subprocess.run(command, env=hold.env)`.
        """
        env = dict(os.environ)
        env.update(self._answer.get("env") or {})
        return env

    @property
    def lost(self) -> bool:
        """Whether the lock is known to be lost.

        Costs a few microseconds: what the session has said is looked at, it is not
        asked. See check.
        """
        if not self._mine():
            return True
        if self._lost is None and self._grants:
            grant = self._grants[0]
            if grant.lost is None:
                grant.session.look()
            self._lost = grant.lost
        return self._lost is not None

    @property
    def overdue(self) -> bool:
        """Whether the hold has lasted for longer than its time_limit."""
        if not self._grants or not self._mine():
            return False
        grant = self._grants[0]
        if not grant.overdue:
            grant.session.look()
        return grant.overdue

    def check(self) -> None:
        """Look at once whether the lock is still held.

        Raises LockLost if it is not, was released, or belongs to the process that
        this one was forked from.
        """
        session, grant = self._checkable()
        self._checked(grant, session.call(_check(grant)))

    async def check_async(self) -> None:
        """The same for a coroutine."""
        session, grant = self._checkable()
        self._checked(grant, await session.call_async(_check(grant)))

    def _checkable(self) -> Tuple[Session, Grant]:
        if not self._mine():
            raise LockLost("the lock is held by the process that this one was forked from")
        if self.lost:
            raise self._loss()
        if not self._grants:
            raise LockLost("the lock was released")
        return self._grants[0].session, self._grants[0]

    def _checked(self, grant: Grant, answer: Answer) -> None:
        if answer["ok"]:
            return
        error = answer["error"]
        if error["code"] in ("lost", "no-hold", "ended"):
            self._lost = grant.lost = grant.lost or error
            raise self._loss()
        raise from_answer(error)

    def _loss(self) -> LockLost:
        error = self._lost or ENDED_LOST
        return LockLost(str(error.get("message", "the lock is lost")), hint=str(error.get("hint") or ""))

    def release(self, force: bool = False) -> None:
        """Release the lock, as Lock.release does. Again: does nothing.

        Raises LockLost if it had been lost.
        """
        _release(self._context(), self, force)

    async def release_async(self, force: bool = False) -> None:
        """The same for a coroutine."""
        await _release_async(self._context(), self, force)

    def __enter__(self) -> Hold:
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        _end(self._context(), self, error)

    async def __aenter__(self) -> Hold:
        return self

    async def __aexit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        await _end_async(self._context(), self, error)

    # --- the end of a hold, called once, with the count at zero

    def _settle(self) -> Optional[Grant]:
        """What is to be released for real, if anything."""
        if not self._mine():
            del self._grants[:]
            return None
        if not self._grants:
            return None
        grant = self._grants[0]
        if self._linger:
            grant.on_lost = None
            if grant.session.linger(self._grants):
                return None
        return grant

    def _finish(self) -> None:
        grant = self._settle()
        if grant is not None:
            self._lost = grant.session.release(self._grants)
            if self._lost is not None:
                raise self._loss()

    async def _finish_async(self) -> None:
        grant = self._settle()
        if grant is not None:
            self._lost = await grant.session.release_async(self._grants)
            if self._lost is not None:
                raise self._loss()

    def _discard(self) -> None:
        if self._grants:
            self._grants[0].session.discard(self._grants)


# The holds that live, by their id. A reference that has gone itself calls nobody.
_alive: Dict[int, weakref.ref[Hold]] = {}


def _dropped(key: int, grants: List[Grant], reference: weakref.ref[Hold]) -> None:
    if _alive.get(key) is reference:
        del _alive[key]
    if grants:
        grants[0].session.discard(grants)


def _check(grant: Grant) -> bytes:
    return b'"op":"check","hold":%d}\n' % grant.number


def _over(context: Optional[_Context], hold: Optional[Hold], force: bool) -> Optional[Hold]:
    """Count one less, and return the hold that is over with that.

    context: nothing where its lock was dropped, and only the hold is left.
    """
    if context is None:
        return hold
    held = context.hold
    if held is None or (hold is not None and hold is not held):
        return None
    if context.count > 1 and not force and held._mine():
        context.count -= 1
        return None
    return held


def _release(context: Optional[_Context], hold: Optional[Hold], force: bool) -> None:
    over: Optional[Hold] = None
    try:
        over = _over(context, hold, force)
        if over is not None:
            if context is not None:
                context.hold, context.count = None, 0
            over._finish()
            _alive.pop(id(over), None)
    except BaseException:
        _interrupted(context, over)
        raise


async def _release_async(context: Optional[_Context], hold: Optional[Hold], force: bool) -> None:
    over: Optional[Hold] = None
    try:
        over = _over(context, hold, force)
        if over is not None:
            if context is not None:
                context.hold, context.count = None, 0
            await over._finish_async()
            _alive.pop(id(over), None)
    except BaseException:
        _interrupted(context, over)
        raise


def _interrupted(context: Optional[_Context], over: Optional[Hold]) -> None:
    if over is not None:
        if context is not None and context.hold is over:
            context.hold, context.count = None, 0
        over._discard()


def _end(context: Optional[_Context], hold: Hold, error: Optional[BaseException]) -> None:
    """Release at the end of a with block.

    An exception that is on its way there goes on, even if the lock was lost as
    well: it may be the one for which the program is prepared.
    """
    try:
        _release(context, hold, False)
    except LockLost:
        if error is None:
            raise


async def _end_async(context: Optional[_Context], hold: Hold, error: Optional[BaseException]) -> None:
    try:
        await _release_async(context, hold, False)
    except LockLost:
        if error is None:
            raise


class _Context:
    """How one thread, or one task, stands to a lock."""

    __slots__ = ("hold", "count", "__weakref__")

    def __init__(self) -> None:
        self.hold: Optional[Hold] = None
        self.count = 0


class _Local(threading.local):
    def __init__(self) -> None:
        self.context = _Context()


class _Base:
    """What locks for threads and for coroutines have in common."""

    def __init__(
        self,
        db: Optional[Path] = None,
        *,
        shared: bool = False,
        timeout: Optional[float] = None,
        blocking: bool = True,
        process: Optional[str] = None,
        info: Optional[str] = None,
        priority: Optional[str] = None,
        time_limit: Optional[float] = None,
        on_time_limit: Optional[str] = None,
        linger: float = 0.0,
        lock_file: Optional[Path] = None,
        stale_timeout: Optional[float] = None,
        stale: Optional[str] = None,
        on_lost: Optional[Callable[[Hold], Any]] = None,
        on_waiting: Optional[Callable[[Waiting], Any]] = None,
        thread_local: bool = True,
        binary: Optional[str] = None,
    ) -> None:
        """db: the database, a file or a directory; it need not exist. Without it
        DBLOCK_DB counts. A relative path is taken from the directory of now.

        shared: with others that only read.

        timeout: how long to wait for the lock, in seconds. 0: do not wait; negative:
        for ever. By default 5. blocking=False is the same as timeout=0.

        process: the label that others see while they wait; by default DBLOCK_PROCESS or
        the name of the program. info: a word to them, at most 160 bytes.

        priority: "low", "normal" or "high", who goes first among those who wait.

        time_limit: how long a hold may last, in seconds. Then the session does what
        on_time_limit says: "term", which is the default, ends this program and what it
        has started, and kills them after 10 s; "kill"; "warn" only notes it, see
        Hold.overdue.

        linger: how long a hold may be kept after the work under it was done, in
        seconds since it was granted, for the next use of the same lock in this
        program. That one costs nothing then. If somebody else waits, the lock is
        handed over at the end of the present use. 0.005 is a good value for many short
        operations in a row. That the lock was lost during an earlier use is not told
        then, only that of the last.

        lock_file: the lock file, where it is not beside the database.
        stale_timeout, in seconds, and stale, "dead" or "age": when the lock of a
        program that knows the lock file only counts as abandoned; see dblock(1).

        on_lost: called with the hold once the lock is lost, in a thread of this
        package; for a hold of a coroutine, in its event loop.
        on_waiting: called with a Waiting where the lock is waited for, after 200 ms and
        whenever the holder changes.

        thread_local: each thread, or task, has a hold of its own: they exclude each
        other. With False they share one, and each further acquire counts.

        binary: the program dblock; otherwise DBLOCK_BINARY, or the one on PATH.
        """
        self.timeout: float = TIMEOUT if timeout is None else timeout
        self.blocking = blocking
        self.linger = linger
        self.binary = binary
        self.on_lost = on_lost
        self.on_waiting = on_waiting
        self._thread_local = thread_local
        self._waits: Dict[float, bytes] = {}

        if linger < 0 or not math.isfinite(linger):
            raise UsageError(f"linger={linger} is no number of seconds")
        path = db if db is not None else os.environ.get("DBLOCK_DB") or None
        if path is None and lock_file is None:
            # Inside a hold of dblock's it is the database of that one.
            path = os.environ.get("DBLOCK_HOLD_DB") or None
            if path is None:
                raise UsageError("which database? Give its path, or set DBLOCK_DB")
        self.db: Optional[str] = None if path is None else _absolute(path)
        self._lock_file: Optional[str] = None if lock_file is None else _absolute(lock_file)
        request: Dict[str, Any] = {"op": "acquire", "mode": "shared" if shared else "exclusive"}
        optional: List[Tuple[str, Any]] = [
            ("db", self.db),
            ("lock_file", self._lock_file),
            ("process", process or _process()),
            ("info", info),
            ("priority", priority),
            ("time_limit", time_limit),
            ("on_time_limit", on_time_limit),
            ("stale_timeout", None if stale_timeout is None else f"{stale_timeout:.3f}s"),
            ("stale", stale),
            ("wanted", True if linger else None),
            ("events", True if on_waiting is not None else None),
        ]
        request.update((name, value) for name, value in optional if value is not None)
        self._head = json.dumps(request).encode("ascii")[1:-1] + b',"wait":'
        self._key = (self.db, self._lock_file, self._head)
        if thread_local:
            self._local = _Local()
            self._tasks: weakref.WeakKeyDictionary[asyncio.Task[Any], _Context] = weakref.WeakKeyDictionary()
        else:
            self._one = _Context()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.db or self._lock_file} {'locked' if self.is_locked else 'unlocked'}>"

    @property
    def is_locked(self) -> bool:
        """Whether this object holds the lock, here: in this thread, or task."""
        context = self._context()
        return context.hold is not None and context.hold._mine()

    @property
    def lock_counter(self) -> int:
        """How often it was acquired and not released."""
        return self._context().count if self.is_locked else 0

    @property
    def hold(self) -> Optional[Hold]:
        """The present hold, if there is one."""
        return self._context().hold if self.is_locked else None

    def _context(self) -> _Context:
        if not self._thread_local:
            return self._one
        task = _task()
        if task is None:
            return self._local.context
        context = self._tasks.get(task)
        if context is None:
            context = self._tasks[task] = _Context()
        return context

    def _wait(self, timeout: Optional[float], blocking: Optional[bool]) -> bytes:
        """What follows `"wait":` in the request."""
        seconds = self.timeout if timeout is None else timeout
        if not (self.blocking if blocking is None else blocking):
            seconds = 0.0
        known = self._waits.get(seconds)
        if known is not None:
            return known
        if math.isnan(seconds):
            raise UsageError("timeout is not a number")
        text = b'"forever"}\n' if seconds < 0 or math.isinf(seconds) else b"%.6f}\n" % seconds
        if len(self._waits) < 16:
            self._waits[seconds] = text
        return text

    def _reenter(self, context: _Context) -> Optional[Hold]:
        hold = context.hold
        if hold is None:
            return None
        if hold._mine():
            before = context.count
            try:
                context.count = before + 1
                return hold
            except BaseException:
                context.count = before
                raise
        # It is the parent's, from before a fork.
        context.hold, context.count = None, 0
        return None

    def _prepare(self, hold: Hold, session: Session, wait: bytes) -> Optional[bytes]:
        """The request that is to be sent, or nothing: a hold that has lingered is taken."""
        if self.linger:
            shelf = session.shelf(self._key)
            if shelf:
                try:
                    hold._grants.extend(map(list.pop, (shelf,)))
                except IndexError:
                    pass
                if hold._grants:
                    grant = hold._grants[0]
                    if grant.lost is None and not grant.wanted and self._begin(hold, grant):
                        return None
                    session.discard(hold._grants)
        session.clear_others(self._key)
        return self._head + wait

    def _begin(self, hold: Hold, grant: Grant) -> bool:
        hold._session = grant.session
        hold._answer = grant.answer
        if self.linger:
            if not grant.until:
                grant.until = grant.since + self.linger
                grant.shelf = grant.session.shelf(self._key)
                if self.on_lost is None:
                    grant.session.watch(grant)
            elif _monotonic() >= grant.until:
                return False
        if self.on_lost is not None:
            grant.on_lost = self._teller(hold)
            grant.session.watch(grant)
        return True

    def _teller(self, hold: Hold) -> Callable[[], None]:
        on_lost = self.on_lost
        assert on_lost is not None
        # The session must not keep a hold alive that the program has dropped.
        reference = weakref.ref(hold)
        loop = _loop()

        def tell() -> None:
            lost = reference()
            if lost is None or on_lost is None:
                return
            if loop is None:
                on_lost(lost)
                return
            try:
                loop.call_soon_threadsafe(on_lost, lost)
            except RuntimeError:  # the loop was closed
                pass

        return tell

    def _granted(self, hold: Hold, answer: Answer) -> bool:
        """Whether it was; False if the session has died and the next one is to be tried."""
        if answer["ok"]:
            return self._begin(hold, hold._grants[0])
        error = answer["error"]
        if error["code"] == "ended":
            return False
        raise from_answer(error, self._lock_file or "")

    def _on_event(self) -> Optional[Callable[[Answer], None]]:
        on_waiting = self.on_waiting
        if on_waiting is None:
            return None
        tell = on_waiting

        def on_event(event: Answer) -> None:
            tell(Waiting(event))

        return on_event

    def _acquire(self, timeout: Optional[float], blocking: Optional[bool]) -> Hold:
        context = self._context()
        held = self._reenter(context)
        if held is not None:
            return held
        wait = self._wait(timeout, blocking)
        hold = Hold(self, context)
        try:
            for _ in range(3):
                session = session_for(self.binary)
                request = self._prepare(hold, session, wait)
                if request is None or self._granted(hold, session.call(request, hold._grants, self._on_event())):
                    return self._enter(context, hold)
            raise SessionEnded("the dblock session has ended three times in a row")
        except BaseException:
            if context.hold is hold:
                context.hold, context.count = None, 0
            hold._discard()
            raise

    async def _acquire_async(self, timeout: Optional[float], blocking: Optional[bool]) -> Hold:
        context = self._context()
        held = self._reenter(context)
        if held is not None:
            return held
        wait = self._wait(timeout, blocking)
        hold = Hold(self, context)
        try:
            for _ in range(3):
                session = session_for(self.binary)
                request = self._prepare(hold, session, wait)
                if request is None or self._granted(
                    hold, await session.call_async(request, hold._grants, self._on_event())
                ):
                    return self._enter(context, hold)
            raise SessionEnded("the dblock session has ended three times in a row")
        except BaseException:
            if context.hold is hold:
                context.hold, context.count = None, 0
            hold._discard()
            raise

    def _enter(self, context: _Context, hold: Hold) -> Hold:
        if context.hold is not None:
            # Only with thread_local=False: another one was quicker.
            raise UsageError("two acquire one lock object at the same moment, which is not thread_local")
        context.hold = hold
        context.count = 1
        return hold

    async def __aenter__(self) -> Hold:
        return await self._acquire_async(None, None)

    async def __aexit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        context = self._context()
        if context.hold is not None:
            await _end_async(context, context.hold, error)

    def __call__(self, function: F) -> F:
        """As a decorator: each call of the function is made under the lock."""
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def locked_async(*args: Any, **kwargs: Any) -> Any:
                async with self:
                    return await function(*args, **kwargs)

            return cast(F, locked_async)

        if isinstance(self, AsyncLock):
            raise UsageError("alock is for coroutines; use lock for this function")
        lock = cast(Lock, self)

        @functools.wraps(function)
        def locked(*args: Any, **kwargs: Any) -> Any:
            with lock:
                return function(*args, **kwargs)

        return cast(F, locked)


class Lock(_Base):
    """A database's lock: `with lock(...) as hold:`, `async with`, or as a decorator."""

    def acquire(
        self,
        timeout: Optional[float] = None,
        poll_interval: Optional[float] = None,
        *,
        blocking: Optional[bool] = None,
    ) -> Hold:
        """Acquire the lock, or count one more if this thread holds it by this object.

        timeout, blocking: as for the lock itself, which they default to.
        poll_interval: ignored, nothing is polled.

        Returns the hold, which may be used as a context manager. Raises LockHeld when
        it was not had in time, and other DblockErrors.
        """
        return self._acquire(timeout, blocking)

    def release(self, force: bool = False) -> None:
        """Count one less, and release the lock at zero; with force at once.

        Does nothing where the lock is not held. Raises LockLost if it had been lost.
        """
        _release(self._context(), None, force)

    def __enter__(self) -> Hold:
        return self._acquire(None, None)

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        context = self._context()
        if context.hold is not None:
            _end(context, context.hold, error)


class AsyncLock(_Base):
    """The same for coroutines only, with methods to await."""

    async def acquire(
        self,
        timeout: Optional[float] = None,
        poll_interval: Optional[float] = None,
        *,
        blocking: Optional[bool] = None,
    ) -> Hold:
        """As Lock.acquire; other tasks run while it waits."""
        return await self._acquire_async(timeout, blocking)

    async def release(self, force: bool = False) -> None:
        """As Lock.release."""
        await _release_async(self._context(), None, force)


lock = Lock
alock = AsyncLock


def status(
    db: Optional[Path] = None, *, lock_file: Optional[Path] = None, binary: Optional[str] = None
) -> Dict[str, Any]:
    """Who holds the lock and who waits: the object of `dblock status --json`.

    Takes no lock and changes nothing.
    """
    answer = _request(binary, {"op": "status", **_target(db, lock_file)})
    return dict(answer["status"])


def force(
    db: Optional[Path] = None,
    *,
    lock_file: Optional[Path] = None,
    yes: bool = False,
    if_stale: bool = False,
    lock_id: Optional[str] = None,
    binary: Optional[str] = None,
) -> bool:
    """Remove a lock that is stuck, as `dblock force` does; False if there was none.

    A holder that is alive is spared, and LockHeld raised, unless yes is given: then it
    is ended, with all that works under the lock. if_stale: only what is abandoned.
    lock_id: only this very lock, by the `id` that status shows.
    """
    request: Dict[str, Any] = {"op": "force", **_target(db, lock_file)}
    if yes:
        request["yes"] = True
    if if_stale:
        request["if_stale"] = True
    if lock_id is not None:
        request["lock_id"] = lock_id
    return bool(_request(binary, request)["removed"])


def _target(db: Optional[Path], lock_file: Optional[Path]) -> Dict[str, str]:
    base = _Base(db, lock_file=lock_file)
    target = {"db": base.db, "lock_file": base._lock_file}
    return {name: path for name, path in target.items() if path is not None}


def _request(binary: Optional[str], request: Dict[str, Any]) -> Answer:
    tail = json.dumps(request).encode("ascii")[1:] + b"\n"
    for _ in range(3):
        answer = session_for(binary).call(tail)
        if answer["ok"] or answer["error"]["code"] != "ended":
            break
    if not answer["ok"]:
        raise from_answer(answer["error"])
    return answer


#: How names of locks on servers begin, which are no paths.
_URLS = ("postgres://", "postgresql://", "etcd://", "etcds://")


def _absolute(path: Path) -> str:
    """The path from the root. `..` is left to the kernel: behind a link it leads elsewhere."""
    text = os.fspath(path)
    if not text.startswith(_URLS):
        text = os.path.join(os.getcwd(), text)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise UsageError(f"the path {text!r} is not UTF-8", code="name") from None
    return text


def _process() -> Optional[str]:
    """The label of a program that gives none; nothing where DBLOCK_PROCESS says it."""
    if os.environ.get("DBLOCK_PROCESS"):
        return None
    argv: List[str] = getattr(sys, "argv", None) or [""]
    name = os.path.basename(argv[0])
    if name == "__main__.py":
        name = os.path.basename(os.path.dirname(os.path.abspath(argv[0])))
    if name.endswith(".py"):
        name = name[:-3]
    if not name or name.startswith("-"):
        return "python"
    return name.encode("utf-8", "replace").decode("utf-8")


def _task() -> Optional[asyncio.Task[Any]]:
    """The task that runs now, if any. asyncio is not loaded for that."""
    module = sys.modules.get("asyncio")
    if module is None:
        return None
    try:
        return cast("Optional[asyncio.Task[Any]]", module.current_task())
    except RuntimeError:
        return None


def _loop() -> Optional[asyncio.AbstractEventLoop]:
    module = sys.modules.get("asyncio")
    if module is None:
        return None
    try:
        return cast("asyncio.AbstractEventLoop", module.get_running_loop())
    except RuntimeError:
        return None
