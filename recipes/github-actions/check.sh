#!/bin/sh
. "$RECIPES/lib.sh"
need sqlite3 sqlite3
need shellcheck shellcheck
need bash bash
workflow=.github/workflows/database.yml
go_tool actionlint github.com/rhysd/actionlint/cmd/actionlint@v1.7.12
actionlint -shellcheck "$(command -v shellcheck)" "$workflow" || fail "actionlint"

# step NAME: what it runs, as GitHub runs it: by bash, with -e and pipefail. dblock is installed.
step() {
	awk -v name="$1" '
		/^      - / { this = ($0 == "      - name: " name) }
		this && /^        run: \|$/ { run = 1; next }
		this && sub(/^        run: /, "") { print }
		!this || /^      - / { run = 0 }
		run { print substr($0, 11) }' "$workflow" | grep -v 'go install' >"$scratch/step"
	[ -s "$scratch/step" ] || fail "there is no step $1"
	bash --noprofile --norc -eo pipefail "$scratch/step"
}
export DBLOCK_DB="$PWD/data/app.db" DBLOCK_WAIT=5m
job() {
	rm -rf data
	for name in "install dblock" migrate test; do
		(step "$name") || { say "the step $name failed"; return 1; }
	done
	[ "$(sqlite3 data/app.db 'SELECT group_concat(shard) FROM (SELECT shard FROM runs ORDER BY shard)')" = 1,2,3,4 ]
}
for round in 1 2 3; do
	job >"$scratch/job" 2>&1 || fail "round $round: $(cat "$scratch/job")"
done
step "who was in the way" >"$scratch/job" || fail "the last step"
grep -q 'shard 3' "$scratch/job" || fail "the last step does not name a shard"
breaks 20 job
say "actionlint; the steps run: 4 shards at once on one database"
