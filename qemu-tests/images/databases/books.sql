-- What the books are made of: more than a table, so that a conversion has something to carry over.
CREATE ROLE reader NOLOGIN;
CREATE ROLE auditor LOGIN;
GRANT reader TO auditor;
CREATE TABLE entry (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account text NOT NULL,
    cents bigint NOT NULL CHECK (cents <> 0),
    details jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX entry_account ON entry (account);
CREATE VIEW balance AS SELECT account, sum(cents) AS cents FROM entry GROUP BY account;
GRANT SELECT ON entry, balance TO reader;
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'what is in the books stays there';
END
$$;
CREATE TRIGGER stays BEFORE UPDATE OR DELETE ON entry FOR EACH ROW EXECUTE FUNCTION refuse();
