//! Kept cards on their way through a payment: offered to a returning customer, charged, kept.
//!
//! The rule: a card is kept in the transaction that learns of its success, never before, and a decline
//! leaves nothing of it. Until then it waits as a pending row, which is what survives a payer who is at
//! his bank. A provider's reference goes to that provider and to no other. What a page may show of a
//! kept card is in [`OfferedCard`], because a session's link may be in anybody's hands.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::Announcements;
use crate::app::App;
use crate::domain::card::{CardBrand, CardExpiry, CardSummary};
use crate::domain::customer::{Customer, PostalAddress};
use crate::domain::id::{CustomerId, PaymentMethodId};
use crate::domain::payment::{Charge, Payment};
use crate::domain::payment_method::{
    AllowRedisplay, CARDS_OFFERED_MAX, CARDS_PER_CUSTOMER_MAX, FutureUsage, PaymentMethod, PaymentMethodState,
};
use crate::domain::refusal::Refusal;
pub use crate::domain::session::CUSTOMER_ALWAYS;
use crate::domain::session::{Metadata, Session};
use crate::error::Result;
use crate::providers::{Provider, Source};
use crate::store::{self, Connection};
use crate::vault::sealing::Place;
use crate::vault::{EnteredCard, KeptCard, SecurityCode};
use crate::wire;

/// What a payer pays with.
pub enum Instrument {
    /// A card that was typed.
    Card {
        /// The card.
        card: EnteredCard,
        /// Whether the payer asked to have it kept; counts only where the session offers that.
        keep: bool,
    },
    /// A card that is kept for the session's customer.
    Saved {
        /// Which.
        id: PaymentMethodId,
        /// Typed anew, where [`OfferedCard::needs_code`].
        code: Option<SecurityCode>,
    },
}

impl From<EnteredCard> for Instrument {
    fn from(card: EnteredCard) -> Self {
        Self::Card { card, keep: false }
    }
}

/// What a page may show of a customer.
#[derive(Debug, Default)]
pub struct Offered {
    /// The address that the merchant keeps for him, which the payment then uses. Not for showing whole.
    pub email: Option<String>,
    /// His cards, the one used last first.
    pub cards: Vec<OfferedCard>,
}

/// What a page may show of a kept card: of `card` no more than brand, last four digits and expiry.
#[derive(Debug)]
pub struct OfferedCard {
    /// What the form sends back.
    pub id: PaymentMethodId,
    /// The card.
    pub card: CardSummary,
    /// The name that it was kept under; goes with the payment and is not shown.
    pub holder_name: Option<String>,
    /// The billing address that it was kept with; as private as the name.
    pub holder_address: Option<PostalAddress>,
    /// Whether the security code must be typed again, because the number comes out of the vault.
    pub needs_code: bool,
    /// Whether its last month is over: shown, and not to be chosen.
    pub is_expired: bool,
}

/// How a kept card can be charged.
enum Way {
    /// By this provider, under its own reference.
    Reference(Arc<dyn Provider>, String),
    /// By any provider, with the number out of the vault.
    Number,
}

fn way(app: &App, method: &PaymentMethod) -> Option<Way> {
    let remembering = app.providers.by_name(&method.provider).filter(|provider| {
        let can = provider.capabilities();
        if method.livemode { can.livemode } else { can.testmode }
    });
    match (remembering, &method.provider_token, &method.number) {
        (Some(provider), Some(token), _) => Some(Way::Reference(Arc::clone(provider), token.clone())),
        (_, _, Some(number)) if app.sealing.knows(&number.key) => Some(Way::Number),
        _ => None,
    }
}

/// What the page of a session may show of its customer. A session without one costs nothing.
///
/// # Errors
/// The database's.
pub async fn offered(app: &App, session: &Session) -> Result<Offered> {
    let Some(customer) = &session.customer_id else { return Ok(Offered::default()) };
    let pool = app.store.pool();
    let today = app.clock.now().date_naive();
    let limit = i64::try_from(CARDS_PER_CUSTOMER_MAX).unwrap_or(i64::MAX);
    let kept = store::payment_methods::of_customer(pool, customer, limit).await?;
    let mut cards: Vec<OfferedCard> = kept
        .into_iter()
        .filter(|method| session.options.saved_cards.offers(method.allow_redisplay))
        .filter_map(|method| {
            let needs_code = matches!(way(app, &method)?, Way::Number);
            let is_expired = method.is_expired(today);
            Some(OfferedCard {
                id: method.id,
                card: method.card,
                holder_name: method.holder_name,
                holder_address: method.holder_address,
                needs_code,
                is_expired,
            })
        })
        .collect();
    // What cannot be chosen takes no place from what can.
    cards.sort_by_key(|card| card.is_expired);
    cards.truncate(CARDS_OFFERED_MAX);
    Ok(Offered { email: store::customers::email(pool, customer).await?, cards })
}

