//! Paying from a merchant's own page: what the payer's token shows, and confirming with it.
//!
//! The rule: it is the hosted page's way by another door. The same states, the same vault and the
//! same `payments::pay`; whichever of the two is first charges, and the other hears of it. Beside
//! that it remembers where an attempt's payer comes back to from his bank.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::fraud::Circumstances;
use super::payments::{self, Try};
use super::saved_cards::{self, Instrument, Offered};
use super::sessions::{self, page_url};
use super::{Caller, redirect_urls};
use crate::app::App;
use crate::domain::id::SessionId;
use crate::domain::payment::{Charge, ChargeFailure, ChargeState};
use crate::domain::redirect::{RedirectError, WayBack};
use crate::domain::session::{Payer, Session, State};
use crate::error::{CardRefusal, Error, Result};
use crate::store::{self, sessions::PageSession};
use crate::wire::payer_session::{
    PayerCard, PayerFacts, PayerMerchant, PayerPaymentError, PayerSavedCard, PayerSession,
};

/// Characters of an attempt's key as it is stored, the length of those that the hosted page makes.
const ATTEMPT_KEY_LENGTH: usize = 32;

/// What a payer sends to pay, checked by the door.
pub struct Confirmation {
    /// Who pays.
    pub payer: Payer,
    /// With what.
    pub instrument: Instrument,
    /// Names the attempt; the same one again charges nothing.
    pub attempt: String,
    /// Where he comes back to from his bank, if not to the hosted page.
    pub return_url: Option<WayBack>,
    /// Where the try comes from.
    pub circumstances: Circumstances,
}

/// The merchant's own page calls with one of these origins only: those that payers may be sent back
/// to. A list that was read lately is asked anew before anything is refused by it.
///
/// # Errors
/// The database's.
pub async fn is_own_origin(app: &App, page: &PageSession, origin: &str) -> Result<bool> {
    let merchant = merchant_of(page);
    let covers = |list: &store::allow_lists::AllowList| list.iter().any(|entry| entry.is_origin(origin));
    if covers(&redirect_urls::remembered(app, &merchant).await?) {
        return Ok(true);
    }
    Ok(covers(&redirect_urls::all(app, &merchant).await?))
}

/// A way back that a payer's page asks for, if the merchant's list covers it.
///
/// # Errors
/// The database's outside, the list's inside.
pub async fn way_back(app: &App, page: &PageSession, url: &str) -> Result<Result<WayBack, RedirectError>> {
    let merchant = merchant_of(page);
    let livemode = page.session.livemode;
    match WayBack::parse(url, &redirect_urls::remembered(app, &merchant).await?, livemode) {
        Err(RedirectError::NotAllowed) => Ok(WayBack::parse(url, &redirect_urls::all(app, &merchant).await?, livemode)),
        judged => Ok(judged),
    }
}

fn merchant_of(page: &PageSession) -> Caller {
    Caller { merchant_id: page.session.merchant_id.clone(), livemode: page.session.livemode }
}

/// The session as its payer may see it. Without a payment it is shown as it was found; with one, session and
/// charge are read again in one moment.
///
/// # Errors
/// The database's.
pub async fn show(app: &App, page: &PageSession) -> Result<PayerSession> {
    match page.session.payment_id {
        None => Ok(render(app, page, None, None, offered(app, page).await?)),
        Some(_) => show_anew(app, &page.session.id).await,
    }
}

async fn show_anew(app: &App, id: &SessionId) -> Result<PayerSession> {
    let mut snapshot = app.store.snapshot().await?;
    let found = store::sessions::find_for_pages(&mut snapshot, &[id.as_str()]).await?.pop().transpose()?;
    let page = found.ok_or_else(|| Error::not_found("checkout.session", id.as_str()))?;
    let latest = store::payments::latest_charge(&mut *snapshot, id).await?;
    let return_url = match &latest {
        Some(Charge { state: ChargeState::RequiresAction { .. }, attempt_key, .. }) => {
            store::payer_returns::find(&mut *snapshot, id, attempt_key).await?
        }
        _ => None,
    };
    drop(snapshot);
    let saved_cards = offered(app, &page).await?;
    Ok(render(app, &page, latest.as_ref(), return_url.as_ref(), saved_cards))
}

