#!/bin/sh
. "$RECIPES/lib.sh"
need systemd-analyze systemd
need sqlite3 sqlite3
need unshare util-linux
as_root

# The programs must be there for systemd-analyze.
# shellcheck disable=SC2016
unshare --mount sh -ec '
	mount -t tmpfs tmpfs /srv && mkdir /srv/app && cp server migrate cleanup /srv/app
	mkdir /srv/bin && cp "$(command -v dblock)" /srv/bin && mount --bind /srv/bin /usr/local/bin
	SYSTEMD_UNIT_PATH="$PWD:" systemd-analyze verify --man=no ./app-cleanup.service ./app-cleanup.timer ./app-server.service
' >"$scratch/verify" 2>&1 || fail "systemd-analyze verify: $(cat "$scratch/verify")"
! grep -F app- "$scratch/verify" || fail "systemd-analyze verify has something to say"

# A systemd of our own needs a cgroup of our own.
cgroups=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
mine=$cgroups/dblock-recipe-$$
if [ -z "$cgroups" ] || ! mkdir "$mine" 2>/dev/null; then
	say "systemd-analyze verify; not run, because no cgroup can be made here"
	exit 0
fi
mkdir "$scratch/result"
(
	sh -c 'echo $$ >"$1/cgroup.procs"; shift; exec "$@"' sh "$mine" \
		timeout -s KILL 100 unshare --mount --pid --ipc --uts --cgroup --fork --kill-child --mount-proc sh ./inside.sh "$scratch/result"
) >"$scratch/inside" 2>&1 &
machine=$!
ended() {
	[ -e "$scratch/result/code" ] || ! kill -0 "$machine"
}
until_true 100 ended
# The init goes with unshare, and everything else with the init.
for unshare in $(pgrep -P "$machine"); do kill -KILL "$(pgrep -P "$unshare")" "$unshare" || :; done
wait "$machine" 2>/dev/null || :
code=$(cat "$scratch/result/code" 2>/dev/null) || code=none
cat "$scratch/inside"
[ "$code" = 0 ] || cat "$scratch/result/output" "$scratch/result/log"
no_cgroup() {
	find "$mine" -depth -type d -exec rmdir {} \; || :
	[ ! -e "$mine" ]
}
until_true 10 no_cgroup
[ "$code" = 0 ] || fail "in the machine: $code"
cat "$scratch/result/output"
