#!/bin/sh
sqlite3 ../data/app.db 'SELECT min(n) FROM loaded'
