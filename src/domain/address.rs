//! Where a webhook may be sent: judges of IP addresses and of URLs.
//! The URL is judged when it is set and again before each attempt, and every address that its name
//! resolves to is judged when a connection is made; both are needed, because a resolver is never asked
//! about an address that stands in the URL itself. What is not known to be public is refused.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

/// The longest webhook URL, in bytes.
pub const WEBHOOK_URL_BYTES_MAX: usize = 2048;

/// IPv4 ranges that are not the public internet: the IANA special-purpose registry (RFC 6890 and
/// later), multicast, and a cloud's control address that lies in public space.
const IPV4_REFUSED: [(Ipv4Addr, u32); 16] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    // Link-local, where clouds keep their metadata.
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    // The former 6to4 relays.
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    // Azure answers its virtual machines here.
    (Ipv4Addr::new(168, 63, 129, 16), 32),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// The only part of IPv6 that is handed out for the public internet.
const IPV6_GLOBAL: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// Ranges within it that are something else.
const IPV6_REFUSED: [(Ipv6Addr, u32); 3] = [
    // Protocol assignments, among them Teredo, benchmarking and ORCHID.
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

/// Whether packets to this address go to the public internet. Addresses that carry an IPv4 address
/// (mapped, NAT64, 6to4) are judged by it, because that is where the packets end up.
pub fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => match carried_v4(ip) {
            Some(carried) => is_public_v4(carried),
            None => in_v6_range(ip, IPV6_GLOBAL) && !IPV6_REFUSED.into_iter().any(|range| in_v6_range(ip, range)),
        },
    }
}

/// Whether this is the machine itself, `::ffff:127.0.0.1` and its like included.
pub fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    !IPV4_REFUSED.into_iter().any(|(network, bits)| {
        let shift = 32 - bits;
        ip.to_bits() >> shift == network.to_bits() >> shift
    })
}

fn in_v6_range(ip: Ipv6Addr, (network, bits): (Ipv6Addr, u32)) -> bool {
    let shift = 128 - bits;
    ip.to_bits() >> shift == network.to_bits() >> shift
}

/// The IPv4 address that an IPv6 address stands for. The deprecated compatible form, `::a.b.c.d`, is
/// not unwrapped: it lies outside the public part and is refused whatever it carries.
fn carried_v4(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let from = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match ip.segments() {
        // ::ffff:0:0/96, mapped (RFC 4291).
        [0, 0, 0, 0, 0, 0xffff, high, low] => Some(from(high, low)),
        // 64:ff9b::/96, NAT64 (RFC 6052), and 64:ff9b:1::/48, the local one (RFC 8215). In the local
        // one a shorter prefix would put the address elsewhere; with nothing but zeros before the
        // last 32 bits those readings are 0.0.0.0/8, which leads nowhere.
        [0x64, 0xff9b, 0 | 1, 0, 0, 0, high, low] => Some(from(high, low)),
        // 2002::/16, 6to4 (RFC 3056).
        [0x2002, high, low, ..] => Some(from(high, low)),
        _ => None,
    }
}

/// What kind of webhook URL is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UrlPolicy {
    /// Live endpoints are https on port 443 and nothing else.
    pub livemode: bool,
    /// Whether the installation lets test endpoints be on the machine itself, over http too.
    pub allow_loopback: bool,
}

