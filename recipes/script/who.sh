#!/bin/sh
# Who is in the way?
dblock status -d data/app.db        # who holds it, and since when
dblock status -v -d data/app.db     # and the evidence, and who waits, in order
dblock status --json -d data/app.db # for programs
dblock ls .                         # all locks below a directory
dblock log -d data/app.db           # who had it, and for how long
