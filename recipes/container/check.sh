#!/bin/sh
. "$RECIPES/lib.sh"
need sqlite3 sqlite3
need unshare util-linux
need tini tini
as_root

PATH=$PWD:$PATH
export DBLOCK_DB="$PWD/data/app.db" DBLOCK_WAIT=1m
mkdir data

# container COMMAND...: processes and host name of its own, and the command is PID 1; the files are shared, as with a mounted volume.
container() {
	# shellcheck disable=SC2016
	exec unshare --pid --uts --ipc --fork --kill-child --mount-proc sh -c 'hostname "box-$$-$(od -An -N3 -tx1 /dev/urandom | tr -d " ")"; exec "$@"' sh "$@"
}
visits() {
	sqlite3 -cmd '.timeout 5000' "$DBLOCK_DB" "SELECT count(*) FROM visits WHERE who = '$1'" 2>/dev/null
}
some_visits() {
	[ "$(visits server)" -ge 5 ]
}
# The process that is PID 1 inside.
first() {
	pgrep -P "$1"
}
stop() {
	kill -TERM "$(first "$1")"
	wait "$1"
}

# 1. Two containers and the host write; with tini, SIGTERM lets the server finish.
(container tini -- entrypoint.sh server.sh) &
one=$!
(container tini -- entrypoint.sh server.sh) &
two=$!
until_true 30 some_visits
for _ in 1 2 3 4 5; do
	dblock -p host -- sqlite3 -cmd ".timeout 5000" "$DBLOCK_DB" "INSERT INTO visits VALUES ('host')" || fail "the host did not get in"
done
stop "$one" || fail "the first container ended with $?"
stop "$two" || fail "the second container ended with $?"
equal "said bye" "$(visits bye)" 2
equal "the host's" "$(visits host)" 5

# 2. dblock itself as PID 1: it passes SIGTERM on, and the exit code of the command is the container's.
(container dblock -- sh -c 'trap "exit 3" TERM; echo up >up; while :; do sleep 0.1; done') &
one=$!
until_true 20 test -e up
code=0
stop "$one" || code=$?
equal "exit code with dblock as PID 1" "$code" 3
until_true 5 dblock status -q --exit-code

# 3. Killed from outside with all that is in it: the lock is free at once, nothing has to be removed by hand.
(container dblock -p doomed -- sleep 60) &
one=$!
until_true 20 held
kill -KILL "$(first "$one")"
wait "$one" || :
dblock -w 5s -- sqlite3 "$DBLOCK_DB" "INSERT INTO visits VALUES ('after')" || fail "the lock of a killed container was not taken over"

# 4. A container and the host exclude each other: a number that both read and write.
sqlite3 "$DBLOCK_DB" 'CREATE TABLE counter (n INTEGER); INSERT INTO counter VALUES (0)'
cat >count.sh <<'END'
#!/bin/sh
for i in 1 2 3 4 5 6 7 8 9 10; do
	dblock -c 'n=$(sqlite3 "$DBLOCK_DB" "SELECT n FROM counter"); sqlite3 "$DBLOCK_DB" "UPDATE counter SET n = $((n + 1))"' || exit 1
done
END
chmod +x count.sh
together() {
	sqlite3 "$DBLOCK_DB" 'UPDATE counter SET n = 0'
	(container sh ./count.sh) &
	one=$!
	./count.sh || { wait "$one" || :; say "the host failed"; return 1; }
	wait "$one" || { say "the container failed"; return 1; }
	[ "$(sqlite3 "$DBLOCK_DB" 'SELECT n FROM counter')" = 20 ] || { say "counted to $(sqlite3 "$DBLOCK_DB" 'SELECT n FROM counter') of 20"; return 1; }
}
together || fail "a container and the host"
breaks 5 together
equal "integrity" "$(sqlite3 "$DBLOCK_DB" 'PRAGMA integrity_check')" ok
say "PID 1 with and without tini, SIGTERM, SIGKILL; containers and host exclude each other"
