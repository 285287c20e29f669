"""Processes that are killed, forked, interrupted."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import unittest

from support import HOLDER, LONG, Case, dblock, until, waiters


def session():
    return next(iter(dblock._session._sessions.values()))


def locked_in_child(db, queue):
    with dblock.lock(db, timeout=LONG) as hold:
        queue.put((hold.token, os.getpid()))


class Death(Case):
    def test_killed_holder(self):
        holder = self.python(HOLDER)
        self.says(holder, "held")
        holder.kill()
        with dblock.lock(self.db, timeout=LONG) as hold:
            self.assertLess(hold.waited, 5)

    def test_killed_while_a_grandchild_lives(self):
        """An inherited pipe hides the end of the session's input."""
        holder = self.python(
            "import subprocess\n"
            "lock = dblock.lock(sys.argv[1]); lock.acquire()\n"
            "if os.fork() == 0:\n"
            "    sys.stdin.readline(); os._exit(0)\n"
            "print('held'); time.sleep(600)\n"
        )
        self.says(holder, "held")
        holder.kill()
        with dblock.lock(self.db, timeout=LONG) as hold:
            self.assertLess(hold.waited, 5)

    def test_exit_releases(self):
        holder = self.python("lock = dblock.lock(sys.argv[1]); lock.acquire(); print('held')")
        self.says(holder, "held")
        self.ends(holder)
        self.free()

    def test_session_killed(self):
        told = threading.Event()
        lost = []

        def on_lost(hold):
            lost.append(hold)
            told.set()

        lock = dblock.lock(self.db, on_lost=on_lost)
        with self.assertRaises(dblock.LockLost):
            with lock as hold:
                os.kill(hold.pid, signal.SIGKILL)
                self.assertTrue(told.wait(LONG))
                self.assertIs(hold, lost[0])
                self.assertTrue(hold.lost)
                with self.assertRaises(dblock.LockLost):
                    hold.check()
        self.assertFalse(lock.is_locked)
        self.free()  # by the next session

    def test_session_killed_without_callback(self):
        with self.assertRaises(dblock.LockLost):
            with dblock.lock(self.db) as hold:
                os.kill(hold.pid, signal.SIGKILL)
                until(lambda: hold.lost, "the loss is seen")

    def test_exception_goes_on_though_lost(self):
        with self.assertRaises(KeyError):
            with dblock.lock(self.db) as hold:
                os.kill(hold.pid, signal.SIGKILL)
                until(lambda: hold.lost, "the loss is seen")
                raise KeyError("mine")

    def test_session_killed_while_idle(self):
        self.free()
        process = session().process
        process.kill()
        process.wait(LONG)
        self.free()

    def test_notice_taken_by_a_peer(self):
        with self.assertRaises(dblock.LockLost):
            with dblock.lock(self.db) as hold:
                with open(hold.lock_file + ".new", "w") as file:
                    file.write('{"pid":%d,"timestamp":%d,"host":"%s","process":"peer"}' % (os.getpid(), time.time() * 1000, hold.host))
                os.rename(hold.lock_file + ".new", hold.lock_file)
        os.unlink(hold.lock_file)


