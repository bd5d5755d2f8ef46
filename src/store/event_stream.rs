//! Events as a stream reads them: what is new since a point, in the order of their ids.

use chrono::Duration;
use sqlx::{PgPool, Row as _};

use super::outbox::type_is_named;
use crate::domain::id::{EventId, MerchantId};
use crate::error::Result;

/// An event on its way into a stream.
#[derive(Debug, Clone)]
pub struct StreamedEvent {
    /// `evt_…`
    pub id: EventId,
    /// The exact bytes that are signed and sent to endpoints.
    pub body: String,
}

/// Which events a look may give.
#[derive(Debug)]
pub struct Look<'a> {
    /// Whose.
    pub merchant: &'a MerchantId,
    /// Mode.
    pub livemode: bool,
    /// Types; a trailing `.*` stands for a family. `*` stands for all, and so does none.
    pub kinds: &'a [String],
    /// Only ids behind this one.
    pub behind: &'a EventId,
    /// Without these.
    pub but: &'a [String],
    /// At most so many.
    pub limit: i64,
}

/// The oldest of the events that are asked for. The time in the id leaves partitions before it unread.
///
/// # Errors
/// When the database does not answer.
pub async fn look(pool: &PgPool, look: &Look<'_>) -> Result<Vec<StreamedEvent>> {
    let rows = sqlx::query(concat!(
        "select id, body from event
             where merchant_id = $1 and livemode = $2 and created_at >= $3 and id > $4 and id <> all ($5)
               and (cardinality($6::text[]) = 0 or ",
        type_is_named!("event.type", "$6::text[]"),
        ") order by id limit $7"
    ))
    .bind(look.merchant.as_str())
    .bind(look.livemode)
    .bind(look.behind.created_at() - Duration::milliseconds(1))
    .bind(look.behind.as_str())
    .bind(look.but)
    .bind(look.kinds)
    .bind(look.limit)
    .fetch_all(pool)
    .await?;
    rows.iter()
        .map(|row| Ok(StreamedEvent { id: EventId::from_stored(row.try_get("id")?), body: row.try_get("body")? }))
        .collect()
}
