//! A JSON value as a [`Config`]: every mistake in its shape, and the configuration without the fields that are wrong, so that
//! the meaning of the rest can be checked in the same run.

use picket_shared::policy::Mistake;
use picket_shared::schema;
use serde_json::{Value, json};

use super::Config;
use super::origins::lies_in;

/// types that may refuse a value one after the other; each takes one field out
const REFUSALS_MAX: usize = 1000;

pub struct Shaped {
    pub config: Config,
    pub mistakes: Vec<Mistake>,
    /// what was taken out because it was wrong; nothing can be said about its meaning
    taken_out: Vec<String>,
}

impl Shaped {
    /// whether the field, what is around it and what is in it were understood
    pub fn understood(&self, path: &str) -> bool {
        !self.taken_out.iter().any(|wrong| lies_in(path, wrong) || lies_in(wrong, path))
    }
}

pub fn read(value: Value) -> Shaped {
    let mut sound = value;
    let mut mistakes = schema::check::<Config>(&sound);
    let mut taken_out: Vec<String> = Vec::new();
    for mistake in &mistakes {
        if !taken_out.iter().any(|wrong| lies_in(&mistake.path, wrong)) {
            taken_out.push(take_out(&mut sound, &mistake.path));
        }
    }
    for _ in 0..REFUSALS_MAX {
        let error = match serde_path_to_error::deserialize::<_, Config>(&sound) {
            Ok(config) => return Shaped { config, mistakes, taken_out },
            Err(error) => error,
        };
        let path = error.path().to_string();
        let path = if path == "." { String::new() } else { path };
        // A field that was taken out may be missing in what is around it: that was said already.
        if !taken_out.iter().any(|wrong| lies_in(wrong, &path)) {
            mistakes.push(Mistake::new(&path, mended(&error.inner().to_string())));
        }
        taken_out.push(take_out(&mut sound, &path));
    }
    Shaped { config: Config::default(), mistakes, taken_out: vec![String::new()] }
}

/// what a type of the standard library says, in words that help to mend it
fn mended(message: &str) -> String {
    match message {
        "invalid socket address syntax" => "must be an address with a port, such as 127.0.0.1:8080".to_owned(),
        "invalid IP address syntax" => "must be a prefix, such as 10.1.0.0/16 or 192.0.2.7/32".to_owned(),
        _ => message.to_owned(),
    }
}

/// removes the field, or the list or object that should have held it; answers what was removed
fn take_out(value: &mut Value, path: &str) -> String {
    let removable = removable(value, path);
    if removable.is_empty() {
        *value = json!({});
    } else {
        remove(value, &removable);
    }
    removable
}

/// the longest part of `path` that stands in the value as a field of an object; a list is taken as a whole
fn removable(value: &Value, path: &str) -> String {
    let (mut place, mut found, mut rest) = (value, String::new(), path);
    while let Some((name, field)) = field_at(place, rest) {
        found = super::yaml::below(&found, name);
        rest = rest[name.len()..].trim_start_matches('.');
        place = field;
    }
    found
}

fn remove(value: &mut Value, path: &str) {
    let Some(name) = field_at(value, path).map(|(name, _)| name.to_owned()) else {
        return;
    };
    let rest = path[name.len()..].trim_start_matches('.');
    if let Value::Object(fields) = value {
        match fields.get_mut(&name) {
            Some(field) if !rest.is_empty() => remove(field, rest),
            _ => drop(fields.remove(&name)),
        }
    }
}

/// the field with which `path` begins; names may have dots in them, so the longest counts
fn field_at<'v>(value: &'v Value, path: &str) -> Option<(&'v str, &'v Value)> {
    let fields = value.as_object()?.iter();
    let begins = fields.filter(|(name, _)| !path.is_empty() && lies_in(path, name) && !name.is_empty());
    begins.max_by_key(|(name, _)| name.len()).map(|(name, field)| (name.as_str(), field))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_of_every_kind_are_found_in_one_run_and_the_rest_is_read() {
        let shaped = read(json!({
            "node": { "listen": "nowhere", "opsListen": "127.0.0.1:1", "lisen": 1, "trustedProxies": ["x"] },
            "auth": { "jwt": { "issuers": [{ "issuer": "a" }], "userClaim": "id" } },
            "policy": {
                "rateLimiting": { "events": { "chat.typing": { "maxEvents": 0, "windowMs": 1000 } } },
                "cors": { "allowedOrigins": ["*"] },
            },
        }));
        let mut paths: Vec<_> = shaped.mistakes.iter().map(|mistake| mistake.path.as_str()).collect();
        paths.sort_unstable();
        assert_eq!(
            paths,
            [
                "auth.jwt.issuers[0].algorithms",
                "auth.jwt.issuers[0].audience",
                "node.lisen",
                "node.listen",
                "node.trustedProxies[0]",
                "policy.rateLimiting.events.chat.typing.maxEvents",
            ]
        );
        assert_eq!(shaped.config.node.ops_listen.to_string(), "127.0.0.1:1");
        assert_eq!(shaped.config.auth.jwt.user_claim, "id");
        assert_eq!(shaped.config.policy.cors.allowed_origins, ["*"]);
        assert!(shaped.understood("policy.cors.allowedOrigins[0]") && shaped.understood("node.opsListen"));
        assert!(!shaped.understood("auth.jwt.issuers[0]") && !shaped.understood("node.listen"));
    }

    #[test]
    fn a_document_that_is_no_object_is_one_mistake() {
        let shaped = read(json!([1]));
        assert_eq!(shaped.mistakes.len(), 1);
        assert_eq!(shaped.mistakes[0].path, "");
    }
}
