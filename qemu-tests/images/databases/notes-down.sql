-- From schema 2 to 1. Which notes were pinned is lost.
BEGIN EXCLUSIVE;
ALTER TABLE note RENAME TO new_note;
CREATE TABLE note (id INTEGER PRIMARY KEY AUTOINCREMENT, author TEXT NOT NULL, text TEXT NOT NULL);
INSERT INTO note (id, author, text)
    SELECT new_note.id, author.name, new_note.text FROM new_note JOIN author ON author.id = new_note.author;
DROP TABLE new_note;
DROP TABLE author;
PRAGMA user_version = 1;
COMMIT;
