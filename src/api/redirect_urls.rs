//! `/v1/redirect_urls`: the allow-list of places that payers may be sent back to.

use serde::Deserialize;
use utoipa::ToSchema;

use super::answer::Found;
use super::fields::{ExpandParams, PageParams, page};
use super::guard::{Call, Id};
use crate::domain::id::RedirectUrlId;
use crate::error::Result;
use crate::ops::redirect_urls;
use crate::ops::replay::Answer;
use crate::wire::error::ErrorEnvelope;
use crate::wire::redirect_url::RedirectUrl;
use crate::wire::{Deleted, List};

/// A redirect URL to allow.
#[derive(Deserialize, ToSchema, Debug)]
#[serde(deny_unknown_fields)]
pub struct CreateRedirectUrl {
    /// An origin with an optional path, such as `https://shop.example/return`. In test mode also
    /// `http` for loopback hosts, and `:*` there for any port.
    pub url: String,
}

/// Allows a redirect URL: every URL of that origin at or below its path.
#[utoipa::path(post, path = "/v1/redirect_urls", tag = "Redirect URLs", operation_id = "create_redirect_url",
    request_body(content((CreateRedirectUrl = "application/x-www-form-urlencoded"), (CreateRedirectUrl = "application/json"))),
    responses((status = 200, body = RedirectUrl), (status = "4XX", body = ErrorEnvelope)))]
pub async fn create(call: Call) -> Result<Answer> {
    let params: CreateRedirectUrl = call.params()?;
    redirect_urls::create(&call.app, &call.write(), &params.url).await
}

/// Lists the allowed redirect URLs, newest first.
#[utoipa::path(get, path = "/v1/redirect_urls", tag = "Redirect URLs", operation_id = "list_redirect_urls", params(PageParams),
    responses((status = 200, body = List<RedirectUrl>), (status = "4XX", body = ErrorEnvelope)))]
pub async fn list(call: Call) -> Result<Found<List<RedirectUrl>>> {
    let params: PageParams = call.query()?;
    let page = page(params.limit, params.starting_after, params.ending_before, RedirectUrlId::parse)?;
    Ok(Found(redirect_urls::list(&call.app, &call.caller, &page).await?))
}

/// Retrieves an allowed redirect URL.
#[utoipa::path(get, path = "/v1/redirect_urls/{id}", tag = "Redirect URLs", operation_id = "retrieve_redirect_url", params(("id" = String, Path), ExpandParams),
    responses((status = 200, body = RedirectUrl), (status = "4XX", body = ErrorEnvelope)))]
pub async fn retrieve(Id(id): Id, call: Call) -> Result<Found<RedirectUrl>> {
    call.query::<ExpandParams>()?;
    Ok(Found(redirect_urls::retrieve(&call.app, &call.caller, &id).await?))
}

/// Disallows a redirect URL for new sessions.
#[utoipa::path(delete, path = "/v1/redirect_urls/{id}", tag = "Redirect URLs", operation_id = "delete_redirect_url", params(("id" = String, Path)),
    responses((status = 200, body = Deleted), (status = "4XX", body = ErrorEnvelope)))]
pub async fn delete(Id(id): Id, call: Call) -> Result<Found<Deleted>> {
    Ok(Found(redirect_urls::delete(&call.app, &call.caller, &id).await?))
}
