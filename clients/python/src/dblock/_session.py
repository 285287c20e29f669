"""The co-process: one `dblock session` for the whole program, and the pipes to it.

Three things make this harder than "write a line, read a line":

* Threads. A call that waits for a lock must not keep another thread from
  releasing the one that it waits for. So the threads that wait elect one that
  reads for all of them. A program of one thread reads its answer itself, without a
  change of threads.

* Exceptions out of nowhere. A handler of a signal may raise between any two
  bytecodes of the main thread, KeyboardInterrupt is the usual one. A result that a
  function has returned and that was not stored yet is lost then, be it a line that
  was read, the number of bytes that were written, or a hold. Where that would
  matter the result is put in its place within C: `list.extend(map(function, ...))`
  has no bytecode between the call and the place. What follows can be done twice
  without harm, and is done again after an interruption.

  The end of a `finally` can be skipped in the same way. Where something must be put
  back it is done in a second one around it, which does nothing where the first has.

* Calls from within. A handler, or a __del__ that runs at any moment, may use locks
  while the same thread is in the midst of a call. It cannot wait for what it has
  interrupted, so it gets a session of its own.
"""

from __future__ import annotations

import atexit
import itertools
import json
import os
import select
import sys
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, List, Optional, Set, Tuple

from ._binary import find_binary
from ._errors import DblockError, DblockNotFound, SessionEnded, from_answer

if TYPE_CHECKING:
    import asyncio
    import subprocess
    from types import FrameType

Answer = Dict[str, Any]

# How long to wait for a program to say that it is a session, in seconds.
HELLO = 10.0

# How seldom a hold that lingers looks whether somebody wants it, in seconds. The
# session itself takes 2 ms to notice that.
LOOK = 0.0005

# How long the keeper stays out of the way of a thread that reads, in milliseconds.
BACK_OFF = 5

ENDED: Answer = {
    "ok": False,
    "error": {"code": "ended", "message": "the dblock session has ended", "hint": ""},
}
ENDED_LOST: Answer = {
    "code": "lost",
    "message": "the lock is lost: the dblock session that kept it has ended",
}

_size = (65536,)
_release = type(threading.Lock()).release
_ident = threading.get_ident
_scan: Callable[[str, int], Tuple[Any, int]] = getattr(json.JSONDecoder(), "scan_once")


class Grant:
    """A hold as the session knows it. With lingering it serves one Hold after another."""

    __slots__ = ("session", "number", "answer", "since", "until", "lost", "wanted", "overdue", "shelf", "on_lost", "told")

    def __init__(self, session: Session, answer: Answer) -> None:
        self.session = session
        self.number: int = answer["hold"]
        self.answer = answer
        self.since = time.monotonic()
        self.until = 0.0
        self.lost: Optional[Answer] = None
        self.wanted = False
        self.overdue = False
        # Where it is put while nobody works under it.
        self.shelf: List[Grant] = []
        self.on_lost: Optional[Callable[[], None]] = None
        self.told = False


class Call:
    """A request whose answer is awaited."""

    __slots__ = ("id", "entry", "answer", "gate", "events", "abandoned", "grants", "finish")

    def __init__(self, number: int, tail: bytes, grants: Optional[List[Grant]] = None) -> None:
        self.id = number
        # The line, followed by how much of it was written in each go.
        self.entry: List[Any] = [b'{"id":%d,%b' % (number, tail)]
        self.answer: Optional[Answer] = None
        # What a thread waits at that does not read itself: locked while it waits.
        self.gate: Optional[threading.Lock] = None
        self.events: List[Answer] = []
        self.abandoned = False
        # Where the hold goes that is granted; its owner sees it there even if the
        # call never returns.
        self.grants = grants
        # Called once there is something to see, for callers that cannot wait at a gate.
        self.finish: Optional[Callable[[], None]] = None


