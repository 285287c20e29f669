#!/bin/sh
# A copy that is complete, and of a moment at which nobody was in the middle of something. Other readers may go on.
set -e
dblock -d app.db -w 10m --shared -p backup -- sqlite3 app.db '.backup backup.new'
[ "$(sqlite3 backup.new 'PRAGMA integrity_check')" = ok ]
mv backup.new "${1:-backup.db}"
