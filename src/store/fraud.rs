//! What the fraud checks remember: by what tries are counted, the counts, and what was made of a charge.
//!
//! The rule: a charge's own row is what is counted, so nothing else has to be written for it. Counting
//! comes after the commit of that row: of any number of tries at once, the last to commit sees all that
//! went on before it, so no more go on than a limit allows.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{PgPool, Postgres, QueryBuilder, Row as _};

use super::inconsistent;
use crate::domain::fraud::{Action, Assessment, Counted, Counter, Stage, Subject};
use crate::domain::id::{ChargeId, ReviewId};
use crate::error::Result;

/// A keyed hash that a try is counted by.
pub type Key = [u8; 16];

/// By what a try is counted; `None` where no rule counts it or it is not known.
#[derive(Clone, Copy, Default, Debug)]
pub struct Keys {
    /// The card.
    pub card: Option<Key>,
    /// The payer's address for mail.
    pub email: Option<Key>,
    /// The network that he pays from.
    pub network: Option<Key>,
    /// The merchant.
    pub merchant: Option<Key>,
}

impl Keys {
    /// The key of one subject.
    pub fn of(&self, subject: Subject) -> Option<Key> {
        match subject {
            Subject::Card => self.card,
            Subject::Email => self.email,
            Subject::Network => self.network,
            Subject::Merchant => self.merchant,
        }
    }

    /// Sets the key of one subject.
    pub fn set(&mut self, subject: Subject, key: Key) {
        let place = match subject {
            Subject::Card => &mut self.card,
            Subject::Email => &mut self.email,
            Subject::Network => &mut self.network,
            Subject::Merchant => &mut self.merchant,
        };
        *place = Some(key);
    }
}

/// Counts the other tries with these keys, each count at most as far as it is needed, in one statement. The try's
/// own row must be committed.
///
/// # Errors
/// When the database does not answer.
pub async fn count(
    pool: &PgPool,
    own: &ChargeId,
    keys: &Keys,
    counters: &BTreeMap<Counter, u32>,
    now: DateTime<Utc>,
) -> Result<BTreeMap<Counter, u32>> {
    let known: Vec<(Counter, u32, Key)> =
        counters.iter().filter_map(|(counter, needed)| Some((*counter, *needed, keys.of(counter.subject)?))).collect();
    if known.is_empty() {
        return Ok(BTreeMap::new());
    }
    let mut query: QueryBuilder<Postgres> = QueryBuilder::new("select array[");
    for (place, (counter, needed, key)) in known.iter().enumerate() {
        query.push(if place == 0 { "" } else { ", " });
        query.push(match counter.subject {
            Subject::Card => "(select count(*) from (select 1 from charge where card_key = ",
            Subject::Email => "(select count(*) from (select 1 from charge where email_key = ",
            Subject::Network => "(select count(*) from (select 1 from charge where network_key = ",
            Subject::Merchant => "(select count(*) from (select 1 from charge where merchant_key = ",
        });
        query.push_bind(key.to_vec());
        if counter.counted == Counted::Declines {
            query.push(" and state in ('pending', 'requires_action', 'failed')");
        }
        query.push(" and created_at > ").push_bind(now - counter.window);
        query.push(" and id <> ").push_bind(own.as_str().to_owned());
        query.push(" limit ").push_bind(i64::from(*needed)).push(") t)");
    }
    query.push("]::int8[]");
    let counts: Vec<i64> = query.build_query_scalar().fetch_one(pool).await?;
    let counted = known.into_iter().zip(counts);
    Ok(counted.map(|((counter, _, _), count)| (counter, u32::try_from(count).unwrap_or(u32::MAX))).collect())
}

#[derive(Serialize, Deserialize)]
struct StoredAssessment {
    action: String,
    rule: String,
    stage: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    instead_of: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    review: Option<String>,
}

/// An assessment to JSON; nothing for none.
pub fn assessment_to_json(assessment: Option<&Assessment>) -> Option<Json<impl Serialize + use<>>> {
    assessment.map(|assessment| {
        Json(StoredAssessment {
            action: assessment.action.word().to_owned(),
            rule: assessment.rule.clone(),
            stage: assessment.stage.word().to_owned(),
            instead_of: assessment.instead_of.map(|action| action.word().to_owned()),
            review: assessment.review.as_ref().map(ReviewId::to_string),
        })
    })
}

/// The assessment of a charge's row.
///
/// # Errors
/// When the row was not written by this file.
pub fn assessment_from_row(charge: &str, row: &PgRow) -> Result<Option<Assessment>> {
    let broken = |what: &str| inconsistent("charge", charge, &format!("outcome: {what}"));
    let stored: Option<Json<StoredAssessment>> = row.try_get("outcome").map_err(|error| broken(&error.to_string()))?;
    let Some(Json(stored)) = stored else { return Ok(None) };
    Ok(Some(Assessment {
        action: Action::from_word(&stored.action).ok_or_else(|| broken("unknown action"))?,
        stage: Stage::from_word(&stored.stage).ok_or_else(|| broken("unknown stage"))?,
        rule: stored.rule,
        instead_of: stored
            .instead_of
            .map(|word| Action::from_word(&word).ok_or_else(|| broken("unknown action")))
            .transpose()?,
        review: stored.review.map(ReviewId::from_stored),
    }))
}

/// Notes what was made of a charge before its provider is asked. One that is refused is not counted.
///
/// # Errors
/// When the database does not answer.
pub async fn note(pool: &PgPool, id: &ChargeId, assessment: &Assessment) -> Result<()> {
    sqlx::query(
        "update charge set outcome = $2,
             card_key = case when $3 then null else card_key end,
             email_key = case when $3 then null else email_key end,
             network_key = case when $3 then null else network_key end,
             merchant_key = case when $3 then null else merchant_key end
         where id = $1",
    )
    .bind(id.as_str())
    .bind(assessment_to_json(Some(assessment)))
    .bind(assessment.action == Action::Block)
    .execute(pool)
    .await?;
    Ok(())
}

/// Decides that a charge which its provider approved is refused all the same, so that it is to be voided. False
/// when it has been settled meanwhile; then it must not be.
///
/// # Errors
/// When the database does not answer.
pub async fn close(pool: &PgPool, id: &ChargeId, assessment: &Assessment) -> Result<bool> {
    let done = sqlx::query(
        "update charge set closing = true, outcome = $2 where id = $1 and state in ('pending', 'requires_action')",
    )
    .bind(id.as_str())
    .bind(assessment_to_json(Some(assessment)))
    .execute(pool)
    .await?;
    Ok(done.rows_affected() == 1)
}
