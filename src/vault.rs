//! Card number in, token out: beside the providers, the only code that sees a card number.
//!
//! Rule: a card lives in memory only, is handed out once, and is wiped after use, after a minute,
//! or when newer cards need its room. It is handed out again only where the caller held it back and
//! says that the first to have it certainly took no money; it is never copied. Nothing of it can be
//! printed. A restart forgets all cards, so a charge that was cut off can be looked up, but never be
//! sent again. What is to last, where the operator wants that, is [`sealing`]'s.

pub mod sealing;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit, Mac};
use rand::distr::{Alphanumeric, SampleString};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::domain::card::{CardCvc, CardExpiry, CardNumber, CardSummary};

/// Most cards held at once: far above the payments that one process has between form and provider,
/// and small in memory. The oldest card makes room.
pub const CARDS_MAX: usize = 4096;

/// How long a card waits for its provider call. The call follows within milliseconds; a minute
/// covers a database that stalls in between.
pub const CARD_LIFETIME: Duration = Duration::from_secs(60);

/// Letters and digits of a fingerprint: 95 bits, the length of Stripe's.
const FINGERPRINT_CHARS: usize = 16;

/// Random letters and digits of a token: 142 bits, so that nobody can guess a card in waiting.
const TOKEN_RANDOM_CHARS: usize = 24;

/// A card as the payer typed it, every field already judged.
pub struct EnteredCard {
    /// The card number.
    pub number: CardNumber,
    /// The security code.
    pub cvc: CardCvc,
    /// The last month of use.
    pub expiry: CardExpiry,
    /// The name on the card, where the form asked for it.
    pub holder_name: Option<String>,
}

impl fmt::Debug for EnteredCard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EnteredCard(withheld)")
    }
}

/// A security code that was typed for a card whose number is known already.
pub struct SecurityCode(pub CardCvc);

/// Stands for a card in the vault. Says nothing about the card, and is shown to nobody but a provider.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VaultToken(String);

impl VaultToken {
    /// The token, `card_` and 24 letters and digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn random() -> VaultToken {
        VaultToken(format!("card_{}", Alphanumeric.sample_string(&mut rand::rng(), TOKEN_RANDOM_CHARS)))
    }
}

/// What the vault gives for a card.
#[derive(Clone, Debug)]
pub struct KeptCard {
    /// Opens the vault once.
    pub token: VaultToken,
    /// What may be stored. Funding and country are empty: only a provider knows them, see
    /// [`Provider::issuer_facts`](crate::providers::Provider::issuer_facts).
    pub summary: CardSummary,
    /// The first six digits, to ask a provider about the issuer with.
    pub bin: String,
}

/// Holds cards between the form and the one provider call.
pub struct Vault {
    fingerprint_key: Zeroizing<[u8; 32]>,
    cards: Mutex<Cards>,
}

/// The cards in waiting, by token, and the same by age. Both always name the same cards.
#[derive(Default)]
struct Cards {
    by_token: HashMap<VaultToken, Waiting>,
    by_age: BTreeMap<u64, VaultToken>,
    next_age: u64,
}

struct Waiting {
    card: Arc<EnteredCard>,
    age: u64,
    kept_at: Instant,
    /// Whether it stays when it is handed out.
    is_held: bool,
    /// Whether somebody has it.
    is_out: bool,
}

impl Vault {
    /// An empty vault. The key makes fingerprints; it must be the same in every process and stay
    /// apart from the database, else a dump could be searched for known numbers.
    pub fn new(fingerprint_key: Zeroizing<[u8; 32]>) -> Vault {
        Vault { fingerprint_key, cards: Mutex::default() }
    }

    /// Takes a card in and says what may be known of it.
    pub fn keep(&self, card: EnteredCard) -> KeptCard {
        self.keep_at(card, Instant::now())
    }

    /// Hands a card out, once. `None` when it was used, forgotten, or never here. Dropping the card
    /// wipes it, or, where it is held, leaves the vault's to be wiped.
    pub fn take(&self, token: &VaultToken) -> Option<Arc<EnteredCard>> {
        self.take_at(token, Instant::now())
    }

    /// Keeps a card in waiting here when it is handed out, so that it can be lent again. Whoever holds
    /// a card calls [`forget`](Vault::forget) as soon as its charge is settled or in doubt; its minute
    /// is not prolonged.
    pub fn hold(&self, token: &VaultToken) {
        if let Some(waiting) = self.cards().by_token.get_mut(token) {
            waiting.is_held = true;
        }
    }