/// What a charge will be made from, before anybody has been chosen to make it.
pub(super) enum Chosen {
    /// A number, typed or out of the vault: any provider can charge it.
    Number { card: EnteredCard, kept: Option<PaymentMethodId>, keep: Option<(FutureUsage, AllowRedisplay)> },
    /// A provider's reference.
    Reference { provider: Arc<dyn Provider>, reference: String, method: Box<PaymentMethod> },
}

/// What a charge is made from, and what is written down of it.
pub(super) struct Presented {
    pub(super) source: Source,
    pub(super) method: PaymentMethodId,
    pub(super) card: CardSummary,
    /// The first six digits, where they are known.
    pub(super) bin: Option<String>,
    pub(super) keep_for: Option<FutureUsage>,
    /// To be saved with the charge: waits for its success.
    pub(super) pending: Option<PaymentMethod>,
}

/// Finds out what the payer's instrument stands for. A kept card is judged again here, whatever the page
/// showed: it must be the customer's, offered, in time, and chargeable.
pub(super) async fn choose(
    app: &App,
    connection: &mut Connection,
    session: &Session,
    instrument: Instrument,
    now: DateTime<Utc>,
) -> Result<Result<Chosen, Refusal>> {
    let (id, code) = match instrument {
        Instrument::Card { card, keep } => {
            // A card is kept for somebody: the customer there is, or the one that this payment makes.
            let somebody = session.customer_id.is_some() || makes_customer(session);
            let keep = session.options.saved_cards.keep(keep).filter(|_| somebody);
            return Ok(Ok(Chosen::Number { card, kept: None, keep }));
        }
        Instrument::Saved { id, code } => (id, code),
    };
    let found = store::payment_methods::find(connection, &session.merchant_id, session.livemode, &id).await?;
    let method = found.filter(|method| {
        method.state == PaymentMethodState::Attached
            && session.customer_id.is_some()
            && method.customer_id == session.customer_id
            && session.options.saved_cards.offers(method.allow_redisplay)
    });
    let Some(method) = method else { return Ok(Err(Refusal::PaymentMethodUnusable)) };
    let (month, year) = (u32::from(method.card.exp_month), u32::from(method.card.exp_year));
    let Ok(expiry) = CardExpiry::from_parts(month, year, now.date_naive()) else {
        return Ok(Err(Refusal::PaymentMethodUnusable));
    };
    match (way(app, &method), code, &method.number) {
        (Some(Way::Reference(provider, reference)), _, _) => {
            Ok(Ok(Chosen::Reference { provider, reference, method: Box::new(method) }))
        }
        (Some(Way::Number), Some(code), Some(number)) => match app.sealing.open(place(&method), number) {
            Ok(number) => {
                let card = EnteredCard { number, cvc: code.0, expiry, holder_name: method.holder_name };
                Ok(Ok(Chosen::Number { card, kept: Some(method.id), keep: None }))
            }
            Err(error) => {
                tracing::error!(payment_method = %method.id, %error, "the number of a kept card does not open");
                Ok(Err(Refusal::PaymentMethodUnusable))
            }
        },
        _ => Ok(Err(Refusal::PaymentMethodUnusable)),
    }
}

impl Chosen {
    /// The brand of the card.
    pub(super) fn brand(&self) -> CardBrand {
        match self {
            Self::Number { card, .. } => card.number.brand(),
            Self::Reference { method, .. } => method.card.brand,
        }
    }

    /// The only provider that can charge it; `None` leaves the choice open.
    pub(super) fn only_provider(&self) -> Option<Arc<dyn Provider>> {
        match self {
            Self::Number { .. } => None,
            Self::Reference { provider, .. } => Some(Arc::clone(provider)),
        }
    }

    /// Puts a typed card into the vault, for one call of `provider`, and says what is written down.
    pub(super) fn present(
        self,
        app: &App,
        provider: &dyn Provider,
        session: &Session,
        now: DateTime<Utc>,
    ) -> Presented {
        let (card, kept, keep) = match self {
            Self::Reference { reference, method, .. } => {
                let PaymentMethod { id, card, bin, .. } = *method;
                let source = Source::Saved { reference };
                return Presented { source, method: id, card, bin, keep_for: None, pending: None };
            }
            Self::Number { card, kept, keep } => (card, kept, keep),
        };
        let method = kept.unwrap_or_else(|| PaymentMethodId::generate(now));
        let place = Place { merchant: &session.merchant_id, livemode: session.livemode, method: &method };
        let number = keep.and_then(|_| app.sealing.seal(place, &card.number));
        let KeptCard { token, mut summary, bin } = app.vault.keep(card);
        let facts = provider.issuer_facts(&bin);
        summary.funding = facts.funding;
        summary.country = facts.country;
        let pending = keep.map(|(future_usage, allow_redisplay)| PaymentMethod {
            id: method.clone(),
            merchant_id: session.merchant_id.clone(),
            livemode: session.livemode,
            customer_id: session.customer_id.clone(),
            state: PaymentMethodState::Pending,
            provider: provider.name().to_owned(),
            provider_token: None,
            card: summary.clone(),
            bin: Some(bin.clone()),
            holder_name: session.payer.as_ref().map(|payer| payer.name.clone()),
            holder_email: session.payer.as_ref().map(|payer| payer.email.clone()),
            holder_address: session.payer.as_ref().and_then(|payer| payer.address.clone()),
            future_usage,
            allow_redisplay,
            metadata: Metadata::new(),
            number,
            created_at: now,
            used_at: now,
        });
        let keep_for = keep.map(|(usage, _)| usage);
        Presented { source: Source::Card(token), method, card: summary, bin: Some(bin), keep_for, pending }
    }
}

