#!/bin/sh
. "$RECIPES/lib.sh"
need sqlite3 sqlite3
go_tool litestream github.com/benbjohnson/litestream/cmd/litestream@v0.5.18

sqlite3 app.db 'PRAGMA journal_mode = wal; CREATE TABLE orders (id INTEGER PRIMARY KEY, name TEXT);
	CREATE TABLE total (n INTEGER); INSERT INTO total VALUES (0)' >/dev/null
litestream replicate -config litestream.yml >"$scratch/litestream" 2>&1 &
litestream=$!
until_true 20 test -d replica

for writer in 1 2 3 4; do
	(for n in 1 2 3 4 5 6 7 8 9 10; do dblock -d app.db -w 1m -p "writer $writer" -- ./add.sh "$writer-$n" || exit 1; done) &
	set -- "$@" $!
done
wait_all "$@"
equal "orders" "$(sqlite3 app.db 'SELECT count(*), count(DISTINCT name) FROM orders')" '40|40'
kill "$litestream"
wait "$litestream" || fail "litestream: $(tail -n 3 "$scratch/litestream")"

sqlite3 app.db .dump >"$scratch/before"
echo 'not a database' >app.db # the disk has failed
./restore.sh >"$scratch/restore" 2>&1 || fail "restore.sh: $(cat "$scratch/restore")"
sqlite3 app.db .dump >"$scratch/after"
cmp -s "$scratch/before" "$scratch/after" || fail "what was restored is not what was written: $(diff "$scratch/before" "$scratch/after" | head -n 5)"
equal "total" "$(sqlite3 app.db 'SELECT n FROM total')" 40

# While somebody works, nothing is put in their place.
dblock -d app.db -p somebody -- sleep 60 &
somebody=$!
until_true 10 held -d app.db
sed 's/-w 1m/-w 0/' restore.sh >restore-now.sh
if sh ./restore-now.sh 2>/dev/null; then fail "restore.sh did not wait"; fi
kill "$somebody"
wait "$somebody" || :
say "4 writers beside Litestream: 40 orders restored, the same to the byte"
