"""Coroutines."""

import asyncio
import os
import unittest

from support import HOLDER, LONG, Case, dblock, until, waiters


class Async(Case):
    def test_with(self):
        async def main():
            lock = dblock.lock(self.db)
            async with lock as hold:
                self.assertTrue(dblock.status(self.db)["locked"])
                await hold.check_async()
                async with lock as again:
                    self.assertIs(hold, again)
            self.assertFalse(lock.is_locked)

        asyncio.run(main())
        self.free()

    def test_alock(self):
        async def main():
            lock = dblock.alock(self.db)
            hold = await lock.acquire(timeout=LONG)
            self.assertTrue(lock.is_locked)
            with self.assertRaises(dblock.LockHeld):
                await dblock.alock(self.db).acquire(blocking=False)
            await lock.release()
            async with await lock.acquire() as hold:
                self.assertFalse(hold.lost)

        asyncio.run(main())
        self.free()

    def test_tasks_exclude_each_other(self):
        for linger in (0.0, 0.005):
            with self.subTest(linger=linger):
                lock = dblock.lock(self.db, timeout=LONG, linger=linger)
                inside = most = done = 0

                async def work():
                    nonlocal inside, most, done
                    for _ in range(20):
                        async with lock:
                            inside += 1
                            most = max(most, inside)
                            await asyncio.sleep(0)
                            inside -= 1
                            done += 1

                async def main():
                    await asyncio.gather(*(work() for _ in range(8)))

                asyncio.run(main())
                self.assertEqual((1, 160), (most, done))
        until(lambda: dblock.status(self.db)["state"] == "free", "what lingers is released")

    def test_the_loop_runs_while_one_waits(self):
        holder = self.python(HOLDER)
        self.says(holder, "held")

        async def main():
            async def wait():
                async with dblock.lock(self.db, timeout=LONG):
                    return True

            task = asyncio.ensure_future(wait())
            turns = 0
            while waiters(self.db) == 0 or turns < 100:
                await asyncio.sleep(0)
                turns += 1
            self.assertFalse(task.done())
            holder.stdin.write("\n")
            holder.stdin.flush()
            self.assertTrue(await asyncio.wait_for(task, LONG))

        asyncio.run(main())
        self.free()

    def test_cancelled_wait(self):
        async def main():
            async with dblock.lock(self.db):
                async def wait():
                    async with dblock.lock(self.db, timeout=LONG):
                        self.fail("it was had")

                task = asyncio.ensure_future(wait())
                while waiters(self.db) == 0:
                    await asyncio.sleep(0.001)
                task.cancel()
                with self.assertRaises(asyncio.CancelledError):
                    await task
                self.assertEqual(0, waiters(self.db))

        asyncio.run(main())
        self.free()

    def test_timeout_of_asyncio(self):
        async def main():
            async with dblock.lock(self.db):
                with self.assertRaises(asyncio.TimeoutError):
                    await asyncio.wait_for(dblock.alock(self.db, timeout=LONG).acquire(), 0.1)

        asyncio.run(main())
        self.free()

    def test_decorator(self):
        lock = dblock.lock(self.db)

        @lock
        async def work():
            await asyncio.sleep(0)
            return lock.is_locked

        self.assertTrue(asyncio.run(work()))
        self.free()

    def test_lost_is_told_in_the_loop(self):
        async def main():
            lost = asyncio.Event()
            with self.assertRaises(dblock.LockLost):
                async with dblock.lock(self.db, on_lost=lambda hold: lost.set()) as hold:
                    os.kill(hold.pid, 9)
                    await asyncio.wait_for(lost.wait(), LONG)

        asyncio.run(main())
        self.free()


if __name__ == "__main__":
    unittest.main()
