//! Ed25519 key pairs (RFC 8032) for endpoints whose receivers are to verify without holding a secret:
//! Standard Webhooks' `v1a`. The private half is made here, sealed by others and never shown; the public
//! one may stand in anybody's configuration.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use zeroize::Zeroizing;

/// What a public key begins with, in Standard Webhooks.
pub const PUBLIC_KEY_PREFIX: &str = "whpk_";

/// Bytes of the seed that a key pair is made from.
pub const SEED_BYTES: usize = 32;

/// A key pair. Its `Debug` shows nothing of it.
pub struct SigningKeyPair {
    seed: Zeroizing<[u8; SEED_BYTES]>,
    pair: Ed25519KeyPair,
}

impl SigningKeyPair {
    /// A new key pair from the thread's cryptographic generator.
    ///
    /// # Panics
    /// Never: a seed of this length makes a key pair.
    pub fn generate() -> SigningKeyPair {
        let mut seed = Zeroizing::new([0_u8; SEED_BYTES]);
        rand::fill(&mut seed[..]);
        SigningKeyPair::from_seed(&seed[..]).expect("a seed of the right length makes a key pair")
    }

    /// The key pair of a seed that was kept. None unless it has [`SEED_BYTES`].
    pub fn from_seed(seed: &[u8]) -> Option<SigningKeyPair> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).ok()?;
        Some(SigningKeyPair { seed: Zeroizing::new(seed.try_into().ok()?), pair })
    }

    /// The private half, for sealing it.
    pub fn seed(&self) -> &[u8] {
        &self.seed[..]
    }

    /// The public half as receivers are given it: `whpk_` and padded base64 of its 32 bytes.
    pub fn public_key(&self) -> String {
        format!("{PUBLIC_KEY_PREFIX}{}", STANDARD.encode(self.pair.public_key()))
    }

    /// The signature of a message, as padded base64 of its 64 bytes.
    pub fn sign(&self, message: &[u8]) -> String {
        STANDARD.encode(self.pair.sign(message))
    }
}

impl std::fmt::Debug for SigningKeyPair {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("SigningKeyPair")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectors_of_rfc_8032() {
        let seed = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb";
        let pair = SigningKeyPair::from_seed(&hex::decode(seed).expect("hex")).expect("a key pair");
        let public = hex::decode("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c").expect("hex");
        assert_eq!(pair.public_key(), format!("whpk_{}", STANDARD.encode(public)));
        let signature = "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
                         085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00";
        assert_eq!(pair.sign(&[0x72]), STANDARD.encode(hex::decode(signature).expect("hex")));
    }

    #[test]
    fn pairs_are_new_each_time_and_come_back_from_their_seed() {
        let made = SigningKeyPair::generate();
        assert_ne!(made.public_key(), SigningKeyPair::generate().public_key());
        let read = SigningKeyPair::from_seed(made.seed()).expect("a key pair");
        assert_eq!(read.public_key(), made.public_key());
        assert!(SigningKeyPair::from_seed(&[1; 31]).is_none());
        assert_eq!(format!("{made:?}"), "SigningKeyPair");
    }
}