/// Judges a webhook URL. The error is a sentence for the merchant who set it.
///
/// Addresses in place of a name are refused in every notation that a URL parser understands; the one
/// exception, when loopback is allowed in test mode, is `127.0.0.1` and `[::1]`, written so.
pub fn judge_webhook_url(text: &str, policy: UrlPolicy) -> Result<Url, &'static str> {
    if text.len() > WEBHOOK_URL_BYTES_MAX {
        return Err("The URL must not be longer than 2048 bytes.");
    }
    // The parser drops tabs and line ends, trims spaces and reads a backslash as a slash. Whoever
    // shows or logs the text might not, so there is nothing to disagree about.
    if text.contains(|c: char| c.is_control() || c.is_whitespace() || c == '\\') {
        return Err("The URL must not contain spaces, control characters or backslashes.");
    }
    let lower = text.to_ascii_lowercase();
    let after_scheme = ["https://", "http://"]
        .iter()
        .find_map(|scheme| lower.strip_prefix(scheme))
        .ok_or("The URL must begin with https://.")?;
    let url = Url::parse(text).map_err(|_| "This is not a valid URL.")?;
    let authority = after_scheme.split(['/', '?', '#']).next().unwrap_or_default();
    // The parser passes over further slashes; then what was looked at here is not the authority that it read.
    if authority.is_empty() {
        return Err("The URL must name a host.");
    }
    if authority.contains('@') || !url.username().is_empty() || url.password().is_some() {
        return Err("The URL must not contain a user name or password.");
    }
    if url.fragment().is_some() {
        return Err("The URL must not contain a fragment (#).");
    }
    let loopback_allowed = policy.allow_loopback && !policy.livemode;
    let on_loopback = match url.host() {
        None => return Err("The URL must name a host."),
        Some(Host::Domain(name)) => judge_name(name)?,
        Some(Host::Ipv4(ip)) => judge_literal(authority, "127.0.0.1", ip.is_loopback())?,
        Some(Host::Ipv6(ip)) => judge_literal(authority, "[::1]", ip.is_loopback())?,
    };
    if on_loopback && !loopback_allowed {
        return Err("The URL must name a host on the public internet.");
    }
    if url.scheme() != "https" && !on_loopback {
        return Err("The URL must begin with https://.");
    }
    match url.port_or_known_default() {
        None | Some(0) => Err("The URL's port is not valid."),
        Some(port) if policy.livemode && port != 443 => Err("A live webhook endpoint must be on port 443."),
        Some(_) => Ok(url),
    }
}

/// Judges a host name; true if it is the machine's own (RFC 6761, section 6.3).
fn judge_name(name: &str) -> Result<bool, &'static str> {
    if name == "localhost" || name.ends_with(".localhost") {
        return Ok(true);
    }
    let mut labels = name.rsplit('.');
    // The last label of `example.com.` is empty, and a name without a dot is one of a local network.
    let last = labels.next().unwrap_or_default();
    if last.is_empty() || labels.next().is_none() {
        return Err("The URL must name a host with its full domain name, without a dot at the end.");
    }
    if name.split('.').any(str::is_empty) {
        return Err("The URL's host has an empty part between two dots.");
    }
    Ok(false)
}

