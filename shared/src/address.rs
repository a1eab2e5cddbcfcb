//! Client addresses: one canonical form, and the prefix that counts as one subject.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::net::IpAddr;

/// the IPv6 prefix that one subscriber holds at the least; counting single addresses would let one host be 2^64 clients
pub const IPV6_SUBJECT_PREFIX: u8 = 64;
/// wider prefixes that one subscriber may hold (RFC 6177, RIPE-690), and how many times the limit of a /64 they have together:
/// honest neighbours fit, and whoever changes its /64 with each connection does not
const IPV6_TIERS: [(u8, u32); 2] = [(56, 4), (48, 16)];

/// what one network operator is given at the least, by rule of thumb
const NEIGHBOURHOOD_V4: u8 = 16;
const NEIGHBOURHOOD_V6: u8 = 32;

/// folds IPv4-mapped IPv6 addresses (`::ffff:192.0.2.1`, RFC 4291 section 2.5.5.2) to IPv4
pub fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// what counts as one client: an IPv4 address, or the /64 of an IPv6 address; or one of the wider tiers above that
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AddressKey(IpNet);

impl AddressKey {
    pub fn of(address: IpAddr) -> Self {
        AddressKey(match canonical(address) {
            IpAddr::V4(v4) => IpNet::V4(Ipv4Net::from(v4)),
            IpAddr::V6(v6) => IpNet::V6(Ipv6Net::new_assert(v6, IPV6_SUBJECT_PREFIX).trunc()),
        })
    }

    /// every prefix that `address` is counted by, the narrowest first, with the factor on the limits of one client
    pub fn tiers(address: IpAddr) -> impl Iterator<Item = (Self, u32)> {
        let wider = IPV6_TIERS.into_iter().filter_map(move |(length, factor)| match canonical(address) {
            IpAddr::V4(_) => None,
            IpAddr::V6(v6) => Some((AddressKey(IpNet::V6(Ipv6Net::new_assert(v6, length).trunc())), factor)),
        });
        std::iter::once((AddressKey::of(address), 1)).chain(wider)
    }

    /// the network in which addresses are counted that came when there was no place for a counter of their own
    pub fn neighbourhood(self) -> Self {
        let length = match self.0 {
            IpNet::V4(_) => NEIGHBOURHOOD_V4,
            IpNet::V6(_) => NEIGHBOURHOOD_V6,
        };
        AddressKey(IpNet::new_assert(self.0.addr(), length.min(self.0.prefix_len())).trunc())
    }

    pub fn is_wider_than_one_client(self) -> bool {
        self != AddressKey::of(self.0.addr())
    }

    pub fn network(self) -> IpNet {
        self.0
    }
}

impl std::fmt::Display for AddressKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        NetworkText(self.0).fmt(f)
    }
}

/// writes an address as itself, a prefix with its length
pub struct NetworkText(pub IpNet);

impl std::fmt::Display for NetworkText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let NetworkText(network) = self;
        if network.prefix_len() == network.max_prefix_len() {
            write!(f, "{}", network.addr())
        } else {
            write!(f, "{network}")
        }
    }
}

/// reads an address or a prefix, in canonical form
pub fn parse_network(text: &str) -> Option<IpNet> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(IpNet::from(canonical(address)));
    }
    text.parse::<IpNet>().ok().map(|network| fold_mapped(network.trunc()))
}

/// a list of prefixes in canonical form
pub fn canonical_networks(networks: &[IpNet]) -> Vec<IpNet> {
    networks.iter().map(|network| fold_mapped(network.trunc())).collect()
}

/// a prefix of IPv4-mapped addresses as the IPv4 prefix that it means
fn fold_mapped(network: IpNet) -> IpNet {
    const MAPPED_PREFIX: u8 = 96;
    match (canonical(network.addr()), network.prefix_len().checked_sub(MAPPED_PREFIX)) {
        (IpAddr::V4(v4), Some(length)) if matches!(network, IpNet::V6(_)) => {
            Ipv4Net::new(v4, length).map_or(network, IpNet::V4)
        }
        _ => network,
    }
}

/// whether `network` holds `address`, either in canonical form
pub fn contains_any(networks: &[IpNet], address: IpAddr) -> bool {
    let address = canonical(address);
    networks.iter().any(|network| network.contains(&address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h23_one_subscriber_is_one_subject() {
        let key = |text: &str| AddressKey::of(text.parse().unwrap());
        assert_eq!(key("2001:db8:1:2::1"), key("2001:db8:1:2:ffff::9"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
        assert_eq!(key("::ffff:192.0.2.7"), key("192.0.2.7"));
        assert_eq!(key("192.0.2.7").to_string(), "192.0.2.7");
        assert_eq!(key("2001:db8::1").to_string(), "2001:db8::/64");
    }

    #[test]
    fn h23_wider_prefixes_have_four_and_sixteen_times_the_limit() {
        let tiers = |text: &str| -> Vec<_> {
            AddressKey::tiers(text.parse().unwrap()).map(|(key, factor)| (key.to_string(), factor)).collect()
        };
        let expected = [("2001:db8:1:2ab::/64", 1), ("2001:db8:1:200::/56", 4), ("2001:db8:1::/48", 16)];
        assert_eq!(tiers("2001:db8:1:2ab::1"), expected.map(|(text, factor)| (text.to_owned(), factor)));
        assert_eq!(tiers("::ffff:192.0.2.7"), [("192.0.2.7".to_owned(), 1)]);
    }

    #[test]
    fn prefixes_are_read_in_canonical_form() {
        for (text, expected) in [
            ("192.0.2.7", "192.0.2.7/32"),
            ("192.0.2.7/24", "192.0.2.0/24"),
            ("::ffff:192.0.2.7", "192.0.2.7/32"),
            ("::ffff:127.0.0.0/104", "127.0.0.0/8"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
            ("::/0", "::/0"),
            ("2001:db8::1/32", "2001:db8::/32"),
        ] {
            assert_eq!(parse_network(text).unwrap().to_string(), expected, "{text}");
        }
        assert_eq!(parse_network("192.0.2.0/33"), None);
    }
}
