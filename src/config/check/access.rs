//! Who is believed: tokens of applications, and the management credential.

use picket_coordinator::api_keys::{ApiKeyError, ApiKeys};
use picket_node::config::SessionsMode;
use picket_shared::policy::Mistake;
use picket_shared::secret::Secret;
use picket_shared::token::{ClaimNames, IssuerConfig, TokenVerifier, hmac_secret};
use url::Url;

use super::{UNAVAILABLE, is_production};
use crate::config::{Config, credential};

const EVERYBODY_KNOWS: &str = "is a default or an example that everybody knows; make one with `openssl rand -hex 32`";

pub fn auth(config: &Config, mistakes: &mut Vec<Mistake>) {
    token_sources(&config.auth.token_sources, mistakes);
    keys(&config.auth.jwt.issuers, |index| format!("auth.jwt.issuers[{index}]"), config, mistakes);
    sessions(config, mistakes);
}

/// the secret of the statements to upstreams, which must prove nothing but these
pub fn assertion(config: &Config, mistakes: &mut Vec<Mistake>) {
    let Some(assertion) = &config.node.upstream_assertion else {
        return;
    };
    let is_of_issuer = |secret: &Secret| {
        let mut of_issuers = config.auth.jwt.issuers.iter().filter_map(|issuer| hmac_secret(issuer).ok());
        of_issuers.any(|one| one == *secret)
    };
    let message = match assertion.secret() {
        Err(error) => error.to_string(),
        Ok(secret) if is_of_issuer(&secret) => {
            "is also the secret of an issuer, whose tokens the upstreams could then make; make another with `openssl rand -hex 32`"
                .to_owned()
        }
        Ok(secret) if is_production(config) && credential::is_known(secret.expose()) => EVERYBODY_KNOWS.to_owned(),
        Ok(_) => return,
    };
    mistakes.push(Mistake::new("node.upstreamAssertion.secretFile", message));
}

fn token_sources(sources: &[String], mistakes: &mut Vec<Mistake>) {
    for (index, source) in sources.iter().enumerate() {
        let known = match source.split_once(':') {
            None => matches!(source.as_str(), "socketio-auth" | "authorization" | "subprotocol"),
            Some((kind, name)) => matches!(kind, "query" | "cookie") && is_token(name),
        };
        if !known {
            let message = format!(
                "`{source}` is not a place of tokens; known are socketio-auth, authorization, subprotocol, query:NAME and cookie:NAME"
            );
            mistakes.push(Mistake::new(format!("auth.tokenSources[{index}]"), message));
        }
    }
}

/// the characters that a cookie's name may have (RFC 6265 section 4.1.1)
fn is_token(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

fn sessions(config: &Config, mistakes: &mut Vec<Mistake>) {
    let sessions = &config.auth.sessions;
    for (name, pointer) in [("userPointer", &sessions.user_pointer), ("rolePointer", &sessions.role_pointer)] {
        if !pointer.starts_with('/') {
            mistakes.push(Mistake::new(format!("auth.sessions.{name}"), "must be a JSON pointer such as /user/id"));
        }
    }
    match (sessions.mode, &sessions.introspect_url) {
        (SessionsMode::Redis, _) => {
            mistakes.push(Mistake::new("auth.sessions.mode", format!("redis {UNAVAILABLE}; use introspect")))
        }
        (SessionsMode::Introspect, None) => {
            mistakes.push(Mistake::new(
                "auth.sessions.introspectUrl",
                "is needed for mode introspect: the URL that knows whether a session is valid",
            ));
        }
        (_, Some(url)) if !is_http_url(url) => mistakes
            .push(Mistake::new("auth.sessions.introspectUrl", "must be an http:// or https:// URL without a user")),
        _ => {}
    }
}

fn is_http_url(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
    })
}

pub fn coordinator(config: &Config, mistakes: &mut Vec<Mistake>) {
    audit_store(&config.coordinator.audit_store, mistakes);
    admin(config, mistakes);
    if let Err(errors) = ApiKeys::new(&config.coordinator.api_keys) {
        let mistake = |(index, error): (usize, ApiKeyError)| {
            Mistake::new(format!("coordinator.apiKeys[{index}]"), error.to_string())
        };
        mistakes.extend(errors.into_iter().map(mistake));
    }
    let Some(tokens) = &config.coordinator.tokens else {
        return;
    };
    keys(std::slice::from_ref(tokens), |_| "coordinator.tokens".to_owned(), config, mistakes);
    if config.auth.jwt.issuers.iter().any(|issuer| issuer.issuer == tokens.issuer) {
        let message = "must not be an issuer of auth.jwt.issuers: an application's token would open the management API";
        mistakes.push(Mistake::new("coordinator.tokens.issuer", message));
    }
}

