-- Records are numbered by slice as they come, so that the indices whose columns come in no order grow in few pages. What is there
-- already is the first slice. Ids are in no index but their own: where times are equal, they are sorted when they are read.
ALTER TABLE audit ADD COLUMN slice INTEGER NOT NULL DEFAULT 0;

-- `oldest` and `newest` are times: slices overlap where records came late.
CREATE TABLE audit_slices (
    slice   INTEGER NOT NULL PRIMARY KEY,
    records INTEGER NOT NULL,
    oldest  INTEGER NOT NULL,
    newest  INTEGER NOT NULL
);
INSERT INTO audit_slices SELECT 0, COUNT(*), MIN(timestamp), MAX(timestamp) FROM audit HAVING COUNT(*) > 0;

DROP INDEX audit_by_time;
DROP INDEX audit_by_type;
DROP INDEX audit_by_severity;
DROP INDEX audit_by_ip;
DROP INDEX audit_by_user;
DROP INDEX audit_by_socket;

-- Pages without a filter; covers the search for the busiest addresses of a time.
CREATE INDEX audit_by_time ON audit (timestamp, ip);
CREATE INDEX audit_by_type ON audit (event_type, timestamp);
CREATE INDEX audit_by_severity ON audit (severity, timestamp);
CREATE INDEX audit_by_ip ON audit (slice, ip, timestamp);
CREATE INDEX audit_by_user ON audit (slice, user_id, timestamp) WHERE user_id IS NOT NULL;
CREATE INDEX audit_by_socket ON audit (slice, socket_id, timestamp) WHERE socket_id IS NOT NULL;
