//! The checkout session: a ticket for one act, and everything that may happen to it.
//!
//! The rule: a transition consumes the session and gives back the next one with the events to
//! announce, or a [`Refusal`]; nothing else changes a session. Completed, expired, cancelled and
//! failed are final. Time comes in as an argument; storing and announcing are others' work.

use std::collections::BTreeMap;

use chrono::{DateTime, Duration, Utc};

use super::billing::AddressCollection;
use super::customer::PostalAddress;
use super::id::{CustomerId, LineItemId, MerchantId, PaymentId, SessionId};
use super::money::Money;
use super::payment::CaptureMethod;
use super::payment_method::SavedCardOptions;
use super::pricing::PricedLine;
use super::redirect::WayBack;
use super::refusal::Refusal;
use super::session_acts::EscrowTicket;

/// Charges a session may try before it fails. Four leave room for a typing error and a second card
/// and make a session worthless for testing stolen ones.
pub const TRIES_MAX: u8 = 4;

/// How long a session lives unless the merchant says otherwise.
pub const LIFETIME_DEFAULT: Duration = Duration::minutes(30);

/// Shortest lifetime: less would expire under the payer's typing.
pub const LIFETIME_MIN: Duration = Duration::minutes(1);

/// How far apart the merchant's clock may be when it names the shortest lifetime as an absolute
/// time: a request that is a few seconds under way still means a minute.
pub const LIFETIME_TOLERANCE: Duration = Duration::seconds(10);

/// What `customer_creation` says when each paid session makes a customer.
pub const CUSTOMER_ALWAYS: &str = "always";

/// Metadata: at most fifty string pairs, as at Stripe.
pub type Metadata = BTreeMap<String, String>;

/// A state's name, without what only that state knows.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum StateName {
    /// Usable by its payer.
    Pending,
    /// A payment is with the provider.
    Processing,
    /// The act is done.
    Completed,
    /// Time ran out.
    Expired,
    /// The payer or the merchant gave it up.
    Cancelled,
    /// The act cannot succeed any more.
    Failed,
}

impl StateName {
    /// Every state, in the order of a session's life.
    pub const ALL: [Self; 6] =
        [Self::Pending, Self::Processing, Self::Completed, Self::Expired, Self::Cancelled, Self::Failed];

    /// The word on the wire and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Processing => "processing",
            Self::Completed => "completed",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        }
    }

    /// Reads the word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }

    /// Stripe's three-valued view of the state.
    pub fn stripe_status(self) -> &'static str {
        match self {
            Self::Pending | Self::Processing => "open",
            Self::Completed => "complete",
            Self::Expired | Self::Cancelled | Self::Failed => "expired",
        }
    }
}

/// Where a session stands, with what only that state knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Usable by its payer.
    Pending,
    /// A payment is with the provider.
    Processing,
    /// The act is done, since when.
    Completed(DateTime<Utc>),
    /// Time ran out, or the merchant expired it, when.
    Expired(DateTime<Utc>),
    /// Given up, when.
    Cancelled(DateTime<Utc>),
    /// Cannot succeed any more, since when.
    Failed(DateTime<Utc>),
}

impl State {
    /// The state's name.
    pub fn name(self) -> StateName {
        match self {
            Self::Pending => StateName::Pending,
            Self::Processing => StateName::Processing,
            Self::Completed(_) => StateName::Completed,
            Self::Expired(_) => StateName::Expired,
            Self::Cancelled(_) => StateName::Cancelled,
            Self::Failed(_) => StateName::Failed,
        }
    }

    /// When the session ended; `None` while it can still change.
    pub fn ended_at(self) -> Option<DateTime<Utc>> {
        match self {
            Self::Pending | Self::Processing => None,
            Self::Completed(at) | Self::Expired(at) | Self::Cancelled(at) | Self::Failed(at) => Some(at),
        }
    }
}

/// The ways back to the shop. Each is covered by the merchant's allow-list.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct WaysBack {
    /// After completion.
    pub success_url: Option<WayBack>,
    /// After the payer gave up.
    pub cancel_url: Option<WayBack>,
    /// For every outcome without a URL of its own.
    pub return_url: Option<WayBack>,
    /// After the deadline.
    pub expired_url: Option<WayBack>,
    /// After the last try failed.
    pub failed_url: Option<WayBack>,
}

