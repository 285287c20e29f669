#!/bin/sh
. "$RECIPES/lib.sh"
need make make
need sqlite3 sqlite3

balance() {
	sqlite3 data/app.db 'SELECT balance FROM account'
}

build() {
	rm -rf data report.txt totals/*.txt
	make -j8 >"$scratch/make" 2>&1 || { tail -n 1 "$scratch/make"; return 1; }
	[ "$(balance)" = 36 ] || { say "balance $(balance) of 36"; return 1; }
}

for round in 1 2 3; do
	build || fail "round $round of make -j8: $(cat "$scratch/make")"
	equal "report" "$(cat report.txt)" 36
	equal "totals" "$(cat totals/largest.txt totals/smallest.txt | xargs)" "8 1"
	equal "integrity" "$(sqlite3 data/app.db 'PRAGMA integrity_check')" ok
done
! grep -i jobserver "$scratch/make" || fail "the job server does not reach the inner make"
breaks 20 build

build || fail "make -j8 after that"
(
	for _ in 1 2 3 4 5 6; do
		make -s -f oneshell.mk again-100 &
		set -- "$@" $!
	done
	wait_all "$@"
)
equal "balance after .ONESHELL" "$(balance)" 636
again() {
	sqlite3 data/app.db 'UPDATE account SET balance = 0'
	(
		for _ in 1 2 3 4 5 6; do
			make -s -f oneshell.mk again-100 &
		done
		wait
	)
	[ "$(balance)" = 600 ] || { say "balance $(balance) of 600 under .ONESHELL"; return 1; }
}
breaks 20 again

# Giving up leaves the old report as it is, and make fails.
dblock -d data/app.db -p somebody -- sleep 60 &
somebody=$!
until_true 10 held -d data/app.db
touch report.txt
if DBLOCK_WAIT=0 make -s report.txt 'DBLOCK_WAIT=0' >"$scratch/make" 2>&1; then fail "make succeeded while the database was held"; fi
grep -q 'held by somebody' "$scratch/make" || fail "nobody says who was in the way"
equal "report after giving up" "$(cat report.txt)" 36
kill "$somebody"
wait "$somebody" || :
say "3 x make -j8, recursive, .ONESHELL: no lost update"
