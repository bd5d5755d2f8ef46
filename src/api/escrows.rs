//! `/v1/escrows`: deals whose money is held, and sessions for the acts of their two sides.
//!
//! The rule: what strangers handed in is never shown in a page: a file is sent to be saved, as what its
//! content is, in a sandbox. The contract has a printable page for people and JSON for programs.

use askama::Template;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::answer::Found;
use super::escrow_params::{CreateEscrow, CreateEscrowSession, DeliverEscrow, RejectDelivery, ResolveEscrow};
use super::fields::{CreatedParam, ExpandParams, apply_metadata, expand, page};
use super::guard::{Call, Id};
use super::params::MetadataParam;
use crate::domain::escrow::Status;
use crate::domain::escrow_acts::Request;
use crate::domain::id::EscrowId;
use crate::error::{Error, Result};
use crate::ops::replay::Answer;
use crate::ops::{escrows, redirect_urls};
use crate::store::escrows::Filter;
use crate::wire::List;
use crate::wire::checkout_session::CheckoutSession;
use crate::wire::error::ErrorEnvelope;
use crate::wire::escrow::{Escrow, EscrowAttachment, EscrowContract};

/// Makes an escrow.
#[utoipa::path(post, path = "/v1/escrows", tag = "Escrows", operation_id = "create_escrow",
    request_body(content((CreateEscrow = "application/x-www-form-urlencoded"), (CreateEscrow = "application/json"))),
    responses((status = 200, body = Escrow), (status = "4XX", body = ErrorEnvelope)))]
pub async fn create(call: Call) -> Result<Answer> {
    let params: CreateEscrow = call.params()?;
    escrows::create(&call.app, &call.write(), params.check()?).await
}

/// What a list of escrows may be narrowed to.
#[derive(Deserialize, IntoParams, Debug)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "`expand` only has to decode: there is nothing to expand")]
pub struct ListEscrows {
    /// Where they stand.
    pub status: Option<String>,
    /// The buyer's or the seller's address.
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
    pub expand: Option<Vec<String>>,
}

/// Lists escrows, newest first.
#[utoipa::path(get, path = "/v1/escrows", tag = "Escrows", operation_id = "list_escrows", params(ListEscrows),
    responses((status = 200, body = List<Escrow>), (status = "4XX", body = ErrorEnvelope)))]
pub async fn list(call: Call) -> Result<Found<List<Escrow>>> {
    let params: ListEscrows = call.query()?;
    let status = params.status.map(|word| {
        Status::parse(&word).ok_or_else(|| {
            let known: Vec<&str> = Status::ALL.iter().map(|status| status.as_str()).collect();
            let message = format!("Invalid status: must be one of {}.", known.join(", "));
            Error::invalid("parameter_invalid", "status", message)
        })
    });
    let filter = Filter {
        status: status.transpose()?,
        email: params.email,
        created: params.created.unwrap_or_default().filter()?,
    };
    let page = page(params.limit, params.starting_after, params.ending_before, EscrowId::parse)?;
    Ok(Found(escrows::list(&call.app, &call.caller, &filter, &page).await?))
}

/// Retrieves an escrow.
#[utoipa::path(get, path = "/v1/escrows/{id}", tag = "Escrows", operation_id = "retrieve_escrow", params(("id" = String, Path), ExpandParams),
    responses((status = 200, body = Escrow), (status = "4XX", body = ErrorEnvelope)))]
pub async fn retrieve(Id(id): Id, call: Call) -> Result<Found<Escrow>> {
    let _: ExpandParams = call.query()?;
    Ok(Found(Escrow::new(&escrows::find(&call.app, &call.caller, &id).await?)))
}

/// What may be changed of an escrow.
#[derive(Deserialize, ToSchema, Debug)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "`expand` only has to decode: there is nothing to expand")]
pub struct UpdateEscrow {
    /// Given keys are set, empty ones deleted, an empty value clears all.
    #[serde(default)]
    #[schema(value_type = std::collections::BTreeMap<String, String>)]
    pub metadata: MetadataParam,
    /// Paths to expand; there is nothing to expand.
    pub expand: Option<Vec<String>>,
}

