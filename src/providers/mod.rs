//! Those who move money, behind one trait; they know cards and money, and none of our tables.
//!
//! Rule: *declined* (certainly nothing was taken) and *unknown* (nobody can say) are never mixed
//! up, and a word that a provider says and we do not know is *pending*. Our charge id is the
//! provider's idempotency key. When to ask again, void or refund is decided by the operations.

use std::time::Duration;

use async_trait::async_trait;

pub use crate::domain::billing::BillingDetails;
use crate::domain::card::{CardFunding, DeclineReason};
pub use crate::domain::charge_facts::{
    AuthenticationFlow, AuthenticationResult, CardChecks, CheckResult, Facts, RiskLevel, ThreeDSecure,
};
pub use crate::domain::decline::DeclineKind;
pub use crate::domain::dispute::{DisputeNews, DisputeStatus, Evidence};
use crate::domain::money::{Currency, Money};
use crate::domain::payment_method::FutureUsage;
use crate::vault::VaultToken;

pub use reference::{ChargeRef, NotRemembered, ReferenceKeeper};
pub use registry::{DuplicateProvider, Registry};

pub mod breaker;
mod reference;
pub mod registry;
pub mod simulator;
pub mod simulator_acs;
pub mod simulator_cards;
mod simulator_disputes;
mod simulator_entry;
pub mod simulator_faults;
mod simulator_ledger;
pub mod stripe;
pub mod test_cards;

/// How long a caller waits for [`Provider::charge`] before it treats the outcome as unknown. The
/// caller applies it: banks answer within seconds, and a payer does not look at a turning wheel
/// for longer.
pub const CHARGE_TIMEOUT: Duration = Duration::from_secs(20);

/// What a payer may answer his bank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChallengeAnswer {
    /// It is he.
    Approve,
    /// He could not prove it.
    Fail,
    /// He gave up.
    Cancel,
}

/// One company that can take money from a card and give it back.
///
/// Every call may be repeated. None returns an error: what goes wrong is part of the answer,
/// because the caller must do something different for each kind of wrong.
#[async_trait]
pub trait Provider: Send + Sync {
    /// The name under which charges remember their provider. Never changes.
    fn name(&self) -> &str;

    /// What this provider can do.
    fn capabilities(&self) -> Capabilities;

    /// What the provider knows of the issuer of cards that begin with these six digits.
    fn issuer_facts(&self, _bin: &str) -> IssuerFacts {
        IssuerFacts::default()
    }

    /// Takes the money, or reserves it under [`Capture::Manual`]. The same charge id twice gives the
    /// first result and takes nothing. The card leaves the vault at once and is wiped when the call
    /// ends, however it ends.
    ///
    /// Where the payer's bank wants to ask him, the answer is [`Report::RequiresAction`]: he goes to
    /// its URL, comes back to [`ChargeRequest::return_url`] or does not, and only
    /// [`look_up`](Provider::look_up) says what became of the charge.
    ///
    /// A provider that can be asked about a charge only by an id of its own has the keeper remember that
    /// id before it does what can take money, and does not do it when that fails.
    async fn charge(&self, request: ChargeRequest, keeper: &dyn ReferenceKeeper) -> Report;

    /// Asks what became of a charge.
    async fn look_up(&self, charge: &ChargeRef) -> LookUp;

    /// Takes reserved money, all or part of it, once; what is left is released. The same amount
    /// again gives the first result and takes nothing more; another amount takes nothing and tells what was taken.
    async fn capture(&self, charge: &ChargeRef, money: Money) -> CaptureReport;

    /// Makes sure that no money is held for a charge, whether it was made, is on its way, or was
    /// never made: a charge that arrives after its void is refused.
    async fn void(&self, charge: &ChargeRef) -> Reversal;

    /// Gives money back for a charge that was made. The same refund id twice gives the first
    /// result and returns nothing more.
    async fn refund(&self, request: RefundRequest) -> Reversal;

    /// Asks how a refund stands that was made: its money may come back long after it went. Moves nothing.
    async fn look_up_refund(&self, _charge: &ChargeRef, _refund_id: &str) -> RefundLookUp {
        RefundLookUp::Stands
    }

