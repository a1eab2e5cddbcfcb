//! The log's form: what the configuration says; where it says nothing, text for a person in development, JSON for everyone else.

use picket_shared::policy::Environment;
use picket_shared::telemetry::{LogFormat, TelemetryError, start_logging};

use crate::config::Loaded;
use crate::refusal::Refusal;
use crate::terminal;

/// the metrics library tells of its own life at `info`
const FILTER: &str = "info,opentelemetry_sdk=warn";

pub fn start(loaded: &Loaded, variables: &[(String, String)]) -> anyhow::Result<()> {
    let filter = variables.iter().find(|(name, _)| name == "PICKET_LOG").map_or(FILTER, |(_, filter)| filter.as_str());
    match start_logging(format(loaded, terminal::log_is_watched()), filter) {
        Err(TelemetryError::Filter(error)) => {
            let message =
                format!("environment variable PICKET_LOG: {error}; write it as info or info,picket_node=debug");
            Err(Refusal::Command(message).into())
        }
        outcome => Ok(outcome?),
    }
}

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
    use crate::role::Role;

    #[test]
    fn a_person_in_development_reads_text_and_what_is_configured_goes_before() {
        let format_with = |variables: &[(&str, &str)], watched| {
            let variables: Vec<_> =
                variables.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
            let loaded =
                super::super::super::load(Role::Standalone, None, &variables, Some(std::path::Path::new("unused")))
                    .unwrap();
            format(&loaded, watched)
        };
        assert_eq!(format_with(&[], true), LogFormat::Text);
        assert_eq!(format_with(&[], false), LogFormat::Json);
        assert_eq!(format_with(&[("PICKET_TELEMETRY__LOG_FORMAT", "text")], false), LogFormat::Text);
        assert_eq!(format_with(&[("PICKET_TELEMETRY__LOG_FORMAT", "json")], true), LogFormat::Json);
    }
}
