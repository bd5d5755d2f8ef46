//! Disputes at Stripe: reading one, handing in evidence, giving up.
//!
//! Rule: a dispute is ours when it is of our charge's intent, currency and mode; else nothing of it is
//! believed. What was withdrawn and what came back is read from Stripe's own bookings of the dispute,
//! never from its status. Whatever acts reads first, and does nothing that is done already.

use chrono::DateTime;
use serde::Deserialize;
#[cfg(test)]
use serde_json::Value;

use super::api::{Answer, Api};
use super::intent::is_id;
use super::{fresh_key, suspicious};
use crate::domain::money::Money;
use crate::providers::{ChargeRef, DisputeLookUp, DisputeNews, DisputeStatus, Evidence};

/// A dispute as Stripe tells of it.
#[derive(Deserialize)]
struct Dispute {
    object: String,
    id: String,
    amount: i64,
    currency: String,
    livemode: bool,
    status: String,
    reason: String,
    payment_intent: Option<String>,
    /// Up to two: what was withdrawn, and what came back.
    #[serde(default)]
    balance_transactions: Vec<Booking>,
    #[serde(default)]
    evidence_details: Option<EvidenceDetails>,
}

#[derive(Deserialize)]
struct Booking {
    /// Negative for what was withdrawn.
    amount: i64,
    currency: String,
    #[serde(default)]
    fee: i64,
}

#[derive(Deserialize)]
struct EvidenceDetails {
    due_by: Option<i64>,
    #[serde(default)]
    submission_count: i32,
}

/// What Stripe's word means; none for one that is not known here.
fn status(word: &str) -> Option<DisputeStatus> {
    match word {
        // Settled before it became a dispute; no money was withdrawn.
        "prevented" | "charge_refunded" => Some(DisputeStatus::WarningClosed),
        // Lost, and asked for once more; what was lost stays lost until it comes back.
        "appeal_needs_response" | "appeal_under_review" => None,
        word => DisputeStatus::parse(word),
    }
}

impl Dispute {
    fn news(&self, charge: &ChargeRef, intent_id: &str) -> Result<DisputeNews, String> {
        let expected = (Some(intent_id), charge.money.currency.code(), charge.livemode);
        if self.object != "dispute" || !is_id("", &self.id) {
            return Err("it is no dispute".to_owned());
        }
        if (self.payment_intent.as_deref(), self.currency.as_str(), self.livemode) != expected {
            return Err(format!("dispute {} is of another payment, currency or mode", self.id));
        }
        if self.amount < 1 {
            return Err(format!("dispute {} is about nothing", self.id));
        }
        Ok(DisputeNews {
            money: Money { minor: self.amount, ..charge.money },
            reason: self.reason.chars().filter(|c| c.is_ascii_lowercase() || *c == '_').take(64).collect(),
            status: status(&self.status),
            withdrawn: self.moved(i64::is_negative),
            reinstated: self.moved(i64::is_positive),
            fee: self.fee(),
            evidence_due_by: self
                .evidence_details
                .as_ref()
                .and_then(|details| details.due_by)
                .and_then(|seconds| DateTime::from_timestamp(seconds, 0)),
            submissions: self.evidence_details.as_ref().map(|details| details.submission_count),
        })
    }

    /// Minor units of one direction. An account that is paid out in another currency books in that one; then it is
    /// the whole dispute that moved.
    fn moved(&self, is_of: impl Fn(i64) -> bool) -> i64 {
        let mut booked = self.balance_transactions.iter().filter(|booking| is_of(booking.amount)).peekable();
        match booked.peek() {
            None => 0,
            Some(booking) if booking.currency != self.currency => self.amount,
            Some(_) => booked.fold(0_i64, |sum, booking| sum.saturating_add(booking.amount)).saturating_abs(),
        }
    }

    fn fee(&self) -> Option<i64> {
        let withdrawal = self.balance_transactions.iter().find(|booking| booking.amount < 0)?;
        (withdrawal.currency == self.currency && withdrawal.fee >= 0).then_some(withdrawal.fee)
    }
}

fn understood(charge: &ChargeRef, intent_id: &str, answer: Answer) -> DisputeLookUp {
    match answer {
        Answer::Done(object) => {
            let read = serde_json::from_value::<Dispute>(object).map_err(|_| "it is no dispute".to_owned());
            match read.and_then(|dispute| dispute.news(charge, intent_id)) {
                Ok(news) => DisputeLookUp::Found(news),
                Err(detail) => DisputeLookUp::Unknown { detail: suspicious(charge, detail) },
            }
        }
        Answer::Refused(refusal) if refusal.code.as_deref() == Some("resource_missing") => DisputeLookUp::NotFound,
        Answer::Refused(refusal) => {
            tracing::error!(charge = charge.charge_id, detail = %refusal, "Stripe does not let us read or answer a dispute; may the key write disputes?");
            DisputeLookUp::Unknown { detail: refusal.to_string() }
        }
        Answer::Lost(detail) => DisputeLookUp::Unknown { detail },
    }
}

