//! Disputes at the simulated company: opened by a payer's card or by a merchant's test, decided by what
//! the evidence says.
//!
//! Rule: a dispute takes its money back when it is opened, never more than is left of the charge, and
//! gives it back when it is won; the charge's row puts racing refunds and disputes in order. As with
//! Stripe's test cards, `winning_evidence` wins, `losing_evidence` loses and anything else waits.

use chrono::{DateTime, Duration, Utc};

use super::simulator_faults::SimulatorFees;
use super::simulator_ledger::Ledger;
use super::{DisputeNews, DisputeStatus, UnheardDispute};
use crate::domain::money::{Currency, Money};

/// Days that the simulated bank waits for evidence. Nothing happens when they are over: time is not simulated.
const EVIDENCE_DAYS: i64 = 9;

/// Disputes that are opened or told of at once.
const AT_ONCE: i64 = 20;

/// What the gateway asks.
#[derive(Clone, Copy)]
pub(super) enum DisputeQuestion<'a> {
    /// How it stands.
    LookUp,
    /// With this as `uncategorized_text`.
    Submit(&'a str),
    /// To be given up.
    Close,
}

impl DisputeQuestion<'_> {
    /// The status that an open dispute gets by it, and how many submissions come to it.
    fn outcome(self) -> Option<(&'static str, i32)> {
        match self {
            DisputeQuestion::LookUp => None,
            DisputeQuestion::Submit("winning_evidence") => Some(("won", 1)),
            DisputeQuestion::Submit("losing_evidence") => Some(("lost", 1)),
            DisputeQuestion::Submit(_) => Some(("under_review", 1)),
            DisputeQuestion::Close => Some(("lost", 0)),
        }
    }
}

/// A dispute as it stands in the books.
#[derive(sqlx::FromRow)]
pub(super) struct DisputeRow {
    amount: i64,
    currency: String,
    reason: String,
    submissions: i32,
    status: String,
    opened_at: DateTime<Utc>,
}

impl DisputeRow {
    /// As the company tells of it.
    pub(super) fn news(self, fees: SimulatorFees) -> DisputeNews {
        // The books only ever hold currencies that came from us.
        let currency = Currency::parse(&self.currency).expect("a currency that was charged is known");
        DisputeNews {
            money: Money { minor: self.amount, currency },
            reinstated: if self.status == "won" { self.amount } else { 0 },
            reason: self.reason,
            status: DisputeStatus::parse(&self.status),
            withdrawn: self.amount,
            fee: fees.of_dispute(),
            evidence_due_by: Some(self.opened_at + Duration::days(EVIDENCE_DAYS)),
            submissions: Some(self.submissions),
        }
    }
}

impl Ledger {
    /// Opens a dispute over what is left, or over so much of it. Gives whether there is one under this reference.
    pub(super) async fn open_dispute(
        &self,
        charge_id: &str,
        reference: &str,
        amount: Option<i64>,
        reason: &str,
    ) -> Result<bool, sqlx::Error> {
        let mut transaction = self.begin().await?;
        let left: Option<(i64, Option<String>)> = sqlx::query_as(
            "select case when state = 'captured' then amount_captured - amount_refunded - amount_disputed else 0 end, currency
             from simulator.charge where provider = $1 and charge_id = $2 for update",
        )
        .bind(&self.provider)
        .bind(charge_id)
        .fetch_optional(&mut *transaction)
        .await?;
        let Some((left, Some(currency))) = left else { return Ok(false) };
        let earlier: Option<String> =
            sqlx::query_scalar("select charge_id from simulator.dispute where provider = $1 and reference = $2")
                .bind(&self.provider)
                .bind(reference)
                .fetch_optional(&mut *transaction)
                .await?;
        if let Some(earlier) = earlier {
            return Ok(earlier == charge_id);
        }
        let amount = amount.unwrap_or(left);
        let is_open = (1..=left).contains(&amount);
        if is_open {
            sqlx::query(
                "insert into simulator.dispute (provider, reference, charge_id, amount, currency, reason, status)
                 values ($1, $2, $3, $4, $5, $6, 'needs_response')",
            )
            .bind(&self.provider)
            .bind(reference)
            .bind(charge_id)
            .bind(amount)
            .bind(currency)
            .bind(reason)
            .execute(&mut *transaction)
            .await?;
        }
        sqlx::query(
            "update simulator.charge set dispute_reason = null, amount_disputed = amount_disputed + $3
             where provider = $1 and charge_id = $2",
        )
        .bind(&self.provider)
        .bind(charge_id)
        .bind(if is_open { amount } else { 0 })
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(is_open)
    }

