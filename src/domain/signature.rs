//! Signatures of webhooks: what a merchant's backend checks before it believes a message.
//! Every message carries two of them, over the very bytes that are sent: Stripe's scheme, which the
//! Stripe SDKs verify, and Standard Webhooks 1.0. While a secret is being replaced, the old and the
//! new one both sign, and an endpoint may have an Ed25519 signature beside them. Comparison takes the same time whether or not a signature is right.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::key_pair::SigningKeyPair;

/// What every signing secret begins with, in Stripe's scheme and in Standard Webhooks alike.
pub const SECRET_PREFIX: &str = "whsec_";

/// Random bytes of a secret made here. Standard Webhooks asks for 24 to 64.
pub const SECRET_BYTES: usize = 32;
const SECRET_BYTES_MIN: usize = 24;
const SECRET_BYTES_MAX: usize = 64;

/// How far a message's timestamp may be from the receiver's clock, in seconds, before the message is
/// taken for a replay: five minutes, as the Stripe SDKs and the Standard Webhooks libraries have it.
pub const TOLERANCE_SECONDS: i64 = 300;

/// More signatures than this in one header are not looked at: a rotation needs two.
const SIGNATURES_MAX: usize = 16;

/// Bytes of an HMAC-SHA256.
const MAC_BYTES: usize = 32;

/// One endpoint's signing secret, `whsec_` followed by padded standard base64.
///
/// Its memory is wiped when it is dropped, and its `Debug` shows nothing of it.
#[derive(Clone)]
pub struct SigningSecret {
    text: Zeroizing<String>,
    key: Zeroizing<Vec<u8>>,
}

impl SigningSecret {
    /// A new secret of [`SECRET_BYTES`] bytes from the thread's cryptographic generator.
    pub fn generate() -> SigningSecret {
        let mut key = Zeroizing::new(vec![0_u8; SECRET_BYTES]);
        rand::fill(&mut key[..]);
        let text = Zeroizing::new(format!("{SECRET_PREFIX}{}", STANDARD.encode(&key[..])));
        SigningSecret { text, key }
    }

    /// Reads a secret as it is shown to the merchant. None unless it is `whsec_` and padded standard
    /// base64 of 24 to 64 bytes: what some library would refuse is not let in.
    pub fn parse(text: &str) -> Option<SigningSecret> {
        let key = Zeroizing::new(STANDARD.decode(text.strip_prefix(SECRET_PREFIX)?).ok()?);
        if !(SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&key.len()) {
            return None;
        }
        Some(SigningSecret { text: Zeroizing::new(text.to_owned()), key })
    }

    /// The secret in clear, for sealing it and for showing it to the merchant once.
    pub fn expose(&self) -> &str {
        &self.text
    }

    fn stripe_mac(&self, timestamp: &str, body: &[u8]) -> Hmac<Sha256> {
        stripe_mac(self.text.as_bytes(), timestamp, body)
    }

    fn standard_mac(&self, id: &str, timestamp: &str, body: &[u8]) -> Hmac<Sha256> {
        keyed(&self.key, &[id.as_bytes(), b".", timestamp.as_bytes(), b".", body])
    }
}

impl std::fmt::Debug for SigningSecret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("SigningSecret")
    }
}

/// Why a message is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The header does not have the form of its scheme.
    #[error("the signature header is malformed")]
    Malformed,
    /// The timestamp is too far from the receiver's clock, before or after.
    #[error("the timestamp is outside the tolerance")]
    OutsideTolerance,
    /// No signature in the header was made with one of the secrets over this body.
    #[error("no signature matches")]
    NoMatch,
}

/// The value of `Stripe-Signature`: `t=<unix seconds>,v1=<hex>`, with one `v1` for each secret.
/// The key is the whole text of the secret, prefix included, as Stripe has it.
pub fn stripe_signature_header(secrets: &[SigningSecret], timestamp: i64, body: &str) -> String {
    let timestamp = timestamp.to_string();
    let mut header = format!("t={timestamp}");
    for secret in secrets {
        let mac = secret.stripe_mac(&timestamp, body.as_bytes()).finalize();
        header.push_str(",v1=");
        header.push_str(&hex::encode(mac.into_bytes()));
    }
    header
}

/// The value of `webhook-signature` (Standard Webhooks 1.0): `v1,<base64>` for each secret, with
/// exactly one space between them. The key is the decoded part of the secret, and `id` and
/// `timestamp` (unix seconds) are sent as `webhook-id` and `webhook-timestamp`.
pub fn standard_webhooks_signature(secrets: &[SigningSecret], id: &str, timestamp: i64, body: &str) -> String {
    let timestamp = timestamp.to_string();
    let mut header = String::new();
    for secret in secrets {
        let mac = secret.standard_mac(id, &timestamp, body.as_bytes()).finalize();
        if !header.is_empty() {
            header.push(' ');
        }
        header.push_str("v1,");
        header.push_str(&STANDARD.encode(mac.into_bytes()));
    }
    header
}

