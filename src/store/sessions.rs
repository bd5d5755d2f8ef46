//! Checkout sessions as rows.
//!
//! The rule: a session is made in one statement together with its event, what is owed of it and its
//! kept answer, so that either all of it exists or nothing; it is changed only under its row lock.
//! Functions on the hot path take slices, so that several sessions can share one commit.

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::{PgExecutor, PgPool, Postgres, QueryBuilder, Row as _};

use super::billing::{address_from_row, address_to_json};
use super::codec::{
    lines_from_row, lines_to_json, metadata_from_row, metadata_to_json, options_from_row, options_to_json,
};
use super::idempotency::NewReply;
use super::outbox::{self, Lease, NewEvent, Outgoing};
use super::session_acts;
use super::together::Statement;
use super::{Connection, Failure, inconsistent};
use crate::domain::id::{ChargeId, CustomerId, MerchantId, PaymentId, SessionId};
use crate::domain::money::{Currency, Money};
use crate::domain::redirect::WayBack;
use crate::domain::session::{Payer, Session, State, StateName, WaysBack};
use crate::error::Result;

macro_rules! columns {
    () => {
        "id, merchant_id, livemode, state, currency, amount_subtotal, amount_total, line_items,
         success_url, cancel_url, return_url, expired_url, failed_url, client_reference_id, customer_email,
         target_user_email, payer_email, payer_name, payer_address, metadata, options, payment_id, tries, event_count, created_at, expires_at,
         opened_at, ended_at, paid_at, customer_id, action, act_party, escrow_id"
    };
}

fn to_session(row: &PgRow) -> Result<Session> {
    let id: String = row.try_get("id")?;
    let broken = |what: &str| inconsistent("checkout_session", &id, what);
    let state: String = row.try_get("state")?;
    let ended_at: Option<DateTime<Utc>> = row.try_get("ended_at")?;
    let state = match (StateName::parse(&state), ended_at) {
        (Some(StateName::Pending), None) => State::Pending,
        (Some(StateName::Processing), None) => State::Processing,
        (Some(StateName::Completed), Some(at)) => State::Completed(at),
        (Some(StateName::Expired), Some(at)) => State::Expired(at),
        (Some(StateName::Cancelled), Some(at)) => State::Cancelled(at),
        (Some(StateName::Failed), Some(at)) => State::Failed(at),
        _ => return Err(broken("state and ended_at disagree")),
    };
    let currency: String = row.try_get("currency")?;
    let currency = Currency::parse(&currency).ok_or_else(|| broken("unknown currency"))?;
    let payer =
        match (row.try_get::<Option<String>, _>("payer_email")?, row.try_get::<Option<String>, _>("payer_name")?) {
            (Some(email), Some(name)) => {
                let address = address_from_row("checkout_session", &id, row, "payer_address")?;
                Some(Payer { email, name, address })
            }
            (None, None) => None,
            _ => return Err(broken("half a payer")),
        };
    let way = |column: &str| -> Result<Option<WayBack>> {
        Ok(row.try_get::<Option<String>, _>(column)?.map(WayBack::from_stored))
    };
    Ok(Session {
        merchant_id: MerchantId::from_stored(row.try_get("merchant_id")?),
        livemode: row.try_get("livemode")?,
        state,
        total: Money { minor: row.try_get("amount_total")?, currency },
        subtotal_minor: row.try_get("amount_subtotal")?,
        lines: lines_from_row(&id, row)?,
        ways_back: WaysBack {
            success_url: way("success_url")?,
            cancel_url: way("cancel_url")?,
            return_url: way("return_url")?,
            expired_url: way("expired_url")?,
            failed_url: way("failed_url")?,
        },
        client_reference_id: row.try_get("client_reference_id")?,
        customer_email: row.try_get("customer_email")?,
        customer_id: row.try_get::<Option<String>, _>("customer_id")?.map(CustomerId::from_stored),
        target_user_email: row.try_get("target_user_email")?,
        payer,
        metadata: metadata_from_row("checkout_session", &id, row)?,
        options: options_from_row(&id, row)?,
        escrow: session_acts::ticket(&id, row)?,
        payment_id: row.try_get::<Option<String>, _>("payment_id")?.map(PaymentId::from_stored),
        tries: u8::try_from(row.try_get::<i16, _>("tries")?).map_err(|_| broken("tries"))?,
        event_count: row.try_get("event_count")?,
        created_at: row.try_get("created_at")?,
        expires_at: row.try_get("expires_at")?,
        opened_at: row.try_get("opened_at")?,
        paid_at: row.try_get("paid_at")?,
        id: SessionId::from_stored(id),
    })
}

