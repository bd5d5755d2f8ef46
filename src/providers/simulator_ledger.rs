//! The books of the simulated company, in a schema of their own.
//!
//! Rule: one row per charge id, written once; each change is one statement or one short
//! transaction, so that racing calls are put in order by the row and never by chance. A void that
//! finds no charge writes a row in its place, which refuses the charge should it still arrive.

use sqlx::PgPool;

use super::simulator_cards::Verdict;
use super::{Report, Reversal};
use crate::domain::card::DeclineReason;
use crate::domain::money::Money;

/// One charge as it stands in the books.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(super) struct Entry {
    reference: String,
    /// Empty when the charge was refused in advance and never arrived.
    amount: Option<i64>,
    currency: Option<String>,
    state: String,
    decline_code: Option<String>,
}

impl Entry {
    /// What the company answers when asked about it. A state that this code does not know, from a
    /// later version perhaps, is pending.
    pub(super) fn report(&self) -> Report {
        let reference = self.reference.clone();
        match self.state.as_str() {
            "captured" => Report::Succeeded { reference },
            "declined" => Report::Declined {
                reason: self
                    .decline_code
                    .as_deref()
                    .and_then(DeclineReason::from_word)
                    .unwrap_or(DeclineReason::GenericDecline),
                reference: Some(reference),
            },
            "void" | "refunded" | "refused" => Report::Reversed { reference },
            _ => Report::Pending { reference: Some(reference) },
        }
    }

    /// Whether it was made for that money. A charge refused in advance fits any.
    pub(super) fn is_for(&self, money: Money) -> bool {
        match (self.amount, self.currency.as_deref()) {
            (Some(amount), Some(currency)) => amount == money.minor && currency == money.currency.code(),
            _ => true,
        }
    }
}

/// What a refund needs to know of its charge.
#[derive(sqlx::FromRow)]
struct Refundable {
    state: String,
    amount: Option<i64>,
    currency: Option<String>,
    amount_refunded: i64,
}

impl Refundable {
    /// What is left to give back in that money's currency.
    fn left_in_currency_of(&self, money: Money) -> i64 {
        let matches = self.state == "captured" && self.currency.as_deref() == Some(money.currency.code());
        match self.amount {
            Some(amount) if matches => amount.saturating_sub(self.amount_refunded),
            _ => 0,
        }
    }
}

/// The books.
pub(super) struct Ledger {
    pool: PgPool,
}

impl Ledger {
    pub(super) fn new(pool: PgPool) -> Ledger {
        Ledger { pool }
    }

    pub(super) async fn find(&self, charge_id: &str) -> Result<Option<Entry>, sqlx::Error> {
        sqlx::query_as(
            "select reference, amount, currency, state, decline_code
             from simulator.charge where charge_id = $1",
        )
        .bind(charge_id)
        .fetch_optional(&self.pool)
        .await
    }

    /// Writes the verdict unless the charge id has a row already, and returns the row that counts.
    pub(super) async fn record(
        &self,
        charge_id: &str,
        reference: &str,
        money: Money,
        verdict: Verdict,
    ) -> Result<Entry, sqlx::Error> {
        let (state, decline_code) = match verdict {
            Verdict::Captured => ("captured", None),
            Verdict::Declined(reason) => ("declined", Some(reason.word())),
        };
        let written = sqlx::query_as(
            "insert into simulator.charge
                 (charge_id, reference, amount, currency, state, decline_code)
             values ($1, $2, $3, $4, $5, $6)
             on conflict (charge_id) do nothing
             returning reference, amount, currency, state, decline_code",
        )
        .bind(charge_id)
        .bind(reference)
        .bind(money.minor)
        .bind(money.currency.code())
        .bind(state)
        .bind(decline_code)
        .fetch_optional(&self.pool)
        .await?;
        match written {
            Some(entry) => Ok(entry),
            // Rows are never deleted, so the one in the way is committed and still there.
            None => self.find(charge_id).await?.ok_or(sqlx::Error::RowNotFound),
        }
    }

