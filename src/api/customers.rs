//! `/v1/customers`: whom the merchant sells to, and the cards that are kept for them.

use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::answer::Found;
use super::fields::{CreatedParam, ExpandParams, apply_metadata, email, page, text};
use super::guard::{Call, Id};
use super::params::{MetadataParam, Patch};
use super::payment_methods::PaymentMethodType;
use super::saved_card_params::AllowRedisplayParam;
use crate::domain::customer::{Customer as Row, PostalAddress, Shipping};
use crate::domain::id::{CustomerId, PaymentMethodId};
use crate::error::{Error, Result};
use crate::ops::replay::Answer;
use crate::ops::{customers, payment_methods};
use crate::store::customers::Filter;
use crate::wire::customer::{Customer, FoundCustomer};
use crate::wire::error::ErrorEnvelope;
use crate::wire::payment_method::PaymentMethod;
use crate::wire::{Deleted, List};

/// Characters in a name, as at Stripe.
const NAME_CHARS_MAX: usize = 256;
/// Characters in a telephone number, as at Stripe.
const PHONE_CHARS_MAX: usize = 20;
/// Characters in a description, as at Stripe.
const DESCRIPTION_CHARS_MAX: usize = 350;
/// Characters in one line of an address.
const ADDRESS_CHARS_MAX: usize = 200;
/// Languages of one customer.
const LOCALES_MAX: usize = 10;
/// Characters of a language tag; RFC 5646 asks for at least 35 to be taken.
const LOCALE_CHARS_MAX: usize = 35;

/// A postal address.
#[derive(Deserialize, ToSchema, Debug, Clone, Default)]
#[serde(deny_unknown_fields)]
pub struct AddressParam {
    /// City or town.
    pub city: Option<String>,
    /// ISO 3166-1 alpha-2.
    pub country: Option<String>,
    /// Street.
    pub line1: Option<String>,
    /// Flat, floor.
    pub line2: Option<String>,
    /// Postcode.
    pub postal_code: Option<String>,
    /// State or province.
    pub state: Option<String>,
}

impl AddressParam {
    fn check(self, param: &str) -> Result<PostalAddress> {
        let line = |name: &str, value| text(&format!("{param}[{name}]"), value, ADDRESS_CHARS_MAX);
        if let Some(country) = &self.country
            && !(country.len() == 2 && country.bytes().all(|byte| byte.is_ascii_alphabetic()))
        {
            let message = "A country is two letters (ISO 3166-1 alpha-2), such as `DE`.";
            return Err(Error::invalid("country_code_invalid", format!("{param}[country]"), message));
        }
        Ok(PostalAddress {
            city: line("city", self.city)?,
            country: self.country.map(|country| country.to_ascii_uppercase()),
            line1: line("line1", self.line1)?,
            line2: line("line2", self.line2)?,
            postal_code: line("postal_code", self.postal_code)?,
            state: line("state", self.state)?,
        })
    }
}

/// Where a parcel goes.
#[derive(Deserialize, ToSchema, Debug, Clone)]
#[serde(deny_unknown_fields)]
pub struct ShippingParam {
    /// Whereto.
    pub address: AddressParam,
    /// To whom.
    pub name: String,
    /// His telephone.
    pub phone: Option<String>,
}

/// What a merchant says of a customer. What is empty is removed; what is absent stays.
#[derive(Deserialize, ToSchema, Debug)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "`expand` only has to decode: there is nothing to expand")]
pub struct CustomerParams {
    /// Billing address.
    #[serde(default)]
    #[schema(value_type = Option<AddressParam>)]
    pub address: Patch<AddressParam>,
    /// The merchant's words, at most 350 characters.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub description: Patch<String>,
    /// E-mail address.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub email: Patch<String>,
    /// Given keys are set, empty ones deleted, an empty value clears all.
    #[serde(default)]
    #[schema(value_type = std::collections::BTreeMap<String, String>)]
    pub metadata: MetadataParam,
    /// Name, at most 256 characters.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub name: Patch<String>,
    /// Telephone, at most 20 characters.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub phone: Patch<String>,
    /// Languages, the most wanted first.
    pub preferred_locales: Option<Vec<String>>,
    /// Shipping address.
    #[serde(default)]
    #[schema(value_type = Option<ShippingParam>)]
    pub shipping: Patch<ShippingParam>,
    /// Paths to expand; there is nothing to expand.
    pub expand: Option<Vec<String>>,
}

