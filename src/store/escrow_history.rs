//! The history of escrows: only ever added to, and chained by hashes.
//!
//! The rule: an entry's hash is SHA-256 over the hash before it and the exact text of the entry, which
//! says its number; the escrow's row keeps the length and the last hash. Whoever changes, takes out,
//! adds or moves an entry behind our back is found by [`broken_chains`].

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use sha2::{Digest, Sha256};
use sqlx::Row as _;

use super::Connection;
use crate::domain::escrow::Escrow;
use crate::error::Result;

/// Escrows whose history is read at once.
const CHAINS_PER_ROUND: i64 = 200;

/// What happened, as it is written down.
#[derive(Debug, Serialize)]
pub struct Entry<'a> {
    /// The act, or `created`, `payment_started`, `payment_declined`, `refunded`, `refund_refused`.
    pub act: &'a str,
    /// `buyer`, `seller`, `merchant`, `time` or `provider`.
    pub by: &'a str,
    /// The status before.
    pub from: &'a str,
    /// The status after.
    pub to: &'a str,
    /// The session in which it was done.
    pub session: Option<&'a str>,
    /// What else the escrow's row says since, by column, that neither act nor detail tell.
    pub stands: serde_json::Value,
    /// What else belongs to it: what was typed, hashes of what was handed in, amounts.
    pub detail: serde_json::Value,
}

#[derive(Serialize)]
struct Numbered<'a> {
    escrow: &'a str,
    number: i32,
    at: String,
    #[serde(flatten)]
    entry: &'a Entry<'a>,
}

fn chained(previous: &[u8], entry: &str) -> [u8; 32] {
    Sha256::new().chain_update(previous).chain_update(entry.as_bytes()).finalize().into()
}

/// Adds an entry and moves the head that the escrow's row keeps; the caller saves the row afterwards.
///
/// # Errors
/// When the database does not answer.
pub async fn append(
    connection: &mut Connection,
    escrow: &mut Escrow,
    entry: &Entry<'_>,
    now: DateTime<Utc>,
) -> Result<()> {
    let number = escrow.history_count.saturating_add(1);
    let at = now.to_rfc3339_opts(SecondsFormat::Micros, true);
    let text = serde_json::to_string(&Numbered { escrow: escrow.id.as_str(), number, at, entry })
        .map_err(|error| crate::error::Error::Internal(format!("an entry of a history does not serialise: {error}")))?;
    let hash = chained(&escrow.history_head, &text);
    sqlx::query(
        "insert into escrow_history (escrow_id, number, entry, previous_hash, hash, created_at)
         values ($1, $2, $3, $4, $5, $6)",
    )
    .bind(escrow.id.as_str())
    .bind(number)
    .bind(&text)
    .bind(escrow.history_head.as_slice())
    .bind(hash.as_slice())
    .bind(now)
    .execute(connection)
    .await?;
    escrow.history_count = number;
    escrow.history_head = hash;
    Ok(())
}

/// A history that is not what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokenChain {
    /// The escrow.
    pub escrow_id: String,
    /// The first entry at fault; one past the last where entries are missing at the end.
    pub number: i32,
    /// What is wrong with it.
    pub what: &'static str,
}

fn first_fault(entries: &[(i32, String, Vec<u8>, Vec<u8>)], count: i32, head: &[u8]) -> Option<(i32, &'static str)> {
    let mut previous = vec![0_u8; 32];
    for ((number, entry, previous_hash, hash), expected) in entries.iter().zip(1..) {
        let says: Option<i64> =
            serde_json::from_str::<serde_json::Value>(entry).ok().and_then(|entry| entry["number"].as_i64());
        if *number != expected {
            return Some((expected, "the entry is missing"));
        }
        if *previous_hash != previous {
            return Some((*number, "the entry does not follow the one before it"));
        }
        if chained(&previous, entry).as_slice() != hash.as_slice() || says != Some(i64::from(expected)) {
            return Some((*number, "the entry is not what was hashed"));
        }
        previous.clone_from(hash);
    }
    let last = i32::try_from(entries.len()).unwrap_or(i32::MAX);
    if last != count {
        return Some((last.min(count).saturating_add(1), "the number of entries is not what the escrow says"));
    }
    (previous != head).then_some((last, "the last hash is not what the escrow says"))
}

/// Reads all histories and gives those that are broken, each with its first fault, in order of the escrow's id.
///
/// # Errors
/// When the database does not answer.
pub async fn broken_chains(connection: &mut Connection) -> Result<Vec<BrokenChain>> {
    let mut broken = Vec::new();
    let mut after = String::new();
    loop {
        // One statement, so that an escrow and its history are of one moment.
        let rows = sqlx::query(
            "select e.id, e.history_count, e.history_head, h.number, h.entry, h.previous_hash, h.hash
             from (select id, history_count, history_head from escrow where id > $1 order by id limit $2) e
             left join escrow_history h on h.escrow_id = e.id
             order by e.id, h.number",
        )
        .bind(&after)
        .bind(CHAINS_PER_ROUND)
        .fetch_all(&mut *connection)
        .await?;
        let mut place = 0;
        while place < rows.len() {
            let id: String = rows[place].try_get("id")?;
            let count: i32 = rows[place].try_get("history_count")?;
            let head: Vec<u8> = rows[place].try_get("history_head")?;
            let mut entries = Vec::new();
            while place < rows.len() && rows[place].try_get::<String, _>("id")? == id {
                let row = &rows[place];
                if let Some(number) = row.try_get::<Option<i32>, _>("number")? {
                    entries.push((number, row.try_get("entry")?, row.try_get("previous_hash")?, row.try_get("hash")?));
                }
                place += 1;
            }
            if let Some((number, what)) = first_fault(&entries, count, &head) {
                broken.push(BrokenChain { escrow_id: id.clone(), number, what });
            }
            after = id;
        }
        if rows.is_empty() {
            return Ok(broken);
        }
    }
}

/// An escrow whose books do not say what its status says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrongBooks {
    /// The escrow.
    pub escrow_id: String,
    /// Minor units that are held for it by the books.
    pub held: i64,
    /// Minor units that should be held by its status.
    pub expected: i64,
}

/// Escrows for which the books hold another amount than their status says: all of it while paid, nothing before
/// and after, and what has not gone back yet in between. Gives how many there are, and the first `limit` of them in
/// order of the id.
///
/// # Errors
/// When the database does not answer.
pub async fn wrong_books(connection: &mut Connection, limit: i64) -> Result<(i64, Vec<WrongBooks>)> {
    let rows = sqlx::query(
        "select id, held, expected, count(*) over () as total from (
             select e.id,
                 coalesce((select sum(l.amount) from ledger_entry l where l.account = 'held'
                     and (l.object_id = e.id or l.object_id = e.charge_id or l.object_id in
                         (select r.id from refund r where r.payment_id = e.payment_id))), 0)::int8 as held,
                 case when e.status in ('pending', 'completed', 'cancelled') then 0
                      else e.amount - coalesce((select sum(r.amount) from refund r
                          where r.payment_id = e.payment_id and r.state = 'succeeded'), 0) end::int8 as expected
             from escrow e
         ) books where held <> expected order by id limit $1",
    )
    .bind(limit)
    .fetch_all(connection)
    .await?;
    let total = rows.first().map_or(Ok(0), |row| row.try_get("total"))?;
    let shown = rows
        .iter()
        .map(|row| {
            Ok(WrongBooks {
                escrow_id: row.try_get("id")?,
                held: row.try_get("held")?,
                expected: row.try_get("expected")?,
            })
        })
        .collect::<Result<_>>()?;
    Ok((total, shown))
}
