//! The verified address of the caller: the right-most hop that is not a trusted proxy.

use http::request::Parts;
use ipnet::IpNet;
use picket_shared::address;
use std::net::{IpAddr, Ipv4Addr};

use crate::listener::Peer;

const FORWARDED_FOR: &str = "x-forwarded-for";

pub(super) fn address(head: &Parts, trusted_proxies: &[IpNet]) -> IpAddr {
    let nobody = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let peer = head.extensions.get::<Peer>().map_or(nobody, |Peer(peer)| address::canonical(peer.ip()));
    let forwarded = head
        .headers
        .get_all(FORWARDED_FOR)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    let hops: Vec<&str> = forwarded.map(str::trim).collect();
    last_untrusted(peer, &hops, trusted_proxies)
}

fn last_untrusted(peer: IpAddr, hops: &[&str], trusted_proxies: &[IpNet]) -> IpAddr {
    let mut client = peer;
    for hop in hops.iter().rev() {
        if !address::contains_any(trusted_proxies, client) {
            break;
        }
        match hop.parse().map(address::canonical) {
            Ok(earlier) => client = earlier,
            Err(_) => break,
        }
    }
    client
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h19_only_trusted_proxies_speak_for_others() {
        let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap()];
        for (peer, hops, expected) in [
            ("192.0.2.1", vec!["198.51.100.7"], "192.0.2.1"),
            ("10.0.0.1", vec!["198.51.100.7"], "198.51.100.7"),
            ("10.0.0.1", vec!["127.0.0.1", "198.51.100.7", "10.0.0.2"], "198.51.100.7"),
            ("10.0.0.1", vec!["198.51.100.7", "nonsense"], "10.0.0.1"),
            ("10.0.0.1", vec![], "10.0.0.1"),
        ] {
            assert_eq!(last_untrusted(peer.parse().unwrap(), &hops, &trusted).to_string(), expected, "{peer} {hops:?}");
        }
    }
}