/// The kept cards that a payer's page may show: none once the session cannot be paid, and none for a user who
/// has yet to prove that he is the one.
async fn offered(app: &App, page: &PageSession) -> Result<Vec<PayerSavedCard>> {
    let session = &page.session;
    if session.customer_id.is_none() || session.target_user_email.is_some() || !session.is_usable(app.clock.now()) {
        return Ok(Vec::new());
    }
    let Offered { cards, .. } = saved_cards::offered(app, session).await?;
    Ok(cards
        .into_iter()
        .map(|offered| PayerSavedCard {
            id: offered.id.to_string(),
            kind: "card",
            card: PayerCard {
                brand: offered.card.brand.code(),
                exp_month: offered.card.exp_month,
                exp_year: offered.card.exp_year,
                last4: offered.card.last4,
            },
            expired: offered.is_expired,
            has_billing_address: offered.holder_address.is_some(),
            requires_cvc: offered.needs_code,
        })
        .collect())
}

fn render(
    app: &App,
    page: &PageSession,
    latest: Option<&Charge>,
    return_url: Option<&WayBack>,
    saved_cards: Vec<PayerSavedCard>,
) -> PayerSession {
    PayerSession::new(PayerFacts {
        session: &page.session,
        merchant: PayerMerchant {
            name: page.merchant_name.clone(),
            support_email: page.support_email.clone(),
            accent_color: page.accent_color.clone(),
        },
        latest,
        return_url,
        page_url: page_url(app, &page.session.id),
        saved_cards,
        accepts_card_data: sessions::takes_cards(app, &page.session),
        now: app.clock.now(),
    })
}

/// The attempt's key as charges hold it: a digest, because the caller's own word may be anything, and one that
/// no form of the hosted page has.
fn attempt_key(attempt: &str) -> String {
    let mut key = hex::encode(Sha256::new().chain_update(b"confirm\n").chain_update(attempt).finalize());
    key.truncate(ATTEMPT_KEY_LENGTH);
    key
}

/// Pays a session with a card, typed or kept, as the hosted page's form does.
///
/// # Errors
/// `IdempotencyMismatch` for an attempt that was made with another card, `Declined` with what the payer may know,
/// `Refused` when the session cannot be paid now, and the database's.
pub async fn confirm(app: &Arc<App>, page: &PageSession, confirmation: Confirmation) -> Result<PayerSession> {
    let session = &page.session;
    let Confirmation { payer, instrument, attempt, return_url, circumstances } = confirmation;
    let attempt_key = attempt_key(&attempt);
    let now = app.clock.now();
    if session.payment_id.is_some() && !is_same_attempt(app, session, &attempt_key, &instrument).await? {
        return Err(Error::IdempotencyMismatch(attempt));
    }
    // An attempt that cannot become a charge leaves no note: a session takes a few tries, and no more notes.
    if let Some(way) = return_url.filter(|_| session.is_usable(now)) {
        store::payer_returns::note(app.store.pool(), &session.id, &attempt_key, &way, now).await?;
    }
    match payments::pay(app, session.id.clone(), payer, instrument, attempt_key, circumstances).await? {
        Try::Paid | Try::Authenticate | Try::InDoubt => show_anew(app, &session.id).await,
        Try::Declined(failure) => Err(Error::Declined(Box::new(for_payer(&failure)))),
        Try::Refused(refusal) => Err(refusal.into()),
    }
}

/// Whether an attempt is new, or was made with this card. Told what became of another card, a payer would believe it
/// of this one.
async fn is_same_attempt(app: &App, session: &Session, attempt_key: &str, instrument: &Instrument) -> Result<bool> {
    let Instrument::Card { card, .. } = instrument else { return Ok(true) };
    let mut connection = app.store.pool().acquire().await?;
    let earlier = store::payments::find_attempt(&mut connection, &session.id, attempt_key).await?;
    Ok(earlier.is_none_or(|earlier| earlier.card.fingerprint == app.vault.fingerprint(&card.number)))
}

fn for_payer(failure: &ChargeFailure) -> CardRefusal {
    let PayerPaymentError { code, decline_code, message, .. } = PayerPaymentError::new(failure);
    CardRefusal { code, decline_code, param: None, message }
}

/// Where a payer who came back from his bank goes on to, for an attempt made on the merchant's own page: the URL
/// with the session's id and state, and its host.
///
/// # Errors
/// The database's.
pub async fn way_on(app: &App, return_state: &str) -> Result<Option<(String, String)>> {
    let hash: [u8; 32] = Sha256::digest(return_state).into();
    let Some(charge) = store::payments::find_by_return_state(app.store.pool(), &hash).await? else {
        return Ok(None);
    };
    let Some(way) = store::payer_returns::find(app.store.pool(), &charge.session_id, &charge.attempt_key).await? else {
        return Ok(None);
    };
    let merchant = &charge.merchant_id;
    let session = store::sessions::find(app.store.pool(), merchant, charge.livemode, &charge.session_id).await?;
    let state = session.map_or(State::Processing, |session| session.state).name();
    Ok(Some((way.for_outcome(&charge.session_id, state.as_str()), way.host())))
}
