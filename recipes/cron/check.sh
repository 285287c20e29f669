#!/bin/sh
. "$RECIPES/lib.sh"
need crontab cron
need sqlite3 sqlite3
need unshare util-linux
as_root
unshare --mount --pid --fork --kill-child --mount-proc sh ./inside.sh