    /// Lets a held card be handed out once more. Only for who knows for certain that the one who had it
    /// took no money and will not. False when the card is gone.
    pub fn lend_again(&self, token: &VaultToken) -> bool {
        let mut cards = self.cards();
        cards.forget_expired(Instant::now());
        cards.by_token.get_mut(token).is_some_and(|waiting| {
            waiting.is_out = false;
            waiting.is_held
        })
    }

    /// Wipes a card, unless somebody is using it, who then does.
    pub fn forget(&self, token: &VaultToken) {
        self.cards().remove(token);
    }

    /// Wipes the cards whose minute is over and says how many. Each call of the vault does this;
    /// call it now and then in a quiet process too, so that no card outstays its time.
    pub fn forget_expired(&self) -> usize {
        self.cards().forget_expired(Instant::now())
    }

    /// How many cards are in memory just now.
    pub fn cards_kept(&self) -> usize {
        self.cards().by_token.len()
    }

    /// 16 letters and digits: the same for the same number under the same key.
    pub fn fingerprint(&self, number: &CardNumber) -> String {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(self.fingerprint_key.as_slice()).expect("HMAC takes a key of any length");
        mac.update(number.expose().as_bytes());
        base62_prefix(&mac.finalize().into_bytes())
    }

    fn keep_at(&self, card: EnteredCard, now: Instant) -> KeptCard {
        let kept = KeptCard {
            token: VaultToken::random(),
            summary: CardSummary {
                brand: card.number.brand(),
                last4: card.number.last4().to_owned(),
                exp_month: card.expiry.month(),
                exp_year: card.expiry.year(),
                funding: None,
                country: None,
                fingerprint: self.fingerprint(&card.number),
            },
            bin: card.number.bin().to_owned(),
        };
        let mut cards = self.cards();
        cards.forget_expired(now);
        cards.insert(kept.token.clone(), card, now);
        kept
    }

    fn take_at(&self, token: &VaultToken, now: Instant) -> Option<Arc<EnteredCard>> {
        let mut cards = self.cards();
        cards.forget_expired(now);
        match cards.by_token.get_mut(token) {
            Some(held) if held.is_held && held.is_out => None,
            Some(held) if held.is_held => {
                held.is_out = true;
                Some(Arc::clone(&held.card))
            }
            _ => cards.remove(token),
        }
    }

