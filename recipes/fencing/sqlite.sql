CREATE TABLE fence (name TEXT PRIMARY KEY, token INTEGER NOT NULL);
INSERT INTO fence VALUES ('ledger', 0);

CREATE TRIGGER pass BEFORE UPDATE ON fence WHEN NEW.token < OLD.token BEGIN
	SELECT RAISE(ABORT, 'the token is too old: somebody else has the lock by now');
END;