/// Changes an escrow's metadata.
#[utoipa::path(post, path = "/v1/escrows/{id}", tag = "Escrows", operation_id = "update_escrow", params(("id" = String, Path)),
    request_body(content((UpdateEscrow = "application/x-www-form-urlencoded"), (UpdateEscrow = "application/json"))),
    responses((status = 200, body = Escrow), (status = "4XX", body = ErrorEnvelope)))]
pub async fn update(Id(id): Id, call: Call) -> Result<Answer> {
    let params: UpdateEscrow = call.params()?;
    escrows::update(&call.app, &call.write(), &id, |metadata| apply_metadata("metadata", params.metadata, metadata))
        .await
}

/// Makes a session for one act by one user.
#[utoipa::path(post, path = "/v1/escrows/{id}/sessions", tag = "Escrows", operation_id = "create_escrow_session", params(("id" = String, Path)),
    request_body(content((CreateEscrowSession = "application/x-www-form-urlencoded"), (CreateEscrowSession = "application/json"))),
    responses((status = 200, body = CheckoutSession), (status = "4XX", body = ErrorEnvelope)))]
pub async fn create_session(Id(id): Id, call: Call) -> Result<Answer> {
    escrows::find(&call.app, &call.caller, &id).await?;
    let params: CreateEscrowSession = call.params()?;
    let expand = expand(params.expand.clone())?;
    let allowed = redirect_urls::all(&call.app, &call.caller).await?;
    let new = params.check(&allowed, call.caller.livemode)?;
    escrows::create_session(&call.app, &call.write(), &id, new, &expand).await
}

/// Says that it was delivered. The time for inspection begins; an escrow in `instant` mode is completed.
#[utoipa::path(post, path = "/v1/escrows/{id}/deliver", tag = "Escrows", operation_id = "deliver_escrow", params(("id" = String, Path)),
    request_body(content((DeliverEscrow = "application/x-www-form-urlencoded"), (DeliverEscrow = "application/json"))),
    responses((status = 200, body = Escrow), (status = "4XX", body = ErrorEnvelope)))]
pub async fn deliver(Id(id): Id, call: Call) -> Result<Answer> {
    escrows::find(&call.app, &call.caller, &id).await?;
    let params: DeliverEscrow = call.params()?;
    escrows::change(&call.app, &call.write(), &id, params.request()?).await
}

/// Says that the delivery is not accepted; back to paid.
#[utoipa::path(post, path = "/v1/escrows/{id}/reject_delivery", tag = "Escrows", operation_id = "reject_escrow_delivery", params(("id" = String, Path)),
    request_body(content((RejectDelivery = "application/x-www-form-urlencoded"), (RejectDelivery = "application/json"))),
    responses((status = 200, body = Escrow), (status = "4XX", body = ErrorEnvelope)))]
pub async fn reject_delivery(Id(id): Id, call: Call) -> Result<Answer> {
    escrows::find(&call.app, &call.caller, &id).await?;
    let params: RejectDelivery = call.params()?;
    escrows::change(&call.app, &call.write(), &id, params.request()?).await
}

/// Gives an escrow up before it is paid; in `instant` mode also a paid one, which is refunded.
#[utoipa::path(post, path = "/v1/escrows/{id}/cancel", tag = "Escrows", operation_id = "cancel_escrow", params(("id" = String, Path)),
    request_body(content((ExpandParams = "application/x-www-form-urlencoded"), (ExpandParams = "application/json"))),
    responses((status = 200, body = Escrow), (status = "4XX", body = ErrorEnvelope)))]
pub async fn cancel(Id(id): Id, call: Call) -> Result<Answer> {
    let _: ExpandParams = call.params()?;
    escrows::change(&call.app, &call.write(), &id, Request::Cancel).await
}

