//! The standard variables of OpenTelemetry, read like every other variable: what cannot be understood is a mistake of the start,
//! with its name. The libraries would read them too, and pass over what they do not understand.
//!
//! `OTEL_EXPORTER_OTLP_ENDPOINT` and `OTEL_SERVICE_NAME` are fields of the configuration: see `environment.rs`.

use http::{HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;
use picket_shared::policy::Mistake;
use picket_shared::telemetry::{
    BATCH_ITEMS_MAX, Batching, Exports, Protocol, QUEUE_ITEMS_MAX, Root, Sampling, Signal, Target, Temporality,
};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;
use url::Url;

use super::TelemetryConfig;
use super::origins::{Located, Place};

/// of a file with certificates
const AUTHORITIES_BYTES_MAX: u64 = 1_048_576;
const DURATION_MS: RangeInclusive<u64> = 1..=3_600_000;

/// where telemetry goes, and what its source is called besides its name
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Otel {
    pub exports: Exports,
    pub attributes: Vec<(String, String)>,
}

/// reads all variables, or says every mistake in them
pub fn read(variables: &[(String, String)], telemetry: &TelemetryConfig) -> Result<Otel, Vec<Located>> {
    // An empty variable is none.
    let variables = variables.iter().filter(|(name, text)| name.starts_with("OTEL_") && !text.is_empty());
    let variables = variables.map(|(name, text)| (name.as_str(), text.trim())).collect();
    let mut reader = Reader { variables, mistakes: Vec::new() };
    let otel = reader.otel(telemetry);
    if reader.mistakes.is_empty() { Ok(otel) } else { Err(reader.mistakes) }
}

/// an address that a collector can have, as `telemetry.otlpEndpoint` or in a variable
pub fn endpoint(text: &str) -> Result<Url, &'static str> {
    let wrong = "must be an http:// or https:// URL without user, query or fragment, such as http://127.0.0.1:4318; \
                 credentials go into OTEL_EXPORTER_OTLP_HEADERS";
    let url = Url::parse(text).map_err(|_| wrong)?;
    let is_plain = url.username().is_empty() && url.password().is_none() && url.query().is_none();
    let is_http = matches!(url.scheme(), "http" | "https") && url.has_host();
    if is_http && is_plain && url.fragment().is_none() { Ok(url) } else { Err(wrong) }
}

struct Reader<'a> {
    variables: BTreeMap<&'a str, &'a str>,
    mistakes: Vec<Located>,
}

impl<'a> Reader<'a> {
    fn otel(&mut self, telemetry: &TelemetryConfig) -> Otel {
        let defaults = Exports::default();
        let exports = Exports {
            traces: self.target(Signal::Traces, telemetry, "OTEL_BSP_EXPORT_TIMEOUT"),
            metrics: self.target(Signal::Metrics, telemetry, "OTEL_METRIC_EXPORT_TIMEOUT"),
            logs: self.target(Signal::Logs, telemetry, "OTEL_BLRP_EXPORT_TIMEOUT"),
            sampling: self.sampling(),
            span_batching: self.batching("OTEL_BSP", defaults.span_batching),
            log_batching: self.batching("OTEL_BLRP", defaults.log_batching),
            temporality: self.temporality(),
            metric_interval: self.duration("OTEL_METRIC_EXPORT_INTERVAL", defaults.metric_interval),
        };
        let attributes = self.pairs("OTEL_RESOURCE_ATTRIBUTES");
        match self.choice("OTEL_SDK_DISABLED", "false", &["true", "false"]) {
            "true" => Otel { attributes, ..Otel::default() },
            _ => Otel { exports, attributes },
        }
    }

    /// where a signal goes; nowhere unless an endpoint is named
    fn target(&mut self, signal: Signal, telemetry: &TelemetryConfig, patience: &str) -> Option<Target> {
        let is_wanted = self.is_wanted(signal);
        let protocol = self.protocol(signal);
        let (headers, gzip, authorities) = (self.headers(signal), self.gzip(signal), self.authorities(signal));
        let timeout_name = self.name(signal, "TIMEOUT");
        let timeout = self.duration(&timeout_name, Duration::from_secs(10));
        let timeout = timeout.min(self.duration(patience, Duration::from_secs(30)));
        let endpoint = self.endpoint(signal, protocol, telemetry)?;
        is_wanted.then_some(Target { endpoint, protocol, headers, timeout, gzip, authorities })
    }

