#!/bin/sh
. "$RECIPES/lib.sh"
need sqlite3 sqlite3
npm_install
migrate='npm run --silent migrate'

deployments() {
	rm -f app.db*
	runs=$1
	(
		set --
		for _ in $runs; do
			$migrate &
			set -- "$@" $!
		done
		failed=0
		for pid in "$@"; do wait "$pid" || failed=$((failed + 1)); done
		[ "$failed" = 0 ] || { say "$failed migrations failed"; exit 1; }
	) || return 1
	[ "$(sqlite3 app.db 'SELECT count(*) FROM __drizzle_migrations')" = 2 ] || { say "a migration was recorded twice"; return 1; }
	[ "$(sqlite3 app.db 'SELECT count(*), sum(amount) FROM orders')" = '3|6' ] || { say "a migration ran twice"; return 1; }
}
deployments "1 2 3 4" >"$scratch/out" 2>&1 || fail "four at once: $(cat "$scratch/out")"
equal "integrity" "$(sqlite3 app.db 'PRAGMA integrity_check')" ok

# Node's start takes longer than the migrations: all of them wait until four have started.
cat >together.mjs <<'END'
import { readdirSync, writeFileSync } from 'node:fs';
import 'drizzle-orm/libsql';
import 'drizzle-orm/libsql/migrator';

writeFileSync(`app.db.started.${process.pid}`, '');
while (readdirSync('.').filter((name) => name.startsWith('app.db.started.')).length < 4);
END
migrate='node --import ./together.mjs migrate.mjs'
breaks 10 deployments '1 2 3 4'
say "4 migrations at once: each step once, nobody failed"
