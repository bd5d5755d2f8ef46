//! The escrow: money that a buyer pays and that is held until both sides, time or a decision say where
//! it goes.
//!
//! The rule: [`TABLE`] says who may do what, in which mode and status; nothing else allows anything.
//! A state knows what only it can know: a suspended escrow remembers where it came from and how much
//! time for inspection was left. What an act does to the escrow is `domain::escrow_acts`, how the
//! money is divided `domain::escrow_money`.

use chrono::{DateTime, Duration, Utc};

pub use super::escrow_facts::{AtBank, Contract, DISPUTE_REASONS, EscrowPayment, Times, Words};
use super::escrow_money::Settlement;
use super::id::{EscrowId, MerchantId, SessionId};
use super::money::Money;
use super::refusal::Refusal;
use super::session::Metadata;

/// Longest title, in characters.
pub const TITLE_CHARS_MAX: usize = 200;

/// Longest contract, in characters: some five printed pages.
pub const CONTRACT_TERMS_CHARS_MAX: usize = 10_000;

/// Longest reason for a dispute, a cancellation or a rejection, in characters.
pub const REASON_CHARS_MAX: usize = 2_000;

/// Longest tracking reference, in characters.
pub const TRACKING_CHARS_MAX: usize = 200;

/// Longest name under a contract, in characters.
pub const SIGNATURE_NAME_CHARS_MAX: usize = 100;

/// Days for inspection unless the merchant says otherwise.
pub const INSPECTION_DAYS_DEFAULT: u16 = 7;

/// Most days for inspection: card networks take disputes for about four months, and held money must not outlive that.
pub const INSPECTION_DAYS_MAX: u16 = 90;

/// Most days until delivery that can be estimated: ten years.
pub const DELIVERY_DAYS_MAX: u16 = 3_650;

/// How much of a contract there is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// Both sign a contract before the buyer pays.
    Standard,
    /// Two sides, no contract.
    Quick,
    /// The merchant is the seller, and delivery completes at once.
    Instant,
}

impl Mode {
    /// Every mode.
    pub const ALL: [Self; 3] = [Self::Standard, Self::Quick, Self::Instant];

    /// The word on the wire and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Quick => "quick",
            Self::Instant => "instant",
        }
    }

    /// Reads the word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.as_str() == word)
    }
}

/// Who does something to an escrow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Actor {
    /// Who pays.
    Buyer,
    /// Who delivers.
    Seller,
    /// The merchant's backend or its operator.
    Merchant,
    /// The deadline.
    Time,
}

impl Actor {
    /// Everybody.
    pub const ALL: [Self; 4] = [Self::Buyer, Self::Seller, Self::Merchant, Self::Time];

    /// The word on the wire and in the history.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Buyer => "buyer",
            Self::Seller => "seller",
            Self::Merchant => "merchant",
            Self::Time => "time",
        }
    }

    /// Reads the word of one of the two sides.
    pub fn parse_party(word: &str) -> Option<Self> {
        [Self::Buyer, Self::Seller].into_iter().find(|party| party.as_str() == word)
    }
}

/// What can be done to an escrow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Act {
    /// Put a name under the contract.
    SignContract,
    /// Accept and pay.
    AcceptPay,
    /// Say that all is well, which releases the money.
    Complete,
    /// Call for a decision.
    Dispute,
    /// Ask the seller to give it up.
    RequestCancellation,
    /// Give it up as asked.
    AcceptCancellation,
    /// Go on all the same.
    RejectCancellation,
    /// Give it up unasked.
    CancelEscrow,
    /// Say that it was delivered.
    Deliver,
    /// Say that what was delivered is not accepted.
    RejectDelivery,
    /// Give it up before anybody paid, or, where the merchant is the seller, as the seller.
    Cancel,
    /// Decide a dispute.
    Resolve,
    /// The time for inspection is over.
    CompleteWhenDue,
}

