#!/bin/bash
# Only what needs the database waits for it.
set -e
./download.sh                                        # without the lock
eval "$(dblock hold -d data/app.db -w 10m -p import)"
./aggregate.sh
dblock -d data/app.db -- ./aggregate.sh              # uses the lock that the script has
eval "$(dblock release)"
echo imported >>notified                             # without it again
