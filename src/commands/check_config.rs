//! `picket check-config`: what a role would run with, secrets masked, or every mistake.

use crate::cli::CheckConfigArgs;
use crate::config::Config;
use crate::role::Role;
use crate::terminal;

pub fn run(args: CheckConfigArgs, variables: &[(String, String)]) -> anyhow::Result<()> {
    let file = args.file.or(args.config.config);
    let folder = super::temporary_folder();
    let loaded =
        super::load(args.role, file.as_deref(), variables, (args.role == Role::Standalone).then_some(&*folder))?;
    Ok(terminal::say(&yaml(&loaded.config)?)?)
}

fn yaml(config: &Config) -> anyhow::Result<String> {
    Ok(serde_saphyr::to_string(config)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::yaml::parse;

    #[test]
    fn what_is_printed_reads_back_as_the_same_configuration() {
        let mut config = Config::default();
        config.node.id = Some("null".into());
        config.telemetry.service_name = "a: \"b\"\n#c".into();
        config.policy.cors.allowed_origins =
            vec!["*".into(), "https://*.example.com".into(), String::new(), "7".into(), "on".into(), "- x".into()];
        config.policy.rate_limiting.roles.insert("true".into(), 0.5);
        config.policy.validation.event_roles.insert("chat:send {é}".into(), vec!["~".into()]);
        config
            .policy
            .validation
            .schemas
            .insert("e".into(), serde_json::json!({ "type": "object", "maximum": 1e300, "x": [[], {}] }));
        let read = parse(&yaml(&config).unwrap()).unwrap().value;
        assert_eq!(serde_json::from_value::<Config>(read).unwrap(), config);
    }

    #[test]
    fn r15_secrets_are_masked() {
        let mut config = Config::default();
        config.state.url = "redis://default:canary-1@127.0.0.1".into();
        config.node.check_token = Some(picket_shared::secret::Secret::new("canary-2"));
        config.coordinator.audit_store = "postgres://picket:canary-3@db/picket".into();
        let printed = yaml(&config).unwrap();
        assert!(!printed.contains("canary") && printed.contains("********"), "{printed}");
    }
}
