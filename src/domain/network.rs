//! IP networks, and which address a request came from when proxies stand in between.
//!
//! Rule: a forwarding header is text that anybody can write. Only what a proxy of the operator's own
//! added to it is believed: reading from the right, the first address that is not such a proxy is the
//! payer's. Nothing here looks at a socket or a header by itself.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bits of an IPv4 network that is taken for one place: what one provider hands out together.
pub const IPV4_PLACE_BITS: u8 = 24;

/// Bits of an IPv6 network that is taken for one place: a site's usual assignment (RFC 6177).
pub const IPV6_PLACE_BITS: u8 = 48;

/// Entries of a forwarding header that are looked at, from the right. Real chains have two or three.
const HOPS_MAX: usize = 16;

/// A network: an address and how many of its bits count.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

fn masked(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits.min(32))).unwrap_or(0);
            Ipv4Addr::from_bits(address.to_bits() & mask).into()
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits.min(128))).unwrap_or(0);
            Ipv6Addr::from_bits(address.to_bits() & mask).into()
        }
    }
}

impl Network {
    /// Reads `203.0.113.0/24`, `2001:db8::/48`, or an address by itself. `None` for anything else, for
    /// example a network whose address has bits outside of it, which is most likely a mistake.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let bits_max = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => bits_max,
            Some(bits) if bits.bytes().all(|byte| byte.is_ascii_digit()) => bits.parse().ok()?,
            Some(_) => return None,
        };
        (bits <= bits_max && masked(address, bits) == address).then_some(Self { address, bits })
    }

    /// The network that is taken for one place: /24 or /48 round an address.
    pub fn place_of(address: IpAddr) -> Self {
        let address = address.to_canonical();
        let bits = if address.is_ipv4() { IPV4_PLACE_BITS } else { IPV6_PLACE_BITS };
        Self { address: masked(address, bits), bits }
    }

    /// Whether an address lies in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4() && masked(address, self.bits) == self.address
    }
}

impl fmt::Display for Network {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.address, self.bits)
    }
}

/// Whether many payers may stand behind an address because it is not one of the internet: this machine, a
/// private network, a link. Such a peer is a proxy or a developer, and says nothing of who pays.
pub fn is_inside(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let shared = Network { address: Ipv4Addr::new(100, 64, 0, 0).into(), bits: 10 };
            address.is_loopback()
                || address.is_private()
                || address.is_link_local()
                || address.is_unspecified()
                || shared.contains(address.into())
        }
        IpAddr::V6(address) => {
            address.is_loopback()
                || address.is_unspecified()
                || address.is_unique_local()
                || address.is_unicast_link_local()
        }
    }
}

/// The address in one entry of `X-Forwarded-For`, or in one `for=` of `Forwarded` (RFC 7239 section 6): with or
/// without a port, quotes and brackets. `None` for `unknown` and for names that a proxy made up.
pub fn hop_address(entry: &str) -> Option<IpAddr> {
    let entry = entry.trim().trim_matches('"');
    if let Some(rest) = entry.strip_prefix('[') {
        return rest.split(']').next()?.parse().ok();
    }
    entry.parse().ok().or_else(|| entry.split_once(':')?.0.parse::<Ipv4Addr>().ok().map(IpAddr::from))
}