/// Writes one text of a customer.
fn put(
    target: &mut Option<String>,
    patch: Patch<String>,
    check: impl Fn(String) -> Result<Option<String>>,
) -> Result<()> {
    match patch {
        Patch::Absent => {}
        Patch::Clear => *target = None,
        Patch::Set(value) => *target = check(value)?,
    }
    Ok(())
}

impl CustomerParams {
    fn write_to(self, customer: &mut Row) -> Result<()> {
        let bounded = |param: &'static str, chars_max: usize| move |value: String| text(param, Some(value), chars_max);
        put(&mut customer.email, self.email, |value| email("email", Some(value)))?;
        put(&mut customer.name, self.name, bounded("name", NAME_CHARS_MAX))?;
        put(&mut customer.phone, self.phone, bounded("phone", PHONE_CHARS_MAX))?;
        put(&mut customer.description, self.description, bounded("description", DESCRIPTION_CHARS_MAX))?;
        match self.address {
            Patch::Absent => {}
            Patch::Clear => customer.address = None,
            Patch::Set(address) => customer.address = Some(address.check("address")?),
        }
        match self.shipping {
            Patch::Absent => {}
            Patch::Clear => customer.shipping = None,
            Patch::Set(shipping) => {
                customer.shipping = Some(Shipping {
                    address: shipping.address.check("shipping[address]")?,
                    name: text("shipping[name]", Some(shipping.name), NAME_CHARS_MAX)?.unwrap_or_default(),
                    phone: text("shipping[phone]", shipping.phone, PHONE_CHARS_MAX)?,
                });
            }
        }
        if let Some(locales) = self.preferred_locales {
            let fine = |tag: &String| {
                tag.len() <= LOCALE_CHARS_MAX && tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            };
            if locales.len() > LOCALES_MAX || !locales.iter().all(fine) {
                let message = format!("At most {LOCALES_MAX} language tags such as `de` or `pt-BR` are taken.");
                return Err(Error::invalid("parameter_invalid", "preferred_locales", message));
            }
            customer.preferred_locales = locales;
        }
        apply_metadata("metadata", self.metadata, &mut customer.metadata)
    }
}

/// Makes a customer.
#[utoipa::path(post, path = "/v1/customers", tag = "Customers", operation_id = "create_customer",
    request_body(content((CustomerParams = "application/x-www-form-urlencoded"), (CustomerParams = "application/json"))),
    responses((status = 200, body = Customer), (status = "4XX", body = ErrorEnvelope)))]
pub async fn create(call: Call) -> Result<Answer> {
    let params: CustomerParams = call.params()?;
    customers::create(&call.app, &call.write(), |customer| params.write_to(customer)).await
}

/// What a list of customers may be narrowed to.
#[derive(Deserialize, IntoParams, Debug)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "`expand` only has to decode: there is nothing to expand")]
pub struct ListCustomers {
    /// This address, letter by letter.
    pub email: Option<String>,
    /// Creation time.
    #[param(value_type = Option<Object>, style = DeepObject, explode)]
    pub created: Option<CreatedParam>,
    /// Objects on the page, 1 to 100; 10 unless given.
    pub limit: Option<i64>,
    /// The last id of the page before.
    pub starting_after: Option<String>,
    /// The first id of the page behind.
    pub ending_before: Option<String>,
    /// Paths to expand; there is nothing to expand.
    #[param(style = DeepObject, explode)]
    pub expand: Option<Vec<String>>,
}

/// Lists customers, newest first.
#[utoipa::path(get, path = "/v1/customers", tag = "Customers", operation_id = "list_customers", params(ListCustomers),
    responses((status = 200, body = List<Customer>), (status = "4XX", body = ErrorEnvelope)))]
