CREATE TABLE fence (name text PRIMARY KEY, token bigint NOT NULL);
INSERT INTO fence VALUES ('ledger', 0);

CREATE PROCEDURE pass(fenced text, mine bigint) LANGUAGE plpgsql AS $$
BEGIN
	UPDATE fence SET token = mine WHERE name = fenced AND token <= mine;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'token % is too old for %: somebody else has the lock by now', mine, fenced;
	END IF;
END $$;
