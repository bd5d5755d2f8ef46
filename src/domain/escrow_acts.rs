//! What each act does to an escrow.
//!
//! The rule: an act consumes the escrow and gives back the next one with its events and with the money
//! that is to be moved, or a [`Refusal`]; every one of them asks [`Escrow::check`] first. Money that
//! goes back rests in `refunding` until the provider has said that it went; money that is released
//! only changes its owner in our books, so it is released in the same step.

use chrono::{DateTime, Duration, Utc};

use super::escrow::{Act, Actor, Escrow, EscrowPayment, Mode, State, Status, Suspended};
use super::escrow_money::{Resolution, Settlement};
use super::id::SessionId;
use super::refusal::Refusal;

/// What is asked for, with what it needs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// See [`Act::SignContract`].
    SignContract,
    /// See [`Act::Complete`].
    Complete,
    /// See [`Act::Dispute`].
    Dispute {
        /// One of the known reasons.
        reason: String,
        /// What happened.
        text: String,
    },
    /// See [`Act::RequestCancellation`].
    RequestCancellation {
        /// Why.
        reason: String,
    },
    /// See [`Act::AcceptCancellation`].
    AcceptCancellation,
    /// See [`Act::RejectCancellation`].
    RejectCancellation {
        /// Why.
        reason: String,
    },
    /// See [`Act::CancelEscrow`].
    CancelEscrow,
    /// See [`Act::Deliver`].
    Deliver {
        /// Where the parcel can be followed.
        tracking_reference: Option<String>,
        /// The seller's note.
        note: Option<String>,
    },
    /// See [`Act::RejectDelivery`].
    RejectDelivery {
        /// Why.
        reason: String,
    },
    /// See [`Act::Cancel`].
    Cancel,
    /// See [`Act::Resolve`].
    Resolve(Resolution),
    /// See [`Act::CompleteWhenDue`].
    CompleteWhenDue,
}

impl Request {
    /// What it is.
    pub fn act(&self) -> Act {
        match self {
            Self::SignContract => Act::SignContract,
            Self::Complete => Act::Complete,
            Self::Dispute { .. } => Act::Dispute,
            Self::RequestCancellation { .. } => Act::RequestCancellation,
            Self::AcceptCancellation => Act::AcceptCancellation,
            Self::RejectCancellation { .. } => Act::RejectCancellation,
            Self::CancelEscrow => Act::CancelEscrow,
            Self::Deliver { .. } => Act::Deliver,
            Self::RejectDelivery { .. } => Act::RejectDelivery,
            Self::Cancel => Act::Cancel,
            Self::Resolve(_) => Act::Resolve,
            Self::CompleteWhenDue => Act::CompleteWhenDue,
        }
    }
}

/// What a step announces. The payload is the escrow as it is afterwards.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EscrowEvent {
    /// Made by the merchant.
    Created,
    /// One side signed.
    ContractSigned(Actor),
    /// The money is held.
    Paid,
    /// Delivered.
    Delivered,
    /// The delivery was not accepted.
    DeliveryRejected,
    /// Over, and the seller has his money.
    Completed,
    /// Waits for a decision.
    Disputed,
    /// Decided.
    DisputeResolved,
    /// The buyer wants to give it up.
    CancellationRequested,
    /// The seller agrees.
    CancellationAccepted,
    /// The seller does not.
    CancellationRejected,
    /// Over, and the seller gets nothing.
    Cancelled,
    /// The provider is being asked to give money back.
    Refunding,
    /// The provider refuses to give money back; the merchant decides again.
    RefundFailed,
    /// Money went back to the buyer.
    Refunded,
    /// Money went to the seller.
    Released,
}

impl EscrowEvent {
    /// The event's type on the wire.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Created => "escrow.created",
            Self::ContractSigned(_) => "contract.signed",
            Self::Paid => "escrow.paid",
            Self::Delivered => "escrow.delivered",
            Self::DeliveryRejected => "escrow.delivery_rejected",
            Self::Completed => "escrow.completed",
            Self::Disputed => "escrow.disputed",
            Self::DisputeResolved => "escrow.dispute_resolved",
            Self::CancellationRequested => "escrow.cancellation_requested",
            Self::CancellationAccepted => "escrow.cancellation_accepted",
            Self::CancellationRejected => "escrow.cancellation_rejected",
            Self::Cancelled => "escrow.cancelled",
            Self::Refunding => "escrow.refunding",
            Self::RefundFailed => "escrow.refund_failed",
            Self::Refunded => "escrow.refunded",
            Self::Released => "escrow.released",
        }
    }
}

/// The next escrow, what to announce, and what to do with the money.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// The escrow as it is now.
    pub escrow: Escrow,
    /// What to announce.
    pub events: Vec<EscrowEvent>,
    /// Minor units to give back to the buyer; the provider is to be asked.
    pub refund: Option<i64>,
    /// Who gets what in our books, now: what goes to seller and merchant, and what a bank has kept of it.
    pub release: Option<Settlement>,
}

