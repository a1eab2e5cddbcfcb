//! Which trace led to a counter's last increase: one for each series, from a table that is made at the start and never grows.

use opentelemetry::trace::{SpanId, TraceId};
use parking_lot::Mutex;
use prometheus::proto::LabelPair;
use std::collections::HashMap;
use std::time::SystemTime;

/// a span that was taken for export
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recorded {
    pub trace_id: TraceId,
    pub span_id: SpanId,
    pub at: SystemTime,
}

/// the latest exemplar of each series of one counter
#[derive(Debug, Default)]
pub struct Exemplars {
    counter: &'static str,
    labels: [&'static str; LABELS],
    series: HashMap<[&'static str; LABELS], Mutex<Option<Recorded>>>,
}

/// so many labels tell series apart
const LABELS: usize = 3;

impl Exemplars {
    /// `counter` and `labels` are named as Prometheus sees them
    pub fn of(
        counter: &'static str,
        labels: [&'static str; LABELS],
        series: impl IntoIterator<Item = [&'static str; LABELS]>,
    ) -> Self {
        let series = series.into_iter().map(|values| (values, Mutex::default())).collect();
        Exemplars { counter, labels, series }
    }

    /// Keeps it for the series of these values. Nobody waits: who comes while another one writes leaves it at that.
    pub fn note(&self, values: [&'static str; LABELS], recorded: Recorded) {
        if let Some(mut latest) = self.series.get(&values).and_then(Mutex::try_lock) {
            *latest = Some(recorded);
        }
    }

    pub(super) fn latest(&self, counter: &str, labels: &[LabelPair]) -> Option<Recorded> {
        if counter != self.counter {
            return None;
        }
        let value_of = |name: &str| labels.iter().find(|label| label.name() == name).map_or("", LabelPair::value);
        let latest = self.series.get(&self.labels.map(value_of))?;
        *latest.lock()
    }
}