/// A session to be made, with its event and the answer to keep.
#[derive(Debug, Clone)]
pub struct Creation {
    /// The session.
    pub session: Session,
    /// `checkout.session.created`.
    pub event: NewEvent,
    /// The answer, when the request had an idempotency key.
    pub reply: Option<NewReply>,
}

/// What became of one creation.
#[derive(Debug)]
pub enum Created {
    /// It exists; these deliveries are owed.
    Done(Vec<Outgoing>),
    /// Its idempotency key is taken; nothing was written.
    KeyTaken,
}

/// Makes sessions, all in one statement; the answers are in the order of the creations.
///
/// # Errors
/// When the database does not answer; then none was made, or the connection broke during the commit.
pub async fn create(
    connection: &mut Connection,
    creations: &[Creation],
    lease: &Lease,
) -> Result<Vec<Created>, Failure> {
    const SQL: &str = concat!(
        "with ",
        outbox::outbox_parameters!(),
        ", given as (
            select * from unnest($13::text[], $14::text[], $15::boolean[], $16::text[], $17::int8[], $18::int8[],
                    $19::jsonb[], $20::text[], $21::text[], $22::text[], $23::text[], $24::text[], $25::text[],
                    $26::text[], $27::jsonb[], $28::jsonb[], $29::timestamptz[], $30::timestamptz[],
                    $31::text[], $32::text[], $33::bytea[], $34::int2[], $35::bytea[], $36::text[], $37::text[])
                with ordinality as g (id, merchant_id, livemode, currency, amount_subtotal, amount_total,
                    line_items, success_url, cancel_url, return_url, expired_url, failed_url, client_reference_id,
                    customer_email, metadata, options, created_at, expires_at,
                    key, route, fingerprint, status, body_sealed, customer_id, target_user_email, ordinal)
        ), reply_stored as (
            insert into idempotency_key
                (merchant_id, livemode, key, route, fingerprint, status, body_sealed, created_at)
            select merchant_id, livemode, key, route, fingerprint, status, body_sealed, created_at
            from given where key is not null
            order by merchant_id, livemode, key
            on conflict do nothing
            returning merchant_id, livemode, key, fingerprint, body_sealed
        ), accepted as (
            select g.* from given g left join reply_stored r
                on r.merchant_id = g.merchant_id and r.livemode = g.livemode and r.key = g.key
                   and r.body_sealed = g.body_sealed
            where g.key is null or r.key is not null
        ), session_stored as (
            insert into checkout_session (id, merchant_id, livemode, mode, state, currency, amount_subtotal,
                amount_total, line_items, success_url, cancel_url, return_url, expired_url, failed_url,
                client_reference_id, customer_email, customer_id, metadata, options, event_count, created_at, expires_at,
                target_user_email)
            select id, merchant_id, livemode, 'payment', 'pending', currency, amount_subtotal,
                amount_total, line_items, success_url, cancel_url, return_url, expired_url, failed_url,
                client_reference_id, customer_email, customer_id, metadata, options, 1, created_at, expires_at,
                target_user_email
            from accepted
        ), new_event as (
            select e.* from given_event e join accepted a on a.ordinal = e.ordinal
        ), ",
        outbox::outbox_ctes!(),
        " select ordinal, endpoint_ids from addressed order by ordinal",
    );
    let events: Vec<NewEvent> = creations.iter().map(|creation| creation.event.clone()).collect();
    let sessions: Vec<&Session> = creations.iter().map(|creation| &creation.session).collect();
    let replies: Vec<Option<&NewReply>> = creations.iter().map(|creation| creation.reply.as_ref()).collect();
    fn column<'e, S, T>(items: &[S], field: impl Fn(&S) -> T) -> Vec<T>
    where
        S: 'e,
    {
        items.iter().map(field).collect()
    }
    let way = |pick: fn(&WaysBack) -> &Option<WayBack>| -> Vec<Option<String>> {
        sessions.iter().map(|session| pick(&session.ways_back).as_ref().map(|way| way.as_str().to_owned())).collect()
    };
    let rows = sqlx::query_with(SQL, outbox::event_arguments(&events, lease)?)
        .bind(column(&sessions, |session| session.id.to_string()))
        .bind(column(&sessions, |session| session.merchant_id.to_string()))
        .bind(column(&sessions, |session| session.livemode))
        .bind(column(&sessions, |session| session.total.currency.code().to_owned()))
        .bind(column(&sessions, |session| session.subtotal_minor))
        .bind(column(&sessions, |session| session.total.minor))
        .bind(column(&sessions, |session| lines_to_json(&session.lines)))
        .bind(way(|ways| &ways.success_url))
        .bind(way(|ways| &ways.cancel_url))
        .bind(way(|ways| &ways.return_url))
        .bind(way(|ways| &ways.expired_url))
        .bind(way(|ways| &ways.failed_url))
        .bind(column(&sessions, |session| session.client_reference_id.clone()))
        .bind(column(&sessions, |session| session.customer_email.clone()))
        .bind(column(&sessions, |session| metadata_to_json(&session.metadata)))
        .bind(column(&sessions, |session| options_to_json(&session.options)))
        .bind(column(&sessions, |session| session.created_at))
        .bind(column(&sessions, |session| session.expires_at))
        .bind(column(&replies, |reply| reply.map(|reply| reply.key.clone())))
        .bind(column(&replies, |reply| reply.map(|reply| reply.route.clone())))
        .bind(column(&replies, |reply| reply.map(|reply| reply.fingerprint.to_vec())))
        .bind(column(&replies, |reply| reply.map(|reply| reply.status)))
        .bind(column(&replies, |reply| reply.map(|reply| reply.body_sealed.clone())))
        .bind(column(&sessions, |session| session.customer_id.as_ref().map(ToString::to_string)))
        .bind(column(&sessions, |session| session.target_user_email.clone()))
        .fetch_all(connection)
        .await?;
    let mut created: Vec<Created> = creations.iter().map(|_| Created::KeyTaken).collect();
    for row in &rows {
        let ordinal: i64 = row.try_get(0)?;
        let endpoint_ids: Vec<String> = row.try_get(1)?;
        let place = usize::try_from(ordinal - 1).unwrap_or(usize::MAX);
        if let Some(slot) = created.get_mut(place) {
            *slot = Created::Done(outbox::outgoing(&events, lease, [(ordinal, endpoint_ids)]));
        }
    }
    Ok(created)
}