/// The `v1a` tokens of `webhook-signature`, one for each key pair, each behind a space: what is signed is
/// the same as for `v1`.
pub fn ed25519_signatures(pairs: &[&SigningKeyPair], id: &str, timestamp: i64, body: &str) -> String {
    if pairs.is_empty() {
        return String::new();
    }
    let message = format!("{id}.{timestamp}.{body}");
    pairs.iter().map(|pair| format!(" v1a,{}", pair.sign(message.as_bytes()))).collect()
}

/// Checks a `Stripe-Signature` header against the raw body. `now` is the receiver's clock in unix
/// seconds; the tolerance reaches both ways. Unknown parts of the header are passed over.
pub fn verify_stripe(
    secrets: &[SigningSecret],
    header: &str,
    body: &[u8],
    now: i64,
    tolerance_seconds: i64,
) -> Result<(), SignatureError> {
    let keys: Vec<&[u8]> = secrets.iter().map(|secret| secret.text.as_bytes()).collect();
    verify_stripe_keys(&keys, header, body, now, tolerance_seconds)
}

/// The same with secrets that others made, which need not look like ours. The whole text is the key.
pub fn verify_stripe_keys(
    keys: &[&[u8]],
    header: &str,
    body: &[u8],
    now: i64,
    tolerance_seconds: i64,
) -> Result<(), SignatureError> {
    let mut timestamp = None;
    let mut signatures = Vec::new();
    for part in header.split(',') {
        match part.split_once('=').ok_or(SignatureError::Malformed)? {
            ("t", value) => timestamp = Some(value),
            ("v1", value) if signatures.len() < SIGNATURES_MAX => signatures.push(value),
            _ => {}
        }
    }
    let timestamp = timestamp.ok_or(SignatureError::Malformed)?;
    check_tolerance(timestamp, now, tolerance_seconds)?;
    let signatures = signatures.into_iter().filter_map(|text| {
        let mut mac = [0_u8; MAC_BYTES];
        hex::decode_to_slice(text, &mut mac).ok().map(|()| mac)
    });
    any_matches(signatures, keys, |key| stripe_mac(key, timestamp, body))
}

/// Checks the three Standard Webhooks headers against the raw body. `now` is the receiver's clock in
/// unix seconds; the tolerance reaches both ways. Signatures of other versions are passed over.
pub fn verify_standard(
    secrets: &[SigningSecret],
    id: &str,
    timestamp: &str,
    signature: &str,
    body: &[u8],
    now: i64,
    tolerance_seconds: i64,
) -> Result<(), SignatureError> {
    if id.is_empty() {
        return Err(SignatureError::Malformed);
    }
    check_tolerance(timestamp, now, tolerance_seconds)?;
    let signatures = signature.split(' ').take(SIGNATURES_MAX).filter_map(|token| {
        let (version, text) = token.split_once(',')?;
        let mac = STANDARD.decode(text).ok()?;
        (version == "v1").then_some(mac)?.try_into().ok()
    });
    any_matches(signatures, secrets, |secret| secret.standard_mac(id, timestamp, body))
}

fn check_tolerance(timestamp: &str, now: i64, tolerance_seconds: i64) -> Result<(), SignatureError> {
    // `parse` would let a leading plus sign through, which no sender writes.
    let digits = !timestamp.is_empty() && timestamp.bytes().all(|byte| byte.is_ascii_digit());
    let sent: i64 = digits.then(|| timestamp.parse().ok()).flatten().ok_or(SignatureError::Malformed)?;
    if now.abs_diff(sent) > tolerance_seconds.unsigned_abs() {
        return Err(SignatureError::OutsideTolerance);
    }
    Ok(())
}

fn any_matches<S>(
    signatures: impl Iterator<Item = [u8; MAC_BYTES]>,
    secrets: &[S],
    mac_of: impl Fn(&S) -> Hmac<Sha256>,
) -> Result<(), SignatureError> {
    let expected: Vec<_> = secrets.iter().map(mac_of).collect();
    let mut matched = false;
    for signature in signatures {
        for mac in &expected {
            // `verify_slice` compares in constant time; no early way out tells which one fitted.
            matched |= mac.clone().verify_slice(&signature).is_ok();
        }
    }
    if matched { Ok(()) } else { Err(SignatureError::NoMatch) }
}

fn stripe_mac(key: &[u8], timestamp: &str, body: &[u8]) -> Hmac<Sha256> {
    keyed(key, &[timestamp.as_bytes(), b".", body])
}

