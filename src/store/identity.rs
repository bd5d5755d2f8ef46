//! Codes that were asked for, browsers that have proven themselves, and the budgets of both.
//!
//! The rule: a guess is counted and judged by one statement on the row of its session, so that the row's
//! lock decides which guesses are judged, whatever the number of replicas. Nothing here is a code.

use chrono::{DateTime, Utc};
use sqlx::PgPool;

use super::Connection;
use crate::domain::id::SessionId;
use crate::domain::identity::GUESSES_MAX;
use crate::error::Result;

/// What is known of a session's codes.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Check {
    /// Codes made so far; the number of the one that is out.
    pub codes: i16,
    /// Whether one is out that was not used.
    pub is_out: bool,
    /// The browser that asked for it.
    pub browser_mac: Vec<u8>,
    /// Guesses counted against it.
    pub guesses: i16,
    /// When it was made.
    pub made_at: DateTime<Utc>,
    /// From when on it is worth nothing.
    pub expires_at: DateTime<Utc>,
    /// The mail that brings it.
    pub mail_id: String,
    /// `captured`, `owed`, `sent` or `given_up`; nothing once the mail is pruned.
    pub mail_state: Option<String>,
    /// Attempts to send it.
    pub mail_attempts: Option<i32>,
    /// Whether the mail server failed the last of them.
    pub mail_server_trouble: Option<bool>,
}

/// A code to be kept.
#[derive(Debug)]
pub struct NewCode<'a> {
    /// Whose code it is.
    pub session: &'a SessionId,
    /// The session's merchant.
    pub merchant_id: &'a str,
    /// Its number in the session, from 1.
    pub number: u8,
    /// Keyed MAC of the code.
    pub code_mac: [u8; 32],
    /// Keyed MAC of the browser that asked.
    pub browser_mac: [u8; 32],
    /// Now.
    pub made_at: DateTime<Utc>,
    /// From when on it is worth nothing.
    pub expires_at: DateTime<Utc>,
    /// The mail that brings it.
    pub mail_id: &'a str,
}

/// A judged guess.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::FromRow)]
pub struct Judgement {
    /// Whether it was the code, which is used up now.
    pub is_right: bool,
    /// Guesses counted against the code, this one included.
    pub guesses: i16,
}

/// A guess at the code that is out.
#[derive(Debug)]
pub struct Guess<'a> {
    /// The session.
    pub session: &'a SessionId,
    /// The number of the code that the MACs are of.
    pub number: i16,
    /// MACs of the guessed code, one a key.
    pub code_macs: Vec<Vec<u8>>,
    /// MACs of the browser that guesses, one a key.
    pub browser_macs: Vec<Vec<u8>>,
    /// Id of the binding to make when it is right.
    pub binding_id: &'a str,
    /// The address that is proven when it is right.
    pub email: &'a str,
    /// Now.
    pub now: DateTime<Utc>,
}

/// What is known of a session's codes; nothing when none was asked for.
///
/// # Errors
/// When the database does not answer.
pub async fn find(connection: &mut Connection, session: &SessionId) -> Result<Option<Check>> {
    Ok(sqlx::query_as(
        "select c.codes, c.code_mac is not null as is_out, c.browser_mac, c.guesses, c.made_at, c.expires_at, c.mail_id,
                m.state as mail_state, m.attempts as mail_attempts, m.server_trouble as mail_server_trouble
         from payer_check c left join mail m on m.id = c.mail_id where c.session_id = $1",
    )
    .bind(session.as_str())
    .fetch_optional(connection)
    .await?)
}

/// Keeps a new code in place of the one before.
///
/// # Errors
/// When the database does not answer.
pub async fn put(connection: &mut Connection, code: &NewCode<'_>) -> Result<()> {
    sqlx::query(
        "insert into payer_check (session_id, merchant_id, codes, code_mac, browser_mac, guesses, made_at, expires_at,
                                  mail_id)
         values ($1, $2, $3, $4, $5, 0, $6, $7, $8)
         on conflict (session_id) do update set codes = excluded.codes, code_mac = excluded.code_mac,
             browser_mac = excluded.browser_mac, guesses = 0, made_at = excluded.made_at,
             expires_at = excluded.expires_at, mail_id = excluded.mail_id",
    )
    .bind(code.session.as_str())
    .bind(code.merchant_id)
    .bind(i16::from(code.number))
    .bind(code.code_mac.as_slice())
    .bind(code.browser_mac.as_slice())
    .bind(code.made_at)
    .bind(code.expires_at)
    .bind(code.mail_id)
    .execute(connection)
    .await?;
    Ok(())
}

/// Counts a guess and judges it; a right one uses the code up and binds the browser, all in one statement.
/// Nothing when there is no code to judge it against. Comparing in the database gives nothing away: what is
/// compared are MACs, which nobody outside can choose.
///
/// # Errors
/// When the database does not answer.
pub async fn judge(pool: &PgPool, guess: &Guess<'_>) -> Result<Option<Judgement>> {
    Ok(sqlx::query_as(
        "with judged as (
            update payer_check set guesses = guesses + 1,
                code_mac = case when code_mac = any($3::bytea[]) then null else code_mac end
            where session_id = $1 and codes = $2 and code_mac is not null and guesses < $5 and expires_at > $6
              and browser_mac = any($4::bytea[])
            returning code_mac is null as is_right, guesses, merchant_id
         ), bound as (
            insert into payer_binding (session_id, id, merchant_id, email, proven_at)
            select $1, $7, merchant_id, $8, $6 from judged where is_right
         )
         select is_right, guesses from judged",
    )
    .bind(guess.session.as_str())
    .bind(guess.number)
    .bind(&guess.code_macs)
    .bind(&guess.browser_macs)
    .bind(i16::from(GUESSES_MAX))
    .bind(guess.now)
    .bind(guess.binding_id)
    .bind(guess.email)
    .fetch_optional(pool)
    .await?)
}

/// When a binding was earned and for which address; nothing when there is none.
///
/// # Errors
/// When the database does not answer.
pub async fn find_binding(pool: &PgPool, session: &SessionId, id: &str) -> Result<Option<(String, DateTime<Utc>)>> {
    Ok(sqlx::query_as("select email, proven_at from payer_binding where session_id = $1 and id = $2")
        .bind(session.as_str())
        .bind(id)
        .fetch_optional(pool)
        .await?)
}

/// Takes one from a budget of `max` in an hour; false when it is used up. Budgets are taken in the order
/// address, merchant, network, so that two transactions never wait for each other.
///
/// # Errors
/// When the database does not answer.
pub async fn take_from_budget(
    connection: &mut Connection,
    kind: &str,
    subject: &[u8; 32],
    hour: DateTime<Utc>,
    max: u32,
) -> Result<bool> {
    let max = i32::try_from(max).unwrap_or(i32::MAX);
    let done = sqlx::query(
        "insert into mail_budget as b (kind, subject, hour, used) select $1, $2, $3, 1 where $4 > 0
         on conflict (kind, subject, hour) do update set used = b.used + 1 where b.used < $4",
    )
    .bind(kind)
    .bind(subject.as_slice())
    .bind(hour)
    .bind(max)
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Forgets budgets of hours before `before`, at most `limit` of them.
///
/// # Errors
/// When the database does not answer.
pub async fn prune_budgets(pool: &PgPool, before: DateTime<Utc>, limit: i64) -> Result<u64> {
    let done = sqlx::query(
        "delete from mail_budget where ctid = any(array(select ctid from mail_budget where hour < $1 limit $2))",
    )
    .bind(before)
    .bind(limit)
    .execute(pool)
    .await?;
    Ok(done.rows_affected())
}