/// A merchant's session.
///
/// # Errors
/// When the database does not answer or the row is inconsistent.
pub async fn find(
    database: impl PgExecutor<'_>,
    merchant: &MerchantId,
    livemode: bool,
    id: &SessionId,
) -> Result<Option<Session>> {
    let row = sqlx::query(concat!(
        "select ",
        columns!(),
        " from checkout_session where id = $1 and merchant_id = $2 and livemode = $3"
    ))
    .bind(id.as_str())
    .bind(merchant.as_str())
    .bind(livemode)
    .fetch_optional(database)
    .await?;
    row.as_ref().map(to_session).transpose()
}

/// The sessions that payers' tokens open, each with the merchant's name, support address and accent
/// colour: all that their pages need, in one round trip. In no order; absent ones are left out.
///
/// # Errors
/// When the database does not answer. A row that is inconsistent fails alone.
pub async fn find_for_pages(connection: &mut Connection, ids: &[&str]) -> Result<Vec<Result<PageSession>>, Failure> {
    let rows = sqlx::query(concat!(
        "select s.*, m.name as merchant_name, m.support_email, m.accent_color from (select ",
        columns!(),
        " from checkout_session where id = any($1)) s join merchant m on m.id = s.merchant_id"
    ))
    .bind(ids)
    .fetch_all(connection)
    .await?;
    let page = |row: &PgRow| -> Result<PageSession> {
        Ok(PageSession {
            session: to_session(row)?,
            merchant_name: row.try_get("merchant_name")?,
            support_email: row.try_get("support_email")?,
            accent_color: row.try_get("accent_color")?,
        })
    };
    Ok(rows.iter().map(page).collect())
}