fn keyed(key: &[u8], parts: &[&[u8]]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    for part in parts {
        mac.update(part);
    }
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    const STANDARD_SECRET: &str = "whsec_AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=";
    const STANDARD_BODY: &str = r#"{"type":"checkout.session.completed","timestamp":"2026-01-02T03:04:05Z","data":{"id":"cs_01","amount":1999,"note":"café"}}"#;
    const STANDARD_SIGNATURE: &str = "v1,CfMTf9Ugw1wtP+nI6RY1yV1QpCoFKONrwzlc70Uc+BY=";
    const STANDARD_AT: i64 = 1_767_323_045;

    fn secret() -> SigningSecret {
        SigningSecret::parse(STANDARD_SECRET).expect("a well-formed secret")
    }

    fn verify(secrets: &[SigningSecret], at: &str, signature: &str) -> Result<(), SignatureError> {
        let (body, now) = (STANDARD_BODY.as_bytes(), STANDARD_AT);
        verify_standard(secrets, "evt_01JABCDEF", at, signature, body, now, TOLERANCE_SECONDS)
    }

    #[test]
    fn standard_webhooks_vector_that_the_reference_libraries_agree_on() {
        assert_eq!(STANDARD_BODY.len(), 123);
        let made = standard_webhooks_signature(&[secret()], "evt_01JABCDEF", STANDARD_AT, STANDARD_BODY);
        assert_eq!(made, STANDARD_SIGNATURE);
    }

    #[test]
    fn stripe_vector() {
        let body = r#"{"id":"evt_1","object":"event","type":"checkout.session.completed","data":{"object":{"id":"cs_test_0001","object":"checkout.session"}}}"#;
        // The vector's secret is shorter than any we accept, hence the bare function.
        let mac = stripe_mac(b"whsec_test", "1700000000", body.as_bytes()).finalize();
        assert_eq!(hex::encode(mac.into_bytes()), "46404878be9ae23e6f3ba711d2b0beba73be3f5b39c26d3c23292c2b622e6e0a");
    }

    #[test]
    fn both_secrets_sign_during_a_rotation_and_either_verifies() {
        let (old, new, other) = (secret(), SigningSecret::generate(), SigningSecret::generate());
        let both = [new.clone(), old.clone()];
        let stripe = stripe_signature_header(&both, STANDARD_AT, STANDARD_BODY);
        assert_eq!(stripe.matches(",v1=").count(), 2);
        assert!(stripe.starts_with("t=1767323045,v1=") && !stripe.contains(' '));
        let standard = standard_webhooks_signature(&both, "evt_01JABCDEF", STANDARD_AT, STANDARD_BODY);
        assert_eq!(standard.matches(' ').count(), 1);
        assert!(standard.ends_with(STANDARD_SIGNATURE));

        let body = STANDARD_BODY.as_bytes();
        for (held, result) in [(old, Ok(())), (new, Ok(())), (other, Err(SignatureError::NoMatch))] {
            let held = [held];
            assert_eq!(verify_stripe(&held, &stripe, body, STANDARD_AT, 300), result);
            assert_eq!(verify(&held, "1767323045", &standard), result);
        }
    }

    #[test]
    fn what_is_not_believed() {
        use SignatureError::{Malformed, NoMatch, OutsideTolerance};
        let held = [secret()];
        let header = stripe_signature_header(&held, STANDARD_AT, STANDARD_BODY);
        let stripe = |header: &str, body: &str, now| verify_stripe(&held, header, body.as_bytes(), now, 300);
        assert_eq!(stripe(&header, STANDARD_BODY, STANDARD_AT + 300), Ok(()));
        assert_eq!(stripe(&header, STANDARD_BODY, STANDARD_AT + 301), Err(OutsideTolerance));
        assert_eq!(stripe(&header, STANDARD_BODY, STANDARD_AT - 301), Err(OutsideTolerance));
        assert_eq!(stripe(&header, "{}", STANDARD_AT), Err(NoMatch));
        for malformed in ["", "t=", "v1=00", "t=+1767323045,v1=00", "t=soon,v1=00", "nonsense"] {
            assert_eq!(stripe(malformed, STANDARD_BODY, STANDARD_AT), Err(Malformed), "{malformed}");
        }
        assert_eq!(stripe("t=1767323045,v1=zz,v0=00", STANDARD_BODY, STANDARD_AT), Err(NoMatch));

        assert_eq!(verify(&held, "1767323045", STANDARD_SIGNATURE), Ok(()));
        assert_eq!(verify(&held, "1767323045", "v1a,AAAA"), Err(NoMatch));
        assert_eq!(verify(&held, "1767323045", ""), Err(NoMatch));
        assert_eq!(verify(&held, "1767322000", STANDARD_SIGNATURE), Err(OutsideTolerance));
        assert_eq!(verify(&held, "1767323045.0", STANDARD_SIGNATURE), Err(Malformed));
    }

    #[test]
    fn secrets_are_strict_and_silent() {
        let made = SigningSecret::generate();
        assert_eq!(made.expose().len(), SECRET_PREFIX.len() + 44);
        let read = SigningSecret::parse(made.expose()).expect("reads what it makes");
        assert_eq!(read.expose(), made.expose());
        assert_ne!(made.expose(), SigningSecret::generate().expose());
        assert_eq!(format!("{made:?}"), "SigningSecret");
        for refused in [
            "",
            "whsec_",
            "whsec_test",
            "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=",
            // Unpadded, and in the alphabet for URLs: libraries disagree about both.
            "whsec_AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA",
            "whsec_-_IDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=",
        ] {
            assert!(SigningSecret::parse(refused).is_none(), "{refused}");
        }
    }
}
