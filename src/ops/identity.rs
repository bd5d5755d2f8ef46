//! Proof that a payer is the session's target user: a code by mail, then a binding of his browser.
//!
//! The rule: nothing is sent because a page was opened, a code is judged at most five times whatever is
//! raced, and every answer here is the same whether or not anybody reads mail at the address. A door that
//! lets somebody act on a session asks [`is_bound`] first.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Duration, DurationRound as _, Utc};

use super::mails;
use crate::app::App;
use crate::domain::id::SessionId;
use crate::domain::identity::{CODE_LIFETIME, CODES_MAX, Code, GUESSES_MAX, Turn, turn};
use crate::domain::session::{Session, State};
use crate::error::{Error, Result};
use crate::i18n::Locale;
use crate::mailer;
use crate::store::identity::{Check, Guess, NewCode};
use crate::store::{self, Connection};
use crate::telemetry;

/// A mail that nobody has tried to send for this long means that no worker runs.
const MAIL_UNTOUCHED_MAX: Duration = Duration::seconds(15);

/// A proof that somebody reads mail at the target address: evidence for what is done with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// The binding's id.
    pub binding_id: String,
    /// The proven address.
    pub email: String,
    /// When it was proven.
    pub proven_at: DateTime<Utc>,
}

/// How a browser that is not bound stands with a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The code that this browser may type; `None` when there is none for it.
    pub code: Option<OutCode>,
    /// Whether another may be asked for.
    pub turn: Turn,
    /// Whether this browser had a code that is used up or too old now.
    pub had_code: bool,
}

/// A code on its way or arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutCode {
    /// How long it can be used.
    pub left: Duration,
    /// Guesses that it still takes, 1 or more.
    pub tries_left: u8,
    /// Whether it is held up because the mail server does not answer. Says nothing about the address.
    pub is_held_up: bool,
}

/// What became of the wish for a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// It is owed; the one before is worth nothing any more.
    Made,
    /// Too soon: after this many seconds.
    Wait(u32),
    /// This session has had all its codes.
    Spent,
    /// Too many were asked for at this address, for this merchant or from this network.
    Busy,
    /// The session takes no act any more, or needs no proof.
    NotOpen,
}

/// What a typed code was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judged {
    /// Right; the browser is to keep this token.
    Right {
        /// For the browser's cookie.
        token: String,
    },
    /// Not eight digits; it does not count.
    Malformed,
    /// Wrong, and counted.
    Wrong {
        /// Guesses that the code still takes.
        tries_left: u8,
    },
    /// There was nothing to judge it against in this browser.
    Dead,
}

/// The proof that a browser holds for a session; `cookie` is what it keeps, as it sent it.
///
/// # Errors
/// The database's.
pub async fn proof(app: &App, session: &SessionId, cookie: Option<&str>) -> Result<Option<Proof>> {
    let Some(binding) = cookie.and_then(|cookie| app.keyring.open_binding_token(session, cookie)) else {
        return Ok(None);
    };
    let found = store::identity::find_binding(app.store.pool(), session, binding).await?;
    Ok(found.map(|(email, proven_at)| Proof { binding_id: binding.to_owned(), email, proven_at }))
}

/// Whether a browser may act on a session: the session is for nobody in particular, or the browser has
/// proven to be the target user's. Every door that lets somebody act asks this, and one whose callers have
/// no cookie passes `None`.
///
/// # Errors
/// The database's.
pub async fn is_bound(app: &App, session: &Session, cookie: Option<&str>) -> Result<bool> {
    match &session.target_user_email {
        None => Ok(true),
        Some(target) => Ok(proof(app, &session.id, cookie).await?.is_some_and(|proof| proof.email == *target)),
    }
}

/// Whether a session can still be acted on, so that a proof would be of use.
fn is_open(session: &Session, now: DateTime<Utc>) -> bool {
    session.is_usable(now) || session.state == State::Processing
}