    /// A panic elsewhere cannot leave the two maps apart for long enough to matter: at worst a card
    /// is not found, which callers handle.
    fn cards(&self) -> MutexGuard<'_, Cards> {
        self.cards.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cards {
    fn insert(&mut self, token: VaultToken, card: EnteredCard, now: Instant) {
        while CARDS_MAX <= self.by_token.len() {
            let Some((_, oldest)) = self.by_age.pop_first() else {
                break;
            };
            self.by_token.remove(&oldest);
        }
        let age = self.next_age;
        self.next_age += 1;
        self.by_age.insert(age, token.clone());
        let waiting = Waiting { card: Arc::new(card), age, kept_at: now, is_held: false, is_out: false };
        self.by_token.insert(token, waiting);
    }

    fn remove(&mut self, token: &VaultToken) -> Option<Arc<EnteredCard>> {
        let waiting = self.by_token.remove(token)?;
        self.by_age.remove(&waiting.age);
        Some(waiting.card)
    }

    fn forget_expired(&mut self, now: Instant) -> usize {
        let mut forgotten = 0;
        while let Some(oldest) = self.by_age.first_entry() {
            let expired = self
                .by_token
                .get(oldest.get())
                .is_none_or(|waiting| CARD_LIFETIME <= now.saturating_duration_since(waiting.kept_at));
            if !expired {
                break;
            }
            self.by_token.remove(&oldest.remove());
            forgotten += 1;
        }
        forgotten
    }
}

/// The first 16 bytes as a number, its last 16 digits to base 62.
fn base62_prefix(mac: &[u8]) -> String {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut rest = mac.iter().take(16).fold(0u128, |number, byte| (number << 8) | u128::from(*byte));
    (0..FINGERPRINT_CHARS)
        .map(|_| {
            let digit = DIGITS[(rest % 62) as usize];
            rest /= 62;
            char::from(digit)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use chrono::NaiveDate;

    use super::*;
    use crate::domain::card::CardBrand;

    fn vault(key: u8) -> Vault {
        Vault::new(Zeroizing::new([key; 32]))
    }

    fn card(number: &str) -> EnteredCard {
        let today = NaiveDate::from_ymd_opt(2026, 11, 20).expect("a real date");
        let number = CardNumber::parse(number).expect("a valid number");
        EnteredCard {
            cvc: CardCvc::parse("737", number.brand()).expect("three digits"),
            number,
            expiry: CardExpiry::parse("12 / 34", today).expect("a date to come"),
            holder_name: Some("Ada Example".to_owned()),
        }
    }

    #[test]
    fn a_card_is_handed_out_once() {
        let vault = vault(1);
        let kept = vault.keep(card("4242424242424242"));
        assert!(kept.token.as_str().starts_with("card_"));
        let taken = vault.take(&kept.token).expect("the card just kept");
        assert_eq!(taken.number.expose(), "4242424242424242");
        assert!(vault.take(&kept.token).is_none());
        assert!(vault.cards().by_age.is_empty());
    }

    #[test]
    fn a_held_card_is_lent_again_only_when_told_and_until_it_is_forgotten() {
        let vault = vault(1);
        let token = vault.keep(card("4242424242424242")).token;
        vault.hold(&token);
        let first = vault.take(&token).expect("the card just kept");
        assert!(vault.take(&token).is_none(), "somebody has it");
        drop(first);
        assert!(vault.take(&token).is_none(), "nobody said that no money was taken");
        assert!(vault.lend_again(&token));
        let second = vault.take(&token).expect("lent again");
        assert_eq!(second.number.expose(), "4242424242424242");
        vault.forget(&token);
        assert_eq!(Arc::strong_count(&second), 1, "the last one to be dropped, which wipes it");
        assert!(!vault.lend_again(&token) && vault.take(&token).is_none());
        assert!(vault.cards().by_age.is_empty());
    }

    #[test]
    fn a_held_card_has_its_minute_like_any_other() {
        let vault = vault(1);
        let start = Instant::now();
        let token = vault.keep_at(card("4242424242424242"), start).token;
        vault.hold(&token);
        let lent = vault.take_at(&token, start).expect("the card just kept");
        vault.cards().forget_expired(start + CARD_LIFETIME);
        assert_eq!(Arc::strong_count(&lent), 1);
        // One that is not held is not lent again, however often it is asked for.
        let once = vault.keep_at(card("4242424242424242"), start).token;
        assert!(!vault.lend_again(&once));
    }

    #[test]
    fn the_summary_says_what_may_be_known() {
        let summary = vault(1).keep(card("5555555555554444")).summary;
        assert_eq!((summary.brand, summary.last4.as_str()), (CardBrand::Mastercard, "4444"));
        assert_eq!((summary.exp_month, summary.exp_year), (12, 2034));
        assert_eq!((summary.funding, summary.country), (None, None));
        assert_eq!(summary.fingerprint.len(), FINGERPRINT_CHARS);
    }

    #[test]
    fn a_card_is_forgotten_after_its_minute() {
        let vault = vault(1);
        let start = Instant::now();
        let old = vault.keep_at(card("4242424242424242"), start);
        let young = vault.keep_at(card("4242424242424242"), start + CARD_LIFETIME / 2);
        assert!(vault.take_at(&old.token, start + CARD_LIFETIME).is_none());
        assert_eq!(vault.cards().by_token.len(), 1);
        assert!(vault.take_at(&young.token, start + CARD_LIFETIME).is_some());
    }

    #[test]
    fn the_oldest_card_makes_room() {
        let vault = vault(1);
        let now = Instant::now();
        let tokens: Vec<VaultToken> =
            (0..CARDS_MAX + 2).map(|_| vault.keep_at(card("4242424242424242"), now).token).collect();
        assert_eq!(vault.cards().by_token.len(), CARDS_MAX);
        assert!(vault.take_at(&tokens[1], now).is_none());
        assert!(vault.take_at(&tokens[2], now).is_some());
    }

    #[test]
    fn a_fingerprint_tells_numbers_apart_and_depends_on_the_key() {
        let visa = CardNumber::parse("4242424242424242").expect("a valid number");
        let mastercard = CardNumber::parse("5555555555554444").expect("a valid number");
        assert_eq!(vault(1).fingerprint(&visa), vault(1).fingerprint(&visa));
        assert_ne!(vault(1).fingerprint(&visa), vault(1).fingerprint(&mastercard));
        assert_ne!(vault(1).fingerprint(&visa), vault(2).fingerprint(&visa));
    }

    #[test]
    fn nothing_of_a_card_is_printed() {
        let entered = card("4242424242424242");
        assert_eq!(format!("{entered:?}"), "EnteredCard(withheld)");
        let kept = vault(1).keep(entered);
        assert!(!format!("{kept:?}").contains("42424242"));
    }
}
