-- One line: what the server is, and what is in the books.
SELECT format('ledger: PostgreSQL %s, %s rows, %s cents, digest %s',
    current_setting('server_version_num')::int / 10000, count(*), coalesce(sum(cents), 0), left(:'digest', 16))
FROM entry;