/// A session with what its page shows of the merchant.
#[derive(Debug, Clone)]
pub struct PageSession {
    /// The session.
    pub session: Session,
    /// The merchant's name.
    pub merchant_name: String,
    /// Where payers get help.
    pub support_email: Option<String>,
    /// `#rrggbb`.
    pub accent_color: Option<String>,
}

/// Locks a session for the rest of the transaction.
///
/// # Errors
/// When the database does not answer, the lock is not to be had, or the row is inconsistent.
pub async fn lock(connection: &mut Connection, id: &SessionId) -> Result<Option<Session>> {
    let row = sqlx::query(concat!("select ", columns!(), " from checkout_session where id = $1 for update"))
        .bind(id.as_str())
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(to_session).transpose()
}

/// Locks the session that a charge pays for the rest of the transaction.
///
/// # Errors
/// When the database does not answer, the lock is not to be had, or the row is inconsistent.
pub async fn lock_of_charge(connection: &mut Connection, charge: &ChargeId) -> Result<Option<Session>> {
    let row = sqlx::query(concat!(
        "select ",
        columns!(),
        " from checkout_session where id = (select session_id from charge where id = $1) for update"
    ))
    .bind(charge.as_str())
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(to_session).transpose()
}

/// Locks sessions whose deadline has passed, skipping those that somebody else holds.
///
/// # Errors
/// When the database does not answer or a row is inconsistent.
pub async fn lock_due(connection: &mut Connection, now: DateTime<Utc>, limit: i64) -> Result<Vec<Session>> {
    let rows = sqlx::query(concat!(
        "select ",
        columns!(),
        " from checkout_session where state = 'pending' and expires_at <= $1
         order by expires_at limit $2 for update skip locked"
    ))
    .bind(now)
    .bind(limit)
    .fetch_all(connection)
    .await?;
    rows.iter().map(to_session).collect()
}

/// Counts open sessions whose deadline was at `moment` or before, at most `limit`.
///
/// # Errors
/// When the database does not answer.
pub async fn count_due(pool: &PgPool, moment: DateTime<Utc>, limit: i64) -> Result<u32> {
    let count: i64 = sqlx::query_scalar(
        "select count(*) from (select 1 from checkout_session where state = 'pending' and expires_at <= $1 limit $2) s",
    )
    .bind(moment)
    .bind(limit)
    .fetch_one(pool)
    .await?;
    Ok(u32::try_from(count).unwrap_or(u32::MAX))
}

/// Moves a session's deadline. The caller holds the row's lock.
///
/// # Errors
/// When the database does not answer.
pub async fn save_deadline(connection: &mut Connection, id: &SessionId, deadline: DateTime<Utc>) -> Result<()> {
    sqlx::query("update checkout_session set expires_at = $2 where id = $1")
        .bind(id.as_str())
        .bind(deadline)
        .execute(connection)
        .await?;
    Ok(())
}

/// Writes back what a session's transitions can change. The caller holds the row's lock.
///
/// # Errors
/// When the database does not answer, or a row is not there.
pub async fn save(connection: &mut Connection, sessions: &[&Session]) -> Result<()> {
    let mut statement = Statement::default();
    push_save(&mut statement, sessions);
    let done = statement.build().execute(connection).await?;
    if done.rows_affected() != sessions.len() as u64 {
        return Err(inconsistent("checkout_session", "?", "a locked session was not there to be saved"));
    }
    Ok(())
}

