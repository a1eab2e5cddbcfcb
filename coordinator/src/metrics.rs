//! Every instrument of this crate. Label values come from enums, never from clients.

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Gauge, Meter};
use picket_shared::telemetry::Metrics;

use crate::alarms::{AlarmState, Kind, Outcome};
use crate::store::Cause;

#[derive(Clone)]
pub(crate) struct Instruments {
    pub(crate) records_stored: Counter<u64>,
    pub(crate) records_repeated: Counter<u64>,
    pub(crate) records_not_stored: Counter<u64>,
    records_deleted: Counter<u64>,
    pub(crate) store_failures: Counter<u64>,
    pub(crate) audit_lag: Gauge<u64>,
    pub(crate) addresses_scored: Gauge<u64>,
    pub(crate) automatic_blocks: Counter<u64>,
    alarms: Counter<u64>,
    notifications: Counter<u64>,
    logins: Counter<u64>,
    requests: Counter<u64>,
}

/// how an attempt to log in ended
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LoginOutcome {
    Accepted,
    Refused,
    Slowed,
}

impl LoginOutcome {
    const ALL: [LoginOutcome; 3] = [LoginOutcome::Accepted, LoginOutcome::Refused, LoginOutcome::Slowed];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            LoginOutcome::Accepted => "accepted",
            LoginOutcome::Refused => "refused",
            LoginOutcome::Slowed => "slowed",
        }
    }
}

impl Instruments {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let instruments = Self::of(&metrics.meter("picket-coordinator"));
        instruments.begin_at_zero();
        instruments
    }

    /// A series that appears with its first event has not increased for who reads it: what is rare is there from the start
    fn begin_at_zero(&self) {
        for counter in [&self.records_repeated, &self.records_not_stored, &self.store_failures, &self.automatic_blocks]
        {
            counter.add(0, &[]);
        }
        for cause in Cause::ALL {
            self.count_deleted(cause, 0);
        }
        for outcome in LoginOutcome::ALL {
            self.logins.add(0, &[KeyValue::new("outcome", outcome.as_str())]);
        }
        for outcome in Outcome::ALL {
            self.count_notifications(outcome, 0);
        }
        for (kind, state) in Kind::with_states() {
            self.count_alarms(kind, state, 0);
        }
    }

    fn of(meter: &Meter) -> Self {
        let counter =
            |name, description, unit| meter.u64_counter(name).with_description(description).with_unit(unit).build();
        let gauge =
            |name, description, unit| meter.u64_gauge(name).with_description(description).with_unit(unit).build();
        Instruments {
            records_stored: counter("picket.audit.records_stored", "audit records written to the store", "{record}"),
            records_repeated: counter(
                "picket.audit.records_repeated",
                "audit records that were delivered again and already stored",
                "{record}",
            ),
            records_not_stored: counter(
                "picket.audit.records_not_stored",
                "low-severity audit records not stored because audit logging is off",
                "{record}",
            ),
            records_deleted: counter(
                "picket.audit.records_deleted",
                "audit records deleted by retention, by the bound that they were beyond",
                "{record}",
            ),
            store_failures: counter(
                "picket.audit.store_failures",
                "batches that could not be stored at once",
                "{batch}",
            ),
            audit_lag: gauge("picket.audit.lag", "audit records waiting to be stored", "{record}"),
            addresses_scored: gauge(
                "picket.coordinator.addresses_scored",
                "addresses that have a reputation score",
                "{address}",
            ),
            automatic_blocks: counter(
                "picket.coordinator.automatic_blocks",
                "addresses blocked because of their score",
                "{block}",
            ),
            alarms: counter("picket.alarms", "alarms, by kind, raised, resolved or noticed", "{alarm}"),
            notifications: counter(
                "picket.alarms.notifications",
                "alarms to receivers, by outcome: delivered, retried, given up, or dropped from a full queue or with their receiver",
                "{notification}",
            ),
            logins: counter(
                "picket.coordinator.logins",
                "attempts to log in to the management API, by outcome",
                "{login}",
            ),
            requests: counter(
                "picket.coordinator.requests",
                "requests to the management API, by class of status",
                "{request}",
            ),
        }
    }

    pub(crate) fn count_deleted(&self, cause: Cause, records: u64) {
        self.records_deleted.add(records, &[KeyValue::new("cause", cause.as_str())]);
    }

    pub(crate) fn count_alarms(&self, kind: Kind, state: AlarmState, alarms: u64) {
        self.alarms.add(alarms, &[KeyValue::new("kind", kind.as_str()), KeyValue::new("state", state.as_str())]);
    }

    pub(crate) fn count_notifications(&self, outcome: Outcome, notifications: u64) {
        self.notifications.add(notifications, &[KeyValue::new("outcome", outcome.as_str())]);
    }

    pub(crate) fn count_login(&self, outcome: LoginOutcome) {
        self.logins.add(1, &[KeyValue::new("outcome", outcome.as_str())]);
    }

    pub(crate) fn count_request(&self, status: http::StatusCode) {
        let class = match status.as_u16() {
            0..300 => "success",
            300..400 => "redirect",
            400..500 => "client_error",
            _ => "server_error",
        };
        self.requests.add(1, &[KeyValue::new("status", class)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use picket_shared::telemetry::catalogue::Catalogue;
    use std::path::Path;

    #[test]
    fn metrics_are_documented() {
        let catalogue = Catalogue::default();
        Instruments::of(&catalogue.meter());

        let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/telemetry.md");
        assert!(catalogue.is_in(&document, "a coordinator"), "docs/telemetry.md is stale");
        let sources = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src"));
        assert_eq!(catalogue.misses(sources), Vec::<String>::new(), "instruments that this test does not make");
    }
}
