//! A payment company in miniature: takes test cards, keeps books of its own, and fails on demand.
//!
//! Rule: it behaves towards us as a stranger would. It knows nothing but the charge id, its books
//! are its own schema, and what it once answered for an id it answers always. It never touches real
//! money: a live charge is refused. Which card does what is in `simulator_cards`.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rand::distr::{Alphanumeric, SampleString};
use sqlx::PgPool;

use super::simulator_cards::{funding, verdict};
use super::simulator_faults::{Fault, SimulatorBehaviour};
use super::simulator_ledger::Ledger;
use super::{
    CHARGE_TIMEOUT, Capabilities, ChargeRequest, IssuerFacts, LookUp, Provider, RefundRequest, Report, Reversal,
};
use crate::domain::card::DeclineReason;
use crate::vault::Vault;

/// The name under which charges remember the simulator.
pub const NAME: &str = "simulator";

/// How long a charge stays silent under [`Fault::HangAfter`]: longer than any caller waits, yet not
/// for ever, so that a caller without a time-out shows itself and does not leak.
const HANG: Duration = Duration::from_secs(3 * CHARGE_TIMEOUT.as_secs());

/// Letters and digits of a reference.
const REFERENCE_CHARS: usize = 24;

/// The simulated company. See the module's own words.
pub struct Simulator {
    ledger: Ledger,
    vault: Arc<Vault>,
    behaviour: SimulatorBehaviour,
}

impl Simulator {
    /// A simulator whose books are in the schema `simulator` behind this pool.
    pub fn new(pool: PgPool, vault: Arc<Vault>, behaviour: SimulatorBehaviour) -> Simulator {
        Simulator { ledger: Ledger::new(pool), vault, behaviour }
    }

    /// The charge itself, without any fault.
    async fn decide(&self, request: &ChargeRequest) -> Report {
        // Out of the vault before anything else, so that the card is gone whatever happens below.
        let card = self.vault.take(&request.token);
        let charge_id = request.charge_id.as_str();
        if request.livemode {
            tracing::error!(charge = charge_id, "a live charge was sent to the simulator and refused");
            return Report::Declined { reason: DeclineReason::ProcessingError, reference: None };
        }
        let earlier = match self.ledger.find(charge_id).await {
            Ok(earlier) => earlier,
            Err(error) => {
                return Report::Unknown { detail: books_unreachable(charge_id, &error) };
            }
        };
        let entry = match (earlier, card) {
            (Some(entry), _) => entry,
            (None, Some(card)) => {
                let reference = new_reference("sim");
                let verdict = verdict(&card.number);
                drop(card);
                match self.ledger.record(charge_id, &reference, request.money, verdict).await {
                    Ok(entry) => entry,
                    Err(error) => {
                        return Report::Unknown { detail: books_unreachable(charge_id, &error) };
                    }
                }
            }
            // Another call may have taken the same card a moment ago and be charging it now.
            (None, None) => {
                let detail = "the card is not in the vault any more; this call charged nothing";
                return Report::Unknown { detail: detail.to_owned() };
            }
        };
        if !entry.is_for(request.money) {
            tracing::error!(charge = charge_id, "a charge id was used again for other money");
            let detail = "this charge id was used before for other money; a person must look";
            return Report::Unknown { detail: detail.to_owned() };
        }
        entry.report()
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
    fn name(&self) -> &'static str {
        NAME
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            livemode: false,
            testmode: true,
            void_in_advance: true,
            partial_refund: true,
            idempotency_hours_max: None,
        }
    }

    fn issuer_facts(&self, bin: &str) -> IssuerFacts {
        let funding = funding(bin);
        IssuerFacts { funding, country: funding.map(|_| "US".to_owned()) }
    }

    async fn charge(&self, request: ChargeRequest) -> Report {
        if self.behaviour.strikes(Fault::FailBefore) {
            drop(self.vault.take(&request.token));
            self.travel().await;
            return Report::Unknown { detail: "the connection was cut (simulated)".to_owned() };
        }
        self.travel().await;
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

    async fn look_up(&self, charge_id: &str) -> LookUp {
        self.travel().await;
        if self.behaviour.strikes(Fault::RefuseLookUp) {
            return LookUp::Unknown;
        }
        match self.ledger.find(charge_id).await {
            Ok(Some(entry)) => LookUp::Found(entry.report()),
            Ok(None) => LookUp::NotFound,
            Err(error) => {
                tracing::warn!(charge = charge_id, %error, "the simulator's books cannot be read");
                LookUp::Unknown
            }
        }
    }

    async fn void(&self, charge_id: &str) -> Reversal {
        self.travel().await;
        if self.behaviour.strikes(Fault::RefuseReversal) {
            return Reversal::Unknown { detail: "the connection was cut (simulated)".to_owned() };
        }
        let reversal = self.ledger.void(charge_id, &new_reference("sim")).await;
        reversal.unwrap_or_else(|error| Reversal::Unknown { detail: books_unreachable(charge_id, &error) })
    }

    async fn refund(&self, request: RefundRequest) -> Reversal {
        self.travel().await;
        if self.behaviour.strikes(Fault::RefuseReversal) {
            return Reversal::Unknown { detail: "the connection was cut (simulated)".to_owned() };
        }
        let RefundRequest { refund_id, charge_id, money } = request;
        let reversal = self.ledger.refund(&refund_id, &charge_id, &new_reference("simre"), money).await;
        reversal.unwrap_or_else(|error| Reversal::Unknown { detail: books_unreachable(&charge_id, &error) })
    }
}

/// The company's own id of something.
fn new_reference(prefix: &str) -> String {
    format!("{prefix}_{}", Alphanumeric.sample_string(&mut rand::rng(), REFERENCE_CHARS))
}

/// Says so in the log, and what to put into the report.
fn books_unreachable(charge_id: &str, error: &sqlx::Error) -> String {
    tracing::warn!(charge = charge_id, %error, "the simulator's books cannot be written or read");
    format!("the simulator's books cannot be written or read: {error}")
}