/// Whose request it is: the peer's at the socket, or, when that is a trusted proxy, of whom the proxies say.
/// `hops` are the entries of the forwarding header from left to right, over all its lines. An entry that
/// cannot be read ends the search: what stands left of it was not checked by anybody.
pub fn payer_address<'h, I>(peer: IpAddr, hops: I, trusted: &[Network]) -> IpAddr
where
    I: DoubleEndedIterator<Item = &'h str>,
{
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    let mut nearest = peer.to_canonical();
    for hop in hops.rev().take(HOPS_MAX) {
        if !is_trusted(nearest) {
            break;
        }
        match hop_address(hop) {
            Some(address) => nearest = address.to_canonical(),
            None => break,
        }
    }
    nearest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect(text)
    }

    fn network(text: &str) -> Network {
        Network::parse(text).expect(text)
    }

    #[test]
    fn networks_are_read_and_contain_their_own() {
        for (text, inside, outside) in [
            ("203.0.113.0/24", "203.0.113.255", "203.0.112.1"),
            ("203.0.113.7", "203.0.113.7", "203.0.113.8"),
            ("0.0.0.0/0", "1.2.3.4", "2001:db8::1"),
            ("2001:db8:1::/48", "2001:db8:1:ffff::1", "2001:db8:2::1"),
            ("10.0.0.0/8", "::ffff:10.1.2.3", "11.0.0.0"),
        ] {
            assert!(network(text).contains(ip(inside)), "{text} {inside}");
            assert!(!network(text).contains(ip(outside)), "{text} {outside}");
        }
        for bad in
            ["", "/24", "203.0.113.1/24", "203.0.113.0/33", "203.0.113.0/+8", "example.org", "1.2.3.4/", "::/129"]
        {
            assert_eq!(Network::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_place_is_a_slash_24_or_a_slash_48() {
        assert_eq!(Network::place_of(ip("198.51.100.77")).to_string(), "198.51.100.0/24");
        assert_eq!(Network::place_of(ip("::ffff:198.51.100.77")).to_string(), "198.51.100.0/24");
        assert_eq!(Network::place_of(ip("2001:db8:a:b::1")).to_string(), "2001:db8:a::/48");
    }

    #[test]
    fn who_is_inside_is_not_a_payer_of_the_internet() {
        for inside in [
            "127.0.0.1",
            "::1",
            "10.9.8.7",
            "192.168.0.1",
            "172.16.3.4",
            "169.254.1.1",
            "100.64.0.1",
            "fd00::1",
            "fe80::1",
        ] {
            assert!(is_inside(ip(inside)), "{inside}");
        }
        for outside in ["203.0.113.9", "8.8.8.8", "2001:db8::1", "100.128.0.1"] {
            assert!(!is_inside(ip(outside)), "{outside}");
        }
    }

    #[test]
    fn forwarding_headers_are_believed_from_the_right_and_only_of_trusted_peers() {
        let trusted = [network("127.0.0.1"), network("10.0.0.0/8")];
        let cases: &[(&str, &[&str], &str)] = &[
            // Nobody is trusted but the listed ones, whatever the header says.
            ("198.51.100.1", &["203.0.113.9"], "198.51.100.1"),
            ("127.0.0.1", &[], "127.0.0.1"),
            ("127.0.0.1", &["203.0.113.9"], "203.0.113.9"),
            ("::ffff:127.0.0.1", &["203.0.113.9"], "203.0.113.9"),
            // What the payer himself wrote stands further left and is not read.
            ("127.0.0.1", &["8.8.8.8", "203.0.113.9"], "203.0.113.9"),
            ("127.0.0.1", &["8.8.8.8", "203.0.113.9", "10.1.1.1"], "203.0.113.9"),
            ("127.0.0.1", &["10.2.2.2", "10.1.1.1"], "10.2.2.2"),
            // Unreadable: no further than the last proxy that is known.
            ("127.0.0.1", &["8.8.8.8", "unknown"], "127.0.0.1"),
            ("127.0.0.1", &["8.8.8.8", "_hidden", "10.1.1.1"], "10.1.1.1"),
            ("127.0.0.1", &["203.0.113.9:4711"], "203.0.113.9"),
            ("127.0.0.1", &["\"[2001:db8::7]:4711\""], "2001:db8::7"),
            ("127.0.0.1", &["2001:db8::7"], "2001:db8::7"),
        ];
        for (peer, hops, payer) in cases {
            assert_eq!(payer_address(ip(peer), hops.iter().copied(), &trusted), ip(payer), "{peer} {hops:?}");
        }
        assert_eq!(payer_address(ip("127.0.0.1"), ["203.0.113.9"].into_iter(), &[]), ip("127.0.0.1"));
    }

    #[test]
    fn a_long_chain_is_not_followed_for_ever() {
        let trusted = [network("10.0.0.0/8")];
        let hops = vec!["10.0.0.1"; 1000];
        assert_eq!(payer_address(ip("10.0.0.2"), hops.into_iter(), &trusted), ip("10.0.0.1"));
    }
}
