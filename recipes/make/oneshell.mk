# All lines of a recipe under one lock: with .ONESHELL they are one script, and dblock is its shell.
.ONESHELL:

export DBLOCK_DB   := $(CURDIR)/data/app.db
export DBLOCK_WAIT := 10m

again-%: private SHELL := dblock
again-%: private .SHELLFLAGS := -p make -- /bin/sh -ec
again-%:
	balance=$$(sqlite3 data/app.db 'SELECT balance FROM account')
	sqlite3 data/app.db "UPDATE account SET balance = $$((balance + $*))"