    /// Does what is asked of a dispute that still waits for an answer, and gives it as it stands then.
    pub(super) async fn asked_of_dispute(
        &self,
        charge_id: &str,
        reference: &str,
        question: DisputeQuestion<'_>,
    ) -> Result<Option<DisputeRow>, sqlx::Error> {
        let mut transaction = self.begin().await?;
        if let Some((status, submissions)) = question.outcome() {
            sqlx::query("select 1 from simulator.charge where provider = $1 and charge_id = $2 for update")
                .bind(&self.provider)
                .bind(charge_id)
                .execute(&mut *transaction)
                .await?;
            let decided: Option<i64> = sqlx::query_scalar(
                "update simulator.dispute set status = $4, submissions = submissions + $5
                 where provider = $1 and charge_id = $2 and reference = $3 and status = 'needs_response'
                 returning amount",
            )
            .bind(&self.provider)
            .bind(charge_id)
            .bind(reference)
            .bind(status)
            .bind(submissions)
            .fetch_optional(&mut *transaction)
            .await?;
            if let (Some(amount), "won") = (decided, status) {
                sqlx::query(
                    "update simulator.charge set amount_disputed = amount_disputed - $3
                     where provider = $1 and charge_id = $2",
                )
                .bind(&self.provider)
                .bind(charge_id)
                .bind(amount)
                .execute(&mut *transaction)
                .await?;
            }
        }
        let row = sqlx::query_as(
            "select amount, currency, reason, submissions, status, opened_at from simulator.dispute
             where provider = $1 and charge_id = $2 and reference = $3",
        )
        .bind(&self.provider)
        .bind(charge_id)
        .bind(reference)
        .fetch_optional(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(row)
    }

    /// Opens the disputes of payers whose cards want one, and gives those that nobody has heard of.
    pub(super) async fn unheard_disputes(&self) -> Result<Vec<UnheardDispute>, sqlx::Error> {
        let due: Vec<(String, String)> = sqlx::query_as(
            "select charge_id, dispute_reason from simulator.charge
             where provider = $1 and dispute_reason is not null and state = 'captured' order by charge_id limit $2",
        )
        .bind(&self.provider)
        .bind(AT_ONCE)
        .fetch_all(&self.pool)
        .await?;
        for (charge_id, reason) in due {
            // One name for the card's dispute, so that replicas that come to it at once open it once.
            self.open_dispute(&charge_id, &format!("simdp_{charge_id}"), None, &reason).await?;
        }
        let unheard: Vec<(String, String)> = sqlx::query_as(
            "select charge_id, reference from simulator.dispute where provider = $1 and not heard
             order by opened_at, reference limit $2",
        )
        .bind(&self.provider)
        .bind(AT_ONCE)
        .fetch_all(&self.pool)
        .await?;
        Ok(unheard.into_iter().map(|(charge_id, reference)| UnheardDispute { charge_id, reference }).collect())
    }

    /// Notes that the gateway has heard of a dispute.
    pub(super) async fn dispute_heard(&self, reference: &str) -> Result<(), sqlx::Error> {
        sqlx::query("update simulator.dispute set heard = true where provider = $1 and reference = $2")
            .bind(&self.provider)
            .bind(reference)
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}
