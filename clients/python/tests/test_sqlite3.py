"""The connection of dblock.sqlite3."""

import os
import signal
import unittest

from support import HOLDER, LONG, Case, dblock, until

from dblock import sqlite3

WRITER = """
from dblock import sqlite3
kill = sys.argv[2] == "kill"
db = sqlite3.connect(sys.argv[1], timeout=0, lock_timeout=60, lock_options={"linger": float(sys.argv[3])})
print("ready")
sys.stdin.readline()
for i in range(10**9 if kill else 60):
    n, = db.execute("SELECT n FROM counter").fetchone()
    with db:
        db.execute("BEGIN")
        n, = db.execute("SELECT n FROM counter").fetchone()
        db.execute("UPDATE counter SET n = ?", (n + 1,))
        db.execute("INSERT INTO log VALUES (?, ?)", (os.getpid(), n))
db.close()
"""


class Connection(Case):
    def setUp(self):
        super().setUp()
        self.sql = sqlite3.connect(self.db, lock_timeout=LONG)
        self.addCleanup(self.sql.close)
        self.sql.execute("CREATE TABLE counter (n INTEGER)")
        self.sql.execute("INSERT INTO counter VALUES (0)")
        self.sql.commit()
        self.sql.execute("CREATE TABLE log (pid INTEGER, n INTEGER UNIQUE)")

    def state(self):
        found = dblock.status(self.db)
        return found["holder"]["mode"] if found["locked"] else "free"

    def test_held_for_a_transaction(self):
        db = self.sql
        self.assertEqual("free", self.state())
        db.execute("UPDATE counter SET n = n + 1")
        self.assertEqual("exclusive", self.state())
        self.assertEqual([(1,)], db.execute("SELECT n FROM counter").fetchall())
        db.commit()
        self.assertEqual("free", self.state())
        db.execute("UPDATE counter SET n = n + 1")
        db.rollback()
        self.assertEqual("free", self.state())
        with db:
            db.execute("UPDATE counter SET n = n + 1")
        self.assertEqual("free", self.state())
        with self.assertRaises(ZeroDivisionError), db:
            db.execute("UPDATE counter SET n = n + 1")
            1 / 0
        self.assertEqual("free", self.state())
        db.execute("BEGIN")
        self.assertEqual("exclusive", self.state())
        db.execute("COMMIT")
        self.assertEqual("free", self.state())
        self.assertEqual((2,), db.execute("SELECT n FROM counter").fetchone())
        db.executemany("INSERT INTO log VALUES (1, ?)", [(1,), (2,)])
        self.assertEqual("exclusive", self.state())
        with self.assertRaises(sqlite3.IntegrityError):
            db.execute("INSERT INTO log VALUES (1, 2)")
        self.assertEqual("exclusive", self.state())
        db.close()
        self.assertEqual("free", self.state())

    def test_autocommit(self):
        db = sqlite3.connect(self.db, isolation_level=None)
        self.addCleanup(db.close)
        db.execute("UPDATE counter SET n = n + 1")
        self.assertEqual("free", self.state())
        db.executescript("BEGIN; UPDATE counter SET n = 5; COMMIT;")
        self.assertEqual("free", self.state())
        db.execute("SAVEPOINT one")
        self.assertEqual("exclusive", self.state())
        db.execute("RELEASE one")
        self.assertEqual("free", self.state())

    def test_reads(self):
        db = self.sql
        db.executemany("INSERT INTO log VALUES (1, ?)", [(i,) for i in range(5)])
        db.commit()
        cursor = db.execute("SELECT n FROM log ORDER BY n")
        self.assertEqual("free", self.state())
        self.assertEqual("n", cursor.description[0][0])
        with dblock.lock(self.db):  # the rows are here
            self.assertEqual((0,), cursor.fetchone())
            self.assertEqual([(1,)], cursor.fetchmany())
            self.assertEqual([(2,), (3,)], cursor.fetchmany(2))
            self.assertEqual([(4,)], list(cursor))
            self.assertEqual((None, []), (cursor.fetchone(), cursor.fetchall()))
        with dblock.lock(self.db, shared=True):
            db.execute("/* a */ -- b\n WITH x AS (SELECT 'DELETE') SELECT * FROM x").fetchall()
            db.execute("PRAGMA table_info(log)").fetchall()

    def test_what_writes(self):
        impatient = sqlite3.connect(self.db, lock_timeout=0)
        self.addCleanup(impatient.close)
        with dblock.lock(self.db, shared=True):
            for sql in (
                "UPDATE counter SET n = 9",
                "WITH x AS (SELECT 9) UPDATE counter SET n = 9",
                "PRAGMA user_version = 3",
                "VACUUM",
                "BEGIN",
            ):
                with self.subTest(sql), self.assertRaises(sqlite3.DatabaseLocked):
                    impatient.execute(sql)
        self.assertEqual("free", self.state())

    def test_unlocked_reads(self):
        db = sqlite3.connect(self.db, reads="unlocked", lock_timeout=0)
        self.addCleanup(db.close)
        with dblock.lock(self.db):
            self.assertEqual([(0,)], db.execute("SELECT n FROM counter").fetchall())

    def test_held_by_another(self):
        holder = self.python(HOLDER)
        self.says(holder, "held")
        db = sqlite3.connect(self.db, lock_timeout=0.05)
        self.addCleanup(db.close)
        with self.assertRaises(sqlite3.OperationalError) as caught:
            db.execute("UPDATE counter SET n = 1")
        self.assertIsInstance(caught.exception, dblock.LockHeld)
        self.assertEqual("holder", caught.exception.holder["process"])
        self.assertFalse(db.in_transaction)

    def test_locked(self):
        db = self.sql
        with db.locked():
            db.execute("UPDATE counter SET n = 1")
            db.commit()
            self.assertEqual("exclusive", self.state())
        self.assertEqual("free", self.state())
        with db.locked(shared=True):
            self.assertEqual("shared", self.state())
            db.execute("BEGIN")
            self.assertEqual([(1,)], db.execute("SELECT n FROM counter").fetchall())
            db.execute("COMMIT")
            for sql in ("UPDATE counter SET n = 2", "BEGIN IMMEDIATE", "VACUUM"):
                with self.subTest(sql), self.assertRaises(dblock.LockUpgrade):
                    db.execute(sql)
            self.assertGreater(len(list(db.iterdump())), 3)
        self.assertEqual("free", self.state())

    def test_lost(self):
        db = self.sql
        db.execute("UPDATE counter SET n = 1")
        hold = db.hold
        os.kill(hold.pid, signal.SIGKILL)
        until(lambda: hold.lost, "the loss is seen")
        with self.assertRaises(dblock.LockLost):
            db.commit()
        self.assertEqual((0,), db.execute("SELECT n FROM counter").fetchone())

    def test_memory(self):
        for name in (":memory:", ""):
            with self.subTest(name), self.assertRaises(dblock.UsageError):
                sqlite3.connect(name)
        db = sqlite3.connect(f"file:{self.db}?mode=rw", uri=True)
        self.addCleanup(db.close)
        with db.locked() as hold:
            self.assertEqual(self.db, hold.db)

    @unittest.skipUnless(hasattr(sqlite3.Connection, "autocommit"), "since Python 3.12")
    def test_always_in_a_transaction(self):
        db = sqlite3.connect(self.db, autocommit=False)
        self.addCleanup(db.close)
        self.assertEqual("free", self.state())
        db.execute("SELECT n FROM counter").fetchall()
        self.assertEqual("exclusive", self.state())
        db.commit()
        self.assertEqual("free", self.state())

    def test_processes(self):
        """No update is lost, and SQLite itself never says that the database is busy."""
        writers = [self.python(WRITER, "count", linger) for linger in ("0", "0", "0.005", "0.005")]
        killed = [self.python(WRITER, "kill", linger) for linger in ("0", "0.005")]
        for writer in writers + killed:
            self.says(writer, "ready")
        for writer in writers + killed:
            writer.stdin.write("\n")
            writer.stdin.flush()
        done = lambda pid: self.sql.execute("SELECT count(*) FROM log WHERE pid = ?", (pid,)).fetchone()[0]
        for writer in killed:
            until(lambda: done(writer.pid) >= 5, "it has written")
            writer.kill()
        for writer in writers:
            self.ends(writer)
        n, = self.sql.execute("SELECT n FROM counter").fetchone()
        rows, = self.sql.execute("SELECT count(*) FROM log").fetchone()
        self.assertEqual(n, rows)
        for writer in writers:
            self.assertEqual(60, done(writer.pid))
        self.free()


if __name__ == "__main__":
    unittest.main()
