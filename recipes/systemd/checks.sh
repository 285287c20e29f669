#!/bin/sh
. "$RECIPES/lib.sh"
export DBLOCK_DB=/var/lib/app/app.db SYSTEMD_COLORS=0

events() {
	sqlite3 -cmd '.timeout 5000' "$DBLOCK_DB" "SELECT count(*) FROM events WHERE what = '$1'"
}
has() {
	[ "$(events "$2")" -ge "$1" ]
}
as_app() {
	setpriv --reuid=4242 --regid=4242 --clear-groups --reset-env env "PATH=$PATH" "DBLOCK_DB=$DBLOCK_DB" "$@"
}
# conf UNIT LINE...: with these lines in [Service], from now on.
conf() {
	unit=$1
	shift
	mkdir -p "/run/machine/units/$unit.d"
	{ say "[Service]"; printf '%s\n' "$@"; } >"/run/machine/units/$unit.d/50-check.conf"
	systemctl daemon-reload
}
property() {
	systemctl show -P "$2" "$1"
}

until_true 20 test -S /run/systemd/private

# The server starts, behind the migration; its stop is clean, and it gets SIGTERM once.
systemctl start app-server.service || fail "app-server.service: $(tail -n 5 /run/result/log)"
until_true 20 has 1 started
equal "who holds it" "$(dblock status --json | sed -n 's/^ *"process": "\(server\)",/\1/p' | head -n 1)" server
equal "owner of the database" "$(stat -c %U "$DBLOCK_DB")" app

# A cleanup that finds it busy is no failure, and changes nothing.
conf app-cleanup.service 'Environment=DBLOCK_WAIT=1'
systemctl start app-cleanup.service || fail "a busy database is a failure"
equal "exit code" "$(property app-cleanup.service ExecMainStatus)" 75
equal "cleanups while the server has it" "$(events cleanup)" 0

# One that waits gets it when the server is stopped.
conf app-cleanup.service 'Environment=DBLOCK_WAIT=2m'
systemctl start --no-block app-cleanup.service
until_true 20 waiting 1 "$DBLOCK_DB"
systemctl stop app-server.service
equal "result of the server" "$(property app-server.service Result)" success
equal "SIGTERM" "$(events SIGTERM)" 1
equal "stopped" "$(events stopped)" 1
until_true 20 has 1 cleanup

# The timer.
mkdir -p /run/machine/units/app-cleanup.timer.d
printf '[Timer]\nOnCalendar=\nOnActiveSec=1\nAccuracySec=100ms\nRandomizedDelaySec=0\n' >/run/machine/units/app-cleanup.timer.d/50-check.conf
systemctl daemon-reload
systemctl start app-cleanup.timer
until_true 20 has 2 cleanup
systemctl stop app-cleanup.timer

# A server whose dblock is killed: the lock ends with it, and it starts again.
systemctl start app-server.service
until_true 20 has 2 started
kill -KILL "$(property app-server.service MainPID)"
until_true 30 has 3 started
systemctl stop app-server.service
until_true 5 dblock status -q --exit-code

# Hardened as it is, nothing stands in dblock's way.
conf app-cleanup.service 'ExecStart=' 'ExecStart=/usr/local/bin/dblock doctor' 'StandardOutput=truncate:/run/result/doctor' 'StandardError=inherit'
systemctl start app-cleanup.service || fail "dblock doctor in the hardened unit: $(cat /run/result/doctor)"

# Harder still: it runs when the database is free, and stays out while a program of another user holds it, of which
# only the lock file tells, and whose process it may not be allowed to see.
status() {
	systemctl reset-failed app-cleanup.service 2>/dev/null || :
	systemctl start app-cleanup.service 2>/dev/null || :
	property app-cleanup.service ExecMainStatus
}
before=$(events cleanup)
runs=0
harder() {
	conf app-cleanup.service 'Environment=DBLOCK_WAIT=0.5' "$@"
	equal "$*, free" "$(status)" 0
	runs=$((runs + 1))
	printf '{"pid":%d,"timestamp":%s,"host":"%s","process":"other"}' $$ "$(date +%s%3N)" "$(hostname)" >/var/lib/app/.app.lock
	chown app: /var/lib/app/.app.lock
	equal "$*, held by another" "$(status)" 75
	rm /var/lib/app/.app.lock
	equal "$*, cleanups" "$(events cleanup)" $((before + runs))
}
harder ProtectProc=invisible
harder ProcSubset=pid
harder PrivateUsers=yes
harder PrivateIPC=yes RemoveIPC=yes KeyringMode=private
harder PrivateNetwork=yes RestrictAddressFamilies=none
harder 'SystemCallFilter=~@resources' SystemCallErrorNumber=
harder ProtectProc=invisible ProcSubset=pid PrivateUsers=yes PrivateIPC=yes PrivateNetwork=yes 'SystemCallFilter=~@resources'

# And what it cannot do without.
conf app-cleanup.service ReadOnlyPaths=/var/lib/app
equal "exit code where it cannot write" "$(status)" 73
conf app-cleanup.service LimitAS=256M
[ "$(status)" != 0 ] || fail "dblock needs less address space than the README says"
equal "cleanups in the end" "$(events cleanup)" $((before + runs))
equal "integrity" "$(sqlite3 "$DBLOCK_DB" 'PRAGMA integrity_check')" ok
say "verified, and run by a systemd: timer, busy, stop with one SIGTERM, a killed dblock, hardening"