    /// the signal's own endpoint as it is; the common one with the signal's path
    fn endpoint(&mut self, signal: Signal, protocol: Protocol, telemetry: &TelemetryConfig) -> Option<Url> {
        let own = own_name(signal, "ENDPOINT");
        if let Some(text) = self.text(&own) {
            return endpoint(text).map_err(|message| self.mistake(&own, message)).ok();
        }
        // What is wrong with the common one is said of the configuration's field.
        let mut url = endpoint(telemetry.otlp_endpoint.as_deref()?).ok()?;
        if protocol == Protocol::HttpProtobuf {
            let path = format!("{}/v1/{signal}", url.path().trim_end_matches('/'));
            url.set_path(&path);
        }
        Some(url)
    }

    /// which exporters a signal has; Prometheus reads metrics in any case
    fn is_wanted(&mut self, signal: Signal) -> bool {
        let name = format!("OTEL_{}_EXPORTER", signal.as_str().to_uppercase());
        let Some(text) = self.text(&name) else {
            return true;
        };
        let known = |one: &str| matches!(one, "otlp" | "none") || one == "prometheus" && signal == Signal::Metrics;
        let mut named = text.split(',').map(str::trim);
        if !named.clone().all(known) {
            self.mistake(&name, "must be otlp or none; metrics are at /metrics for Prometheus in any case");
        }
        named.any(|one| one == "otlp")
    }

    fn protocol(&mut self, signal: Signal) -> Protocol {
        let name = self.name(signal, "PROTOCOL");
        match self.choice(&name, "http/protobuf", &["grpc", "http/protobuf"]) {
            "grpc" => Protocol::Grpc,
            _ => Protocol::HttpProtobuf,
        }
    }

    fn gzip(&mut self, signal: Signal) -> bool {
        let name = self.name(signal, "COMPRESSION");
        self.choice(&name, "none", &["gzip", "none"]) == "gzip"
    }

    fn headers(&mut self, signal: Signal) -> Vec<(HeaderName, HeaderValue)> {
        let name = self.name(signal, "HEADERS");
        let mut headers = Vec::new();
        for (key, value) in self.pairs(&name) {
            match (key.parse::<HeaderName>(), HeaderValue::from_str(&value)) {
                (Ok(key), Ok(mut value)) => {
                    value.set_sensitive(true);
                    headers.push((key, value));
                }
                _ => self.mistake(&name, "holds something that is no HTTP header"),
            }
        }
        headers
    }

    fn authorities(&mut self, signal: Signal) -> Option<Vec<u8>> {
        let name = self.name(signal, "CERTIFICATE");
        let path = self.text(&name)?;
        let read = std::fs::metadata(path).and_then(|file| match file.len() {
            0..=AUTHORITIES_BYTES_MAX => std::fs::read(path),
            _ => Err(std::io::Error::other("is too large for certificates")),
        });
        match read {
            Ok(pem) if String::from_utf8_lossy(&pem).contains("-----BEGIN CERTIFICATE-----") => return Some(pem),
            Ok(_) => self.mistake(&name, format!("{path}: holds no certificate in PEM")),
            Err(error) => self.mistake(&name, format!("{path}: {error}")),
        }
        None
    }

    fn sampling(&mut self) -> Sampling {
        const KNOWN: [&str; 6] = [
            "parentbased_always_on",
            "parentbased_always_off",
            "parentbased_traceidratio",
            "always_on",
            "always_off",
            "traceidratio",
        ];
        let sampler = self.choice("OTEL_TRACES_SAMPLER", KNOWN[0], &KNOWN);
        let own = sampler.strip_prefix("parentbased_").unwrap_or(sampler);
        let root = match own {
            "always_off" => Root::None,
            "traceidratio" => Root::Ratio(self.share("OTEL_TRACES_SAMPLER_ARG")),
            _ => Root::All,
        };
        Sampling { root, follows_parent: own != sampler }
    }

    fn temporality(&mut self) -> Temporality {
        const KNOWN: [&str; 3] = ["cumulative", "delta", "lowmemory"];
        match self.choice("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", KNOWN[0], &KNOWN) {
            "delta" => Temporality::Delta,
            "lowmemory" => Temporality::LowMemory,
            _ => Temporality::Cumulative,
        }
    }

