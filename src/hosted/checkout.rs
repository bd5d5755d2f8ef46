//! The form that takes a payment.
//!
//! The rule: what is charged is what the session's row says; the form carries no amount. Card number
//! and CVC go from the form into their own types and from there to the vault; they are never put
//! back into a page. Everything else that was typed is.

use std::borrow::Cow;
use std::collections::HashMap;

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::Response;
use chrono::SecondsFormat;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use zeroize::Zeroizing;

use super::acts;
use super::billing;
use super::browser::{Browser, FormOrigin, form_origin};
use super::identity::{Gate, gate};
use super::page::{Pages, Policy, Token, amount, locale};
use super::saved_cards::{self as cards, Choice};
use super::views::{
    AmountLine, BillingBlock, CardMark, CheckoutField, CheckoutHints, CheckoutView, Deal, DeclineNotice, EmailField,
    FieldError, MessageKind, OrderLine, TimeLeft,
};
use crate::domain::billing::is_whole;
use crate::domain::card::{CardBrand, CardCvc, CardExpiry, CardNumber};
use crate::domain::email::parse_email;
use crate::domain::payment::ChargeState;
use crate::domain::refusal::Refusal;
use crate::domain::session::{Payer, Session, State as SessionState, TRIES_MAX};
use crate::error::Error;
use crate::ops::fraud::Circumstances;
use crate::ops::payments::{self, Try};
use crate::ops::saved_cards::{self, Instrument, Offered, OfferedCard};
use crate::ops::sessions;
use crate::server::Peer;
use crate::store::sessions::PageSession;
use crate::telemetry::mask_card_numbers;
use crate::vault::{EnteredCard, SecurityCode};

/// Largest form: ten short fields and two tokens.
const FORM_BYTES_MAX: usize = 16 * 1024;

/// Fields read from one form; more are ignored.
const FORM_FIELDS_MAX: usize = 32;

/// Longest name on a card that is taken.
const CARD_NAME_CHARS_MAX: usize = 100;

/// Characters of an attempt key: 128 bits in lower-case hexadecimal.
const ATTEMPT_KEY_LENGTH: usize = 32;

/// What a payer hears when nobody can be asked for the money.
const PROVIDERS_AWAY: &str =
    "Cards cannot be taken just now. You were not charged, and your card was not kept. Try again in a minute.";

/// What the payer typed and may see again.
#[derive(Default)]
struct Typed {
    email: String,
    card_name: String,
    card_expiry: String,
    billing: BillingBlock,
    /// Which card was chosen; empty before anything was.
    choice: String,
    /// Whether the box to keep the card was ticked.
    keep: bool,
}

impl Typed {
    /// Empties fields that a card number strayed into: it is not put back into a page either.
    fn forget_card_numbers(&mut self) {
        let BillingBlock { line1, postal_code, city, .. } = &mut self.billing;
        for text in [&mut self.email, &mut self.card_name, &mut self.card_expiry, line1, postal_code, city] {
            if holds_card_number(text) {
                text.clear();
            }
        }
    }
}

/// Whether a text that is to be kept has a card number in it.
pub(super) fn holds_card_number(text: &str) -> bool {
    CardNumber::parse(text).is_ok() || matches!(mask_card_numbers(text), Cow::Owned(_))
}