    /// Asks how a dispute of that charge stands, by the provider's own name for it.
    async fn look_up_dispute(&self, _charge: &ChargeRef, _dispute: &str) -> DisputeLookUp {
        DisputeLookUp::NotFound
    }

    /// Hands evidence to the bank, and tells how the dispute stands then. May be repeated, like every call.
    async fn submit_evidence(&self, _charge: &ChargeRef, _dispute: &str, _evidence: &Evidence) -> DisputeLookUp {
        DisputeLookUp::NotFound
    }

    /// Accepts a dispute, which loses it, and tells how it stands then.
    async fn close_dispute(&self, _charge: &ChargeRef, _dispute: &str) -> DisputeLookUp {
        DisputeLookUp::NotFound
    }

    /// Disputes in the payer's place, where a simulated company can be told to. The same key again opens
    /// nothing more. Gives the company's name for it; none where so much is not left. No real company has such a
    /// call.
    async fn open_dispute(&self, _request: DisputeRequest) -> Option<String> {
        None
    }

    /// Word of disputes that waits to be taken in, for a company that sends no messages: at most so much as the
    /// company likes to tell at once.
    async fn unheard_disputes(&self) -> Vec<UnheardDispute> {
        Vec::new()
    }

    /// Takes note that word of a dispute was taken in.
    async fn dispute_heard(&self, _dispute: &str) {}

    /// Answers the bank in the payer's place, where a simulated company can be told to. Gives whether this answer
    /// counted. No real company has such a call.
    async fn answer_challenge(&self, _charge_id: &str, _answer: ChallengeAnswer) -> bool {
        false
    }

    /// Reads a message that the provider sent us of its own accord. It says only *which* charge to
    /// look up: whatever else a message claims is not believed, since messages come late, twice, out
    /// of order, and for the stage before last.
    ///
    /// # Errors
    /// [`CallbackError`], each with its own answer to the sender.
    fn read_callback(&self, headers: &[(String, String)], body: &[u8]) -> Result<Callback, CallbackError>;
}

/// What a provider can do, as data, so that nobody has to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Moves real money.
    pub livemode: bool,
    /// Plays with test cards.
    pub testmode: bool,
    /// A void that comes before its charge keeps that charge from happening.
    pub void_in_advance: bool,
    /// Has its reference remembered before it does what can take money: a charge without one has taken
    /// nothing, and takes nothing once it is closed here.
    pub reference_first: bool,
    /// Refunds of less than the whole.
    pub partial_refund: bool,
    /// Reserves money first and takes all or part of it later.
    pub manual_capture: bool,
    /// Has payers authenticated by their banks.
    pub three_d_secure: bool,
    /// Tells of disputes, and takes answers to them.
    pub disputes: bool,
    /// Sends messages that [`Provider::read_callback`] reads.
    pub callbacks: bool,
    /// What it takes money in.
    pub currencies: Currencies,
    /// Hours for which the provider remembers a charge id as idempotency key; after that a charge
    /// may only be looked up. `None` means for ever.
    pub idempotency_hours_max: Option<u32>,
}

/// The currencies of a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Currencies {
    /// Every one that we know.
    All,
    /// These, as ISO 4217 codes in lower case.
    Only(&'static [&'static str]),
}

impl Currencies {
    /// Whether that one is among them.
    pub fn contain(self, currency: Currency) -> bool {
        match self {
            Currencies::All => true,
            Currencies::Only(codes) => codes.contains(&currency.code()),
        }
    }
}

/// What is known of a card's issuer; empty where the provider does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IssuerFacts {
    /// Credit, debit or prepaid.
    pub funding: Option<CardFunding>,
    /// ISO 3166-1 alpha-2, upper case.
    pub country: Option<String>,
}

/// A charge to be made.
#[derive(Clone, Debug)]
pub struct ChargeRequest {
    /// Our id of the charge (`ch_…`), and the provider's idempotency key.
    pub charge_id: String,
    /// How much, in minor units; above zero.
    pub money: Money,
    /// What the money is taken from.
    pub source: Source,
    /// What the payer said of himself, for the bank to compare.
    pub billing: BillingDetails,
    /// Whether the provider is to remember the card, and for what. One that does says under which
    /// reference: [`Facts::reusable_reference`].
    pub keep_for: Option<FutureUsage>,
    /// For the merchant's overview at the provider.
    pub description: Option<String>,
    /// Whether real money is meant.
    pub livemode: bool,
    /// Whether the money is taken now or reserved.
    pub capture: Capture,
    /// Whether the payer must prove who he is.
    pub authentication: Authentication,
    /// Where his browser comes back to after that: absolute, by GET or POST, perhaps twice, perhaps
    /// without cookies, perhaps never.
    pub return_url: String,
    /// Who is paid, as the payer's statement and his bank's question have it.
    pub statement_descriptor: Option<String>,
}

