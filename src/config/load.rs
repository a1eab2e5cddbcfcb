//! From flags, environment, file and defaults to one configuration. Each goes before the next; objects are merged field by
//! field, everything else is replaced.

use picket_shared::policy::{Environment, Mistake};
use picket_shared::secret::Secret;
use serde_json::{Map, Value, json};
use std::io::Read;
use std::path::Path;

use crate::role::Role;

use super::origins::{Located, Origins, Place};
use super::{Config, Otel, check, credential, environment, otel, yaml};

/// the complete default files, which are the defaults
const PRODUCTION: &str = include_str!("../../deploy/production.yaml");
const DEVELOPMENT: &str = include_str!("../../deploy/development.yaml");

/// what to read
pub struct Request<'a> {
    pub role: Role,
    pub file: Option<&'a Path>,
    pub variables: &'a [(String, String)],
    /// the environment, where neither a variable nor the file names one
    pub environment: Environment,
    /// what the command has instead of some defaults
    pub overlay: Value,
}

/// a configuration that can be used
#[derive(Debug)]
pub struct Loaded {
    pub config: Config,
    pub origins: Origins,
    /// the management password in clear, where a variable named it
    pub admin_password: Option<Secret>,
    pub otel: Otel,
}

/// reads and checks everything, or says every mistake with its place
pub fn load(request: Request<'_>) -> Result<Loaded, Vec<Located>> {
    let schema = schemars::schema_for!(Config);
    let variables = environment::read(request.variables, schema.as_value());
    let mut mistakes = variables.mistakes;
    let mut origins = variables.origins;
    let file = match request.file.map(read_file).transpose() {
        Ok(file) => file.unwrap_or_default(),
        Err(in_file) => {
            mistakes.extend(in_file);
            return Err(mistakes);
        }
    };
    if let Some(path) = request.file {
        origins = origins.with_file(path.to_owned(), file.lines);
    }

    let environment = named(&variables.value).or_else(|| named(&file.value)).unwrap_or(request.environment);
    let mut value = defaults(environment)?;
    value["environment"] = json!(environment);
    for layer in [request.overlay, file.value, variables.value] {
        merge(&mut value, layer);
    }

    let (config, mut found) = match check::check(value, request.role) {
        Ok(config) => (Some(config), Vec::new()),
        Err(found) => (None, found),
    };
    if environment == Environment::Production
        && variables.admin_password.as_ref().is_some_and(|password| credential::is_known(password.expose()))
    {
        found.push(Mistake::new("coordinator.admin.passwordHash", credential::KNOWN_PASSWORD));
    }
    mistakes.extend(found.into_iter().map(|mistake| origins.locate(mistake)));
    let telemetry = config.as_ref().map(|config: &Config| config.telemetry.clone()).unwrap_or_default();
    let otel = otel::read(request.variables, &telemetry).map_err(|found| mistakes.extend(found)).unwrap_or_default();
    match config {
        Some(config) if mistakes.is_empty() => {
            Ok(Loaded { config, origins, admin_password: variables.admin_password, otel })
        }
        _ => {
            mistakes.sort();
            mistakes.dedup();
            Err(mistakes)
        }
    }
}

fn named(value: &Value) -> Option<Environment> {
    serde_json::from_value(value.get("environment")?.clone()).ok()
}

fn defaults(environment: Environment) -> Result<Value, Vec<Located>> {
    let text = match environment {
        Environment::Production => PRODUCTION,
        Environment::Development => DEVELOPMENT,
    };
    yaml::parse(text).map(|document| document.value).map_err(|mistakes| in_file(Path::new("default file"), mistakes))
}

fn read_file(path: &Path) -> Result<yaml::Document, Vec<Located>> {
    let wrong = |line, message: String| {
        vec![Located { place: Place::File { path: path.to_owned(), line }, mistake: Mistake::new("", message) }]
    };
    let text = read_bounded(path).map_err(|error| wrong(None, format!("cannot be read: {error}")))?;
    let document = yaml::parse(&text).map_err(|mistakes| in_file(path, mistakes))?;
    match document.value {
        Value::Object(_) => Ok(document),
        Value::Null => Ok(yaml::Document { value: json!({}), ..document }),
        _ => Err(wrong(Some(1), "a configuration has fields, such as `environment: production`".to_owned())),
    }
}

/// one byte more than is allowed, so that too much is seen
fn read_bounded(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(yaml::FILE_BYTES_MAX as u64 + 1).read_to_string(&mut text)?;
    Ok(text)
}

fn in_file(path: &Path, mistakes: Vec<yaml::YamlMistake>) -> Vec<Located> {
    let located = |mistake: yaml::YamlMistake| Located {
        place: Place::File { path: path.to_owned(), line: Some(mistake.line) },
        mistake: Mistake::new(mistake.path, mistake.message),
    };
    mistakes.into_iter().map(located).collect()
}

fn merge(target: &mut Value, layer: Value) {
    match (target, layer) {
        (Value::Object(fields), Value::Object(layer)) => merge_fields(fields, layer),
        // A section without fields, as in `node:` with every line below it commented out, keeps its defaults.
        (Value::Object(_), Value::Null) => {}
        (target, layer) => *target = layer,
    }
}