fn judge_literal(authority: &str, plain: &str, is_loopback: bool) -> Result<bool, &'static str> {
    let written_plainly = authority.strip_prefix(plain).is_some_and(|rest| rest.is_empty() || rest.starts_with(':'));
    if is_loopback && written_plainly {
        return Ok(true);
    }
    Err("The URL must name its host, not an IP address.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let public = [
            "8.8.8.8",
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.1",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "168.63.129.15",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00:1450::1",
            "2001:200::1",
            "2001:4860:4860::8888",
            "2620:fe::fe",
            "3ffe::1",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "64:ff9b:1::8.8.8.8",
            "2002:808:808::1",
        ];
        let refused = [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "10.255.255.255",
            "100.64.0.0",
            "100.100.100.200",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.255",
            "169.254.169.254",
            "172.16.0.0",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.0",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.7",
            "168.63.129.16",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::8.8.8.8",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "::ffff:0:8.8.8.8",
            "64:ff9b::127.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::192.168.0.1",
            "64:ff9b:1:a00:1::8.8.8.8",
            "64:ff9b:2::8.8.8.8",
            "2002:7f00:1::1",
            "2002:a00:1::1",
            "2002:a9fe:a9fe::1",
            "2001::1",
            "2001:0:4136:e378:8000:63bf:3fff:fdd2",
            "2001:2::1",
            "2001:10::1",
            "2001:20::1",
            "2001:1ff::1",
            "2001:db8::1",
            "3fff::1",
            "3fff:fff::1",
            "100::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fdff::1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
            "4000::1",
            "1fff::1",
        ];
        for text in public {
            assert!(is_public(text.parse().expect(text)), "{text}");
        }
        for text in refused {
            assert!(!is_public(text.parse().expect(text)), "{text}");
        }
        for text in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert!(is_loopback(text.parse().expect(text)), "{text}");
        }
        for text in ["10.0.0.1", "::", "fe80::1", "8.8.8.8"] {
            assert!(!is_loopback(text.parse().expect(text)), "{text}");
        }
    }

    const LIVE: UrlPolicy = UrlPolicy { livemode: true, allow_loopback: true };
    const TEST: UrlPolicy = UrlPolicy { livemode: false, allow_loopback: false };
    const DEVELOPMENT: UrlPolicy = UrlPolicy { livemode: false, allow_loopback: true };

    fn allowed(text: &str) -> [bool; 3] {
        [LIVE, TEST, DEVELOPMENT].map(|policy| judge_webhook_url(text, policy).is_ok())
    }

    #[test]
    fn urls() {
        let everywhere = [
            "https://shop.example/hooks",
            "HTTPS://Shop.Example",
            "https://shop.example:443/hooks?a=b@c&d=e",
            "https://shop.example/@name",
            "https://bücher.example/",
            "https://1.2.3.4.example/",
        ];
        let test_only = ["https://shop.example:8443/hooks"];
        let development_only = [
            "http://localhost/hooks",
            "http://localhost:3000/hooks",
            "https://localhost/hooks",
            "http://shop.localhost:3000/",
            "http://127.0.0.1:3000/hooks",
            "http://127.0.0.1",
            "https://127.0.0.1/",
            "http://[::1]:3000/hooks",
        ];
        let nowhere = [
            "",
            "shop.example",
            "//shop.example",
            "ftp://shop.example/",
            "file:///etc/passwd",
            "https:shop.example",
            "https:/shop.example",
            "https:\\\\shop.example",
            "https://",
            "https:///hooks",
            "http://shop.example/hooks",
            "http://shop.example:443/hooks",
            " https://shop.example/",
            "https://shop.example/a b",
            "https://shop.exa\nmple/",
            "https://shop.example/\u{0}",
            "https://shop.example\\@10.0.0.1/",
            "https://user@shop.example/",
            "https://user:secret@shop.example/",
            "https://@shop.example/",
            "https://shop.example#fragment",
            "https://shop.example/#",
            "https://shop.example:0/",
            "https://shop.example:65536/",
            "https://shop.example./",
            "https://localhost./",
            "https://metadata/",
            "https://postgres:5432/",
            "https://8.8.8.8/",
            "https://[2606:4700::1111]/",
            "https://10.0.0.1/",
            "https://169.254.169.254/latest/meta-data",
            // Other ways to write 127.0.0.1, 0.0.0.0 and ::1.
            "http://2130706433/",
            "http://0x7f000001/",
            "http://0x7f.1/",
            "http://0177.0.0.1/",
            "http://127.1/",
            "http://127.0.0.1./",
            "http://127.0.0.01/",
            "http://127.0.0.2/",
            "http://127.0.0.1@shop.example/",
            "http://%31%32%37.0.0.1/",
            "http://１２７.０.０.１/",
            "http://①②⑦.0.0.1/",
            "http://127。0。0。1/",
            "http://0/",
            "http://0.0.0.0/",
            "http://[::]/",
            "http://[0:0:0:0:0:0:0:1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://[::127.0.0.1]/",
            "http://[64:ff9b::7f00:1]/",
            "http://[::1%25lo]/",
        ];
        for (texts, expected) in [
            (&everywhere[..], [true, true, true]),
            (&test_only[..], [false, true, true]),
            (&development_only[..], [false, false, true]),
            (&nowhere[..], [false, false, false]),
        ] {
            for text in texts {
                assert_eq!(allowed(text), expected, "{text}");
            }
        }
        let long = format!("https://shop.example/{}", "a".repeat(WEBHOOK_URL_BYTES_MAX));
        assert_eq!(allowed(&long), [false; 3]);
        assert_eq!(allowed(&long[..WEBHOOK_URL_BYTES_MAX]), [true; 3]);
    }
}
