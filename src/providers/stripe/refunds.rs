//! Giving money back at Stripe, and what of it was given back already.
//!
//! Rule: before a refund is made, those that there are are read, and one that carries our refund id is
//! the answer. Idempotency keys stand behind that and are not relied on. More than is left is never
//! asked for, whatever the server would accept.

use serde::Deserialize;
use serde_json::Value;

use super::api::{Answer, Api};
use super::intent::{CHARGE_KEY, Intent, is_id};
use crate::domain::money::Money;
use crate::providers::{ChargeRef, RefundLookUp, Reversal};

/// Our refund's id in Stripe's metadata.
pub(super) const REFUND_KEY: &str = "checkstand_refund";

/// Refunds in one page: as many as Stripe gives.
const PAGE_MAX: usize = 100;

/// Pages read: a charge with more refunds is for a person to look at.
const PAGES_MAX: usize = 10;

/// Idempotency keys tried for one refund. A key whose request failed gives that failure again for a day.
const KEYS_MAX: u32 = 4;

/// Refusals that no repetition changes.
const FINAL_CODES: [&str; 2] = ["charge_already_refunded", "charge_disputed"];

/// Why refunds come back, in Stripe's words; another word is `unknown`.
const RETURN_REASONS: [&str; 6] = [
    "charge_for_pending_refund_disputed",
    "declined",
    "expired_or_canceled_card",
    "insufficient_funds",
    "lost_or_stolen_card",
    "merchant_request",
];

/// A refund as Stripe tells of it.
#[derive(Clone, Debug, Deserialize)]
struct Refund {
    id: String,
    amount: i64,
    currency: String,
    status: Option<String>,
    failure_reason: Option<String>,
    #[serde(default)]
    metadata: serde_json::Map<String, Value>,
}

#[derive(Deserialize)]
struct Page {
    data: Vec<Refund>,
    #[serde(default)]
    has_more: bool,
}

impl Refund {
    fn our_id(&self) -> Option<&str> {
        self.metadata.get(REFUND_KEY).and_then(Value::as_str)
    }

    /// Whether the money is gone or going.
    fn counts(&self) -> bool {
        !matches!(self.status.as_deref(), Some("failed" | "canceled"))
    }

    fn reversal(&self, money: Money) -> Reversal {
        if (self.amount, self.currency.as_str()) != (money.minor, money.currency.code()) {
            tracing::error!(reference = self.id, "Stripe has a refund of ours with other money; a person must look");
            return Reversal::Unknown { detail: "the refund at Stripe is for other money".to_owned() };
        }
        match self.status.as_deref() {
            Some("succeeded") => Reversal::Done { reference: self.id.clone() },
            Some("failed" | "canceled") => {
                tracing::warn!(reference = self.id, "a refund did not go through at Stripe; the money came back");
                Reversal::NothingToReverse
            }
            // On its way; the next question finds it by our id.
            _ => Reversal::Unknown { detail: "Stripe has the refund and has not finished it".to_owned() },
        }
    }
}

/// The refunds of an intent that holds money.
async fn list(api: &Api, intent: &Intent) -> Result<Vec<Refund>, String> {
    let mut all: Vec<Refund> = Vec::new();
    for _ in 0..PAGES_MAX {
        let mut path = format!("/v1/refunds?payment_intent={}&limit={PAGE_MAX}", intent.id);
        if let Some(last) = all.last() {
            path = format!("{path}&starting_after={}", last.id);
        }
        let page: Page = match api.get(&path).await {
            Answer::Done(object) => {
                serde_json::from_value(object).map_err(|_| "it is no list of refunds".to_owned())?
            }
            Answer::Refused(refusal) => return Err(refusal.to_string()),
            Answer::Lost(detail) => return Err(detail),
        };
        let is_last = !page.has_more || page.data.is_empty();
        if page.data.iter().any(|refund| !is_id("", &refund.id)) {
            return Err("a refund's id is none".to_owned());
        }
        all.extend(page.data);
        if is_last {
            return Ok(all);
        }
    }
    Err(format!("there are more than {} refunds of one charge", PAGE_MAX * PAGES_MAX))
}

/// How a refund stands that was made before.
pub(super) async fn look_up(api: &Api, charge: &ChargeRef, intent: &Intent, refund_id: &str) -> RefundLookUp {
    let refunds = match list(api, intent).await {
        Ok(refunds) => refunds,
        Err(detail) => return RefundLookUp::Unknown { detail },
    };
    match refunds.into_iter().find(|refund| refund.our_id() == Some(refund_id)) {
        None => RefundLookUp::Unknown { detail: "Stripe lists no such refund".to_owned() },
        Some(refund) if refund.counts() => RefundLookUp::Stands,
        Some(refund) if refund.currency != charge.money.currency.code() => {
            RefundLookUp::Unknown { detail: "the refund at Stripe is for other money".to_owned() }
        }
        Some(refund) => {
            let told = refund.failure_reason.as_deref();
            let reason = RETURN_REASONS.into_iter().find(|word| told == Some(*word)).unwrap_or("unknown");
            RefundLookUp::CameBack { amount: refund.amount, reason }
        }
    }
}

