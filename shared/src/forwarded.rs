//! The way of a request through proxies, as they tell it: who is the client behind those that are trusted.

use http::HeaderMap;
use ipnet::IpNet;
use std::net::IpAddr;

use crate::address;

/// entries of a list that are walked
const HOPS_MAX: usize = 32;

pub const FORWARDED_FOR: &str = "x-forwarded-for";

/// the right-most address of `X-Forwarded-For` that no trusted proxy has; the peer if that is not one
pub fn listed_client(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    walk(address::canonical(peer), hops_of_list(headers), trusted)
}

/// from the peer on as long as trusted proxies speak, the nearest hop first; what is no address ends it
pub fn walk(peer: IpAddr, hops: impl Iterator<Item = Option<IpAddr>>, trusted: &[IpNet]) -> IpAddr {
    let mut client = peer;
    for hop in hops.take(HOPS_MAX) {
        match hop {
            Some(hop) if address::contains_any(trusted, client) => client = hop,
            _ => break,
        }
    }
    client
}

/// the entries of all lines of `X-Forwarded-For`, the nearest first; `None` is no address
fn hops_of_list(headers: &HeaderMap) -> impl Iterator<Item = Option<IpAddr>> {
    // By bytes: what a client wrote to the left must not spoil what a proxy appended.
    let lines = headers.get_all(FORWARDED_FOR).iter().rev();
    let hops = lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
    hops.map(|hop| parse_hop(std::str::from_utf8(hop).ok()?.trim()))
}

/// an address, with a port as some proxies write it
pub fn parse_hop(text: &str) -> Option<IpAddr> {
    let with_port = || text.parse::<std::net::SocketAddr>().ok().map(|hop| hop.ip());
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    text.parse().ok().or_else(with_port).or_else(bracketed).map(address::canonical)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn h19_only_trusted_proxies_speak_for_others() {
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        let client = |peer: &str, lines: &[&[u8]]| {
            let line =
                |line: &&[u8]| (http::HeaderName::from_static(FORWARDED_FOR), HeaderValue::from_bytes(line).unwrap());
            listed_client(peer.parse().unwrap(), &lines.iter().map(line).collect(), &trusted).to_string()
        };
        for (peer, lines, expected) in [
            ("192.0.2.1", vec![b"198.51.100.7".as_slice()], "192.0.2.1"),
            ("10.0.0.1", vec![], "10.0.0.1"),
            ("::ffff:10.0.0.1", vec![b"198.51.100.7"], "198.51.100.7"),
            ("10.0.0.1", vec![b"127.0.0.1, 198.51.100.7, 10.0.0.2"], "198.51.100.7"),
            ("10.0.0.1", vec![b"203.0.113.5", b"198.51.100.7"], "198.51.100.7"),
            ("10.0.0.1", vec![b"198.51.100.7, nonsense"], "10.0.0.1"),
            ("10.0.0.1", vec![b"198.51.100.7:4711"], "198.51.100.7"),
            ("10.0.0.1", vec![b"[2001:db8::1]:4711, [fd00::1]"], "fd00::1"),
            ("10.0.0.1", vec![b"\xff, 198.51.100.7"], "198.51.100.7"),
        ] {
            assert_eq!(client(peer, &lines), expected, "{peer} {lines:?}");
        }
        for (hops, expected) in [(HOPS_MAX - 1, "198.51.100.7"), (HOPS_MAX, "10.0.0.9")] {
            let line = format!("198.51.100.7{}", ", 10.0.0.9".repeat(hops));
            assert_eq!(client("10.0.0.1", &[line.as_bytes()]), expected, "{hops} proxies");
        }
    }
}
