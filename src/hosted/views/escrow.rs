//! What the pages of an escrow's acts show.
//!
//! Rule: as in the other views, plain owned values that arrive formatted. One template holds the parts
//! that all acts share (the deal, its timeline, what the act does and what cannot be undone); which
//! fields it shows follows from the act. No file and no card is ever held here.

use askama::Template;

use super::{Moment, Outcome, PageFrame, TimeLeft, WayBack, initial};
use crate::domain::escrow::{Act, DISPUTE_REASONS};

/// One station of an escrow's life.
#[derive(Clone, Debug)]
pub struct Station {
    /// What it is called.
    pub label: String,
    /// When it was reached; `None` while it is ahead.
    pub at: Option<Moment>,
    /// Whether the escrow stands here.
    pub is_now: bool,
}

/// The escrow as its two sides see it.
#[derive(Clone, Debug)]
pub struct Deal {
    /// What it is about.
    pub title: String,
    /// What the buyer pays, formatted.
    pub amount: String,
    /// What the merchant keeps of it on release, formatted; `None` where he keeps nothing.
    pub fee: Option<String>,
    /// Until delivery, as it is estimated, while that lies ahead.
    pub delivery: Option<String>,
    /// For inspection after the delivery, where there is one.
    pub inspection: Option<String>,
    /// The contract, to be unfolded; `None` without one and where it stands in full on the page.
    pub contract: Option<ContractShown>,
    /// Whether there is a seller beside the merchant.
    pub has_seller: bool,
    /// The buyer's address.
    pub buyer: String,
    /// The seller's address, or the merchant's name where he is the seller.
    pub seller: String,
    /// Which of the two reads this: `buyer` or `seller`.
    pub reader: &'static str,
    /// Where it stands, in words.
    pub status: String,
    /// When it completes by itself.
    pub completes_at: Option<Moment>,
    /// What the other side wrote, with who and about what: a reason, a note.
    pub said: Vec<(String, String)>,
    /// Its life.
    pub stations: Vec<Station>,
}

/// A field of an act's form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActField {
    /// The name under the contract.
    Name,
    /// The box that says yes to the contract.
    Consent,
    /// What a dispute is about.
    Reason,
    /// A reason in one's own words.
    Text,
    /// Files with a dispute.
    Files,
}

impl ActField {
    /// The field's `name` in the form and its `id` on the page.
    pub fn name(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Consent => "consent",
            Self::Reason => "reason",
            Self::Text => "text",
            Self::Files => "files",
        }
    }
}

/// Something to put right in one field.
#[derive(Clone, Debug)]
pub struct ActError {
    /// Which field.
    pub field: ActField,
    /// What to do.
    pub message: String,
}

/// What was typed, to be shown again.
#[derive(Clone, Debug, Default)]
pub struct ActTyped {
    /// The name under the contract.
    pub name: String,
    /// What the dispute is about.
    pub reason: String,
    /// A reason in one's own words.
    pub text: String,
}

/// The contract as it is signed.
#[derive(Clone, Debug)]
pub struct ContractShown {
    /// The exact text.
    pub text: String,
    /// SHA-256 of it, in hexadecimal.
    pub sha256: String,
}

/// The page of an act that takes no card, `GET /c/{token}` of an open session for it.
#[derive(Clone, Template)]
#[template(path = "hosted/act.html")]
pub struct ActView {
    /// Language, mode and assets.
    pub frame: PageFrame,
    /// Whose gateway it is.
    pub merchant_name: String,
    /// The deal.
    pub deal: Deal,
    /// The act.
    pub act: Act,
    /// The contract in full, when it is to be signed.
    pub contract: Option<ContractShown>,
    /// What was typed before.
    pub typed: ActTyped,
    /// What to put right.
    pub errors: Vec<ActError>,
    /// Time until the link expires.
    pub time_left: TimeLeft,
    /// Path that the form posts to, `/c/{token}/act`.
    pub act_path: String,
    /// Path of the page that asks about leaving, `/c/{token}/cancel`.
    pub cancel_path: String,
    /// Token that ties the form to this browser.
    pub csrf_token: String,
    /// Session id to quote to support.
    pub reference: String,
}

impl ActView {
    fn error_for(&self, field: ActField) -> Option<&str> {
        self.errors.iter().find(|error| error.field == field).map(|error| error.message.as_str())
    }

    fn merchant_initial(&self) -> String {
        initial(&self.merchant_name)
    }

    /// Whether the act takes something from somebody: its button does not shine like the one that releases.
    fn is_grave(&self) -> bool {
        matches!(self.act, Act::Dispute | Act::AcceptCancellation | Act::RejectCancellation | Act::CancelEscrow)
    }

    fn reasons(&self) -> [(&'static str, &'static str); 5] {
        const WORDS: [&str; 5] =
            ["It was not delivered", "It is not as described", "It is damaged", "We cannot agree", "Something else"];
        std::array::from_fn(|place| (DISPUTE_REASONS[place], WORDS[place]))
    }
}

/// Why an act is not possible as the escrow stands now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WrongMoment {
    /// This side has signed.
    AlreadySigned,
    /// The other side has to sign first.
    NotSignedYet,
    /// A payment is in flight elsewhere.
    PaymentInFlight,
    /// The escrow has moved on.
    MovedOn,
    /// The buyer disputes the payment at his bank, which has not decided.
    AtBank,
    /// The bank has decided for the buyer.
    LostAtBank,
}

/// The page of an act at the wrong moment.
#[derive(Clone, Template)]
#[template(path = "hosted/act_wrong_moment.html")]
pub struct WrongMomentView {
    /// Language, mode and assets.
    pub frame: PageFrame,
    /// Whose gateway it is.
    pub merchant_name: String,
    /// The deal.
    pub deal: Deal,
    /// Why.
    pub moment: WrongMoment,
    /// Path that the button posts to, which ends the session; `None` where waiting helps.
    pub act_path: Option<String>,
    /// Path of this page.
    pub page_path: String,
    /// Token that ties the form to this browser.
    pub csrf_token: String,
    /// Session id to quote to support.
    pub reference: String,
}

impl WrongMomentView {
    fn merchant_initial(&self) -> String {
        initial(&self.merchant_name)
    }
}

/// The page of a session for an act that shows no form any more.
#[derive(Clone, Template)]
#[template(path = "hosted/act_outcome.html")]
pub struct ActOutcomeView {
    /// Language, mode and assets.
    pub frame: PageFrame,
    /// Whose gateway it is.
    pub merchant_name: String,
    /// What happened to the session.
    pub outcome: Outcome,
    /// What happened, in one line.
    pub heading: String,
    /// What happened, in a sentence.
    pub lead: String,
    /// Whether money moved.
    pub money: String,
    /// What happens next.
    pub next: String,
    /// What the escrow is about; `None` for a browser that has not proven itself.
    pub title: Option<String>,
    /// When it happened.
    pub happened_at: Option<Moment>,
    /// The way back; `None` says that the page can be closed.
    pub way_back: Option<WayBack>,
    /// Where the merchant helps; `None` where he has not said.
    pub support_email: Option<String>,
    /// Session id to quote to support.
    pub reference: String,
}

impl ActOutcomeView {
    fn merchant_initial(&self) -> String {
        initial(&self.merchant_name)
    }
}
