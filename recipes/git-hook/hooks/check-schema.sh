#!/bin/sh
# Compares what is about to be committed (the index), not what is in the directory.
schema=$(sqlite3 data/app.db .schema) || exit 1
[ "$schema" = "$(git show :schema.sql)" ] && exit
echo "schema.sql is not the schema of data/app.db: sqlite3 data/app.db .schema > schema.sql && git add schema.sql" >&2
exit 1
