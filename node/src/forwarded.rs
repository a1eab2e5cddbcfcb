//! Who the client is, through proxies that are trusted and no others; and what the upstream is told about it.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use ipnet::IpNet;
use picket_shared::address;
use picket_shared::telemetry::Trace;
use picket_shared::token::Principal;
use std::net::IpAddr;

use crate::attempt::Attempt;

/// entries of `X-Forwarded-For` that are walked
const HOPS_MAX: usize = 32;

/// the right-most address of `X-Forwarded-For` that no trusted proxy has; the TCP peer if the peer is not one
pub fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let mut client = address::canonical(peer);
    let lines = headers.get_all("x-forwarded-for").iter().rev();
    let hops = lines.flat_map(|line| line.to_str().unwrap_or("invalid").rsplit(','));
    for hop in hops.take(HOPS_MAX) {
        if !address::contains_any(trusted, client) {
            break;
        }
        match parse_hop(hop.trim()) {
            Some(hop) => client = hop,
            None => break,
        }
    }
    client
}

/// an address, with a port as some proxies write it
fn parse_hop(text: &str) -> Option<IpAddr> {
    let with_port = || text.parse::<std::net::SocketAddr>().ok().map(|hop| hop.ip());
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    text.parse().ok().or_else(with_port).or_else(bracketed).map(address::canonical)
}

/// removes what only Picket may say, in any spelling that an application server folds into one name (H20–H22)
pub fn remove_claims(headers: &mut HeaderMap) {
    let claims = |name: &HeaderName| {
        let name = name.as_str().replace('_', "-");
        name.starts_with("x-picket-") || name.starts_with("x-forwarded-") || name == "forwarded" || name == "x-real-ip"
    };
    remove_where(headers, claims);
}

/// removes what concerns one hop only (RFC 9110 section 7.6.1), the headers that `Connection` names included
pub fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<String> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    let hop_by_hop = |name: &HeaderName| {
        matches!(
            name.as_str(),
            "connection"
                | "keep-alive"
                | "proxy-connection"
                | "proxy-authenticate"
                | "proxy-authorization"
                | "te"
                | "trailer"
                | "transfer-encoding"
                | "upgrade"
                | "content-length"
        ) || named.iter().any(|one| one == name.as_str() && one != "host" && !one.starts_with("sec-websocket-"))
    };
    remove_where(headers, hop_by_hop);
}

fn remove_where(headers: &mut HeaderMap, unwanted: impl Fn(&HeaderName) -> bool) {
    let names: Vec<HeaderName> = headers.keys().filter(|name| unwanted(name)).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// what Picket says: whom it saw, by which name it was called, and who that is where it is known
pub fn add_claims(
    headers: &mut HeaderMap,
    attempt: &Attempt,
    host: Option<&HeaderValue>,
    scheme: &'static str,
    principal: Option<&Principal>,
) {
    let mut set = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    set("x-forwarded-for", &attempt.address.to_string());
    set("x-forwarded-proto", scheme);
    set("x-picket-connection", &attempt.id);
    set("x-picket-client", &attempt.address.to_string());
    if let Some(user) = principal.and_then(Principal::user) {
        set("x-picket-user", &escaped(&user.id));
        let roles: Vec<_> = user.roles.iter().map(|role| escaped(role)).collect();
        set("x-picket-roles", &roles.join(","));
    }
    if let Some(host) = host {
        headers.insert("x-forwarded-host", host.clone());
    }
}

/// the upstream is the next in the client's trace, after the node (W3C Trace Context)
pub fn continue_trace(headers: &mut HeaderMap, trace: &Trace) {
    for (name, value) in [("traceparent", trace.traceparent()), ("tracestate", trace.tracestate())] {
        headers.remove(name);
        if let Some(value) = HeaderValue::try_from(value).ok().filter(|value| !value.is_empty()) {
            headers.insert(name, value);
        }
    }
}

/// visible ASCII as it is; `%`, `,` (which parts roles) and every other byte percent-encoded (RFC 3986 section 2.1)
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'%' | b',' | 0..=0x20 | 0x7f.. => out.push_str(&format!("%{byte:02X}")),
            _ => out.push(char::from(byte)),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, forwarded: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append("x-forwarded-for", line.parse().unwrap());
        }
        let trusted = ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        client_address(peer.parse().unwrap(), &headers, &trusted).to_string()
    }

    #[test]
    fn h19_only_what_trusted_proxies_added_counts() {
        assert_eq!(client("192.0.2.9", &["198.51.100.1"]), "192.0.2.9", "the peer is no trusted proxy");
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &["198.51.100.1"]), "198.51.100.1");
        assert_eq!(client("10.0.0.1", &["203.0.113.5, 198.51.100.1, 10.9.9.9"]), "198.51.100.1");
        assert_eq!(client("10.0.0.1", &["203.0.113.5", "198.51.100.1"]), "198.51.100.1", "later lines are nearer");
        assert_eq!(client("10.0.0.1", &["203.0.113.5, nonsense"]), "10.0.0.1");
        assert_eq!(client("::ffff:10.0.0.1", &["[2001:db8::1]:4711"]), "2001:db8::1");
        assert_eq!(client("10.0.0.1", &["198.51.100.1:1234"]), "198.51.100.1");
    }

    #[test]
    fn h20_h21_h22_a_client_cannot_speak_for_picket_nor_strip_what_it_says() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("x-picket-user", "root"),
            ("x_picket_roles", "admin"),
            ("x_forwarded_for", "127.0.0.1"),
            ("X-Forwarded-Proto", "https"),
            ("connection", "upgrade, cookie, x-custom"),
            ("x-custom", "1"),
            ("accept-language", "de"),
        ] {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        remove_hop_by_hop(&mut headers);
        remove_claims(&mut headers);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["accept-language"]);
        assert_eq!(escaped("zoë%\r\n"), "zo%C3%AB%25%0D%0A");
        assert_eq!(escaped("guest,admin"), "guest%2Cadmin", "one role stays one role");
    }
}
