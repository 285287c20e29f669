-- The key is the first 8 bytes of SHA-256 of dblock/NAME; NAME is what lock= says, or dblock.
SELECT l.pid, l.mode, a.application_name, a.client_addr, a.backend_start
FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)
WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted
	AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
	AND (l.classid::bigint << 32 | l.objid::bigint) = ('x' || left(encode(sha256('dblock/dblock'), 'hex'), 16))::bit(64)::bigint;
-- who waits
SELECT pid, application_name, backend_start FROM pg_stat_activity
WHERE datname = current_database() AND application_name LIKE 'dblock waits %' ORDER BY backend_start;
