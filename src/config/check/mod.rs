//! What a configuration must be besides well-formed: every mistake in its meaning, unsafe production settings among them.

mod access;
mod check_api;
mod routes;

use ipnet::IpNet;
use picket_node::config::ProxyProtocol;
use picket_node::tls::PairFiles;
use picket_shared::policy::{Environment, Mistake, Rules};
use picket_shared::state::check_authorities;
use serde_json::Value;

use super::{Config, otel, shape};
use crate::role::Role;

/// what is said about a setting of the contract that this version does not carry out: refused rather than ignored
const UNAVAILABLE: &str = "is not available in this version";

/// the configuration, or every mistake in its shape and meaning
pub fn check(value: Value, role: Role) -> Result<Config, Vec<Mistake>> {
    let shaped = shape::read(value);
    let meaning = meaning(&shaped.config, role).into_iter().filter(|mistake| shaped.understood(&mistake.path));
    let mistakes: Vec<_> = shaped.mistakes.iter().cloned().chain(meaning).collect();
    if mistakes.is_empty() { Ok(shaped.config) } else { Err(mistakes) }
}

/// a role is held to what it uses: a node needs no management credential, a coordinator no routes
fn meaning(config: &Config, role: Role) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    state(config, role, &mut mistakes);
    trusted_proxies(config, &mut mistakes);
    if role.is_node() {
        if let Some(Err(error)) = config.node.tls.as_ref().map(PairFiles::check) {
            mistakes.push(Mistake::new("node.tls", error.to_string()));
        }
        geoip(config, &mut mistakes);
        routes::check(config, role, &mut mistakes);
        access::auth(config, &mut mistakes);
        access::assertion(config, &mut mistakes);
        check_api::check(config, &mut mistakes);
    }
    if role.is_coordinator() {
        access::coordinator(config, &mut mistakes);
    }
    if let Some(Err(message)) = config.telemetry.otlp_endpoint.as_deref().map(otel::endpoint) {
        mistakes.push(Mistake::new("telemetry.otlpEndpoint", message));
    }
    policy(config, &mut mistakes);
    mistakes
}

fn is_production(config: &Config) -> bool {
    config.environment == Environment::Production
}

fn state(config: &Config, role: Role, mistakes: &mut Vec<Mistake>) {
    const REDIS: [&str; 6] =
        ["redis://", "rediss://", "redis-cluster://", "rediss-cluster://", "redis-sentinel://", "rediss-sentinel://"];
    let url = config.state.url.as_str();
    let on_redis = REDIS.iter().any(|scheme| url.starts_with(scheme));
    let message = match (role, on_redis, url) {
        (Role::Standalone, false, "memory://") | (Role::Node | Role::Coordinator, true, _) => None,
        (Role::Standalone, true, _) => Some(
            "`picket standalone` keeps its state in memory: write memory://, or run `picket node` and `picket coordinator`, for which `picket check-config --role` checks a file"
                .to_owned(),
        ),
        (Role::Standalone, false, _) => Some("must be memory://".to_owned()),
        (Role::Node | Role::Coordinator, false, "memory://") => Some(format!(
            "a {} of its own shares its state: name a Redis, such as redis://127.0.0.1:6379, or run `picket standalone`",
            role.name()
        )),
        (Role::Node | Role::Coordinator, false, _) => {
            Some("must be a redis://, rediss://, redis-cluster:// or redis-sentinel:// address".to_owned())
        }
    };
    mistakes.extend(message.map(|message| Mistake::new("state.url", message)));
    if let Some(path) = &config.state.ca_file
        && let Err(error) = check_authorities(url, path)
    {
        mistakes.push(Mistake::new("state.caFile", error.to_string()));
    }
}

fn trusted_proxies(config: &Config, mistakes: &mut Vec<Mistake>) {
    if config.node.proxy_protocol != ProxyProtocol::Off && config.node.trusted_proxies.is_empty() {
        let message =
            "a PROXY header counts only from node.trustedProxies; list the addresses of your load balancers there";
        mistakes.push(Mistake::new("node.proxyProtocol", message));
    }
    let everybody = IpNet::aggregate(&config.node.trusted_proxies).iter().any(|network| network.prefix_len() == 0);
    if everybody && is_production(config) {
        let message =
            "trusting every proxy lets every client choose its address; list the addresses of your load balancers";
        mistakes.push(Mistake::new("node.trustedProxies", message));
    }
}

fn geoip(config: &Config, mistakes: &mut Vec<Mistake>) {
    let countries = &config.policy.security.countries;
    match &config.node.geoip {
        Some(geoip) => {
            mistakes.extend(geoip.check().err().map(|error| Mistake::new("node.geoip", error.to_string())));
        }
        None if !(countries.allow.is_empty() && countries.deny.is_empty()) => mistakes.push(Mistake::new(
            "policy.security.countries",
            "names countries, and no address is known to be of any; set node.geoip: { file: … }",
        )),
        None => {}
    }
}