    fn share(&mut self, name: &str) -> f64 {
        let Some(text) = self.text(name) else {
            return 1.0;
        };
        match text.parse() {
            Ok(share) if (0.0..=1.0).contains(&share) => share,
            _ => {
                self.mistake(name, "must be a number from 0 to 1, such as 0.01");
                1.0
            }
        }
    }

    fn batching(&mut self, prefix: &str, default: Batching) -> Batching {
        let (queue, batch) = (format!("{prefix}_MAX_QUEUE_SIZE"), format!("{prefix}_MAX_EXPORT_BATCH_SIZE"));
        let queue_items_max = self.count(&queue, default.queue_items_max, QUEUE_ITEMS_MAX);
        let default_batch = default.batch_items_max.min(queue_items_max);
        let batch_items_max = self.count(&batch, default_batch, BATCH_ITEMS_MAX);
        if batch_items_max > queue_items_max {
            self.mistake(&batch, format!("must not be greater than {queue}, which is {queue_items_max}"));
        }
        let delay = self.duration(&format!("{prefix}_SCHEDULE_DELAY"), default.delay);
        Batching { queue_items_max, batch_items_max, delay }
    }

    fn count(&mut self, name: &str, default: usize, max: usize) -> usize {
        let number = self.number(name, 1..=max as u64);
        number.and_then(|number| usize::try_from(number).ok()).unwrap_or(default)
    }

    fn duration(&mut self, name: &str, default: Duration) -> Duration {
        self.number(name, DURATION_MS).map_or(default, Duration::from_millis)
    }

    fn number(&mut self, name: &str, range: RangeInclusive<u64>) -> Option<u64> {
        let number = self.text(name)?.parse().ok().filter(|number| range.contains(number));
        if number.is_none() {
            self.mistake(name, format!("must be a number from {} to {}", range.start(), range.end()));
        }
        number
    }

    fn choice(&mut self, name: &str, default: &'static str, known: &[&'static str]) -> &'static str {
        let Some(text) = self.text(name) else {
            return default;
        };
        let found = known.iter().find(|one| one.eq_ignore_ascii_case(text));
        if found.is_none() {
            self.mistake(name, format!("must be one of {}", known.join(", ")));
        }
        found.copied().unwrap_or(default)
    }

    /// `key=value,key=value`, percent-encoded
    fn pairs(&mut self, name: &str) -> Vec<(String, String)> {
        let decoded = |text: &str| percent_decode_str(text.trim()).decode_utf8().ok().map(|text| text.into_owned());
        let text = self.text(name).unwrap_or_default();
        let pairs = text.split(',').filter(|pair| !pair.trim().is_empty()).map(|pair| {
            let (key, value) = pair.split_once('=')?;
            Some((decoded(key).filter(|key| !key.is_empty())?, decoded(value)?))
        });
        pairs.collect::<Option<_>>().unwrap_or_else(|| {
            // The value may hold a credential: it is not repeated.
            self.mistake(name, "must be written as key=value,key=value, percent-encoded where needed");
            Vec::new()
        })
    }

    fn text(&self, name: &str) -> Option<&'a str> {
        self.variables.get(name).copied()
    }

    /// the signal's own variable where it is set, else the one for all signals
    fn name(&self, signal: Signal, setting: &str) -> String {
        let own = own_name(signal, setting);
        if self.variables.contains_key(own.as_str()) { own } else { format!("OTEL_EXPORTER_OTLP_{setting}") }
    }

    /// once, though each signal reads the common variables
    fn mistake(&mut self, name: &str, message: impl Into<String>) {
        let mistake = Located { place: Place::Variable(name.to_owned()), mistake: Mistake::new("", message) };
        if !self.mistakes.contains(&mistake) {
            self.mistakes.push(mistake);
        }
    }
}