/// Our own keys only: the key is stored, and whatever else stands there was typed by somebody.
fn is_attempt_key(text: &str) -> bool {
    text.len() == ATTEMPT_KEY_LENGTH && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// What went wrong with a form, and the deal that is paid by it.
#[derive(Default)]
struct Trouble {
    errors: Vec<FieldError>,
    decline: Option<DeclineNotice>,
    deal: Option<Deal>,
}

/// A form's fields, wiped when dropped.
pub(super) struct Form(HashMap<String, Zeroizing<String>>);

impl Form {
    pub(super) async fn read(body: Body) -> Result<Self, MessageKind> {
        let collected = Limited::new(body, FORM_BYTES_MAX).collect().await.map_err(|error| {
            if error.downcast_ref::<LengthLimitError>().is_some() {
                MessageKind::TooLarge
            } else {
                MessageKind::RequestRefused
            }
        })?;
        let bytes = Zeroizing::new(Vec::from(collected.to_bytes()));
        let fields = url::form_urlencoded::parse(&bytes)
            .take(FORM_FIELDS_MAX)
            .map(|(name, value)| (name.into_owned(), Zeroizing::new(value.into_owned())))
            .collect();
        Ok(Self(fields))
    }

    pub(super) fn field(&self, name: &str) -> &str {
        self.0.get(name).map_or("", |value| value.as_str())
    }
}

/// `GET /c/{token}`: the form of an open session; every other session has a page of its own.
pub async fn form(State(pages): State<Pages>, Token(token): Token, method: Method, headers: HeaderMap) -> Response {
    let page = match sessions::find_by_token(&pages.app, &token).await {
        Ok(page) => page,
        Err(error) => return pages.failure(&error),
    };
    if !page.session.is_usable(pages.app.clock.now()) {
        return pages.go_to(&format!("/c/{token}/status"));
    }
    if page.session.is_payment() && !sessions::takes_cards(&pages.app, &page.session) {
        return pages.message(MessageKind::NotPayable);
    }
    if page.session.opened_at.is_none() && method == Method::GET {
        sessions::note_opened(&pages.app, &page.session).await;
    }
    if let Gate::Ask(response) = gate(&pages, &page, &headers).await {
        return response;
    }
    // Boxed, because most sessions are for no deal.
    let deal = match Box::pin(acts::before_form(&pages, &token, &page, &headers)).await {
        Ok(deal) => deal,
        Err(response) => return response,
    };
    // A payer who comes back to the form after a refused try is told why it was refused.
    let mut trouble = Trouble { deal, ..Trouble::default() };
    let mut tried_with = None;
    if page.session.tries > 0 {
        // Boxed, like all that happens seldom, because the future of this handler is moved for each page.
        match Box::pin(sessions::latest_charge(&pages.app, &page.session.id)).await {
            Ok(Some(charge)) => {
                tried_with = Some(charge.payment_method);
                if let ChargeState::Failed(failure) = charge.state {
                    trouble.decline = Some(notice(&page.session, failure.payer_message));
                }
            }
            Ok(None) => {}
            Err(error) => return pages.failure(&error),
        }
    }
    let offered = match offered(&pages, &page.session).await {
        Ok(offered) => offered,
        Err(error) => return pages.failure(&error),
    };
    let payer = page.session.payer.as_ref();
    // What a kept card brought with it was not typed, and the link may be in anybody's hands.
    let typed_payer = payer.filter(|_| !offered.cards.iter().any(|card| Some(&card.id) == tried_with.as_ref()));
    let typed = Typed {
        email: payer.map(|payer| payer.email.clone()).unwrap_or_default(),
        card_name: typed_payer.map(|payer| payer.name.clone()).unwrap_or_default(),
        billing: billing::block(&page.session, typed_payer.and_then(|payer| payer.address.as_ref())),
        ..Typed::default()
    };
    let browser = Browser::of(&headers, &pages.app.settings);
    let mut response = show(&pages, &token, &page, &offered, &headers, &browser, StatusCode::OK, typed, trouble);
    browser.remember(&pages.app.settings, response.headers_mut());
    response
}

/// The payer's address where it is not his to choose: what the merchant knows, or what he has proven.
fn fixed_email(session: &Session) -> Option<&str> {
    session.customer_email.as_deref().or(session.target_user_email.as_deref())
}

/// `GET /c/{token}/pay`: where a browser lands that reloads after a form by typing the address.
pub async fn back_to_form(State(pages): State<Pages>, Token(token): Token) -> Response {
    match sessions::find_by_token(&pages.app, &token).await {
        Ok(_) => pages.go_to(&format!("/c/{token}")),
        Err(error) => pages.failure(&error),
    }
}

/// `POST /c/{token}/pay`.
pub async fn pay(
    State(pages): State<Pages>,
    Token(token): Token,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let browser = Browser::of(&headers, &pages.app.settings);
    let address = peer.map(|Extension(Peer(peer))| pages.app.settings.payer_address(peer.ip(), &headers));
    let circumstances = Circumstances { address };
    let response = pay_inside(&pages, &token, &headers, body, &browser, circumstances).await;
    pages.after_form(response, &browser)
}

async fn pay_inside(
    pages: &Pages,
    token: &str,
    headers: &HeaderMap,
    body: Body,
    browser: &Browser,
    circumstances: Circumstances,
) -> Response {
    let page = match sessions::find_by_token(&pages.app, token).await {
        Ok(page) => page,
        Err(error) => return pages.failure(&error),
    };
    let form = match trusted_form(pages, &page.session, headers, body, browser).await {
        Ok(form) => form,
        Err(kind) => return pages.message_in(kind, token),
    };
    let done = format!("/c/{token}/done");
    let attempt_key = form.field("attempt_key");
    if !is_attempt_key(attempt_key) {
        return pages.message_in(MessageKind::RequestRefused, token);
    }
    // Ended, past its deadline or with a payment in flight: there is no form to send or to show again.
    if !page.session.is_usable(pages.app.clock.now()) {
        return pages.go_to(&done);
    }
    let session = &page.session;
    if !session.is_payment() {
        return pages.go_to(&format!("/c/{token}"));
    }
    if !sessions::takes_cards(&pages.app, session) {
        return pages.message(MessageKind::NotPayable);
    }
    if !gate(pages, &page, headers).await.is_open() {
        return pages.go_to(&format!("/c/{token}"));
    }
    let offered = match offered(pages, session).await {
        Ok(offered) => offered,
        Err(error) => return pages.failure_in(&error, token),
    };
    let known_email = fixed_email(session).or(offered.email.as_deref());
    let mut typed = Typed {
        email: known_email.map_or_else(|| form.field("email").trim().to_owned(), str::to_owned),
        card_name: form.field("card_name").trim().to_owned(),
        card_expiry: form.field("card_expiry").trim().to_owned(),
        billing: billing::typed(session, &form),
        choice: form.field("payment_choice").to_owned(),
        keep: form.field("save_card") == "yes",
    };
    let today = pages.app.clock.now().date_naive();
    let entered = match Choice::of(&offered, &typed.choice) {
        Choice::Another => {
            read_card(&form, &typed, today).map(|(payer, card)| (payer, Instrument::Card { card, keep: typed.keep }))
        }
        Choice::Saved(card) => read_saved(&form, &typed, card),
        Choice::Gone => Err(vec![FieldError {
            field: CheckoutField::SavedCard,
            message: "This card cannot be used any more. Choose another one.".to_owned(),
        }]),
    };
    let (payer, instrument) = match entered {
        Ok(entered) => entered,
        Err(errors) => {
            typed.forget_card_numbers();
            let deal = match acts::before_form(pages, token, &page, headers).await {
                Ok(deal) => deal,
                Err(response) => return response,
            };
            let trouble = Trouble { errors, decline: None, deal };
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            return show(pages, token, &page, &offered, headers, browser, status, typed, trouble);
        }
    };
    let (id, attempt_key) = (session.id.clone(), attempt_key.to_owned());
    let tried = payments::pay(&pages.app, id, payer, instrument, attempt_key, circumstances).await;
    match tried {
        Ok(Try::Authenticate) => pages.go_to(&format!("/c/{token}/3ds")),
        // The page of the session says that another payment of the deal is in flight.
        Ok(Try::Refused(Refusal::EscrowPaymentProcessing)) => pages.go_to(&format!("/c/{token}")),
        Ok(Try::Paid | Try::InDoubt | Try::Refused(_)) => pages.go_to(&done),
        // The form says why, or the last page does. A redirect, so that the Back button does not lead to the
        // answer of a form, which browsers will not show again.
        Ok(Try::Declined(_)) => pages.go_to(&format!("/c/{token}")),
        // Told at once, on the form with everything but the card: nothing was begun and no try was used.
        Err(Error::Refused(Refusal::ProvidersAway)) => {
            let decline = Some(DeclineNotice { message: PROVIDERS_AWAY.to_owned(), tries_left: None });
            let deal = match acts::before_form(pages, token, &page, headers).await {
                Ok(deal) => deal,
                Err(response) => return response,
            };
            typed.forget_card_numbers();
            let trouble = Trouble { errors: Vec::new(), decline, deal };
            let status = StatusCode::SERVICE_UNAVAILABLE;
            show(pages, token, &page, &offered, headers, browser, status, typed, trouble)
        }
        Err(error) => pages.failure_in(&error, token),
    }
}

/// Reads a form that is proven to come from our page in this browser.
pub(super) async fn trusted_form(
    pages: &Pages,
    session: &Session,
    headers: &HeaderMap,
    body: Body,
    browser: &Browser,
) -> Result<Form, MessageKind> {
    if form_origin(headers, &pages.app.settings) == FormOrigin::Elsewhere {
        return Err(MessageKind::RequestRefused);
    }
    let form = Form::read(body).await?;
    if browser.is_new() {
        return Err(MessageKind::CookiesMissing);
    }
    if !browser.sent(&pages.app.keyring, &session.id, form.field("csrf_token")) {
        return Err(MessageKind::RequestRefused);
    }
    Ok(form)
}

fn notice(session: &Session, message: String) -> DeclineNotice {
    DeclineNotice { message, tries_left: Some(u32::from(TRIES_MAX.saturating_sub(session.tries))) }
}

/// What the page may show of the session's customer. Boxed, because few sessions have one.
async fn offered(pages: &Pages, session: &Session) -> crate::error::Result<Offered> {
    match session.customer_id {
        Some(_) => Box::pin(saved_cards::offered(&pages.app, session)).await,
        None => Ok(Offered::default()),
    }
}

/// Reads payer and security code for a kept card, or says of each field what to put right. The code is
/// asked for only where the number comes out of the vault.
fn read_saved(form: &Form, typed: &Typed, chosen: &OfferedCard) -> Result<(Payer, Instrument), Vec<FieldError>> {
    let mut errors = Vec::new();
    let email = parse_email(&typed.email).filter(|email| !holds_card_number(email));
    if email.is_none() {
        let message = "Enter an e-mail address, such as name@example.com.".to_owned();
        errors.push(FieldError { field: CheckoutField::Email, message });
    }
    let mut code = None;
    if chosen.needs_code {
        match CardCvc::parse(form.field("saved_card_cvc").trim(), chosen.card.brand) {
            Ok(cvc) => code = Some(SecurityCode(cvc)),
            Err(error) => {
                let message = error.payer_message().to_owned();
                errors.push(FieldError { field: CheckoutField::SavedCardCvc, message });
            }
        }
    }
    // A kept card brings the address that it was kept with; one without is asked for it.
    let address = match &chosen.holder_address {
        Some(address) if !typed.billing.is_asked || is_whole(address) => Some(address.clone()),
        _ => billing::read(&typed.billing).unwrap_or_else(|wrong| {
            errors.extend(wrong);
            None
        }),
    };
    match email {
        Some(email) if errors.is_empty() => {
            let name = chosen.holder_name.clone().unwrap_or_default();
            Ok((Payer { email, name, address }, Instrument::Saved { id: chosen.id.clone(), code }))
        }
        _ => Err(errors),
    }
}

/// Reads payer and card, or says of each field what to put right.
fn read_card(form: &Form, typed: &Typed, today: chrono::NaiveDate) -> Result<(Payer, EnteredCard), Vec<FieldError>> {
    let mut errors = Vec::new();
    let mut wrong = |field: CheckoutField, message: &str| {
        errors.push(FieldError { field, message: message.to_owned() });
    };
    let email = parse_email(&typed.email).filter(|email| !holds_card_number(email));
    if email.is_none() {
        wrong(CheckoutField::Email, "Enter an e-mail address, such as name@example.com.");
    }
    let number = match form.field("card_number").trim() {
        "" => {
            wrong(CheckoutField::CardNumber, "Enter the long number on your card.");
            None
        }
        text => CardNumber::parse(text).map_err(|error| wrong(CheckoutField::CardNumber, error.payer_message())).ok(),
    };
    let expiry = match typed.card_expiry.as_str() {
        "" => {
            wrong(CheckoutField::CardExpiry, "Enter the month and year on your card, such as 04 / 29.");
            None
        }
        text => {
            CardExpiry::parse(text, today).map_err(|error| wrong(CheckoutField::CardExpiry, error.payer_message())).ok()
        }
    };
    let brand = number.as_ref().map_or(CardBrand::Unknown, CardNumber::brand);
    let cvc = match form.field("card_cvc").trim() {
        "" if brand == CardBrand::Amex => {
            wrong(CheckoutField::CardCvc, "Enter the 4 digits on the front of your card.");
            None
        }
        "" => {
            wrong(CheckoutField::CardCvc, "Enter the 3 digits on the back of your card.");
            None
        }
        text => CardCvc::parse(text, brand).map_err(|error| wrong(CheckoutField::CardCvc, error.payer_message())).ok(),
    };
    let name = typed.card_name.clone();
    if name.is_empty() {
        wrong(CheckoutField::CardName, "Enter the name on your card.");
    } else if name.chars().count() > CARD_NAME_CHARS_MAX || name.chars().any(char::is_control) {
        wrong(CheckoutField::CardName, "Enter the name as it stands on your card, at most 100 characters.");
    } else if holds_card_number(&name) {
        wrong(CheckoutField::CardName, "Enter the name on your card, not its number.");
    }
    let address = billing::read(&typed.billing).unwrap_or_else(|wrong| {
        errors.extend(wrong);
        None
    });
    match (errors.is_empty(), email, number, expiry, cvc) {
        (true, Some(email), Some(number), Some(expiry), Some(cvc)) => {
            let card = EnteredCard { number, cvc, expiry, holder_name: Some(name.clone()) };
            Ok((Payer { email, name, address }, card))
        }
        _ => {
            errors.sort_by_key(|error| error.field as u8);
            Err(errors)
        }
    }
}

const CARD_MARKS: [CardMark; 7] = CardMark::ALL;

/// A price with a fraction of a minor unit, in major units: no locale's format is made for it.
fn fractional_amount(session: &Session, minor_decimal: &str) -> String {
    let currency = session.total.currency;
    let (whole, fraction) = minor_decimal.split_once('.').unwrap_or((minor_decimal, ""));
    let places = usize::from(currency.exponent());
    let padded = format!("{whole:0>width$}", width = places + 1);
    let (major, minor) = padded.split_at(padded.len() - places);
    let digits = format!("{minor}{fraction}");
    let separator = if digits.is_empty() { "" } else { "." };
    format!("{major}{separator}{digits} {}", currency.code().to_ascii_uppercase())
}

#[allow(clippy::too_many_arguments, reason = "one call renders the form from everything that stands on it")]
fn show(
    pages: &Pages,
    token: &str,
    page: &PageSession,
    offered: &Offered,
    headers: &HeaderMap,
    browser: &Browser,
    status: StatusCode,
    typed: Typed,
    trouble: Trouble,
) -> Response {
    let session = &page.session;
    let locale = locale(session, headers);
    let show_amount = |minor: i64| amount(session, &locale, minor);
    let lines = session
        .lines
        .iter()
        .map(|line| OrderLine {
            name: line.priced.name.clone(),
            description: line.priced.description.clone(),
            quantity: u64::try_from(line.priced.quantity).unwrap_or(0),
            unit_amount: match line.priced.unit_amount {
                Some(minor) => show_amount(minor),
                None => fractional_amount(session, &line.priced.unit_amount_decimal),
            },
            line_total: show_amount(line.priced.amount_total),
        })
        .collect();
    let amounts = if session.subtotal_minor == session.total.minor {
        Vec::new()
    } else {
        vec![AmountLine { label: "Subtotal".to_owned(), amount: show_amount(session.subtotal_minor) }]
    };
    let left = (session.expires_at - pages.app.clock.now()).num_seconds();
    let view = CheckoutView {
        frame: pages.frame(Some(page), Policy::Form),
        merchant_name: page.merchant_name.clone(),
        deal: trouble.deal,
        lines,
        amounts,
        total: show_amount(session.total.minor),
        currency_code: session.total.currency.code().to_ascii_uppercase(),
        time_left: TimeLeft {
            deadline_datetime: session.expires_at.to_rfc3339_opts(SecondsFormat::Secs, true),
            seconds: u32::try_from(left).unwrap_or(0),
        },
        card_marks: CARD_MARKS.to_vec(),
        email: match (fixed_email(session), &offered.email) {
            (Some(email), _) => EmailField { value: email.to_owned(), locked: true },
            // Kept by the merchant, not sent with this session: whoever holds the link need not learn it.
            (None, Some(email)) => EmailField { value: cards::masked(email), locked: true },
            (None, None) => EmailField { value: typed.email, locked: false },
        },
        saved: cards::list(offered, &typed.choice),
        keeping: cards::keeping(session, &page.merchant_name, typed.keep),
        card_name: typed.card_name,
        card_expiry: typed.card_expiry,
        billing: typed.billing,
        hints: CheckoutHints::default(),
        errors: trouble.errors,
        decline: trouble.decline,
        pay_path: format!("/c/{token}/pay"),
        cancel_path: format!("/c/{token}/cancel"),
        csrf_token: browser.csrf_token(&pages.app.keyring, &session.id),
        attempt_key: hex::encode(rand::random::<[u8; 16]>()),
        reference: session.id.to_string(),
    };
    debug_assert!(matches!(session.state, SessionState::Pending | SessionState::Processing));
    pages.render(status, Policy::Form, &view)
}
