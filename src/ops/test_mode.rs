//! What a payer and time would do, at the word of a merchant's test: pay, be declined, answer the
//! bank, run out of time.
//!
//! The rule: nothing here settles anything by itself. Each goes through the operation that a payer,
//! his bank or the sweep would set off, so charges, ledger and events are what they would be. Only
//! objects of test mode are touched; the door refuses live keys, and the simulator live charges.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::fraud::Circumstances;
use super::payments::{self, Try, provider_of};
use super::replay::{Answer, Write};
use super::sessions::{self, save_transition};
use super::{doubts, to_the_end};
use crate::app::App;
use crate::domain::card::DeclineReason;
use crate::domain::payment::{Charge, ChargeFailure, ChargeState};
use crate::domain::refusal::Refusal;
use crate::domain::session::{Payer, Session, State};
use crate::error::{CardRefusal, Error, Result};
pub use crate::providers::ChallengeAnswer;
use crate::providers::test_cards;
use crate::store;
use crate::wire::Expand;

/// Characters of an attempt's key as it is stored, the length of those that the hosted page makes.
const ATTEMPT_KEY_LENGTH: usize = 32;

/// A payer's try without a browser.
#[derive(Debug)]
pub struct Rehearsal {
    /// A word or the number of a published test card.
    pub card: String,
    /// The parameter that named the card.
    pub param: &'static str,
    /// The payer's address, unless the session has one.
    pub email: String,
    /// Whether a card that is declined is what was asked for.
    pub is_to_be_declined: bool,
}

/// The same request again names the same attempt, so that a retry after a lost answer charges nothing.
pub(super) fn attempt_key(write: &Write) -> String {
    let Some(idempotency) = &write.idempotency else { return hex::encode(rand::random::<[u8; 16]>()) };
    let named = Sha256::new()
        .chain_update(b"test mode\n")
        .chain_update(&idempotency.route)
        .chain_update(b"\n")
        .chain_update(&idempotency.key);
    let mut key = hex::encode(named.finalize());
    key.truncate(ATTEMPT_KEY_LENGTH);
    key
}

/// Pays a session with a test card, as its payer would on the page.
///
/// # Errors
/// `NotFound`, `Invalid` for a card that is no test card, `Refused` unless the session is usable, `Declined` for a
/// card whose bank says no, and those of the idempotency key.
pub async fn pay(app: &Arc<App>, write: &Write, id: &str, rehearsal: Rehearsal, expand: &Expand) -> Result<Answer> {
    if let Some(earlier) = write.earlier_answer(app).await? {
        return Ok(earlier);
    }
    let session = sessions::find(app, &write.caller, id).await?;
    let card = test_cards::find(&rehearsal.card).ok_or_else(|| not_a_test_card(rehearsal.param))?;
    let payer = Payer {
        email: session.customer_email.clone().unwrap_or(rehearsal.email),
        name: test_cards::HOLDER_NAME.to_owned(),
        address: None,
    };
    let card = test_cards::typed(card, app.clock.now().date_naive());
    match payments::pay(app, session.id.clone(), payer, card, attempt_key(write), Circumstances::default()).await? {
        Try::Refused(refusal) => Err(refusal.into()),
        Try::Declined(failure) if !rehearsal.is_to_be_declined => Err(Error::Declined(Box::new(refusal_of(failure)))),
        Try::Paid | Try::Authenticate | Try::Declined(_) | Try::InDoubt => keep(app, write, id, expand).await,
    }
}

fn not_a_test_card(param: &'static str) -> Error {
    let known: Vec<&str> = if param == "decline_code" {
        test_cards::decline_words()
    } else {
        test_cards::WORDS.iter().map(|(word, _)| *word).chain(test_cards::decline_words()).collect()
    };
    let message = format!("`{param}` must be a published test card's number, or one of {}.", known.join(", "));
    Error::invalid("parameter_invalid_value", param, message)
}

