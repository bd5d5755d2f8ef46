//! The three steps of a charge at Stripe: payment method, intent, confirmation.
//!
//! Rule: whatever goes wrong in the first two is certain, because nothing is confirmed then and nothing
//! will be. What goes wrong in the third is a doubt, unless the intent itself, read back, says otherwise
//! or has been cancelled.

use std::sync::Arc;

use serde_json::Value;

use super::api::{Answer, Api, Refusal};
use super::intent::{CHARGE_KEY, Intent, Standing, is_id};
use super::{Read, cancel, declines, new_ref, read, suspicious};
use crate::domain::decline::DeclineReason;
use crate::providers::{Authentication, Capture, ChargeRef, ChargeRequest, Facts, Report};
use crate::vault::EnteredCard;

/// Characters of a statement descriptor's end, and of a description, that Stripe takes.
const DESCRIPTOR_CHARS_MAX: usize = 22;
const DESCRIPTION_CHARS_MAX: usize = 1000;

/// The first two steps: a payment method and an intent that nobody confirms yet. No money can move.
pub(super) async fn prepare(api: &Api, card: Arc<EnteredCard>, request: &ChargeRequest) -> Result<String, Report> {
    let charge_id = request.charge_id.as_str();
    let expiry = card.expiry;
    let billing = &request.billing;
    let address = billing.address.clone().unwrap_or_default();
    let name = billing.name.as_deref().or(card.holder_name.as_deref());
    let form = api
        .form()
        .with("type", "card")
        .with("card[number]", card.number.expose())
        .with("card[exp_month]", &expiry.month().to_string())
        .with("card[exp_year]", &expiry.year().to_string())
        .with("card[cvc]", card.cvc.expose())
        .with_some("billing_details[name]", name)
        .with_some("billing_details[email]", billing.email.as_deref())
        .with_some("billing_details[address][country]", address.country.as_deref())
        .with_some("billing_details[address][line1]", address.line1.as_deref())
        .with_some("billing_details[address][line2]", address.line2.as_deref())
        .with_some("billing_details[address][postal_code]", address.postal_code.as_deref())
        .with_some("billing_details[address][city]", address.city.as_deref())
        .with_some("billing_details[address][state]", address.state.as_deref());
    drop(card);
    let method = match api.post("/v1/payment_methods", form, &format!("{charge_id}-method")).await {
        Answer::Done(object) => object.get("id").and_then(Value::as_str).unwrap_or_default().to_owned(),
        Answer::Refused(refusal) => return Err(not_started(charge_id, &refusal)),
        Answer::Lost(detail) => return Err(not_reached(charge_id, &detail)),
    };
    if !is_id("pm_", &method) {
        return Err(not_reached(charge_id, "the answer is no payment method"));
    }
    let capture_method = match request.capture {
        Capture::Automatic => "automatic",
        Capture::Manual => "manual",
    };
    let always = (request.authentication == Authentication::Always).then_some("any");
    let description = request.description.as_deref().map(|text| cut(text, DESCRIPTION_CHARS_MAX));
    let suffix = request.statement_descriptor.as_deref().and_then(descriptor_suffix);
    let form = api
        .form()
        .with("amount", &request.money.minor.to_string())
        .with("currency", request.money.currency.code())
        .with("payment_method", &method)
        .with("payment_method_types[]", "card")
        .with("capture_method", capture_method)
        .with(&format!("metadata[{CHARGE_KEY}]"), charge_id)
        .with_some("payment_method_options[card][request_three_d_secure]", always)
        .with_some("description", description)
        .with_some("statement_descriptor_suffix", suffix.as_deref());
    match api.post("/v1/payment_intents", form, &format!("{charge_id}-intent")).await {
        Answer::Done(object) => match Intent::read(object, &new_ref(request)) {
            Ok(intent) => Ok(intent.id),
            Err(detail) => Err(not_reached(charge_id, &detail)),
        },
        Answer::Refused(refusal) => Err(not_started(charge_id, &refusal)),
        Answer::Lost(detail) => Err(not_reached(charge_id, &detail)),
    }
}

