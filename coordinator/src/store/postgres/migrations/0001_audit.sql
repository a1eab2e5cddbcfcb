-- The audit trail. Times are milliseconds since the Unix epoch; `ip` is the family's digit and the address's bytes, so that a
-- prefix is a range, and empty where it was erased; `severity` is 0 (low) to 3 (critical); `metadata` is the text of a JSON object,
-- kept as it is because it is hashed. Records are numbered by slice as they come, so that the indices whose columns come in no
-- order grow in few pages.
CREATE TABLE audit (
    id         TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    timestamp  BIGINT NOT NULL,
    event_type TEXT   NOT NULL,
    severity   BIGINT NOT NULL,
    ip         BYTEA  NOT NULL,
    message    TEXT   NOT NULL,
    socket_id  TEXT,
    user_id    TEXT,
    event_name TEXT,
    route      TEXT,
    node       TEXT,
    reason     TEXT,
    metadata   TEXT   NOT NULL,
    slice      BIGINT NOT NULL,
    writer     BIGINT NOT NULL,
    seq        BIGINT NOT NULL,
    salt       BYTEA,
    commitment BYTEA,
    hash       BYTEA  NOT NULL,
    bytes      BIGINT NOT NULL
);

-- Pages without a filter; covers the search for the busiest addresses of a time.
CREATE INDEX audit_by_time ON audit (timestamp, ip);
CREATE INDEX audit_by_type ON audit (event_type, timestamp);
CREATE INDEX audit_by_severity ON audit (severity, timestamp);
CREATE INDEX audit_by_ip ON audit (slice, ip, timestamp);
CREATE INDEX audit_by_user ON audit (slice, user_id, timestamp) WHERE user_id IS NOT NULL;
CREATE INDEX audit_by_socket ON audit (slice, socket_id, timestamp) WHERE socket_id IS NOT NULL;
CREATE UNIQUE INDEX audit_by_seq ON audit (writer, seq);

-- `oldest` and `newest` are times: slices overlap where records came late.
CREATE TABLE audit_slices (
    slice   BIGINT NOT NULL PRIMARY KEY,
    records BIGINT NOT NULL,
    oldest  BIGINT NOT NULL,
    newest  BIGINT NOT NULL,
    bytes   BIGINT NOT NULL
);

-- How many records each minute had. `minute` is the time of its beginning; `reason` is empty where a record has none.
CREATE TABLE audit_counts (
    minute     BIGINT NOT NULL,
    event_type TEXT   NOT NULL,
    severity   BIGINT NOT NULL,
    reason     TEXT   NOT NULL,
    count      BIGINT NOT NULL,
    PRIMARY KEY (minute, event_type, severity, reason)
);

-- Each process that writes begins a chain (docs/evidence.md). `seq` and `hash` are those of the newest record.
CREATE TABLE audit_writers (
    number BIGINT NOT NULL PRIMARY KEY,
    name   TEXT   NOT NULL UNIQUE,
    began  BIGINT NOT NULL,
    seq    BIGINT NOT NULL,
    hash   BYTEA  NOT NULL
);

-- Runs of records that retention deleted, with the hash of the last, so that what follows can be verified.
CREATE TABLE audit_gaps (
    writer BIGINT NOT NULL,
    first  BIGINT NOT NULL,
    last   BIGINT NOT NULL,
    hash   BYTEA  NOT NULL,
    PRIMARY KEY (writer, first)
);

CREATE TABLE audit_checkpoints (
    writer    BIGINT NOT NULL,
    seq       BIGINT NOT NULL,
    hash      BYTEA  NOT NULL,
    timestamp BIGINT NOT NULL,
    PRIMARY KEY (writer, seq)
);

-- How many records no chain holds, and the key under which erased people are told apart.
CREATE TABLE audit_facts (
    unchained   BIGINT NOT NULL,
    subject_key BYTEA  NOT NULL
);
INSERT INTO audit_facts VALUES (0, decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex'));
