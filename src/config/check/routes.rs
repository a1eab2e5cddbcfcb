//! Routes: paths, hosts, upstreams, and how events are named.

use picket_node::config::{Parser, Protocol, RouteConfig};
use picket_node::route::{Route, RouteError};
use picket_shared::policy::Mistake;
use std::collections::HashSet;
use url::Url;

use crate::config::Config;
use crate::role::Role;

/// routes of one node
const ROUTES_MAX: usize = 1000;
/// upstreams of one route
const UPSTREAMS_MAX: usize = 100;

pub fn check(config: &Config, role: Role, mistakes: &mut Vec<Mistake>) {
    let routes = &config.node.routes;
    if routes.is_empty() && !(role == Role::Standalone && config.may_run_the_demo()) {
        let message =
            "name at least one route, such as { path: /ws, upstream: 'ws://127.0.0.1:4000/ws', protocol: json }";
        mistakes.push(Mistake::new("node.routes", message));
    }
    if routes.len() > ROUTES_MAX {
        mistakes.push(Mistake::new(
            "node.routes",
            format!("has {} entries; at most {ROUTES_MAX} are allowed", routes.len()),
        ));
    }
    let mut taken = HashSet::new();
    for (index, route) in routes.iter().enumerate() {
        let at = format!("node.routes[{index}]");
        let mut mistake = |field: &str, message: String| mistakes.push(Mistake::new(format!("{at}.{field}"), message));
        for (field, wrong) in wrong_fields(route) {
            mistake(field, wrong);
        }
        for host in hosts(route) {
            if !taken.insert((host.clone(), route.path.as_str())) {
                let host = host.map_or_else(|| "any host".to_owned(), |host| format!("host {host}"));
                mistake("path", format!("another route already serves {} for {host}", route.path));
            }
        }
    }
}

/// the hosts of a route; `None` is any
fn hosts(route: &RouteConfig) -> Vec<Option<String>> {
    if route.hosts.is_empty() {
        return vec![None];
    }
    route.hosts.iter().map(|host| Some(host.to_ascii_lowercase())).collect()
}

fn wrong_fields(route: &RouteConfig) -> Vec<(&'static str, String)> {
    let mut wrong = Vec::new();
    if route.transports.is_empty() {
        wrong.push(("transports", "must name polling, websocket or both".to_owned()));
    }
    if !route.path.starts_with('/') || route.path.contains(['?', '#']) || route.path.contains(char::is_whitespace) {
        wrong.push(("path", "must start with `/`, and have no query, fragment or blank".to_owned()));
    }
    if let Some(host) = route.hosts.iter().find(|host| !is_host(host)) {
        wrong.push(("hosts", format!("`{host}` is not a host name; write it without scheme, port and path")));
    }
    wrong.extend(wrong_upstreams(route));
    if route.refusal.is_some() && !matches!(route.protocol, Protocol::Json | Protocol::MsgPack) {
        wrong.push(("refusal", "is for the protocols json and msgpack".to_owned()));
    }
    if route.parser != Parser::Default && route.protocol != Protocol::SocketIo {
        wrong.push(("parser", "is for protocol: socketio".to_owned()));
    }
    if !is_event_field(&route.event_field) {
        wrong.push((
            "eventField",
            "must be the name of a top-level field, or a JSON pointer such as /meta/type".to_owned(),
        ));
    }
    wrong
}

fn is_host(host: &str) -> bool {
    !host.contains([':', '/', '*']) && url::Host::parse(host).is_ok()
}

fn wrong_upstreams(route: &RouteConfig) -> Vec<(&'static str, String)> {
    let urls = route.upstream.urls();
    if urls.is_empty() || urls.len() > UPSTREAMS_MAX {
        return vec![("upstream", format!("names {} upstreams; from 1 to {UPSTREAMS_MAX} are allowed", urls.len()))];
    }
    let unusable: Vec<_> =
        urls.iter().filter_map(|url| check_upstream(url).err()).map(|message| ("upstream", message)).collect();
    if !unusable.is_empty() {
        return unusable;
    }
    let is_encrypted = |url: &String| url.starts_with("https:") || url.starts_with("wss:");
    if route.upstream_tls.is_some() && !urls.iter().any(is_encrypted) {
        return vec![("upstreamTls", "is for https:// and wss:// upstreams, of which this route has none".to_owned())];
    }
    match Route::new(route) {
        Err(RouteError::Tls(error)) => vec![("upstreamTls", error.to_string())],
        Err(RouteError::Refusal(error)) => vec![("refusal", error.to_string())],
        Err(error) => vec![("upstream", error.to_string())],
        Ok(_) => Vec::new(),
    }
}

