//! Stripe as acquirer: cards of our own form, charged through payment intents.
//!
//! Rule: money can move in one request only, the confirmation, and that is sent at most once, after
//! the intent's id has been remembered. Whatever is repeated reads the intent first; no answer is
//! believed that is not about our charge, amount and currency. What is not certain is asked about
//! later, never done again. Idempotency keys are sent and not relied on.

mod api;
mod callback;
mod charging;
mod declines;
mod disputes;
mod form;
mod intent;
mod refunds;
mod turns;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use secrecy::SecretString;

use self::api::{Answer, Api};
use self::intent::{Intent, Standing, is_id};
use self::refunds::Amount;
use self::turns::Turns;
use super::{
    Callback, CallbackError, Capabilities, CaptureReport, ChargeRef, ChargeRequest, Currencies, DisputeLookUp,
    Evidence, LookUp, NotRemembered, Provider, ReferenceKeeper, RefundLookUp, RefundRequest, Report, Reversal, Source,
};
use crate::domain::money::Money;
use crate::vault::Vault;

/// The name under which charges remember Stripe.
pub const NAME: &str = "stripe";

/// Parameters that may be left out for a compatible server: none of them decides whether or how much money moves.
pub const OMITTABLE: [&str; 5] =
    ["billing_details", "description", "payment_method_options", "return_url", "statement_descriptor_suffix"];

/// Longest time for one request: below what a caller waits for a charge, which is three of them.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// How often one call reads, finds that things have moved on, and reads again.
const ROUNDS_MAX: usize = 3;

/// How to reach the accounts.
pub struct StripeSettings {
    /// For real money.
    pub live_key: Option<SecretString>,
    /// For test cards.
    pub test_key: Option<SecretString>,
    /// Stripe's origin, or that of a compatible server, without a slash at its end. Over http only for tests.
    pub api_base: String,
    /// With which Stripe signs its messages; any of them is good.
    pub callback_secrets: Vec<SecretString>,
    /// Some of [`OMITTABLE`].
    pub omitted: Vec<String>,
    /// For one request, answer included.
    pub request_timeout: Duration,
    /// Whether the keys may read balance transactions, which say what Stripe keeps of a charge.
    pub read_fees: bool,
}

/// Why there is no connector. Never carries a secret.
#[derive(Debug, thiserror::Error)]
pub enum StripeError {
    /// A key has characters that no header can hold.
    #[error("a Stripe key has characters that it cannot have; copy it again from Stripe's dashboard")]
    Key,
    /// TLS cannot be set up.
    #[error("TLS could not be set up for Stripe; are root certificates installed? {0}")]
    Tls(String),
}

/// The connector. See the module's own words.
pub struct Stripe {
    live: Option<Api>,
    test: Option<Api>,
    vault: Arc<Vault>,
    callback_secrets: Vec<SecretString>,
    unix_seconds: Box<dyn Fn() -> i64 + Send + Sync>,
    turns: Turns,
}

/// What reading an intent came to.
enum Read {
    Intent(Box<Intent>),
    /// It cannot be read now, or is not ours; this is for the log.
    Not(String),
}

impl Stripe {
    /// A connector that takes cards from this vault. `unix_seconds` is the clock that messages are judged by.
    ///
    /// # Errors
    /// [`StripeError`].
    pub fn new(
        settings: StripeSettings,
        vault: Arc<Vault>,
        unix_seconds: impl Fn() -> i64 + Send + Sync + 'static,
    ) -> Result<Stripe, StripeError> {
        let https_only = settings.api_base.starts_with("https://");
        let http = api::http_client(https_only).map_err(|error| StripeError::Tls(error.to_string()))?;
        let api = |key: Option<SecretString>| match key {
            None => Ok(None),
            Some(key) => {
                let omitted = settings.omitted.clone();
                Api::new(http.clone(), &settings.api_base, &key, omitted, settings.request_timeout)
                    .map(|api| Some(if settings.read_fees { api.with_fees() } else { api }))
                    .ok_or(StripeError::Key)
            }
        };
        Ok(Stripe {
            live: api(settings.live_key)?,
            test: api(settings.test_key)?,
            vault,
            callback_secrets: settings.callback_secrets,
            unix_seconds: Box::new(unix_seconds),
            turns: Turns::default(),
        })
    }

    fn api(&self, livemode: bool) -> Option<&Api> {
        if livemode { self.live.as_ref() } else { self.test.as_ref() }
    }