impl Act {
    /// Everything.
    pub const ALL: [Self; 13] = [
        Self::SignContract,
        Self::AcceptPay,
        Self::Complete,
        Self::Dispute,
        Self::RequestCancellation,
        Self::AcceptCancellation,
        Self::RejectCancellation,
        Self::CancelEscrow,
        Self::Deliver,
        Self::RejectDelivery,
        Self::Cancel,
        Self::Resolve,
        Self::CompleteWhenDue,
    ];

    /// How many of [`Act::ALL`] are done by a person on a page of ours; they come first.
    const ON_PAGES: usize = 8;

    /// The word on the wire and in the history.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SignContract => "sign_contract",
            Self::AcceptPay => "accept_pay",
            Self::Complete => "complete",
            Self::Dispute => "dispute",
            Self::RequestCancellation => "request_cancellation",
            Self::AcceptCancellation => "accept_cancellation",
            Self::RejectCancellation => "reject_cancellation",
            Self::CancelEscrow => "cancel_escrow",
            Self::Deliver => "deliver",
            Self::RejectDelivery => "reject_delivery",
            Self::Cancel => "cancel",
            Self::Resolve => "resolve",
            Self::CompleteWhenDue => "complete_when_due",
        }
    }

    /// The acts that have a page, in the order of an escrow's life.
    pub fn on_pages() -> &'static [Self] {
        &Self::ALL[..Self::ON_PAGES]
    }

    /// Reads the word of an act that has a page.
    pub fn parse(word: &str) -> Option<Self> {
        Self::on_pages().iter().copied().find(|act| act.as_str() == word)
    }
}

/// A state's name, without what only that state knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    /// Not paid.
    Pending,
    /// Paid, and the money is held.
    Paid,
    /// Delivered; the time for inspection runs.
    Delivered,
    /// Waits for a decision.
    Disputed,
    /// The buyer wants to give it up; the seller has not answered.
    CancellationRequested,
    /// The provider has been asked to give money back and has not answered.
    Refunding,
    /// The provider said that it does not give the money back; waits for a decision.
    RefundFailed,
    /// The buyer's part has gone back; the rest waits for his bank, or for a decision.
    ReleaseHeld,
    /// Over: the money was released, all of it or the seller's part.
    Completed,
    /// Over: nothing was paid, or all of it was given back.
    Cancelled,
}

impl Status {
    /// Every status, in the order of an escrow's life.
    pub const ALL: [Self; 10] = [
        Self::Pending,
        Self::Paid,
        Self::Delivered,
        Self::Disputed,
        Self::CancellationRequested,
        Self::Refunding,
        Self::RefundFailed,
        Self::ReleaseHeld,
        Self::Completed,
        Self::Cancelled,
    ];

    /// The word on the wire and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Paid => "paid",
            Self::Delivered => "delivered",
            Self::Disputed => "disputed",
            Self::CancellationRequested => "cancellation_requested",
            Self::Refunding => "refunding",
            Self::RefundFailed => "refund_failed",
            Self::ReleaseHeld => "release_held",
            Self::Completed => "completed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Reads the word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == word)
    }
}

/// Where an escrow stood before it was suspended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Suspended {
    /// Paid.
    Paid,
    /// Delivered, with so much time for inspection left.
    Delivered {
        /// What was left.
        left: Duration,
    },
}

impl Suspended {
    /// The state to go back to: the clock runs on from where it stood.
    pub fn resume(self, now: DateTime<Utc>) -> State {
        match self {
            Self::Paid => State::Paid,
            Self::Delivered { left } => State::Delivered { deadline: now + left },
        }
    }

    /// The status to go back to.
    pub fn status(self) -> Status {
        match self {
            Self::Paid => Status::Paid,
            Self::Delivered { .. } => Status::Delivered,
        }
    }
}

