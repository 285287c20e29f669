#!/bin/sh
# Everything below runs under the lock: nobody has to remember to call it through dblock.
[ "${NIGHTLY_LOCKED-}" ] || NIGHTLY_LOCKED=1 exec dblock -d data/app.db -w 10m -p nightly -- "$0" "$@"

./aggregate.sh
./aggregate.sh
