#!/bin/sh
. "$RECIPES/lib.sh"
need sqlite3 sqlite3
need alembic alembic

deployments() {
	rm -f app.db*
	runs=$1
	(
		set --
		for _ in $runs; do
			./deploy.sh &
			set -- "$@" $!
		done
		failed=0
		for pid in "$@"; do wait "$pid" || failed=$((failed + 1)); done
		[ "$failed" = 0 ] || { say "$failed deployments failed"; exit 1; }
	) || return 1
	[ "$(sqlite3 app.db 'SELECT version_num FROM alembic_version')" = 2 ] || { say "not at revision 2"; return 1; }
	[ "$(sqlite3 app.db 'SELECT count(*), sum(amount) FROM orders')" = '3|6' ] || { say "a migration ran twice"; return 1; }
}
deployments "1 2 3 4" >"$scratch/out" 2>&1 || fail "four at once: $(cat "$scratch/out")"
equal "integrity" "$(sqlite3 app.db 'PRAGMA integrity_check')" ok
breaks 20 deployments '1 2 3 4 5 6 7 8'
say "4 deployments at once: revision 2, each migration once"
