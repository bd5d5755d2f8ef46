//! Messages that Stripe sends of its own accord: who signed them, and which charge they name.
//!
//! Rule: the signature is judged before a byte of the body is read, against every secret, in constant
//! time. Of the body only our ids of the charge and the refund, or the names of a dispute and its payment, are taken; status, amount
//! and the kind of event are not even looked at, because the charge or dispute is read back from Stripe.

use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::Value;

use super::intent::{CHARGE_KEY, is_id};
use super::refunds::REFUND_KEY;
use crate::domain::signature::{TOLERANCE_SECONDS, verify_stripe_keys};
use crate::providers::{Callback, CallbackError};

/// Longest id of ours that is passed on: they have some thirty characters.
const OUR_ID_CHARS_MAX: usize = 64;

#[derive(Deserialize)]
struct Event {
    #[serde(default)]
    data: Data,
}

#[derive(Default, Deserialize)]
struct Data {
    #[serde(default)]
    object: Object,
}

#[derive(Default, Deserialize)]
struct Object {
    #[serde(default)]
    object: Value,
    #[serde(default)]
    id: Value,
    #[serde(default)]
    payment_intent: Value,
    #[serde(default)]
    metadata: Option<Value>,
}

/// Reads a message. `now` is the receiver's clock in Unix seconds.
///
/// # Errors
/// [`CallbackError`].
pub(super) fn read(
    secrets: &[SecretString],
    headers: &[(String, String)],
    body: &[u8],
    now: i64,
) -> Result<Callback, CallbackError> {
    if secrets.is_empty() {
        return Err(CallbackError::NotSupported);
    }
    let mut signatures = headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("stripe-signature"));
    let (Some((_, signature)), None) = (signatures.next(), signatures.next()) else {
        return Err(CallbackError::NotAuthentic);
    };
    let keys: Vec<&[u8]> = secrets.iter().map(|secret| secret.expose_secret().as_bytes()).collect();
    verify_stripe_keys(&keys, signature, body, now, TOLERANCE_SECONDS).map_err(|_| CallbackError::NotAuthentic)?;
    let event: Event = serde_json::from_slice(body).map_err(|_| CallbackError::Malformed)?;
    let Object { object, id, payment_intent, metadata } = event.data.object;
    // A dispute carries nothing of ours, only what Stripe calls our payment and itself.
    if object == "dispute" {
        let name = |prefix: &[&str], value: &Value| {
            let text = value.as_str().filter(|text| prefix.iter().any(|prefix| is_id(prefix, text)));
            text.map(str::to_owned)
        };
        return match (name(&["pi_"], &payment_intent), name(&["dp_", "du_"], &id)) {
            (Some(charge_reference), Some(reference)) => Ok(Callback::Dispute { charge_reference, reference }),
            _ => Err(CallbackError::Unrelated),
        };
    }
    let metadata = metadata.unwrap_or_default();
    let ours = |key: &str| {
        let id = metadata.get(key).and_then(Value::as_str);
        id.filter(|id| !id.is_empty() && id.len() <= OUR_ID_CHARS_MAX).map(str::to_owned)
    };
    match (ours(CHARGE_KEY), ours(REFUND_KEY)) {
        (Some(charge_id), Some(refund_id)) if object == "refund" => Ok(Callback::Refund { charge_id, refund_id }),
        (Some(charge_id), _) => Ok(Callback::Charge { charge_id }),
        (None, _) => Err(CallbackError::Unrelated),
    }
}
