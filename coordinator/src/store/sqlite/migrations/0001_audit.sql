-- The audit trail. Times are milliseconds since the Unix epoch; `ip` is the family's digit and the address's bytes, so that a
-- prefix is a range; `severity` is 0 (low) to 3 (critical); `metadata` is a JSON object.
CREATE TABLE audit (
    id         TEXT    NOT NULL PRIMARY KEY,
    timestamp  INTEGER NOT NULL,
    event_type TEXT    NOT NULL,
    severity   INTEGER NOT NULL,
    ip         BLOB    NOT NULL,
    message    TEXT    NOT NULL,
    socket_id  TEXT,
    user_id    TEXT,
    event_name TEXT,
    route      TEXT,
    node       TEXT,
    reason     TEXT,
    metadata   TEXT    NOT NULL
);

-- Pages without a filter; covers the search for the busiest addresses of a time.
CREATE INDEX audit_by_time ON audit (timestamp, id, ip);
CREATE INDEX audit_by_type ON audit (event_type, timestamp, id);
CREATE INDEX audit_by_severity ON audit (severity, timestamp, id);
CREATE INDEX audit_by_ip ON audit (ip, timestamp, id);
CREATE INDEX audit_by_user ON audit (user_id, timestamp, id) WHERE user_id IS NOT NULL;
CREATE INDEX audit_by_socket ON audit (socket_id, timestamp, id) WHERE socket_id IS NOT NULL;

-- How many records each minute had, so that dashboard and report need not read them. `minute` is the time of its beginning;
-- `reason` is empty where a record has none.
CREATE TABLE audit_counts (
    minute     INTEGER NOT NULL,
    event_type TEXT    NOT NULL,
    severity   INTEGER NOT NULL,
    reason     TEXT    NOT NULL,
    count      INTEGER NOT NULL,
    PRIMARY KEY (minute, event_type, severity, reason)
) WITHOUT ROWID;
