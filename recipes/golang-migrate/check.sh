#!/bin/sh
. "$RECIPES/lib.sh"
need sqlite3 sqlite3
go_tool migrate github.com/golang-migrate/migrate/v4/cmd/migrate@v4.20.1 -tags sqlite

deployments() {
	rm -f app.db*
	(
		for _ in 1 2 3 4 5; do
			./deploy.sh &
			set -- "$@" $!
		done
		failed=0
		for pid in "$@"; do wait "$pid" || failed=$((failed + 1)); done
		[ "$failed" = 0 ] || { say "$failed of 5 deployments failed"; exit 1; }
	) || return 1
	[ "$(sqlite3 app.db 'SELECT version, dirty FROM schema_migrations')" = '3|0' ] || { say "the database is dirty"; return 1; }
	[ "$(sqlite3 app.db 'SELECT count(*), sum(tax) FROM orders')" = '3|12' ] || { say "a migration ran twice"; return 1; }
}
for round in 1 2 3; do
	deployments >"$scratch/out" 2>&1 || fail "round $round: $(cat "$scratch/out")"
done
equal "integrity" "$(sqlite3 app.db 'PRAGMA integrity_check')" ok
breaks 10 deployments
say "3 x 5 deployments at once: version 3, clean, each migration once"
