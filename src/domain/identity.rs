//! Proof that a payer reads mail at an address: codes, how often they may be asked for and guessed.
//!
//! The rule: a code has eight digits, lives ten minutes at most, takes five guesses and is one of three
//! in a session's life, so that whoever guesses blindly has fifteen chances in a hundred million. A code
//! does not print. Where codes are kept and who sends them is others' work.

use std::net::IpAddr;

use chrono::{DateTime, Duration, Utc};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Digits of a code.
pub const CODE_DIGITS: usize = 8;

/// How many codes there are: all numbers of that many digits.
const CODES: u64 = 100_000_000;

/// Longest life of a code (NIST SP 800-63B section 5.1.3.2).
pub const CODE_LIFETIME: Duration = Duration::minutes(10);

/// Guesses that one code takes, the right one included.
pub const GUESSES_MAX: u8 = 5;

/// Codes of one session: the first, and two for mail that got lost or was misread.
pub const CODES_MAX: u8 = 3;

/// Waits before the second and the third code. The first is long enough for mail that is slow, the
/// second for one who pressed too soon the first time.
const RESEND_WAITS: [Duration; 2] = [Duration::seconds(30), Duration::seconds(90)];

/// Characters of what a payer may type for a code, spaces included.
const TYPED_CHARS_MAX: usize = 64;

/// A one-time code. Has no `Debug` and is wiped when dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Code([u8; CODE_DIGITS]);

impl Code {
    /// The code for a random number, without bias: `None` for the few numbers beyond the last whole
    /// multiple, for which another is to be drawn.
    pub fn from_random(random: u64) -> Option<Self> {
        const LIMIT: u64 = u64::MAX - u64::MAX % CODES;
        if random >= LIMIT {
            return None;
        }
        let mut rest = random % CODES;
        let mut digits = [b'0'; CODE_DIGITS];
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + u8::try_from(rest % 10).unwrap_or(0);
            rest /= 10;
        }
        Some(Self(digits))
    }

    /// Reads what a payer typed or pasted: white space and hyphens between the digits are passed over, and
    /// digits of other scripts that keyboards type are read. `None` unless eight digits remain.
    pub fn parse(typed: &str) -> Option<Self> {
        let mut digits = [0_u8; CODE_DIGITS];
        let mut count = 0;
        for character in typed.chars().take(TYPED_CHARS_MAX + 1) {
            if character.is_whitespace() || matches!(character, '-' | '\u{2010}'..='\u{2015}' | '\u{200b}' | '\u{feff}')
            {
                continue;
            }
            let digit = digit_of(character)?;
            *digits.get_mut(count)? = b'0' + digit;
            count += 1;
        }
        (count == CODE_DIGITS).then_some(Self(digits))
    }

    /// The digits, for the mail and the MAC.
    pub fn expose(&self) -> &str {
        std::str::from_utf8(&self.0).expect("digits are ASCII")
    }

    /// The digits in two groups, as people read them.
    pub fn grouped(&self) -> String {
        let (first, second) = self.expose().split_at(CODE_DIGITS / 2);
        format!("{first} {second}")
    }
}

/// The value of a decimal digit: ASCII, full width, Arabic-Indic and its eastern form, Devanagari.
fn digit_of(character: char) -> Option<u8> {
    let zero = ['0', '\u{ff10}', '\u{660}', '\u{6f0}', '\u{966}'];
    zero.into_iter().find_map(|zero| {
        let distance = u32::from(character).checked_sub(u32::from(zero))?;
        u8::try_from(distance).ok().filter(|digit| *digit < 10)
    })
}

/// Whether another code may be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    /// Now.
    Now,
    /// After this many seconds, 1 or more.
    Wait(u32),
    /// Never again for this session.
    Spent,
}