/// What the merchant asked for that decides nothing here but is shown, charged with or handed back.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Options {
    /// The payer's language, as the merchant knows it; `None` or `auto` asks the browser.
    pub locale: Option<String>,
    /// The word on the pay button: `auto`, `pay`, `book`, `donate`.
    pub submit_type: Option<String>,
    /// `hosted_page` or its old name `hosted`.
    pub ui_mode: String,
    /// `if_required` or `always`, handed back.
    pub customer_creation: Option<String>,
    /// The payment's description.
    pub payment_description: Option<String>,
    /// The payment's own metadata.
    pub payment_metadata: Metadata,
    /// Where a receipt is sent; the payer's e-mail when absent and receipts are on.
    pub receipt_email: Option<String>,
    /// When the money is taken.
    pub capture_method: CaptureMethod,
    /// What the card statement shall say.
    pub statement_descriptor: Option<String>,
    /// The end of what the card statement shall say.
    pub statement_descriptor_suffix: Option<String>,
    /// Whether cards are kept and kept ones offered.
    pub saved_cards: SavedCardOptions,
    /// Whether the payer is asked for his billing address, as the merchant said it.
    pub billing_address_collection: Option<AddressCollection>,
    /// Whether a payer who paid is sent on without waiting for the merchant's webhook endpoints.
    pub goes_back_at_once: bool,
}

/// What the payer typed about himself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Payer {
    /// E-mail address.
    pub email: String,
    /// Name on the card.
    pub name: String,
    /// Where the bill goes, if he was asked.
    pub address: Option<PostalAddress>,
}

/// One line of a session: an id for the API and the price that was worked out for it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    /// Its id.
    pub id: LineItemId,
    /// What is sold and for how much.
    pub priced: PricedLine,
}

/// A checkout session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// Whose it is.
    pub merchant_id: MerchantId,
    /// Whether it moves real money.
    pub livemode: bool,
    /// Where it stands.
    pub state: State,
    /// What the payer pays.
    pub total: Money,
    /// The sum before discounts, shipping and tax, in minor units.
    pub subtotal_minor: i64,
    /// The priced lines, at most a hundred.
    pub lines: Vec<Line>,
    /// The ways back.
    pub ways_back: WaysBack,
    /// The merchant's own reference, at most 200 characters.
    pub client_reference_id: Option<String>,
    /// The e-mail address that the merchant knows.
    pub customer_email: Option<String>,
    /// Whose session it is: named by the merchant, or made when it was paid.
    pub customer_id: Option<CustomerId>,
    /// The one who may act, once he has proven that he reads mail there; `None` for whoever has the link.
    pub target_user_email: Option<String>,
    /// What the payer typed at his last valid submit.
    pub payer: Option<Payer>,
    /// The merchant's own data.
    pub metadata: Metadata,
    /// Everything that decides nothing.
    pub options: Options,
    /// The act of an escrow that the session is for; a session without one is for a payment.
    pub escrow: Option<EscrowTicket>,
    /// The payment, once one was started.
    pub payment_id: Option<PaymentId>,
    /// Charges tried so far, at most [`TRIES_MAX`].
    pub tries: u8,
    /// Events announced so far; numbers the next one.
    pub event_count: i32,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// The deadline.
    pub expires_at: DateTime<Utc>,
    /// When a browser first showed it.
    pub opened_at: Option<DateTime<Utc>>,
    /// When the money was there: at completion, or at the capture that the merchant chose to make later.
    pub paid_at: Option<DateTime<Utc>>,
}

/// What a transition announces. The payload is the session as it is afterwards.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SessionEvent {
    /// Made by the merchant.
    Created,
    /// First shown in a browser.
    Opened,
    /// One charge was declined.
    PaymentFailed,
    /// Paid, or ordered while the money is only reserved.
    Completed,
    /// The money of an order that was completed before was taken.
    AsyncPaymentSucceeded,
    /// The money of an order that was completed before was let go.
    AsyncPaymentFailed,
    /// Ran out of time.
    Expired,
    /// Given up.
    Cancelled,
    /// Ran out of tries.
    Failed,
}

