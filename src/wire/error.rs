//! The error envelope: `{"error":{…}}`, the only shape of a failed answer under `/v1`.
//!
//! The rule: Node's SDK takes a 4xx without this envelope for a success and Python's crashes on an
//! envelope that holds a bare text, so nothing else is ever sent.

use serde::Serialize;
use utoipa::ToSchema;

/// The envelope.
#[derive(Serialize, ToSchema, Debug)]
pub struct ErrorEnvelope {
    /// What went wrong.
    pub error: ErrorBody,
}

/// What went wrong.
#[derive(Serialize, ToSchema, Debug)]
pub struct ErrorBody {
    /// `invalid_request_error`, `card_error`, `idempotency_error`, `rate_limit_error` or `api_error`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// A stable code to branch on; absent where the type says all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'static str>,
    /// Why a bank declined a card, where it says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decline_code: Option<&'static str>,
    /// One or two sentences for the developer.
    pub message: String,
    /// The parameter at fault, in bracket form.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub param: Option<String>,
    /// Where the code is explained.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub doc_url: Option<String>,
}
