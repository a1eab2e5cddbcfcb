//! Metrics as OpenMetrics 1.0 text (<https://prometheus.io/docs/specs/om/open_metrics_spec/>). Unlike Prometheus's own text it
//! may name, beside a counter, a trace that led to it.

use http::{HeaderMap, header};
use prometheus::proto::{Metric, MetricFamily, MetricType};
use std::time::UNIX_EPOCH;

use super::exemplars::{Exemplars, Recorded};

pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

const MEDIA_TYPE: &str = "application/openmetrics-text";
const VERSION: &str = "1.0.0";
const COUNTER_SUFFIX: &str = "_total";
/// what the resource becomes: the one metric of the library that is an `info`
const TARGET_INFO: (&str, &str) = ("target", "_info");

/// whether the reader likes this at least as much as Prometheus's text, by its `Accept` (RFC 9110, section 12.5.1)
pub fn is_preferred(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(header::ACCEPT).iter().filter_map(|line| line.to_str().ok());
    let ranges: Vec<&str> = lines.flat_map(|line| line.split(',')).collect();
    let liked = |wanted: &str| ranges.iter().filter_map(|range| quality(range, wanted)).fold(0.0, f32::max);
    let this = liked(MEDIA_TYPE);
    this > 0.0 && this >= liked("text/plain")
}

/// how much a range of `Accept` likes a type; `None` if it is about another one, or another version
fn quality(range: &str, wanted: &str) -> Option<f32> {
    let mut parts = range.split(';').map(str::trim);
    if !parts.next()?.eq_ignore_ascii_case(wanted) {
        return None;
    }
    let mut quality = 1.0;
    for (name, value) in parts.filter_map(|parameter| parameter.split_once('=')) {
        match name.trim().to_ascii_lowercase().as_str() {
            "q" => quality = value.trim().parse().unwrap_or(0.0),
            "version" if wanted == MEDIA_TYPE && value.trim() != VERSION => return None,
            _ => {}
        }
    }
    Some(quality)
}

