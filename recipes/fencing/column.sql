-- One statement: the row remembers the greatest token that has written it.
UPDATE balance SET amount = 70, token = :token WHERE name = 'a' AND token <= :token;
