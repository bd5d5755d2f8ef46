//! The readable reference at `/docs`: every operation, and every error code with what to do about it.
//!
//! The rule: it is made from the same table of contents as the OpenAPI document and from the one list
//! of codes below, and loads nothing from elsewhere. `doc_url` in an error points here.

use askama::Template;
use axum::Router;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::headers::asset_headers;

const STYLESHEET: &str = include_str!("../../templates/assets/docs.css");

/// The path of the list of codes, under the public URL.
pub const ERRORS_PATH: &str = "/docs/errors";

/// One error code.
#[derive(Clone, Copy, Debug)]
pub struct ErrorCode {
    /// As in `error.code`.
    pub code: &'static str,
    /// HTTP status that it comes with.
    pub status: u16,
    /// What it means and what to do.
    pub meaning: &'static str,
}

const fn code(code: &'static str, status: u16, meaning: &'static str) -> ErrorCode {
    ErrorCode { code, status, meaning }
}

/// Every code that the API answers with.
pub const ERROR_CODES: &[ErrorCode] = &[
    code(
        "amount_too_large",
        400,
        "An amount or a total is above the largest that can be charged, 999,999,999,999 minor units.",
    ),
    code("amount_too_small", 400, "A total is zero or negative. A payment needs something to pay."),
    code(
        "authentication_required",
        402,
        "The bank wants its customer to authenticate (3-D Secure), and the payment was made without it.",
    ),
    code(
        "card_data_not_accepted",
        400,
        "Card numbers are not taken by this gateway in live mode. Send the payer to the session's hosted page, or switch `card_entry_live` on.",
    ),
    code(
        "card_declined",
        402,
        "The bank declined the card; `decline_code` says why where it is known. Nothing was charged.",
    ),
    code("charge_already_captured", 400, "The payment was captured before; refund it to give money back."),
    code("charge_already_refunded", 400, "Everything that was captured has been refunded, or is being refunded."),
    code(
        "charge_disputed",
        400,
        "The payer disputes the charge, and his bank has the money back already or will. Answer the dispute instead of refunding; an escrow waits until it is decided.",
    ),
    code("charge_not_refundable", 400, "The charge took no money: it failed, is in doubt, or only reserves money."),
    code("country_code_invalid", 400, "A parameter that takes a country wants two letters (ISO 3166-1 alpha-2)."),
    code(
        "custom_header_invalid",
        400,
        "A custom header of a webhook endpoint has a name that cannot be set or a value that is no printable line, or there are more than ten.",
    ),
    code(
        "dispute_unexpected_state",
        400,
        "The bank waits for no answer to this dispute: it was answered, decided, or is being given up.",
    ),
    code("email_invalid", 400, "A parameter that takes an e-mail address has something else in it."),
    code(
        "endpoint_test_in_progress",
        400,
        "Another test of one of the merchant's webhook endpoints is waiting for its answer. One runs at a time.",
    ),
    code(
        "escrow_action_not_allowed_in_mode",
        400,
        "The escrow's mode has no such act, as `sign_contract` without a contract.",
    ),
    code(
        "escrow_action_not_allowed_in_state",
        400,
        "The act is not possible from where the escrow stands; read it and see its `status`.",
    ),
    code("escrow_already_signed", 400, "This side has signed the contract. Each side signs once."),
    code(
        "escrow_contract_not_signed",
        400,
        "Both sides have to sign the contract before the buyer can pay. Make sessions for `sign_contract` first.",
    ),
    code(
        "escrow_holds_payment",
        400,
        "The payment belongs to an escrow, whose acts alone move its money: cancel the escrow or resolve its dispute.",
    ),
    code(
        "escrow_payment_processing",
        400,
        "A payment for the escrow is in flight. Wait for its outcome and send the request again.",
    ),
    code("escrow_split_not_whole", 400, "The two parts of a split are not both above zero and together what was paid."),
    code("escrow_target_not_buyer", 400, "The act is the buyer's, and `target_user_email` is not the buyer's."),
    code("escrow_target_not_party", 400, "`target_user_email` belongs to nobody who may do the act in this escrow."),
    code("escrow_target_not_seller", 400, "The act is the seller's, and `target_user_email` is not the seller's."),
    code("event_replays_limit", 400, "As many replays run as may at once; wait for one to end, or cancel it."),
    code("expired_card", 402, "The card has expired. Nothing was charged."),
    code(
        "idempotency_key_in_use",
        409,
        "A request with this idempotency key is still running. Wait for it and send the request again with the same key.",
    ),
    code(
        "idempotency_key_invalid",
        400,
        "An Idempotency-Key is empty, longer than 255 characters, or not printable ASCII.",
    ),
    code("incorrect_cvc", 402, "The security code does not match the card. Nothing was charged."),
    code("incorrect_number", 402, "The card number is not one. Nothing was charged."),
    code("invalid_cvc", 402, "The security code has the wrong number of digits. Nothing was charged."),
    code("invalid_expiry_month", 402, "The expiry month is not a month. Nothing was charged."),
    code("invalid_expiry_year", 402, "The expiry year is not a plausible year. Nothing was charged."),
    code(
        "origin_not_allowed",
        403,
        "A page of another origin called with a payer's token. Allow the origin with POST /v1/redirect_urls.",
    ),
    code("parameter_control_character", 400, "A value holds a control character other than tab and line ends."),
    code("parameter_invalid", 400, "A parameter has a value that it cannot take; the message says which ones it can."),
    code("parameter_invalid_array", 400, "A list is wanted, as in `expand[]=line_items`."),
    code("parameter_invalid_boolean", 400, "`true` or `false` is wanted."),
    code("parameter_invalid_empty", 400, "A parameter that cannot be unset was sent empty."),
    code("parameter_invalid_integer", 400, "A whole number within the parameter's bounds is wanted."),
    code("parameter_invalid_object", 400, "An object is wanted, as in `metadata[order]=7`."),
    code("parameter_invalid_string", 400, "A text is wanted, or the text is too long."),
    code("parameter_invalid_value", 400, "The value is not one of those that the message lists."),
    code("parameter_missing", 400, "A required parameter is absent."),
    code("parameter_nul_character", 400, "A name or a value holds U+0000, which no database text can."),
    code("parameter_unknown", 400, "There is no parameter of this name. Nothing that is sent is dropped silently."),
    code(
        "parameter_unsupported",
        400,
        "A parameter that Stripe has and this gateway does not act on. Nothing was made.",
    ),
    code("parameters_exclusive", 400, "Two parameters exclude one another."),
    code("parameters_malformed", 400, "The body or query is not what its content type says."),
    code("parameters_misplaced", 400, "A POST has parameters in its URL. Send them in the body."),
    code("parameters_too_deep", 400, "Parameters are nested deeper than any that are known."),
    code("parameters_too_many", 400, "More than a thousand parameters, or entries in one list."),
    code(
        "payer_identity_required",
        400,
        "The session is for one user, who proves by a code that he reads mail at his address. That happens on the hosted page.",
    ),
    code(
        "payment_intent_authentication_failure",
        402,
        "The payer's bank could not confirm that it is he. Nothing was charged.",
    ),
    code(
        "payment_intent_unexpected_state",
        400,
        "The payment's status does not allow this; the message says what it is.",
    ),
    code(
        "payment_method_not_attached",
        400,
        "The card was detached before: nothing is left of it that could be changed.",
    ),
    code(
        "payment_method_unusable",
        400,
        "The saved card is not this customer's, is not offered by this session, has expired, or cannot be charged any more.",
    ),
    code(
        "processing_error",
        402,
        "The card could not be processed just now. Nothing was charged; it may be tried again.",
    ),
    code(
        "provider_unavailable",
        503,
        "No payment provider that could take the charge answers just now. Nothing was charged; try again in a minute.",
    ),
    code(
        "rate_limit",
        429,
        "Too many requests for one checkout session, or too many event streams. Wait a few seconds.",
    ),
    code(
        "redirect_url_not_allowed",
        400,
        "A URL to send the payer back to is not on the merchant's allow-list. Allow its origin with POST /v1/redirect_urls.",
    ),
    code("redirect_urls_limit", 400, "The allow-list is full. Delete an entry that is not used any more."),
    code("request_timeout", 408, "The request's body did not arrive in time."),
    code("request_too_large", 413, "The request's body is larger than the API takes."),
    code("resource_already_exists", 400, "The same thing is there already."),
    code(
        "resource_missing",
        404,
        "There is no such object for this key. Objects of other merchants and of the other mode are just as absent.",
    ),
    code(
        "review_closed",
        400,
        "The review was closed otherwise: its payment was cancelled, or nobody decided in time.",
    ),
    code(
        "service_unavailable",
        503,
        "Something the gateway depends on is away. Nothing was changed as far as the gateway knows; send the request again with the same idempotency key.",
    ),
    code("session_not_open", 400, "The checkout session has ended: it was completed, cancelled, expired, or failed."),
    code("session_of_another_act", 400, "The checkout session is for another act than the one that was tried."),
    code("session_processing", 400, "A payment for the checkout session is with the provider. Wait for its outcome."),
    code("test_mode_only", 400, "A test helper was called with a live key. Nothing was changed."),
    code("unsupported_media_type", 415, "Send parameters as a form or as JSON, uncompressed."),
    code("url_invalid", 400, "A URL is malformed or of a kind that is not taken; the message says why."),
    code("webhook_endpoints_limit", 400, "The merchant has as many webhook endpoints as the gateway allows."),
];

