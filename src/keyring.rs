//! The operator's secret keys and the two things done with them: payer tokens and sealing.
//!
//! The rule: nothing in the database opens a page or signs a webhook without a key from here. Each
//! purpose gets a key of its own, derived by HMAC from the configured one. The first configured key
//! makes new tokens and seals; older ones still verify and unseal, which is how a key is rotated.
//! Card numbers are the vault's business, API keys are `domain::api_key`'s.

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit, Nonce};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::domain::id::SessionId;
use crate::domain::identity::Code;

/// Least length of a configured key, in bytes after base64 decoding.
const SECRET_BYTES_MIN: usize = 32;

/// Most keys in the ring: one current, the rest on their way out.
const KEYS_MAX: usize = 4;

/// Random bytes in front of a sealed value (AES-GCM's 96-bit nonce, NIST SP 800-38D).
const NONCE_LENGTH: usize = 12;

/// What can be wrong with configured or sealed material. No variant carries any of it.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum KeyringError {
    /// No key is configured.
    #[error(
        "no secret key is configured: set `secret_keys` (or CHECKSTAND_SECRET_KEYS) to the output of `openssl rand -base64 32`"
    )]
    Empty,
    /// More keys than a rotation needs.
    #[error("`secret_keys` holds more than {KEYS_MAX} keys: keep the current one and those still being rotated out")]
    TooMany,
    /// A key is not base64 or is short.
    #[error(
        "secret key {0} is not base64 of at least {SECRET_BYTES_MIN} bytes: make one with `openssl rand -base64 32`"
    )]
    Malformed(usize),
    /// A sealed value does not open with any key of the ring.
    #[error(
        "a sealed value does not open with any configured secret key: was a key removed from `secret_keys` too early?"
    )]
    Sealed,
}

struct Key {
    /// First byte of every sealed value, so that unsealing need not try every key.
    number: u8,
    payer_token: Zeroizing<[u8; 32]>,
    csrf: Zeroizing<[u8; 32]>,
    fingerprint: Zeroizing<[u8; 32]>,
    counting: Zeroizing<[u8; 32]>,
    payer_code: Zeroizing<[u8; 32]>,
    payer_binding: Zeroizing<[u8; 32]>,
    mail_budget: Zeroizing<[u8; 32]>,
    cipher: Aes256Gcm,
}

/// The key ring. Has no `Debug`: there is nothing in it to print.
pub struct Keyring {
    keys: Vec<Key>,
}

