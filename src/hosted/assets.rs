//! Style sheet, script and icon: built into the binary, named by their content.
//!
//! The rule: a name never changes its content, so browsers keep them for a year; the script's hash
//! stands in the page's policy, so no other bytes run.

use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use sha2::{Digest, Sha256};

use super::views::{PageScript, accent_stylesheet, accent_stylesheet_path};
use crate::headers::{ScriptHash, asset_headers};

const STYLESHEET: &str = include_str!("../../templates/assets/checkout.css");
const SCRIPT: &str = include_str!("../../templates/assets/checkout.js");
const ICON: &str = include_str!("../../templates/assets/icon.svg");

/// The names of the assets, and the script's hash.
#[derive(Clone, Debug)]
pub struct Assets {
    /// Path of the style sheet.
    pub stylesheet_url: Arc<str>,
    /// Path and integrity of the script.
    pub script: Arc<PageScript>,
    /// The script's hash, for the policy.
    pub script_hash: ScriptHash,
    /// Path of the icon.
    pub icon_url: Arc<str>,
}

fn name(stem: &str, content: &str, ending: &str) -> String {
    let digest = hex::encode(Sha256::digest(content));
    format!("/assets/{stem}.{}.{ending}", &digest[..16])
}

fn asset(content_type: &'static str, content: impl Into<axum::body::Body>) -> Response {
    let content_type = [(header::CONTENT_TYPE, HeaderValue::from_static(content_type))];
    (asset_headers(), content_type, content.into()).into_response()
}

impl Default for Assets {
    fn default() -> Self {
        let script_hash = ScriptHash::of(SCRIPT.as_bytes());
        Self {
            stylesheet_url: name("checkout", STYLESHEET, "css").into(),
            script: Arc::new(PageScript {
                url: name("checkout", SCRIPT, "js"),
                integrity: script_hash.as_str().to_owned(),
            }),
            script_hash,
            icon_url: name("icon", ICON, "svg").into(),
        }
    }
}

impl Assets {
    /// Path of a merchant's colours; `None` for something that is not a colour.
    pub fn accent_url(&self, color: &str) -> Option<String> {
        accent_stylesheet_path(color)
    }

    /// Serves them, and the icon once more under the name that browsers ask for where a page names none.
    pub fn router(&self) -> Router {
        Router::new()
            .route(&self.stylesheet_url, get(async || asset("text/css; charset=utf-8", STYLESHEET)))
            .route(&self.script.url, get(async || asset("text/javascript; charset=utf-8", SCRIPT)))
            .route(&self.icon_url, get(async || asset("image/svg+xml", ICON)))
            .route("/favicon.ico", get(favicon))
            .route("/assets/{name}", get(accent))
    }
}

/// Its name does not hold its hash, so it may be kept for a day only.
async fn favicon() -> Response {
    let mut response = asset("image/svg+xml", ICON);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=86400"));
    response
}

async fn accent(Path(name): Path<String>) -> Response {
    let color = name.strip_prefix("accent-").and_then(|rest| rest.strip_suffix(".css"));
    match color.and_then(|color| accent_stylesheet(&format!("#{color}"))) {
        Some(sheet) => asset("text/css; charset=utf-8", sheet),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
