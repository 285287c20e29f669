#!/bin/sh
. "$RECIPES/lib.sh"
need node nodejs
need npm npm

rows() {
	node -p "JSON.parse(require('fs').readFileSync('data/app.json', 'utf8')).rows.length"
}

npm run --silent db:reset || fail "db:reset"
equal "rows after db:reset" "$(rows)" 1

seeds() {
	before=$(rows)
	(
		for _ in 1 2 3; do
			DBLOCK_WAIT=1m npm run --silent db:seed &
			set -- "$@" $!
		done
		wait_all "$@"
	) || return 1
	[ "$(rows)" = $((before + 3)) ] || { say "$(($(rows) - before)) rows of 3"; return 1; }
}
seeds || fail "three times db:seed at once: $(rows) rows"

# Two resets at once: the inner scripts of one run under its lock, and the other comes before or behind them all.
npm run --silent db:reset &
one=$!
npm run --silent db:reset || fail "db:reset beside another"
wait "$one" || fail "db:reset beside another"
equal "rows after two resets at once" "$(rows)" 1
breaks 5 seeds
say "3 seeds at once: no lost row; 2 resets at once: one after the other"
