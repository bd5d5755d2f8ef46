//! A payment intent as Stripe tells of it, and what that means for our charge.
//!
//! Rule: nothing is taken for ours that does not carry our charge id, amount, currency and mode, and
//! nothing for money that contradicts itself. The status read back counts; the kind of message that
//! brought us here does not. A status that this code does not know is pending.

use serde::Deserialize;
use serde_json::Value;

use super::declines::reason;
use crate::domain::country;
use crate::providers::{
    AuthenticationFlow, AuthenticationResult, CardChecks, ChargeRef, CheckResult, Facts, Report, RiskLevel,
    ThreeDSecure,
};

/// Our charge's id in Stripe's metadata.
pub(super) const CHARGE_KEY: &str = "checkstand_charge";

/// Longest id of Stripe's (its documents say up to 255 characters).
const ID_CHARS_MAX: usize = 255;

/// What of an intent matters here.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Intent {
    object: String,
    pub(super) id: String,
    pub(super) status: String,
    amount: i64,
    currency: String,
    livemode: bool,
    #[serde(default)]
    metadata: serde_json::Map<String, Value>,
    /// Absent at compatible servers.
    pub(super) amount_received: Option<i64>,
    /// Absent at compatible servers.
    amount_capturable: Option<i64>,
    capture_method: Option<String>,
    next_action: Option<NextAction>,
    last_payment_error: Option<PaymentError>,
    /// An id only, unless expanded.
    #[serde(default)]
    latest_charge: Value,
}

#[derive(Clone, Debug, Deserialize)]
struct NextAction {
    redirect_to_url: Option<RedirectToUrl>,
}