fn place(method: &PaymentMethod) -> Place<'_> {
    Place { merchant: &method.merchant_id, livemode: method.livemode, method: &method.id }
}

fn makes_customer(session: &Session) -> bool {
    session.customer_id.is_none() && session.options.customer_creation.as_deref() == Some(CUSTOMER_ALWAYS)
}

/// A charge has succeeded: makes the customer that the session asked for, and keeps the card that
/// waited. In the transaction that says so; the caller saves session, payment and charge.
pub(super) async fn charge_succeeded(
    app: &App,
    connection: &mut Connection,
    session: &mut Session,
    payment: &mut Payment,
    charge: &mut Charge,
    announcements: &mut Announcements<'_>,
    now: DateTime<Utc>,
) -> Result<()> {
    if makes_customer(session) {
        let id = CustomerId::generate(now);
        let payer = session.payer.clone();
        let customer = Customer {
            email: payer.as_ref().map(|payer| payer.email.clone()),
            address: payer.as_ref().and_then(|payer| payer.address.clone()),
            name: payer.map(|payer| payer.name).filter(|name| !name.is_empty()),
            ..Customer::new(id.clone(), session.merchant_id.clone(), session.livemode, now)
        };
        store::customers::insert(connection, &customer).await?;
        session.customer_id = Some(id.clone());
        payment.customer_id = Some(id.clone());
        charge.customer_id = Some(id.clone());
        announcements.object(session, "customer.created", id.as_str(), &wire::customer::Customer::new(&customer));
    }
    let Some(customer_id) = session.customer_id.clone() else { return Ok(()) };
    if !charge.keeps_card {
        return store::payment_methods::note_use(connection, &charge.payment_method, now).await;
    }
    let Some(pending) = store::payment_methods::take_pending(connection, &charge.payment_method).await? else {
        return Ok(());
    };
    // He may have been deleted while his payment was under way: then there is nobody to keep it for.
    if store::customers::lock(connection, &session.merchant_id, session.livemode, &customer_id).await?.is_none() {
        return Ok(());
    }
    let fresh = PaymentMethod {
        customer_id: Some(customer_id.clone()),
        state: PaymentMethodState::Attached,
        provider: charge.provider.clone(),
        provider_token: charge.facts.reusable_reference.clone(),
        card: CardSummary { country: charge.card.country.clone(), ..pending.card },
        used_at: now,
        ..pending
    };
    if fresh.provider_token.is_none() && fresh.number.is_none() {
        tracing::warn!(charge = %charge.id, provider = charge.provider,
            "a card could not be kept: its provider gives no reference for it, and the card vault is off");
        return Ok(());
    }
    let limit = i64::try_from(CARDS_PER_CUSTOMER_MAX).unwrap_or(i64::MAX);
    let others = store::payment_methods::of_customer(&mut *connection, &customer_id, limit).await?;
    let kept_before = others.len();
    let same = others.into_iter().find(|other| other.card.fingerprint == fresh.card.fingerprint);
    let (method, kind) = match same {
        Some(earlier) => (renew(app, earlier, fresh), "payment_method.updated"),
        None if kept_before >= CARDS_PER_CUSTOMER_MAX => {
            tracing::warn!(customer = %customer_id, "a card was not kept: the customer has {CARDS_PER_CUSTOMER_MAX} already");
            return Ok(());
        }
        None => (fresh, "payment_method.attached"),
    };
    store::payment_methods::save(connection, &method).await?;
    charge.payment_method = method.id.clone();
    let object = wire::payment_method::PaymentMethod::new(&method);
    announcements.object(session, kind, method.id.as_str(), &object);
    Ok(())
}

/// The same card once more. A number that was sealed for the row that waited is sealed for the row that stays.
fn renew(app: &App, earlier: PaymentMethod, fresh: PaymentMethod) -> PaymentMethod {
    let number = match (&earlier.number, &fresh.number) {
        (None, Some(sealed)) => app.sealing.open(place(&fresh), sealed).ok(),
        _ => None,
    };
    let mut renewed = earlier.renewed(fresh);
    if let Some(number) = number {
        renewed.number = app.sealing.seal(place(&renewed), &number);
    }
    renewed
}

/// A charge has failed: nothing stays of a card that waited for it, unless another try of the same card
/// is under way.
pub(super) async fn charge_failed(connection: &mut Connection, charge: &Charge) -> Result<()> {
    if charge.keeps_card {
        store::payment_methods::forget_pending(connection, charge).await?;
    }
    Ok(())
}
