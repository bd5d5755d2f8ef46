//! A card that is kept for a customer, and what may be done with it.
//!
//! The rule: what is kept of a card is a summary, the provider's reference and, with the vault on, a
//! sealed number that only `vault` can open; never the security code. A card is shown to a payer only
//! as far as somebody agreed to that: [`AllowRedisplay`].

use chrono::{DateTime, Datelike, NaiveDate, Utc};

use super::card::CardSummary;
use super::customer::PostalAddress;
use super::id::{CustomerId, MerchantId, PaymentMethodId};
use super::session::Metadata;

/// Cards kept for one customer at most. People have a handful; more is a script that saves.
pub const CARDS_PER_CUSTOMER_MAX: usize = 50;

/// Cards offered on one page at most, those used last: more would be a list to search.
pub const CARDS_OFFERED_MAX: usize = 10;

/// What a kept card may be used for, in Stripe's words.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FutureUsage {
    /// While the payer is there.
    OnSession,
    /// Also without him.
    OffSession,
}

impl FutureUsage {
    /// The word on the wire and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OnSession => "on_session",
            Self::OffSession => "off_session",
        }
    }

    /// Reads the word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::OnSession, Self::OffSession].into_iter().find(|usage| usage.as_str() == word)
    }
}

/// Whether a kept card may be shown to its payer again, in Stripe's words.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum AllowRedisplay {
    /// Nobody has said.
    Unspecified,
    /// Kept because the merchant asked for it: shown where he asks for that too.
    Limited,
    /// The payer agreed to see it again.
    Always,
}

impl AllowRedisplay {
    /// The word on the wire and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::Limited => "limited",
            Self::Always => "always",
        }
    }

    /// Reads the word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Unspecified, Self::Limited, Self::Always].into_iter().find(|word_of| word_of.as_str() == word)
    }
}

/// What a session says about kept cards.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct SavedCardOptions {
    /// The card is kept when the payment has succeeded, for this.
    pub future_usage: Option<FutureUsage>,
    /// The payer is asked whether the card shall be kept.
    pub offer_to_save: bool,
    /// Which kept cards are offered; those of [`AllowRedisplay::Always`] unless given.
    pub redisplay: Option<Vec<AllowRedisplay>>,
}

impl SavedCardOptions {
    /// Whether a kept card may be offered.
    pub fn offers(&self, card: AllowRedisplay) -> bool {
        match &self.redisplay {
            Some(filters) => filters.contains(&card),
            None => card == AllowRedisplay::Always,
        }
    }

    /// Whether the card of a payment is kept, and how, given whether the payer ticked the box.
    pub fn keep(&self, payer_agreed: bool) -> Option<(FutureUsage, AllowRedisplay)> {
        match (self.future_usage, self.offer_to_save && payer_agreed) {
            (usage, true) => Some((usage.unwrap_or(FutureUsage::OnSession), AllowRedisplay::Always)),
            (Some(usage), false) => Some((usage, AllowRedisplay::Limited)),
            (None, false) => None,
        }
    }
}

/// Where a kept card stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PaymentMethodState {
    /// Its charge has not succeeded yet: nobody sees it.
    Pending,
    /// Kept for a customer.
    Attached,
    /// Given up, when: nothing is left that could be charged.
    Detached(DateTime<Utc>),
}

impl PaymentMethodState {
    /// The word in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Attached => "attached",
            Self::Detached(_) => "detached",
        }
    }
}

/// A card number under a key that is not in the database.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedNumber {
    /// The key's name.
    pub key: String,
    /// Nonce and ciphertext.
    pub bytes: Vec<u8>,
}

impl std::fmt::Debug for SealedNumber {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "SealedNumber(under {})", self.key)
    }
}

