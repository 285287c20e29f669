"""Has the lock a few times, with a session that is killed meanwhile, and says what it was told."""

import os

import dblock

plain = dblock.Lock(os.environ["KILLED_DB"], timeout=20)
kept = dblock.Lock(os.environ["KILLED_DB"], timeout=20, linger=0.005)
for lock in (plain, kept, kept, plain, kept):
    try:
        with lock as hold:
            try:
                hold.check()
            except dblock.DblockError as error:
                print("check: " + error.code, error, sep="\t")
    except dblock.DblockError as error:
        print(error.code, error, sep="\t")
try:
    dblock.close()
except dblock.DblockError as error:
    print(error.code, error, sep="\t")
with plain:
    print("done")
