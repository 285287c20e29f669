#!/bin/sh
sqlite3 ../data/app.db 'SELECT max(n) FROM loaded'
