-- Each process that writes begins a chain: its records are numbered, and each holds the hash of all before it (docs/evidence.md). What
-- is there already belongs to no chain. `salt` hides what a record says of a person; when that is erased the salt goes too, and
-- `commitment` stands for it. `bytes` is the size of the contents.
ALTER TABLE audit ADD COLUMN writer INTEGER;
ALTER TABLE audit ADD COLUMN seq INTEGER;
ALTER TABLE audit ADD COLUMN salt BLOB;
ALTER TABLE audit ADD COLUMN commitment BLOB;
ALTER TABLE audit ADD COLUMN hash BLOB;
ALTER TABLE audit ADD COLUMN bytes INTEGER NOT NULL DEFAULT 500;
CREATE UNIQUE INDEX audit_by_seq ON audit (writer, seq) WHERE writer IS NOT NULL;

ALTER TABLE audit_slices ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
UPDATE audit_slices SET bytes = records * 500;

-- `seq` and `hash` are those of the newest record.
CREATE TABLE audit_writers (
    number INTEGER NOT NULL PRIMARY KEY,
    name   TEXT    NOT NULL UNIQUE,
    began  INTEGER NOT NULL,
    seq    INTEGER NOT NULL,
    hash   BLOB    NOT NULL
);

-- Runs of records that retention deleted, with the hash of the last, so that what follows can be verified.
CREATE TABLE audit_gaps (
    writer INTEGER NOT NULL,
    first  INTEGER NOT NULL,
    last   INTEGER NOT NULL,
    hash   BLOB    NOT NULL,
    PRIMARY KEY (writer, first)
) WITHOUT ROWID;

CREATE TABLE audit_checkpoints (
    writer    INTEGER NOT NULL,
    seq       INTEGER NOT NULL,
    hash      BLOB    NOT NULL,
    timestamp INTEGER NOT NULL,
    PRIMARY KEY (writer, seq)
) WITHOUT ROWID;

-- How many records no chain holds, and the key under which erased people are told apart.
CREATE TABLE audit_facts (
    unchained   INTEGER NOT NULL,
    subject_key BLOB    NOT NULL
);
INSERT INTO audit_facts SELECT COUNT(*), randomblob(32) FROM audit;
