#!/bin/sh
# The part of check.sh that runs in mounts and processes of its own, beside a cron daemon.
. "$RECIPES/lib.sh"

[ "$$" = 1 ] || fail "it would change the real machine"
recipe=$PWD
dblock=$(command -v dblock)

# A machine of its own, as far as cron sees it: directories, an application in /srv/app, and a sendmail that keeps mail.
mkdir "$scratch/sbin" "$scratch/bin" "$scratch/srv" "$scratch/mail"
cp /usr/sbin/cron "$scratch/sbin/cron"
cat >"$scratch/sbin/sendmail" <<END
#!/bin/sh
cat >"$scratch/mail/new.\$\$" && mv "$scratch/mail/new.\$\$" "$scratch/mail/mail.\$\$"
END
chmod 755 "$scratch" "$scratch/sbin/sendmail"
cp "$dblock" "$scratch/bin/dblock"
mount --bind "$scratch/sbin" /usr/sbin
mount --bind "$scratch/bin" /usr/local/bin
mount --bind "$scratch/srv" /srv
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/spool/cron
mount -t tmpfs tmpfs /etc/cron.d
mkdir -m 1730 /var/spool/cron/crontabs
: >"$scratch/empty"
[ ! -e /etc/crontab ] || mount --bind "$scratch/empty" /etc/crontab

mkdir /srv/app
cp "$recipe/backup" "$recipe/sync" /srv/app
sqlite3 /srv/app/app.db 'CREATE TABLE syncs (at TEXT); CREATE TABLE import (n INTEGER)'
export DBLOCK_DB=/srv/app/app.db

# Every minute instead of at night, and the vacuum waits for two seconds instead of ten minutes. sync is
# there twice: the second one comes 8 seconds later, when nobody holds the lock any more.
sed -e 's/^[0-9*/]* [0-9*]* \* \* \*/* * * * */' -e 's/-w 10m --priority low -p vacuum/-w 2 --priority low -p vacuum/' "$recipe/crontab" >"$scratch/crontab"
sed -n 's/dblock.* -p sync/sleep 8; &/p' "$scratch/crontab" >"$scratch/later"
cat "$scratch/later" >>"$scratch/crontab"
crontab "$scratch/crontab" || fail "crontab does not accept the file"

# What a program of other make has left, and somebody who works when the minute begins.
printf '{"pid":999999,"timestamp":1000,"host":"%s","process":"crashed"}' "$(hostname)" >/srv/app/.app.lock
cron -f >"$scratch/cron" 2>&1 &
cron=$!
gone() { [ ! -e /srv/app/.app.lock ]; }
until_true 20 gone

cat >"$scratch/import.sh" <<'END'
#!/bin/sh
sqlite3 /srv/app/app.db 'INSERT INTO import VALUES (1)'
until [ -e /srv/go-on ]; do sleep 0.05; done
sqlite3 /srv/app/app.db 'INSERT INTO import VALUES (2)'
END
chmod +x "$scratch/import.sh"
dblock -p nightly-import -- "$scratch/import.sh" &
import=$!

mails() { find "$scratch/mail" -name "mail.*" | grep -c .; }
mailed() { [ "$(mails)" -ge 1 ]; }
until_true 75 mailed
equal "syncs while somebody worked" "$(sqlite3 /srv/app/app.db 'SELECT count(*) FROM syncs')" 0
waiting 1 /srv/app/app.db || fail "the backup does not wait"
[ ! -e /srv/app/backup.db ] || fail "the backup did not wait"
touch /srv/go-on
wait "$import" || fail "the import"
synced() { [ "$(sqlite3 -cmd '.timeout 5000' /srv/app/app.db 'SELECT count(*) FROM syncs')" -ge 1 ]; }
until_true 20 synced
until_true 10 test -s /srv/app/backup.db
until_true 10 dblock status -q --exit-code
kill "$cron"
wait "$cron" || :

equal "the import, as the backup has it" "$(sqlite3 /srv/app/backup.db 'SELECT group_concat(n) FROM import')" 1,2
equal "integrity" "$(sqlite3 /srv/app/backup.db 'PRAGMA integrity_check')" ok
equal "mails" "$(mails)" 1
grep -q '^To: admin' "$scratch"/mail/mail.* || fail "the mail is not for admin: $(cat "$scratch"/mail/mail.*)"
grep -q 'held by nightly-import' "$scratch"/mail/mail.* || fail "the mail does not say who it was: $(cat "$scratch"/mail/mail.*)"
say "cron: one mail, which names the holder; the backup waited, sync skipped its round; @reboot cleaned up"
