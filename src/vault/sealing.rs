//! The part of the vault that lasts: card numbers under a key that is not in the database.
//!
//! The rule: without a key nothing is sealed, and no number is stored. A sealed number opens in its own
//! row and nowhere else, because merchant, mode and row are part of what is authenticated. The first
//! key seals, the others still open; each sealed number names its key. A security code never comes here.

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit, Nonce};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::domain::card::{CardNumber, NUMBER_DIGITS_MAX};
use crate::domain::id::{MerchantId, PaymentMethodId};
use crate::domain::payment_method::SealedNumber;

/// Least length of a configured key, in bytes after base64 decoding.
const KEY_BYTES_MIN: usize = 32;

/// Most keys at once: one that seals, the rest on their way out.
const KEYS_MAX: usize = 4;

/// Random bytes in front of a sealed number (AES-GCM's 96-bit nonce, NIST SP 800-38D; random nonces keep
/// a key good for 2^32 numbers).
const NONCE_LENGTH: usize = 12;

/// Bytes of a key's digest in its name: enough to tell a handful apart.
const KEY_NAME_BYTES: usize = 4;

/// What can be wrong with the configured keys. Names them by place, never by content.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SealingKeyError {
    /// A key is not base64 or is short.
    #[error(
        "card vault key {0} is not base64 of at least {KEY_BYTES_MIN} bytes: make one with `openssl rand -base64 32`"
    )]
    Malformed(usize),
    /// More keys than a rotation needs.
    #[error(
        "`card_vault_keys` holds more than {KEYS_MAX} keys: keep the current one and those still being rotated out"
    )]
    TooMany,
    /// One key stands there twice.
    #[error("card vault key {0} stands in `card_vault_keys` twice")]
    Repeated(usize),
}

/// Why a sealed number does not open.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum OpenError {
    /// Its key is not configured.
    #[error("it is sealed with card vault key {0}, which is not in `card_vault_keys`")]
    KeyMissing(String),
    /// It was sealed for another row, or changed.
    #[error("it was not sealed for this row, or was changed since")]
    NotAuthentic,
}

/// The one row that a number is sealed for.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    /// Whose it is.
    pub merchant: &'a MerchantId,
    /// Mode.
    pub livemode: bool,
    /// The row.
    pub method: &'a PaymentMethodId,
}

impl Place<'_> {
    fn bytes(self) -> Vec<u8> {
        let mode = if self.livemode { "live" } else { "test" };
        format!("checkstand/card-number/{}/{mode}/{}", self.merchant, self.method).into_bytes()
    }
}

struct Key {
    name: String,
    cipher: Aes256Gcm,
}

/// The keys. Has no `Debug`: there is nothing in it to print.
#[derive(Default)]
pub struct Sealing {
    keys: Vec<Key>,
}

impl Sealing {
    /// Takes base64 keys, the one that seals first; none switches sealing off.
    ///
    /// # Errors
    /// See [`SealingKeyError`].
    pub fn new(secrets: &[SecretString]) -> Result<Sealing, SealingKeyError> {
        if secrets.len() > KEYS_MAX {
            return Err(SealingKeyError::TooMany);
        }
        let mut keys: Vec<Key> = Vec::with_capacity(secrets.len());
        for (index, secret) in secrets.iter().enumerate() {
            let place = index + 1;
            let malformed = |_| SealingKeyError::Malformed(place);
            let bytes = Zeroizing::new(STANDARD.decode(secret.expose_secret().trim()).map_err(malformed)?);
            if bytes.len() < KEY_BYTES_MIN {
                return Err(SealingKeyError::Malformed(place));
            }
            let mut mac =
                <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(&bytes).expect("HMAC takes a key of any length");
            mac.update(b"checkstand/card-vault");
            let derived = Zeroizing::new(<[u8; 32]>::from(mac.finalize().into_bytes()));
            let name = hex::encode(&Sha256::digest(derived.as_slice())[..KEY_NAME_BYTES]);
            if keys.iter().any(|key| key.name == name) {
                return Err(SealingKeyError::Repeated(place));
            }
            let cipher = Aes256Gcm::new_from_slice(derived.as_slice()).expect("the key has 32 bytes");
            keys.push(Key { name, cipher });
        }
        Ok(Sealing { keys })
    }

    /// The names of the keys, the one that seals first. A name says nothing about its key.
    pub fn key_names(&self) -> Vec<&str> {
        self.keys.iter().map(|key| key.name.as_str()).collect()
    }

    /// Whether a key of this name is among them.
    pub fn knows(&self, name: &str) -> bool {
        self.keys.iter().any(|key| key.name == name)
    }

    /// Whether numbers are sealed at all.
    pub fn is_on(&self) -> bool {
        !self.keys.is_empty()
    }

