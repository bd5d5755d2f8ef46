//! Kept cards as rows.
//!
//! The rule: a pending row is nobody's to see, a detached one has nothing left that could be charged,
//! and whatever changes the cards of one customer holds that customer's lock. Sealed numbers pass
//! through here as bytes; only the vault opens them.

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::{PgExecutor, PgPool, Postgres, QueryBuilder, Row as _};

use super::billing::{address_from_row, address_to_json};
use super::codec::{metadata_from_row, metadata_to_json};
use super::{Connection, Page, inconsistent};
use crate::domain::card::{CardBrand, CardFunding, CardSummary};
use crate::domain::id::{CustomerId, MerchantId, PaymentMethodId};
use crate::domain::payment::Charge;
use crate::domain::payment_method::{AllowRedisplay, FutureUsage, PaymentMethod, PaymentMethodState, SealedNumber};
use crate::error::Result;

macro_rules! columns {
    () => {
        "id, merchant_id, livemode, customer_id, state, provider, provider_token, card_brand, card_last4,
         card_exp_month, card_exp_year, card_funding, card_country, card_fingerprint, holder_name, holder_email,
         future_usage, allow_redisplay, metadata, vault_key, vault_sealed, created_at, used_at, detached_at,
         holder_address, card_bin"
    };
}

fn to_method(row: &PgRow) -> Result<PaymentMethod> {
    let id: String = row.try_get("id")?;
    let broken = |what: &str| inconsistent("payment_method", &id, what);
    let text = |column: &str| row.try_get::<String, _>(column);
    let state = match (text("state")?.as_str(), row.try_get("detached_at")?) {
        ("pending", None) => PaymentMethodState::Pending,
        ("attached", None) => PaymentMethodState::Attached,
        ("detached", Some(at)) => PaymentMethodState::Detached(at),
        _ => return Err(broken("state and detached_at disagree")),
    };
    let number = match (row.try_get("vault_key")?, row.try_get("vault_sealed")?) {
        (Some(key), Some(bytes)) => Some(SealedNumber { key, bytes }),
        (None, None) => None,
        _ => return Err(broken("half a sealed number")),
    };
    let funding: Option<String> = row.try_get("card_funding")?;
    Ok(PaymentMethod {
        merchant_id: MerchantId::from_stored(text("merchant_id")?),
        livemode: row.try_get("livemode")?,
        customer_id: row.try_get::<Option<String>, _>("customer_id")?.map(CustomerId::from_stored),
        state,
        provider: text("provider")?,
        provider_token: row.try_get("provider_token")?,
        card: CardSummary {
            brand: CardBrand::from_code(&text("card_brand")?).ok_or_else(|| broken("unknown card brand"))?,
            last4: text("card_last4")?,
            exp_month: u8::try_from(row.try_get::<i16, _>("card_exp_month")?).map_err(|_| broken("expiry month"))?,
            exp_year: u16::try_from(row.try_get::<i16, _>("card_exp_year")?).map_err(|_| broken("expiry year"))?,
            funding: funding.as_deref().and_then(CardFunding::from_code),
            country: row.try_get("card_country")?,
            fingerprint: text("card_fingerprint")?,
        },
        bin: row.try_get("card_bin")?,
        holder_name: row.try_get("holder_name")?,
        holder_email: row.try_get("holder_email")?,
        holder_address: address_from_row("payment_method", &id, row, "holder_address")?,
        future_usage: FutureUsage::parse(&text("future_usage")?).ok_or_else(|| broken("unknown future usage"))?,
        allow_redisplay: AllowRedisplay::parse(&text("allow_redisplay")?)
            .ok_or_else(|| broken("unknown allow_redisplay"))?,
        metadata: metadata_from_row("payment_method", &id, row)?,
        number,
        created_at: row.try_get("created_at")?,
        used_at: row.try_get("used_at")?,
        id: PaymentMethodId::from_stored(id),
    })
}