impl Step {
    fn plain(escrow: Escrow, event: EscrowEvent) -> Self {
        Self { escrow, events: vec![event], refund: None, release: None }
    }
}

impl Escrow {
    /// Does what is asked for.
    ///
    /// # Errors
    /// Refused with what stands against it; then nothing has changed.
    pub fn perform(self, request: Request, actor: Actor, now: DateTime<Utc>) -> Result<Step, Refusal> {
        let actor = self.check(request.act(), Some(actor), now)?;
        let mut escrow = self;
        Ok(match request {
            Request::SignContract => {
                match actor {
                    Actor::Seller => escrow.times.seller_signed = Some(now),
                    _ => escrow.times.buyer_signed = Some(now),
                }
                Step::plain(escrow, EscrowEvent::ContractSigned(actor))
            }
            Request::Complete => escrow.release(now)?,
            Request::CompleteWhenDue => match escrow.state {
                State::Delivered { deadline } if now >= deadline => escrow.release(now)?,
                State::ReleaseHeld { settlement } => escrow.end(settlement, now),
                ref state => {
                    let status = state.status().as_str();
                    return Err(Refusal::EscrowActionNotInState { action: Act::CompleteWhenDue.as_str(), status });
                }
            },
            Request::Dispute { reason, text } => {
                let from = escrow.suspend(now);
                let during_cancellation = escrow.state.status() == Status::CancellationRequested;
                escrow.state = State::Disputed { from, during_cancellation };
                escrow.times.disputed = Some(now);
                escrow.words.disputed_by = Some(actor);
                escrow.words.dispute_reason = Some(reason);
                escrow.words.dispute_text = Some(text);
                Step::plain(escrow, EscrowEvent::Disputed)
            }
            Request::RequestCancellation { reason } => {
                escrow.state = State::CancellationRequested { from: escrow.suspend(now) };
                escrow.times.cancellation_requested = Some(now);
                escrow.words.cancellation_reason = Some(reason);
                Step::plain(escrow, EscrowEvent::CancellationRequested)
            }
            Request::AcceptCancellation => {
                let mut step = escrow.give_back(Resolution::Refund, now)?;
                step.events.insert(0, EscrowEvent::CancellationAccepted);
                step
            }
            Request::RejectCancellation { reason } => {
                escrow.state = escrow.suspend(now).resume(now);
                escrow.times.cancellation_rejected = Some(now);
                escrow.words.cancellation_rejection_reason = Some(reason);
                Step::plain(escrow, EscrowEvent::CancellationRejected)
            }
            Request::CancelEscrow => escrow.give_back(Resolution::Refund, now)?,
            Request::Deliver { tracking_reference, note } => {
                escrow.times.delivered = Some(now);
                escrow.words.tracking_reference = tracking_reference;
                escrow.words.delivery_note = note;
                if escrow.mode == Mode::Instant {
                    let mut step = escrow.release(now)?;
                    step.events.insert(0, EscrowEvent::Delivered);
                    step
                } else {
                    escrow.state =
                        State::Delivered { deadline: now + Duration::days(i64::from(escrow.inspection_days)) };
                    Step::plain(escrow, EscrowEvent::Delivered)
                }
            }
            Request::RejectDelivery { reason } => {
                escrow.state = State::Paid;
                escrow.times.delivery_rejected = Some(now);
                escrow.words.delivery_rejection_reason = Some(reason);
                Step::plain(escrow, EscrowEvent::DeliveryRejected)
            }
            Request::Cancel if escrow.state.status() == Status::Pending => {
                escrow.state = State::Cancelled { settlement: None };
                escrow.times.cancelled = Some(now);
                Step::plain(escrow, EscrowEvent::Cancelled)
            }
            Request::Cancel => escrow.give_back(Resolution::Refund, now)?,
            Request::Resolve(resolution) => {
                if escrow.settle(resolution)?.released() > 0 {
                    // He decides knowing what is lost so far.
                    escrow.bank_allows_release(escrow.lost_minor())?;
                }
                escrow.times.resolved = Some(now);
                escrow.words.resolution = Some(resolution.as_str());
                let mut step = match resolution {
                    Resolution::Release => escrow.release(now)?,
                    Resolution::Refund | Resolution::Split { .. } => escrow.give_back(resolution, now)?,
                };
                step.events.insert(0, EscrowEvent::DisputeResolved);
                step
            }
        })
    }

    /// Where the escrow stands or stood before it was suspended: the clock of the inspection stands still.
    fn suspend(&self, now: DateTime<Utc>) -> Suspended {
        match self.state {
            State::Delivered { deadline } => Suspended::Delivered { left: deadline - now },
            State::CancellationRequested { from } | State::Disputed { from, .. } => from,
            _ => Suspended::Paid,
        }
    }

