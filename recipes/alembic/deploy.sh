#!/bin/sh
# Brings the database to the newest revision. Any number of these may start at once.
exec dblock -d app.db -w 5m -p migration --priority high -- alembic upgrade head