/// Writes a card down, or writes back all of it that can change. Ids are new or belong to rows that the
/// caller has locked.
///
/// # Errors
/// When the database does not answer, or the customer would have the same card twice.
pub async fn save(connection: &mut Connection, method: &PaymentMethod) -> Result<()> {
    sqlx::query(
        "insert into payment_method (id, merchant_id, livemode, customer_id, state, provider, provider_token, card_brand,
             card_last4, card_exp_month, card_exp_year, card_funding, card_country, card_fingerprint, holder_name,
             holder_email, future_usage, allow_redisplay, metadata, vault_key, vault_sealed, created_at, used_at,
             detached_at, holder_address, card_bin)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22,
             $23, $24, $25, $26)
         on conflict (id) do update set customer_id = excluded.customer_id, state = excluded.state,
             provider = excluded.provider, provider_token = excluded.provider_token,
             card_exp_month = excluded.card_exp_month, card_exp_year = excluded.card_exp_year,
             card_bin = excluded.card_bin, card_funding = excluded.card_funding, card_country = excluded.card_country,
             holder_name = excluded.holder_name, holder_email = excluded.holder_email,
             holder_address = excluded.holder_address,
             future_usage = excluded.future_usage, allow_redisplay = excluded.allow_redisplay,
             metadata = excluded.metadata, vault_key = excluded.vault_key, vault_sealed = excluded.vault_sealed,
             used_at = excluded.used_at, detached_at = excluded.detached_at",
    )
    .bind(method.id.as_str())
    .bind(method.merchant_id.as_str())
    .bind(method.livemode)
    .bind(method.customer_id.as_ref().map(CustomerId::as_str))
    .bind(method.state.as_str())
    .bind(&method.provider)
    .bind(&method.provider_token)
    .bind(method.card.brand.code())
    .bind(&method.card.last4)
    .bind(i16::from(method.card.exp_month))
    .bind(i16::try_from(method.card.exp_year).unwrap_or(i16::MAX))
    .bind(method.card.funding.map(CardFunding::code))
    .bind(&method.card.country)
    .bind(&method.card.fingerprint)
    .bind(&method.holder_name)
    .bind(&method.holder_email)
    .bind(method.future_usage.as_str())
    .bind(method.allow_redisplay.as_str())
    .bind(metadata_to_json(&method.metadata))
    .bind(method.number.as_ref().map(|number| number.key.as_str()))
    .bind(method.number.as_ref().map(|number| number.bytes.as_slice()))
    .bind(method.created_at)
    .bind(method.used_at)
    .bind(match method.state {
        PaymentMethodState::Detached(at) => Some(at),
        _ => None,
    })
    .bind(address_to_json(method.holder_address.as_ref()))
    .bind(&method.bin)
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes a card away that waited for its charge: the row is gone afterwards, number and all.
///
/// # Errors
/// When the database does not answer or the row is inconsistent.
pub async fn take_pending(connection: &mut Connection, id: &PaymentMethodId) -> Result<Option<PaymentMethod>> {
    let row =
        sqlx::query(concat!("delete from payment_method where id = $1 and state = 'pending' returning ", columns!()))
            .bind(id.as_str())
            .fetch_optional(connection)
            .await?;
    row.as_ref().map(to_method).transpose()
}

/// Deletes a card that waited for this charge, unless another open charge of its session tries the same card.
///
/// # Errors
/// When the database does not answer.
pub async fn forget_pending(connection: &mut Connection, charge: &Charge) -> Result<()> {
    sqlx::query(
        "delete from payment_method where id = $1 and state = 'pending' and not exists
             (select 1 from charge where session_id = $3 and payment_method = $1 and id <> $2
                  and state in ('pending', 'requires_action'))",
    )
    .bind(charge.payment_method.as_str())
    .bind(charge.id.as_str())
    .bind(charge.session_id.as_str())
    .execute(connection)
    .await?;
    Ok(())
}

/// Notes that a kept card was charged with success; no word about others.
///
/// # Errors
/// When the database does not answer.
pub async fn note_use(connection: &mut Connection, id: &PaymentMethodId, now: DateTime<Utc>) -> Result<()> {
    sqlx::query("update payment_method set used_at = $2 where id = $1 and state = 'attached'")
        .bind(id.as_str())
        .bind(now)
        .execute(connection)
        .await?;
    Ok(())
}

/// A merchant's card; what is pending is not there yet.
///
/// # Errors
/// When the database does not answer or the row is inconsistent.
pub async fn find(
    database: impl PgExecutor<'_>,
    merchant: &MerchantId,
    livemode: bool,
    id: &PaymentMethodId,
) -> Result<Option<PaymentMethod>> {
    let row = sqlx::query(concat!(
        "select ",
        columns!(),
        " from payment_method where id = $1 and merchant_id = $2 and livemode = $3 and state <> 'pending'"
    ))
    .bind(id.as_str())
    .bind(merchant.as_str())
    .bind(livemode)
    .fetch_optional(database)
    .await?;
    row.as_ref().map(to_method).transpose()
}

