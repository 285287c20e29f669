#!/bin/sh
# Must not run under the lock.
[ -z "${DBLOCK_HOLD_DB-}" ] || exit 1
