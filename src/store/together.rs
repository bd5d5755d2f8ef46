//! One statement for everything that a step of a payment writes: session, payment, charge, ledger and
//! events with their deliveries.
//!
//! The rule: what is written is the same as by the functions one by one, and so is when, which is inside
//! the caller's transaction and under its locks. Only the round trips are fewer: a confirmed payment
//! spends most of its time on them, with its session's row locked. The parts are theirs who own the
//! tables; here they are put side by side.

use chrono::{DateTime, Utc};
use sqlx::{Postgres, QueryBuilder, Row as _};

use super::fraud::Keys;
use super::ledger::Booking;
use super::outbox::{self, Lease, NewEvent, Outgoing};
use super::{Connection, inconsistent, ledger, payment_writes, sessions};
use crate::domain::ledger::Movement;
use crate::domain::payment::{Charge, Payment};
use crate::domain::session::Session;
use crate::error::Result;

/// A statement that is being put together.
pub(super) type Statement = QueryBuilder<Postgres>;

/// A charge that is about to be tried.
pub struct NewCharge<'a> {
    /// The charge.
    pub charge: &'a Charge,
    /// When the sweep looks at it first.
    pub look_up_at: DateTime<Utc>,
    /// Of the one-time word that the way back from an authentication carries.
    pub return_state_hash: &'a [u8; 32],
    /// By what the fraud checks count it.
    pub keys: &'a Keys,
}

/// A charge that has changed.
pub struct ChangedCharge<'a> {
    /// The charge.
    pub charge: &'a Charge,
    /// When the sweep looks at it next.
    pub look_up_at: Option<DateTime<Utc>>,
}

/// What one step writes. The caller holds the session's lock.
pub struct Changes<'a> {
    /// The session, with its events counted.
    pub session: &'a Session,
    /// A payment set in motion, and the charge that tries it.
    pub started: Option<(&'a Payment, NewCharge<'a>)>,
    /// A payment and a charge that have changed.
    pub changed: Option<(&'a Payment, ChangedCharge<'a>)>,
    /// What moved.
    pub bookings: &'a [(Booking<'a>, Movement)],
    /// What is announced.
    pub events: &'a [NewEvent],
    /// To whom the deliveries belong at first.
    pub lease: &'a Lease,
    /// When.
    pub now: DateTime<Utc>,
}

/// Writes it all and gives the deliveries that are owed.
///
/// # Errors
/// When the database does not answer, a row is not there, or a second charge of the session would be alive.
pub async fn save(connection: &mut Connection, changes: &Changes<'_>) -> Result<Vec<Outgoing>> {
    const BEGINNING: &str = concat!(
        "with ",
        crate::store::outbox::outbox_parameters!(),
        ", new_event as (select * from given_event), ",
        crate::store::outbox::outbox_ctes!(),
    );
    let mut statement =
        QueryBuilder::with_arguments(BEGINNING, outbox::event_arguments(changes.events, changes.lease)?);
    statement.push(", session_saved as (");
    sessions::push_save(&mut statement, &[changes.session]);
    statement.push(" returning 1)");
    if let Some((payment, new)) = &changes.started {
        statement.push(", payment_started as (");
        payment_writes::push_insert_payment(&mut statement, payment);
        statement.push("), charge_started as (");
        payment_writes::push_insert_charge(&mut statement, new.charge, new.look_up_at, new.return_state_hash, new.keys);
        statement.push(")");
    }
    if let Some((payment, changed)) = &changes.changed {
        statement.push(", payment_saved as (");
        payment_writes::push_save_payment(&mut statement, payment);
        statement.push("), charge_saved as (");
        payment_writes::push_save_charge(&mut statement, changed.charge, changed.look_up_at, changes.now);
        statement.push(")");
    }
    for (number, (booking, movement)) in changes.bookings.iter().enumerate() {
        statement.push(format!(", booked_{number} as ("));
        ledger::push_book(&mut statement, booking, *movement);
        statement.push(")");
    }
    statement.push(
        " select k.saved, a.ordinal, a.endpoint_ids from (select count(*) as saved from session_saved) k
          left join addressed a on a.endpoint_ids <> '{}' order by a.ordinal",
    );
    let rows = statement.build().fetch_all(connection).await?;
    let mut addressed: Vec<(i64, Vec<String>)> = Vec::with_capacity(rows.len());
    for row in &rows {
        let saved: i64 = row.try_get(0)?;
        if saved != 1 {
            let id = changes.session.id.as_str();
            return Err(inconsistent("checkout_session", id, "a locked session was not there to be saved"));
        }
        if let Some(ordinal) = row.try_get(1)? {
            addressed.push((ordinal, row.try_get(2)?));
        }
    }
    Ok(outbox::outgoing(changes.events, changes.lease, addressed))
}
