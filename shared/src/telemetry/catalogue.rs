//! Which instruments a crate has, gathered from the code that makes them: for the table in `docs/telemetry.md`. What the sources name
//! and the test did not make is missed, so that no instrument stays out of the table.

use opentelemetry::metrics::{
    AsyncInstrumentBuilder, Counter, Gauge, Histogram, HistogramBuilder, InstrumentBuilder, InstrumentProvider, Meter,
    ObservableCounter, ObservableGauge, ObservableUpDownCounter, UpDownCounter,
};
use parking_lot::Mutex;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// a meter that writes down what is asked of it
#[derive(Clone, Default)]
pub struct Catalogue(Arc<Mutex<BTreeMap<String, Row>>>);

struct Row {
    kind: &'static str,
    unit: String,
    description: String,
}

/// makes instruments that do nothing
struct Silent;

impl InstrumentProvider for Silent {}

type Text = Option<Cow<'static, str>>;

impl Catalogue {
    pub fn meter(&self) -> Meter {
        Meter::new(Arc::new(self.clone()))
    }

    fn note(&self, kind: &'static str, name: &str, unit: &Text, description: &Text) {
        let text = |text: &Text| text.clone().unwrap_or_default().into_owned();
        self.0.lock().insert(name.to_owned(), Row { kind, unit: text(unit), description: text(description) });
    }

    /// what the sources of a crate ask a meter for, and this catalogue was not asked for
    ///
    /// # Panics
    ///
    /// Without the sources: this is for tests.
    #[expect(clippy::panic, reason = "a test says what is missing")]
    pub fn misses(&self, sources: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(sources).unwrap_or_else(|error| panic!("{}: {error}", sources.display()));
        let mut missed = Vec::new();
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                missed.extend(self.misses(&path));
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap_or_default();
                missed.extend(named_in(&text).filter(|name| !self.0.lock().contains_key(*name)).map(str::to_owned));
            }
        }
        missed
    }

    fn table(&self) -> String {
        let mut table = "\n| metric | kind | unit | counts or shows |\n|---|---|---|---|\n".to_owned();
        for (name, Row { kind, unit, description }) in &*self.0.lock() {
            table.push_str(&format!("| `{name}` | {kind} | `{unit}` | {description} |\n"));
        }
        table + "\n"
    }

    /// whether the document holds this table between the section's marks; with `UPDATE_DOCS` in the environment it is made so
    ///
    /// # Panics
    ///
    /// Without the document or its marks: this is for tests.
    #[expect(clippy::panic, reason = "a test says what is missing")]
    pub fn is_in(&self, document: &Path, section: &str) -> bool {
        let text = std::fs::read_to_string(document).unwrap_or_else(|error| panic!("{}: {error}", document.display()));
        let (begin, end) = (format!("<!-- metrics of {section} -->\n"), format!("<!-- end of {section} -->"));
        let (Some(from), Some(to)) = (text.find(&begin).map(|at| at + begin.len()), text.find(&end)) else {
            panic!("{} has no marks for {section}", document.display());
        };
        if text[from..to] == self.table() {
            return true;
        }
        let updated = format!("{}{}{}", &text[..from], self.table(), &text[to..]);
        std::env::var_os("UPDATE_DOCS").is_some() && std::fs::write(document, updated).is_ok()
    }
}

/// every name that stands first in a call of `…counter(`, `…gauge(` or `…histogram(`
fn named_in(source: &str) -> impl Iterator<Item = &str> {
    const MAKERS: [&str; 3] = ["counter(", "gauge(", "histogram("];
    source.match_indices("\"picket.").filter_map(|(at, _)| {
        let is_made = MAKERS.iter().any(|maker| source[..at].trim_end().ends_with(maker));
        is_made.then(|| source[at + 1..].split('"').next()).flatten()
    })
}

macro_rules! noted {
    ($($method:ident, $kind:literal, $builder:ty, $instrument:ty;)*) => {
        impl InstrumentProvider for Catalogue {
            $(fn $method(&self, builder: $builder) -> $instrument {
                self.note($kind, &builder.name, &builder.unit, &builder.description);
                Silent.$method(builder)
            })*
        }
    };
}

// All that there are, so that none is left out for its type.
noted! {
    u64_counter, "counter", InstrumentBuilder<'_, Counter<u64>>, Counter<u64>;
    f64_counter, "counter", InstrumentBuilder<'_, Counter<f64>>, Counter<f64>;
    u64_observable_counter, "counter", AsyncInstrumentBuilder<'_, ObservableCounter<u64>, u64>, ObservableCounter<u64>;
    f64_observable_counter, "counter", AsyncInstrumentBuilder<'_, ObservableCounter<f64>, f64>, ObservableCounter<f64>;
    i64_up_down_counter, "up-down counter", InstrumentBuilder<'_, UpDownCounter<i64>>, UpDownCounter<i64>;
    f64_up_down_counter, "up-down counter", InstrumentBuilder<'_, UpDownCounter<f64>>, UpDownCounter<f64>;
    i64_observable_up_down_counter, "up-down counter", AsyncInstrumentBuilder<'_, ObservableUpDownCounter<i64>, i64>, ObservableUpDownCounter<i64>;
    f64_observable_up_down_counter, "up-down counter", AsyncInstrumentBuilder<'_, ObservableUpDownCounter<f64>, f64>, ObservableUpDownCounter<f64>;
    u64_gauge, "gauge", InstrumentBuilder<'_, Gauge<u64>>, Gauge<u64>;
    f64_gauge, "gauge", InstrumentBuilder<'_, Gauge<f64>>, Gauge<f64>;
    i64_gauge, "gauge", InstrumentBuilder<'_, Gauge<i64>>, Gauge<i64>;
    u64_observable_gauge, "gauge", AsyncInstrumentBuilder<'_, ObservableGauge<u64>, u64>, ObservableGauge<u64>;
    i64_observable_gauge, "gauge", AsyncInstrumentBuilder<'_, ObservableGauge<i64>, i64>, ObservableGauge<i64>;
    f64_observable_gauge, "gauge", AsyncInstrumentBuilder<'_, ObservableGauge<f64>, f64>, ObservableGauge<f64>;
    f64_histogram, "histogram", HistogramBuilder<'_, Histogram<f64>>, Histogram<f64>;
    u64_histogram, "histogram", HistogramBuilder<'_, Histogram<u64>>, Histogram<u64>;
}
