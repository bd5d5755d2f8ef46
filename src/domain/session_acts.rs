//! A session for one act of an escrow.
//!
//! The rule: the session ends with its act, once; where the act has become impossible it ends as
//! failed and nothing is done. Whether the act is possible is the escrow's to say.

use chrono::{DateTime, Duration, Utc};

use super::escrow::{Act, Actor};
use super::id::EscrowId;
use super::refusal::Refusal;
use super::session::{Session, SessionEvent, State, Transition};

/// Longest life of a link to an act: the escrow moves on, and whoever still wants to act asks for a new link.
pub const ACT_LIFETIME_MAX: Duration = Duration::minutes(30);

/// What a session is a ticket for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EscrowTicket {
    /// The escrow.
    pub escrow_id: EscrowId,
    /// The act.
    pub act: Act,
    /// Which side may do it.
    pub party: Actor,
}

impl EscrowTicket {
    /// Whether the act is a payment.
    pub fn is_payment(&self) -> bool {
        self.act == Act::AcceptPay
    }
}

impl Session {
    /// Whether the session moves money.
    pub fn is_payment(&self) -> bool {
        self.escrow.as_ref().is_none_or(EscrowTicket::is_payment)
    }

    /// The act has been done, which needed no payment.
    ///
    /// # Errors
    /// Refused unless the session is usable.
    pub fn complete_act(mut self, now: DateTime<Utc>) -> Result<Transition, Refusal> {
        self.must_be_usable(now)?;
        self.state = State::Completed(now);
        Ok((self, vec![SessionEvent::Completed]))
    }

    /// The act has become impossible.
    ///
    /// # Errors
    /// Refused unless the session is usable.
    pub fn fail_act(mut self, now: DateTime<Utc>) -> Result<Transition, Refusal> {
        self.must_be_usable(now)?;
        self.state = State::Failed(now);
        Ok((self, vec![SessionEvent::Failed]))
    }
}