/// How a browser stands with a session.
///
/// # Errors
/// The database's.
pub async fn standing(app: &App, session: &SessionId, browser: &str) -> Result<Standing> {
    let now = app.clock.now();
    let mut connection = app.store.pool().acquire().await?;
    let check = store::identity::find(&mut connection, session).await?;
    Ok(stand(app, session, browser, check.as_ref(), now))
}

fn stand(app: &App, session: &SessionId, browser: &str, check: Option<&Check>, now: DateTime<Utc>) -> Standing {
    let Some(check) = check else { return Standing { code: None, turn: Turn::Now, had_code: false } };
    let is_its_own = app.keyring.browser_macs(session, browser).iter().any(|mac| mac.as_slice() == check.browser_mac);
    let tries_left = GUESSES_MAX.saturating_sub(u8::try_from(check.guesses).unwrap_or(u8::MAX));
    let is_alive = check.is_out && tries_left > 0 && now < check.expires_at;
    let is_untouched = check.mail_attempts == Some(0) && now - check.made_at > MAIL_UNTOUCHED_MAX;
    Standing {
        code: (is_its_own && is_alive).then(|| OutCode {
            left: check.expires_at - now,
            tries_left,
            is_held_up: check.mail_state.as_deref() == Some("owed")
                && (check.mail_server_trouble == Some(true) || is_untouched),
        }),
        turn: turn(codes_of(check), Some(check.made_at), now),
        had_code: is_its_own && !is_alive,
    }
}

fn codes_of(check: &Check) -> u8 {
    u8::try_from(check.codes).unwrap_or(CODES_MAX)
}

fn count(outcome: &'static str) {
    metrics::counter!(telemetry::IDENTITY_CODES_TOTAL, "outcome" => outcome).increment(1);
}

/// Makes a code for a session's target user and owes the mail that brings it. `network` is where the wish
/// comes from, where that is known; `locale` the payer's.
///
/// # Errors
/// `Unavailable` where no mail is set up, and the database's.
pub async fn send_code(
    app: &Arc<App>,
    session: &SessionId,
    action: Option<&str>,
    browser: &str,
    network: Option<&str>,
    locale: &Locale,
) -> Result<Sent> {
    let now = app.clock.now();
    let mut transaction = app.store.begin().await?;
    // The session's lock puts the wishes of several browsers into an order.
    let Some(session) = store::sessions::lock(&mut transaction, session).await? else {
        return Ok(Sent::NotOpen);
    };
    let (Some(target), true) = (session.target_user_email.clone(), is_open(&session, now)) else {
        return Ok(Sent::NotOpen);
    };
    let before = store::identity::find(&mut transaction, &session.id).await?;
    match turn(before.as_ref().map_or(0, codes_of), before.as_ref().map(|check| check.made_at), now) {
        Turn::Now => {}
        Turn::Wait(seconds) => {
            count("too_soon");
            return Ok(Sent::Wait(seconds));
        }
        Turn::Spent => {
            count("spent");
            return Ok(Sent::Spent);
        }
    }
    if let Some(refused) = take_budgets(app, &mut transaction, &session, &target, network, now).await? {
        tracing::warn!(session = %session.id, reason = refused, "a code was not sent: too many were asked for this hour");
        count(refused);
        return Ok(Sent::Busy);
    }
    let code = loop {
        if let Some(code) = Code::from_random(rand::random()) {
            break code;
        }
    };
    let number = before.as_ref().map_or(0, codes_of) + 1;
    let expires_at = match session.state {
        State::Pending => session.expires_at.min(now + CODE_LIFETIME),
        _ => now + CODE_LIFETIME,
    };
    let sender = mails::sender(&mut transaction, &session.merchant_id).await?;
    let draft = mailer::identity_code(&session, action, &target, &code, &sender, locale, (now, expires_at))
        .map_err(|error| Error::Internal(format!("the mail with a code could not be written: {error}")))?;
    if let Some(before) = &before {
        store::mails::supersede(&mut transaction, &before.mail_id, now).await?;
    }
    let new = NewCode {
        session: &session.id,
        merchant_id: session.merchant_id.as_str(),
        number,
        code_mac: app.keyring.code_macs(&session.id, number, browser, &code)[0],
        browser_mac: app.keyring.browser_macs(&session.id, browser)[0],
        made_at: now,
        expires_at,
        mail_id: &draft.id,
    };
    store::identity::put(&mut transaction, &new).await?;
    mails::post(app, &mut transaction, draft).await?;
    app.store.commit(transaction).await?;
    mails::wake(app);
    count("made");
    Ok(Sent::Made)
}