/// Where an escrow stands, with what only that state knows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum State {
    /// Not paid.
    Pending {
        /// The session whose payment is in flight; while there is one nothing else moves the escrow.
        paying: Option<SessionId>,
    },
    /// Paid, and the money is held.
    Paid,
    /// Delivered.
    Delivered {
        /// When it completes by itself.
        deadline: DateTime<Utc>,
    },
    /// Waits for a decision.
    Disputed {
        /// Where it stood.
        from: Suspended,
        /// Whether the buyer had asked for cancellation before.
        during_cancellation: bool,
    },
    /// The buyer wants to give it up.
    CancellationRequested {
        /// Where it stood.
        from: Suspended,
    },
    /// The provider has been asked to give money back.
    Refunding {
        /// Who gets what.
        settlement: Settlement,
    },
    /// The provider does not give money back; all of it is still held.
    RefundFailed {
        /// Who was to get what.
        settlement: Settlement,
    },
    /// The buyer's part has gone back; what is to be released is held, because he disputes the charge at his bank.
    ReleaseHeld {
        /// Who is to get what.
        settlement: Settlement,
    },
    /// Over.
    Completed {
        /// Who got what.
        settlement: Settlement,
    },
    /// Over.
    Cancelled {
        /// Who got what; nothing where nothing was paid.
        settlement: Option<Settlement>,
    },
}

impl State {
    /// The state's name.
    pub fn status(&self) -> Status {
        match self {
            Self::Pending { .. } => Status::Pending,
            Self::Paid => Status::Paid,
            Self::Delivered { .. } => Status::Delivered,
            Self::Disputed { .. } => Status::Disputed,
            Self::CancellationRequested { .. } => Status::CancellationRequested,
            Self::Refunding { .. } => Status::Refunding,
            Self::RefundFailed { .. } => Status::RefundFailed,
            Self::ReleaseHeld { .. } => Status::ReleaseHeld,
            Self::Completed { .. } => Status::Completed,
            Self::Cancelled { .. } => Status::Cancelled,
        }
    }

    /// What is given back, released and kept, once that is decided.
    pub fn settlement(&self) -> Option<Settlement> {
        match self {
            Self::Refunding { settlement }
            | Self::RefundFailed { settlement }
            | Self::ReleaseHeld { settlement }
            | Self::Completed { settlement } => Some(*settlement),
            Self::Cancelled { settlement } => *settlement,
            _ => None,
        }
    }

    /// How much time for inspection a suspended escrow has left.
    pub fn inspection_left(&self) -> Option<Duration> {
        match self {
            Self::Disputed { from: Suspended::Delivered { left }, .. }
            | Self::CancellationRequested { from: Suspended::Delivered { left } } => Some(*left),
            _ => None,
        }
    }

    /// Where a suspended escrow came from.
    pub fn previous(&self) -> Option<Status> {
        match self {
            Self::Disputed { during_cancellation: true, .. } => Some(Status::CancellationRequested),
            Self::Disputed { from, .. } | Self::CancellationRequested { from } => Some(from.status()),
            _ => None,
        }
    }
}

/// An escrow.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Escrow {
    /// Its id.
    pub id: EscrowId,
    /// Whose it is.
    pub merchant_id: MerchantId,
    /// Whether it moves real money.
    pub livemode: bool,
    /// How much of a contract there is.
    pub mode: Mode,
    /// What it is about.
    pub title: String,
    /// What the buyer pays.
    pub total: Money,
    /// What the merchant keeps of it on release, in minor units.
    pub fee_minor: i64,
    /// Who pays.
    pub buyer_email: String,
    /// Who delivers; nobody where the merchant does.
    pub seller_email: Option<String>,
    /// Days until delivery, as the merchant thinks.
    pub estimated_delivery_days: Option<u16>,
    /// Days for inspection after delivery.
    pub inspection_days: u16,
    /// What both sign.
    pub contract: Option<Contract>,
    /// The merchant's own data.
    pub metadata: Metadata,
    /// Where it stands.
    pub state: State,
    /// When what happened.
    pub times: Times,
    /// What people wrote.
    pub words: Words,
    /// The payment that filled it.
    pub payment: Option<EscrowPayment>,
    /// Minor units that the provider has given back to the buyer.
    pub returned_minor: i64,
    /// What the buyer's bank says of that payment. Read with the escrow, kept with the disputes.
    pub at_bank: AtBank,
    /// Events announced so far; numbers the next one.
    pub event_count: i32,
    /// Entries in its history.
    pub history_count: i32,
    /// Hash of the last entry of its history; zeros before the first.
    pub history_head: [u8; 32],
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

