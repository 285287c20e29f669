#!/bin/sh
# load.sh N: adds N to the balance, in two steps, as programs do that compute something in between.
set -e
balance=$(sqlite3 data/app.db 'SELECT balance FROM account')
sqlite3 data/app.db "UPDATE account SET balance = $((balance + $1)); INSERT INTO loaded VALUES ($1)"
