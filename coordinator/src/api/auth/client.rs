//! The verified address of the caller: the right-most hop that is not a trusted proxy.

use http::request::Parts;
use ipnet::IpNet;
use picket_shared::forwarded;
use std::net::{IpAddr, Ipv4Addr};

use crate::listener::Peer;

pub(super) fn address(head: &Parts, trusted_proxies: &[IpNet]) -> IpAddr {
    let nobody = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let peer = head.extensions.get::<Peer>().map_or(nobody, |Peer(peer)| peer.ip());
    forwarded::listed_client(peer, &head.headers, trusted_proxies)
}
