#!/bin/sh
. "$RECIPES/lib.sh"
need sqlite3 sqlite3
need alembic alembic

# Migrations that take a while, as those of large tables do.
for file in migrations/versions/*.py; do
	sed 's/^def upgrade():/&\n    __import__("time").sleep(0.5)/' "$file" >"$scratch/migration"
	cp "$scratch/migration" "$file"
done

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
breaks 10 deployments '1 2 3 4'
say "4 deployments at once: revision 2, each migration once"