struct Operation {
    method: String,
    path: String,
    summary: String,
}

struct Chapter {
    name: String,
    operations: Vec<Operation>,
}

#[derive(Template)]
#[template(path = "docs/index.html")]
struct Index {
    chapters: Vec<Chapter>,
}

#[derive(Template)]
#[template(path = "docs/errors.html")]
struct Errors {
    codes: &'static [ErrorCode],
}

fn chapters() -> Vec<Chapter> {
    let document = serde_json::to_value(super::openapi()).unwrap_or_default();
    let mut chapters: Vec<Chapter> = document["tags"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default()
        .iter()
        .filter_map(|tag| tag["name"].as_str())
        .map(|name| Chapter { name: name.to_owned(), operations: Vec::new() })
        .collect();
    let paths = document["paths"].as_object().into_iter().flatten();
    for (path, methods) in paths {
        for (method, operation) in methods.as_object().into_iter().flatten() {
            let Some(chapter) = chapters.iter_mut().find(|chapter| operation["tags"][0] == chapter.name.as_str())
            else {
                continue;
            };
            chapter.operations.push(Operation {
                method: method.to_ascii_uppercase(),
                path: path.clone(),
                summary: operation["summary"].as_str().unwrap_or_default().to_owned(),
            });
        }
    }
    chapters
}

fn page(view: &impl Template) -> Response {
    const POLICY: &str =
        "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    let headers: [(HeaderName, HeaderValue); 2] = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
    ];
    (headers, view.render().unwrap_or_default()).into_response()
}