impl SessionEvent {
    /// The event's type on the wire.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Created => "checkout.session.created",
            Self::Opened => "checkout.session.opened",
            Self::PaymentFailed => "checkout.session.payment_failed",
            Self::Completed => "checkout.session.completed",
            Self::AsyncPaymentSucceeded => "checkout.session.async_payment_succeeded",
            Self::AsyncPaymentFailed => "checkout.session.async_payment_failed",
            Self::Expired => "checkout.session.expired",
            Self::Cancelled => "checkout.session.cancelled",
            Self::Failed => "checkout.session.failed",
        }
    }
}

/// The next session and what to announce.
pub type Transition = (Session, Vec<SessionEvent>);

/// How a lifetime asked for by the merchant can be wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LifetimeError {
    /// Less than [`LIFETIME_MIN`] from now.
    TooShort,
    /// Beyond the ceiling.
    TooLong,
}

/// The deadline of a new session.
///
/// # Errors
/// [`LifetimeError`] when the asked-for deadline lies outside the bounds.
pub fn deadline(
    asked: Option<DateTime<Utc>>,
    lifetime_max: Duration,
    now: DateTime<Utc>,
) -> Result<DateTime<Utc>, LifetimeError> {
    let Some(asked) = asked else {
        return Ok(now + LIFETIME_DEFAULT.min(lifetime_max));
    };
    if asked < now + LIFETIME_MIN - LIFETIME_TOLERANCE {
        Err(LifetimeError::TooShort)
    } else if asked > now + lifetime_max + LIFETIME_TOLERANCE {
        Err(LifetimeError::TooLong)
    } else {
        Ok(asked)
    }
}

impl Session {
    /// Whether the merchant named the customer, and did not have him made of what the payer typed.
    pub fn is_for_known_customer(&self) -> bool {
        self.customer_id.is_some() && self.options.customer_creation.as_deref() != Some(CUSTOMER_ALWAYS)
    }

    /// Whether nobody may pay it without a whole billing address.
    pub fn wants_billing_address(&self) -> bool {
        self.options.billing_address_collection == Some(AddressCollection::Required)
    }

    /// Whether the payer may act at `now`: judged here, whether or not the sweep has been by.
    pub fn is_usable(&self, now: DateTime<Utc>) -> bool {
        self.state == State::Pending && now < self.expires_at
    }

    pub(super) fn must_be_usable(&self, now: DateTime<Utc>) -> Result<(), Refusal> {
        match self.state {
            State::Pending if now < self.expires_at => Ok(()),
            State::Pending => Err(Refusal::SessionPastDeadline),
            State::Processing => Err(Refusal::SessionProcessing),
            other => Err(Refusal::SessionNotOpen(other.name())),
        }
    }

    /// Notes that a browser has shown the session. Changes nothing else, because links are opened by
    /// mail scanners too; a session that was opened before, or has ended, is left alone.
    pub fn open(mut self, now: DateTime<Utc>) -> Option<Transition> {
        if self.opened_at.is_some() || !self.is_usable(now) {
            return None;
        }
        self.opened_at = Some(now);
        Some((self, vec![SessionEvent::Opened]))
    }

    /// Takes the session for one charge.
    ///
    /// # Errors
    /// Refused unless the session is usable.
    pub fn start_charge(mut self, payer: Payer, payment_id: PaymentId, now: DateTime<Utc>) -> Result<Self, Refusal> {
        self.must_be_usable(now)?;
        self.payer = Some(payer);
        self.payment_id = Some(payment_id);
        self.tries = self.tries.saturating_add(1);
        self.state = State::Processing;
        Ok(self)
    }

    /// The charge succeeded: the money is taken, or reserved when it is not paid yet. A payment that began in time completes the session even when its
    /// report comes after the deadline.
    ///
    /// # Errors
    /// Refused unless a charge is in flight; the caller must then give the money back.
    pub fn complete(mut self, is_paid: bool, now: DateTime<Utc>) -> Result<Transition, Refusal> {
        if self.state != State::Processing {
            return Err(Refusal::SessionNotOpen(self.state.name()));
        }
        self.paid_at = is_paid.then_some(now);
        self.state = State::Completed(now);
        Ok((self, vec![SessionEvent::Completed]))
    }

