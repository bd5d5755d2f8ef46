//! Sessions for acts of escrows: what their rows have beside those of payments.
//! They are made one by one, inside the transaction that has looked at the escrow.

use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::codec::{lines_to_json, metadata_to_json, options_to_json};
use super::{Connection, inconsistent};
use crate::domain::escrow::{Act, Actor};
use crate::domain::id::{EscrowId, SessionId};
use crate::domain::redirect::WayBack;
use crate::domain::session::Session;
use crate::domain::session_acts::EscrowTicket;
use crate::error::{Error, Result};

/// What a session is a ticket for, from its row.
pub(super) fn ticket(id: &str, row: &PgRow) -> Result<Option<EscrowTicket>> {
    let broken = |what: &str| inconsistent("checkout_session", id, what);
    let action: Option<String> = row.try_get("action")?;
    let party: Option<String> = row.try_get("act_party")?;
    let escrow: Option<String> = row.try_get("escrow_id")?;
    match (action, party, escrow) {
        (None, None, None) => Ok(None),
        (Some(action), Some(party), Some(escrow)) => Ok(Some(EscrowTicket {
            escrow_id: EscrowId::from_stored(escrow),
            act: Act::parse(&action).ok_or_else(|| broken("unknown action"))?,
            party: Actor::parse_party(&party).ok_or_else(|| broken("unknown side"))?,
        })),
        _ => Err(broken("half an act")),
    }
}

/// The escrow of a session, which never changes.
///
/// # Errors
/// When the database does not answer.
pub async fn escrow_of(connection: &mut Connection, id: &SessionId) -> Result<Option<EscrowId>> {
    let escrow: Option<Option<String>> = sqlx::query_scalar("select escrow_id from checkout_session where id = $1")
        .bind(id.as_str())
        .fetch_optional(connection)
        .await?;
    Ok(escrow.flatten().map(EscrowId::from_stored))
}

/// Writes a new session for an act.
///
/// # Errors
/// When the database does not answer, or the session is for no act.
pub async fn insert(connection: &mut Connection, session: &Session) -> Result<()> {
    let ticket = session
        .escrow
        .as_ref()
        .ok_or_else(|| Error::Internal(format!("session {} is for no act of an escrow", session.id)))?;
    let ways = &session.ways_back;
    let way = |way: &Option<WayBack>| way.as_ref().map(|way| way.as_str().to_owned());
    sqlx::query(
        "insert into checkout_session (id, merchant_id, livemode, mode, state, currency, amount_subtotal,
             amount_total, line_items, success_url, cancel_url, return_url, expired_url, failed_url,
             client_reference_id, customer_email, metadata, options, event_count, created_at, expires_at,
             action, act_party, escrow_id, target_user_email)
         values ($1, $2, $3, 'escrow', 'pending', $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18,
             $19, $20, $21, $22, $23)",
    )
    .bind(session.id.as_str())
    .bind(session.merchant_id.as_str())
    .bind(session.livemode)
    .bind(session.total.currency.code())
    .bind(session.subtotal_minor)
    .bind(session.total.minor)
    .bind(lines_to_json(&session.lines))
    .bind(way(&ways.success_url))
    .bind(way(&ways.cancel_url))
    .bind(way(&ways.return_url))
    .bind(way(&ways.expired_url))
    .bind(way(&ways.failed_url))
    .bind(&session.client_reference_id)
    .bind(&session.customer_email)
    .bind(metadata_to_json(&session.metadata))
    .bind(options_to_json(&session.options))
    .bind(session.event_count)
    .bind(session.created_at)
    .bind(session.expires_at)
    .bind(ticket.act.as_str())
    .bind(ticket.party.as_str())
    .bind(ticket.escrow_id.as_str())
    .bind(&session.target_user_email)
    .execute(connection)
    .await?;
    Ok(())
}
