#!/bin/sh
. "$RECIPES/lib.sh"
npm_install

workers() {
	rm -rf data
	./workers.sh
	rows=$(node writer.mjs) || { say "the database cannot be opened any more"; return 1; }
	[ "$rows" = 40 ] || { say "$rows rows of 40"; return 1; }
}
workers >"$scratch/out" 2>&1 || fail "4 workers at once: $(cat "$scratch/out")"
breaks 3 workers
say "4 workers at once: 40 of 40 rows"
