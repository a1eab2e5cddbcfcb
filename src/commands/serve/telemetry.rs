//! What the process says of itself: its name in everything, where it goes, and the log's form.

use picket_shared::policy::Environment;
use picket_shared::tasks::Tasks;
use picket_shared::telemetry::{Log, LogFormat, Source, Telemetry, TelemetryError};

use crate::config::Loaded;
use crate::refusal::Refusal;
use crate::role::Role;
use crate::terminal;

/// the telemetry libraries repeat every failed delivery; Picket says it once
const FILTER: &str = "info,opentelemetry=off";

/// inside a runtime, which carries the exporters' connections
pub fn start(role: Role, id: &str, loaded: &Loaded, variables: &[(String, String)]) -> anyhow::Result<Telemetry> {
    let filter = variables.iter().find(|(name, _)| name == "PICKET_LOG").map_or(FILTER, |(_, filter)| filter.as_str());
    let log = Log { format: format(loaded, terminal::log_is_watched()), filter };
    match Telemetry::start(&source(role, id, loaded), &loaded.otel.exports, log, &Tasks::default()) {
        Err(TelemetryError::Filter(error)) => {
            let message =
                format!("environment variable PICKET_LOG: {error}; write it as info or info,picket_node=debug");
            Err(Refusal::Command(message).into())
        }
        outcome => Ok(outcome?),
    }
}

/// a name that somebody wrote goes before one among the attributes, and that before the default
fn source(role: Role, id: &str, loaded: &Loaded) -> Source {
    let Loaded { config, origins, otel, .. } = loaded;
    let among = otel.attributes.iter().find(|(name, _)| name == "service.name").map(|(_, value)| value);
    let service_name = among.filter(|_| !origins.names("telemetry.serviceName"));
    Source {
        service_name: service_name.unwrap_or(&config.telemetry.service_name).clone(),
        version: env!("CARGO_PKG_VERSION"),
        instance: id.to_owned(),
        role: role.name(),
        environment: config.environment.as_str(),
        attributes: otel.attributes.clone(),
    }
}

/// what the configuration says; where it says nothing, text for a person in development, JSON for everyone else
fn format(loaded: &Loaded, watched: bool) -> LogFormat {
    if loaded.origins.names("telemetry.logFormat") {
        return loaded.config.telemetry.log_format;
    }
    match loaded.config.environment {
        Environment::Development if watched => LogFormat::Text,
        _ => LogFormat::Json,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loaded_with(variables: &[(&str, &str)]) -> Loaded {
        let variables: Vec<_> = variables.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        super::super::super::load(Role::Standalone, None, &variables, Some(std::path::Path::new("unused"))).unwrap()
    }

    #[test]
    fn the_name_is_what_somebody_wrote_or_an_attribute_or_the_default() {
        let name = |variables: &[(&str, &str)]| source(Role::Node, "edge-1", &loaded_with(variables)).service_name;
        let attribute = ("OTEL_RESOURCE_ATTRIBUTES", "service.name=attribute");
        assert_eq!(name(&[]), "picket");
        assert_eq!(name(&[attribute]), "attribute");
        assert_eq!(name(&[attribute, ("OTEL_SERVICE_NAME", "variable")]), "variable");
        assert_eq!(name(&[attribute, ("PICKET_TELEMETRY__SERVICE_NAME", "setting")]), "setting");
    }

    #[test]
    fn a_person_in_development_reads_text_and_what_is_configured_goes_before() {
        let format_with = |variables: &[(&str, &str)], watched| format(&loaded_with(variables), watched);
        assert_eq!(format_with(&[], true), LogFormat::Text);
        assert_eq!(format_with(&[], false), LogFormat::Json);
        assert_eq!(format_with(&[("PICKET_TELEMETRY__LOG_FORMAT", "text")], false), LogFormat::Text);
        assert_eq!(format_with(&[("PICKET_TELEMETRY__LOG_FORMAT", "json")], true), LogFormat::Json);
    }
}
