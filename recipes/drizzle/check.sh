#!/bin/sh
. "$RECIPES/lib.sh"
need sqlite3 sqlite3
npm_install

deployments() {
	rm -f app.db*
	(
		for n in 1 2 3 4; do
			npm run --silent migrate &
			set -- "$@" $!
		done
		failed=0
		for pid in "$@"; do wait "$pid" || failed=$((failed + 1)); done
		[ "$failed" = 0 ] || { say "$failed of 4 migrations failed"; exit 1; }
	) || return 1
	[ "$(sqlite3 app.db 'SELECT count(*) FROM __drizzle_migrations')" = 2 ] || { say "a migration was recorded twice"; return 1; }
	[ "$(sqlite3 app.db 'SELECT count(*), sum(amount) FROM orders')" = '3|6' ] || { say "a migration ran twice"; return 1; }
}
deployments >"$scratch/out" 2>&1 || fail "four at once: $(cat "$scratch/out")"
equal "integrity" "$(sqlite3 app.db 'PRAGMA integrity_check')" ok
breaks 5 deployments
say "4 migrations at once: each step once, nobody failed"
