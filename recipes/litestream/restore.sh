#!/bin/sh
# Puts the last state of the replica in place of the database. Nobody may have that open, Litestream neither.
# shellcheck disable=SC2016 # it is the inner shell that expands
exec dblock -d app.db -w 1m -p restore -- sh -ec '
	litestream restore -config litestream.yml -o app.db.new app.db
	test "$(sqlite3 app.db.new "PRAGMA integrity_check")" = ok
	rm -rf app.db-wal app.db-shm .app.db-litestream
	mv app.db.new app.db'