/// The statement of [`save`].
pub(super) fn push_save(statement: &mut Statement, sessions: &[&Session]) {
    let each = |field: fn(&Session) -> Option<String>| -> Vec<Option<String>> {
        sessions.iter().map(|session| field(session)).collect()
    };
    let time = |field: fn(&Session) -> Option<DateTime<Utc>>| -> Vec<Option<DateTime<Utc>>> {
        sessions.iter().map(|session| field(session)).collect()
    };
    statement
        .push(
            "update checkout_session s set state = g.state, payer_email = g.payer_email, payer_name = g.payer_name,
                 metadata = g.metadata, payment_id = g.payment_id, tries = g.tries, event_count = g.event_count,
                 opened_at = g.opened_at, completed_at = g.completed_at, ended_at = g.ended_at, paid_at = g.paid_at,
                 customer_id = g.customer_id, payer_address = g.payer_address
             from unnest(",
        )
        .push_bind(sessions.iter().map(|session| session.id.as_str()).collect::<Vec<_>>())
        .push("::text[], ")
        .push_bind(sessions.iter().map(|session| session.state.name().as_str()).collect::<Vec<_>>())
        .push("::text[], ")
        .push_bind(each(|session| session.payer.as_ref().map(|payer| payer.email.clone())))
        .push("::text[], ")
        .push_bind(each(|session| session.payer.as_ref().map(|payer| payer.name.clone())))
        .push("::text[], ")
        .push_bind(sessions.iter().map(|session| metadata_to_json(&session.metadata)).collect::<Vec<_>>())
        .push("::jsonb[], ")
        .push_bind(each(|session| session.payment_id.as_ref().map(ToString::to_string)))
        .push("::text[], ")
        .push_bind(sessions.iter().map(|session| i16::from(session.tries)).collect::<Vec<_>>())
        .push("::int2[], ")
        .push_bind(sessions.iter().map(|session| session.event_count).collect::<Vec<_>>())
        .push("::int4[], ")
        .push_bind(time(|session| session.opened_at))
        .push("::timestamptz[], ")
        .push_bind(time(|session| match session.state {
            State::Completed(at) => Some(at),
            _ => None,
        }))
        .push("::timestamptz[], ")
        .push_bind(time(|session| session.state.ended_at()))
        .push("::timestamptz[], ")
        .push_bind(time(|session| session.paid_at))
        .push("::timestamptz[], ")
        .push_bind(each(|session| session.customer_id.as_ref().map(ToString::to_string)))
        .push("::text[], ")
        .push_bind(
            sessions
                .iter()
                .map(|session| address_to_json(session.payer.as_ref().and_then(|payer| payer.address.as_ref())))
                .collect::<Vec<_>>(),
        )
        .push(
            "::jsonb[])
                 as g (id, state, payer_email, payer_name, metadata, payment_id, tries, event_count, opened_at,
                       completed_at, ended_at, paid_at, customer_id, payer_address)
             where s.id = g.id",
        );
}

/// What a list of sessions may be narrowed to.
#[derive(Debug, Default, Clone)]
pub struct Filter {
    /// Stripe's view of the state.
    pub status: Option<String>,
    /// The full state.
    pub state: Option<String>,
    /// The payment.
    pub payment_intent: Option<String>,
    /// What the payer typed, or what the merchant gave before that.
    pub customer_email: Option<String>,
    /// The customer.
    pub customer: Option<String>,
    /// The merchant's own reference.
    pub client_reference_id: Option<String>,
    /// Bounds on the creation time.
    pub created: super::CreatedFilter,
}

/// A page of a merchant's sessions, newest first; one more than `limit` tells whether there are more.
///
/// # Errors
/// When the database does not answer or a row is inconsistent.
pub async fn list(
    database: impl PgExecutor<'_>,
    merchant: &MerchantId,
    livemode: bool,
    filter: &Filter,
    page: &super::Page,
) -> Result<Vec<Session>> {
    let mut query: QueryBuilder<Postgres> =
        QueryBuilder::new(concat!("select ", columns!(), " from checkout_session where merchant_id = "));
    query.push_bind(merchant.as_str()).push(" and livemode = ").push_bind(livemode);
    if let Some(status) = &filter.status {
        query.push(match status.as_str() {
            "open" => " and state in ('pending', 'processing')",
            "complete" => " and state = 'completed'",
            _ => " and state in ('expired', 'cancelled', 'failed')",
        });
    }
    if let Some(state) = &filter.state {
        query.push(" and state = ").push_bind(state);
    }
    if let Some(payment) = &filter.payment_intent {
        query.push(" and payment_id = ").push_bind(payment);
    }
    if let Some(email) = &filter.customer_email {
        query.push(" and lower(coalesce(payer_email, customer_email)) = lower(").push_bind(email).push(")");
    }
    if let Some(customer) = &filter.customer {
        query.push(" and customer_id = ").push_bind(customer);
    }
    if let Some(reference) = &filter.client_reference_id {
        query.push(" and client_reference_id = ").push_bind(reference);
    }
    filter.created.push_to(&mut query);
    page.push_to(&mut query);
    let rows = query.build().fetch_all(database).await?;
    let mut sessions = rows.iter().map(to_session).collect::<Result<Vec<_>>>()?;
    page.order(&mut sessions);
    Ok(sessions)
}
