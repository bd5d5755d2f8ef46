//! The books of the simulated company, in a schema of their own.
//!
//! Rule: one row per charge id, written once; each change is one statement or one short
//! transaction, so that racing calls are put in order by the row and never by chance. A void that
//! finds no charge writes a row in its place, which refuses the charge should it still arrive. The
//! row also holds the challenge, from which no card can be read.

use sqlx::{PgPool, Postgres, Transaction};

use super::simulator_cards::{RememberedCard, Ruling, Verdict};
use super::simulator_entry::{Answer, Challenge, Entry};
use super::{AuthenticationFlow, AuthenticationResult, CaptureReport, CheckResult, Reversal, RiskLevel};
use crate::domain::card::DeclineReason;
use crate::domain::money::Money;

/// How long a bank waits for its customer. Enough to find the phone, and short enough that the
/// charge of a payer who went away is settled the same hour. The books' clock counts.
pub(super) const CHALLENGE_MINUTES: i32 = 15;

macro_rules! entry_columns {
    () => {
        "reference, amount, currency, state, decline_code, amount_captured, network, risk, check_cvc, \
         check_address_line1, check_postal_code, three_d_secure_flow, three_d_secure_result, challenge_id, \
         card_reference"
    };
}

/// A charge to be written down.
pub(super) struct NewEntry<'a> {
    pub(super) charge_id: &'a str,
    pub(super) reference: &'a str,
    pub(super) money: Money,
    pub(super) manual_capture: bool,
    pub(super) merchant: Option<&'a str>,
    pub(super) ruling: &'a Ruling,
    /// Kept if the ruling is to ask the payer.
    pub(super) challenge_id: &'a str,
    /// Kept if the ruling is to ask the payer.
    pub(super) return_url: &'a str,
    /// The remembered card that it is made from, or that remembers it.
    pub(super) card_reference: Option<&'a str>,
}

/// What a refund needs to know of its charge.
#[derive(sqlx::FromRow)]
struct Refundable {
    state: String,
    amount_captured: i64,
    currency: Option<String>,
    amount_refunded: i64,
    amount_disputed: i64,
}

impl Refundable {
    /// What is left to give back in that money's currency.
    fn left_in_currency_of(&self, money: Money) -> i64 {
        let matches = self.state == "captured" && self.currency.as_deref() == Some(money.currency.code());
        if matches { self.amount_captured - self.amount_refunded - self.amount_disputed } else { 0 }
    }
}

/// The books.
pub(super) struct Ledger {
    pub(super) pool: PgPool,
    /// Whose books: companies that share the tables do not see each other's rows.
    pub(super) provider: String,
}

impl Ledger {
    pub(super) fn new(pool: PgPool, provider: &str) -> Ledger {
        Ledger { pool, provider: provider.to_owned() }
    }

