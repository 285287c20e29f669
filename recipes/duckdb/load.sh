#!/bin/sh
exec dblock -d dwh.duckdb -w 10m -p load -- node load.mjs "$1"