pub fn encode(families: &[MetricFamily], exemplars: &Exemplars) -> String {
    let mut text = Text::default();
    for family in families {
        text.family(family, exemplars);
    }
    text.0.push_str("# EOF\n");
    text.0
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn family(&mut self, family: &MetricFamily, exemplars: &Exemplars) {
        let (name, suffix, kind) = match family.get_field_type() {
            MetricType::COUNTER => {
                (family.name().strip_suffix(COUNTER_SUFFIX).unwrap_or(family.name()), COUNTER_SUFFIX, "counter")
            }
            MetricType::GAUGE if family.name().strip_suffix(TARGET_INFO.1) == Some(TARGET_INFO.0) => {
                (TARGET_INFO.0, TARGET_INFO.1, "info")
            }
            MetricType::GAUGE => (family.name(), "", "gauge"),
            MetricType::HISTOGRAM => (family.name(), "", "histogram"),
            // The library makes neither.
            MetricType::SUMMARY | MetricType::UNTYPED => return,
        };
        self.0.push_str(&format!("# TYPE {name} {kind}\n# HELP {name} {}\n", escaped(family.help())));
        for metric in family.get_metric() {
            match family.get_field_type() {
                MetricType::COUNTER => {
                    let exemplar = exemplars.latest(family.name(), metric.get_label());
                    let value = number(metric.get_counter().get_value());
                    self.sample(&[name, suffix], metric, None, &value, exemplar);
                }
                MetricType::GAUGE => {
                    self.sample(&[name, suffix], metric, None, &number(metric.get_gauge().get_value()), None);
                }
                MetricType::HISTOGRAM => self.histogram(name, metric),
                MetricType::SUMMARY | MetricType::UNTYPED => {}
            }
        }
    }

    fn histogram(&mut self, name: &str, metric: &Metric) {
        let histogram = metric.get_histogram();
        let all = histogram.get_sample_count().to_string();
        for bucket in histogram.get_bucket().iter().filter(|bucket| bucket.upper_bound().is_finite()) {
            let (bound, within) = (number(bucket.upper_bound()), bucket.cumulative_count().to_string());
            self.sample(&[name, "_bucket"], metric, Some(&bound), &within, None);
        }
        self.sample(&[name, "_bucket"], metric, Some("+Inf"), &all, None);
        self.sample(&[name, "_count"], metric, None, &all, None);
        self.sample(&[name, "_sum"], metric, None, &number(histogram.get_sample_sum()), None);
    }

    fn sample(&mut self, name: &[&str], metric: &Metric, bound: Option<&str>, value: &str, exemplar: Option<Recorded>) {
        self.0.extend(name.iter().copied());
        let labels = metric.get_label().iter().map(|label| (label.name(), label.value()));
        let mut separator = '{';
        for (name, value) in labels.chain(bound.map(|bound| ("le", bound))) {
            self.0.push_str(&format!("{separator}{name}=\"{}\"", escaped(value)));
            separator = ',';
        }
        if separator == ',' {
            self.0.push('}');
        }
        self.0.extend([" ", value]);
        if let Some(Recorded { trace_id, span_id, at }) = exemplar {
            let at = number(at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64());
            self.0.push_str(&format!(" # {{trace_id=\"{trace_id}\",span_id=\"{span_id}\"}} 1 {at}"));
        }
        self.0.push('\n');
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// in the canonical form, as Go writes it: bounds of buckets are labels, so another spelling would be another series
fn number(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let size = value.abs();
    if size != 0.0 && !(1e-4..1e21).contains(&size) {
        let scientific = format!("{value:e}");
        let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
        let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
        return format!("{mantissa}e{sign}{digits:0>2}");
    }
    if value.fract() == 0.0 { format!("{value:.1}") } else { value.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry::trace::{SpanId, TraceId};
    use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair};
    use std::time::Duration;

    fn label(name: &str, value: &str) -> LabelPair {
        let mut label = LabelPair::default();
        label.set_name(name.to_owned());
        label.set_value(value.to_owned());
        label
    }

    fn family(name: &str, help: &str, kind: MetricType, metrics: Vec<Metric>) -> MetricFamily {
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        family.set_metric(metrics);
        family
    }

    fn counted(value: f64, labels: Vec<LabelPair>) -> Metric {
        let (mut metric, mut counter) = (Metric::from_label(labels), Counter::default());
        counter.set_value(value);
        metric.set_counter(counter);
        metric
    }

    fn gauged(value: f64, labels: Vec<LabelPair>) -> Metric {
        let (mut metric, mut gauge) = (Metric::from_label(labels), Gauge::default());
        gauge.set_value(value);
        metric.set_gauge(gauge);
        metric
    }

    fn timed(bounds: &[(f64, u64)], count: u64, sum: f64) -> Metric {
        let (mut metric, mut histogram) = (Metric::default(), Histogram::default());
        let bucket = |&(bound, within): &(f64, u64)| {
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(bound);
            bucket.set_cumulative_count(within);
            bucket
        };
        histogram.set_bucket(bounds.iter().map(bucket).collect());
        histogram.set_sample_count(count);
        histogram.set_sample_sum(sum);
        metric.set_histogram(histogram);
        metric
    }

    #[test]
    fn every_kind_is_written_with_its_suffixes_and_only_the_noted_series_has_an_exemplar() {
        let exemplars = Exemplars::of("doors_total", ["side", "way", "why"], [["front", "in", "late"]]);
        let recorded = Recorded {
            trace_id: TraceId::from_hex("0af7651916cd43dd8448eb211c80319c").unwrap(),
            span_id: SpanId::from_hex("b7ad6b7169203331").unwrap(),
            at: UNIX_EPOCH + Duration::from_millis(1_700_000_000_250),
        };
        exemplars.note(["front", "in", "late"], recorded);
        exemplars.note(["a series", "that is", "not there"], recorded);
        let labels = |why| vec![label("side", "front"), label("way", "in"), label("why", why), label("scope", "x")];
        let families = [
            family(
                "doors_total",
                "Doors, \"shut\".",
                MetricType::COUNTER,
                vec![counted(3.0, labels("late")), counted(1.0, labels("early"))],
            ),
            family("room", "a\\b\nc", MetricType::GAUGE, vec![gauged(-0.5, vec![label("of", "\"a\\b\nc")])]),
            family("target_info", "Target", MetricType::GAUGE, vec![gauged(1.0, vec![label("service", "s")])]),
            family("took_seconds", "Time.", MetricType::HISTOGRAM, vec![timed(&[(0.00001, 1), (1.0, 2)], 3, 4.0)]),
        ];

        let expected = r##"# TYPE doors counter
# HELP doors Doors, \"shut\".
doors_total{side="front",way="in",why="late",scope="x"} 3.0 # {trace_id="0af7651916cd43dd8448eb211c80319c",span_id="b7ad6b7169203331"} 1 1700000000.25
doors_total{side="front",way="in",why="early",scope="x"} 1.0
# TYPE room gauge
# HELP room a\\b\nc
room{of="\"a\\b\nc"} -0.5
# TYPE target info
# HELP target Target
target_info{service="s"} 1.0
# TYPE took_seconds histogram
# HELP took_seconds Time.
took_seconds_bucket{le="1e-05"} 1
took_seconds_bucket{le="1.0"} 2
took_seconds_bucket{le="+Inf"} 3
took_seconds_count 3
took_seconds_sum 4.0
# EOF
"##;
        assert_eq!(encode(&families, &exemplars), expected);
    }

    #[test]
    fn numbers_have_their_canonical_form() {
        let cases = [
            (0.0, "0.0"),
            (1.0, "1.0"),
            (0.0001, "0.0001"),
            (0.000025, "2.5e-05"),
            (-1e-10, "-1e-10"),
            (1e20, "100000000000000000000.0"),
            (1e21, "1e+21"),
            (1.25e100, "1.25e+100"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (f64::NAN, "NaN"),
        ];
        for (value, expected) in cases {
            assert_eq!(number(value), expected);
        }
    }

    #[test]
    fn it_is_for_those_who_ask_for_this_version_and_do_not_like_the_other_format_better() {
        let asks = |accept: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in accept {
                headers.append(header::ACCEPT, line.parse().unwrap());
            }
            is_preferred(&headers)
        };
        let prometheus_2 = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let prometheus_3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        assert!(asks(&[prometheus_2]) && asks(&[prometheus_3]));
        assert!(asks(&["text/plain;q=0.5", "Application/OpenMetrics-Text; Q=0.5"]), "two lines are one list");
        for accept in [
            "*/*",
            "text/plain",
            "application/openmetrics-text;version=0.0.1",
            "application/openmetrics-text;q=0",
            "application/openmetrics-text;q=many",
            "application/openmetrics-text;q=0.4, text/plain",
        ] {
            assert!(!asks(&[accept]), "{accept}");
        }
        assert!(!asks(&[]));
    }
}