/// What the money of a charge is taken from.
#[derive(Clone, Debug)]
pub enum Source {
    /// A card that was typed: opens the vault, once.
    Card(VaultToken),
    /// A card that this very provider remembers: its [`Facts::reusable_reference`] of an earlier charge.
    /// It means nothing to any other provider, so such a charge never goes to another one.
    Saved {
        /// The provider's own name for the card.
        reference: String,
    },
}

impl Source {
    /// Opens the vault, where the card was typed.
    pub fn token(&self) -> Option<&VaultToken> {
        match self {
            Source::Card(token) => Some(token),
            Source::Saved { .. } => None,
        }
    }
}

/// When the money of a charge is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Capture {
    /// At once.
    #[default]
    Automatic,
    /// Reserved now; [`Provider::capture`] takes it.
    Manual,
}

/// Whether the payer must prove to his bank that it is he (3-D Secure).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Authentication {
    /// Where the bank or the law wants it.
    #[default]
    WhenRequired,
    /// Wherever the card can. One that cannot goes on without, and the facts say so
    /// ([`AuthenticationResult::NotSupported`]); one whose bank is satisfied without asking counts.
    Always,
}

/// Money to be given back.
#[derive(Clone, Debug)]
pub struct RefundRequest {
    /// Our id of the refund (`re_…`), and the provider's idempotency key.
    pub refund_id: String,
    /// The charge to give back from.
    pub charge: ChargeRef,
    /// How much; at most what was charged and not yet given back.
    pub money: Money,
}

/// What became of a charge, as far as the provider says. `reference` is the provider's own id.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Report {
    /// The money was taken. After a capture this stands for what was captured; how much that was is
    /// known to who asked for it.
    Succeeded {
        /// The provider's id.
        reference: String,
        /// What was learnt beside.
        facts: Facts,
    },
    /// The money is reserved and not taken.
    Authorized {
        /// The provider's id.
        reference: String,
        /// What was learnt beside.
        facts: Facts,
    },
    /// The payer's bank wants to ask him. Nothing was taken; nothing will be unless he answers.
    RequiresAction {
        /// The provider's id.
        reference: String,
        /// Where to send the payer's browser, by GET.
        redirect_url: String,
    },
    /// The money was certainly not taken, and will not be.
    Declined {
        /// Why.
        reason: DeclineReason,
        /// The provider's id, where the attempt got one.
        reference: Option<String>,
        /// What was learnt beside.
        facts: Facts,
    },
    /// The charge was voided or wholly refunded, or refused because its void came first: the
    /// provider holds no money for it, and will not.
    Reversed {
        /// The provider's id.
        reference: String,
    },
    /// The provider has it and has not decided, or said a word that we do not know. Ask again.
    Pending {
        /// The provider's id, where it gave one.
        reference: Option<String>,
    },
    /// Timed out, cut off, or a failure of the provider's server: the money may have been taken.
    /// Only a look-up can tell; never charge under another id instead.
    Unknown {
        /// What happened, for the log.
        detail: String,
    },
    /// The provider could not be reached, and not one byte of the charge was sent: it was certainly
    /// not taken, and another provider may be asked. Only ever the answer of [`Provider::charge`];
    /// a call that may have begun to send is [`Unknown`](Report::Unknown).
    Unavailable {
        /// What happened, for the log.
        detail: String,
    },
}

/// The answer to a look-up.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum LookUp {
    /// The provider knows the charge.
    Found(Report),
    /// The provider does not know it *now*. A request may still be on its way: only a void makes
    /// this final.
    NotFound,
    /// The provider did not answer; the cause is in the log.
    Unknown,
}

