//! Who the client is, through proxies that are trusted and no others; and what the upstream is told about it.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use ipnet::IpNet;
use picket_shared::address;
use picket_shared::forwarded::{FORWARDED_FOR, listed_client, parse_hop, walk};
use picket_shared::reason::Reason;
use picket_shared::telemetry::Trace;
use picket_shared::token::Principal;
use std::net::IpAddr;

use crate::attempt::Attempt;
use crate::refusal::Denial;

/// the right-most address of `X-Forwarded-For` or `Forwarded` that no trusted proxy has; the TCP peer if the peer is not one.
///
/// Where a trusted proxy passes on both and they name two clients, one of them is the client's own invention, and which one
/// cannot be told: that is refused.
pub fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> Result<IpAddr, Denial> {
    let peer = address::canonical(peer);
    if !address::contains_any(trusted, peer) {
        return Ok(peer);
    }
    let elements = forwarded_elements(headers)?;
    let by_list = headers.contains_key(FORWARDED_FOR).then(|| listed_client(peer, headers, trusted));
    let by_elements = elements.iter().any(|element| element.node.is_some()).then(|| {
        let hops = elements.iter().rev().map(|element| parse_hop(element.node.as_deref()?));
        walk(peer, hops, trusted)
    });
    match (by_list, by_elements) {
        (Some(one), Some(other)) if one != other => Err(unclear("X-Forwarded-For and Forwarded name two clients")),
        (one, other) => Ok(one.or(other).unwrap_or(peer)),
    }
}

/// what the nearest proxy says of the client's own connection: its scheme, and the host it asked for
pub fn claimed(headers: &HeaderMap) -> (Option<&'static str>, Option<HeaderValue>) {
    let elements = forwarded_elements(headers).unwrap_or_default();
    let nearest = elements.last();
    let listed = headers.get_all("x-forwarded-proto").iter().next_back().and_then(|line| line.to_str().ok());
    let scheme = listed.and_then(|line| line.rsplit(',').next()).or_else(|| nearest?.proto.as_deref());
    let scheme = scheme.map(|scheme| match scheme.trim().to_ascii_lowercase().as_str() {
        "https" | "wss" => "https",
        _ => "http",
    });
    let host = || HeaderValue::from_str(nearest?.host.as_deref()?).ok();
    (scheme, headers.get_all("x-forwarded-host").iter().next_back().cloned().or_else(host))
}

fn unclear(detail: &str) -> Denial {
    Denial::from(Reason::ProtocolError).because(detail)
}

/// one hop of a `Forwarded` header (RFC 7239 section 4)
#[derive(Debug, Default, PartialEq, Eq)]
struct Element {
    /// `for`: an address, or `unknown`, or a name that hides one
    node: Option<String>,
    proto: Option<String>,
    host: Option<String>,
}

/// the elements of all lines, the nearest last; a line that cannot be read could hide what a proxy appended to it
fn forwarded_elements(headers: &HeaderMap) -> Result<Vec<Element>, Denial> {
    let mut elements = Vec::new();
    for line in headers.get_all(header::FORWARDED) {
        let line = line.to_str().map_err(|_| unclear("an unreadable Forwarded header"))?;
        read_elements(line, &mut elements).ok_or_else(|| unclear("an unreadable Forwarded header"))?;
    }
    Ok(elements)
}

fn read_elements(line: &str, elements: &mut Vec<Element>) -> Option<()> {
    let mut element = Element::default();
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        if !rest.starts_with([',', ';']) {
            let (name, after) = rest.split_once('=')?;
            let (value, after) = read_value(after)?;
            rest = after;
            let field = match name.to_ascii_lowercase().as_str() {
                "for" => Some(&mut element.node),
                "proto" => Some(&mut element.proto),
                "host" => Some(&mut element.host),
                name => name.bytes().all(is_token_byte).then_some(None)?,
            };
            if let Some(field) = field
                && field.replace(value).is_some()
            {
                return None;
            }
            rest = rest.trim_start();
        }
        match rest.chars().next() {
            Some(',') => elements.push(std::mem::take(&mut element)),
            Some(';') | None => {}
            Some(_) => return None,
        }
        rest = rest.get(1..).unwrap_or_default().trim_start();
    }
    elements.push(element);
    Some(())
}

