//! The mail loop: takes owed mails under a lease and gives them to the mail server.
//!
//! The rule: nothing is sent under a lease that could run out under way, a mail that cannot be sent now is
//! owed again until it is of no use any more, and only the server's own word "never" ends it sooner. Sent
//! twice can happen, when a process dies between the server's yes and ours; both have one Message-ID.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use futures_util::FutureExt as _;
use futures_util::stream::{self, StreamExt as _};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::ops::mails;
use crate::smtp::{ATTEMPT_TIME_MAX, Letter, SendError, SmtpClient};
use crate::store::mails::{self as rows, End, LeasedMail};
use crate::telemetry;

/// Between two looks for mail that has come due; new mail wakes the loop by itself.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Mails taken at once, each over a connection of its own. Mail servers dislike more.
const MAILS_AT_ONCE: i64 = 4;

/// How long a mail is ours: an attempt at its longest, and a margin for writing its result.
const LEASE: Duration = Duration::from_secs(60);

/// Seconds before the next attempt, by attempts made. A code is awaited, so it begins with seconds.
const RETRY_AFTER_S: [i64; 8] = [2, 4, 8, 15, 30, 60, 120, 300];

/// Before every attempt after those.
const RETRY_AFTER_MAX_S: i64 = 900;

/// How many polls go by between two looks at the size of the queue.
const POLLS_PER_DEPTH: u32 = 10;

fn retry_after(attempts: i32) -> TimeDelta {
    let place = usize::try_from(attempts).unwrap_or(usize::MAX);
    TimeDelta::seconds(RETRY_AFTER_S.get(place).copied().unwrap_or(RETRY_AFTER_MAX_S))
}

/// Sends owed mail until `shutdown`; what is under way then ends first.
pub async fn run(app: Arc<App>, client: SmtpClient, shutdown: CancellationToken) {
    const { assert!(ATTEMPT_TIME_MAX.as_secs() + 10 < LEASE.as_secs(), "a lease must outlast an attempt") };
    let mut poll = tokio::time::interval(POLL_INTERVAL);
    poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut polls = 0_u32;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = app.mail_wake.notified() => {}
            _ = poll.tick() => {
                if polls.is_multiple_of(POLLS_PER_DEPTH) {
                    measure(&app).await;
                }
                polls = polls.wrapping_add(1);
            }
        }
        while send_due(&app, &client, &shutdown).await && !shutdown.is_cancelled() {}
    }
    client.close().await;
}

/// Sends what is due; true when there may be more.
async fn send_due(app: &App, client: &SmtpClient, shutdown: &CancellationToken) -> bool {
    let now = app.clock.now();
    let mails = match rows::claim(app.store.pool(), now, now + LEASE, MAILS_AT_ONCE).await {
        Ok(mails) => mails,
        Err(error) => {
            tracing::error!(error = ?error, "owed mail could not be read; the next beat tries again");
            return false;
        }
    };
    if shutdown.is_cancelled() {
        if let Err(error) = rows::release(app.store.pool(), &mails, now).await {
            tracing::warn!(error = ?error, "owed mail could not be given back; others take it when its lease runs out");
        }
        return false;
    }
    let is_full = mails.len() as i64 == MAILS_AT_ONCE;
    let all = usize::try_from(MAILS_AT_ONCE).unwrap_or(1);
    stream::iter(&mails).for_each_concurrent(all, |mail| attempt(app, client, mail)).await;
    is_full
}

async fn attempt(app: &App, client: &SmtpClient, mail: &LeasedMail) {
    let written = match send(app, client, mail).await {
        Attempt::Sent => {
            count(mail, "sent");
            rows::end(app.store.pool(), mail, End::Sent, None, app.clock.now()).await
        }
        Attempt::TooLate => {
            tracing::warn!(
                reference = mail.id,
                session = mail.session_id,
                "a mail was given up: it could not be sent in time"
            );
            count(mail, "given_up");
            rows::end(app.store.pool(), mail, End::GivenUp, None, app.clock.now()).await
        }
        Attempt::Failed(SendError::Never(error)) => {
            tracing::warn!(
                reference = mail.id,
                session = mail.session_id,
                error,
                "the mail server refused a mail for good"
            );
            count(mail, "refused");
            rows::end(app.store.pool(), mail, End::GivenUp, Some(&error), app.clock.now()).await
        }
        Attempt::Failed(error) => {
            let is_server = matches!(error, SendError::Server(_));
            tracing::warn!(reference = mail.id, session = mail.session_id, error = %error, "a mail could not be sent now; it is tried again");
            count(mail, "retry");
            let next = (app.clock.now() + retry_after(mail.attempts)).min(mail.give_up_at);
            rows::retry(app.store.pool(), mail, next, &error.to_string(), is_server).await
        }
    };
    match written {
        Ok(true) => {}
        Ok(false) => tracing::debug!(reference = mail.id, "a mail was replaced or taken over while it was being sent"),
        Err(error) => {
            tracing::error!(reference = mail.id, error = ?error, "what became of a mail could not be written; it may be sent again");
        }
    }
}

enum Attempt {
    Sent,
    TooLate,
    Failed(SendError),
}

async fn send(app: &App, client: &SmtpClient, mail: &LeasedMail) -> Attempt {
    if app.clock.now() >= mail.give_up_at {
        return Attempt::TooLate;
    }
    let body = match mails::open(app, &mail.id, &mail.body_sealed) {
        Ok(body) => body,
        Err(error) => return Attempt::Failed(SendError::Never(format!("it cannot be opened: {error:?}"))),
    };
    let letter = Letter {
        id: &mail.id,
        recipient: &mail.recipient,
        subject: &mail.subject,
        sender_name: &body.sender_name,
        reply_to: body.reply_to.as_deref(),
        text: &body.text,
        html: &body.html,
        written_at: mail.created_at,
    };
    // A mail that makes the library panic must not take the loop with it, nor come back for ever.
    match AssertUnwindSafe(client.send(&letter)).catch_unwind().await {
        Ok(Ok(())) => Attempt::Sent,
        Ok(Err(error)) => Attempt::Failed(error),
        Err(_) => Attempt::Failed(SendError::Never("it could not be written: see the panic in the log".to_owned())),
    }
}

fn count(mail: &LeasedMail, outcome: &'static str) {
    let kind = if mail.kind == "receipt" { "receipt" } else { "identity_code" };
    metrics::counter!(telemetry::MAILS_TOTAL, "kind" => kind, "outcome" => outcome).increment(1);
}

async fn measure(app: &App) {
    match rows::depth(app.store.pool(), app.clock.now()).await {
        Ok((owed, oldest_s)) => {
            metrics::gauge!(telemetry::MAILS_OWED).set(owed as f64);
            metrics::gauge!(telemetry::MAIL_OLDEST_OWED_SECONDS).set(oldest_s);
        }
        Err(error) => tracing::warn!(error = ?error, "owed mail could not be counted"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_begin_with_seconds_and_grow() {
        let waits: Vec<i64> = (0..10).map(|attempts| retry_after(attempts).num_seconds()).collect();
        assert_eq!(waits, [2, 4, 8, 15, 30, 60, 120, 300, 900, 900]);
        // Within a code's ten minutes the server is asked eight times at the least.
        assert!(waits[..8].iter().sum::<i64>() <= 600);
    }
}