/// Takes one code from each budget, or says which one is used up; then nothing is taken, because the caller
/// drops the transaction.
async fn take_budgets(
    app: &App,
    connection: &mut Connection,
    session: &Session,
    target: &str,
    network: Option<&str>,
    now: DateTime<Utc>,
) -> Result<Option<&'static str>> {
    let hour = now.duration_trunc(Duration::hours(1)).unwrap_or(now);
    let limits = &app.settings.identity_limits;
    let address = target.to_ascii_lowercase();
    let budgets = [
        ("address", Some(address.as_str()), limits.codes_per_address_hour),
        ("merchant", Some(session.merchant_id.as_str()), limits.codes_per_merchant_hour),
        ("network", network, limits.codes_per_network_hour),
    ];
    for (kind, subject, max) in budgets {
        let Some(subject) = subject else { continue };
        let subject = app.keyring.budget_subject(kind, subject);
        if !store::identity::take_from_budget(connection, kind, &subject, hour, max).await? {
            return Ok(Some(kind));
        }
    }
    Ok(None)
}

/// Judges a typed code. A right one is used up and binds the browser.
///
/// # Errors
/// The database's; then the guess may have been counted.
pub async fn confirm(app: &Arc<App>, session: &Session, browser: &str, typed: &str) -> Result<Judged> {
    let outcome = judge(app, session, browser, typed).await?;
    let word = match outcome {
        Judged::Right { .. } => "right",
        Judged::Malformed => "malformed",
        Judged::Wrong { .. } => "wrong",
        Judged::Dead => "not_judged",
    };
    metrics::counter!(telemetry::IDENTITY_GUESSES_TOTAL, "outcome" => word).increment(1);
    Ok(outcome)
}

async fn judge(app: &App, session: &Session, browser: &str, typed: &str) -> Result<Judged> {
    let Some(code) = Code::parse(typed) else { return Ok(Judged::Malformed) };
    let now = app.clock.now();
    let Some(target) = session.target_user_email.as_deref().filter(|_| is_open(session, now)) else {
        return Ok(Judged::Dead);
    };
    let check = {
        let mut connection = app.store.pool().acquire().await?;
        store::identity::find(&mut connection, &session.id).await?
    };
    // Guesses that come too late do not wait for the row: only those that may be judged ask for its lock.
    let (Some(check), Standing { code: Some(_), .. }) =
        (check.as_ref(), stand(app, &session.id, browser, check.as_ref(), now))
    else {
        return Ok(Judged::Dead);
    };
    let as_bytes = |macs: Vec<[u8; 32]>| macs.iter().map(|mac| mac.to_vec()).collect();
    let binding_id = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 16]>());
    let guess = Guess {
        session: &session.id,
        number: check.codes,
        code_macs: as_bytes(app.keyring.code_macs(&session.id, codes_of(check), browser, &code)),
        browser_macs: as_bytes(app.keyring.browser_macs(&session.id, browser)),
        binding_id: &binding_id,
        email: target,
        now,
    };
    Ok(match store::identity::judge(app.store.pool(), &guess).await? {
        None => Judged::Dead,
        Some(judged) if judged.is_right => Judged::Right { token: app.keyring.binding_token(&session.id, &binding_id) },
        Some(judged) => {
            Judged::Wrong { tries_left: GUESSES_MAX.saturating_sub(u8::try_from(judged.guesses).unwrap_or(u8::MAX)) }
        }
    })
}
