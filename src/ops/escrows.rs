//! Escrows at the merchant's word: made, read, changed, delivered, decided, and sessions for their acts.
//!
//! The rule: what an act needs is checked when its session is made, so that the merchant learns at
//! once what cannot be; and again when it is done, in `ops::escrow_acts`.

use chrono::{DateTime, Utc};

use super::escrow_acts::{self, Doing, Locked, ask_for, detail_of, evidence, save_step};
use super::replay::{Answer, Write};
use super::sessions::{lifetime, must_be_reachable, page_url};
use super::{Announcements, Caller};
use crate::app::App;
use crate::crash::crash_point;
use crate::domain::escrow::{Act, Actor, AtBank, Contract, Escrow, Mode, State, Times, Words};
use crate::domain::escrow_acts::{EscrowEvent, Request, Step};
use crate::domain::escrow_contract::Deal;
use crate::domain::id::{AttachmentId, EscrowId, LineItemId, SessionId};
use crate::domain::money::Money;
use crate::domain::pricing::PricedLine;
use crate::domain::session::{self, Line, Metadata, Options, Session, SessionEvent, WaysBack};
use crate::domain::session_acts::{ACT_LIFETIME_MAX, EscrowTicket};
use crate::error::{Error, Result};
use crate::store::escrow_evidence::{self, Attachment, Signature};
use crate::store::escrows::Filter;
use crate::store::{self, Page};
use crate::wire::checkout_session::CheckoutSession;
use crate::wire::escrow::{EscrowAttachment, EscrowContract, EscrowSignature, evidence_time};
use crate::wire::{self, Expand, List};

/// An escrow as a merchant asks for it, checked by the door.
#[derive(Debug)]
pub struct NewEscrow {
    /// How much of a contract there is.
    pub mode: Mode,
    /// What it is about.
    pub title: String,
    /// What the buyer pays.
    pub total: Money,
    /// What the merchant keeps of it, in minor units.
    pub fee_minor: i64,
    /// Who pays.
    pub buyer_email: String,
    /// Who delivers.
    pub seller_email: Option<String>,
    /// Days until delivery.
    pub estimated_delivery_days: Option<u16>,
    /// Days for inspection.
    pub inspection_days: u16,
    /// The merchant's words in the contract.
    pub contract_terms: Option<String>,
    /// Whether the seller signs by this.
    pub auto_sign: bool,
    /// The merchant's own data.
    pub metadata: Metadata,
}

/// Makes an escrow.
///
/// # Errors
/// Those of the idempotency key, and the database's.
pub async fn create(app: &App, write: &Write, new: NewEscrow) -> Result<Answer> {
    write
        .once(app, async |connection, now| {
            let auto_sign = new.auto_sign;
            let escrow = made(&write.caller, new, now);
            store::escrows::insert(connection, &escrow).await?;
            let cause = write.cause();
            let mut announcements = Announcements::new(&cause, now);
            let from = escrow.state.status();
            let step = Step { escrow, events: vec![EscrowEvent::Created], refund: None, release: None };
            let detail = escrow_acts::deal(&step.escrow);
            let by = Actor::Merchant.as_str();
            let doing = Doing { act: "created", by, from, session: None, detail };
            let (mut escrow, _) = save_step(connection, step, doing, None, &mut announcements, now).await?;
            if auto_sign {
                let signature = Signature {
                    escrow_id: escrow.id.clone(),
                    party: Actor::Seller,
                    email: escrow.seller_email.clone().unwrap_or_default(),
                    name: None,
                    signed_at: now,
                    ip: None,
                    user_agent: None,
                    proof: None,
                    session_id: None,
                    contract_sha256: escrow.contract.as_ref().map_or([0; 32], |contract| contract.sha256),
                };
                escrow_evidence::insert_signature(connection, &signature).await?;
                let step = escrow.perform(Request::SignContract, Actor::Seller, now)?;
                let detail = evidence(&signature);
                let doing = Doing { act: Act::SignContract.as_str(), by: "seller", from, session: None, detail };
                (escrow, _) = save_step(connection, step, doing, None, &mut announcements, now).await?;
            }
            let outgoing = store::outbox::append(connection, &announcements.into_events(), &app.lease(now)).await?;
            Ok((Answer::new(&wire::escrow::Escrow::new(&escrow)), outgoing))
        })
        .await
}