/// A kept card.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PaymentMethod {
    /// Its id.
    pub id: PaymentMethodId,
    /// Whose it is.
    pub merchant_id: MerchantId,
    /// Mode.
    pub livemode: bool,
    /// For whom it is kept; always there when attached.
    pub customer_id: Option<CustomerId>,
    /// Where it stands.
    pub state: PaymentMethodState,
    /// Who took its first charge, and alone understands `provider_token`.
    pub provider: String,
    /// That provider's reference.
    pub provider_token: Option<String>,
    /// What may be known of the card.
    pub card: CardSummary,
    /// The number's first six digits, for lists of them, which may be kept beside the last four; `None` for cards
    /// kept before that was done. Never shown.
    pub bin: Option<String>,
    /// The name on the card.
    pub holder_name: Option<String>,
    /// The payer's address at the time.
    pub holder_email: Option<String>,
    /// Where the bill went then.
    pub holder_address: Option<PostalAddress>,
    /// What it may be used for.
    pub future_usage: FutureUsage,
    /// Whether it may be shown again.
    pub allow_redisplay: AllowRedisplay,
    /// The merchant's own data.
    pub metadata: Metadata,
    /// The number, with the vault on.
    pub number: Option<SealedNumber>,
    /// When it was kept.
    pub created_at: DateTime<Utc>,
    /// When it was last charged with success.
    pub used_at: DateTime<Utc>,
}

impl PaymentMethod {
    /// Whether the card's last month is over.
    pub fn is_expired(&self, today: NaiveDate) -> bool {
        (i32::from(self.card.exp_year), u32::from(self.card.exp_month)) < (today.year(), today.month())
    }

    /// The card given up: nothing is left that could be charged.
    pub fn detached(self, now: DateTime<Utc>) -> Self {
        Self {
            customer_id: None,
            state: PaymentMethodState::Detached(now),
            provider_token: None,
            bin: None,
            number: None,
            holder_name: None,
            holder_email: None,
            holder_address: None,
            ..self
        }
    }

    /// The same card saved once more: newer facts win, and what was agreed to only grows. The number stays
    /// the one that is sealed for this row.
    pub fn renewed(self, newer: PaymentMethod) -> Self {
        let usage = if newer.future_usage == FutureUsage::OffSession { newer.future_usage } else { self.future_usage };
        let (provider, provider_token) = match newer.provider_token {
            Some(token) => (newer.provider, Some(token)),
            None => (self.provider, self.provider_token),
        };
        Self {
            provider,
            provider_token,
            card: newer.card,
            bin: newer.bin.or(self.bin),
            holder_name: newer.holder_name.or(self.holder_name),
            holder_email: newer.holder_email.or(self.holder_email),
            holder_address: newer.holder_address.or(self.holder_address),
            future_usage: usage,
            allow_redisplay: self.allow_redisplay.max(newer.allow_redisplay),
            used_at: newer.used_at,
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_and_shown_is_what_was_agreed_to() {
        use AllowRedisplay::{Always, Limited, Unspecified};
        let asked = |future_usage, offer_to_save| SavedCardOptions { future_usage, offer_to_save, redisplay: None };
        let off = Some(FutureUsage::OffSession);
        assert_eq!(asked(None, false).keep(true), None, "nobody asked, whatever the form says");
        assert_eq!(asked(None, true).keep(false), None);
        assert_eq!(asked(None, true).keep(true), Some((FutureUsage::OnSession, Always)));
        assert_eq!(asked(off, false).keep(true), Some((FutureUsage::OffSession, Limited)));
        assert_eq!(asked(off, true).keep(true), Some((FutureUsage::OffSession, Always)));
        let offered = |redisplay: Option<Vec<AllowRedisplay>>| {
            let options = SavedCardOptions { redisplay, ..SavedCardOptions::default() };
            [Always, Limited, Unspecified].map(|card| options.offers(card))
        };
        assert_eq!(offered(None), [true, false, false]);
        assert_eq!(offered(Some(vec![Limited])), [false, true, false]);
        assert_eq!(offered(Some(vec![])), [false, false, false]);
    }
}