fn path(dispute: &str) -> Option<String> {
    is_id("", dispute).then(|| format!("/v1/disputes/{dispute}"))
}

/// Reads a dispute.
pub(super) async fn look_up(api: &Api, charge: &ChargeRef, intent_id: &str, dispute: &str) -> DisputeLookUp {
    match path(dispute) {
        Some(path) => understood(charge, intent_id, api.get(&path).await),
        None => DisputeLookUp::NotFound,
    }
}

/// Whether the bank still waits; when not, this is the answer.
async fn waits(api: &Api, charge: &ChargeRef, intent_id: &str, dispute: &str) -> Result<String, DisputeLookUp> {
    let Some(path) = path(dispute) else { return Err(DisputeLookUp::NotFound) };
    match look_up(api, charge, intent_id, dispute).await {
        DisputeLookUp::Found(news) if news.status.is_some_and(DisputeStatus::wants_answer) => Ok(path),
        answer => Err(answer),
    }
}

/// Hands evidence in, once the bank still waits for it.
pub(super) async fn submit(
    api: &Api,
    charge: &ChargeRef,
    intent_id: &str,
    dispute: &str,
    evidence: &Evidence,
) -> DisputeLookUp {
    let path = match waits(api, charge, intent_id, dispute).await {
        Ok(path) => path,
        Err(answer) => return answer,
    };
    let form = evidence
        .iter()
        .fold(api.form().with("submit", "true"), |form, (field, text)| form.with(&format!("evidence[{field}]"), text));
    understood(charge, intent_id, api.post(&path, form, &fresh_key(charge, "evidence")).await)
}

/// Accepts a dispute that is still open.
pub(super) async fn close(api: &Api, charge: &ChargeRef, intent_id: &str, dispute: &str) -> DisputeLookUp {
    let path = match waits(api, charge, intent_id, dispute).await {
        Ok(path) => path,
        Err(answer) => return answer,
    };
    let path = format!("{path}/close");
    understood(charge, intent_id, api.post(&path, api.form(), &fresh_key(charge, "close")).await)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::money::Currency;

    fn charge() -> ChargeRef {
        ChargeRef {
            charge_id: "ch_1".to_owned(),
            reference: Some("pi_1".to_owned()),
            money: Money { minor: 2_598, currency: Currency::parse("eur").expect("a known currency") },
            livemode: false,
        }
    }

    fn told(status: &str, bookings: Value) -> Value {
        json!({"object": "dispute", "id": "dp_1", "amount": 2_598, "currency": "eur", "livemode": false,
            "status": status, "reason": "fraudulent", "payment_intent": "pi_1", "charge": "ch_x",
            "balance_transactions": bookings,
            "evidence_details": {"due_by": 1_800_000_000, "submission_count": 1, "has_evidence": true}})
    }

    fn news(object: Value) -> DisputeNews {
        match understood(&charge(), "pi_1", Answer::Done(object)) {
            DisputeLookUp::Found(news) => news,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn money_is_read_from_the_bookings_and_never_from_the_status() {
        let out = json!({"amount": -2_598, "currency": "eur", "fee": 1_500});
        let back = json!({"amount": 2_598, "currency": "eur", "fee": -1_500});
        let foreign = json!({"amount": -2_790, "currency": "usd", "fee": 1_600});
        for (status, bookings, expected) in [
            ("lost", json!([]), (0, 0, None)),
            ("needs_response", json!([out]), (2_598, 0, Some(1_500))),
            ("won", json!([out, back]), (2_598, 2_598, Some(1_500))),
            ("needs_response", json!([foreign]), (2_598, 0, None)),
        ] {
            let news = news(told(status, bookings));
            assert_eq!((news.withdrawn, news.reinstated, news.fee), expected, "{status}");
            assert_eq!(news.status, DisputeStatus::parse(status));
        }
    }

    #[test]
    fn words_that_are_not_known_decide_nothing() {
        assert_eq!(news(told("appeal_under_review", json!([]))).status, None);
        assert_eq!(news(told("something_new", json!([]))).status, None);
        assert_eq!(news(told("prevented", json!([]))).status, Some(DisputeStatus::WarningClosed));
    }

    #[test]
    fn another_payments_dispute_is_not_believed() {
        for (key, value) in [
            ("payment_intent", json!("pi_2")),
            ("payment_intent", Value::Null),
            ("currency", json!("usd")),
            ("livemode", json!(true)),
            ("object", json!("charge")),
            ("amount", json!(0)),
        ] {
            let mut object = told("needs_response", json!([]));
            object[key] = value;
            let answer = understood(&charge(), "pi_1", Answer::Done(object));
            assert!(matches!(answer, DisputeLookUp::Unknown { .. }), "{key}: {answer:?}");
        }
    }
}
