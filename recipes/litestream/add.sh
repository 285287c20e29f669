#!/bin/sh
# add.sh NAME: two transactions that belong together.
set -e
sqlite3 -cmd '.timeout 5000' app.db "INSERT INTO orders (name) VALUES ('$1')"
sqlite3 -cmd '.timeout 5000' app.db "UPDATE total SET n = n + 1"