fn check_upstream(text: &str) -> Result<(), String> {
    let url = Url::parse(text).map_err(|error| {
        format!("is not a URL ({error}); write it as http://127.0.0.1:3000 or ws://127.0.0.1:4000/ws")
    })?;
    match url.scheme() {
        "http" | "ws" | "https" | "wss" => {}
        other => {
            return Err(format!("`{other}` is not a scheme of an upstream; use http://, ws://, https:// or wss://"));
        }
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err("names no host".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        return Err("must not have a user, a password, a query or a fragment".to_owned());
    }
    Ok(())
}

/// a name, or a pointer whose `~` are escaped (RFC 6901 section 3)
fn is_event_field(text: &str) -> bool {
    let escaped = text.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
    !text.is_empty() && (!text.starts_with('/') || escaped)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{each_is_refused, said_about};
    use serde_json::{Value, json};

    fn with(field: &str, value: Value) -> Value {
        let mut route = json!({ "path": "/ws", "upstream": "ws://127.0.0.1:4000/ws", "protocol": "json" });
        route[field] = value;
        json!({ "node": { "routes": [route] } })
    }

    #[test]
    fn what_cannot_be_routed_is_refused() {
        let field = |name: &'static str, value: Value, words: &'static str| (name, value, words);
        for (name, value, words) in [
            field("path", json!("ws"), "must start with"),
            field("path", json!("/ws?x"), "no query"),
            field("hosts", json!(["https://a.example.com"]), "host name"),
            field("hosts", json!(["a.example.com:80"]), "host name"),
            field("upstream", json!("127.0.0.1:4000"), "is not a URL"),
            field("upstream", json!([]), "from 1 to"),
            field("upstream", json!(["ws://127.0.0.1:4000", "ftp://127.0.0.1"]), "not a scheme"),
            field("upstreamTls", json!({ "serverName": "a.test" }), "has none"),
            field("upstream", json!("ftp://127.0.0.1"), "not a scheme"),
            field("upstream", json!("ws://user@127.0.0.1"), "user"),
            field("refusal", json!({ "id": "{id}" }), "JSON pointer"),
            field("parser", json!("msgpack"), "for protocol: socketio"),
            field("eventField", json!(""), "top-level"),
            field("eventField", json!("/a~b"), "pointer"),
        ] {
            each_is_refused(vec![(with(name, value), &format!("node.routes[0].{name}"), words)]);
        }
        assert_eq!(said_about(with("upstream", json!(["ws://127.0.0.1:4000", "http://127.0.0.1:4001"]))), []);
        for (tls, words) in [
            (json!({ "caFile": "/nowhere/ca.pem" }), "No such file"),
            (json!({ "pins": ["sha256"] }), "no pin"),
            (json!({ "serverName": "no name" }), "no name"),
        ] {
            let mut patch = with("upstream", json!("wss://127.0.0.1:4000"));
            patch["node"]["routes"][0]["upstreamTls"] = tls;
            each_is_refused(vec![(patch, "node.routes[0].upstreamTls", words)]);
        }
        assert_eq!(said_about(with("protocol", json!("msgpack"))), []);
        assert_eq!(said_about(with("refusal", json!({ "id": "{/id}" }))), []);
        let mut text = with("refusal", json!("{reason}"));
        text["node"]["routes"][0]["protocol"] = json!("text");
        each_is_refused(vec![(text, "node.routes[0].refusal", "json and msgpack")]);
        assert_eq!(said_about(with("eventField", json!("/meta/ty~1pe"))), []);
        assert_eq!(said_about(with("hosts", json!(["a.example.com", "192.0.2.1"]))), []);
    }

    #[test]
    fn a_path_is_served_once_for_each_host() {
        let route =
            |hosts: Value| json!({ "path": "/ws", "hosts": hosts, "upstream": "ws://127.0.0.1:1", "protocol": "json" });
        let said = |routes: Value| said_about(json!({ "node": { "routes": routes } }));
        assert_eq!(said(json!([route(json!(["a.test"])), route(json!(["b.test"])), route(json!([]))])), []);
        let twice = said(json!([route(json!(["a.test"])), route(json!(["A.test"]))]));
        assert_eq!(twice, [("node.routes[1].path".into(), "another route already serves /ws for host a.test".into())]);
    }

    #[test]
    fn without_routes_only_the_demo_starts() {
        let none = |environment: &str, listen: &str| {
            said_about(json!({ "environment": environment, "node": { "routes": [], "listen": listen } }))
        };
        assert_eq!(none("development", "127.0.0.1:8080"), []);
        assert_eq!(none("development", "0.0.0.0:8080").len(), 1);
        assert_eq!(none("production", "127.0.0.1:8080").len(), 1);
    }
}
