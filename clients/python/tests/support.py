"""What the tests share: the program, helper processes, waiting for conditions."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCES = os.path.join(os.path.dirname(HERE), "src")
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(HERE)))
sys.path.insert(0, SOURCES)

# Longer than anything takes that works, in seconds.
LONG = 30.0


def _program() -> None:
    """Build dblock from this checkout, unless DBLOCK_BINARY names one."""
    if os.environ.get("DBLOCK_BINARY"):
        return
    folder = tempfile.mkdtemp(prefix="dblock-test-")
    atexit.register(shutil.rmtree, folder, True)
    binary = os.path.join(folder, "dblock")
    subprocess.run(["go", "build", "-o", binary, "."], cwd=ROOT, check=True)
    os.environ["DBLOCK_BINARY"] = binary


_program()
for name in list(os.environ):
    if name.startswith("DBLOCK_") and name not in ("DBLOCK_BINARY", "DBLOCK_KIT"):
        del os.environ[name]
os.environ["PYTHONPATH"] = SOURCES

import dblock  # noqa: E402


def until(condition, what: str):
    """Wait until condition() is true, and return what it was."""
    end = time.monotonic() + LONG
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"waited {LONG:g} s in vain: {what}")
        time.sleep(0.005)


def waiters(db: str) -> int:
    return len(dblock.status(db)["waiting"])


class Case(unittest.TestCase):
    def setUp(self) -> None:
        self.dir = os.path.realpath(tempfile.mkdtemp(prefix="dblock-test-"))
        self.addCleanup(shutil.rmtree, self.dir, True)
        self.db = os.path.join(self.dir, "app.db")

    def free(self, db: str = "") -> None:
        """The lock can be had, and nobody waits for it."""
        with dblock.Lock(db or self.db, timeout=LONG):
            pass
        state = dblock.status(db or self.db)
        self.assertEqual(("free", []), (state["state"], state["waiting"]))

    def python(self, script: str, *args: str, **options) -> subprocess.Popen:
        """Start a Python program with pipes for its input and output."""
        prelude = "import os, sys, time, dblock\n"
        process = subprocess.Popen(
            [sys.executable, "-u", "-c", prelude + script, self.db, *args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=self.dir,
            **options,
        )
        self.addCleanup(self._end, process)
        return process

    def _end(self, process: subprocess.Popen) -> None:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()

    def says(self, process: subprocess.Popen, word: str) -> None:
        line = process.stdout.readline().strip()
        self.assertEqual(word, line)

    def ends(self, process: subprocess.Popen, code: int = 0) -> None:
        self.assertEqual(code, process.wait(LONG))


HOLDER = """
with dblock.lock(sys.argv[1], process="holder"):
    print("held")
    sys.stdin.readline()
print("released")
sys.stdin.readline()
"""