/// The last step, in which money can move. Sent once.
pub(super) async fn confirm(api: &Api, charge: &ChargeRef, intent_id: &str, return_url: &str) -> Report {
    let path = format!("/v1/payment_intents/{intent_id}/confirm");
    let form = api.form().with("return_url", return_url).with("expand[]", api.expanded);
    let refusal = match api.post(&path, form, &format!("{}-confirm", charge.charge_id)).await {
        Answer::Done(object) => match Intent::read(object, charge) {
            Ok(intent) => return settle(api, charge, &intent, None).await,
            Err(detail) => return Report::Unknown { detail: suspicious(charge, detail) },
        },
        Answer::Refused(refusal) => refusal,
        Answer::Lost(detail) => return Report::Unknown { detail },
    };
    // Read back in any case: the intent knows more than the refusal, and later questions get the same answer.
    match read(api, charge, intent_id).await {
        Read::Intent(intent) => settle(api, charge, &intent, Some(&refusal)).await,
        Read::Not(detail) => Report::Unknown { detail },
    }
}

/// What an intent means after its confirmation was answered. One that can take no money any more by our doing,
/// yet could be confirmed, is cancelled, so that "not taken" stays true.
pub(super) async fn settle(api: &Api, charge: &ChargeRef, intent: &Intent, refusal: Option<&Refusal>) -> Report {
    let reason = match intent.standing() {
        Ok(Standing::Known(report)) => return report,
        Ok(Standing::Unconfirmed) => match refusal {
            Some(refusal) if refusal.kind == "card_error" => {
                declines::reason(refusal.code.as_deref(), refusal.decline_code.as_deref())
            }
            Some(refusal) => {
                tracing::error!(charge = charge.charge_id, detail = %refusal, "Stripe refused to confirm a payment; nothing was taken");
                DeclineReason::ProcessingError
            }
            None => return Report::Pending { reference: Some(intent.id.clone()) },
        },
        Ok(Standing::CannotBeAsked) => {
            tracing::error!(
                charge = charge.charge_id,
                "Stripe wants the payer asked by its own script instead of a redirect"
            );
            DeclineReason::AuthenticationRequired
        }
        Err(detail) => return Report::Unknown { detail: suspicious(charge, detail) },
    };
    match cancel(api, charge, &intent.id).await {
        Read::Intent(intent) if intent.status == "canceled" => {
            Report::Declined { reason, reference: Some(intent.id), facts: Facts::default() }
        }
        Read::Intent(_) => Report::Unknown { detail: "the intent could not be cancelled".to_owned() },
        Read::Not(detail) => Report::Unknown { detail },
    }
}

/// Nothing was confirmed, and nothing will be.
pub(super) fn failed_before() -> Report {
    Report::Declined { reason: DeclineReason::ProcessingError, reference: None, facts: Facts::default() }
}

/// The card, or the request, was refused before the confirmation.
fn not_started(charge_id: &str, refusal: &Refusal) -> Report {
    if refusal.kind == "card_error" || refusal.status == 402 {
        let reason = declines::reason(refusal.code.as_deref(), refusal.decline_code.as_deref());
        return Report::Declined { reason, reference: None, facts: Facts::default() };
    }
    tracing::error!(charge = charge_id, detail = %refusal, "Stripe refused to begin a payment; nothing was taken");
    failed_before()
}

/// Without an answer to a request that cannot take money, none is taken.
fn not_reached(charge_id: &str, detail: &str) -> Report {
    tracing::warn!(charge = charge_id, detail, "a payment could not be begun at Stripe; nothing was taken");
    failed_before()
}

fn cut(text: &str, chars_max: usize) -> &str {
    text.char_indices().nth(chars_max).map_or(text, |(end, _)| &text[..end])
}

/// What Stripe takes as the end of a statement descriptor: Latin letters and some signs, one letter at least.
/// Others are left out, for a refusal over a word would cost the payment.
fn descriptor_suffix(text: &str) -> Option<String> {
    let plain: String = text.chars().filter(|c| (' '..='~').contains(c) && !"<>\\'\"*".contains(*c)).collect();
    let suffix = cut(plain.trim(), DESCRIPTOR_CHARS_MAX).trim_end();
    suffix.chars().any(|c| c.is_ascii_alphabetic()).then(|| suffix.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_has_what_stripe_takes() {
        for (text, expected) in [
            ("CORNER COFFEE", Some("CORNER COFFEE")),
            ("Café *\"Ünter\" <den> Linden und weiter", Some("Caf nter den Linden un")),
            ("  4711 ", None),
            ("喫茶店", None),
        ] {
            assert_eq!(descriptor_suffix(text).as_deref(), expected, "{text}");
        }
    }
}
