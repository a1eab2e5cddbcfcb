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

-- Covers the aggregates of dashboard and report, and pages without a filter.
CREATE INDEX audit_by_time ON audit (timestamp, id, event_type, severity, ip, reason);
CREATE INDEX audit_by_type ON audit (event_type, timestamp, id);
CREATE INDEX audit_by_severity ON audit (severity, timestamp, id);
CREATE INDEX audit_by_ip ON audit (ip, timestamp, id);
CREATE INDEX audit_by_user ON audit (user_id, timestamp, id) WHERE user_id IS NOT NULL;
CREATE INDEX audit_by_socket ON audit (socket_id, timestamp, id) WHERE socket_id IS NOT NULL;