/// The pages.
pub fn router() -> Router {
    Router::new()
        .route("/docs", get(async || page(&Index { chapters: chapters() })))
        .route(ERRORS_PATH, get(async || page(&Errors { codes: ERROR_CODES })))
        .route(
            "/docs/style.css",
            get(async || {
                let content_type = [(header::CONTENT_TYPE, HeaderValue::from_static("text/css; charset=utf-8"))];
                let [_, policy] = asset_headers();
                ([policy], content_type, STYLESHEET).into_response()
            }),
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_listed_once_and_in_order() {
        assert!(ERROR_CODES.windows(2).all(|pair| pair[0].code < pair[1].code));
    }

    /// Reads the sources, because a code is a text wherever it is raised.
    #[test]
    fn every_code_in_the_sources_is_documented() {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
        let mut found = 0;
        for folder in ["api", "ops", "domain"] {
            let mut folders = vec![std::path::Path::new(root).join(folder)];
            while let Some(folder) = folders.pop() {
                for entry in std::fs::read_dir(folder).expect("a source folder").flatten() {
                    if entry.path().is_dir() {
                        folders.push(entry.path());
                        continue;
                    }
                    let text = std::fs::read_to_string(entry.path()).expect("a source file");
                    for raised in ["Error::invalid(\"", "Error::invalid(\n", "Some(\""] {
                        for rest in text.split(raised).skip(1) {
                            let word = rest.trim_start().trim_start_matches('"').split('"').next().unwrap_or("");
                            let looks_like_a_code = word.contains('_')
                                && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
                                && [
                                    "parameter",
                                    "url",
                                    "email",
                                    "redirect",
                                    "resource",
                                    "request",
                                    "idempotency",
                                    "service",
                                    "unsupported",
                                    "webhook_endpoints_l",
                                    "custom_header",
                                    "endpoint_test",
                                    "amount",
                                    "session",
                                ]
                                .iter()
                                .any(|start| word.starts_with(start));
                            if looks_like_a_code && raised.starts_with("Error") {
                                found += 1;
                                assert!(
                                    ERROR_CODES.iter().any(|known| known.code == word),
                                    "{} raises `{word}`, which ERROR_CODES does not explain",
                                    entry.path().display()
                                );
                            }
                        }
                    }
                }
            }
        }
        assert!(found > 20, "only {found} codes were found in the sources: is the search still right?");
    }
}
