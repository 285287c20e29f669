#!/bin/sh
# Takes 1 from one account and gives it to another: two transactions, in two processes.
set -e
sqlite3 -cmd '.timeout 5000' app.db 'UPDATE account SET balance = balance - 1 WHERE name = "a"'
sqlite3 -cmd '.timeout 5000' app.db 'UPDATE account SET balance = balance + 1 WHERE name = "b"; INSERT INTO log VALUES (1)'
