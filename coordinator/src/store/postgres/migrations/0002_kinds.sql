-- A kind is searched together with a severity, by as many searches as there are severities where none is asked for: else a severity
-- that a kind seldom has would be looked for in all records of the kind.
--
-- In these indices the time is an expression, and searches that they serve ask for the expression: the index of the time alone, in
-- which the planner hopes to find soon what there is not of late, cannot serve them.
DROP INDEX audit_by_type;
DROP INDEX audit_by_severity;
DROP INDEX audit_by_ip;
DROP INDEX audit_by_user;
DROP INDEX audit_by_socket;
CREATE INDEX audit_by_kind ON audit (event_type, severity, (timestamp + 0));
CREATE INDEX audit_by_severity ON audit (severity, (timestamp + 0));
CREATE INDEX audit_by_ip ON audit (slice, ip, (timestamp + 0));
CREATE INDEX audit_by_user ON audit (slice, user_id, (timestamp + 0)) WHERE user_id IS NOT NULL;
CREATE INDEX audit_by_socket ON audit (slice, socket_id, (timestamp + 0)) WHERE socket_id IS NOT NULL;

-- Statistics know nothing of the slices that came since: by them each seems to hold one record, and any index as good as another. The
-- change to the type that it has forgets those that there are, and touches no row.
ALTER TABLE audit ALTER COLUMN slice TYPE BIGINT;
ALTER TABLE audit ALTER COLUMN slice SET STATISTICS 0;
-- A kind has few severities.
CREATE STATISTICS audit_kinds (mcv) ON event_type, severity FROM audit;
