-- A kind is searched together with a severity, by as many searches as there are severities where none is asked for: else a severity
-- that a kind seldom has would be looked for in all records of the kind.
DROP INDEX audit_by_type;
CREATE INDEX audit_by_kind ON audit (event_type, severity, timestamp);
