//! Customers as rows. A deleted one keeps its row, so that an id never means somebody else; every
//! function here but [`find`] looks past it.

use serde::{Deserialize, Serialize};
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{PgExecutor, PgPool, Postgres, QueryBuilder, Row as _};

use super::codec::{metadata_from_row, metadata_to_json};
use super::{Connection, CreatedFilter, Page, inconsistent};
use crate::domain::customer::{Customer, PostalAddress, Shipping};
use crate::domain::id::{CustomerId, MerchantId};
use crate::error::Result;

macro_rules! columns {
    () => {
        "id, merchant_id, livemode, email, name, phone, description, address, shipping, preferred_locales, metadata,
         created_at, deleted_at"
    };
}

#[derive(Serialize, Deserialize)]
pub(super) struct StoredAddress {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    city: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    country: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    line1: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    line2: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    postal_code: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    state: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct StoredShipping {
    address: StoredAddress,
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    phone: Option<String>,
}

impl From<PostalAddress> for StoredAddress {
    fn from(address: PostalAddress) -> Self {
        let PostalAddress { city, country, line1, line2, postal_code, state } = address;
        Self { city, country, line1, line2, postal_code, state }
    }
}

impl From<StoredAddress> for PostalAddress {
    fn from(stored: StoredAddress) -> Self {
        let StoredAddress { city, country, line1, line2, postal_code, state } = stored;
        Self { city, country, line1, line2, postal_code, state }
    }
}

fn to_customer(row: &PgRow) -> Result<Customer> {
    let id: String = row.try_get("id")?;
    let broken = |error: sqlx::Error| inconsistent("customer", &id, &error.to_string());
    let address: Option<Json<StoredAddress>> = row.try_get("address").map_err(broken)?;
    let shipping: Option<Json<StoredShipping>> = row.try_get("shipping").map_err(broken)?;
    Ok(Customer {
        merchant_id: MerchantId::from_stored(row.try_get("merchant_id")?),
        livemode: row.try_get("livemode")?,
        email: row.try_get("email")?,
        name: row.try_get("name")?,
        phone: row.try_get("phone")?,
        description: row.try_get("description")?,
        address: address.map(|Json(address)| address.into()),
        shipping: shipping.map(|Json(shipping)| Shipping {
            address: shipping.address.into(),
            name: shipping.name,
            phone: shipping.phone,
        }),
        preferred_locales: row.try_get("preferred_locales")?,
        metadata: metadata_from_row("customer", &id, row)?,
        created_at: row.try_get("created_at")?,
        deleted_at: row.try_get("deleted_at")?,
        id: CustomerId::from_stored(id),
    })
}

fn address_json(customer: &Customer) -> Option<Json<StoredAddress>> {
    customer.address.clone().map(|address| Json(address.into()))
}

fn shipping_json(customer: &Customer) -> Option<Json<StoredShipping>> {
    customer.shipping.clone().map(|shipping| {
        Json(StoredShipping { address: shipping.address.into(), name: shipping.name, phone: shipping.phone })
    })
}

/// Makes a customer.
///
/// # Errors
/// When the database does not answer.
pub async fn insert(connection: &mut Connection, customer: &Customer) -> Result<()> {
    sqlx::query(
        "insert into customer (id, merchant_id, livemode, email, name, phone, description, address, shipping,
             preferred_locales, metadata, created_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
    )
    .bind(customer.id.as_str())
    .bind(customer.merchant_id.as_str())
    .bind(customer.livemode)
    .bind(&customer.email)
    .bind(&customer.name)
    .bind(&customer.phone)
    .bind(&customer.description)
    .bind(address_json(customer))
    .bind(shipping_json(customer))
    .bind(&customer.preferred_locales)
    .bind(metadata_to_json(&customer.metadata))
    .bind(customer.created_at)
    .execute(connection)
    .await?;
    Ok(())
}

/// Writes back what can change of a customer, its deletion included. The caller holds the row's lock.
///
/// # Errors
/// When the database does not answer.
pub async fn save(connection: &mut Connection, customer: &Customer) -> Result<()> {
    sqlx::query(
        "update customer set email = $2, name = $3, phone = $4, description = $5, address = $6, shipping = $7,
             preferred_locales = $8, metadata = $9, deleted_at = $10
         where id = $1",
    )
    .bind(customer.id.as_str())
    .bind(&customer.email)
    .bind(&customer.name)
    .bind(&customer.phone)
    .bind(&customer.description)
    .bind(address_json(customer))
    .bind(shipping_json(customer))
    .bind(&customer.preferred_locales)
    .bind(metadata_to_json(&customer.metadata))
    .bind(customer.deleted_at)
    .execute(connection)
    .await?;
    Ok(())
}

/// A merchant's customer, deleted ones too.
///
/// # Errors
/// When the database does not answer or the row is inconsistent.
pub async fn find(
    database: impl PgExecutor<'_>,
    merchant: &MerchantId,
    livemode: bool,
    id: &CustomerId,
) -> Result<Option<Customer>> {
    let row = sqlx::query(concat!(
        "select ",
        columns!(),
        " from customer where id = $1 and merchant_id = $2 and livemode = $3"
    ))
    .bind(id.as_str())
    .bind(merchant.as_str())
    .bind(livemode)
    .fetch_optional(database)
    .await?;
    row.as_ref().map(to_customer).transpose()
}

/// Locks a merchant's customer that has not been deleted. The lock orders everything that is done with
/// the cards kept for him.
///
/// # Errors
/// When the database does not answer or the row is inconsistent.
pub async fn lock(
    connection: &mut Connection,
    merchant: &MerchantId,
    livemode: bool,
    id: &CustomerId,
) -> Result<Option<Customer>> {
    let row = sqlx::query(concat!(
        "select ",
        columns!(),
        " from customer where id = $1 and merchant_id = $2 and livemode = $3 and deleted_at is null for update"
    ))
    .bind(id.as_str())
    .bind(merchant.as_str())
    .bind(livemode)
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(to_customer).transpose()
}

/// The e-mail address of a customer that has not been deleted.
///
/// # Errors
/// When the database does not answer.
pub async fn email(database: impl PgExecutor<'_>, id: &CustomerId) -> Result<Option<String>> {
    let email: Option<Option<String>> =
        sqlx::query_scalar("select email from customer where id = $1 and deleted_at is null")
            .bind(id.as_str())
            .fetch_optional(database)
            .await?;
    Ok(email.flatten())
}

/// What a list of customers may be narrowed to.
#[derive(Debug, Default, Clone)]
pub struct Filter {
    /// This address, letter by letter.
    pub email: Option<String>,
    /// Bounds on the creation time.
    pub created: CreatedFilter,
}

/// A page of a merchant's customers, newest first.
///
/// # Errors
/// When the database does not answer or a row is inconsistent.
pub async fn list(
    pool: &PgPool,
    merchant: &MerchantId,
    livemode: bool,
    filter: &Filter,
    page: &Page,
) -> Result<Vec<Customer>> {
    let mut query: QueryBuilder<Postgres> =
        QueryBuilder::new(concat!("select ", columns!(), " from customer where deleted_at is null and merchant_id = "));
    query.push_bind(merchant.as_str()).push(" and livemode = ").push_bind(livemode);
    if let Some(email) = &filter.email {
        query.push(" and email = ").push_bind(email);
    }
    filter.created.push_to(&mut query);
    page.push_to(&mut query);
    let rows = query.build().fetch_all(pool).await?;
    let mut customers = rows.iter().map(to_customer).collect::<Result<Vec<_>>>()?;
    page.order(&mut customers);
    Ok(customers)
}