fn merge_fields(fields: &mut Map<String, Value>, layer: Map<String, Value>) {
    for (name, value) in layer {
        merge(fields.entry(name).or_insert(Value::Null), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use picket_shared::policy::{Policy, Rules};

    fn request<'a>(file: Option<&'a Path>, variables: &'a [(String, String)]) -> Request<'a> {
        Request {
            role: Role::Standalone,
            file,
            variables,
            environment: Environment::Production,
            overlay: json!({ "state": { "url": "memory://" } }),
        }
    }

    fn variables(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    }

    fn written(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    const CREDENTIAL: [(&str, &str); 2] =
        [("SOCKET_ADMIN_USERNAME", "warden"), ("SOCKET_ADMIN_PASSWORD", "correct horse battery staple")];
    const ROUTE: &str = "[{path: /ws, upstream: 'ws://127.0.0.1:4000/ws', protocol: json}]";

    #[test]
    fn the_production_file_is_exactly_the_defaults_in_the_code() {
        let value = defaults(Environment::Production).unwrap();
        assert_eq!(serde_json::from_value::<Config>(value.clone()).unwrap(), Config::default());
        let complete = serde_json::to_value(Config::default()).unwrap();
        assert_eq!(value, complete, "every field stands in the file");
    }

    #[test]
    fn the_development_file_has_every_field_too() {
        fn names(value: &Value, path: &str, found: &mut Vec<String>) {
            found.push(path.to_owned());
            for (name, value) in value.as_object().into_iter().flatten() {
                names(value, &yaml::below(path, name), found);
            }
        }
        let (mut development, mut complete) = (Vec::new(), Vec::new());
        names(&defaults(Environment::Development).unwrap(), "", &mut development);
        names(&serde_json::to_value(Config::default()).unwrap(), "", &mut complete);
        assert_eq!(development, complete);
    }

    #[test]
    fn both_default_files_start() {
        for name in ["development.yaml", "production.yaml"] {
            let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name);
            let variables = variables(&[
                CREDENTIAL[0],
                CREDENTIAL[1],
                ("PICKET_NODE__ROUTES", ROUTE),
                ("PICKET_STATE__URL", "memory://"),
            ]);
            if let Err(mistakes) = load(request(Some(&file), &variables)) {
                panic!("{name}: {mistakes:?}");
            }
        }
    }

    // The origin document itself is not at hand here: both files are reconstructed from the field names of the contract.
    #[test]
    fn the_two_examples_of_the_origin_document_paste_in_unchanged() {
        for (text, environment) in [
            (include_str!("testdata/origin-development.yaml"), Environment::Development),
            (include_str!("testdata/origin-production.yaml"), Environment::Production),
        ] {
            let indented: String = text.lines().map(|line| format!("  {line}\n")).collect();
            let file = written(&format!("environment: {}\npolicy:\n{indented}", json!(environment)));
            let variables = variables(&[CREDENTIAL[0], CREDENTIAL[1], ("PICKET_NODE__ROUTES", ROUTE)]);
            let loaded = load(request(Some(file.path()), &variables)).unwrap();
            assert_ne!(loaded.config.policy, Policy::default());
            assert!(Rules::compile(loaded.config.policy, environment).is_ok());
        }
    }

    #[test]
    fn the_environment_goes_before_the_file_and_the_file_before_the_overlay() {
        let file = written(
            "environment: development\nnode:\n  id: of-the-file\n  drain: { graceMs: 7 }\ncoordinator:\npolicy:\n  cors: { allowedOrigins: ['https://a.example.com'] }\n",
        );
        let variables =
            variables(&[("PICKET_NODE__ID", "of-the-environment"), ("WHITE_LIST_URLS", "https://b.example.com")]);
        let overlay = json!({ "state": { "url": "memory://" }, "node": { "drain": { "graceMs": 8, "spreadMs": 9 } } });
        let Loaded { config, origins, .. } =
            load(Request { overlay, ..request(Some(file.path()), &variables) }).unwrap();
        assert_eq!(config.node.id.as_deref(), Some("of-the-environment"));
        assert_eq!((config.node.drain.grace_ms, config.node.drain.spread_ms), (7, 9));
        assert_eq!(config.policy.cors.allowed_origins, ["https://b.example.com"]);
        assert!(config.policy.cors.allow_missing_origin, "the default of development");
        assert!(origins.names("node.id") && !origins.names("telemetry.logFormat"));
    }

    #[test]
    fn every_mistake_has_its_place() {
        let file = written(
            "node:\n  listen: nowhere\n  trustedProxies: [0.0.0.0/0]\nstate:\n  url: redis://user:canary@127.0.0.1\n",
        );
        let variables =
            variables(&[("PICKET_NODE__ROUTES", "[]"), ("PICKET_NODES", "1"), ("SOCKET_ADMIN_PASSWORD", "change-me")]);
        let said: Vec<_> =
            load(request(Some(file.path()), &variables)).unwrap_err().iter().map(Located::to_string).collect();
        let path = file.path().display();
        let expected = [
            format!("{path}:2: node.listen: "),
            format!("{path}:3: node.trustedProxies: "),
            format!("{path}:5: state.url: "),
            "environment variable PICKET_NODES: no setting".to_owned(),
            "environment variable PICKET_NODE__ROUTES: node.routes: name at least one route".to_owned(),
            "environment variable SOCKET_ADMIN_PASSWORD: coordinator.admin.passwordHash: the password is a default"
                .to_owned(),
            "default: coordinator.admin.username: ".to_owned(),
        ];
        assert_eq!(said.len(), expected.len(), "{said:#?}");
        for start in expected {
            assert!(said.iter().any(|said| said.starts_with(&start)), "{start} in {said:#?}");
        }
        assert!(!said.concat().contains("canary"));
    }

    #[test]
    fn a_file_that_cannot_be_read_is_a_mistake() {
        let said = load(request(Some(Path::new("/nowhere/picket.yaml")), &[])).unwrap_err();
        assert!(said[0].to_string().starts_with("/nowhere/picket.yaml: cannot be read"), "{said:?}");
    }
}