    /// A cancelled `begin` may leave its connection inside a transaction (transact-rs/sqlx#4385); a task of its own
    /// is not cancelled with the caller.
    pub(super) async fn begin(&self) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
        let pool = self.pool.clone();
        let begun = tokio::spawn(async move { pool.begin().await }).await;
        begun.map_err(|_| sqlx::Error::WorkerCrashed)?
    }

    /// The charge as it stands, after a challenge that nobody answered in time has been ended.
    pub(super) async fn find(&self, charge_id: &str) -> Result<Option<Entry>, sqlx::Error> {
        let entry = self.read(charge_id).await?;
        match entry {
            Some(entry) if entry.state == "challenge" && self.end_late_challenge(charge_id).await? => {
                self.read(charge_id).await
            }
            entry => Ok(entry),
        }
    }

    async fn read(&self, charge_id: &str) -> Result<Option<Entry>, sqlx::Error> {
        let sql = concat!("select ", entry_columns!(), " from simulator.charge where charge_id = $1 and provider = $2");
        sqlx::query_as(sql).bind(charge_id).bind(&self.provider).fetch_optional(&self.pool).await
    }

    async fn end_late_challenge(&self, charge_id: &str) -> Result<bool, sqlx::Error> {
        let ended = sqlx::query(
            "update simulator.charge
             set state = 'declined', decline_code = $2, three_d_secure_flow = $3, three_d_secure_result = $4
             where charge_id = $1 and provider = $5 and state = 'challenge' and challenge_expires_at <= now()",
        )
        .bind(charge_id)
        .bind(DeclineReason::AuthenticationFailed.word())
        .bind(AuthenticationFlow::Challenge.word())
        .bind(AuthenticationResult::Failed.word())
        .bind(&self.provider)
        .execute(&self.pool)
        .await?;
        Ok(ended.rows_affected() > 0)
    }

    /// Writes the charge unless its id has a row already, and returns the row that counts.
    pub(super) async fn record(&self, new: NewEntry<'_>) -> Result<Entry, sqlx::Error> {
        let NewEntry {
            charge_id, reference, money, manual_capture, merchant, ruling, challenge_id, return_url, ..
        } = new;
        let decline_code = match ruling.verdict {
            Verdict::Approved => None,
            Verdict::Declined(reason) => Some(reason.word()),
        };
        let state = match (ruling.challenge, ruling.verdict) {
            (true, _) => "challenge",
            (false, Verdict::Declined(_)) => "declined",
            (false, Verdict::Approved) if manual_capture => "authorized",
            (false, Verdict::Approved) => "captured",
        };
        let facts = &ruling.facts;
        let check = |result: Option<CheckResult>| result.map(CheckResult::word);
        let three_d_secure = facts.three_d_secure.as_ref();
        let written = sqlx::query_as(concat!(
            "insert into simulator.charge
                 (charge_id, reference, amount, currency, state, decline_code, manual_capture, amount_captured,
                  merchant, network, risk, check_cvc, check_address_line1, check_postal_code,
                  three_d_secure_flow, three_d_secure_result,
                  challenge_id, challenge_return_url, challenge_expires_at, challenge_decline_code, card_reference,
                  provider, dispute_reason)
             values ($1, $2, $3, $4, $5, case when $5 = 'declined' then $6 end, $7,
                     case when $5 = 'captured' then $3 else 0 end, $8, $9, $10, $11, $12, $13, $14, $15,
                     $16, $17, now() + $18 * interval '1 minute', case when $5 = 'challenge' then $6 end, $19, $20, $21)
             on conflict (provider, charge_id) do nothing
             returning ",
            entry_columns!()
        ))
        .bind(charge_id)
        .bind(reference)
        .bind(money.minor)
        .bind(money.currency.code())
        .bind(state)
        .bind(decline_code)
        .bind(manual_capture)
        .bind(merchant)
        .bind(facts.network.as_deref())
        .bind(facts.risk.map(RiskLevel::word))
        .bind(check(facts.checks.cvc))
        .bind(check(facts.checks.address_line1))
        .bind(check(facts.checks.postal_code))
        .bind(three_d_secure.and_then(|ended| ended.flow).map(AuthenticationFlow::word))
        .bind(three_d_secure.map(|ended| ended.result.word()))
        .bind(ruling.challenge.then_some(challenge_id))
        .bind(ruling.challenge.then_some(return_url))
        .bind(ruling.challenge.then_some(CHALLENGE_MINUTES))
        .bind(new.card_reference)
        .bind(&self.provider)
        .bind(ruling.dispute)
        .fetch_optional(&self.pool)
        .await?;
        match written {
            Some(entry) => Ok(entry),
            // Rows are never deleted, so the one in the way is committed and still there.
            None => self.find(charge_id).await?.ok_or(sqlx::Error::RowNotFound),
        }
    }

    /// Remembers a card under this reference.
    pub(super) async fn remember(&self, reference: &str, card: &RememberedCard) -> Result<(), sqlx::Error> {
        sqlx::query("insert into simulator.card (reference, bin, last4) values ($1, $2, $3)")
            .bind(reference)
            .bind(&card.bin)
            .bind(&card.last4)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// The card that is remembered under a reference.
    pub(super) async fn remembered(&self, reference: &str) -> Result<Option<RememberedCard>, sqlx::Error> {
        let found: Option<(String, String)> =
            sqlx::query_as("select bin, last4 from simulator.card where reference = $1")
                .bind(reference)
                .fetch_optional(&self.pool)
                .await?;
        Ok(found.map(|(bin, last4)| RememberedCard { bin, last4 }))
    }

    /// The challenge behind the end of a bank page's address, whichever company it was opened for: the banks
    /// are the same.
    pub(super) async fn challenge(&self, challenge_id: &str) -> Result<Option<Challenge>, sqlx::Error> {
        sqlx::query_as(
            "select charge_id, amount, currency, merchant, challenge_return_url, challenge_answer,
                    state = 'challenge' and now() < challenge_expires_at as is_open
             from simulator.charge where challenge_id = $1",
        )
        .bind(challenge_id)
        .fetch_optional(&self.pool)
        .await
    }

    /// Takes in the payer's answer and does at once what follows from it. Gives whether this call was
    /// the one: the first answer counts, and only while the bank waits.
    pub(super) async fn answer(&self, challenge_id: &str, answer: Answer) -> Result<bool, sqlx::Error> {
        let result = if answer.passes() { AuthenticationResult::Authenticated } else { AuthenticationResult::Failed };
        let refused = (!answer.passes()).then(|| DeclineReason::AuthenticationFailed.word());
        let answered = sqlx::query(
            "update simulator.charge
             set state = case when coalesce($3, challenge_decline_code) is not null then 'declined'
                              when manual_capture then 'authorized'
                              else 'captured' end,
                 decline_code = coalesce($3, challenge_decline_code),
                 amount_captured = case when coalesce($3, challenge_decline_code) is not null or manual_capture then 0
                                        else amount end,
                 three_d_secure_flow = $4, three_d_secure_result = $5, challenge_answer = $2
             where challenge_id = $1 and state = 'challenge' and now() < challenge_expires_at",
        )
        .bind(challenge_id)
        .bind(answer.word())
        .bind(refused)
        .bind(AuthenticationFlow::Challenge.word())
        .bind(result.word())
        .execute(&self.pool)
        .await?;
        Ok(answered.rows_affected() > 0)
    }

    /// Takes reserved money, once.
    pub(super) async fn capture(&self, charge_id: &str, money: Money) -> Result<CaptureReport, sqlx::Error> {
        let captured: Option<(String,)> = sqlx::query_as(
            "update simulator.charge set state = 'captured', amount_captured = $2
             where charge_id = $1 and provider = $4 and state = 'authorized' and currency = $3
                 and $2 between 1 and amount
             returning reference",
        )
        .bind(charge_id)
        .bind(money.minor)
        .bind(money.currency.code())
        .bind(&self.provider)
        .fetch_optional(&self.pool)
        .await?;
        if let Some((reference,)) = captured {
            return Ok(CaptureReport::Captured { reference, fee: None });
        }
        Ok(match self.find(charge_id).await? {
            Some(entry) => entry.capture_report(money),
            None => CaptureReport::Refused { detail: "no such charge".to_owned() },
        })
    }

    /// Turns a charge back, captured or only reserved; ends one whose payer is being asked; refuses
    /// one that has not arrived.
    pub(super) async fn void(&self, charge_id: &str, reference: &str) -> Result<Reversal, sqlx::Error> {
        let changed: Option<(String, String)> = sqlx::query_as(
            "insert into simulator.charge (charge_id, reference, state, provider)
             values ($1, $2, 'refused', $3)
             on conflict (provider, charge_id) do update
                 set state = case charge.state when 'challenge' then 'closed' else 'void' end
                 where charge.state in ('challenge', 'authorized', 'captured')
                     and not exists (select from simulator.dispute d where d.provider = $3 and d.charge_id = $1
                                     and d.status in ('needs_response', 'under_review'))
             returning state, reference",
        )
        .bind(charge_id)
        .bind(reference)
        .bind(&self.provider)
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
            "captured" => {
                Reversal::Unknown { detail: "the payer disputes it; void it when that is decided".to_owned() }
            }
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
        let mut transaction = self.begin().await?;
        let Some(charge) = sqlx::query_as::<_, Refundable>(
            "select state, amount_captured, currency, amount_refunded, amount_disputed
             from simulator.charge where charge_id = $1 and provider = $2 for update",
        )
        .bind(charge_id)
        .bind(&self.provider)
        .fetch_optional(&mut *transaction)
        .await?
        else {
            return Ok(Reversal::NothingToReverse);
        };
        let earlier: Option<(String, String, i64)> = sqlx::query_as(
            "select reference, charge_id, amount from simulator.refund where refund_id = $1 and provider = $2",
        )
        .bind(refund_id)
        .bind(&self.provider)
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
            "insert into simulator.refund (refund_id, charge_id, reference, amount, provider)
             values ($1, $2, $3, $4, $5)",
        )
        .bind(refund_id)
        .bind(charge_id)
        .bind(reference)
        .bind(money.minor)
        .bind(&self.provider)
        .execute(&mut *transaction)
        .await?;
        sqlx::query(
            "update simulator.charge
             set amount_refunded = amount_refunded + $2,
                 state = case when amount_refunded + $2 = amount_captured then 'refunded' else state end
             where charge_id = $1 and provider = $3",
        )
        .bind(charge_id)
        .bind(money.minor)
        .bind(&self.provider)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(Reversal::Done { reference: reference.to_owned() })
    }
}