fn audit_store(store: &str, mistakes: &mut Vec<Mistake>) {
    let message = match store.split_once(':') {
        Some(("sqlite", path)) if !path.is_empty() => return,
        Some(("postgres" | "postgresql", _)) => match Url::parse(store) {
            Ok(url) if !url.has_host() => "needs a host: postgres://USER:PASSWORD@HOST/DATABASE",
            // Elsewhere in the URL it would not be masked.
            Ok(url) if url.query_pairs().any(|(name, _)| name == "password") => {
                "must not have the password among its options; write postgres://USER:PASSWORD@HOST/DATABASE"
            }
            Ok(_) => return,
            Err(_) => {
                "is not a URL; write postgres://USER:PASSWORD@HOST/DATABASE, with special characters percent-encoded"
            }
        },
        _ => "must be sqlite:PATH or postgres://USER:PASSWORD@HOST/DATABASE",
    };
    mistakes.push(Mistake::new("coordinator.auditStore", message));
}

fn admin(config: &Config, mistakes: &mut Vec<Mistake>) {
    let admin = &config.coordinator.admin;
    let mut mistake =
        |name: &str, message: &str| mistakes.push(Mistake::new(format!("coordinator.admin.{name}"), message));
    match (&admin.username, &admin.password_hash) {
        (None, None) if is_production(config) => mistake(
            "username",
            "a management credential is needed in production: set SOCKET_ADMIN_USERNAME and SOCKET_ADMIN_PASSWORD, or coordinator.admin with username and passwordHash",
        ),
        (Some(_), None) => mistake(
            "passwordHash",
            "is missing: a user name and a password go together (SOCKET_ADMIN_PASSWORD sets it)",
        ),
        (None, Some(_)) => {
            mistake("username", "is missing: a user name and a password go together (SOCKET_ADMIN_USERNAME sets it)")
        }
        _ => {}
    }
    // The separator of HTTP Basic (RFC 7617 section 2).
    if admin.username.as_ref().is_some_and(|name| name.is_empty() || name.contains(':')) {
        mistake("username", "must not be empty or contain a colon");
    }
    let Some(hash) = admin.password_hash.as_ref().map(|hash| hash.expose()) else {
        return;
    };
    if let Err(message) = credential::check_hash(hash) {
        mistake("passwordHash", &message);
    } else if is_production(config) && credential::is_hash_of_known(hash) {
        mistake("passwordHash", credential::KNOWN_PASSWORD);
    }
}

/// every issuer's key can be read, and in production nobody knows it
fn keys(issuers: &[IssuerConfig], at: impl Fn(usize) -> String, config: &Config, mistakes: &mut Vec<Mistake>) {
    if let Err(errors) = TokenVerifier::new(issuers, ClaimNames::default()) {
        mistakes.extend(errors.into_iter().map(|(index, error)| Mistake::new(at(index), error.to_string())));
    }
    for (index, issuer) in issuers.iter().enumerate() {
        for (name, text) in [("issuer", &issuer.issuer), ("audience", &issuer.audience)] {
            if text.is_empty() {
                mistakes.push(Mistake::new(format!("{}.{name}", at(index)), "must not be empty"));
            }
        }
        if let Some(url) = &issuer.jwks_url
            && is_production(config)
            && is_in_clear(url)
        {
            let message =
                "fetches keys in clear, and whoever is on the way could put others in their place; use https://";
            mistakes.push(Mistake::new(format!("{}.jwksUrl", at(index)), message));
        }
        let field = if issuer.secret.is_some() { "secret" } else { "secretFile" };
        if is_production(config) && hmac_secret(issuer).is_ok_and(|secret| credential::is_known(secret.expose())) {
            mistakes.push(Mistake::new(format!("{}.{field}", at(index)), EVERYBODY_KNOWS));
        }
    }
}

