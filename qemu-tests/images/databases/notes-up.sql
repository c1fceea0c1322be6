-- From schema 1 to 2: authors get a table of their own, a note can be pinned, and none is empty.
BEGIN EXCLUSIVE;
ALTER TABLE note RENAME TO old_note;
CREATE TABLE author (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE note (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    author INTEGER NOT NULL REFERENCES author,
    text TEXT NOT NULL CHECK (text <> ''),
    pinned INTEGER NOT NULL DEFAULT 0 CHECK (pinned IN (0, 1))
);
INSERT INTO author (name) SELECT DISTINCT author FROM old_note ORDER BY author;
INSERT INTO note (id, author, text)
    SELECT old_note.id, author.id, old_note.text FROM old_note JOIN author ON author.name = old_note.author;
DROP TABLE old_note;
PRAGMA user_version = 2;
COMMIT;
