//! The format of API keys: `sk_test_` or `sk_live_`, thirty random base-62 characters, six of
//! checksum.
//!
//! The rule: a key whose checksum is wrong is refused without asking the database, a key is shown
//! once and never stored, and its type cannot be printed. The checksum is GitHub's idea (a CRC-32 in
//! base 62), which also lets secret scanners tell a real key from a look-alike.

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Random characters in a key: 178 bits, so a plain hash of it cannot be reversed.
const RANDOM_LENGTH: usize = 30;

/// Characters of checksum: 62^6 is above 2^32.
const CHECKSUM_LENGTH: usize = 6;

/// A whole secret key. Deliberately without `Debug` and `Display`.
pub struct SecretKey {
    text: Zeroizing<String>,
    livemode: bool,
}

/// Why a text is not a secret key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyError {
    /// A publishable key, which cannot call the API of the merchant's backend.
    Publishable,
    /// Not of the form, or its checksum is wrong: a typing error or a forgery.
    Malformed,
}

fn checksum(text: &str) -> String {
    let mut rest = crc32fast::hash(text.as_bytes());
    let mut digits = [b'0'; CHECKSUM_LENGTH];
    for digit in digits.iter_mut().rev() {
        *digit = ALPHABET[(rest % 62) as usize];
        rest /= 62;
    }
    digits.iter().map(|&digit| char::from(digit)).collect()
}

impl SecretKey {
    /// A new random key.
    pub fn generate(livemode: bool) -> Self {
        let body: Zeroizing<String> = Zeroizing::new(
            (0..RANDOM_LENGTH).map(|_| char::from(ALPHABET[rand::random_range(0..ALPHABET.len())])).collect(),
        );
        Self::with_body(&body, livemode)
    }

    /// The key with a chosen body; used for the demo key, which is public.
    pub fn with_body(body: &str, livemode: bool) -> Self {
        let prefix = if livemode { "sk_live_" } else { "sk_test_" };
        let head = format!("{prefix}{body}");
        let text = Zeroizing::new(format!("{head}{}", checksum(&head)));
        Self { text, livemode }
    }

    /// Reads a key and checks its checksum.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let livemode = match text.get(..8) {
            Some("sk_test_" | "rk_test_") => false,
            Some("sk_live_" | "rk_live_") => true,
            Some("pk_test_" | "pk_live_") => return Err(KeyError::Publishable),
            _ => return Err(KeyError::Malformed),
        };
        let well_formed = text.len() == 8 + RANDOM_LENGTH + CHECKSUM_LENGTH
            && text.is_ascii()
            && checksum(&text[..8 + RANDOM_LENGTH]) == text[8 + RANDOM_LENGTH..];
        if !well_formed {
            return Err(KeyError::Malformed);
        }
        Ok(Self { text: Zeroizing::new(text.to_owned()), livemode })
    }

    /// Whether the key acts on live objects.
    pub fn livemode(&self) -> bool {
        self.livemode
    }

    /// What the database keeps instead of the key.
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.text.as_bytes()).into()
    }

    /// The last four characters, so that a person can tell two keys apart.
    pub fn last4(&self) -> &str {
        &self.text[self.text.len() - 4..]
    }

    /// The key itself, to be shown once to the person who asked for it.
    pub fn expose(&self) -> &str {
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_key_parses_and_a_changed_one_does_not() {
        let key = SecretKey::generate(false);
        let text = key.expose().to_owned();
        assert_eq!(SecretKey::parse(&text).map(|parsed| parsed.hash()).ok(), Some(key.hash()));
        for place in 8..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[place] = if changed[place] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).expect("ascii");
            assert!(SecretKey::parse(&changed).is_err(), "changed at {place}");
        }
        assert!(SecretKey::parse(&text.replace("sk_test_", "sk_live_")).is_err());
    }

    #[test]
    fn publishable_keys_are_told_apart() {
        assert_eq!(SecretKey::parse("pk_test_123").err(), Some(KeyError::Publishable));
        assert_eq!(SecretKey::parse("").err(), Some(KeyError::Malformed));
        assert_eq!(SecretKey::parse("sk_test_ü").err(), Some(KeyError::Malformed));
    }
}
