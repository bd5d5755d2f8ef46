//! A payment company in miniature: takes test cards, keeps books of its own, and fails on demand.
//!
//! Rule: it behaves towards us as a stranger would. It knows nothing but the charge id, its books
//! are its own schema, and what it once answered for an id it answers always. It never touches real
//! money: a live charge is refused. Which card does what is in `simulator_cards`, the pages on which
//! its banks ask payers in `simulator_acs`.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rand::distr::{Alphanumeric, SampleString};
use sqlx::PgPool;

use super::simulator_acs::{CHALLENGE_ID_CHARS, challenge_url, origin};
use super::simulator_cards::{RememberedCard, Verdict, check_address, funding, rule};
use super::simulator_disputes::DisputeQuestion;
use super::simulator_entry::{Answer, Entry};
use super::simulator_faults::{Fault, SimulatorBehaviour};
use super::simulator_ledger::{Ledger, NewEntry};
use super::{
    CHARGE_TIMEOUT, Callback, CallbackError, Capabilities, Capture, CaptureReport, ChallengeAnswer, ChargeRef,
    ChargeRequest, Currencies, DisputeLookUp, DisputeRequest, Evidence, Facts, IssuerFacts, LookUp, Provider,
    ReferenceKeeper, RefundRequest, Report, Reversal, Source, UnheardDispute,
};
use crate::domain::card::{CardNumber, DeclineReason};
use crate::domain::money::Money;
use crate::vault::Vault;

/// The name under which charges remember the simulator, where there is only one.
pub const NAME: &str = "simulator";

/// How long a charge stays silent under [`Fault::HangAfter`]: longer than any caller waits, yet not
/// for ever, so that a caller without a time-out shows itself and does not leak.
const HANG: Duration = Duration::from_secs(3 * CHARGE_TIMEOUT.as_secs());

/// What is heard of a charge under [`Fault::RefuseConnection`].
const CONNECTION_REFUSED: &str = "the connection was refused; nothing was sent (simulated)";

/// Letters and digits of a reference.
const REFERENCE_CHARS: usize = 24;

/// The simulated company. See the module's own words.
pub struct Simulator {
    name: String,
    pub(super) ledger: Ledger,
    vault: Arc<Vault>,
    pub(super) behaviour: SimulatorBehaviour,
    pub(super) acs_base_url: Option<String>,
}

impl Simulator {
    /// A simulator whose books are in the schema `simulator` behind this pool. `acs_base_url` is the
    /// origin under which payers reach its banks' pages ([`simulator_acs::router`]), such as
    /// `http://127.0.0.1:4244`. Without it nobody can be asked, and cards that insist are declined.
    ///
    /// [`simulator_acs::router`]: super::simulator_acs::router
    pub fn new(
        pool: PgPool,
        vault: Arc<Vault>,
        behaviour: SimulatorBehaviour,
        acs_base_url: Option<String>,
    ) -> Simulator {
        Simulator::named(NAME, pool, vault, behaviour, acs_base_url)
    }

    /// One of several companies, each with books and a behaviour of its own. Their banks' pages are the
    /// same ones: any company's router serves them all.
    pub fn named(
        name: &str,
        pool: PgPool,
        vault: Arc<Vault>,
        behaviour: SimulatorBehaviour,
        acs_base_url: Option<String>,
    ) -> Simulator {
        let acs_base_url = acs_base_url.map(|base| base.trim_end_matches('/').to_owned());
        Simulator { name: name.to_owned(), ledger: Ledger::new(pool, name), vault, behaviour, acs_base_url }
    }

    /// The number behind a remembered card.
    async fn remembered(&self, charge_id: &str, reference: &str) -> Result<CardNumber, Report> {
        match self.ledger.remembered(reference).await {
            Ok(found) => found.and_then(|card| card.number()).ok_or_else(|| {
                tracing::error!(charge = charge_id, "a charge names a remembered card that there is not");
                let reason = DeclineReason::ProcessingError;
                Report::Declined { reason, reference: None, facts: Facts::default() }
            }),
            Err(error) => Err(Report::Unknown { detail: books_unreachable(charge_id, &error) }),
        }
    }

    /// The reference under which a card is remembered from now on, if that is wanted and can be.
    async fn remember(&self, request: &ChargeRequest, number: &CardNumber) -> Result<Option<String>, sqlx::Error> {
        if let Source::Saved { reference } = &request.source {
            return Ok(Some(reference.clone()));
        }
        let card = RememberedCard::of(number);
        if request.keep_for.is_none() || card.number().is_none() {
            return Ok(None);
        }
        let reference = new_reference("simcard");
        self.ledger.remember(&reference, &card).await?;
        Ok(Some(reference))
    }