fn own_name(signal: Signal, setting: &str) -> String {
    format!("OTEL_EXPORTER_OTLP_{}_{setting}", signal.as_str().to_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_with(endpoint: Option<&str>, variables: &[(&str, &str)]) -> Result<Otel, Vec<String>> {
        let variables: Vec<_> = variables.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        let telemetry = TelemetryConfig { otlp_endpoint: endpoint.map(str::to_owned), ..TelemetryConfig::default() };
        read(&variables, &telemetry).map_err(|mistakes| mistakes.iter().map(ToString::to_string).collect())
    }

    fn endpoint_of(target: &Option<Target>) -> Option<&str> {
        target.as_ref().map(|target| target.endpoint.as_str())
    }

    #[test]
    fn nothing_is_exported_unless_an_endpoint_is_named() {
        let headers = [("OTEL_EXPORTER_OTLP_HEADERS", "a=b"), ("OTEL_TRACES_EXPORTER", "otlp")];
        assert_eq!(read_with(None, &headers).unwrap(), Otel::default());
        let disabled = read_with(Some("http://c:4318"), &[("OTEL_SDK_DISABLED", "true")]).unwrap();
        assert_eq!(disabled.exports, Exports::default());
    }

    #[test]
    fn one_endpoint_serves_all_signals_over_http_each_under_its_path() {
        let exports = read_with(Some("http://c:4318/base/"), &[("OTEL_LOGS_EXPORTER", "none")]).unwrap().exports;
        assert_eq!(endpoint_of(&exports.traces), Some("http://c:4318/base/v1/traces"));
        assert_eq!(endpoint_of(&exports.metrics), Some("http://c:4318/base/v1/metrics"));
        assert_eq!(exports.logs, None);
        assert_eq!(exports.traces.unwrap().protocol, Protocol::HttpProtobuf);
    }

    #[test]
    fn a_signals_own_variables_go_before_the_common_ones() {
        let exports = read_with(
            None,
            &[
                ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://traces.example/in"),
                ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://metrics.example:4317"),
                ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "grpc"),
                ("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=edge%201, authorization=Bearer%20abc"),
                ("OTEL_EXPORTER_OTLP_METRICS_HEADERS", "x-tenant=other"),
                ("OTEL_EXPORTER_OTLP_TIMEOUT", "2500"),
                ("OTEL_METRIC_EXPORT_TIMEOUT", "700"),
                ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
            ],
        );
        let Exports { traces, metrics, logs, .. } = exports.unwrap().exports;
        let (traces, metrics) = (traces.unwrap(), metrics.unwrap());
        assert_eq!(traces.endpoint.as_str(), "https://traces.example/in");
        assert_eq!(metrics.endpoint.as_str(), "http://metrics.example:4317/");
        assert_eq!((traces.protocol, metrics.protocol), (Protocol::HttpProtobuf, Protocol::Grpc));
        assert_eq!(traces.headers[0].1, "edge 1");
        assert_eq!((traces.headers.len(), metrics.headers.len()), (2, 1));
        assert_eq!((traces.timeout, metrics.timeout), (Duration::from_millis(2500), Duration::from_millis(700)));
        assert!(traces.gzip && logs.is_none());
        assert!(!format!("{traces:?}").contains("abc"), "{traces:?}");
    }

    #[test]
    fn sampling_batching_and_attributes_are_as_the_specification_names_them() {
        let otel = read_with(
            Some("http://c:4318"),
            &[
                ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
                ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
                ("OTEL_BSP_MAX_QUEUE_SIZE", "100"),
                ("OTEL_BSP_SCHEDULE_DELAY", "50"),
                ("OTEL_METRIC_EXPORT_INTERVAL", "1000"),
                ("OTEL_RESOURCE_ATTRIBUTES", "team=edge,service.namespace=a%2Cb"),
            ],
        )
        .unwrap();
        assert_eq!(otel.exports.sampling, Sampling { root: Root::Ratio(0.25), follows_parent: true });
        let batching = Batching { queue_items_max: 100, batch_items_max: 100, delay: Duration::from_millis(50) };
        assert_eq!(otel.exports.span_batching, batching);
        assert_eq!(otel.exports.metric_interval, Duration::from_secs(1));
        assert_eq!(otel.attributes[1], ("service.namespace".to_owned(), "a,b".to_owned()));
    }

    #[test]
    fn every_mistake_is_said_once_with_its_variable_and_without_its_secret() {
        let said = read_with(
            Some("http://c:4318"),
            &[
                ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
                ("OTEL_EXPORTER_OTLP_HEADERS", "s3cret"),
                ("OTEL_TRACES_SAMPLER", "sometimes"),
                ("OTEL_TRACES_EXPORTER", "zipkin"),
                ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
                ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "c:4317"),
                ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere/ca.pem"),
                ("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", "4000"),
            ],
        )
        .unwrap_err();
        assert_eq!(said.len(), 8, "{said:#?}");
        assert!(said.iter().all(|one| one.starts_with("environment variable OTEL_")), "{said:#?}");
        assert!(!said.concat().contains("s3cret"), "{said:#?}");
    }
}