fn made(caller: &Caller, new: NewEscrow, now: DateTime<Utc>) -> Escrow {
    let id = EscrowId::generate(now);
    let contract = new.contract_terms.as_ref().map(|terms| {
        Contract::new(&Deal {
            escrow: id.as_str(),
            title: &new.title,
            buyer_email: &new.buyer_email,
            seller_email: new.seller_email.as_deref().unwrap_or_default(),
            total: new.total,
            fee_minor: new.fee_minor,
            delivery_days: new.estimated_delivery_days.unwrap_or_default(),
            inspection_days: new.inspection_days,
            terms,
        })
    });
    Escrow {
        id,
        merchant_id: caller.merchant_id.clone(),
        livemode: caller.livemode,
        mode: new.mode,
        title: new.title,
        total: new.total,
        fee_minor: new.fee_minor,
        buyer_email: new.buyer_email,
        seller_email: new.seller_email,
        estimated_delivery_days: new.estimated_delivery_days,
        inspection_days: new.inspection_days,
        contract,
        metadata: new.metadata,
        state: State::Pending { paying: None },
        times: Times::default(),
        words: Words::default(),
        payment: None,
        returned_minor: 0,
        at_bank: AtBank::default(),
        event_count: 0,
        history_count: 0,
        history_head: [0; 32],
        created_at: now,
    }
}

/// Reads a merchant's escrow.
///
/// # Errors
/// `NotFound`.
pub async fn find(app: &App, caller: &Caller, id: &str) -> Result<Escrow> {
    let absent = || Error::not_found("escrow", id);
    let parsed = EscrowId::parse(id).ok_or_else(absent)?;
    store::escrows::find_merchants(app.store.pool(), &caller.merchant_id, caller.livemode, &parsed)
        .await?
        .ok_or_else(absent)
}

/// A page of a merchant's escrows.
///
/// # Errors
/// The database's.
pub async fn list(app: &App, caller: &Caller, filter: &Filter, page: &Page) -> Result<List<wire::escrow::Escrow>> {
    let pool = app.store.pool();
    let mut rows = store::escrows::list(pool, &caller.merchant_id, caller.livemode, filter, page).await?;
    let has_more = page.cut(&mut rows);
    Ok(List::new("/v1/escrows", rows.iter().map(wire::escrow::Escrow::new).collect(), has_more))
}

/// Changes an escrow's metadata. Allowed in every state: it is the merchant's own note.
///
/// # Errors
/// `NotFound`, those of `change`, and of the idempotency key.
pub async fn update(
    app: &App,
    write: &Write,
    id: &str,
    change: impl FnOnce(&mut Metadata) -> Result<()>,
) -> Result<Answer> {
    let known = find(app, &write.caller, id).await?;
    write
        .once(app, async |connection, _| {
            let absent = || Error::not_found("escrow", id);
            let mut escrow = store::escrows::lock(connection, &known.id).await?.ok_or_else(absent)?;
            change(&mut escrow.metadata)?;
            store::escrows::save(connection, &escrow).await?;
            Ok((Answer::new(&wire::escrow::Escrow::new(&escrow)), Vec::new()))
        })
        .await
}