/// Judges whether a session that had `codes` codes, the last one at `made_at`, may have another.
pub fn turn(codes: u8, made_at: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Turn {
    if codes >= CODES_MAX {
        return Turn::Spent;
    }
    let wait = codes.checked_sub(1).and_then(|place| RESEND_WAITS.get(usize::from(place)));
    let (Some(wait), Some(made_at)) = (wait, made_at) else { return Turn::Now };
    let left = *wait - (now - made_at);
    if left <= Duration::zero() {
        return Turn::Now;
    }
    let seconds = left.num_seconds() + i64::from(left.subsec_nanos() > 0);
    Turn::Wait(u32::try_from(seconds).unwrap_or(u32::MAX))
}

/// An address as it is shown to one who has not proven that it is his: `a•••@e•••.com`. The number of dots
/// says nothing about the length.
pub fn mask_email(address: &str) -> String {
    const DOTS: &str = "•••";
    let (local, host) = address.rsplit_once('@').unwrap_or((address, ""));
    let first = |text: &str| text.chars().next().map(String::from).unwrap_or_default();
    // One letter would be all of it.
    let local = if local.chars().count() > 1 { first(local) } else { String::new() };
    match host.rsplit_once('.') {
        Some((name, ending)) => format!("{local}{DOTS}@{}{DOTS}.{ending}", first(name)),
        None => format!("{local}{DOTS}@{DOTS}"),
    }
}

/// The network whose requests for codes are counted together: /24 of IPv4, /48 of IPv6, which is what one
/// subscriber or office has. `None` for addresses that are not of the internet: a proxy's, behind which
/// everybody is.
pub fn counted_network(address: IpAddr) -> Option<String> {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            let is_internal = address.is_loopback() || address.is_private() || address.is_link_local()
                // Shared address space behind carriers' NAT (RFC 6598), and between containers.
                || (a == 100 && (64..128).contains(&b));
            (!is_internal).then(|| format!("{a}.{b}.{c}.0/24"))
        }
        IpAddr::V6(address) => {
            let [a, b, c, ..] = address.segments();
            let is_internal = address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local();
            (!is_internal).then(|| format!("{a:x}:{b:x}:{c:x}::/48"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_eight_digits_and_every_number_the_same_chance() {
        let shown = |random| Code::from_random(random).map(|code| code.expose().to_owned());
        assert_eq!(shown(0).as_deref(), Some("00000000"));
        assert_eq!(shown(7 * CODES + 1234).as_deref(), Some("00001234"));
        assert_eq!(shown(CODES - 1).as_deref(), Some("99999999"));
        // The rest of the range would make small codes likelier.
        assert_eq!(shown(u64::MAX), None);
        assert_eq!(shown(u64::MAX - u64::MAX % CODES), None);
        assert_eq!(shown(u64::MAX - u64::MAX % CODES - 1).as_deref(), Some("99999999"));
        assert_eq!(Code::from_random(12_345_678).expect("a code").grouped(), "1234 5678");
    }

    #[test]
    fn what_is_typed_or_pasted_is_read() {
        for typed in [
            "12345678",
            " 1234 5678\n",
            "1234-5678",
            "1 2 3 4 5 6 7 8",
            "１２３４５６７８",
            "١٢٣٤٥٦٧٨",
            "1234\u{a0}5678",
        ] {
            assert_eq!(Code::parse(typed).expect(typed).expose(), "12345678", "{typed}");
        }
        let long = " ".repeat(70) + "12345678";
        for typed in ["", "1234567", "123456789", "1234567a", "code 12345678", "-", long.as_str()] {
            assert!(Code::parse(typed).is_none(), "{typed:?}");
        }
    }

    #[test]
    fn another_code_takes_a_wait_that_grows_and_the_third_is_the_last() {
        let at = |second: i64| DateTime::from_timestamp(1_700_000_000 + second, 0).expect("in range");
        assert_eq!(turn(0, None, at(0)), Turn::Now);
        assert_eq!(turn(1, Some(at(0)), at(0)), Turn::Wait(30));
        assert_eq!(turn(1, Some(at(0)), at(0) + Duration::milliseconds(29_001)), Turn::Wait(1));
        assert_eq!(turn(1, Some(at(0)), at(30)), Turn::Now);
        assert_eq!(turn(2, Some(at(30)), at(60)), Turn::Wait(60));
        assert_eq!(turn(2, Some(at(30)), at(120)), Turn::Now);
        assert_eq!(turn(3, Some(at(120)), at(9_999)), Turn::Spent);
    }

    #[test]
    fn a_masked_address_shows_two_letters_and_the_ending() {
        for (address, masked) in [
            ("ada@example.com", "a•••@e•••.com"),
            ("a@example.co.uk", "•••@e•••.uk"),
            ("ada.lovelace+pay@mail.example.org", "a•••@m•••.org"),
            ("nonsense", "n•••@•••"),
        ] {
            assert_eq!(mask_email(address), masked);
        }
    }

    #[test]
    fn neighbours_are_counted_together_and_proxies_are_not_counted() {
        let network = |text: &str| counted_network(text.parse().expect(text));
        assert_eq!(network("203.0.113.9").as_deref(), Some("203.0.113.0/24"));
        assert_eq!(network("::ffff:203.0.113.9").as_deref(), Some("203.0.113.0/24"));
        assert_eq!(network("2001:db8:1:2::3").as_deref(), Some("2001:db8:1::/48"));
        for internal in ["127.0.0.1", "10.1.2.3", "192.168.0.1", "100.64.0.1", "::1", "fd00::1", "fe80::1"] {
            assert_eq!(network(internal), None, "{internal}");
        }
    }
}