/// Whether a test card is declined at once for this reason.
pub fn is_decline_code(word: &str) -> bool {
    DeclineReason::from_word(word).and_then(test_cards::declined_for).is_some()
}

/// The refusal of a reason that no test card has.
pub fn no_such_decline() -> Error {
    let message = format!("`decline_code` must be one of {}.", test_cards::decline_words().join(", "));
    Error::invalid("parameter_invalid_value", "decline_code", message)
}

/// The merchant is told the whole reason: it is his test.
fn refusal_of(failure: ChargeFailure) -> CardRefusal {
    let reason = DeclineReason::ALL
        .into_iter()
        .find(|reason| reason.code() == failure.code && reason.decline_code() == failure.decline_code.as_deref())
        .unwrap_or(DeclineReason::GenericDecline);
    CardRefusal { code: reason.code(), decline_code: reason.decline_code(), param: None, message: failure.message }
}

/// Answers the bank in the payer's place and takes in what follows from it, as when the payer comes back.
///
/// # Errors
/// `NotFound`, `Refused` unless the bank waits for an answer, and those of the idempotency key.
pub async fn authenticate(
    app: &Arc<App>,
    write: &Write,
    id: &str,
    answer: ChallengeAnswer,
    expand: &Expand,
) -> Result<Answer> {
    if let Some(earlier) = write.earlier_answer(app).await? {
        return Ok(earlier);
    }
    let session = sessions::find(app, &write.caller, id).await?;
    let charge = asked(app, &session).await?;
    let inside = Arc::clone(app);
    to_the_end(app, async move {
        // An answer that comes too late changes nothing at the bank; what counts is what the bank says now.
        provider_of(&inside, &charge)?.answer_challenge(charge.id.as_str(), answer).await;
        doubts::look_up(&inside, &charge, inside.clock.now()).await
    })
    .await?;
    keep(app, write, id, expand).await
}

/// The charge whose payer is being asked by his bank.
async fn asked(app: &App, session: &Session) -> Result<Charge> {
    if session.state.ended_at().is_some() {
        return Err(Refusal::SessionNotOpen(session.state.name()).into());
    }
    match sessions::latest_charge(app, &session.id).await? {
        Some(charge) if matches!(charge.state, ChargeState::RequiresAction { .. }) => Ok(charge),
        _ => Err(Refusal::NobodyAsked.into()),
    }
}

/// Moves the session's deadline to now and ends it as the sweep does.
///
/// # Errors
/// `NotFound`, `Refused` unless it is open and no payment is in flight, and those of the idempotency key.
pub async fn run_out_of_time(app: &App, write: &Write, id: &str, expand: &Expand) -> Result<Answer> {
    let session_id = sessions::find(app, &write.caller, id).await?.id;
    write
        .once(app, async |connection, now| {
            let mut session = payments::lock(connection, &session_id).await?;
            let state = session.state;
            session.expires_at = session.expires_at.min(now);
            store::sessions::save_deadline(connection, &session_id, session.expires_at).await?;
            let transition = session.expire_when_due(now).ok_or(match state {
                State::Processing => Refusal::SessionProcessing,
                other => Refusal::SessionNotOpen(other.name()),
            })?;
            // Nobody's request: the sweep's events have no cause either.
            let nobody = crate::wire::event::EventRequest::default();
            let (session, outgoing) = save_transition(app, connection, transition, &nobody, now).await?;
            Ok((Answer::new(&sessions::render(app, connection, &session, expand).await?), outgoing))
        })
        .await
}

/// The session as it is now, kept as the answer of the idempotency key.
async fn keep(app: &App, write: &Write, id: &str, expand: &Expand) -> Result<Answer> {
    let answer = Answer::new(&sessions::retrieve(app, &write.caller, id, expand).await?);
    write.once(app, async |_, _| Ok((answer.clone(), Vec::new()))).await
}