class Fork(Case):
    def test_holds_stay_with_the_parent(self):
        lock = dblock.lock(self.db)
        with lock as hold:
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    assert not lock.is_locked and hold.lost
                    hold.release()
                    lock.release()
                    try:
                        lock.acquire(timeout=0.05)
                    except dblock.LockHeld:
                        with dblock.lock(os.path.join(self.dir, "other.db")):
                            code = 0
                finally:
                    os._exit(code)
            self.assertEqual(0, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
            hold.check()
        self.free()

    def test_fork_in_a_thread_that_waits(self):
        """A child is forked while another thread is in the midst of a call."""
        with dblock.lock(self.db):
            def wait():
                try:
                    dblock.lock(self.db, timeout=LONG).acquire().release()
                except dblock.DblockError:
                    pass

            thread = threading.Thread(target=wait)
            thread.start()
            until(lambda: waiters(self.db) == 1, "the thread waits")
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    with dblock.lock(os.path.join(self.dir, "other.db")):
                        code = 0
                finally:
                    os._exit(code)
            self.assertEqual(0, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        thread.join(LONG)
        self.assertFalse(thread.is_alive())

    def test_multiprocessing(self):
        for method in ("fork", "spawn"):
            with self.subTest(method):
                context = multiprocessing.get_context(method)
                queue = context.Queue()
                with dblock.lock(self.db):
                    child = context.Process(target=locked_in_child, args=(self.db, queue))
                    child.start()
                    until(lambda: waiters(self.db) == 1, "the child waits")
                self.assertEqual(child.pid, queue.get(timeout=LONG)[1])
                child.join(LONG)
                self.assertEqual(0, child.exitcode)


class Interrupt(BaseException):
    pass


class Interruption(Case):
    def test_keyboard_interrupt_while_waiting(self):
        with dblock.lock(self.db):
            child = self.python(
                "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
                "lock = dblock.lock(sys.argv[1], timeout=60)\n"
                "print('ready')\n"
                "try:\n"
                "    lock.acquire()\n"
                "except KeyboardInterrupt:\n"
                "    print('interrupted', lock.is_locked)\n"
                "sys.stdin.readline()\n"
                "with lock: print('again')\n"
            )
            self.says(child, "ready")
            until(lambda: waiters(self.db) == 1, "the child waits")
            child.send_signal(signal.SIGINT)
            self.says(child, "interrupted False")
            self.assertEqual(0, waiters(self.db))
        self.free()
        child.stdin.write("\n")
        child.stdin.flush()
        self.says(child, "again")
        self.ends(child)

    def storm(self, linger, act):
        """Raise out of a handler at random moments, and see that nothing is left behind."""
        armed = False
        hits = 0

        def handler(number, frame):
            nonlocal armed, hits
            if armed:
                armed = False
                hits += 1
                act()

        before = signal.signal(signal.SIGALRM, handler)
        self.addCleanup(signal.signal, signal.SIGALRM, before)
        lock = dblock.lock(self.db, linger=linger, timeout=LONG)
        with lock:
            pass

        def cycle():
            while armed:
                with lock:
                    pass

        end = time.monotonic() + LONG
        seed = 1
        while hits < 400 and time.monotonic() < end:
            seed = seed * 1103515245 + 12345 & 0x7FFFFFFF
            pause = 5e-5 + seed % 1000 * 1e-6
            # From Python 3.13 on an exception at the end of a loop is not caught around
            # it; the loop is in a function of its own, so that it is.
            try:
                armed = True
                signal.setitimer(signal.ITIMER_REAL, pause, pause)
                cycle()
            except Interrupt:
                pass
            armed = False
            signal.setitimer(signal.ITIMER_REAL, 0)
            # In the very moment in which a with statement calls __exit__ an exception
            # can keep that from running: so for every lock that is written in Python.
            lock.release(force=True)
        self.assertGreaterEqual(hits, 400)
        other = self.python("with dblock.lock(sys.argv[1], timeout=20): print('had')")
        self.says(other, "had")
        self.ends(other)
        until(lambda: dblock.status(self.db)["state"] == "free", "nothing is left")
        s = session()
        self.assertEqual(({}, [], {}, []), (s._pending, s._queue, s._reader, s._trash))
        self.assertFalse(s.entered(threading.get_ident()))

    def test_handler_that_raises(self):
        def act():
            raise Interrupt

        for linger in (0.0, 0.005):
            with self.subTest(linger=linger):
                self.storm(linger, act)

    def test_handler_that_locks(self):
        other = dblock.lock(os.path.join(self.dir, "other.db"), timeout=LONG)

        def act():
            with other:
                pass

        self.storm(0.0, act)
        dblock.close()


if __name__ == "__main__":
    unittest.main()