#[derive(Clone, Debug, Deserialize)]
struct RedirectToUrl {
    url: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
struct PaymentError {
    code: Option<String>,
    decline_code: Option<String>,
}

/// Stripe's charge: what an intent came to.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct LatestCharge {
    pub(super) status: String,
    pub(super) amount: i64,
    /// Given back; what a partial capture left untaken is in it too.
    pub(super) amount_refunded: i64,
    pub(super) refunded: bool,
    pub(super) captured: bool,
    payment_method_details: Option<PaymentMethodDetails>,
    outcome: Option<Outcome>,
    currency: String,
    /// An id only, unless expanded.
    balance_transaction: Value,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct PaymentMethodDetails {
    card: Option<CardDetails>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct CardDetails {
    country: Option<String>,
    network: Option<String>,
    checks: Option<Checks>,
    three_d_secure: Option<ThreeDSecureDetails>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Checks {
    cvc_check: Option<String>,
    address_line1_check: Option<String>,
    address_postal_code_check: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct ThreeDSecureDetails {
    authentication_flow: Option<String>,
    result: Option<String>,
    version: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Outcome {
    risk_level: Option<String>,
}

/// Where a charge stands.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// As the report says.
    Known(Report),
    /// Nobody has confirmed it, or that call is still on its way: no money moved, and none moves once it is
    /// cancelled.
    Unconfirmed,
    /// The payer would have to be asked in a way that we cannot: no money moves unless he answers.
    CannotBeAsked,
}

/// An id that fits into a path and is of that kind.
pub(super) fn is_id(prefix: &str, id: &str) -> bool {
    id.starts_with(prefix)
        && id.len() <= ID_CHARS_MAX
        && id.chars().all(|character| character.is_ascii_alphanumeric() || character == '_')
}

impl Intent {
    /// Reads an answer.
    ///
    /// # Errors
    /// What of it is not our charge's, for the log and for a person to look at.
    pub(super) fn read(object: Value, charge: &ChargeRef) -> Result<Intent, String> {
        let intent: Intent = serde_json::from_value(object).map_err(|_| "it is no payment intent".to_owned())?;
        let expected = (charge.money.minor, charge.money.currency.code(), charge.livemode);
        let ours = intent.metadata.get(CHARGE_KEY).and_then(Value::as_str) == Some(charge.charge_id.as_str());
        if intent.object != "payment_intent" || !is_id("pi_", &intent.id) {
            Err("it is no payment intent".to_owned())
        } else if charge.reference.as_deref().is_some_and(|reference| reference != intent.id) {
            Err("it is another payment intent than the one asked for".to_owned())
        } else if !ours {
            Err(format!("payment intent {} does not carry our charge id", intent.id))
        } else if (intent.amount, intent.currency.as_str(), intent.livemode) != expected {
            Err(format!("payment intent {} is for other money, or of the other mode", intent.id))
        } else {
            Ok(intent)
        }
    }

    /// Its charge, where the answer has more than the id.
    pub(super) fn latest_charge(&self) -> Option<LatestCharge> {
        serde_json::from_value(self.latest_charge.clone()).ok()
    }

    /// Whether money is taken as soon as it is granted.
    fn is_captured_at_once(&self) -> bool {
        self.capture_method.as_deref() != Some("manual")
    }

    /// What is reserved and may be taken.
    pub(super) fn capturable(&self) -> i64 {
        self.amount_capturable.unwrap_or(self.amount)
    }

    /// Where the charge stands.
    ///
    /// # Errors
    /// Why what is said cannot be true, for the log and for a person to look at.
    pub(super) fn standing(&self) -> Result<Standing, String> {
        let reference = self.id.clone();
        let charge = self.latest_charge();
        let facts = charge.as_ref().map(LatestCharge::facts).unwrap_or_default();
        let report = match self.status.as_str() {
            "succeeded" => {
                self.check_taken(charge.as_ref())?;
                match charge {
                    Some(charge) if charge.refunded => Report::Reversed { reference },
                    _ => Report::Succeeded { reference, facts },
                }
            }
            "requires_capture" if self.is_captured_at_once() => {
                return Err(format!("payment intent {reference} waits for a capture that nobody asked for"));
            }
            "requires_capture" if self.capturable() != self.amount => {
                return Err(format!("payment intent {reference} has reserved another amount than was asked for"));
            }
            "requires_capture" => Report::Authorized { reference, facts },
            "requires_action" => match self.next_action.as_ref().and_then(NextAction::url) {
                Some(redirect_url) => Report::RequiresAction { reference, redirect_url },
                None => return Ok(Standing::CannotBeAsked),
            },
            "requires_payment_method" => match &self.last_payment_error {
                Some(PaymentError { code, decline_code }) => Report::Declined {
                    reason: reason(code.as_deref(), decline_code.as_deref()),
                    reference: Some(reference),
                    facts,
                },
                None => return Ok(Standing::Unconfirmed),
            },
            "requires_confirmation" => return Ok(Standing::Unconfirmed),
            "canceled" => Report::Reversed { reference },
            _ => Report::Pending { reference: Some(reference) },
        };
        Ok(Standing::Known(report))
    }

    fn check_taken(&self, charge: Option<&LatestCharge>) -> Result<(), String> {
        let fits = match self.amount_received {
            Some(received) if self.is_captured_at_once() => received == self.amount,
            Some(received) => (1..=self.amount).contains(&received),
            None => charge.is_some(),
        };
        if !fits || charge.is_some_and(|charge| !charge.captured || charge.status != "succeeded") {
            return Err(format!("payment intent {} has succeeded without the money that it is for", self.id));
        }
        Ok(())
    }
}

impl NextAction {
    /// Where to send the payer. Only where a browser can go.
    fn url(&self) -> Option<String> {
        let url = self.redirect_to_url.as_ref()?.url.as_ref()?;
        let is_web = url::Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "https" | "http"));
        is_web.then(|| url.clone())
    }
}

impl LatestCharge {
    /// What Stripe keeps of it. An account that is paid out in another currency says it in that one, which is no
    /// fee of this charge.
    pub(super) fn fee(&self) -> Option<i64> {
        let is_told = self.balance_transaction.get("currency")?.as_str() == Some(self.currency.as_str());
        is_told.then(|| self.balance_transaction.get("fee")?.as_i64()).flatten().filter(|fee| *fee >= 0)
    }

    fn facts(&self) -> Facts {
        let card = self.payment_method_details.as_ref().and_then(|details| details.card.as_ref());
        let checks = card.and_then(|card| card.checks.as_ref());
        let check =
            |word: fn(&Checks) -> Option<&String>| checks.and_then(word).and_then(|word| CheckResult::from_word(word));
        let three_d_secure = card.and_then(|card| card.three_d_secure.as_ref()).and_then(|details| {
            Some(ThreeDSecure {
                flow: details.authentication_flow.as_deref().and_then(AuthenticationFlow::from_word),
                result: details.result.as_deref().and_then(AuthenticationResult::from_word)?,
                version: details.version.clone(),
            })
        });
        Facts {
            checks: CardChecks {
                cvc: check(|checks| checks.cvc_check.as_ref()),
                address_line1: check(|checks| checks.address_line1_check.as_ref()),
                postal_code: check(|checks| checks.address_postal_code_check.as_ref()),
            },
            three_d_secure,
            network: card.and_then(|card| card.network.clone()),
            issuer_country: card
                .and_then(|card| card.country.clone())
                .and_then(|code| country::parse(&code))
                .map(str::to_owned),
            risk: self
                .outcome
                .as_ref()
                .and_then(|outcome| outcome.risk_level.as_deref())
                .and_then(RiskLevel::from_word),
            reusable_reference: None,
            fee: self.fee(),
        }
    }
}

#[cfg(test)]
#[path = "intent_tests.rs"]
mod tests;