/// Decides a dispute: release, refund, or a part each.
#[utoipa::path(post, path = "/v1/escrows/{id}/resolve", tag = "Escrows", operation_id = "resolve_escrow", params(("id" = String, Path)),
    request_body(content((ResolveEscrow = "application/x-www-form-urlencoded"), (ResolveEscrow = "application/json"))),
    responses((status = 200, body = Escrow), (status = "4XX", body = ErrorEnvelope)))]
pub async fn resolve(Id(id): Id, call: Call) -> Result<Answer> {
    escrows::find(&call.app, &call.caller, &id).await?;
    let params: ResolveEscrow = call.params()?;
    escrows::change(&call.app, &call.write(), &id, params.request()?).await
}

/// Whether a media type is asked for by its name.
fn asks_for(headers: &HeaderMap, media_type: &str) -> bool {
    let accepted = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accepted.split(',').any(|one| one.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(media_type))
}

#[derive(Template)]
#[template(path = "docs/contract.html")]
struct ContractPage<'a> {
    contract: &'a EscrowContract,
}

/// The contract with the evidence of its signatures: JSON, or a page to print with `Accept: text/html`.
#[utoipa::path(get, path = "/v1/escrows/{id}/contract", tag = "Escrows", operation_id = "retrieve_escrow_contract", params(("id" = String, Path), ExpandParams),
    responses((status = 200, body = EscrowContract), (status = "4XX", body = ErrorEnvelope)))]
pub async fn contract(Id(id): Id, headers: HeaderMap, call: Call) -> Result<Response> {
    const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; \
                          frame-ancestors 'none'; sandbox";
    let _: ExpandParams = call.query()?;
    let contract = escrows::contract(&call.app, &call.caller, &id).await?;
    if !asks_for(&headers, "text/html") {
        return Ok(Found(contract).into_response());
    }
    let page = ContractPage { contract: &contract }
        .render()
        .map_err(|error| Error::Internal(format!("the page of a contract could not be made: {error}")))?;
    let headers: [(HeaderName, HeaderValue); 3] = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
    ];
    Ok((headers, page).into_response())
}

/// Lists the files that came with an escrow's disputes.
#[utoipa::path(get, path = "/v1/escrows/{id}/attachments", tag = "Escrows", operation_id = "list_escrow_attachments", params(("id" = String, Path), ExpandParams),
    responses((status = 200, body = List<EscrowAttachment>), (status = "4XX", body = ErrorEnvelope)))]
pub async fn attachments(Id(id): Id, call: Call) -> Result<Found<List<EscrowAttachment>>> {
    let _: ExpandParams = call.query()?;
    Ok(Found(escrows::attachments(&call.app, &call.caller, &id).await?))
}

/// A file that came with a dispute: what is known of it, or its bytes with `Accept: application/octet-stream`.
#[utoipa::path(get, path = "/v1/escrow_attachments/{id}", tag = "Escrows", operation_id = "retrieve_escrow_attachment", params(("id" = String, Path), ExpandParams),
    responses((status = 200, body = EscrowAttachment), (status = "4XX", body = ErrorEnvelope)))]
pub async fn attachment(Id(id): Id, headers: HeaderMap, call: Call) -> Result<Response> {
    let _: ExpandParams = call.query()?;
    let (file, content) = escrows::attachment(&call.app, &call.caller, &id).await?;
    if !asks_for(&headers, "application/octet-stream") {
        return Ok(Found(file).into_response());
    }
    let name = format!("attachment; filename=\"{}\"", file.file_name);
    let name = HeaderValue::try_from(name)
        .map_err(|_| Error::Internal(format!("the name of file {} is not safe for a header", file.id)))?;
    let headers: [(HeaderName, HeaderValue); 5] = [
        (header::CONTENT_TYPE, HeaderValue::from_static(file.content_type)),
        (header::CONTENT_DISPOSITION, name),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; sandbox")),
    ];
    Ok((headers, content).into_response())
}