    /// Seals a number for one row; `None` without a key. All sealed numbers have one length.
    pub fn seal(&self, place: Place<'_>, number: &CardNumber) -> Option<SealedNumber> {
        let key = self.keys.first()?;
        let digits = number.expose().as_bytes();
        let mut plain = Zeroizing::new([b' '; NUMBER_DIGITS_MAX]);
        plain[..digits.len()].copy_from_slice(digits);
        let nonce: [u8; NONCE_LENGTH] = rand::random();
        let payload = Payload { msg: plain.as_slice(), aad: &place.bytes() };
        let sealed = key.cipher.encrypt(&Nonce::from(nonce), payload).expect("AES-GCM seals nineteen bytes");
        let mut bytes = nonce.to_vec();
        bytes.extend_from_slice(&sealed);
        Some(SealedNumber { key: key.name.clone(), bytes })
    }

    /// Opens a number that was sealed for this row.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(&self, place: Place<'_>, sealed: &SealedNumber) -> Result<CardNumber, OpenError> {
        let missing = || OpenError::KeyMissing(sealed.key.clone());
        let key = self.keys.iter().find(|key| key.name == sealed.key).ok_or_else(missing)?;
        let (nonce, body) = sealed.bytes.split_at_checked(NONCE_LENGTH).ok_or(OpenError::NotAuthentic)?;
        let nonce: [u8; NONCE_LENGTH] = nonce.try_into().map_err(|_| OpenError::NotAuthentic)?;
        let payload = Payload { msg: body, aad: &place.bytes() };
        let plain = key.cipher.decrypt(&Nonce::from(nonce), payload).map_err(|_| OpenError::NotAuthentic)?;
        let plain = Zeroizing::new(plain);
        let text = std::str::from_utf8(&plain).map_err(|_| OpenError::NotAuthentic)?;
        CardNumber::parse(text).map_err(|_| OpenError::NotAuthentic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealing(seeds: &[u8]) -> Sealing {
        let secrets: Vec<SecretString> =
            seeds.iter().map(|&seed| SecretString::from(STANDARD.encode([seed; 32]))).collect();
        Sealing::new(&secrets).expect("valid keys")
    }

    fn number(digits: &str) -> CardNumber {
        CardNumber::parse(digits).expect(digits)
    }

    #[test]
    fn a_number_opens_in_its_own_row_and_nowhere_else() {
        let now = chrono::DateTime::from_timestamp(1_700_000_000, 0).expect("in range");
        let (merchant, other_merchant) = (MerchantId::generate(now), MerchantId::generate(now));
        let (method, other_method) = (PaymentMethodId::generate(now), PaymentMethodId::generate(now));
        let place = Place { merchant: &merchant, livemode: false, method: &method };
        let sealed = sealing(&[1]).seal(place, &number("4242424242424242")).expect("sealed");
        assert_eq!(sealing(&[2, 1]).open(place, &sealed).expect("opens").expose(), "4242424242424242");
        for wrong in [
            Place { merchant: &other_merchant, ..place },
            Place { livemode: true, ..place },
            Place { method: &other_method, ..place },
        ] {
            assert_eq!(sealing(&[1]).open(wrong, &sealed).err(), Some(OpenError::NotAuthentic));
        }
        let mut changed = sealed.clone();
        changed.bytes[NONCE_LENGTH] ^= 1;
        assert_eq!(sealing(&[1]).open(place, &changed).err(), Some(OpenError::NotAuthentic));
        changed.bytes.clear();
        assert_eq!(sealing(&[1]).open(place, &changed).err(), Some(OpenError::NotAuthentic));
        assert_eq!(sealing(&[2]).open(place, &sealed).err(), Some(OpenError::KeyMissing(sealed.key.clone())));
        let shorter = sealing(&[1]).seal(place, &number("378282246310005")).expect("sealed");
        assert_eq!(shorter.bytes.len(), sealed.bytes.len(), "the length tells nothing");
        assert_eq!(sealing(&[1]).open(place, &shorter).expect("opens").expose(), "378282246310005");
    }

    #[test]
    fn without_a_key_nothing_is_sealed_and_wrong_keys_are_named_by_their_place() {
        let now = chrono::DateTime::from_timestamp(1_700_000_000, 0).expect("in range");
        let (merchant, method) = (MerchantId::generate(now), PaymentMethodId::generate(now));
        let place = Place { merchant: &merchant, livemode: false, method: &method };
        assert!(sealing(&[]).seal(place, &number("4242424242424242")).is_none() && !sealing(&[]).is_on());
        let wrong = |secrets: &[&str]| {
            let secrets: Vec<SecretString> = secrets.iter().map(|secret| SecretString::from(*secret)).collect();
            Sealing::new(&secrets).err()
        };
        let good = STANDARD.encode([7; 32]);
        assert_eq!(wrong(&[&good, "short"]), Some(SealingKeyError::Malformed(2)));
        assert_eq!(wrong(&[&good, &good]), Some(SealingKeyError::Repeated(2)));
        assert_eq!(wrong(&["x"; 5]), Some(SealingKeyError::TooMany));
    }
}
