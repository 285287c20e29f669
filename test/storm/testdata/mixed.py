"""One of the programs of the mixed storm: counts under the lock until its input ends."""

import os
import select
import sqlite3
import sys

import dblock

who = os.environ["MIXED_WHO"]
log = os.open(os.environ["MIXED_LOG"], os.O_RDWR | os.O_APPEND)
lock = dblock.Lock(os.environ["MIXED_DB"], timeout=60, linger=float(os.environ["MIXED_LINGER"]) / 1000)
rows = sqlite3.connect(os.environ["MIXED_DB"], timeout=60, isolation_level=None)
rows.execute("PRAGMA synchronous = OFF")  # a kill is no power cut


def last() -> int:
    size = os.fstat(log).st_size
    lines = os.pread(log, 4096, max(0, size - 4096)).decode().splitlines()
    return next((int(line.split()[4]) for line in reversed(lines) if line.startswith("E ")), 0)


told = 0
for n in range(1, sys.maxsize):
    if select.select([0], [], [], 0)[0]:
        break
    try:
        with lock as hold:
            if hold.pid != told:
                told = hold.pid
                os.write(1, b"H %d\n" % told)
            what = f"{who}.{n} {hold.token} {hold.pid}"
            os.write(log, f"B {what}\n".encode())
            count = last() + 1
            rows.execute("INSERT INTO done VALUES (?)", (f"{who}.{n}",))
            os.write(log, f"E {what} {count}\n".encode())
    except (dblock.LockLost, dblock.SessionEnded):
        continue
    os.write(1, f"A {who}.{n}\n".encode())