    /// The charge itself, without any fault.
    async fn decide(&self, request: &ChargeRequest) -> Report {
        // Out of the vault before anything else, so that the card is gone whatever happens below.
        let typed = request.source.token().and_then(|token| self.vault.take(token));
        let charge_id = request.charge_id.as_str();
        if request.livemode {
            tracing::error!(charge = charge_id, "a live charge was sent to the simulator and refused");
            let reason = DeclineReason::ProcessingError;
            return Report::Declined { reason, reference: None, facts: Facts::default() };
        }
        let remembered = match &request.source {
            Source::Saved { reference } => match self.ledger.find(charge_id).await {
                Ok(Some(_)) => None,
                Ok(None) => match self.remembered(charge_id, reference).await {
                    Ok(number) => Some(number),
                    Err(report) => return report,
                },
                Err(error) => return Report::Unknown { detail: books_unreachable(charge_id, &error) },
            },
            Source::Card(_) => None,
        };
        let number = typed.as_ref().map(|card| &card.number).or(remembered.as_ref());
        let entry = match number {
            // What stands in the books already for this id is what counts.
            Some(number) => {
                let reference = new_reference("sim");
                let mut ruling = rule(number, request.authentication, self.acs_base_url.is_some());
                if self.behaviour.strikes(Fault::DeclineSoftly) {
                    ruling.challenge = false;
                    ruling.verdict = Verdict::Declined(DeclineReason::ProcessingError);
                }
                check_address(&mut ruling.facts.checks, request.billing.address.as_ref());
                if request.source.token().is_none() {
                    // Nobody typed a security code.
                    ruling.facts.checks.cvc = None;
                }
                let card_reference = match self.remember(request, number).await {
                    Ok(card_reference) => card_reference,
                    Err(error) => return Report::Unknown { detail: books_unreachable(charge_id, &error) },
                };
                drop((typed, remembered));
                if ruling.challenge && origin(&request.return_url).is_none() {
                    tracing::error!(charge = charge_id, "a charge that needs authentication has no http return URL");
                    ruling.challenge = false;
                    ruling.verdict = Verdict::Declined(DeclineReason::ProcessingError);
                }
                let new = NewEntry {
                    charge_id,
                    reference: &reference,
                    money: request.money,
                    manual_capture: request.capture == Capture::Manual,
                    merchant: request.statement_descriptor.as_deref().or(request.description.as_deref()),
                    ruling: &ruling,
                    challenge_id: &random_word(CHALLENGE_ID_CHARS),
                    return_url: &request.return_url,
                    card_reference: card_reference.as_deref(),
                };
                match self.ledger.record(new).await {
                    Ok(entry) => entry,
                    Err(error) => {
                        return Report::Unknown { detail: books_unreachable(charge_id, &error) };
                    }
                }
            }
            None => match self.ledger.find(charge_id).await {
                Ok(Some(entry)) => entry,
                // Another call may have taken the same card a moment ago and be charging it now.
                Ok(None) => {
                    let detail = "the card is not in the vault any more; this call charged nothing";
                    return Report::Unknown { detail: detail.to_owned() };
                }
                Err(error) => {
                    return Report::Unknown { detail: books_unreachable(charge_id, &error) };
                }
            },
        };
        if !entry.is_for(request.money) {
            tracing::error!(charge = charge_id, "a charge id was used again for other money");
            let detail = "this charge id was used before for other money; a person must look";
            return Report::Unknown { detail: detail.to_owned() };
        }
        self.report(&entry)
    }

    pub(super) fn report(&self, entry: &Entry) -> Report {
        match entry.report(|challenge_id| Some(challenge_url(self.acs_base_url.as_deref()?, challenge_id))) {
            Report::Succeeded { reference, facts } => {
                let fee = self.behaviour.fees().of_capture(entry.amount_captured);
                Report::Succeeded { reference, facts: Facts { fee, ..facts } }
            }
            other => other,
        }
    }

    async fn asked_of_dispute(&self, charge_id: &str, dispute: &str, question: DisputeQuestion<'_>) -> DisputeLookUp {
        self.travel().await;
        if self.is_away() {
            return DisputeLookUp::Unknown { detail: "the connection was cut (simulated)".to_owned() };
        }
        let answer = self.ledger.asked_of_dispute(charge_id, dispute, question).await;
        if self.behaviour.strikes(Fault::FailDisputeAfter) {
            return DisputeLookUp::Unknown { detail: "the answer was lost (simulated)".to_owned() };
        }
        match answer {
            Ok(Some(row)) => DisputeLookUp::Found(row.news(self.behaviour.fees())),
            Ok(None) => DisputeLookUp::NotFound,
            Err(error) => DisputeLookUp::Unknown { detail: books_unreachable(charge_id, &error) },
        }
    }

