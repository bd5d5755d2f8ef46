//! Idempotent requests: the first answer is kept with the change it reports and given again.
//!
//! The rule: an answer is stored only in the transaction that made it true, so a refused request is
//! never stored and a stored answer never lies. The same key with other parameters is refused, and
//! so is a key whose first request still holds its row after the lock time-out.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::Caller;
use crate::app::App;
use crate::error::{Error, Result};
use crate::store::idempotency::{self, NewReply};
use crate::store::{Connection, outbox::Outgoing};
use crate::wire::event::EventRequest;

/// A POST as its operation sees it.
#[derive(Debug, Clone)]
pub struct Write {
    /// Who calls.
    pub caller: Caller,
    /// The request's own id, `req_…`.
    pub request_id: Option<String>,
    /// The idempotency key, if there is one.
    pub idempotency: Option<Idempotency>,
}

/// A request's idempotency key and what it was used with.
#[derive(Debug, Clone)]
pub struct Idempotency {
    /// The key, at most 255 characters.
    pub key: String,
    /// Method and path.
    pub route: String,
    /// SHA-256 of the parameters.
    pub fingerprint: [u8; 32],
}

/// The answer to a POST.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The JSON.
    pub body: String,
    /// Whether this is the answer to an earlier request with the same key.
    pub replayed: bool,
}

impl Answer {
    /// A fresh answer.
    ///
    /// # Panics
    /// Never: our objects serialise.
    pub fn new<T: Serialize>(object: &T) -> Self {
        Self { status: 200, body: serde_json::to_string(object).expect("wire objects serialise"), replayed: false }
    }
}

fn place(caller: &Caller, key: &str) -> String {
    format!("idempotency_key/body/{}/{}/{key}", caller.merchant_id, caller.livemode)
}

impl Write {
    /// What an event tells of this request.
    pub fn cause(&self) -> EventRequest {
        EventRequest {
            id: self.request_id.clone(),
            idempotency_key: self.idempotency.as_ref().map(|idempotency| idempotency.key.clone()),
        }
    }

    /// The answer to keep, sealed: it may hold a secret that is shown once, or the payer's URL.
    pub fn reply(&self, app: &App, answer: &Answer) -> Option<NewReply> {
        self.idempotency.as_ref().map(|idempotency| NewReply {
            key: idempotency.key.clone(),
            route: idempotency.route.clone(),
            fingerprint: idempotency.fingerprint,
            status: i16::try_from(answer.status).unwrap_or(200),
            body_sealed: app.keyring.seal(&place(&self.caller, &idempotency.key), answer.body.as_bytes()),
        })
    }

    /// The answer that an earlier request with the same key got.
    ///
    /// # Errors
    /// `IdempotencyMismatch` when that was another request.
    pub async fn earlier_answer(&self, app: &App) -> Result<Option<Answer>> {
        let Some(idempotency) = &self.idempotency else {
            return Ok(None);
        };
        let caller = &self.caller;
        let stored =
            idempotency::find(app.store.pool(), &caller.merchant_id, caller.livemode, &idempotency.key).await?;
        let Some(stored) = stored else {
            return Ok(None);
        };
        if stored.route != idempotency.route || stored.fingerprint != idempotency.fingerprint {
            return Err(Error::IdempotencyMismatch(idempotency.key.clone()));
        }
        let body = app
            .keyring
            .unseal(&place(caller, &idempotency.key), &stored.body_sealed)
            .map_err(|error| Error::Internal(format!("kept answer of an idempotency key: {error}")))?;
        let body = String::from_utf8(body.to_vec())
            .map_err(|_| Error::Internal("kept answer of an idempotency key is not text".to_owned()))?;
        Ok(Some(Answer { status: u16::try_from(stored.status).unwrap_or(200), body, replayed: true }))
    }

    /// Keeps the answer inside the transaction. False when another request was first: roll back and
    /// take its answer.
    ///
    /// # Errors
    /// `IdempotencyInUse` when the other request is still running.
    pub async fn keep(
        &self,
        app: &App,
        connection: &mut Connection,
        answer: &Answer,
        now: DateTime<Utc>,
    ) -> Result<bool> {
        let (Some(reply), Some(idempotency)) = (self.reply(app, answer), &self.idempotency) else {
            return Ok(true);
        };
        let caller = &self.caller;
        match idempotency::insert(connection, &caller.merchant_id, caller.livemode, &reply, now).await {
            Err(Error::Unavailable(detail)) if detail.contains("lock timeout") => {
                Err(Error::IdempotencyInUse(idempotency.key.clone()))
            }
            other => other,
        }
    }

    /// Keeps another answer in the place of the one that was kept when the operation began: what became
    /// of it after the provider was asked.
    ///
    /// # Errors
    /// The database's.
    pub async fn keep_instead(&self, app: &App, answer: &Answer) -> Result<()> {
        let Some(reply) = self.reply(app, answer) else { return Ok(()) };
        let caller = &self.caller;
        idempotency::replace(app.store.pool(), &caller.merchant_id, caller.livemode, &reply).await
    }

    /// Runs one transaction at most once per idempotency key. `work` gets the open transaction and
    /// gives the answer and what is owed; it is not run when the key has an answer already. An answer that
    /// is `replayed` is another request's: `work` may have been run for nothing and rolled back, so that
    /// nothing it noted on its way may be acted on.
    ///
    /// # Errors
    /// Those of `work`, and of the key.
    pub async fn once<F>(&self, app: &App, work: F) -> Result<Answer>
    where
        F: AsyncFnOnce(&mut Connection, DateTime<Utc>) -> Result<(Answer, Vec<Outgoing>)>,
    {
        if let Some(earlier) = self.earlier_answer(app).await? {
            return Ok(earlier);
        }
        let now = app.clock.now();
        let mut transaction = app.store.begin().await?;
        let (answer, outgoing) = work(&mut transaction, now).await?;
        if self.keep(app, &mut transaction, &answer, now).await? {
            app.store.commit(transaction).await?;
            app.hand_over(outgoing);
            return Ok(answer);
        }
        drop(transaction);
        self.answer_of_the_winner(app).await
    }

    /// The answer of the request that was first; for the one that lost the race.
    ///
    /// # Errors
    /// `IdempotencyInUse` when it is gone again.
    pub async fn answer_of_the_winner(&self, app: &App) -> Result<Answer> {
        self.earlier_answer(app).await?.ok_or_else(|| {
            Error::IdempotencyInUse(self.idempotency.as_ref().map(|key| key.key.clone()).unwrap_or_default())
        })
    }
}