/// One line of the table: these may do it in these modes from these statuses.
#[derive(Debug)]
pub struct Row {
    /// What.
    pub act: Act,
    /// Who.
    pub by: &'static [Actor],
    /// In which modes.
    pub modes: &'static [Mode],
    /// From where.
    pub from: &'static [Status],
    /// Whether only after the buyer's bank has decided for him.
    pub after_loss: bool,
}

const fn row(act: Act, by: &'static [Actor], modes: &'static [Mode], from: &'static [Status]) -> Row {
    Row { act, by, modes, from, after_loss: false }
}

const fn after_loss(row: Row) -> Row {
    Row { after_loss: true, ..row }
}

const ANY_MODE: &[Mode] = &Mode::ALL;
const TWO_SIDES: &[Mode] = &[Mode::Standard, Mode::Quick];
const INSTANT: &[Mode] = &[Mode::Instant];

/// Who may do what, in which mode and status. Where the merchant is the seller, he also gives up with `cancel`, because a
/// seller's page would have nobody to open it. A request for cancellation that nobody answers, what a provider refused to
/// give back, and what a bank has taken for good is decided by the merchant. What a dispute at the bank forbids beside
/// this table says [`Escrow::check`].
pub const TABLE: &[Row] = {
    use Act as A;
    use Actor::{Buyer, Merchant, Seller, Time};
    use Status::{CancellationRequested, Delivered, Disputed, Paid, Pending, RefundFailed, ReleaseHeld};
    &[
        row(A::SignContract, &[Buyer, Seller], &[Mode::Standard], &[Pending]),
        row(A::AcceptPay, &[Buyer], ANY_MODE, &[Pending]),
        row(A::Complete, &[Buyer], TWO_SIDES, &[Delivered]),
        row(A::Dispute, &[Buyer, Seller], TWO_SIDES, &[Paid, Delivered, CancellationRequested]),
        row(A::Dispute, &[Buyer], INSTANT, &[Paid, CancellationRequested]),
        row(A::RequestCancellation, &[Buyer], ANY_MODE, &[Paid, Delivered]),
        row(A::AcceptCancellation, &[Seller], TWO_SIDES, &[CancellationRequested]),
        row(A::RejectCancellation, &[Seller], TWO_SIDES, &[CancellationRequested]),
        row(A::CancelEscrow, &[Seller], TWO_SIDES, &[Paid, Delivered]),
        row(A::Deliver, &[Merchant], ANY_MODE, &[Paid]),
        row(A::RejectDelivery, &[Merchant], TWO_SIDES, &[Delivered]),
        row(A::Cancel, &[Merchant], ANY_MODE, &[Pending]),
        row(A::Cancel, &[Merchant], INSTANT, &[Paid, CancellationRequested]),
        row(A::Resolve, &[Merchant], ANY_MODE, &[Disputed, CancellationRequested, RefundFailed, ReleaseHeld]),
        after_loss(row(A::Resolve, &[Merchant], ANY_MODE, &[Paid, Delivered])),
        row(A::CompleteWhenDue, &[Time], TWO_SIDES, &[Delivered]),
        row(A::CompleteWhenDue, &[Time], ANY_MODE, &[ReleaseHeld]),
    ]
};

impl Escrow {
    /// The status as of `now`: an inspection whose time is over counts as completed, whether or not the sweep
    /// has been by, unless the buyer's bank stands against it.
    pub fn status(&self, now: DateTime<Utc>) -> Status {
        match self.state {
            State::Delivered { deadline } if now >= deadline && !self.at_bank.holds() => Status::Completed,
            ref state => state.status(),
        }
    }

    /// Which side an address is of.
    pub fn party(&self, email: &str) -> Option<Actor> {
        if self.buyer_email.eq_ignore_ascii_case(email) {
            Some(Actor::Buyer)
        } else if self.seller_email.as_deref().is_some_and(|seller| seller.eq_ignore_ascii_case(email)) {
            Some(Actor::Seller)
        } else {
            None
        }
    }

