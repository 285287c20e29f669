#!/bin/sh
. "$RECIPES/lib.sh"
need bash bash

mkdir data
together() {
	echo 0 >data/app.db
	(
		for _ in 1 2 3 4; do
			./nightly.sh &
			set -- "$@" $!
		done
		for _ in 1 2 3 4; do
			./deploy.sh &
			set -- "$@" $!
		done
		wait_all "$@"
	) || return 1
	[ "$(cat data/app.db)" = 12 ] || { say "counted to $(cat data/app.db), not to 12"; return 1; }
}
together || fail "4 times nightly.sh and deploy.sh at once: $(cat data/app.db) of 12"

for _ in 1 2 3 4; do
	./import.sh &
	set -- "$@" $!
done
wait_all "$@"
equal "with import.sh" "$(cat data/app.db)" 20
equal "notices" "$(grep -c . notified)" 4

dblock -d data/app.db -p somebody -- sleep 60 &
somebody=$!
until_true 10 held -d data/app.db
if PATIENCE=0 ./deploy.sh 2>"$scratch/busy"; then fail "deploy.sh succeeded while the database was held"; fi
grep -q 'nothing was changed' "$scratch/busy" || fail "deploy.sh did not say why: $(cat "$scratch/busy")"
./who.sh >"$scratch/who" || fail "who.sh"
grep -q 'Process: somebody' "$scratch/who" || fail "who.sh does not name the holder"
kill "$somebody"
wait "$somebody" || :

# A lock that is lost while it is held is said: nobody is notified of an import in doubt.
cat >aggregate.sh <<'END'
#!/bin/sh
printf '{"pid":1,"timestamp":%s000,"host":"elsewhere","process":"thief"}' "$(date +%s)" >data/.stolen
mv data/.stolen data/.app.lock
END
rm notified
if ./import.sh 2>"$scratch/lost"; then fail "import.sh succeeded although its lock was lost"; fi
[ ! -e notified ] || fail "it was notified although the lock was lost"
rm -f data/.app.lock
cp "$RECIPES/script/aggregate.sh" .
breaks 5 together
say "12 nightly, deploying and importing scripts: none lost; busy and lost locks are told"
