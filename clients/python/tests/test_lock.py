"""The habits of a lock object."""

import os
import pickle
import subprocess
import threading
import unittest

from support import HOLDER, LONG, Case, dblock, until, waiters


class Locking(Case):
    def test_with(self):
        with dblock.lock(self.db, process="etl", info="rows") as hold:
            held = dblock.status(self.db)
            self.assertTrue(held["locked"])
            self.assertEqual(("etl", "rows", hold.token), tuple(held["holder"][k] for k in ("process", "info", "token")))
            self.assertEqual(self.db, hold.db)
            self.assertEqual(os.path.join(self.dir, ".app.lock"), hold.lock_file)
            self.assertEqual("exclusive", hold.mode)
            self.assertFalse(hold.lost)
            hold.check()
        self.free()
        with self.assertRaises(dblock.LockLost):
            hold.check()

    def test_tokens_grow(self):
        with dblock.lock(self.db) as one:
            pass
        with dblock.lock(self.db) as two:
            pass
        self.assertGreater(two.token, one.token)

    def test_held_by_another_process(self):
        holder = self.python(HOLDER)
        self.says(holder, "held")
        with self.assertRaises(dblock.Timeout) as caught:
            dblock.lock(self.db, timeout=0.1).acquire()
        error = caught.exception
        self.assertIsInstance(error, TimeoutError)
        self.assertEqual("holder", error.holder["process"])
        self.assertGreaterEqual(error.waited, 0.09)
        with self.assertRaises(dblock.LockHeld):
            dblock.lock(self.db).acquire(blocking=False)
        holder.stdin.write("\n")
        holder.stdin.flush()
        with dblock.lock(self.db, timeout=LONG) as hold:
            self.assertGreaterEqual(hold.waited, 0)

    def test_reentrant(self):
        lock = dblock.lock(self.db)
        with lock as one:
            with lock.acquire() as two:
                self.assertIs(one, two)
                self.assertEqual(2, lock.lock_counter)
            self.assertTrue(lock.is_locked)
            self.assertTrue(dblock.status(self.db)["locked"])
        self.assertFalse(lock.is_locked)
        lock.release()  # does nothing
        lock.acquire()
        lock.acquire()
        lock.release(force=True)
        self.assertFalse(lock.is_locked)
        self.free()

    def test_decorator(self):
        lock = dblock.lock(self.db)

        @lock
        def work(n, more=0):
            "doc"
            self.assertTrue(lock.is_locked)
            return n + more

        self.assertEqual((5, "work", "doc"), (work(2, more=3), work.__name__, work.__doc__))
        self.free()

    def test_shared(self):
        with dblock.lock(self.db, shared=True) as one, dblock.lock(self.db, shared=True) as two:
            self.assertEqual(("shared", "shared"), (one.mode, two.mode))
            with self.assertRaises(dblock.LockHeld):
                dblock.lock(self.db, timeout=0).acquire()
        self.free()

    def test_dropped_is_released(self):
        dblock.lock(self.db).acquire()
        self.free()

    def test_thread_that_ends_releases(self):
        lock = dblock.lock(self.db)
        thread = threading.Thread(target=lock.acquire)
        thread.start()
        thread.join()
        self.free()

    def test_environment_for_a_child(self):
        with dblock.lock(self.db) as hold:
            self.assertEqual(str(hold.token), hold.env["DBLOCK_HOLD_TOKEN"])
            self.assertEqual(self.db, hold.env["DBLOCK_HOLD_DB"])
            self.assertEqual(os.environ["PATH"], hold.env["PATH"])

    def test_child_inherits_no_pipe(self):
        with dblock.lock(self.db):
            names = subprocess.run(["ls", "-l", "/proc/self/fd"], stdout=subprocess.PIPE, text=True, check=True).stdout
        # Its output, and nothing else that is a pipe of ours.
        session = next(iter(dblock._session._sessions.values()))
        for number in session._stdin + session._stdout:
            self.assertNotIn(os.readlink(f"/proc/self/fd/{number}"), names)

    def test_waiting_is_told(self):
        holder = self.python(HOLDER)
        self.says(holder, "held")
        seen = []

        def waiting(event):
            seen.append(event)
            holder.stdin.write("\n")
            holder.stdin.flush()

        with dblock.lock(self.db, timeout=LONG, on_waiting=waiting):
            pass
        self.assertEqual("holder", seen[0].holder["process"])
        self.assertGreater(seen[0].waited, 0.1)

    def test_time_limit(self):
        with dblock.lock(self.db, time_limit=0.1, on_time_limit="warn") as hold:
            until(lambda: hold.overdue, "it is overdue")
            self.assertFalse(hold.lost)
        with dblock.lock(self.db, time_limit=60) as hold:
            self.assertFalse(hold.overdue)
        with self.assertRaises(dblock.UsageError):
            dblock.lock(self.db, on_time_limit="scold").acquire()

    def test_time_limit_ends_the_program(self):
        program = self.python("with dblock.lock(sys.argv[1], time_limit=0.2): time.sleep(60)")
        self.ends(program, -15)
        with dblock.lock(self.db, timeout=LONG):
            pass

    def test_wrong_use(self):
        for options in ({"linger": -1}, {"linger": float("nan")}, {"timeout": float("nan")}):
            with self.subTest(options), self.assertRaises(dblock.UsageError):
                dblock.lock(self.db, **options).acquire()
        with self.assertRaises(dblock.UsageError):
            dblock.lock()
        with self.assertRaises(dblock.UsageError):
            dblock.lock(os.fsdecode(b"/tmp/\xff.db"))
        with self.assertRaises(dblock.UsageError):
            dblock.lock(self.db, priority="urgent").acquire()
        self.free()

    def test_relative_path(self):
        before = os.getcwd()
        os.chdir(self.dir)
        try:
            lock = dblock.lock("app.db")
            os.chdir("/")
            with lock as hold:
                self.assertEqual(self.db, hold.db)
        finally:
            os.chdir(before)

    def test_errors_travel(self):
        with dblock.lock(self.db, process="me"), self.assertRaises(dblock.LockHeld) as caught:
            dblock.lock(self.db, timeout=0).acquire()
        again = pickle.loads(pickle.dumps(caught.exception))
        self.assertEqual(("me", "held"), (again.holder["process"], again.code))
        denied = pickle.loads(pickle.dumps(dblock.LockPermission("no")))
        self.assertIsInstance(denied, PermissionError)