    /// Whether nobody listens just now.
    fn is_away(&self) -> bool {
        self.behaviour.strikes(Fault::RefuseConnection)
    }

    /// What any call of a company far away takes.
    async fn travel(&self) {
        let latency = self.behaviour.latency();
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
    }
}

#[async_trait]
impl Provider for Simulator {
    fn name(&self) -> &str {
        &self.name
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            livemode: false,
            testmode: true,
            void_in_advance: true,
            reference_first: false,
            partial_refund: true,
            manual_capture: true,
            three_d_secure: self.acs_base_url.is_some(),
            disputes: true,
            callbacks: false,
            currencies: Currencies::All,
            idempotency_hours_max: None,
        }
    }

    fn issuer_facts(&self, bin: &str) -> IssuerFacts {
        let funding = funding(bin);
        IssuerFacts { funding, country: funding.map(|_| "US".to_owned()) }
    }

    /// Its books are kept by our id, so there is no reference to remember first.
    async fn charge(&self, request: ChargeRequest, _keeper: &dyn ReferenceKeeper) -> Report {
        if self.is_away() {
            return Report::Unavailable { detail: CONNECTION_REFUSED.to_owned() };
        }
        if self.behaviour.strikes(Fault::FailBefore) {
            drop(request.source.token().and_then(|token| self.vault.take(token)));
            self.travel().await;
            return Report::Unknown { detail: "the connection was cut (simulated)".to_owned() };
        }
        self.travel().await;
        if self.behaviour.strikes(Fault::HangBefore) {
            drop(request.source.token().and_then(|token| self.vault.take(token)));
            tokio::time::sleep(HANG).await;
            return Report::Unknown { detail: "no answer (simulated)".to_owned() };
        }
        let report = self.decide(&request).await;
        if self.behaviour.strikes(Fault::AnswerTwice) {
            self.behaviour.report(&request.charge_id, &report);
        }
        if self.behaviour.strikes(Fault::HangAfter) {
            tokio::time::sleep(HANG).await;
            return Report::Unknown { detail: "no answer (simulated)".to_owned() };
        }
        if self.behaviour.strikes(Fault::FailAfter) {
            return Report::Unknown { detail: "the answer was lost (simulated)".to_owned() };
        }
        report
    }

    async fn look_up(&self, charge: &ChargeRef) -> LookUp {
        let charge_id = charge.charge_id.as_str();
        self.travel().await;
        if self.is_away() || self.behaviour.strikes(Fault::RefuseLookUp) {
            return LookUp::Unknown;
        }
        match self.ledger.find(charge_id).await {
            Ok(Some(entry)) => LookUp::Found(self.report(&entry)),
            Ok(None) => LookUp::NotFound,
            Err(error) => {
                tracing::warn!(charge = charge_id, %error, "the simulator's books cannot be read");
                LookUp::Unknown
            }
        }
    }

    async fn capture(&self, charge: &ChargeRef, money: Money) -> CaptureReport {
        let charge_id = charge.charge_id.as_str();
        self.travel().await;
        if self.is_away() || self.behaviour.strikes(Fault::FailCaptureBefore) {
            return CaptureReport::Unknown { detail: "the connection was cut (simulated)".to_owned() };
        }
        let report = self.ledger.capture(charge_id, money).await;
        if self.behaviour.strikes(Fault::FailCaptureAfter) {
            return CaptureReport::Unknown { detail: "the answer was lost (simulated)".to_owned() };
        }
        match report {
            Ok(CaptureReport::Captured { reference, .. }) => {
                CaptureReport::Captured { reference, fee: self.behaviour.fees().of_capture(money.minor) }
            }
            Ok(CaptureReport::TakenOtherwise { reference, amount, .. }) => {
                CaptureReport::TakenOtherwise { reference, amount, fee: self.behaviour.fees().of_capture(amount) }
            }
            Ok(other) => other,
            Err(error) => CaptureReport::Unknown { detail: books_unreachable(charge_id, &error) },
        }
    }

    async fn void(&self, charge: &ChargeRef) -> Reversal {
        let charge_id = charge.charge_id.as_str();
        self.travel().await;
        if self.is_away() || self.behaviour.strikes(Fault::RefuseReversal) {
            return Reversal::Unknown { detail: "the connection was cut (simulated)".to_owned() };
        }
        let reversal = self.ledger.void(charge_id, &new_reference("sim")).await;
        if self.behaviour.strikes(Fault::FailReversalAfter) {
            return Reversal::Unknown { detail: "the answer was lost (simulated)".to_owned() };
        }
        reversal.unwrap_or_else(|error| Reversal::Unknown { detail: books_unreachable(charge_id, &error) })
    }

    async fn refund(&self, request: RefundRequest) -> Reversal {
        self.travel().await;
        if self.is_away() || self.behaviour.strikes(Fault::RefuseReversal) {
            return Reversal::Unknown { detail: "the connection was cut (simulated)".to_owned() };
        }
        let RefundRequest { refund_id, charge: ChargeRef { charge_id, .. }, money } = request;
        let reversal = self.ledger.refund(&refund_id, &charge_id, &new_reference("simre"), money).await;
        if self.behaviour.strikes(Fault::FailReversalAfter) {
            return Reversal::Unknown { detail: "the answer was lost (simulated)".to_owned() };
        }
        reversal.unwrap_or_else(|error| Reversal::Unknown { detail: books_unreachable(&charge_id, &error) })
    }

    async fn look_up_dispute(&self, charge: &ChargeRef, dispute: &str) -> DisputeLookUp {
        self.asked_of_dispute(&charge.charge_id, dispute, DisputeQuestion::LookUp).await
    }

    async fn submit_evidence(&self, charge: &ChargeRef, dispute: &str, evidence: &Evidence) -> DisputeLookUp {
        let text = evidence.get("uncategorized_text").map_or("", |text| text.trim());
        self.asked_of_dispute(&charge.charge_id, dispute, DisputeQuestion::Submit(text)).await
    }

    async fn close_dispute(&self, charge: &ChargeRef, dispute: &str) -> DisputeLookUp {
        self.asked_of_dispute(&charge.charge_id, dispute, DisputeQuestion::Close).await
    }

    async fn open_dispute(&self, request: DisputeRequest) -> Option<String> {
        let DisputeRequest { charge, key, amount, reason } = request;
        let reference = format!("simdp_{key}");
        let opened = self.ledger.open_dispute(&charge.charge_id, &reference, amount, &reason).await;
        match opened {
            Ok(is_open) => is_open.then_some(reference),
            Err(error) => {
                books_unreachable(&charge.charge_id, &error);
                None
            }
        }
    }

    async fn unheard_disputes(&self) -> Vec<UnheardDispute> {
        let unheard = self.ledger.unheard_disputes().await;
        unheard.unwrap_or_else(|error| {
            tracing::warn!(provider = self.name, %error, "the simulator's disputes cannot be read");
            Vec::new()
        })
    }

    async fn dispute_heard(&self, dispute: &str) {
        if let Err(error) = self.ledger.dispute_heard(dispute).await {
            tracing::warn!(provider = self.name, %error, "the simulator could not note that a dispute was heard of; it tells of it again");
        }
    }

    async fn answer_challenge(&self, charge_id: &str, answer: ChallengeAnswer) -> bool {
        let answer = match answer {
            ChallengeAnswer::Approve => Answer::Approve,
            ChallengeAnswer::Fail => Answer::Fail,
            ChallengeAnswer::Cancel => Answer::Cancel,
        };
        let answered = match self.ledger.find(charge_id).await {
            Ok(entry) => match entry.and_then(|entry| entry.challenge_id) {
                Some(challenge_id) => self.ledger.answer(&challenge_id, answer).await,
                None => Ok(false),
            },
            Err(error) => Err(error),
        };
        answered.unwrap_or_else(|error| {
            tracing::warn!(charge = charge_id, %error, "a challenge could not be answered: the simulator's books cannot be written or read");
            false
        })
    }

    /// Its news comes through [`SimulatorBehaviour::on_report`], inside the process.
    fn read_callback(&self, _headers: &[(String, String)], _body: &[u8]) -> Result<Callback, CallbackError> {
        Err(CallbackError::NotSupported)
    }
}

/// The company's own id of something.
fn new_reference(prefix: &str) -> String {
    format!("{prefix}_{}", random_word(REFERENCE_CHARS))
}

/// Letters and digits from the system's generator.
fn random_word(chars: usize) -> String {
    Alphanumeric.sample_string(&mut rand::rng(), chars)
}

/// Says so in the log, and what to put into the report.
fn books_unreachable(charge_id: &str, error: &sqlx::Error) -> String {
    tracing::warn!(charge = charge_id, %error, "the simulator's books cannot be written or read");
    format!("the simulator's books cannot be written or read: {error}")
}
