#!/bin/sh
# write-sqlite.sh NAME: the same.
exec sqlite3 -bail -cmd '.timeout 5000' -cmd ".parameter set :token $DBLOCK_HOLD_TOKEN" -cmd ".parameter set :who $1" ledger.db <<'END'
BEGIN IMMEDIATE;
UPDATE fence SET token = :token WHERE name = 'ledger';
UPDATE balance SET amount = amount - 10 WHERE name = 'a';
UPDATE balance SET amount = amount + 10 WHERE name = 'b';
INSERT INTO written VALUES (:who);
COMMIT;
END
