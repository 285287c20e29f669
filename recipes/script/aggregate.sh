#!/bin/sh
# Adds one to the number in the database, which is a file.
set -e
n=$(cat data/app.db)
sleep 0.02
echo $((n + 1)) >data/app.db
