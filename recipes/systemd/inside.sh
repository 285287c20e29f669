#!/bin/sh
# The part of check.sh that runs in mounts and processes of its own: makes a small machine, whose init is systemd.
# The service check.service then runs checks.sh, which asks that systemd for things.
set -e
[ "$$" = 1 ] || exit 64 # it would change the real machine
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/log
# The mounts below are of one small tree, so that the real directories need not have them.
machine=/run/machine
mkdir -p $machine/srv/app $machine/bin $machine/units /run/result
cp server migrate cleanup $machine/srv/app
cp "$(command -v dblock)" $machine/bin/dblock
chmod -R a+rX $machine
mount --bind $machine/srv /srv
mount --bind $machine/bin /usr/local/bin
{ grep -v '^app:' /etc/passwd; echo 'app:x:4242:4242::/nonexistent:/usr/sbin/nologin'; } >/run/passwd
{ grep -v '^app:' /etc/group; echo 'app:x:4242:'; } >/run/group
mount --bind /run/passwd /etc/passwd
mount --bind /run/group /etc/group
mount -t tmpfs tmpfs /var/lib

# Only what these units need, and nothing of the real machine's.
cp -R app-* $machine/units
for target in sysinit basic shutdown timers multi-user time-set time-sync; do
	printf '[Unit]\nDefaultDependencies=no\n' >$machine/units/$target.target
done
cp "$PWD/checks.sh" /run/checks.sh
cat >$machine/units/check.service <<END
[Unit]
DefaultDependencies=no
# So that systemd does not forget how they ended.
After=app-server.service app-cleanup.service
[Service]
Type=oneshot
Environment="RECIPES=$RECIPES" "PATH=$PATH" "TMPDIR=/run"
ExecStart=/bin/sh -c 'cd /run && sh ./checks.sh >/run/result/output 2>&1; echo \$\$? >/run/result/code.new; mv /run/result/code.new /run/result/code'
END
printf '[Unit]\nDefaultDependencies=no\nWants=check.service\n' >$machine/units/check.target
mount --bind "$1" /run/result
: >/run/result/log
[ ! -e /dev/kmsg ] || mount --bind /run/result/log /dev/kmsg
umount -R /sys/fs/cgroup 2>/dev/null || :
mount -t cgroup2 cgroup2 /sys/fs/cgroup
exec env container=other SYSTEMD_UNIT_PATH=$machine/units /lib/systemd/systemd --system --unit=check.target --log-target=kmsg --log-level=info
