#!/bin/sh
mkdir -p data
for worker in 1 2 3 4; do
	dblock -d data/pg -w 2m -p "worker $worker" -- node writer.mjs "$worker" &
done
wait