/// The cards of a customer, those used last first, at most `limit`. The caller has made sure whose
/// customer it is.
///
/// # Errors
/// When the database does not answer or a row is inconsistent.
pub async fn of_customer(
    database: impl PgExecutor<'_>,
    customer: &CustomerId,
    limit: i64,
) -> Result<Vec<PaymentMethod>> {
    let rows = sqlx::query(concat!(
        "select ",
        columns!(),
        " from payment_method where customer_id = $1 and state = 'attached' order by used_at desc, id desc limit $2"
    ))
    .bind(customer.as_str())
    .bind(limit)
    .fetch_all(database)
    .await?;
    rows.iter().map(to_method).collect()
}

/// A page of a customer's cards, newest first.
///
/// # Errors
/// When the database does not answer or a row is inconsistent.
pub async fn list(
    pool: &PgPool,
    merchant: &MerchantId,
    livemode: bool,
    customer: &CustomerId,
    allow_redisplay: Option<AllowRedisplay>,
    page: &Page,
) -> Result<Vec<PaymentMethod>> {
    let mut query: QueryBuilder<Postgres> = QueryBuilder::new(concat!(
        "select ",
        columns!(),
        " from payment_method where state = 'attached' and merchant_id = "
    ));
    query.push_bind(merchant.as_str()).push(" and livemode = ").push_bind(livemode);
    query.push(" and customer_id = ").push_bind(customer.as_str());
    if let Some(allow_redisplay) = allow_redisplay {
        query.push(" and allow_redisplay = ").push_bind(allow_redisplay.as_str());
    }
    page.push_to(&mut query);
    let rows = query.build().fetch_all(pool).await?;
    let mut methods = rows.iter().map(to_method).collect::<Result<Vec<_>>>()?;
    page.order(&mut methods);
    Ok(methods)
}

/// The names of the keys that numbers are sealed with, and how many numbers each seals.
///
/// # Errors
/// When the database does not answer.
pub async fn vault_keys(database: impl PgExecutor<'_>) -> Result<Vec<(String, i64)>> {
    let rows = sqlx::query(
        "select vault_key, count(*) from payment_method where vault_key is not null group by vault_key order by 1",
    )
    .fetch_all(database)
    .await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// Locks the next cards whose number is sealed with this key, in the order of their ids.
///
/// # Errors
/// When the database does not answer or a row is inconsistent.
pub async fn lock_sealed_with(
    connection: &mut Connection,
    key: &str,
    after: Option<&str>,
    limit: i64,
) -> Result<Vec<PaymentMethod>> {
    let rows = sqlx::query(concat!(
        "select ",
        columns!(),
        " from payment_method where vault_key = $1 and id > $2 order by id limit $3 for update"
    ))
    .bind(key)
    .bind(after.unwrap_or_default())
    .bind(limit)
    .fetch_all(connection)
    .await?;
    rows.iter().map(to_method).collect()
}

/// Writes numbers back that were sealed anew. The caller holds the locks.
///
/// # Errors
/// When the database does not answer.
pub async fn save_numbers(connection: &mut Connection, numbers: &[(PaymentMethodId, SealedNumber)]) -> Result<()> {
    sqlx::query(
        "update payment_method m set vault_key = g.key, vault_sealed = g.bytes
         from unnest($1::text[], $2::text[], $3::bytea[]) as g (id, key, bytes) where m.id = g.id",
    )
    .bind(numbers.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>())
    .bind(numbers.iter().map(|(_, number)| number.key.as_str()).collect::<Vec<_>>())
    .bind(numbers.iter().map(|(_, number)| number.bytes.as_slice()).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

/// Erases the numbers that are sealed with a key, at most `limit`, and says how many there were. The
/// cards stay, as far as their provider remembers them.
///
/// # Errors
/// When the database does not answer.
pub async fn erase_numbers(connection: &mut Connection, key: &str, limit: i64) -> Result<u64> {
    let done = sqlx::query(
        "update payment_method set vault_key = null, vault_sealed = null
         where id in (select id from payment_method where vault_key = $1 order by id limit $2)",
    )
    .bind(key)
    .bind(limit)
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}