/// a token or a quoted string (RFC 9110 section 5.6), and what follows it. Proxies also write addresses with `:` and brackets
/// bare, which is not legal and not ambiguous.
fn read_value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ';', ' ', '\t']).unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        let legal = |byte: u8| is_token_byte(byte) || matches!(byte, b':' | b'[' | b']');
        return (!value.is_empty() && value.bytes().all(legal)).then(|| (value.to_owned(), rest));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            _ => value.push(character),
        }
    }
    None
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
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

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let line = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap())
        };
        lines.iter().map(line).collect()
    }

    fn found(peer: &str, lines: &[(&'static str, &str)]) -> Result<String, String> {
        let trusted = ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        let found = client_address(peer.parse().unwrap(), &headers(lines), &trusted);
        found.map(|address| address.to_string()).map_err(|denial| denial.detail.unwrap_or_default().into())
    }

    fn client(peer: &str, forwarded: &[&str]) -> String {
        let lines: Vec<_> = forwarded.iter().map(|line| (FORWARDED_FOR, *line)).collect();
        found(peer, &lines).unwrap()
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
        assert_eq!(client("10.0.0.1", &["\u{fc}\u{e9}, 198.51.100.1"]), "198.51.100.1", "the left spoils nothing");
    }

    #[test]
    fn h19_forwarded_says_the_same_in_its_own_words() {
        let forwarded = |peer, lines: &[&str]| {
            let lines: Vec<_> = lines.iter().map(|line| ("forwarded", *line)).collect();
            found(peer, &lines)
        };
        let is = |address: &str| Ok(address.to_owned());
        assert_eq!(forwarded("192.0.2.9", &["for=198.51.100.1"]), is("192.0.2.9"), "the peer is no trusted proxy");
        assert_eq!(forwarded("192.0.2.9", &["for=\"broken"]), is("192.0.2.9"));
        assert_eq!(forwarded("10.0.0.1", &["for=198.51.100.1"]), is("198.51.100.1"));
        assert_eq!(
            forwarded("10.0.0.1", &["For=6.6.6.6, for=198.51.100.1;proto=https, for=10.9.9.9"]),
            is("198.51.100.1")
        );
        assert_eq!(forwarded("10.0.0.1", &["for=6.6.6.6", "by=10.0.0.1 ; for=198.51.100.1"]), is("198.51.100.1"));
        assert_eq!(forwarded("10.0.0.1", &["for=\"[2001:db8::1]:4711\";host=\"a,b;c\""]), is("2001:db8::1"));
        assert_eq!(forwarded("10.0.0.1", &["for=198.51.100.1:80"]), is("198.51.100.1"), "bare, as some write it");
        for hidden in ["for=unknown", "for=_hidden", "for=198.51.100.1, for=_gazonk", "proto=https", ""] {
            assert_eq!(forwarded("10.0.0.1", &[hidden]), is("10.0.0.1"), "{hidden}");
        }
        for unreadable in
            ["for=\"6.6.6.6, for=198.51.100.1", "for", "for=1.1.1.1 2.2.2.2", "for=1.1.1.1;for=2.2.2.2", "for="]
        {
            assert!(forwarded("10.0.0.1", &[unreadable]).is_err(), "{unreadable}");
        }
    }

    #[test]
    fn h19_two_headers_that_name_two_clients_are_refused() {
        let both = |list: &str, element: &str| found("10.0.0.1", &[(FORWARDED_FOR, list), ("forwarded", element)]);
        assert_eq!(both("198.51.100.1", "for=198.51.100.1").as_deref(), Ok("198.51.100.1"));
        assert_eq!(both("6.6.6.6, 198.51.100.1", "for=198.51.100.1, for=10.2.2.2").as_deref(), Ok("198.51.100.1"));
        assert_eq!(both("198.51.100.1", "proto=https").as_deref(), Ok("198.51.100.1"), "it names no client");
        assert!(both("198.51.100.1", "for=6.6.6.6").is_err());
        assert!(both("6.6.6.6", "for=198.51.100.1").is_err());
    }

    #[test]
    fn the_nearest_proxy_says_scheme_and_host() {
        let said = |lines: &[(&'static str, &str)]| {
            let (scheme, host) = claimed(&headers(lines));
            (scheme, host.map(|host| host.to_str().unwrap().to_owned()))
        };
        assert_eq!(said(&[]), (None, None));
        assert_eq!(said(&[("x-forwarded-proto", "https, ws")]), (Some("http"), None));
        assert_eq!(said(&[("x-forwarded-proto", "http"), ("x-forwarded-proto", "WSS")]), (Some("https"), None));
        let element = ("forwarded", "host=evil.test, for=192.0.2.1;proto=https;host=\"shop.test:8443\"");
        assert_eq!(said(&[element]), (Some("https"), Some("shop.test:8443".to_owned())));
        assert_eq!(said(&[element, ("x-forwarded-host", "a.test")]).1.as_deref(), Some("a.test"));
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
