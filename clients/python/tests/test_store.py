"""DatabaseLock and LockingStore."""

import asyncio
import contextlib
import json
import os
import time
import unittest

from support import HOLDER, LONG, Case, dblock


class DatabaseLock(Case):
    def test_basic(self):
        lock = dblock.DatabaseLock(self.db, process_type="cli")
        self.assertEqual((50, 0.1), (lock.max_retries, lock.retry_delay))
        self.assertEqual(os.path.join(self.dir, ".app.lock"), lock.get_lock_path())
        self.assertIsNone(lock.get_lock_info())
        self.assertFalse(lock.is_locked())
        lock.acquire()
        info = lock.get_lock_info()
        self.assertEqual("cli", info.process)
        self.assertAlmostEqual(time.time(), info.timestamp, delta=30)
        state = dblock.DatabaseLock(self.db).is_locked()
        self.assertTrue(state)
        self.assertEqual(("cli", info.pid), (state.info.process, state.info.pid))
        lock.release()
        self.assertFalse(lock.is_locked())
        with self.assertRaises(dblock.DblockError):
            lock.release()

    def test_held(self):
        holder = self.python(HOLDER)
        self.says(holder, "held")
        with self.assertRaises(dblock.DatabaseLockError) as caught:
            dblock.DatabaseLock(self.db, max_retries=2, retry_delay=0.05).acquire()
        self.assertEqual("holder", caught.exception.lock_info.process)
        self.assertIn("after 0.1s timeout (2 retries)", str(caught.exception))

    def test_force_unlock(self):
        holder = self.python(HOLDER)
        self.says(holder, "held")
        lock = dblock.DatabaseLock(self.db)
        self.assertTrue(lock.force_unlock())
        self.assertFalse(lock.is_locked())
        self.assertFalse(lock.force_unlock())

    def test_corrupted_and_stale(self):
        path = os.path.join(self.dir, ".app.lock")
        dead = self.python("")
        self.ends(dead)
        stale = json.dumps({"pid": dead.pid, "timestamp": 1, "host": os.uname().nodename, "process": "gone"})
        for text in ("{", stale):
            with self.subTest(text):
                with open(path, "w") as file:
                    file.write(text)
                with dblock.DatabaseLock(self.db):
                    pass
                self.free()


class Store:
    """Says under which lock its methods run."""

    limit = 3

    def __init__(self, db):
        self.db = db
        self.proxy = None

    def _mode(self):
        found = dblock.status(self.db)
        return found["holder"]["mode"] if found["locked"] else "free"

    def get_mode(self):
        return self._mode()

    def add(self):
        return self._mode()

    def peek(self):
        return self._mode()

    def get_and_add(self):
        return self.proxy.add()

    def transaction(self, work):
        before = dblock.status(self.db)["holder"]["token"]
        result = work()
        return result, before == dblock.status(self.db)["holder"]["token"]

    @contextlib.contextmanager
    def begin(self):
        yield self._mode()

    def rows(self):
        yield self._mode()
        yield self._mode()

    async def load(self):
        await asyncio.sleep(0)
        return self._mode()

    @contextlib.asynccontextmanager
    async def abegin(self):
        yield self._mode()

    async def arows(self):
        yield self._mode()

    def __getitem__(self, key):
        return key, self._mode()

    def __len__(self):
        return 7


class LockingStore(Case):
    def setUp(self):
        super().setUp()
        self.inner = Store(self.db)
        self.store = dblock.LockingStore(
            self.inner, self.db, unlocked="peek", transaction=("transaction", "begin", "abegin"), timeout=LONG
        )
        self.inner.proxy = self.store

    def test_modes(self):
        store = self.store
        self.assertEqual(("shared", "exclusive", "free"), (store.get_mode(), store.add(), store.peek()))
        self.assertEqual((3, 7, ("k", "shared")), (store.limit, len(store), store["k"]))
        self.assertEqual(["exclusive", "exclusive"], list(store.rows()))
        self.assertFalse(store.is_locked())
        with self.assertRaises(AttributeError):
            store.nothing
        self.assertIs(self.inner, store.get_inner_store())
        self.assertIn("add", dir(store))
        self.free()

    def test_transactions(self):
        store = self.store
        self.assertEqual((("exclusive", "exclusive"), True), store.transaction(lambda: (store.add(), store.get_mode())))
        with store.begin() as mode:
            self.assertEqual(("exclusive", "exclusive"), (mode, store.add()))
            self.assertTrue(store.is_locked())
            self.assertIsNotNone(store.get_lock_info().current)
        self.free()
        store.begin()  # never entered
        self.free()

    def test_a_writer_inside_a_reader(self):
        with self.assertRaises(dblock.LockUpgrade):
            self.store.get_and_add()
        self.free()

    def test_coroutines(self):
        async def main():
            self.assertEqual("exclusive", await self.store.load())
            async with self.store.abegin() as mode:
                self.assertEqual(("exclusive", "exclusive"), (mode, await self.store.load()))
            self.assertEqual(["exclusive"], [mode async for mode in self.store.arows()])

        asyncio.run(main())
        self.free()

    def test_errors_release(self):
        self.inner.add = lambda: 1 / 0
        with self.assertRaises(ZeroDivisionError):
            self.store.add()
        self.free()


if __name__ == "__main__":
    unittest.main()