/// What became of a capture.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum CaptureReport {
    /// The amount was taken, by this call or an earlier one of the same amount.
    Captured {
        /// The provider's id.
        reference: String,
        /// Minor units that the provider keeps of it, where it says so.
        fee: Option<i64>,
    },
    /// Another amount was taken than was asked for: by an earlier call, or past this gateway, in the provider's own
    /// overview. It is what the money's owner sees, so it is what is booked.
    TakenOtherwise {
        /// The provider's id.
        reference: String,
        /// Minor units that were taken; what was reserved beyond them is let go.
        amount: i64,
        /// Minor units that the provider keeps of it, where it says so.
        fee: Option<i64>,
    },
    /// Nothing was taken, and repeating the call does not help: the reservation is smaller, or was voided, or
    /// expired, or never was. Only a void makes sure that nothing is held.
    Refused {
        /// Why, for the log.
        detail: String,
    },
    /// Nobody can say whether it happened. Repeat it.
    Unknown {
        /// What happened, for the log.
        detail: String,
    },
}

/// The answer about a dispute.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum DisputeLookUp {
    /// So it stands.
    Found(DisputeNews),
    /// The charge has no such dispute.
    NotFound,
    /// Nobody can say. Ask again.
    Unknown {
        /// What happened, for the log.
        detail: String,
    },
}

/// A dispute to be opened in the payer's place.
#[derive(Clone, Debug)]
pub struct DisputeRequest {
    /// The charge.
    pub charge: ChargeRef,
    /// Makes it the same request when it comes again.
    pub key: String,
    /// Minor units; all that is left unless given.
    pub amount: Option<i64>,
    /// One of [`crate::domain::dispute::REASONS`].
    pub reason: String,
}

/// Word of a dispute that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnheardDispute {
    /// Our id of the charge.
    pub charge_id: String,
    /// The provider's name for the dispute.
    pub reference: String,
}

/// A provider's message, as far as it is believed. What it names may be anybody's, or nobody's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Callback {
    /// Look up this charge.
    Charge {
        /// Our id of it.
        charge_id: String,
    },
    /// Look up this refund.
    Refund {
        /// Our id of the charge.
        charge_id: String,
        /// Under which we asked for it, as in [`RefundRequest::refund_id`].
        refund_id: String,
    },
    /// Look up this dispute.
    Dispute {
        /// The provider's name for the charge, as in [`ChargeRef::reference`].
        charge_reference: String,
        /// The provider's name for the dispute.
        reference: String,
    },
}

/// Why a message was not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallbackError {
    /// This provider sends none.
    #[error("this provider sends no callbacks")]
    NotSupported,
    /// The signature is absent, wrong or too old; it may be anybody's. Answer with a refusal.
    #[error("the callback is not signed by the provider")]
    NotAuthentic,
    /// The signature is right and the body is not what the provider's documents say. Answer with a
    /// refusal, so that the provider shows it to its operators.
    #[error("the callback is signed and cannot be read")]
    Malformed,
    /// It is about nothing of ours. Answer as if it were taken in, else it is sent again.
    #[error("the callback is about none of our charges")]
    Unrelated,
}

/// How a refund stands.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum RefundLookUp {
    /// The money went to the payer, or is on its way.
    Stands,
    /// It did not reach the payer and is on the account again.
    CameBack {
        /// Minor units.
        amount: i64,
        /// Stripe's word, such as `lost_or_stolen_card`.
        reason: &'static str,
    },
    /// The provider knows no such refund, or cannot be asked.
    Unknown {
        /// What happened, for the log.
        detail: String,
    },
}

/// What became of a void or a refund.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Reversal {
    /// The money went back.
    Done {
        /// The provider's id of the reversal or of the charge.
        reference: String,
    },
    /// No money moved, because the provider holds none for this charge, or less than was asked for.
    NothingToReverse,
    /// Nobody can say whether it happened. Repeat it.
    Unknown {
        /// What happened, for the log.
        detail: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_provider_knows_its_currencies() {
        let [eur, usd] = ["eur", "usd"].map(|code| Currency::parse(code).expect("a known currency"));
        assert!(Currencies::All.contain(usd) && Currencies::Only(&["eur"]).contain(eur));
        assert!(!Currencies::Only(&["eur"]).contain(usd));
    }
}
