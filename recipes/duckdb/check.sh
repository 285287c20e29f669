#!/bin/sh
. "$RECIPES/lib.sh"
npm_install

together() {
	rm -f dwh.duckdb*
	./load.sh first || return 1
	(
		for n in 1 2 3 4; do
			./load.sh "batch $n" &
			set -- "$@" $!
			./report.sh >"report-$n" &
			set -- "$@" $!
		done
		failed=0
		for pid in "$@"; do wait "$pid" || failed=$((failed + 1)); done
		[ "$failed" = 0 ] || { say "$failed of 8 failed"; exit 1; }
	) || return 1
	[ "$(./report.sh)" = '5000 5' ] || { say "rows and batches: $(./report.sh)"; return 1; }
	# Each reader has seen whole batches.
	for n in 1 2 3 4; do
		read -r rows batches <"report-$n"
		[ "$rows" = $((batches * 1000)) ] || { say "a reader saw $rows rows of $batches batches"; return 1; }
	done
}
together >"$scratch/out" 2>&1 || fail "4 loads and 4 reports at once: $(cat "$scratch/out")"
breaks 3 together
say "4 loads and 4 reports at once: 5000 rows, nobody was turned away"