    /// The account and the intent of a charge; `None` when none was remembered, so that no money can have moved.
    fn known<'a>(&'a self, charge: &'a ChargeRef) -> Result<Option<(&'a Api, &'a str)>, String> {
        let Some(reference) = charge.reference.as_deref() else { return Ok(None) };
        let api = self.api(charge.livemode).ok_or("there is no Stripe key for the mode of this charge any more")?;
        if !is_id("pi_", reference) {
            return Err("the remembered reference is no payment intent".to_owned());
        }
        Ok(Some((api, reference)))
    }
}

#[async_trait]
impl Provider for Stripe {
    fn name(&self) -> &'static str {
        NAME
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            livemode: self.live.is_some(),
            testmode: self.test.is_some(),
            void_in_advance: false,
            reference_first: true,
            partial_refund: true,
            manual_capture: true,
            three_d_secure: true,
            disputes: true,
            callbacks: !self.callback_secrets.is_empty(),
            currencies: Currencies::All,
            idempotency_hours_max: Some(24),
        }
    }

    async fn charge(&self, request: ChargeRequest, keeper: &dyn ReferenceKeeper) -> Report {
        // Out of the vault before anything else, so that the card is gone whatever happens below.
        let card = request.source.token().and_then(|token| self.vault.take(token));
        let charge_id = request.charge_id.as_str();
        if let Source::Saved { .. } = &request.source {
            // None is ever given out here: a kept card comes by its number, out of the vault.
            tracing::error!(charge = charge_id, "Stripe was to charge a kept card by a reference, and gives none");
            return charging::failed_before();
        }
        let Some(api) = self.api(request.livemode) else {
            tracing::error!(charge = charge_id, "there is no Stripe key for the mode of this charge");
            return charging::failed_before();
        };
        // Another call may have taken the same card a moment ago and be charging it now.
        let Some(card) = card else {
            return Report::Unknown {
                detail: "the card is not in the vault any more; this call charged nothing".to_owned(),
            };
        };
        let _turn = self.turns.take(format!("charge {charge_id}")).await;
        let intent_id = match charging::prepare(api, card, &request).await {
            Ok(intent_id) => intent_id,
            Err(report) => return report,
        };
        let mut charge = new_ref(&request);
        match keeper.remember(&intent_id).await {
            Ok(()) => {}
            Err(NotRemembered::Earlier(earlier)) => {
                charge.reference = Some(earlier.clone());
                return match self.look_up(&charge).await {
                    LookUp::Found(report) => report,
                    LookUp::NotFound => Report::Pending { reference: Some(earlier) },
                    LookUp::Unknown => {
                        Report::Unknown { detail: "an earlier call has charged or is charging".to_owned() }
                    }
                };
            }
            Err(error) => {
                tracing::warn!(charge = charge_id, %error, "a charge was given up before any money could move");
                return charging::failed_before();
            }
        }
        charge.reference = Some(intent_id.clone());
        charging::confirm(api, &charge, &intent_id, &request.return_url).await
    }

    async fn look_up(&self, charge: &ChargeRef) -> LookUp {
        let intent = match self.known(charge) {
            Ok(None) => return LookUp::NotFound,
            Ok(Some((api, reference))) => (api, read(api, charge, reference).await),
            Err(detail) => {
                tracing::error!(charge = charge.charge_id, detail, "a charge cannot be looked up at Stripe");
                return LookUp::Unknown;
            }
        };
        match intent {
            (_, Read::Not(detail)) => {
                tracing::warn!(charge = charge.charge_id, detail, "Stripe does not say what became of a charge");
                LookUp::Unknown
            }
            (api, Read::Intent(intent)) => match intent.standing() {
                Ok(Standing::Unconfirmed) => LookUp::NotFound,
                _ => LookUp::Found(charging::settle(api, charge, &intent, None).await),
            },
        }
    }

    async fn capture(&self, charge: &ChargeRef, money: Money) -> CaptureReport {
        let (api, reference) = match self.known(charge) {
            Ok(Some(known)) => known,
            Ok(None) => return CaptureReport::Refused { detail: "it was never charged".to_owned() },
            Err(detail) => return CaptureReport::Unknown { detail },
        };
        let _turn = self.turns.take(charge.charge_id.clone()).await;
        let mut is_asked = false;
        for _ in 0..ROUNDS_MAX {
            let intent = match read(api, charge, reference).await {
                Read::Intent(intent) => intent,
                Read::Not(detail) => return CaptureReport::Unknown { detail },
            };
            match (intent.status.as_str(), intent.standing()) {
                ("requires_capture", _) if !(1..=intent.capturable()).contains(&money.minor) => {
                    return CaptureReport::Refused { detail: "less money is reserved".to_owned() };
                }
                (
                    status @ ("canceled" | "requires_payment_method" | "requires_confirmation" | "requires_action"),
                    _,
                ) => {
                    let detail = format!("Stripe has the payment as {}", known_word(status));
                    return CaptureReport::Refused { detail };
                }
                (_, Err(detail)) => return CaptureReport::Unknown { detail: suspicious(charge, detail) },
                ("succeeded", _) => {
                    let fee = intent.latest_charge().and_then(|charge| charge.fee());
                    return match refunds::taken_minor(api, &intent).await {
                        Ok(taken) if taken == money.minor => CaptureReport::Captured { reference: intent.id, fee },
                        Ok(amount) => CaptureReport::TakenOtherwise { reference: intent.id, amount, fee },
                        Err(detail) => CaptureReport::Unknown { detail },
                    };
                }
                // Refused, and still reserved: for want of something that may pass.
                ("requires_capture", _) if is_asked => {
                    return CaptureReport::Unknown {
                        detail: "Stripe refused the capture and keeps the reservation".to_owned(),
                    };
                }
                ("requires_capture", _) => {}
                (status, _) => {
                    return CaptureReport::Unknown {
                        detail: format!("Stripe has the payment as {}", known_word(status)),
                    };
                }
            }
            is_asked = true;
            let path = format!("/v1/payment_intents/{reference}/capture");
            let form = api.form().with("amount_to_capture", &money.minor.to_string()).with("expand[]", api.expanded);
            // The answer is not looked at where there is one: reading the intent again says the same, and more.
            match api.post(&path, form, &fresh_key(charge, "capture")).await {
                Answer::Lost(detail) => return CaptureReport::Unknown { detail },
                Answer::Refused(refusal) => {
                    tracing::warn!(charge = charge.charge_id, detail = %refusal, "Stripe refused a capture");
                }
                Answer::Done(_) => {}
            }
        }
        CaptureReport::Unknown { detail: "the payment changed while it was being captured".to_owned() }
    }

    async fn void(&self, charge: &ChargeRef) -> Reversal {
        let (api, reference) = match self.known(charge) {
            Ok(Some(known)) => known,
            Ok(None) => return Reversal::NothingToReverse,
            Err(detail) => return Reversal::Unknown { detail },
        };
        let _turn = self.turns.take(charge.charge_id.clone()).await;
        let mut next = read(api, charge, reference).await;
        for _ in 0..ROUNDS_MAX {
            let intent = match next {
                Read::Intent(intent) => intent,
                Read::Not(detail) => return Reversal::Unknown { detail },
            };
            match intent.status.as_str() {
                "canceled" => {
                    let was_reserved = intent.latest_charge().is_some_and(|charge| charge.status == "succeeded");
                    let reference = intent.id;
                    return if was_reserved { Reversal::Done { reference } } else { Reversal::NothingToReverse };
                }
                "succeeded" => {
                    let refund_id = format!("void-{}", charge.charge_id);
                    return refunds::give_back(api, charge, &intent, &refund_id, Amount::Rest).await;
                }
                "requires_payment_method" | "requires_confirmation" | "requires_action" | "requires_capture" => {
                    next = cancel(api, charge, &intent.id).await;
                }
                status => {
                    return Reversal::Unknown { detail: format!("Stripe has the payment as {}", known_word(status)) };
                }
            }
        }
        Reversal::Unknown { detail: "the payment changed while it was being voided".to_owned() }
    }

    async fn refund(&self, request: RefundRequest) -> Reversal {
        let RefundRequest { refund_id, charge, money } = request;
        let (api, reference) = match self.known(&charge) {
            Ok(Some(known)) => known,
            Ok(None) => return Reversal::NothingToReverse,
            Err(detail) => return Reversal::Unknown { detail },
        };
        let _turn = self.turns.take(charge.charge_id.clone()).await;
        let intent = match read(api, &charge, reference).await {
            Read::Intent(intent) => intent,
            Read::Not(detail) => return Reversal::Unknown { detail },
        };
        match (intent.status.as_str(), intent.standing()) {
            (_, Err(detail)) => Reversal::Unknown { detail: suspicious(&charge, detail) },
            ("succeeded", _) => refunds::give_back(api, &charge, &intent, &refund_id, Amount::Exactly(money)).await,
            (
                "canceled"
                | "requires_payment_method"
                | "requires_confirmation"
                | "requires_action"
                | "requires_capture",
                _,
            ) => Reversal::NothingToReverse,
            (status, _) => Reversal::Unknown { detail: format!("Stripe has the payment as {}", known_word(status)) },
        }
    }

    async fn look_up_refund(&self, charge: &ChargeRef, refund_id: &str) -> RefundLookUp {
        let (api, reference) = match self.known(charge) {
            Ok(Some(known)) => known,
            Ok(None) => return RefundLookUp::Unknown { detail: "the charge was never made".to_owned() },
            Err(detail) => return RefundLookUp::Unknown { detail },
        };
        match read(api, charge, reference).await {
            Read::Intent(intent) => refunds::look_up(api, charge, &intent, refund_id).await,
            Read::Not(detail) => RefundLookUp::Unknown { detail },
        }
    }

    async fn look_up_dispute(&self, charge: &ChargeRef, dispute: &str) -> DisputeLookUp {
        match self.known(charge) {
            Ok(None) => DisputeLookUp::NotFound,
            Ok(Some((api, intent))) => disputes::look_up(api, charge, intent, dispute).await,
            Err(detail) => DisputeLookUp::Unknown { detail },
        }
    }

    async fn submit_evidence(&self, charge: &ChargeRef, dispute: &str, evidence: &Evidence) -> DisputeLookUp {
        match self.known(charge) {
            Ok(None) => DisputeLookUp::NotFound,
            Ok(Some((api, intent))) => {
                let _turn = self.turns.take(format!("dispute {dispute}")).await;
                disputes::submit(api, charge, intent, dispute, evidence).await
            }
            Err(detail) => DisputeLookUp::Unknown { detail },
        }
    }

    async fn close_dispute(&self, charge: &ChargeRef, dispute: &str) -> DisputeLookUp {
        match self.known(charge) {
            Ok(None) => DisputeLookUp::NotFound,
            Ok(Some((api, intent))) => {
                let _turn = self.turns.take(format!("dispute {dispute}")).await;
                disputes::close(api, charge, intent, dispute).await
            }
            Err(detail) => DisputeLookUp::Unknown { detail },
        }
    }

    fn read_callback(&self, headers: &[(String, String)], body: &[u8]) -> Result<Callback, CallbackError> {
        callback::read(&self.callback_secrets, headers, body, (self.unix_seconds)())
    }
}