class Binary(Case):
    def test_not_found(self):
        with self.assertRaises(dblock.DblockNotFound) as caught:
            dblock.lock(self.db, binary="/nowhere/dblock").acquire()
        self.assertIn("install", caught.exception.hint)

    def test_no_session_in_it(self):
        for program in ("/bin/true", "/bin/echo"):
            with self.subTest(program), self.assertRaises(dblock.DblockNotFound) as caught:
                dblock.lock(self.db, binary=program).acquire()
            self.assertIn("session", str(caught.exception))


class Threads(Case):
    def test_exclude_each_other(self):
        lock = dblock.lock(self.db, timeout=LONG)
        counter = os.path.join(self.dir, "counter")
        with open(counter, "w") as file:
            file.write("0")

        def work():
            for _ in range(50):
                with lock:
                    with open(counter) as file:
                        n = int(file.read())
                    with open(counter, "w") as file:
                        file.write(str(n + 1))

        for linger in (0.0, 0.005):
            lock = dblock.lock(self.db, timeout=LONG, linger=linger)
            threads = [threading.Thread(target=work) for _ in range(6)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(LONG)
                self.assertFalse(thread.is_alive())
        with open(counter) as file:
            self.assertEqual(600, int(file.read()))
        until(lambda: dblock.status(self.db)["state"] == "free", "what lingers is released")

    def test_a_wait_keeps_nobody(self):
        """While one thread waits, and reads, others get their answers."""
        holder = self.python(HOLDER)
        self.says(holder, "held")
        thread = threading.Thread(target=lambda: dblock.lock(self.db, timeout=LONG).acquire().release())
        thread.start()
        until(lambda: waiters(self.db) == 1, "the thread waits")
        other = os.path.join(self.dir, "other.db")
        for _ in range(20):
            with dblock.lock(other):
                pass
        self.assertTrue(thread.is_alive())
        holder.stdin.write("\n")
        holder.stdin.flush()
        thread.join(LONG)
        self.assertFalse(thread.is_alive())
        self.free()


class Linger(Case):
    def test_kept_and_used_again(self):
        lock = dblock.lock(self.db, linger=LONG)
        with lock as one:
            pass
        self.assertTrue(dblock.status(self.db)["locked"])
        with lock as two:
            pass
        self.assertEqual(one.token, two.token)

    def test_released_when_its_time_is_over(self):
        with dblock.lock(self.db, linger=0.05):
            pass
        until(lambda: dblock.status(self.db)["state"] == "free", "the keeper releases it")

    def test_handed_over_while_idle(self):
        with dblock.lock(self.db, linger=600):
            pass
        other = self.python("with dblock.lock(sys.argv[1], timeout=20) as h: print(h.waited < 5)")
        self.says(other, "True")
        self.ends(other)

    def test_handed_over_in_a_loop(self):
        other = self.python("with dblock.lock(sys.argv[1], timeout=20) as h: print(h.waited < 5)")
        lock = dblock.lock(self.db, linger=600)

        def cycle():
            with lock:
                pass
            return other.poll() is not None

        while not cycle():
            pass
        self.says(other, "True")

    def test_not_in_its_own_way(self):
        with dblock.lock(self.db, linger=600):
            pass
        with dblock.lock(self.db, shared=True, timeout=LONG) as hold:
            self.assertEqual("shared", hold.mode)


if __name__ == "__main__":
    unittest.main()