class Session:
    """A running `dblock session`. Use `session_for`."""

    _bell_in = _bell_out = -1

    def __init__(self, binary: Optional[str]) -> None:
        self.binary = find_binary(binary)
        self.owner = os.getpid()
        self.hello: Answer = {}
        self.dead = False
        self.process: Optional[subprocess.Popen[bytes]] = None
        self._ids = itertools.count(1)
        self._inside: Set[int] = set()

        self._writing = threading.Lock()
        self._queue: List[List[Any]] = []

        # Who reads, under the key 0: a tuple of its thread. setdefault makes one of
        # several the reader, and leaves a trace by which it is known even when an
        # exception comes before the next bytecode.
        self._reader: Dict[int, Tuple[int, ...]] = {}
        self._followers: Dict[int, Call] = {}
        self._chunks: List[bytes] = []
        self._looked = 0.0

        self._pending: Dict[int, Call] = {}
        self._grants: Dict[int, Grant] = {}
        self._shelves: Dict[Any, List[Grant]] = {}
        self._trash: List[Grant] = []

        self._keeper: Optional[threading.Thread] = None
        self._watched: Dict[int, Grant] = {}
        self._losses: List[Grant] = []
        self._listening = False
        self._alarm = 0.0
        self._start()

    # --- the process

    def _start(self) -> None:
        import subprocess

        process = subprocess.Popen(
            [self.binary, "session"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            close_fds=True,
            cwd="/",  # it would keep a mounted filesystem busy for as long as we live
        )
        assert process.stdin is not None and process.stdout is not None
        self.process = process
        # The numbers alone are used from here on: a file object refuses to be used
        # from two threads at once, or by a handler of a signal.
        self._stdin = (process.stdin.fileno(),)
        self._stdout = (process.stdout.fileno(),)
        self._poll = select.poll()
        self._poll.register(self._stdout[0], select.POLLIN)
        self.hello = self._greet()

    def _greet(self) -> Answer:
        end = time.monotonic() + HELLO
        while b"\n" not in b"".join(self._chunks):
            left = end - time.monotonic()
            if left <= 0 or not self._poll.poll(left * 1000):
                break
            self._chunks.extend(map(os.read, self._stdout, _size))
            if self._chunks[-1] == b"":
                break
        line, _, rest = b"".join(self._chunks).partition(b"\n")
        try:
            hello = json.loads(line)
            fits = hello["event"] == "hello" and 1 in hello.get("protocols", [hello.get("protocol")])
        except (ValueError, KeyError, TypeError):
            hello, fits = {}, False
        if not fits:
            self.close()
            if hello:
                said = f"speaks protocol {hello.get('protocol')}, and this package only 1"
            else:
                said = "does not know `dblock session`"
            raise DblockNotFound(
                f"{self.binary} {said}; install a version of dblock that fits",
                hint="install a newer dblock, or name one in DBLOCK_BINARY",
            )
        self._chunks[:] = [rest] if rest else []
        return dict(hello)

    def close(self) -> None:
        """End the session; whatever it holds is released.

        Returns when that is done, or after 2 seconds.
        """
        if self.owner != os.getpid() or self.process is None:
            return
        process, self.process = self.process, None
        assert process.stdin is not None and process.stdout is not None
        writing = self._writing.acquire(timeout=1)
        try:
            self.dead = True
            process.stdin.close()
        except OSError:
            pass
        finally:
            if writing:
                self._writing.release()
        try:
            process.wait(2)
        except Exception:  # it hangs: better no lock than a program that does not end
            process.kill()
            process.wait()
        self._end()
        if self._keeper is not None and self._keeper is not threading.current_thread():
            self._keeper.join(1)
        # Only now: a thread that reads sees the end of the file, and not a file
        # that somebody else has opened under the same number.
        if not self._reader:
            process.stdout.close()

    def __del__(self) -> None:
        for number in (self._bell_in, self._bell_out):
            if number >= 0:
                os.close(number)

    def _forked(self) -> None:
        """Called in a child that was forked: the session is the parent's."""
        self.dead = True
        process, self.process = self.process, None
        if process is None:
            return
        # Our copies of the pipes would hide their end from the session.
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                try:
                    stream.close()
                except OSError:
                    pass
        for number in (self._bell_in, self._bell_out):
            if number >= 0:
                os.close(number)
        self._bell_in = self._bell_out = -1
        # It is not our child, there is nothing to wait for.
        process.returncode = 0

    def _end(self) -> None:
        """The session has gone: all holds are lost, nothing will be answered any more."""
        self.dead = True
        for grant in list(self._grants.values()):
            self._lose(grant, ENDED_LOST)
        for call in list(self._pending.values()):
            if call.answer is None:
                call.answer = ENDED
            self._notify(call)
        self._ring()

    # --- writing

    def _send(self, entry: List[Any]) -> None:
        """Write a line, after all that was put off before."""
        self._queue.append(entry)
        while self._queue and not self.dead:
            with self._writing:
                self._flush()

    def _flush(self) -> None:
        queue = self._queue
        while queue and not self.dead:
            entry = queue[0]
            line = entry[0]
            if len(entry) > 1:
                done = sum(entry[1:])
                if done == len(line):
                    del queue[0]
                    continue
                line = line[done:]
            try:
                entry.extend(map(os.write, self._stdin, (line,)))
            except OSError:
                self._end()

    def _sweep(self) -> None:
        """Tell the session to release what nobody has any more.

        Nobody waits for these answers: their id is 0.
        """
        trash = self._trash
        while trash:
            grant = trash[0]
            self._grants.pop(grant.number, None)
            self._watched.pop(grant.number, None)
            self._queue.append([b'{"id":0,"op":"release","hold":%d}\n' % grant.number])
            try:
                trash.remove(grant)
            except ValueError:
                pass
        # Whoever writes just now looks at the queue once more when he is done; that
        # may be this very thread, further down the stack.
        busy = False
        while self._queue and not self.dead and not busy:
            ours: List[bool] = []
            # Empty once the lock was released, however often that is tried.
            back = iter((self._writing,))
            try:
                try:
                    ours.extend(map(self._writing.acquire, (False,)))
                    if ours[0]:
                        self._flush()
                    else:
                        busy = True
                finally:
                    _unlock(ours, back)
            finally:
                _unlock(ours, back)

    # --- reading

    def _read(self) -> None:
        """Read what comes next, and deliver it. Only for the reader."""
        chunks = self._chunks
        if chunks and self._deliver():
            return
        chunks.extend(map(os.read, self._stdout, _size))
        self._deliver()

    def _deliver(self) -> bool:
        """Deliver the complete lines that were read, and report whether there were any."""
        chunks = self._chunks
        if chunks[-1] == b"":
            self._end()
            return True
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        end = data.rfind(b"\n")
        if end < 0:
            chunks[:] = [data]
            return False
        for line in data[:end].split(b"\n"):
            try:
                message = _scan(str(line, "utf-8"), 0)[0]
            except (ValueError, StopIteration):
                self._end()  # not a session any more, whatever it is
                return True
            self._dispatch(message)
        chunks[:] = [data[end + 1 :]] if end + 1 < len(data) else []
        return True

    def _dispatch(self, message: Answer) -> None:
        """Deliver one line. It may come here twice, after an interruption."""
        event = message.get("event")
        if event is not None:
            self._happen(event, message)
            return
        call = self._pending.get(message.get("id") or 0)
        if call is None:
            return
        if call.grants is not None and message.get("ok"):
            grant = self._grants.get(message["hold"])
            if grant is None:
                grant = self._grants[message["hold"]] = Grant(self, message)
            if not call.grants:
                call.grants.append(grant)
        call.answer = message
        if call.abandoned:
            self._trash.extend(call.grants or ())
            self._pending.pop(call.id, None)
            self._sweep()
        self._notify(call)

    def _happen(self, event: str, message: Answer) -> None:
        if event == "waiting":
            call = self._pending.get(message["id"])
            if call is not None:
                call.events.append(message)
                self._notify(call)
            return
        grant = self._grants.get(message.get("hold") or 0)
        if grant is None:
            return
        if event == "wanted":
            grant.wanted = True
        elif event == "overdue":
            grant.overdue = True
        elif event == "lost":
            self._lose(grant, message.get("error") or {"code": "lost", "message": "the lock is lost"})
        if grant in grant.shelf:
            self.clear(grant.shelf)

    def _lose(self, grant: Grant, error: Answer) -> None:
        if grant.lost is None:
            grant.lost = error
        if grant.on_lost is not None and not grant.told:
            self._losses.append(grant)
            self._ring()

    def _notify(self, call: Call) -> None:
        if call.gate is not None:
            _open(call.gate)
        if call.finish is not None:
            call.finish()

    def look(self) -> None:
        """Deliver what has come already, without waiting."""
        me = _ident()
        if self.dead or self.owner != os.getpid() or self.entered(me):
            return
        token = (me,)
        try:
            try:
                self._inside.add(me)
                if self._reader.setdefault(0, token) is token:
                    if self._chunks:
                        self._deliver()
                    while not self.dead and self._poll.poll(0):
                        self._read()
            finally:
                self._leave(token)
                self._inside.discard(me)
        finally:
            self._leave(token)
            self._inside.discard(me)

    def entered(self, me: int) -> bool:
        """Whether this thread is in the midst of a call, which we have interrupted."""
        if me not in self._inside:
            return False
        frame: Optional[FrameType] = sys._getframe()
        while frame is not None:
            if frame.f_code in _entrances and frame.f_locals.get("self") is self:
                return True
            frame = frame.f_back
        # It was, and an exception has kept it from saying that it left.
        self._inside.discard(me)
        reader = self._reader.get(0)
        if reader is not None and reader[0] == me:
            self._leave(reader)
        return False

    def _leave(self, token: Tuple[int, ...]) -> None:
        """Stop reading, and let another of those that wait do it."""
        if self._reader.get(0) is token:
            self._reader.pop(0, None)
        if self._followers:
            for call in list(self._followers.values()):
                if call.answer is None and call.gate is not None:
                    _open(call.gate)
                    break

    def _wait(self, call: Call, on_event: Optional[Callable[[Answer], None]] = None) -> Answer:
        """Wait for the answer: by reading it, or while another thread reads."""
        me = _ident()
        token = (me,)
        try:
            try:
                while call.answer is None:
                    if call.events and on_event is not None:
                        self._leave(token)
                        on_event(call.events.pop(0))
                        continue
                    reader = self._reader.setdefault(0, token)
                    if reader is token:
                        while call.answer is None and not (call.events and on_event):
                            self._read()
                    elif reader[0] == me:
                        # Ourselves, in a wait that was interrupted where no finally counts:
                        # Python 3.13 skips it for an exception at the end of a loop.
                        self._leave(reader)
                    elif call.gate is None:
                        call.gate = threading.Lock()
                        call.gate.acquire()
                        # Look again: the reader may have left before it could see us.
                        self._followers[call.id] = call
                    else:
                        call.gate.acquire()
                return call.answer
            finally:
                self._followers.pop(call.id, None)
                self._leave(token)
        finally:
            self._followers.pop(call.id, None)
            self._leave(token)

    # --- requests

    def call(
        self,
        tail: bytes,
        grants: Optional[List[Grant]] = None,
        on_event: Optional[Callable[[Answer], None]] = None,
    ) -> Answer:
        """Send a request and wait for its answer.

        tail: the JSON object without its beginning `{"id":N,`, and a line feed.
        grants: empty; the hold goes there if one is granted.

        If anything is raised meanwhile, the request is cancelled and what was
        granted is released.
        """
        me = _ident()
        call = Call(next(self._ids), tail, grants)
        try:
            try:
                self._inside.add(me)
                self._pending[call.id] = call
                if self.dead:
                    return ENDED
                self._send(call.entry)
                return self._wait(call, on_event)
            except BaseException:
                if grants is not None:
                    self._abandon(call)
                raise
            finally:
                self._inside.discard(me)
                self._forget(call)
        finally:
            self._inside.discard(me)
            self._forget(call)

    def _forget(self, call: Call) -> None:
        if not call.abandoned or call.answer is not None:
            self._pending.pop(call.id, None)
        if self._trash or self._queue:
            self._sweep()

    def _abandon(self, call: Call) -> None:
        """Give up an acquire. Whatever it brings is released."""
        call.abandoned = True
        try:
            if call.answer is None and (call.entry in self._queue or len(call.entry) > 1):
                cancel = Call(next(self._ids), b'"op":"cancel","target":%d}\n' % call.id)
                self._pending[cancel.id] = cancel
                try:
                    self._send(cancel.entry)
                    self._wait(cancel)
                    # Its own answer is on the way: cancelled, or just granted.
                    self._wait(call)
                finally:
                    self._pending.pop(cancel.id, None)
            if call.answer is None:
                self._pending.pop(call.id, None)
        except BaseException:
            # Interrupted again: somebody has to read what becomes of it.
            self._attend()
            self._ring()
            raise
        finally:
            self._trash.extend(call.grants or ())

    async def call_async(
        self,
        tail: bytes,
        grants: Optional[List[Grant]] = None,
        on_event: Optional[Callable[[Answer], None]] = None,
    ) -> Answer:
        """The same for a coroutine. The event loop reads, no thread is needed."""
        import asyncio

        loop = asyncio.get_running_loop()
        arrived: asyncio.Future[None] = loop.create_future()
        me = _ident()
        call = Call(next(self._ids), tail, grants)

        def arrive() -> None:
            while call.events and on_event is not None:
                on_event(call.events.pop(0))
            if call.answer is not None and not arrived.done():
                arrived.set_result(None)

        def finish() -> None:
            try:
                loop.call_soon_threadsafe(arrive)
            except RuntimeError:  # the loop was closed
                pass

        call.finish = finish
        listening = False
        try:
            self._inside.add(me)
            try:
                self._pending[call.id] = call
                if self.dead:
                    return ENDED
                self._send(call.entry)
            finally:
                self._inside.discard(me)
            _listen(loop, self)
            listening = True
            await arrived
            assert call.answer is not None
            return call.answer
        except BaseException:
            if grants is not None:
                self._inside.add(me)
                try:
                    self._abandon(call)
                finally:
                    self._inside.discard(me)
            raise
        finally:
            if listening:
                _stop_listening(loop, self)
            self._forget(call)

    # --- lingering

    def shelf(self, key: Any) -> List[Grant]:
        """Where holds of this key are put while nobody works under them."""
        shelf = self._shelves.get(key)
        if shelf is None:
            if len(self._shelves) >= 256:
                # What is put on a shelf that nobody finds is released by the keeper.
                self._shelves.clear()
            shelf = self._shelves.setdefault(key, [])
        return shelf

    def clear(self, shelf: List[Grant]) -> None:
        """Release what lies there. All of it: one cannot be told from another within C."""
        try:
            while shelf:
                self._trash.extend(map(list.pop, (shelf,)))
        except IndexError:  # somebody was quicker, and works under it
            pass
        self._sweep()

    def clear_others(self, key: Tuple[Any, Any, Any]) -> None:
        """Release what this program keeps for later, and would now wait for itself."""
        for other, shelf in list(self._shelves.items()):
            if shelf and other[:2] == key[:2]:
                self.clear(shelf)

    def linger(self, grants: List[Grant]) -> bool:
        """Put a hold aside for the next one that wants the same; False if it is not to be kept."""
        grant = grants[0]
        now = time.monotonic()
        if now >= grant.until or grant.wanted or grant.lost is not None or grant.shelf:
            return False
        if now - self._looked > LOOK:
            self._looked = now
            self.look()
            if grant.wanted or grant.lost is not None:
                return False
        grant.shelf.extend(map(list.pop, (grants,)))
        # The word may have come after the look and before it was there to be found.
        if grant.wanted or grant.lost is not None:
            self.clear(grant.shelf)
        return True

    def watch(self, grant: Grant) -> None:
        """Have the keeper look after a hold: its time, and whether it was lost."""
        self._watched[grant.number] = grant
        self._attend()
        if not self._listening or (grant.until and not 0 < self._alarm <= grant.until):
            self._ring()
        if grant.lost is not None:
            self._lose(grant, grant.lost)

    def release(self, grants: List[Grant]) -> Optional[Answer]:
        """Release grants[0], and return why it had been lost, or nothing."""
        grant = grants[0]
        try:
            self._watched.pop(grant.number, None)
            if self.entered(_ident()):
                # We have interrupted a call of our own. It passes this on when it goes on.
                self.discard(grants)
                return grant.lost
            return self._released(grant, self.call(b'"op":"release","hold":%d}\n' % grant.number))
        except BaseException:
            self._trash.append(grant)  # a second time does no harm
            self._sweep()
            raise
        finally:
            self._grants.pop(grant.number, None)
            del grants[:]

    async def release_async(self, grants: List[Grant]) -> Optional[Answer]:
        grant = grants[0]
        try:
            self._watched.pop(grant.number, None)
            if self.entered(_ident()):
                self.discard(grants)
                return grant.lost
            return self._released(
                grant, await self.call_async(b'"op":"release","hold":%d}\n' % grant.number)
            )
        except BaseException:
            self._trash.append(grant)
            self._sweep()
            raise
        finally:
            self._grants.pop(grant.number, None)
            del grants[:]

    def _released(self, grant: Grant, answer: Answer) -> Optional[Answer]:
        if answer["ok"]:
            return grant.lost
        error: Answer = answer["error"]
        if error["code"] in ("lost", "ended", "no-hold"):
            return grant.lost or (ENDED_LOST if error["code"] == "ended" else error)
        raise from_answer(error)

    def discard(self, grants: List[Grant]) -> None:
        """Release without waiting for it, from wherever: a __del__ runs at any moment."""
        if self.owner != os.getpid():
            del grants[:]
            return
        self._trash.extend(grants)
        del grants[:]
        if not self.dead:
            self._sweep()

    # --- the keeper

    # A thread that looks after what nobody looks after: holds that linger while the
    # program does something else, holds whose loss is to be told at once. It exists
    # only where there are such holds, and sleeps while there is nothing to do.

    def _attend(self) -> None:
        if self._keeper is not None or self.dead:
            return
        self._bell_in, self._bell_out = os.pipe()
        os.set_blocking(self._bell_in, False)
        os.set_blocking(self._bell_out, False)
        keeper = threading.Thread(target=self._keep, name="dblock", daemon=True)
        self._keeper = keeper
        try:
            keeper.start()
        except RuntimeError:  # the interpreter ends; everything is released then
            pass

    def _ring(self) -> None:
        if self._bell_out >= 0:
            try:
                os.write(self._bell_out, b"!")
            except OSError:  # it is full: the keeper wakes up anyway
                pass

    def _keep(self) -> None:
        bell = select.poll()
        bell.register(self._bell_in, select.POLLIN)
        both = select.poll()
        both.register(self._bell_in, select.POLLIN)
        both.register(self._stdout[0], select.POLLIN)
        while not self.dead:
            # The flag first: who adds a hold looks at it afterwards.
            self._listening = False
            now = time.monotonic()
            alarm = 0.0
            for grant in list(self._watched.values()):
                if not grant.until:
                    continue
                if grant.until <= now:
                    self.clear(grant.shelf)
                    # In use: it is released at the end of that, there is nothing to wait for.
                    if grant.on_lost is None:
                        self._watched.pop(grant.number, None)
                elif not alarm or grant.until < alarm:
                    alarm = grant.until
            self._alarm = alarm
            wait = None if not alarm else max(1, int((alarm - now) * 1000 + 1))
            if self._watched or any(call.abandoned for call in list(self._pending.values())):
                self._listening = True
                ready = dict(both.poll(wait))
            else:
                ready = dict(bell.poll(wait))
            self._hush()
            if self._stdout[0] in ready:
                self.look()
                # Others read as well. Where one of them does so all the time, each
                # of its answers would wake us.
                if not self.dead:
                    bell.poll(BACK_OFF)
            self._tell()
        self._tell()

    def _hush(self) -> None:
        try:
            os.read(self._bell_in, 4096)
        except OSError:
            pass

    def _tell(self) -> None:
        while self._losses:
            grant = self._losses.pop(0)
            if grant.told or grant.on_lost is None:
                continue
            grant.told = True
            try:
                grant.on_lost()
            except Exception:
                sys.excepthook(*sys.exc_info())


def _unlock(ours: List[bool], back: Iterator[threading.Lock]) -> None:
    if ours and ours[0]:
        deque(map(_release, back), 0)


def _open(gate: threading.Lock) -> None:
    try:
        gate.release()
    except RuntimeError:  # it is open already
        pass


# Which event loops read from which session, and for how many calls. A loop knows one
# reader for a descriptor, however many coroutines wait.
_listeners: Dict[Tuple[int, int], int] = {}


def _listen(loop: asyncio.AbstractEventLoop, session: Session) -> None:
    key = (id(loop), id(session))
    count = _listeners.get(key, 0)
    if count == 0:
        loop.add_reader(session._stdout[0], session.look)
    _listeners[key] = count + 1


def _stop_listening(loop: asyncio.AbstractEventLoop, session: Session) -> None:
    key = (id(loop), id(session))
    count = _listeners[key] - 1
    if count:
        _listeners[key] = count
        return
    del _listeners[key]
    if not loop.is_closed():
        loop.remove_reader(session._stdout[0])


_entrances = frozenset(
    function.__code__ for function in (Session.call, Session.call_async, Session.look)
)

_sessions: Dict[Tuple[Optional[str], int], Session] = {}
_starting = threading.RLock()


def session_for(binary: Optional[str]) -> Session:
    """The program's session, started if there is none that lives."""
    session = _sessions.get((binary, 0))
    if session is not None and not session.dead and not session.entered(_ident()):
        return session
    # We may be within a call of this very thread: by a handler of a signal, by a
    # __del__. That one cannot go on before we are done.
    for depth in itertools.count():
        session = _sessions.get((binary, depth))
        if session is None or session.dead:
            with _starting:
                session = _sessions.get((binary, depth))
                if session is None or session.dead:
                    if session is not None:
                        session.close()
                    session = _sessions[binary, depth] = Session(binary)
        if not session.entered(_ident()):
            return session
    raise AssertionError


def close() -> None:
    """End the co-process now. All that it holds is released; the next lock starts another.

    This is done when the program ends, and seldom needed before.
    """
    for key in list(_sessions):
        session = _sessions.pop(key, None)
        if session is not None:
            session.close()


def _forked() -> None:
    global _starting
    for session in list(_sessions.values()):
        session._forked()
    _sessions.clear()
    _listeners.clear()
    _starting = threading.RLock()


os.register_at_fork(after_in_child=_forked)
atexit.register(close)