    /// The charge was declined: the payer may try again, unless the tries or the time are used up.
    ///
    /// # Errors
    /// Refused unless a charge is in flight.
    pub fn decline(mut self, now: DateTime<Utc>) -> Result<Transition, Refusal> {
        if self.state != State::Processing {
            return Err(Refusal::SessionNotOpen(self.state.name()));
        }
        let mut events = vec![SessionEvent::PaymentFailed];
        self.state = if self.tries >= TRIES_MAX {
            events.push(SessionEvent::Failed);
            State::Failed(now)
        } else if now >= self.expires_at {
            events.push(SessionEvent::Expired);
            State::Expired(now)
        } else {
            State::Pending
        };
        Ok((self, events))
    }

    /// Ends the session because its deadline has passed; `None` while it is not due, and while a
    /// payment is in flight, which settles first.
    pub fn expire_when_due(mut self, now: DateTime<Utc>) -> Option<Transition> {
        if self.state != State::Pending || now < self.expires_at {
            return None;
        }
        self.state = State::Expired(now);
        Some((self, vec![SessionEvent::Expired]))
    }

    /// Ends the session at the merchant's word.
    ///
    /// # Errors
    /// Refused unless the session is open and no payment is in flight.
    pub fn expire_by_merchant(mut self, now: DateTime<Utc>) -> Result<Transition, Refusal> {
        match self.state {
            State::Pending => {
                self.state = State::Expired(now);
                Ok((self, vec![SessionEvent::Expired]))
            }
            State::Processing => Err(Refusal::SessionProcessing),
            other => Err(Refusal::SessionNotOpen(other.name())),
        }
    }

    /// Ends the session at the payer's word.
    ///
    /// # Errors
    /// Refused unless the session is usable.
    pub fn cancel(mut self, now: DateTime<Utc>) -> Result<Transition, Refusal> {
        self.must_be_usable(now)?;
        self.state = State::Cancelled(now);
        Ok((self, vec![SessionEvent::Cancelled]))
    }

