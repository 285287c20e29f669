#!/bin/sh
. "$RECIPES/lib.sh"
need sqlite3 sqlite3

sqlite3 app.db >/dev/null 'PRAGMA journal_mode = wal; CREATE TABLE account (name TEXT, balance INTEGER);
	INSERT INTO account VALUES ("a", 1000), ("b", 0); CREATE TABLE log (n INTEGER)'

# Four writers, until the file "enough" is there; the backups meanwhile, each of them must add up to 1000.
beside_writers() {
	rm -f enough
	sqlite3 app.db 'UPDATE account SET balance = CASE name WHEN "a" THEN 1000 ELSE 0 END; DELETE FROM log'
	(
		for n in 1 2 3 4; do
			(while [ ! -e enough ]; do dblock -d app.db -w 1m -p "transfer $n" -- ./transfer.sh || exit 1; done) &
			set -- "$@" $!
		done
		for n in 1 2 3 4 5 6 7 8 9 10; do
			./backup.sh "backup-$n.db" || { touch enough; wait; exit 1; }
		done
		touch enough
		wait_all "$@"
	) || return 1
	for n in 1 2 3 4 5 6 7 8 9 10; do
		sum=$(sqlite3 "backup-$n.db" 'SELECT sum(balance) FROM account')
		[ "$sum" = 1000 ] || { say "backup $n adds up to $sum, not to 1000"; return 1; }
		[ "$(sqlite3 "backup-$n.db" 'SELECT (SELECT balance FROM account WHERE name = "b") = count(*) FROM log')" = 1 ] ||
			{ say "backup $n has another number of transfers than it has moved"; return 1; }
	done
}
beside_writers || fail "ten backups beside four writers"
transfers=$(sqlite3 backup-10.db 'SELECT count(*) FROM log')
[ "$transfers" -ge 5 ] || fail "only $transfers transfers until the last backup: the writers did not get in"
equal "integrity" "$(sqlite3 app.db 'PRAGMA integrity_check')" ok
breaks 5 beside_writers
say "10 backups beside 4 writers, $transfers transfers: each whole and in balance"
