#!/bin/sh
# A deployment that must not hang for ever, and says what to do.
status=0
dblock -d data/app.db -w "${PATIENCE:-5m}" -p migration --priority high -- ./aggregate.sh || status=$?
case $status in
0) ;;
75) echo "the database is busy, nothing was changed" >&2; exit 1 ;;
69) echo "the lock was lost: check the database" >&2; exit 1 ;;
*) echo "the migration failed" >&2; exit 1 ;;
esac