pub async fn list(call: Call) -> Result<Found<List<Customer>>> {
    let params: ListCustomers = call.query()?;
    let page = page(params.limit, params.starting_after, params.ending_before, CustomerId::parse)?;
    let filter = Filter { email: params.email, created: params.created.unwrap_or_default().filter()? };
    Ok(Found(customers::list(&call.app, &call.caller, &filter, &page).await?))
}

/// Retrieves a customer. One that was deleted says so.
#[utoipa::path(get, path = "/v1/customers/{id}", tag = "Customers", operation_id = "retrieve_customer", params(("id" = String, Path), ExpandParams),
    responses((status = 200, body = FoundCustomer), (status = "4XX", body = ErrorEnvelope)))]
pub async fn retrieve(Id(id): Id, call: Call) -> Result<Found<FoundCustomer>> {
    call.query::<ExpandParams>()?;
    Ok(Found(customers::retrieve(&call.app, &call.caller, &id).await?))
}

/// Changes a customer.
#[utoipa::path(post, path = "/v1/customers/{id}", tag = "Customers", operation_id = "update_customer", params(("id" = String, Path)),
    request_body(content((CustomerParams = "application/x-www-form-urlencoded"), (CustomerParams = "application/json"))),
    responses((status = 200, body = Customer), (status = "4XX", body = ErrorEnvelope)))]
pub async fn update(Id(id): Id, call: Call) -> Result<Answer> {
    let params: CustomerParams = call.params()?;
    customers::update(&call.app, &call.write(), &id, |customer| params.write_to(customer)).await
}

/// Deletes a customer, what is known of the person, and the cards that were kept.
#[utoipa::path(delete, path = "/v1/customers/{id}", tag = "Customers", operation_id = "delete_customer", params(("id" = String, Path)),
    responses((status = 200, body = Deleted), (status = "4XX", body = ErrorEnvelope)))]
pub async fn delete(Id(id): Id, call: Call) -> Result<Found<Deleted>> {
    Ok(Found(customers::delete(&call.app, &call.write(), &id).await?))
}

/// What a list of one customer's cards may be narrowed to.
#[derive(Deserialize, IntoParams, Debug)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "some parameters only have to decode: what they may say changes nothing")]
pub struct ListCustomerPaymentMethods {
    /// Cards that may be shown to the payer that far.
    #[param(inline)]
    pub allow_redisplay: Option<AllowRedisplayParam>,
    /// Only `card`.
    #[serde(rename = "type")]
    #[param(inline)]
    pub kind: Option<PaymentMethodType>,
    /// Objects on the page, 1 to 100; 10 unless given.
    pub limit: Option<i64>,
    /// The last id of the page before.
    pub starting_after: Option<String>,
    /// The first id of the page behind.
    pub ending_before: Option<String>,
    /// Paths to expand; there is nothing to expand.
    #[param(style = DeepObject, explode)]
    pub expand: Option<Vec<String>>,
}

/// Lists the cards that are kept for a customer, newest first.
#[utoipa::path(get, path = "/v1/customers/{id}/payment_methods", tag = "Customers", operation_id = "list_customer_payment_methods",
    params(("id" = String, Path), ListCustomerPaymentMethods),
    responses((status = 200, body = List<PaymentMethod>), (status = "4XX", body = ErrorEnvelope)))]
pub async fn payment_methods(Id(id): Id, call: Call) -> Result<Found<List<PaymentMethod>>> {
    let params: ListCustomerPaymentMethods = call.query()?;
    let page = page(params.limit, params.starting_after, params.ending_before, PaymentMethodId::parse)?;
    let redisplay = params.allow_redisplay.map(Into::into);
    let customer = customers::exists(&call.app, &call.caller, &id).await?;
    let url = format!("/v1/customers/{customer}/payment_methods");
    Ok(Found(payment_methods::list(&call.app, &call.caller, &customer, redisplay, &page, &url).await?))
}
