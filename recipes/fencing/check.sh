#!/bin/sh
. "$RECIPES/lib.sh"
need psql postgresql-client
need sqlite3 sqlite3
need setsid util-linux
need ps procps
remote dblock-remote
remote dblock-remote-etcd
postgres_server
# shellcheck disable=SC2119
etcd_server
export PGHOST="$pg_place" PGPORT="$pg_port" PGUSER=app PGDATABASE=postgres

tables="CREATE TABLE balance (name VARCHAR(9) PRIMARY KEY, amount INTEGER, token BIGINT DEFAULT 0);
	INSERT INTO balance VALUES ('a', 100, 0), ('b', 0, 0); CREATE TABLE written (who VARCHAR(9))"
pg() {
	psql -X -q -A -t -v ON_ERROR_STOP=1 "$@"
}
pg -c "$tables"
pg -f postgresql.sql
sqlite3 ledger.db "$tables"
sqlite3 ledger.db <sqlite.sql

# 1. The column of the row itself: a later token writes, an earlier one does not.
for token in 5 7 6 7; do
	pg -v token=$token -f column.sql
	sqlite3 -cmd ".parameter set :token $token" ledger.db <column.sql
done
equal "token of the row, PostgreSQL" "$(pg -c "SELECT token FROM balance WHERE name = 'a'")" 7
equal "token of the row, SQLite" "$(sqlite3 ledger.db "SELECT token FROM balance WHERE name = 'a'")" 7
pg -c "UPDATE balance SET amount = 100 WHERE name = 'a'"
sqlite3 ledger.db "UPDATE balance SET amount = 100 WHERE name = 'a'"

# 2. Tokens of a lock on this machine: who comes late writes nothing of the transaction.
for write in ./write-postgresql.sh ./write-sqlite.sh; do
	early=$(dblock -d ledger.db -- printenv DBLOCK_HOLD_TOKEN)
	dblock -d ledger.db -- "$write" one || fail "$write with a new token"
	dblock -d ledger.db -- sh -c "$write two && $write two" || fail "$write twice with one token"
	if DBLOCK_HOLD_TOKEN=$early "$write" late 2>"$scratch/late"; then fail "$write: a late one has written"; fi
	grep -q 'too old' "$scratch/late" || fail "$write did not say why: $(cat "$scratch/late")"
done
for sql in "pg -c" "sqlite3 ledger.db"; do
	equal "balance by $sql" "$($sql "SELECT amount FROM balance WHERE name = 'b'")" 30
	equal "who wrote by $sql" "$($sql "SELECT count(*) FROM written WHERE who = 'late'")" 0
done

# 3. The real thing: a lock in etcd, whose holder is stopped for longer than its lease lasts.
pg -c "DELETE FROM written; UPDATE fence SET token = 0"
until_true 30 etcdctl --endpoints "127.0.0.1:$etcd_port" get /
url=etcd://127.0.0.1:$etcd_port/ledger
cat >"$scratch/late.sh" <<'END'
#!/bin/sh
# A command that works for long before it writes.
echo $$ >slow.pid
read -r _ <slow.go
exec ./write-postgresql.sh slow
END
stopped_too_long() {
	rm -f slow.pid slow.go
	mkfifo slow.go
	pg -c "DELETE FROM written"
	XDG_STATE_HOME=$scratch/one setsid dblock -d "$url" --ttl 5s --kill-after 1s -p slow -- sh "$scratch/late.sh" 2>"$scratch/slow" &
	slow=$!
	until_true 20 test -s slow.pid
	env kill -STOP -- "-$slow"
	XDG_STATE_HOME=$scratch/two dblock -d "$url" --ttl 5s --kill-after 1s -w 30s -p quick -- ./write-postgresql.sh quick ||
		fail "nobody got the lock while its holder was stopped"
	# The command wakes up before dblock does, which would end it.
	kill -CONT "$(cat slow.pid)"
	echo >slow.go
	until_true 20 ended "$(cat slow.pid)"
	env kill -CONT -- "-$slow"
	code=0
	wait "$slow" || code=$?
	equal "exit code of the one who was stopped" "$code" 69
}
# Its parent does not look for it yet.
ended() {
	case $(ps -o stat= -p "$1") in '' | Z*) ;; *) return 1 ;; esac
}
stopped_too_long
equal "who wrote" "$(pg -c "SELECT string_agg(who, ' ') FROM written")" quick
grep -q 'too old' "$scratch/slow" || fail "the late one was not refused: $(cat "$scratch/slow")"

# Without the fence the late one writes.
sed -i '/CALL pass/d' write-postgresql.sh
stopped_too_long
equal "who wrote without the fence" "$(pg -c "SELECT string_agg(who, ' ') FROM written")" "quick slow"
say "late writers are refused by PostgreSQL and SQLite, also one that slept for longer than its lease in etcd"
