//! The environment's variables as configuration: `PICKET_NODE__LISTEN` is `node.listen`; and some by the names that others gave them.
//!
//! `__` separates the names of a path; inside a name case and `_` do not matter: `OPS_LISTEN` is `opsListen`. Where the schema
//! wants a text the value is taken as it is; a list of texts may be written with commas; everything else is read as YAML.

use picket_shared::policy::Mistake;
use picket_shared::secret::Secret;
use serde_json::{Value, json};

use super::credential;
use super::origins::{Located, Origins, Place};
use super::yaml::{self, below};

/// variables of Picket that are no configuration
const NOT_CONFIGURATION: [&str; 6] = [
    "PICKET_CONFIG",
    "PICKET_LOG",
    "PICKET_TEST_PANIC_EVENT",
    "PICKET_TEST_AUDIT_QUEUE",
    "PICKET_CORPORA",
    "PICKET_BIN",
];
/// how far references in the schema are followed
const REFERENCES_MAX: usize = 16;

/// what the environment says
#[derive(Debug, Default)]
pub struct Variables {
    pub value: Value,
    pub origins: Origins,
    pub admin_password: Option<Secret>,
    pub mistakes: Vec<Located>,
}

/// reads all variables against the schema of the configuration file
pub fn read(variables: &[(String, String)], schema: &Value) -> Variables {
    let mut read = Variables { value: json!({}), ..Variables::default() };
    let mut variables: Vec<_> = variables.iter().collect();
    // A whole section comes before the fields that are set in it by a variable of their own.
    variables.sort_by_key(|(name, _)| (name.matches("__").count(), name.clone()));
    for (name, text) in variables {
        if let Some(rest) = name.strip_prefix("PICKET_") {
            if !NOT_CONFIGURATION.contains(&name.as_str()) && !is_service_link(rest, text) {
                read.setting(name, rest, text, schema);
            }
        } else if !text.is_empty() {
            read.of_others(name, text);
        }
    }
    read
}

/// what Kubernetes and Docker set for a service that is called picket, or picket-something
fn is_service_link(rest: &str, text: &str) -> bool {
    let address = text.starts_with("tcp://") || text.starts_with("udp://");
    rest.ends_with("SERVICE_HOST")
        || rest.contains("SERVICE_PORT")
        || rest.ends_with("PORT") && address
        || rest.contains("PORT_") && rest.contains("_TCP")
        || rest.contains("PORT_") && rest.contains("_UDP")
}

impl Variables {
    fn setting(&mut self, name: &str, rest: &str, text: &str, schema: &Value) {
        let Some((path, wanted)) = find(rest, schema) else {
            return self.mistake(
                name,
                "",
                "no setting has this name; `__` separates the names of a path, as in PICKET_NODE__LISTEN",
            );
        };
        match value(text, wanted, schema) {
            Ok(value) => self.set(name, &path, value),
            Err(message) => self.mistake(name, &path, message),
        }
    }

    /// the names that the origin document and OpenTelemetry have for some settings
    fn of_others(&mut self, name: &str, text: &str) {
        match name {
            "OTEL_EXPORTER_OTLP_ENDPOINT" => self.set(name, "telemetry.otlpEndpoint", text.into()),
            "OTEL_SERVICE_NAME" => self.set(name, "telemetry.serviceName", text.into()),
            "WHITE_LIST_URLS" => self.set(name, "policy.cors.allowedOrigins", texts(text)),
            "REDIS_URL" => self.set(name, "state.url", text.into()),
            "SOCKET_ADMIN_USERNAME" => self.set(name, "coordinator.admin.username", text.into()),
            "SOCKET_ADMIN_PASSWORD" => match credential::hash(text) {
                Ok(hash) => {
                    self.set(name, "coordinator.admin.passwordHash", hash.into());
                    self.admin_password = Some(Secret::new(text));
                }
                Err(message) => self.mistake(name, "coordinator.admin.passwordHash", message),
            },
            _ => {}
        }
    }

    fn set(&mut self, name: &str, path: &str, value: Value) {
        if let Some(other) = self.origins.variable(path).filter(|_| !self.is_section(path)) {
            let message = format!("{other} sets the same; unset one of the two");
            return self.mistake(name, path, message);
        }
        self.origins.add_variable(path, &value, name);
        put(&mut self.value, path, value);
    }

    fn is_section(&self, path: &str) -> bool {
        let pointer = format!("/{}", path.replace('.', "/"));
        self.value.pointer(&pointer).is_some_and(Value::is_object)
    }

    fn mistake(&mut self, name: &str, path: &str, message: impl Into<String>) {
        self.mistakes.push(Located { place: Place::Variable(name.to_owned()), mistake: Mistake::new(path, message) });
    }
}

fn put(target: &mut Value, path: &str, value: Value) {
    let mut place = target;
    for name in path.split('.') {
        if !place.is_object() {
            *place = json!({});
        }
        place = &mut place[name];
    }
    *place = value;
}

/// the path that the name means, and the schema of what stands there
fn find<'s>(rest: &str, root: &'s Value) -> Option<(String, &'s Value)> {
    rest.split("__").try_fold((String::new(), root), |(path, schema), segment| {
        let plain = segment.replace('_', "").to_lowercase();
        let fields = resolve(schema, root)["properties"].as_object()?;
        let (name, field) = fields.iter().find(|(name, _)| name.to_lowercase() == plain)?;
        Some((below(&path, name), field))
    })
}