    /// Whether a side has signed.
    pub fn has_signed(&self, party: Actor) -> bool {
        match party {
            Actor::Buyer => self.times.buyer_signed.is_some(),
            Actor::Seller => self.times.seller_signed.is_some(),
            Actor::Merchant | Actor::Time => false,
        }
    }

    /// Whether somebody may do something now: mode first, then who, then the status, then what else it needs.
    ///
    /// # Errors
    /// Refused with what stands against it.
    pub fn check(&self, act: Act, actor: Option<Actor>, now: DateTime<Utc>) -> Result<Actor, Refusal> {
        let in_mode = || TABLE.iter().filter(|row| row.act == act && row.modes.contains(&self.mode));
        if in_mode().next().is_none() {
            return Err(Refusal::EscrowActionNotInMode { action: act.as_str(), mode: self.mode.as_str() });
        }
        let may = |who: Actor| in_mode().any(|row| row.by.contains(&who));
        let Some(actor) = actor.filter(|actor| may(*actor)) else {
            return Err(match (may(Actor::Buyer), may(Actor::Seller)) {
                (true, false) => Refusal::EscrowTargetNotBuyer { action: act.as_str() },
                (false, true) => Refusal::EscrowTargetNotSeller { action: act.as_str() },
                _ => Refusal::EscrowTargetNotParty { action: act.as_str() },
            });
        };
        let status = if act == Act::CompleteWhenDue { self.state.status() } else { self.status(now) };
        let is_lost = self.at_bank.is_lost;
        if !in_mode().any(|row| row.by.contains(&actor) && row.from.contains(&status) && (is_lost || !row.after_loss)) {
            return Err(Refusal::EscrowActionNotInState { action: act.as_str(), status: status.as_str() });
        }
        match act {
            Act::SignContract if self.has_signed(actor) => Err(Refusal::EscrowAlreadySigned { party: actor.as_str() }),
            Act::AcceptPay
                if self.mode == Mode::Standard
                    && !(self.has_signed(Actor::Buyer) && self.has_signed(Actor::Seller)) =>
            {
                Err(Refusal::EscrowContractNotSigned)
            }
            Act::Cancel | Act::AcceptPay if matches!(self.state, State::Pending { paying: Some(_) }) => {
                Err(Refusal::EscrowPaymentProcessing)
            }
            // What has been taken back for the buyer and may yet come again cannot be given back to him.
            Act::AcceptCancellation | Act::CancelEscrow | Act::Cancel if self.at_bank.has_taken_for_now() => {
                Err(Refusal::EscrowDisputedAtBank { is_lost: false })
            }
            Act::CompleteWhenDue if status == Status::ReleaseHeld => {
                let settled = self.state.settlement().map_or(0, |parts| parts.lost);
                self.bank_allows_release(settled).map(|()| actor)
            }
            Act::Complete | Act::CompleteWhenDue => self.bank_allows(self.at_bank.holds()).map(|()| actor),
            Act::Deliver if self.mode == Mode::Instant => self.bank_allows(self.at_bank.holds()).map(|()| actor),
            _ => Ok(actor),
        }
    }

    fn bank_allows(&self, is_held: bool) -> Result<(), Refusal> {
        let refusal = Refusal::EscrowDisputedAtBank { is_lost: !self.at_bank.is_open };
        if is_held { Err(refusal) } else { Ok(()) }
    }

    /// Whether the buyer's bank lets a release go that was decided on when `known` minor units were lost to it: not while
    /// it decides, and not when it has taken more since.
    pub(super) fn bank_allows_release(&self, known: i64) -> Result<(), Refusal> {
        self.bank_allows(self.at_bank.is_open || self.lost_minor() > known)
    }

    /// Minor units that the buyer's bank has taken for good, of those that were still held.
    pub(super) fn lost_minor(&self) -> i64 {
        self.at_bank.lost_minor.clamp(0, self.total.minor.saturating_sub(self.returned_minor).max(0))
    }

    /// When it completes by itself.
    pub fn completion_deadline(&self) -> Option<DateTime<Utc>> {
        match self.state {
            State::Delivered { deadline } => Some(deadline),
            _ => None,
        }
    }
}
