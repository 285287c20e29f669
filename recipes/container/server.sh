#!/bin/bash
# A server that works until it is told to stop, and then says so in the database.
trap 'stop=1' TERM
while [ -z "${stop-}" ]; do
	dblock -p server -- sqlite3 -cmd '.timeout 5000' "$DBLOCK_DB" "INSERT INTO visits VALUES ('server')"
	sleep 0.1 &
	wait $! || :
done
dblock -p server -- sqlite3 -cmd '.timeout 5000' "$DBLOCK_DB" "INSERT INTO visits VALUES ('bye')"