/// without references, and without the `null` of an optional value
fn resolve<'s>(schema: &'s Value, root: &'s Value) -> &'s Value {
    let mut schema = schema;
    for _ in 0..REFERENCES_MAX {
        let reference = schema["$ref"].as_str().and_then(|reference| root.pointer(reference.strip_prefix('#')?));
        let branch =
            schema["anyOf"].as_array().and_then(|branches| branches.iter().find(|branch| branch["type"] != "null"));
        match reference.or(branch) {
            Some(next) => schema = next,
            None => break,
        }
    }
    schema
}

fn value(text: &str, wanted: &Value, root: &Value) -> Result<Value, String> {
    let schema = resolve(wanted, root);
    if is(schema, "string") {
        return Ok(if text.is_empty() && is(schema, "null") { Value::Null } else { text.into() });
    }
    let list_of_texts = is(schema, "array") && is(resolve(&schema["items"], root), "string");
    if list_of_texts && !text.trim_start().starts_with('[') {
        return Ok(texts(text));
    }
    let document = yaml::parse(text)
        .map_err(|mistakes| mistakes.into_iter().map(|mistake| mistake.message).collect::<Vec<_>>().join("; "))?;
    Ok(document.value)
}

/// whether a value of this type fits
fn is(schema: &Value, kind: &str) -> bool {
    let named = match &schema["type"] {
        Value::String(name) => name == kind,
        Value::Array(names) => names.iter().any(|name| name == kind),
        _ => false,
    };
    // An enumeration whose values have descriptions is a choice of constants.
    named || schema["oneOf"].as_array().is_some_and(|branches| branches.iter().all(|branch| is(branch, kind)))
}

fn texts(text: &str) -> Value {
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn read_from(variables: &[(&str, &str)]) -> Variables {
        let variables: Vec<_> = variables.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        read(&variables, schemars::schema_for!(Config).as_value())
    }

    #[test]
    fn a_name_is_a_path_and_its_value_has_the_type_of_the_field() {
        let read = read_from(&[
            ("PICKET_NODE__OPS_LISTEN", "127.0.0.1:1"),
            ("PICKET_NODE__ID", "7"),
            ("PICKET_NODE__LIMITS__CONNECTIONSMAX", "7"),
            ("PICKET_NODE__TRUSTED_PROXIES", "10.0.0.0/8, 192.0.2.0/24"),
            ("PICKET_NODE__ROUTES", "[{path: /ws, upstream: 'ws://127.0.0.1:1', protocol: json}]"),
            ("PICKET_POLICY__ENFORCE", "on"),
            ("PICKET_POLICY__SECURITY__ALLOW_ANONYMOUS", "false"),
            ("PICKET_COORDINATOR__TOKENS__ISSUER", "ops"),
            ("PICKET_ENVIRONMENT", "development"),
            ("PICKET_LOG", "debug"),
            ("HOME", "/root"),
        ]);
        assert_eq!(read.mistakes, []);
        let expected = json!({
            "environment": "development",
            "node": {
                "opsListen": "127.0.0.1:1",
                "id": "7",
                "limits": { "connectionsMax": 7 },
                "trustedProxies": ["10.0.0.0/8", "192.0.2.0/24"],
                "routes": [{ "path": "/ws", "upstream": "ws://127.0.0.1:1", "protocol": "json" }],
            },
            "policy": { "enforce": "on", "security": { "allowAnonymous": false } },
            "coordinator": { "tokens": { "issuer": "ops" } },
        });
        assert_eq!(read.value, expected);
    }

    #[test]
    fn an_unknown_name_and_a_field_set_twice_are_mistakes() {
        let said = |variables: &[(&str, &str)]| {
            read_from(variables).mistakes.into_iter().map(|mistake| mistake.to_string()).collect::<Vec<_>>()
        };
        assert!(
            said(&[("PICKET_NODE__LISEN", "x")])[0].starts_with("environment variable PICKET_NODE__LISEN: no setting")
        );
        let twice = said(&[("PICKET_NODE__OPS_LISTEN", "a"), ("PICKET_NODE__OPSLISTEN", "b")]);
        assert_eq!(
            twice,
            [
                "environment variable PICKET_NODE__OPS_LISTEN: node.opsListen: PICKET_NODE__OPSLISTEN sets the same; unset one of the two"
            ]
        );
        assert_eq!(said(&[("PICKET_NODE", "{id: a}"), ("PICKET_NODE__DRAIN__GRACE_MS", "5")]), Vec::<String>::new());
    }

    #[test]
    fn what_an_orchestrator_sets_for_a_service_called_picket_is_no_configuration() {
        let links = [
            ("PICKET_SERVICE_HOST", "10.0.0.1"),
            ("PICKET_SERVICE_PORT_HTTP", "8080"),
            ("PICKET_PORT", "tcp://10.0.0.1:8080"),
            ("PICKET_NODE_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ];
        assert_eq!(read_from(&links).mistakes, []);
    }

    #[test]
    fn the_variables_of_the_origin_document_are_understood() {
        let read = read_from(&[
            ("WHITE_LIST_URLS", "https://a.example.com,https://b.example.com"),
            ("REDIS_URL", ""),
            ("SOCKET_ADMIN_USERNAME", "warden"),
            ("SOCKET_ADMIN_PASSWORD", "a long password"),
        ]);
        assert_eq!(
            read.value["policy"]["cors"]["allowedOrigins"],
            json!(["https://a.example.com", "https://b.example.com"])
        );
        assert_eq!(read.value["coordinator"]["admin"]["username"], "warden");
        assert!(read.value["coordinator"]["admin"]["passwordHash"].as_str().unwrap().starts_with("$argon2id$"));
        assert!(read.value.get("state").is_none());
    }
}
