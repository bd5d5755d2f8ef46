//! An entry of the allow-list of redirect URLs. Ours, in Stripe's manner.

use serde::Serialize;
use utoipa::ToSchema;

/// A redirect URL that the merchant allows.
#[derive(Serialize, ToSchema, Debug, Clone)]
pub struct RedirectUrl {
    /// `rurl_…`
    pub id: String,
    /// Always `redirect_url`.
    pub object: &'static str,
    /// Unix seconds.
    pub created: i64,
    /// Mode.
    pub livemode: bool,
    /// Origin and path prefix; `:*` stands for any port.
    pub url: String,
}
