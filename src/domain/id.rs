//! Identifiers as merchants see them: a prefix that names the kind and a body that sorts by time.
//!
//! The rule: an id of one kind never parses as another, and the text order of two ids is the order
//! of their milliseconds, so an id doubles as a page cursor. Ids are names, not secrets: nothing
//! may be opened by knowing one.

use std::fmt;

use chrono::{DateTime, Utc};

/// Crockford's base 32 in lower case: sorts like the number it encodes and leaves out i, l, o, u.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// Characters in an id's body: 128 bits at five bits a character, as in a ULID.
const BODY_LENGTH: usize = 26;

fn encode(value: u128) -> String {
    (0..BODY_LENGTH).rev().map(|place| char::from(ALPHABET[((value >> (place * 5)) & 31) as usize])).collect()
}

fn decode(body: &str) -> Option<u128> {
    if body.len() != BODY_LENGTH || body.as_bytes()[0] > b'7' {
        return None;
    }
    body.bytes().try_fold(0u128, |value, byte| {
        let digit = ALPHABET.iter().position(|&letter| letter == byte)?;
        Some((value << 5) | digit as u128)
    })
}

/// A new body: 48 bits of milliseconds since 1970, then 80 random bits.
fn new_body(now: DateTime<Utc>) -> String {
    let milliseconds = u128::from(now.timestamp_millis().max(0).unsigned_abs());
    let random: u128 = rand::random();
    encode(((milliseconds & ((1 << 48) - 1)) << 80) | (random >> 48))
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        pub struct $name(String);

        impl $name {
            /// The prefix, underscore included.
            pub const PREFIX: &'static str = concat!($prefix, "_");

            /// A new id that sorts at `now`.
            pub fn generate(now: DateTime<Utc>) -> Self {
                Self(format!("{}{}", Self::PREFIX, new_body(now)))
            }

            /// The place in the order where the ids of this millisecond begin.
            pub fn first_at(moment: DateTime<Utc>) -> Self {
                let milliseconds = u128::from(moment.timestamp_millis().max(0).unsigned_abs());
                Self(format!("{}{}", Self::PREFIX, encode((milliseconds & ((1 << 48) - 1)) << 80)))
            }

            /// Reads an id; `None` when it is malformed or names another kind.
            pub fn parse(text: &str) -> Option<Self> {
                decode(text.strip_prefix(Self::PREFIX)?).map(|_| Self(text.to_owned()))
            }
        }

        id!(@common $name);
    };
    (@common $name:ident) => {
        impl $name {
            /// The whole id.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// Takes an id from our own table, where only valid ones are written.
            pub fn from_stored(text: String) -> Self {
                Self(text)
            }

            /// The millisecond in which the id was made.
            pub fn created_at(&self) -> DateTime<Utc> {
                let body = self.0.rsplit('_').next().unwrap_or_default();
                let milliseconds = decode(body).map_or(0, |value| (value >> 80) as i64);
                DateTime::from_timestamp_millis(milliseconds).unwrap_or_default()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }
    };
}

id!(
    /// A merchant.
    MerchantId, "acct"
);
id!(
    /// An API key's name; the key itself is another thing.
    ApiKeyId, "key"
);
id!(
    /// An entry in the allow-list of redirect URLs.
    RedirectUrlId, "rurl"
);
id!(
    /// One priced line of a session.
    LineItemId, "li"
);
id!(
    /// A payment: at most one per session.
    PaymentId, "pi"
);
id!(
    /// One attempt to take money.
    ChargeId, "ch"
);
id!(
    /// Money given back.
    RefundId,
    "re"
);
id!(
    /// A payer's dispute of a charge.
    DisputeId,
    "dp"
);
id!(
    /// A merchant's customer.
    CustomerId, "cus"
);
id!(
    /// A card that was charged, and is kept if that was agreed.
    PaymentMethodId, "pm"
);
id!(
    /// A payment held for its merchant to look at.
    ReviewId,
    "prv"
);
id!(
    /// Something that happened.
    EventId, "evt"
);
id!(
    /// A replay of events.
    EventReplayId,
    "evrp"
);
id!(
    /// A place that events are delivered to.
    EndpointId, "we"
);
id!(
    /// An escrow.
    EscrowId, "esc"
);
id!(
    /// A file that came with a dispute.
    AttachmentId, "file"
);
id!(
    /// A mail in the outbox.
    MailId, "mail"
);

/// A checkout session. Its prefix carries the mode, `cs_test_` or `cs_live_`, as at Stripe.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct SessionId(String);

impl SessionId {
    /// A new id that sorts at `now`.
    pub fn generate(now: DateTime<Utc>, livemode: bool) -> Self {
        let prefix = if livemode { "cs_live_" } else { "cs_test_" };
        Self(format!("{prefix}{}", new_body(now)))
    }

    /// Reads an id; `None` when it is malformed or names another kind.
    pub fn parse(text: &str) -> Option<Self> {
        let body = text.strip_prefix("cs_test_").or_else(|| text.strip_prefix("cs_live_"))?;
        decode(body).map(|_| Self(text.to_owned()))
    }
}

id!(@common SessionId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_parses_as_its_own_kind_only() {
        let now = Utc::now();
        let charge = ChargeId::generate(now);
        assert_eq!(ChargeId::parse(charge.as_str()), Some(charge.clone()));
        assert_eq!(PaymentId::parse(charge.as_str()), None);
        assert_eq!(SessionId::parse(charge.as_str()), None);
        assert!(SessionId::parse(SessionId::generate(now, true).as_str()).is_some());
    }

    #[test]
    fn ids_sort_by_the_millisecond_they_remember() {
        let early = DateTime::from_timestamp_millis(1_700_000_000_000).expect("in range");
        let late = DateTime::from_timestamp_millis(1_700_000_000_001).expect("in range");
        let (first, second) = (EventId::generate(early), EventId::generate(late));
        assert!(first < second);
        assert_eq!(first.created_at(), early);
        assert!(EventId::first_at(early) <= first && first < EventId::first_at(late));
    }

    #[test]
    fn malformed_ids_are_refused() {
        for text in ["", "pi_", "pi_x", "pi_8zzzzzzzzzzzzzzzzzzzzzzzzz", "pi_0000000000000000000000000u"] {
            assert_eq!(PaymentId::parse(text), None, "{text}");
        }
    }
}