fn mac(key: &[u8], message: &[&[u8]]) -> [u8; 32] {
    let mut mac = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(key).expect("HMAC takes any key length");
    for part in message {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

fn derive(secret: &[u8], purpose: &str) -> Zeroizing<[u8; 32]> {
    Zeroizing::new(mac(secret, &[b"checkstand/", purpose.as_bytes()]))
}

impl Keyring {
    /// Builds the ring from base64 keys, the current one first.
    ///
    /// # Errors
    /// See [`KeyringError`]; the message names the key by its place, never by its content.
    pub fn new(secrets: &[SecretString]) -> Result<Self, KeyringError> {
        if secrets.is_empty() {
            return Err(KeyringError::Empty);
        }
        if secrets.len() > KEYS_MAX {
            return Err(KeyringError::TooMany);
        }
        let mut keys = Vec::with_capacity(secrets.len());
        for (index, secret) in secrets.iter().enumerate() {
            let bytes = Zeroizing::new(
                STANDARD.decode(secret.expose_secret().trim()).map_err(|_| KeyringError::Malformed(index + 1))?,
            );
            if bytes.len() < SECRET_BYTES_MIN {
                return Err(KeyringError::Malformed(index + 1));
            }
            let sealing = derive(&bytes, "sealing");
            keys.push(Key {
                number: Sha256::digest(sealing.as_slice())[0],
                payer_token: derive(&bytes, "payer-token"),
                csrf: derive(&bytes, "csrf"),
                fingerprint: derive(&bytes, "card-fingerprint"),
                counting: derive(&bytes, "counting"),
                payer_code: derive(&bytes, "payer-code"),
                payer_binding: derive(&bytes, "payer-binding"),
                mail_budget: derive(&bytes, "mail-budget"),
                cipher: Aes256Gcm::new_from_slice(sealing.as_slice()).expect("the key has 32 bytes"),
            });
        }
        Ok(Self { keys })
    }

    fn current(&self) -> &Key {
        &self.keys[0]
    }

    /// The token that opens a session's pages: the id and a MAC over it, nothing to store.
    pub fn payer_token(&self, session: &SessionId) -> String {
        let tag = mac(self.current().payer_token.as_slice(), &[session.as_str().as_bytes()]);
        format!("{session}~{}", URL_SAFE_NO_PAD.encode(tag))
    }

    /// The session that a token opens; `None` for anything this ring did not make. Costs no look-up
    /// and compares in constant time, so guesses are cheap to refuse and teach nothing.
    pub fn open_payer_token(&self, token: &str) -> Option<SessionId> {
        let (id, tag) = token.split_once('~')?;
        let session = SessionId::parse(id)?;
        let tag = URL_SAFE_NO_PAD.decode(tag).ok()?;
        self.keys
            .iter()
            .any(|key| mac(key.payer_token.as_slice(), &[id.as_bytes()]).ct_eq(&tag).into())
            .then_some(session)
    }

    /// The CSRF token for one browser on one session.
    pub fn csrf_token(&self, session: &SessionId, browser: &str) -> String {
        let tag = mac(self.current().csrf.as_slice(), &[session.as_str().as_bytes(), b"\n", browser.as_bytes()]);
        URL_SAFE_NO_PAD.encode(tag)
    }

    /// Whether a form carries the CSRF token of this browser and session.
    pub fn csrf_token_matches(&self, session: &SessionId, browser: &str, token: &str) -> bool {
        let Ok(tag) = URL_SAFE_NO_PAD.decode(token) else {
            return false;
        };
        self.keys.iter().any(|key| {
            mac(key.csrf.as_slice(), &[session.as_str().as_bytes(), b"\n", browser.as_bytes()]).ct_eq(&tag).into()
        })
    }

    /// The MACs of a one-time code under each key, the current one first: bound to its session, its number
    /// there and the browser that asked, so that it is worth nothing anywhere else.
    pub fn code_macs(&self, session: &SessionId, number: u8, browser: &str, code: &Code) -> Vec<[u8; 32]> {
        let number = [b'\n', number, b'\n'];
        let parts = [session.as_str().as_bytes(), &number, browser.as_bytes(), b"\n", code.expose().as_bytes()];
        self.keys.iter().map(|key| mac(key.payer_code.as_slice(), &parts)).collect()
    }

    /// The MACs of a browser's id under each key, the current one first: says whether the same browser
    /// comes back, and opens nothing.
    pub fn browser_macs(&self, session: &SessionId, browser: &str) -> Vec<[u8; 32]> {
        let parts = [session.as_str().as_bytes(), b"\nbrowser\n", browser.as_bytes()];
        self.keys.iter().map(|key| mac(key.payer_code.as_slice(), &parts)).collect()
    }

    /// What a browser keeps that has proven itself for a session: the binding's id and a MAC over both.
    pub fn binding_token(&self, session: &SessionId, binding: &str) -> String {
        let parts = [session.as_str().as_bytes(), b"\n", binding.as_bytes()];
        let tag = mac(self.current().payer_binding.as_slice(), &parts);
        format!("{binding}.{}", URL_SAFE_NO_PAD.encode(tag))
    }

    /// The id of the binding that a browser's token names; `None` unless this ring made it for this session.
    pub fn open_binding_token<'t>(&self, session: &SessionId, token: &'t str) -> Option<&'t str> {
        let (binding, tag) = token.split_once('.')?;
        let tag = URL_SAFE_NO_PAD.decode(tag).ok()?;
        let parts = [session.as_str().as_bytes(), b"\n", binding.as_bytes()];
        self.keys.iter().any(|key| mac(key.payer_binding.as_slice(), &parts).ct_eq(&tag).into()).then_some(binding)
    }

    /// Stands for the subject of a budget: the same for the same subject, and nothing to read.
    pub fn budget_subject(&self, kind: &str, subject: &str) -> [u8; 32] {
        mac(self.current().mail_budget.as_slice(), &[kind.as_bytes(), b"\n", subject.as_bytes()])
    }

    /// The key for card fingerprints. It is the oldest one, because a fingerprint must stay the same
    /// for the same card while keys are rotated.
    pub fn fingerprint_key(&self) -> Zeroizing<[u8; 32]> {
        self.keys[self.keys.len() - 1].fingerprint.clone()
    }

    /// What stands for something personal where tries are counted by it. `kind` keeps equal texts of different
    /// kinds apart. Of the oldest key, so that counts go on while keys are rotated.
    pub fn counting_key(&self, kind: &str, livemode: bool, text: &str) -> [u8; 16] {
        let mode: &[u8] = if livemode { b"/live/" } else { b"/test/" };
        let key = self.keys[self.keys.len() - 1].counting.as_slice();
        let tag = mac(key, &[kind.as_bytes(), mode, text.as_bytes()]);
        std::array::from_fn(|place| tag[place])
    }

    /// Seals a value for one place (table, column, row), so that it opens nowhere else.
    pub fn seal(&self, place: &str, plain: &[u8]) -> Vec<u8> {
        let key = self.current();
        let nonce: [u8; NONCE_LENGTH] = rand::random();
        let sealed = key
            .cipher
            .encrypt(&Nonce::from(nonce), Payload { msg: plain, aad: place.as_bytes() })
            .expect("AES-GCM seals any value that fits in memory");
        let mut out = Vec::with_capacity(1 + NONCE_LENGTH + sealed.len());
        out.push(key.number);
        out.extend_from_slice(&nonce);
        out.extend_from_slice(&sealed);
        out
    }

    /// Opens what [`Keyring::seal`] made for the same place.
    ///
    /// # Errors
    /// [`KeyringError::Sealed`] for another place, another ring, or changed bytes.
    pub fn unseal(&self, place: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyringError> {
        let (number, rest) = sealed.split_first().ok_or(KeyringError::Sealed)?;
        let (nonce, body) = rest.split_at_checked(NONCE_LENGTH).ok_or(KeyringError::Sealed)?;
        let nonce: [u8; NONCE_LENGTH] = nonce.try_into().map_err(|_| KeyringError::Sealed)?;
        self.keys
            .iter()
            .filter(|key| key.number == *number)
            .find_map(|key| key.cipher.decrypt(&Nonce::from(nonce), Payload { msg: body, aad: place.as_bytes() }).ok())
            .map(Zeroizing::new)
            .ok_or(KeyringError::Sealed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(seeds: &[u8]) -> Keyring {
        let secrets: Vec<SecretString> =
            seeds.iter().map(|&seed| SecretString::from(STANDARD.encode([seed; 32]))).collect();
        Keyring::new(&secrets).expect("valid keys")
    }

    #[test]
    fn a_token_opens_its_own_session_and_survives_a_rotation() {
        let session = SessionId::generate(chrono::Utc::now(), false);
        let token = ring(&[1]).payer_token(&session);
        assert_eq!(ring(&[1]).open_payer_token(&token), Some(session.clone()));
        assert_eq!(ring(&[2, 1]).open_payer_token(&token), Some(session.clone()));
        assert_eq!(ring(&[2]).open_payer_token(&token), None);
        let other = SessionId::generate(chrono::Utc::now(), false);
        let forged = token.replace(session.as_str(), other.as_str());
        assert_eq!(ring(&[1]).open_payer_token(&forged), None);
    }

    #[test]
    fn a_binding_holds_for_its_session_and_survives_a_rotation() {
        let now = chrono::Utc::now();
        let (session, other) = (SessionId::generate(now, false), SessionId::generate(now, false));
        let token = ring(&[1]).binding_token(&session, "abc");
        assert_eq!(ring(&[2, 1]).open_binding_token(&session, &token), Some("abc"));
        assert_eq!(ring(&[1]).open_binding_token(&other, &token), None);
        assert_eq!(ring(&[2]).open_binding_token(&session, &token), None);
        assert_eq!(ring(&[1]).open_binding_token(&session, &token.replace("abc", "abd")), None);
        // The same secret makes keys for other purposes, which open nothing here.
        let forged = format!("abc.{}", ring(&[1]).csrf_token(&session, "abc"));
        assert_eq!(ring(&[1]).open_binding_token(&session, &forged), None);
    }

    #[test]
    fn a_codes_mac_is_of_one_session_one_number_and_one_browser() {
        let now = chrono::Utc::now();
        let (session, other) = (SessionId::generate(now, false), SessionId::generate(now, false));
        let code = |number| Code::from_random(number).expect("a code");
        let made = ring(&[1]).code_macs(&session, 1, "browser", &code(1))[0];
        assert_eq!(ring(&[2, 1]).code_macs(&session, 1, "browser", &code(1))[1], made);
        for different in [
            ring(&[1]).code_macs(&other, 1, "browser", &code(1))[0],
            ring(&[1]).code_macs(&session, 2, "browser", &code(1))[0],
            ring(&[1]).code_macs(&session, 1, "another", &code(1))[0],
            ring(&[1]).code_macs(&session, 1, "browser", &code(2))[0],
            ring(&[2]).code_macs(&session, 1, "browser", &code(1))[0],
        ] {
            assert_ne!(different, made);
        }
    }

    #[test]
    fn a_sealed_value_opens_only_in_its_place() {
        let sealed = ring(&[1]).seal("webhook_endpoint/secret/we_1", b"whsec_x");
        assert_eq!(
            ring(&[2, 1]).unseal("webhook_endpoint/secret/we_1", &sealed).expect("opens").as_slice(),
            b"whsec_x"
        );
        assert_eq!(ring(&[1]).unseal("webhook_endpoint/secret/we_2", &sealed), Err(KeyringError::Sealed));
        assert_eq!(ring(&[3]).unseal("webhook_endpoint/secret/we_1", &sealed), Err(KeyringError::Sealed));
        assert_eq!(ring(&[1]).unseal("webhook_endpoint/secret/we_1", &[]), Err(KeyringError::Sealed));
    }

    #[test]
    fn what_is_counted_is_kept_apart_by_kind_mode_and_key_and_outlives_a_rotation() {
        let counted = ring(&[1]).counting_key("email", true, "ada@example.com");
        assert_eq!(counted, ring(&[2, 1]).counting_key("email", true, "ada@example.com"));
        for other in [
            ring(&[1]).counting_key("card", true, "ada@example.com"),
            ring(&[1]).counting_key("email", false, "ada@example.com"),
            ring(&[1]).counting_key("email", true, "bob@example.com"),
            ring(&[2]).counting_key("email", true, "ada@example.com"),
        ] {
            assert_ne!(counted, other);
        }
    }

    #[test]
    fn a_fingerprint_key_stays_the_same_through_a_rotation() {
        assert_eq!(*ring(&[1]).fingerprint_key(), *ring(&[2, 1]).fingerprint_key());
    }
}
