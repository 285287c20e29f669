#!/bin/sh
# write-postgresql.sh NAME: transfers 10, in one transaction that a newer holder of the lock has not overtaken.
exec psql -X -q -v ON_ERROR_STOP=1 -v token="$DBLOCK_HOLD_TOKEN" -v who="$1" <<'END'
BEGIN;
CALL pass('ledger', :token);
UPDATE balance SET amount = amount - 10 WHERE name = 'a';
UPDATE balance SET amount = amount + 10 WHERE name = 'b';
INSERT INTO written VALUES (:'who');
COMMIT;
END