/// whether somebody on the way could change what is fetched: not on loopback
fn is_in_clear(url: &str) -> bool {
    let is_loopback = |url: &Url| match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    Url::parse(url).is_ok_and(|url| url.scheme() == "http" && !is_loopback(&url))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{each_is_refused, said_about};
    use serde_json::{Value, json};

    #[test]
    fn an_api_key_that_cannot_be_checked_stops_the_start() {
        let key = |field: &str, value: &str| {
            let mut key = json!({ "name": "ci", "scopes": ["audit:read"] });
            key[field] = value.into();
            json!({ "coordinator": { "apiKeys": [key] } })
        };
        let sound = key("keyHash", &"0".repeat(64));
        assert_eq!(said_about(sound), []);
        each_is_refused(vec![
            (key("keyHash", "abc"), "coordinator.apiKeys[0]", "64 hex digits"),
            (key("keyFile", "/nowhere/key"), "coordinator.apiKeys[0]", "/nowhere/key"),
        ]);
    }

    const SECRET: &str = "5b2c0f6a9d3e48178c6d4e2f1a0b9c8d7e6f5a4b";

    fn issuer(name: &str, secret: &str) -> Value {
        json!({ "issuer": name, "audience": "chat", "algorithms": ["HS256"], "secret": secret })
    }

    fn issuers(list: Vec<Value>) -> Value {
        json!({ "auth": { "jwt": { "issuers": list } } })
    }

    #[test]
    fn what_cannot_prove_anything_is_refused() {
        let many = (0..17).map(|n| issuer(&n.to_string(), SECRET)).collect();
        let mut tokens = issuers(vec![issuer("shop", SECRET)]);
        tokens["coordinator"] = json!({ "tokens": issuer("shop", SECRET) });
        each_is_refused(vec![
            (json!({ "auth": { "tokenSources": ["header"] } }), "auth.tokenSources[0]", "query:NAME"),
            (json!({ "auth": { "tokenSources": ["authorization", "query:"] } }), "auth.tokenSources[1]", "query:NAME"),
            (json!({ "auth": { "sessions": { "mode": "redis" } } }), "auth.sessions.mode", "not available"),
            (json!({ "auth": { "sessions": { "mode": "introspect" } } }), "auth.sessions.introspectUrl", "needed"),
            (json!({ "auth": { "sessions": { "introspectUrl": "x" } } }), "auth.sessions.introspectUrl", "http://"),
            (json!({ "auth": { "sessions": { "userPointer": "id" } } }), "auth.sessions.userPointer", "pointer"),
            (issuers(vec![issuer("shop", "short")]), "auth.jwt.issuers[0]", "at least 32"),
            (
                issuers(vec![issuer("shop", "change-me-change-me-change-me-change-me")]),
                "auth.jwt.issuers[0].secret",
                "everybody knows",
            ),
            (issuers(many), "auth.jwt.issuers[16]", "at most 16"),
            (tokens, "coordinator.tokens.issuer", "application's token"),
        ]);
        assert_eq!(said_about(issuers(vec![issuer("shop", SECRET)])), []);
        assert_eq!(
            said_about(json!({ "auth": { "tokenSources": ["subprotocol", "query:token", "cookie:__Host-session"] } })),
            []
        );
    }

    #[test]
    fn a_statement_to_upstreams_is_signed_with_a_secret_of_its_own() {
        let holding = |text: &str| {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), text).unwrap();
            file
        };
        let (short, own, shared) = (holding("short"), holding(&format!("{SECRET}-of-its-own")), holding(SECRET));
        let patch = |path: &std::path::Path| {
            json!({
                "node": { "upstreamAssertion": { "secretFile": path } },
                "auth": { "jwt": { "issuers": [issuer("https://id.example.com", SECRET)] } },
            })
        };
        assert_eq!(said_about(patch(own.path())), []);
        each_is_refused(vec![
            (patch(std::path::Path::new("/nowhere")), "node.upstreamAssertion.secretFile", "cannot read"),
            (patch(short.path()), "node.upstreamAssertion.secretFile", "at least 32"),
            (patch(shared.path()), "node.upstreamAssertion.secretFile", "of an issuer"),
        ]);
    }

    #[test]
    fn management_needs_a_credential_that_is_a_secret() {
        let admin = |username: Value, hash: Value| json!({ "coordinator": { "admin": { "username": username, "passwordHash": hash } } });
        let weak = crate::config::credential::hash("password").unwrap();
        each_is_refused(vec![
            (admin(Value::Null, Value::Null), "coordinator.admin.username", "SOCKET_ADMIN_USERNAME"),
            (admin(json!("warden"), Value::Null), "coordinator.admin.passwordHash", "go together"),
            (admin(json!("warden"), json!("secret")), "coordinator.admin.passwordHash", "PHC"),
            (
                admin(json!("a:b"), json!(crate::config::credential::hash("a long one").unwrap())),
                "coordinator.admin.username",
                "colon",
            ),
            (admin(json!("warden"), json!(weak)), "coordinator.admin.passwordHash", "everybody knows"),
            (json!({ "coordinator": { "auditStore": "postgres:" } }), "coordinator.auditStore", "postgres://USER"),
            (
                json!({ "coordinator": { "auditStore": "postgres://h/d?password=x" } }),
                "coordinator.auditStore",
                "must not have",
            ),
            (json!({ "coordinator": { "auditStore": "mysql://x" } }), "coordinator.auditStore", "sqlite:PATH"),
            (json!({ "coordinator": { "auditStore": "sqlite:" } }), "coordinator.auditStore", "sqlite:PATH"),
        ]);
        let mut development = admin(Value::Null, Value::Null);
        development["environment"] = json!("development");
        assert_eq!(said_about(development), []);
    }
}
