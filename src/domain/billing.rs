//! What is known of who pays: name, e-mail address, and the address that the bill goes to.
//!
//! The rule: an address is judged here, whichever door it came through, and leaves trimmed and bounded.
//! Whether one has to be given is the session's to say. What banks and fraud rules make of it is theirs.

use super::country;
use super::customer::PostalAddress;

/// Characters of one line of an address, as for customers.
pub const ADDRESS_LINE_CHARS_MAX: usize = 200;

/// Characters of a postcode; the longest in use has ten.
pub const POSTAL_CODE_CHARS_MAX: usize = 20;

/// Whether the payer is asked for his billing address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AddressCollection {
    /// Only where it is needed, which is nowhere here.
    Auto,
    /// Always.
    Required,
}

impl AddressCollection {
    /// The word on the wire and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Required => "required",
        }
    }

    /// Reads the word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Auto, Self::Required].into_iter().find(|collection| collection.as_str() == word)
    }
}

/// What the payer of a charge said of himself.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct BillingDetails {
    /// The name on the card.
    pub name: Option<String>,
    /// E-mail address.
    pub email: Option<String>,
    /// Where the bill goes, if that was asked.
    pub address: Option<PostalAddress>,
}

/// A part of an address, in the order of a form.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AddressPart {
    /// Country.
    Country,
    /// Street.
    Line1,
    /// Flat, floor.
    Line2,
    /// Postcode.
    PostalCode,
    /// City or town.
    City,
    /// State or province.
    State,
}

impl AddressPart {
    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Country => "country",
            Self::Line1 => "line1",
            Self::Line2 => "line2",
            Self::PostalCode => "postal_code",
            Self::City => "city",
            Self::State => "state",
        }
    }

    /// The most characters that it may have.
    pub fn chars_max(self) -> usize {
        match self {
            Self::PostalCode => POSTAL_CODE_CHARS_MAX,
            _ => ADDRESS_LINE_CHARS_MAX,
        }
    }
}

/// What is wrong with a part of an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AddressFault {
    /// It is wanted and not there.
    Missing,
    /// It is longer than [`AddressPart::chars_max`].
    TooLong,
    /// It has characters that nobody can type or print.
    Unprintable,
    /// There is no such country.
    UnknownCountry,
}

/// Judges an address as it was typed: `None` when nothing was. A whole one has country, street, city and
/// postcode, as far as the country has them.
///
/// # Errors
/// Everything that is wrong, in the order of the parts.
pub fn judge_address(
    typed: PostalAddress,
    must_be_whole: bool,
) -> Result<Option<PostalAddress>, Vec<(AddressPart, AddressFault)>> {
    let mut faults = Vec::new();
    let mut line = |part: AddressPart, text: Option<String>| -> Option<String> {
        let text = text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())?;
        if text.chars().count() > part.chars_max() {
            faults.push((part, AddressFault::TooLong));
        } else if text.chars().any(|c| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')) {
            faults.push((part, AddressFault::Unprintable));
        } else if part == AddressPart::Country {
            match country::parse(&text) {
                Some(code) => return Some(code.to_owned()),
                None => faults.push((part, AddressFault::UnknownCountry)),
            }
        }
        Some(text)
    };
    let PostalAddress { city, country, line1, line2, postal_code, state } = typed;
    let address = PostalAddress {
        country: line(AddressPart::Country, country),
        line1: line(AddressPart::Line1, line1),
        line2: line(AddressPart::Line2, line2),
        postal_code: line(AddressPart::PostalCode, postal_code),
        city: line(AddressPart::City, city),
        state: line(AddressPart::State, state),
    };
    if must_be_whole {
        let code = address.country.as_deref().unwrap_or_default();
        for (part, is_there) in [
            (AddressPart::Country, address.country.is_some()),
            (AddressPart::Line1, address.line1.is_some()),
            (AddressPart::PostalCode, address.postal_code.is_some() || !country::has_postcodes(code)),
            (AddressPart::City, address.city.is_some() || !country::has_cities(code)),
        ] {
            if !is_there {
                faults.push((part, AddressFault::Missing));
            }
        }
    }
    faults.sort_by_key(|(part, _)| *part as u8);
    if !faults.is_empty() {
        return Err(faults);
    }
    Ok((address != PostalAddress::default()).then_some(address))
}

/// Whether an address is one that [`judge_address`] calls whole.
pub fn is_whole(address: &PostalAddress) -> bool {
    matches!(judge_address(address.clone(), true), Ok(Some(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(country: &str, line1: &str, postal_code: &str, city: &str) -> PostalAddress {
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        PostalAddress {
            country: text(country),
            line1: text(line1),
            postal_code: text(postal_code),
            city: text(city),
            ..PostalAddress::default()
        }
    }

    #[test]
    fn an_address_is_trimmed_and_its_country_is_known() {
        let judged = judge_address(address(" de ", " Unter den Linden 1", "10117 ", "Berlin"), true);
        assert_eq!(judged, Ok(Some(address("DE", "Unter den Linden 1", "10117", "Berlin"))));
        assert_eq!(judge_address(address("", "  ", "", ""), false), Ok(None));
        assert_eq!(judge_address(address("de", "", "", ""), false), Ok(Some(address("DE", "", "", ""))));
    }

    #[test]
    fn everything_that_is_wrong_is_named_in_order() {
        use AddressFault::{Missing, TooLong, UnknownCountry, Unprintable};
        use AddressPart::{City, Country, Line1, PostalCode};
        let long = "x".repeat(201);
        for (typed, whole, faults) in [
            (
                address("", "", "", ""),
                true,
                vec![(Country, Missing), (Line1, Missing), (PostalCode, Missing), (City, Missing)],
            ),
            (
                address("UK", &long, &long, "B\u{0}"),
                false,
                vec![(Country, UnknownCountry), (Line1, TooLong), (PostalCode, TooLong), (City, Unprintable)],
            ),
            (address("DE", "a\nb", "1", "c"), true, vec![(Line1, Unprintable)]),
            (address("SG", "1 Raffles Place", "", ""), true, vec![(PostalCode, Missing)]),
        ] {
            assert_eq!(judge_address(typed, whole), Err(faults));
        }
        assert!(is_whole(&address("AE", "Sheikh Zayed Road 1", "", "Dubai")));
        assert!(!is_whole(&address("DE", "Unter den Linden 1", "", "Berlin")));
    }
}