    /// The way back that belongs to the state, with the word that goes into `status`; `None` while
    /// the session is open, and where the merchant gave no URL for it.
    pub fn way_back(&self) -> Option<(&WayBack, &'static str)> {
        let ways = &self.ways_back;
        let (own, status) = match self.state {
            State::Pending | State::Processing => return None,
            State::Completed(_) => (&ways.success_url, "completed"),
            State::Cancelled(_) => (&ways.cancel_url, "cancelled"),
            // A shop that names only the two URLs of Stripe's API still gets its payer back, but never
            // on the page that says thank you.
            State::Expired(_) => (&ways.expired_url, "expired"),
            State::Failed(_) => (&ways.failed_url, "failed"),
        };
        let fallback = match self.state {
            State::Completed(_) => None,
            _ => ways.cancel_url.as_ref(),
        };
        own.as_ref().or(ways.return_url.as_ref()).or(fallback).map(|way| (way, status))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::money::Currency;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_700_000_000 + second, 0).expect("in range")
    }

    fn session(state: State, tries: u8) -> Session {
        Session {
            id: SessionId::generate(at(0), false),
            merchant_id: MerchantId::generate(at(0)),
            livemode: false,
            state,
            total: Money { minor: 1999, currency: Currency::parse("eur").expect("known") },
            subtotal_minor: 1999,
            lines: Vec::new(),
            ways_back: WaysBack::default(),
            client_reference_id: None,
            customer_email: None,
            customer_id: None,
            target_user_email: None,
            payer: None,
            metadata: Metadata::new(),
            options: Options::default(),
            escrow: None,
            payment_id: None,
            tries,
            event_count: 1,
            created_at: at(0),
            expires_at: at(60),
            opened_at: None,
            paid_at: None,
        }
    }

    fn states() -> [State; 6] {
        [
            State::Pending,
            State::Processing,
            State::Completed(at(1)),
            State::Expired(at(1)),
            State::Cancelled(at(1)),
            State::Failed(at(1)),
        ]
    }

    /// The whole lifecycle as one table: state, seconds after creation, request, outcome.
    #[test]
    fn the_lifecycle_is_this_table() {
        let mut table = String::new();
        for state in states() {
            for second in [59, 60] {
                let now = at(second);
                let payer = Payer { email: "a@b.example".into(), name: "A".into(), address: None };
                let mut row = |request: &str, outcome: String| {
                    let row = format!("{} {second} {request}: {outcome}", state.name().as_str());
                    table.push_str(row.trim_end());
                    table.push('\n');
                };
                let show = |result: Result<Transition, Refusal>| match result {
                    Ok((next, events)) => format!(
                        "{} {}",
                        next.state.name().as_str(),
                        events
                            .iter()
                            .map(|event| event.kind().rsplit('.').next().unwrap_or(""))
                            .collect::<Vec<_>>()
                            .join("+")
                    ),
                    Err(refusal) => refusal.code().to_owned(),
                };
                let fresh = || session(state, 1);
                row("open", fresh().open(now).map_or("-".into(), |next| show(Ok(next))));
                row(
                    "start",
                    show(fresh().start_charge(payer, PaymentId::generate(now), now).map(|next| (next, vec![]))),
                );
                row("complete", show(fresh().complete(true, now)));
                row("decline", show(fresh().decline(now)));
                row("decline-last", show(session(state, TRIES_MAX).decline(now)));
                row("due", fresh().expire_when_due(now).map_or("-".into(), |next| show(Ok(next))));
                row("expire", show(fresh().expire_by_merchant(now)));
                row("cancel", show(fresh().cancel(now)));
                row("act", show(fresh().complete_act(now)));
                row("fail", show(fresh().fail_act(now)));
            }
        }
        let expected = include_str!("session_lifecycle.txt");
        assert_eq!(table, expected, "the lifecycle differs from src/domain/session_lifecycle.txt; it is now:\n{table}");
    }

    #[test]
    fn a_deadline_lies_between_a_minute_and_the_ceiling() {
        let ceiling = Duration::hours(24);
        assert_eq!(deadline(None, ceiling, at(0)), Ok(at(30 * 60)));
        assert_eq!(deadline(Some(at(60)), ceiling, at(0)), Ok(at(60)));
        assert_eq!(deadline(Some(at(49)), ceiling, at(0)), Err(LifetimeError::TooShort));
        assert_eq!(deadline(Some(at(24 * 3600)), ceiling, at(0)), Ok(at(24 * 3600)));
        assert_eq!(deadline(Some(at(25 * 3600)), ceiling, at(0)), Err(LifetimeError::TooLong));
        assert_eq!(deadline(None, Duration::minutes(5), at(0)), Ok(at(300)));
    }

    #[test]
    fn only_a_completed_session_leads_to_the_success_url() {
        let url = |text: &str| Some(WayBack::from_stored(text.to_owned()));
        let all = WaysBack {
            success_url: url("https://s.example/s"),
            cancel_url: url("https://s.example/c"),
            return_url: url("https://s.example/r"),
            expired_url: url("https://s.example/e"),
            failed_url: url("https://s.example/f"),
        };
        let cases: [(WaysBack, [Option<&str>; 6]); 3] = [
            (all.clone(), [None, None, Some("s"), Some("e"), Some("c"), Some("f")]),
            (
                WaysBack { cancel_url: None, expired_url: None, failed_url: None, success_url: None, ..all.clone() },
                [None, None, Some("r"), Some("r"), Some("r"), Some("r")],
            ),
            (
                WaysBack { return_url: None, expired_url: None, failed_url: None, ..all },
                [None, None, Some("s"), Some("c"), Some("c"), Some("c")],
            ),
        ];
        for (ways, expected) in cases {
            for (state, expected) in states().into_iter().zip(expected) {
                let mut session = session(state, 1);
                session.ways_back = ways.clone();
                let way =
                    session.way_back().map(|(way, _)| way.as_str().rsplit('/').next().unwrap_or_default().to_owned());
                assert_eq!(way.as_deref(), expected, "{state:?}");
            }
        }
    }
}