/// Does what the merchant may do: deliver, reject a delivery, cancel, resolve.
///
/// # Errors
/// `NotFound`, `Refused`, and those of the idempotency key. A provider that does not answer is not an error: the
/// escrow rests in `refunding` and goes on by itself.
pub async fn change(app: &App, write: &Write, id: &str, request: Request) -> Result<Answer> {
    let known = find(app, &write.caller, id).await?;
    let mut asked = None;
    let answer = write
        .once(app, async |connection, now| {
            let Locked { mut paid, escrow, .. } = escrow_acts::lock(connection, &known.id, None).await?;
            let act = request.act();
            let from = escrow.state.status();
            let step = escrow.perform(request, Actor::Merchant, now)?;
            let detail = detail_of(act, &step.escrow);
            let cause = write.cause();
            let mut announcements = Announcements::new(&cause, now);
            let by = Actor::Merchant.as_str();
            let doing = Doing { act: act.as_str(), by, from, session: None, detail };
            let (escrow, refund) = save_step(connection, step, doing, paid.as_mut(), &mut announcements, now).await?;
            asked = refund;
            let outgoing = store::outbox::append(connection, &announcements.into_events(), &app.lease(now)).await?;
            crash_point!("change.written");
            Ok((Answer::new(&wire::escrow::Escrow::new(&escrow)), outgoing))
        })
        .await?;
    crash_point!("change.committed");
    if asked.is_none() {
        return Ok(answer);
    }
    ask_for(app, asked).await;
    crash_point!("change.asked");
    let answer = Answer::new(&wire::escrow::Escrow::new(&find(app, &write.caller, id).await?));
    write.keep_instead(app, &answer).await?;
    Ok(answer)
}

/// A session for an act as a merchant asks for it, checked by the door.
#[derive(Debug)]
pub struct NewAct {
    /// The act.
    pub act: Act,
    /// Who is to do it.
    pub target_user_email: String,
    /// The ways back, covered by the allow-list.
    pub ways_back: WaysBack,
    /// The merchant's own data.
    pub metadata: Metadata,
    /// The payer's language.
    pub locale: Option<String>,
    /// The deadline asked for.
    pub expires_at: Option<DateTime<Utc>>,
}

/// Makes a session for one act by one user.
///
/// # Errors
/// `NotFound`, `Refused` when the act is not possible now or not this user's, `Invalid` for a deadline out of
/// bounds, and those of the idempotency key.
pub async fn create_session(app: &App, write: &Write, id: &str, new: NewAct, expand: &Expand) -> Result<Answer> {
    let known = find(app, &write.caller, id).await?;
    must_be_reachable(app, Some(&new.target_user_email))?;
    write
        .once(app, async |connection, now| {
            let absent = || Error::not_found("escrow", id);
            let escrow = store::escrows::find(&mut *connection, &known.id).await?.ok_or_else(absent)?;
            let party = escrow.check(new.act, escrow.party(&new.target_user_email), now)?;
            let expires_at = lifetime(app.settings.session_lifetime_max.min(ACT_LIFETIME_MAX), new.expires_at, now)?;
            let mut session = session_for(&escrow, new, party, now, expires_at);
            let cause = write.cause();
            let mut announcements = Announcements::new(&cause, now);
            announcements.session(&mut session, &[SessionEvent::Created]);
            store::session_acts::insert(connection, &session).await?;
            let outgoing = store::outbox::append(connection, &announcements.into_events(), &app.lease(now)).await?;
            let url = page_url(app, &session.id);
            let mut object = CheckoutSession::new(&session, Some(url), None, expand);
            object.show_escrow(expand.wants("escrow").then_some(&escrow));
            Ok((Answer::new(&object), outgoing))
        })
        .await
}

