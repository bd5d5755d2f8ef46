//! What the last page of an act says: what happened, whether money moved, what happens next.
//!
//! The rule: an act that moved money says how much and to whom, as far as it is known; every other end
//! says that nothing was moved.

use super::views::Outcome;
use crate::domain::escrow::{Act, Actor, Escrow, Mode, Status};

/// The words of one end.
pub struct Told {
    /// What happened, in one line.
    pub heading: String,
    /// What happened, in a sentence.
    pub lead: String,
    /// Whether money moved.
    pub money: String,
    /// What happens next.
    pub next: String,
}

fn words(heading: &str, lead: impl Into<String>, money: impl Into<String>, next: impl Into<String>) -> Told {
    Told { heading: heading.to_owned(), lead: lead.into(), money: money.into(), next: next.into() }
}

/// What to say of a session that has ended.
#[allow(clippy::too_many_arguments, reason = "one sentence each depends on every one of them")]
pub fn told(
    act: Act,
    party: Actor,
    outcome: Outcome,
    escrow: &Escrow,
    total: &str,
    status: &str,
    tries_are_used: bool,
    merchant: &str,
) -> Told {
    const NOTHING: &str = "No money was moved.";
    match outcome {
        Outcome::Completed => done(act, party, escrow, total, merchant),
        Outcome::Processing => words(
            "We are checking your payment",
            "Your bank has not given its answer yet.",
            "We do not know yet whether the money was taken.",
            "You need not do anything. Do not pay a second time.",
        ),
        Outcome::Expired => words(
            "This link has run out of time",
            "The link worked for a short time only, and nothing was done with it.",
            NOTHING,
            format!("If you still want to go on, ask {merchant} for a new link."),
        ),
        Outcome::Withdrawn => words(
            "This link was withdrawn",
            format!("{merchant} has closed the link, and nothing was done with it."),
            NOTHING,
            format!("If you still want to go on, ask {merchant} for a new link."),
        ),
        Outcome::Cancelled => words(
            "You left without doing it",
            "Nothing was done. The link does not work any more.",
            NOTHING,
            format!("If you change your mind, ask {merchant} for a new link."),
        ),
        Outcome::Failed if tries_are_used => words(
            "The payment did not go through",
            "All tries were used, so this link does not work any more.",
            NOTHING,
            format!("You can ask {merchant} for a new link and use another card."),
        ),
        Outcome::Failed => words(
            "This could not be done any more",
            format!("The deal has moved on since this link was made. It is now: {status}."),
            "Nothing was done and no money was moved by this page.",
            format!("Go back to {merchant} to see what is possible now."),
        ),
    }
}

/// Whether money that was to go back did not: nothing to congratulate on.
pub fn is_stuck(escrow: &Escrow) -> bool {
    escrow.state.status() == Status::RefundFailed
}

fn back(escrow: &Escrow, total: &str, to: &str) -> String {
    match escrow.state.status() {
        Status::RefundFailed => format!("{total} could not be given back yet. It stays held until that is settled."),
        Status::Cancelled => format!("{total} went back to {to}. Banks can need some days to show it."),
        _ => format!("{total} is going back to {to}. We repeat it by ourselves until the bank has answered."),
    }
}

fn done(act: Act, party: Actor, escrow: &Escrow, total: &str, merchant: &str) -> Told {
    const STAYS: &str = "No money was moved.";
    match act {
        Act::SignContract => {
            let both = escrow.has_signed(Actor::Buyer) && escrow.has_signed(Actor::Seller);
            let next = match (both, party) {
                (true, Actor::Buyer) => format!("Both sides have signed. {merchant} leads you on to pay."),
                (true, _) => "Both sides have signed. The buyer can pay now.".to_owned(),
                (false, Actor::Buyer) => "You can pay as soon as the seller has signed too.".to_owned(),
                (false, _) => "The buyer can pay as soon as he has signed too.".to_owned(),
            };
            let hash = escrow.contract.as_ref().map(|contract| hex::encode(contract.sha256)).unwrap_or_default();
            words("Contract signed", format!("Your name is under the contract (SHA-256 {hash})."), STAYS, next)
        }
        Act::AcceptPay => {
            let next = if escrow.mode == Mode::Instant {
                format!("{merchant} gets the money when it has delivered.")
            } else {
                "The seller delivers next. The money is released when you say that all is well, or when the time for \
                 inspection after the delivery is over."
                    .to_owned()
            };
            words(
                "Payment complete",
                format!("You have accepted the deal, and {merchant} holds the money."),
                format!("{total}: paid, held, and not yet released."),
                next,
            )
        }
        Act::Complete => words(
            "The deal is done",
            "You said that all is well.",
            format!("{total} was released to the seller, less any fee that {merchant} keeps."),
            "There is nothing left to do.",
        ),
        Act::Dispute => words(
            "Dispute opened",
            if escrow.mode == Mode::Instant {
                "The deal waits for a decision."
            } else {
                "The clock of the inspection stands still."
            },
            format!("{total} stays where it is until there is a decision."),
            format!("{merchant} looks at what both sides say and decides."),
        ),
        Act::RequestCancellation => words(
            "Cancellation asked for",
            if escrow.mode == Mode::Instant {
                format!("{merchant} is asked to give the deal up.")
            } else {
                "The seller is asked to give the deal up. The clock of the inspection stands still.".to_owned()
            },
            format!("{total} stays where it is until the seller has answered."),
            if escrow.mode == Mode::Instant {
                format!("{merchant} answers.")
            } else {
                "The seller answers.".to_owned()
            },
        ),
        Act::RejectCancellation => words(
            "Cancellation rejected",
            "The deal goes on from where it stood.",
            STAYS,
            format!("{merchant} tells the buyer. The clock of the inspection runs on, if the delivery was made."),
        ),
        _ if is_stuck(escrow) => words(
            "Given up, but the money did not go back",
            "You gave the deal up. The bank refuses to give the money back.",
            back(escrow, total, "the buyer"),
            format!("{merchant} decides how it goes on and tells you and the buyer. You need not do anything."),
        ),
        Act::AcceptCancellation => words(
            "Cancellation accepted",
            "The deal is given up.",
            back(escrow, total, "the buyer"),
            "There is nothing left for you to do.",
        ),
        _ => words(
            "Deal cancelled",
            "You gave the deal up.",
            back(escrow, total, "the buyer"),
            format!("{merchant} tells the buyer. There is nothing left for you to do."),
        ),
    }
}
