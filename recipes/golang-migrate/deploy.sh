#!/bin/sh
# Brings the database to the newest version. Any number of these may start at once.
exec dblock -d app.db -w 5m -p migration --priority high -- \
	migrate -path migrations -database sqlite://app.db up