fn policy(config: &Config, mistakes: &mut Vec<Mistake>) {
    if let Err(found) = Rules::compile(config.policy.clone(), config.environment) {
        mistakes
            .extend(found.into_iter().map(|mistake| Mistake::new(format!("policy.{}", mistake.path), mistake.message)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// a sound production configuration with a patch laid over it, and what is said about it
    pub(super) fn said_about(patch: Value) -> Vec<(String, String)> {
        let hash = crate::config::credential::hash("correct horse battery staple").unwrap();
        let mut value = json!({
            "environment": "production",
            "state": { "url": "memory://" },
            "node": { "routes": [{ "path": "/ws", "upstream": "ws://127.0.0.1:4000/ws", "protocol": "json" }] },
            "coordinator": { "admin": { "username": "warden", "passwordHash": hash } },
        });
        lay(&mut value, patch);
        check(value, Role::Standalone)
            .err()
            .unwrap_or_default()
            .into_iter()
            .map(|mistake| (mistake.path, mistake.message))
            .collect()
    }

    fn lay(target: &mut Value, patch: Value) {
        match (target, patch) {
            (Value::Object(fields), Value::Object(patch)) => {
                for (name, value) in patch {
                    lay(fields.entry(name).or_insert(Value::Null), value);
                }
            }
            (target, patch) => *target = patch,
        }
    }

    /// each patch makes exactly one mistake, at this path and with these words
    pub(super) fn each_is_refused(cases: Vec<(Value, &str, &str)>) {
        for (patch, path, words) in cases {
            let said = said_about(patch.clone());
            assert_eq!(said.len(), 1, "{patch}: {said:?}");
            assert!(said[0].0 == path && said[0].1.contains(words), "{patch}: {said:?}");
        }
    }

    #[test]
    fn a_sound_configuration_passes() {
        assert_eq!(said_about(json!({})), []);
        assert_eq!(said_about(json!({ "node": { "trustedProxies": ["10.0.0.0/8"] } })), []);
        assert_eq!(
            said_about(json!({ "environment": "development", "node": { "trustedProxies": ["0.0.0.0/0"] } })),
            []
        );
    }

    #[test]
    fn unsafe_and_unavailable_settings_are_refused() {
        each_is_refused(vec![
            (json!({ "state": { "url": "rediss://127.0.0.1" } }), "state.url", "picket node"),
            (json!({ "state": { "url": "postgres://x" } }), "state.url", "memory://"),
            (json!({ "state": { "caFile": "/nowhere/ca.pem" } }), "state.caFile", "rediss://"),
            (json!({ "node": { "trustedProxies": ["0.0.0.0/0"] } }), "node.trustedProxies", "every proxy"),
            (json!({ "node": { "trustedProxies": ["::/0"] } }), "node.trustedProxies", "every proxy"),
            (
                json!({ "node": { "trustedProxies": ["0.0.0.0/1", "128.0.0.0/1"] } }),
                "node.trustedProxies",
                "every proxy",
            ),
            (json!({ "node": { "proxyProtocol": "required" } }), "node.proxyProtocol", "trustedProxies"),
            (
                json!({ "node": { "tls": { "certFile": "/nowhere/cert.pem", "keyFile": "x" } } }),
                "node.tls",
                "No such file",
            ),
            (json!({ "telemetry": { "otlpEndpoint": "collector:4317" } }), "telemetry.otlpEndpoint", "http://"),
            (json!({ "telemetry": { "otlpEndpoint": "http://a:b@x" } }), "telemetry.otlpEndpoint", "HEADERS"),
            (json!({ "policy": { "shadow": ["everything"] } }), "policy.shadow[0]", "messageRate"),
            (
                json!({ "policy": { "cors": { "allowedOrigins": ["*"] } } }),
                "policy.cors.allowedOrigins[0]",
                "allowAnyOrigin",
            ),
            (
                json!({ "policy": { "monitoring": { "notifications": [{ "kind": "webhook", "url": "x", "minSeverity": "high" }] } } }),
                "policy.monitoring.notifications[0].url",
                "is not a URL",
            ),
        ]);
    }

    #[test]
    fn a_file_of_authorities_must_hold_some() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (path, words) in
            [(std::path::Path::new("/nowhere/ca.pem"), "No such file"), (file.path(), "no certificate")]
        {
            let state = json!({ "url": "rediss://127.0.0.1", "caFile": path });
            let mistakes = check(json!({ "state": state }), Role::Node).unwrap_err();
            assert!(
                mistakes.iter().any(|mistake| mistake.path == "state.caFile" && mistake.message.contains(words)),
                "{mistakes:?}"
            );
        }
    }

    #[test]
    fn shape_and_meaning_are_said_together_but_nothing_twice() {
        let said = said_about(
            json!({ "node": { "listen": 7, "routes": "none" }, "policy": { "cors": { "allowedOrigins": ["*"] } } }),
        );
        let paths: Vec<_> = said.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(paths, ["node.listen", "node.routes", "policy.cors.allowedOrigins[0]"]);
    }
}