/// What was taken, of which these were given back. A server that does not say shows what a partial capture left
/// untaken as a refund; it is one that we did not make.
fn taken(intent: &Intent, charge_minor: i64, refunds: &[Refund]) -> i64 {
    intent.amount_received.unwrap_or_else(|| {
        let released: i64 = refunds.iter().filter(|refund| refund.our_id().is_none()).map(|refund| refund.amount).sum();
        charge_minor.saturating_sub(released)
    })
}

/// What was taken of an intent that has succeeded.
pub(super) async fn taken_minor(api: &Api, intent: &Intent) -> Result<i64, String> {
    match (intent.amount_received, intent.latest_charge()) {
        (Some(received), _) => Ok(received),
        (None, Some(charge)) => Ok(taken(intent, charge.amount, &list(api, intent).await?)),
        (None, None) => Err("the answer has no charge".to_owned()),
    }
}

/// How much to give back.
#[derive(Clone, Copy)]
pub(super) enum Amount {
    /// So much.
    Exactly(Money),
    /// Whatever is left.
    Rest,
}

/// Gives money of an intent that has succeeded back. The caller sees to it that nobody else does at the same time.
pub(super) async fn give_back(
    api: &Api,
    charge: &ChargeRef,
    intent: &Intent,
    refund_id: &str,
    amount: Amount,
) -> Reversal {
    let path = "/v1/refunds";
    for key in 1..=KEYS_MAX {
        let refunds = match list(api, intent).await {
            Ok(refunds) => refunds,
            Err(detail) => return Reversal::Unknown { detail },
        };
        let Some(made) = intent.latest_charge() else {
            return Reversal::Unknown { detail: "the answer has no charge".to_owned() };
        };
        let found = refunds.iter().find(|refund| refund.our_id() == Some(refund_id));
        // Those of ours are counted from the list, which is newer than the intent; those of others only the charge knows.
        let ours: i64 = refunds
            .iter()
            .filter(|refund| refund.our_id().is_some() && refund.counts())
            .map(|refund| refund.amount)
            .sum();
        let left = (taken(intent, made.amount, &refunds) - ours).min(made.amount - made.amount_refunded);
        let money = match (amount, found) {
            (Amount::Exactly(money), _) => money,
            (Amount::Rest, Some(found)) => Money { minor: found.amount, ..charge.money },
            (Amount::Rest, None) => Money { minor: left, ..charge.money },
        };
        match (amount, found) {
            (Amount::Rest, Some(found)) if !found.counts() => {
                tracing::error!(
                    charge = charge.charge_id,
                    reference = found.id,
                    "money that must be given back came back to the account; a person must send it"
                );
                return Reversal::Unknown { detail: "the refund failed at Stripe".to_owned() };
            }
            (_, Some(found)) => return found.reversal(money),
            (_, None) => {}
        }
        if left <= 0 && matches!(amount, Amount::Rest) && ours > 0 {
            return Reversal::Done { reference: intent.id.clone() };
        }
        if money.minor <= 0 || left < money.minor {
            return Reversal::NothingToReverse;
        }
        let form = api
            .form()
            .with("payment_intent", &intent.id)
            .with("amount", &money.minor.to_string())
            .with(&format!("metadata[{CHARGE_KEY}]"), &charge.charge_id)
            .with(&format!("metadata[{REFUND_KEY}]"), refund_id);
        match api.post(path, form, &format!("{refund_id}-{key}")).await {
            Answer::Done(object) => match serde_json::from_value::<Refund>(object) {
                Ok(refund) if refund.our_id() == Some(refund_id) => return refund.reversal(money),
                _ => return Reversal::Unknown { detail: "the answer is no refund of ours".to_owned() },
            },
            Answer::Refused(refusal)
                if matches!(amount, Amount::Exactly(_))
                    && refusal.code.as_deref().is_some_and(|code| FINAL_CODES.contains(&code)) =>
            {
                tracing::warn!(charge = charge.charge_id, detail = %refusal, "Stripe refused a refund for good");
                return Reversal::NothingToReverse;
            }
            // The failure of an earlier try, given again: the next key asks anew.
            Answer::Refused(refusal) if refusal.is_replay && key < KEYS_MAX => {}
            Answer::Refused(refusal) => return Reversal::Unknown { detail: refusal.to_string() },
            Answer::Lost(detail) => return Reversal::Unknown { detail },
        }
    }
    Reversal::Unknown { detail: "every idempotency key of the refund failed before".to_owned() }
}
