#!/bin/sh
# The migration has the database for itself; what comes after it takes the lock for each piece of work.
set -e
dblock -p migrate -- sqlite3 "$DBLOCK_DB" 'CREATE TABLE IF NOT EXISTS visits (who TEXT)'
exec "$@"