    /// Turns a captured charge back, or refuses one that has not arrived.
    pub(super) async fn void(&self, charge_id: &str, reference: &str) -> Result<Reversal, sqlx::Error> {
        let changed: Option<(String, String)> = sqlx::query_as(
            "insert into simulator.charge (charge_id, reference, state)
             values ($1, $2, 'refused')
             on conflict (charge_id) do update set state = 'void' where charge.state = 'captured'
             returning state, reference",
        )
        .bind(charge_id)
        .bind(reference)
        .fetch_optional(&self.pool)
        .await?;
        let (state, reference) = match changed {
            Some(changed) => changed,
            None => {
                let entry = self.find(charge_id).await?.ok_or(sqlx::Error::RowNotFound)?;
                (entry.state, entry.reference)
            }
        };
        Ok(match state.as_str() {
            "void" => Reversal::Done { reference },
            _ => Reversal::NothingToReverse,
        })
    }

    /// Gives money back once per refund id, never more than was taken.
    pub(super) async fn refund(
        &self,
        refund_id: &str,
        charge_id: &str,
        reference: &str,
        money: Money,
    ) -> Result<Reversal, sqlx::Error> {
        // A cancelled `begin` may leave its connection inside a transaction (transact-rs/sqlx#4385); a task
        // of its own is not cancelled with the caller.
        let pool = self.pool.clone();
        let begun = tokio::spawn(async move { pool.begin().await }).await;
        let mut transaction = begun.map_err(|_| sqlx::Error::WorkerCrashed)??;
        let Some(charge) = sqlx::query_as::<_, Refundable>(
            "select state, amount, currency, amount_refunded
             from simulator.charge where charge_id = $1 for update",
        )
        .bind(charge_id)
        .fetch_optional(&mut *transaction)
        .await?
        else {
            return Ok(Reversal::NothingToReverse);
        };
        let earlier: Option<(String, String, i64)> =
            sqlx::query_as("select reference, charge_id, amount from simulator.refund where refund_id = $1")
                .bind(refund_id)
                .fetch_optional(&mut *transaction)
                .await?;
        if let Some((reference, earlier_charge_id, amount)) = earlier {
            let same = earlier_charge_id == charge_id && amount == money.minor;
            return Ok(if same { Reversal::Done { reference } } else { Reversal::NothingToReverse });
        }
        let left = charge.left_in_currency_of(money);
        if money.minor < 1 || left < money.minor {
            return Ok(Reversal::NothingToReverse);
        }
        sqlx::query(
            "insert into simulator.refund (refund_id, charge_id, reference, amount)
             values ($1, $2, $3, $4)",
        )
        .bind(refund_id)
        .bind(charge_id)
        .bind(reference)
        .bind(money.minor)
        .execute(&mut *transaction)
        .await?;
        sqlx::query(
            "update simulator.charge
             set amount_refunded = amount_refunded + $2,
                 state = case when amount_refunded + $2 = amount then 'refunded' else state end
             where charge_id = $1",
        )
        .bind(charge_id)
        .bind(money.minor)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(Reversal::Done { reference: reference.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::money::Currency;

    fn entry(state: &str, decline_code: Option<&str>) -> Entry {
        Entry {
            reference: "sim_1".to_owned(),
            amount: Some(500),
            currency: Some("eur".to_owned()),
            state: state.to_owned(),
            decline_code: decline_code.map(str::to_owned),
        }
    }

    #[test]
    fn every_state_has_its_report_and_an_unknown_one_is_pending() {
        let reference = "sim_1".to_owned();
        let declined = |reason| Report::Declined { reason, reference: Some(reference.clone()) };
        let reversed = Report::Reversed { reference: reference.clone() };
        let cases = [
            (entry("captured", None), Report::Succeeded { reference: reference.clone() }),
            (entry("declined", Some("lost_card")), declined(DeclineReason::LostCard)),
            (entry("declined", Some("new_word")), declined(DeclineReason::GenericDecline)),
            (entry("void", None), reversed.clone()),
            (entry("refunded", None), reversed.clone()),
            (entry("refused", None), reversed),
            (entry("frozen", None), Report::Pending { reference: Some(reference.clone()) }),
        ];
        for (entry, report) in cases {
            assert_eq!(entry.report(), report, "{entry:?}");
        }
    }

    #[test]
    fn an_entry_knows_its_money() {
        let money = |minor, code| Money { minor, currency: Currency::parse(code).expect("a known currency") };
        let captured = entry("captured", None);
        assert!(captured.is_for(money(500, "eur")));
        assert!(!captured.is_for(money(501, "eur")));
        assert!(!captured.is_for(money(500, "usd")));
    }
}
