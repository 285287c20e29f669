#!/bin/sh
exec dblock -d dwh.duckdb -w 10m -p report --shared -- node report.mjs
