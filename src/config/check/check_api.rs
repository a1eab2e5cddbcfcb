//! The check API's listener and its token: whoever has the token speaks for every client.

use picket_shared::policy::Mistake;

use super::is_production;
use crate::config::{Config, credential};

/// as long as `openssl rand -hex 16` makes one
const TOKEN_BYTES_MIN: usize = 32;

pub fn check(config: &Config, mistakes: &mut Vec<Mistake>) {
    let mut mistake = |message: &str| mistakes.push(Mistake::new("node.checkToken", message));
    match (config.node.check_listen, config.node.check_token.as_ref().map(|token| token.expose())) {
        (None, _) => {}
        (Some(_), None) => mistake("is needed with node.checkListen: the bearer token that the application sends"),
        (Some(_), Some("")) => mistake("must not be empty"),
        (Some(_), Some(token)) if !token.bytes().all(|byte| byte.is_ascii_graphic()) => {
            mistake("must be visible ASCII without spaces, as it stands in a header")
        }
        (Some(_), Some(token)) if is_production(config) && token.len() < TOKEN_BYTES_MIN => {
            mistake("must have at least 32 bytes; make one with `openssl rand -hex 32`")
        }
        (Some(_), Some(token)) if is_production(config) && credential::is_known(token) => {
            mistake("is a default or an example that everybody knows; make one with `openssl rand -hex 32`")
        }
        (Some(_), Some(_)) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{each_is_refused, said_about};
    use serde_json::{Value, json};

    fn node(token: Value) -> Value {
        json!({ "node": { "checkListen": "127.0.0.1:0", "checkToken": token } })
    }

    #[test]
    fn the_check_api_needs_a_token_that_is_a_secret() {
        let path = "node.checkToken";
        each_is_refused(vec![
            (node(Value::Null), path, "is needed"),
            (node(json!("")), path, "empty"),
            (node(json!("short")), path, "at least 32"),
            (node(json!("a token with spaces that is long enough, really")), path, "visible ASCII"),
            (node(json!("change-me-change-me-change-me-change-me")), path, "everybody knows"),
        ]);
        assert_eq!(said_about(node(json!("5b2c0f6a9d3e48178c6d4e2f1a0b9c8d7e6f5a4b"))), []);
        let mut development = node(json!("short"));
        development["environment"] = json!("development");
        assert_eq!(said_about(development), []);
    }
}
