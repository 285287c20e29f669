#!/bin/sh
# test.sh SHARD: the tests of one shard, which count on nobody else changing the database meanwhile.
set -e
before=$(sqlite3 data/app.db 'SELECT count(*) FROM runs')
sqlite3 data/app.db "INSERT INTO runs VALUES ($1)"
[ "$(sqlite3 data/app.db 'SELECT count(*) FROM runs')" = $((before + 1)) ]