fn session_for(escrow: &Escrow, new: NewAct, party: Actor, now: DateTime<Utc>, expires_at: DateTime<Utc>) -> Session {
    let minor = escrow.total.minor;
    let line = PricedLine {
        name: escrow.title.clone(),
        description: None,
        images: Vec::new(),
        product_metadata: Metadata::new(),
        unit_amount: Some(minor),
        unit_amount_decimal: minor.to_string(),
        quantity: 1,
        amount_subtotal: minor,
        amount_total: minor,
    };
    let email = new.target_user_email;
    Session {
        id: SessionId::generate(now, escrow.livemode),
        merchant_id: escrow.merchant_id.clone(),
        livemode: escrow.livemode,
        state: session::State::Pending,
        total: escrow.total,
        subtotal_minor: minor,
        lines: vec![Line { id: LineItemId::generate(now), priced: line }],
        ways_back: new.ways_back,
        client_reference_id: None,
        customer_email: (new.act == Act::AcceptPay).then(|| email.clone()),
        payer: None,
        metadata: new.metadata,
        options: Options { locale: new.locale, ui_mode: "hosted_page".to_owned(), ..Options::default() },
        escrow: Some(EscrowTicket { escrow_id: escrow.id.clone(), act: new.act, party }),
        customer_id: None,
        target_user_email: Some(email),
        payment_id: None,
        tries: 0,
        event_count: 0,
        created_at: now,
        expires_at,
        opened_at: None,
        paid_at: None,
    }
}

/// An escrow's contract with the evidence of its signatures.
///
/// # Errors
/// `NotFound`.
pub async fn contract(app: &App, caller: &Caller, id: &str) -> Result<EscrowContract> {
    let escrow = find(app, caller, id).await?;
    let signatures = escrow_evidence::signatures(app.store.pool(), &escrow.id).await?;
    Ok(EscrowContract {
        object: "escrow_contract",
        escrow: escrow.id.to_string(),
        livemode: escrow.livemode,
        text: escrow.contract.as_ref().map(|contract| contract.text.clone()),
        sha256: escrow.contract.as_ref().map(|contract| hex::encode(contract.sha256)),
        is_signed_by_both: escrow.has_signed(Actor::Buyer) && escrow.has_signed(Actor::Seller),
        signatures: signatures.iter().map(shown).collect(),
    })
}

fn shown(signature: &Signature) -> EscrowSignature {
    EscrowSignature {
        party: signature.party.as_str(),
        method: if signature.session_id.is_some() { "page" } else { "creation" },
        email: signature.email.clone(),
        name: signature.name.clone(),
        signed_at: evidence_time(signature.signed_at),
        ip: signature.ip.clone(),
        user_agent: signature.user_agent.clone(),
        email_proven_at: signature.proof.as_ref().map(|(_, at)| evidence_time(*at)),
        session: signature.session_id.as_ref().map(ToString::to_string),
        contract_sha256: hex::encode(signature.contract_sha256),
    }
}

fn file(attachment: &Attachment) -> EscrowAttachment {
    EscrowAttachment {
        id: attachment.id.to_string(),
        object: "escrow_attachment",
        content_type: attachment.kind.content_type(),
        created: attachment.created_at.timestamp(),
        escrow: attachment.escrow_id.to_string(),
        file_name: attachment.file_name.clone(),
        livemode: attachment.livemode,
        party: attachment.party.as_str(),
        session: attachment.session_id.to_string(),
        sha256: hex::encode(attachment.sha256),
        size: attachment.size_bytes,
    }
}

/// The files that came with an escrow's disputes. They are few, so all stand on one page.
///
/// # Errors
/// `NotFound`.
pub async fn attachments(app: &App, caller: &Caller, id: &str) -> Result<List<EscrowAttachment>> {
    let escrow = find(app, caller, id).await?;
    let files = escrow_evidence::attachments(app.store.pool(), &escrow.id).await?;
    Ok(List::new(format!("/v1/escrows/{}/attachments", escrow.id), files.iter().map(file).collect(), false))
}

/// A file with its bytes.
///
/// # Errors
/// `NotFound`.
pub async fn attachment(app: &App, caller: &Caller, id: &str) -> Result<(EscrowAttachment, Vec<u8>)> {
    let absent = || Error::not_found("escrow_attachment", id);
    let parsed = AttachmentId::parse(id).ok_or_else(absent)?;
    let (attachment, content) =
        escrow_evidence::attachment(app.store.pool(), &caller.merchant_id, caller.livemode, &parsed)
            .await?
            .ok_or_else(absent)?;
    Ok((file(&attachment), content))
}