async fn read(api: &Api, charge: &ChargeRef, intent_id: &str) -> Read {
    understood(charge, api.get(&format!("/v1/payment_intents/{intent_id}?expand[]={}", api.expanded)).await)
}

/// Cancels an intent and gives it as it is then. One that refuses to be cancelled is read again.
async fn cancel(api: &Api, charge: &ChargeRef, intent_id: &str) -> Read {
    let path = format!("/v1/payment_intents/{intent_id}/cancel");
    let form = api.form().with("expand[]", api.expanded);
    match api.post(&path, form, &fresh_key(charge, "cancel")).await {
        Answer::Refused(refusal) => {
            tracing::warn!(charge = charge.charge_id, detail = %refusal, "Stripe refused to cancel a payment");
            read(api, charge, intent_id).await
        }
        answer => understood(charge, answer),
    }
}

fn understood(charge: &ChargeRef, answer: Answer) -> Read {
    match answer {
        Answer::Done(object) => match Intent::read(object, charge) {
            Ok(intent) => Read::Intent(Box::new(intent)),
            Err(detail) => Read::Not(suspicious(charge, detail)),
        },
        Answer::Refused(refusal) => {
            tracing::error!(charge = charge.charge_id, detail = %refusal, "Stripe does not let us read a payment; is the key that of the account that made it?");
            Read::Not(refusal.to_string())
        }
        Answer::Lost(detail) => Read::Not(detail),
    }
}

/// The charge of a request, whose intent is not known yet.
fn new_ref(request: &ChargeRequest) -> ChargeRef {
    ChargeRef {
        charge_id: request.charge_id.clone(),
        reference: None,
        money: request.money,
        livemode: request.livemode,
    }
}

/// Says in the log that what Stripe tells cannot be ours, and gives it on.
fn suspicious(charge: &ChargeRef, detail: String) -> String {
    tracing::error!(
        charge = charge.charge_id,
        detail,
        "what Stripe tells of a charge does not fit; a person must look"
    );
    detail
}

/// A status goes to the log only as one of the words that we know.
fn known_word(status: &str) -> &'static str {
    ["processing", "canceled", "requires_action", "requires_confirmation", "requires_payment_method"]
        .into_iter()
        .find(|word| *word == status)
        .unwrap_or("a word that we do not know")
}

/// A key for what the intent's own state keeps from happening twice. It is new each time, because an old one would
/// give an old failure again for a day, long after its cause has passed.
fn fresh_key(charge: &ChargeRef, step: &str) -> String {
    format!("{}-{step}-{:016x}", charge.charge_id, rand::random::<u64>())
}