    /// All to the seller, now.
    fn release(self, now: DateTime<Utc>) -> Result<Step, Refusal> {
        let settlement = self.settle(Resolution::Release)?;
        Ok(self.end(settlement, now))
    }

    /// Over: everybody gets in our books what is his and is still held.
    fn end(mut self, settlement: Settlement, now: DateTime<Utc>) -> Step {
        let is_released = settlement.released() > 0;
        let events = if is_released {
            self.state = State::Completed { settlement };
            self.times.released = Some(now);
            self.times.completed = Some(now);
            vec![EscrowEvent::Released, EscrowEvent::Completed]
        } else {
            self.state = State::Cancelled { settlement: Some(settlement) };
            self.times.cancelled = Some(now);
            vec![EscrowEvent::Cancelled]
        };
        let release = (is_released || settlement.lost > 0).then_some(settlement);
        Step { escrow: self, events, refund: None, release }
    }

    /// What the provider is to give back so that the buyer has his part.
    fn to_return(&self, settlement: Settlement) -> i64 {
        settlement.buyer.saturating_sub(settlement.lost).saturating_sub(self.returned_minor)
    }

    /// Back to the buyer, all of it or his part; the rest waits until that has gone.
    fn give_back(mut self, resolution: Resolution, now: DateTime<Utc>) -> Result<Step, Refusal> {
        let settlement = self.settle(resolution)?;
        let amount = self.to_return(settlement);
        if amount < 1 {
            return Ok(self.end(settlement, now));
        }
        self.state = State::Refunding { settlement };
        Ok(Step { escrow: self, events: vec![EscrowEvent::Refunding], refund: Some(amount), release: None })
    }

    /// The provider has given the money back. That is booked whatever else there is; what is to be released waits where
    /// the buyer's bank was asked since.
    ///
    /// # Errors
    /// Refused unless that was being waited for.
    pub fn refunded(mut self, now: DateTime<Utc>) -> Result<Step, Refusal> {
        let State::Refunding { settlement } = self.state else {
            let status = self.state.status().as_str();
            return Err(Refusal::EscrowActionNotInState { action: "refund", status });
        };
        self.times.refunded = Some(now);
        self.returned_minor = self.returned_minor.saturating_add(self.to_return(settlement));
        if settlement.released() > 0 && self.bank_allows_release(settlement.lost).is_err() {
            self.state = State::ReleaseHeld { settlement };
            return Ok(Step::plain(self, EscrowEvent::Refunded));
        }
        let mut step = self.end(settlement, now);
        step.events.insert(0, EscrowEvent::Refunded);
        Ok(step)
    }

    /// The provider has refused to give the money back, for good: all of it is still held, and somebody has to decide.
    ///
    /// # Errors
    /// Refused unless that was being waited for.
    pub fn refund_refused(mut self, now: DateTime<Utc>) -> Result<Step, Refusal> {
        let State::Refunding { settlement } = self.state else {
            let status = self.state.status().as_str();
            return Err(Refusal::EscrowActionNotInState { action: "refund", status });
        };
        self.state = State::RefundFailed { settlement };
        self.times.refund_failed = Some(now);
        Ok(Step::plain(self, EscrowEvent::RefundFailed))
    }

    /// Keeps the escrow for a payment that is about to be tried: until it has an outcome nothing else moves it.
    ///
    /// # Errors
    /// Refused with what stands against paying.
    pub fn start_payment(mut self, session: &SessionId, now: DateTime<Utc>) -> Result<Self, Refusal> {
        self.check(Act::AcceptPay, Some(Actor::Buyer), now)?;
        self.state = State::Pending { paying: Some(session.clone()) };
        Ok(self)
    }

    /// The payment was declined: others may try again.
    ///
    /// # Errors
    /// Refused unless this session's payment was in flight.
    pub fn payment_declined(mut self, session: &SessionId) -> Result<Self, Refusal> {
        self.must_be_paid_by(session)?;
        self.state = State::Pending { paying: None };
        Ok(self)
    }

    /// The money has been taken and is held.
    ///
    /// # Errors
    /// Refused unless this session's payment was in flight.
    pub fn payment_taken(mut self, payment: EscrowPayment, now: DateTime<Utc>) -> Result<Step, Refusal> {
        self.must_be_paid_by(&payment.session_id)?;
        self.state = State::Paid;
        self.payment = Some(payment);
        self.times.paid = Some(now);
        Ok(Step::plain(self, EscrowEvent::Paid))
    }

    fn must_be_paid_by(&self, session: &SessionId) -> Result<(), Refusal> {
        match &self.state {
            State::Pending { paying: Some(paying) } if paying == session => Ok(()),
            state => {
                let status = state.status().as_str();
                Err(Refusal::EscrowActionNotInState { action: Act::AcceptPay.as_str(), status })
            }
        }
    }
}

#[cfg(test)]
#[path = "escrow_tests.rs"]
mod escrow_tests;
