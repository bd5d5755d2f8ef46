//! The response headers that tell browsers and caches what not to do.
//!
//! Rule: each answer, errors and unknown paths included, carries the headers of [`EVERY_RESPONSE`] and some content security
//! policy; a surface may put a wider policy in place, never none. Cookies and what a page holds are left to the page.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

/// The path browsers send reports about blocked content to. A report names the page's address, token included: whoever stores
/// reports removes the path first.
pub const CSP_REPORT_PATH: &str = "/csp-reports";

/// The policy of an answer whose handler set none: an error, an unknown path, JSON. Should a browser ever take it for a page,
/// it loads nothing, runs nothing and sits in no frame.
pub const DEFAULT_CONTENT_SECURITY_POLICY: &str =
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The policy of the page that takes the payer back to the shop. It has a style sheet and a link, so that is what it may have.
pub const HOP_PAGE_CONTENT_SECURITY_POLICY: &str =
    "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Two years, the least that browsers' preload lists accept. Not `preload`: only who owns the whole domain may say that.
pub const STRICT_TRANSPORT_SECURITY: &str = "max-age=63072000; includeSubDomains";

/// One header with why it is there.
#[derive(Clone, Copy, Debug)]
pub struct SecurityHeader {
    /// The name, in lower case.
    pub name: &'static str,
    /// The value, as sent.
    pub value: &'static str,
    /// What would be possible without it. `ASVS` is the OWASP Application Security Verification Standard 5.0.
    pub reason: &'static str,
}

/// What each answer carries, whatever its status. Where the public address is https, [`STRICT_TRANSPORT_SECURITY`] comes on top.
pub const EVERY_RESPONSE: &[SecurityHeader] = &[
    SecurityHeader {
        name: "x-content-type-options",
        value: "nosniff",
        reason: "A browser takes the content type as sent and never guesses a script into JSON or text (ASVS 3.4.4).",
    },
    SecurityHeader {
        name: "referrer-policy",
        value: "strict-origin",
        reason: "The token in a payer's path travels in no Referer. Not no-referrer: under it browsers send `Origin: null` with the \
                 page's own form, and the check against forged forms would have nothing to compare (ASVS 3.4.5).",
    },
    SecurityHeader {
        name: "cross-origin-resource-policy",
        value: "same-origin",
        reason: "Other sites can neither embed our answers nor pull them into their process (ASVS 3.5.8).",
    },
    SecurityHeader {
        name: "cross-origin-opener-policy",
        value: "same-origin",
        reason: "A site that opened the page keeps no handle on its window. The price: pop-up integration does not work, only a \
                 full-page redirect does (ASVS 3.4.8).",
    },
    SecurityHeader {
        name: "origin-agent-cluster",
        value: "?1",
        reason: "The page shares no process state with sibling hosts of the same site.",
    },
    SecurityHeader {
        name: "x-frame-options",
        value: "DENY",
        reason: "Browsers too old for frame-ancestors do not frame us either (ASVS 3.4.6).",
    },
    SecurityHeader {
        name: "x-robots-tag",
        value: "noindex, nofollow, noarchive",
        reason: "A payment link that was posted somewhere ends up in no index and no archive.",
    },
    SecurityHeader {
        name: "x-dns-prefetch-control",
        value: "off",
        reason: "The browser does not look up the shop's host before the payer decides to go there.",
    },
    SecurityHeader {
        name: "reporting-endpoints",
        value: "csp=\"/csp-reports\"",
        reason: "Names the endpoint that `report-to csp` in the page's policy points at.",
    },
    SecurityHeader {
        name: "permissions-policy",
        value: "accelerometer=(), autoplay=(), browsing-topics=(), camera=(), clipboard-read=(), display-capture=(), \
                encrypted-media=(), fullscreen=(), geolocation=(), gyroscope=(), hid=(), idle-detection=(), local-fonts=(), \
                magnetometer=(), microphone=(), midi=(), payment=(), publickey-credentials-get=(), screen-wake-lock=(), serial=(), \
                storage-access=(), usb=(), xr-spatial-tracking=()",
        reason: "A script that should not be there gets no camera, no clipboard and no payment sheet. Without bluetooth, a name \
                 that Chromium does not know and warns about.",
    },
];

/// The headers of [`EVERY_RESPONSE`], parsed once, and whether the service is reached by https.
#[derive(Clone, Debug)]
pub struct HeaderPolicy {
    every_response: Arc<[(HeaderName, HeaderValue)]>,
    public_url_is_https: bool,
}

impl HeaderPolicy {
    /// The policy for a service whose public address begins with `https:` or not. Over plain http, on a developer's machine,
    /// nothing may send the browser to a port that speaks no TLS.
    pub fn new(public_url_is_https: bool) -> Self {
        let mut headers: Vec<_> = EVERY_RESPONSE
            .iter()
            .map(|header| (HeaderName::from_static(header.name), HeaderValue::from_static(header.value)))
            .collect();
        if public_url_is_https {
            headers.push((header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static(STRICT_TRANSPORT_SECURITY)));
        }
        Self { every_response: headers.into(), public_url_is_https }
    }

    /// The headers of a payer page: form, status or error. `script` is the only script that may run.
    pub fn payer_page(&self, script: &ScriptHash) -> [(HeaderName, HeaderValue); 3] {
        let policy = payer_page_content_security_policy(script, self.public_url_is_https);
        let policy = HeaderValue::try_from(policy).expect("the policy is printable ASCII, the hash is base64");
        html_headers(policy)
    }

    /// The headers of the page that takes the payer back to the shop.
    pub fn hop_page(&self) -> [(HeaderName, HeaderValue); 3] {
        html_headers(HeaderValue::from_static(HOP_PAGE_CONTENT_SECURITY_POLICY))
    }
}

fn html_headers(content_security_policy: HeaderValue) -> [(HeaderName, HeaderValue); 3] {
    [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        // A page that holds a payer's data is in no cache, on disk or on the way (ASVS 14.3.2).
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::CONTENT_SECURITY_POLICY, content_security_policy),
    ]
}

/// Headers of a style sheet or script whose name holds the hash of its content: whatever has that name never changes.
pub fn asset_headers() -> [(HeaderName, HeaderValue); 2] {
    [
        (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable")),
        // Opened by itself, an asset is a document that needs nothing.
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(DEFAULT_CONTENT_SECURITY_POLICY)),
    ]
}

/// Headers of an API answer. The API is for servers, so there is no CORS header: a browser on another site reads nothing.
/// Only answers to a payer's token name an origin, one of the merchant's own, and say so themselves.
pub fn api_headers() -> [(HeaderName, HeaderValue); 3] {
    [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(DEFAULT_CONTENT_SECURITY_POLICY)),
    ]
}

/// The content security policy of a payer page.
///
/// - `script-src` names the bytes of the one script. Not `'self'`: an injected script tag could point at any path of ours that
///   echoes something.
/// - `form-action 'self'` stops an injected form from posting the card elsewhere. Chromium applies it to redirects after the post
///   as well, so no answer to a payer's POST may redirect to another origin.
/// - `connect-src 'self'` lets the script ask for the status.
/// - Trusted Types with no policy: no string becomes markup or code.
/// - `report-uri` is for Firefox and Safari, `report-to` for Chromium.
pub fn payer_page_content_security_policy(script: &ScriptHash, public_url_is_https: bool) -> String {
    let mut policy = format!(
        "default-src 'none'; script-src '{}'; style-src 'self'; img-src 'self'; font-src 'self'; connect-src 'self'; \
         form-action 'self'; frame-src 'none'; frame-ancestors 'none'; base-uri 'none'; object-src 'none'; \
         require-trusted-types-for 'script'; trusted-types 'none'",
        script.as_str()
    );
    if public_url_is_https {
        policy.push_str("; upgrade-insecure-requests");
    }
    policy.push_str("; report-uri ");
    policy.push_str(CSP_REPORT_PATH);
    policy.push_str("; report-to csp");
    policy
}

/// The SHA-256 of a script in the form of CSP Level 3 and Subresource Integrity, `sha256-` and base64. The policy and the
/// `integrity` attribute of the script tag hold the same text; browsers run an external script only if both agree with its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptHash(String);

impl ScriptHash {
    /// The hash of the bytes as they are served.
    pub fn of(script: &[u8]) -> Self {
        Self(format!("sha256-{}", STANDARD.encode(Sha256::digest(script))))
    }

    /// The text for the `integrity` attribute.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Middleware that completes each answer: the headers of [`EVERY_RESPONSE`] always, `Cache-Control: no-store` and
/// [`DEFAULT_CONTENT_SECURITY_POLICY`] where the handler chose nothing else.
///
/// Apply it outermost, with `axum::middleware::from_fn_with_state(HeaderPolicy::new(…), security_headers)`, so that answers of
/// other layers are completed too. Answers the server gives before there is a request (a malformed head, too many connections)
/// do not pass here; they have no content a browser could use.
pub async fn security_headers(State(policy): State<HeaderPolicy>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.reserve(policy.every_response.len() + 2);
    for (name, value) in policy.every_response.iter() {
        headers.insert(name, value.clone());
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(HeaderValue::from_static(DEFAULT_CONTENT_SECURITY_POLICY));
    response
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::http::StatusCode;
    use axum::routing::get;
    use tower::ServiceExt as _;

    use super::*;

    async fn answer_to(path: &str, public_url_is_https: bool) -> Response {
        let policy = HeaderPolicy::new(public_url_is_https);
        let page = policy.payer_page(&ScriptHash::of(b"let x;"));
        let router = Router::new()
            .route("/page", get(|| async { (page, "<!doctype html>") }))
            .route("/asset", get(|| async { (asset_headers(), "a {}") }))
            .route("/error", get(|| async { StatusCode::INTERNAL_SERVER_ERROR }))
            .layer(axum::middleware::from_fn_with_state(policy, security_headers));
        let request = Request::builder().uri(path).body(Body::empty()).expect("a request");
        router.oneshot(request).await.expect("infallible")
    }

    #[tokio::test]
    async fn every_answer_carries_every_header_once() {
        for path in ["/page", "/asset", "/error", "/unknown"] {
            let response = answer_to(path, true).await;
            let names = EVERY_RESPONSE.iter().map(|header| header.name);
            for name in names.chain(["strict-transport-security", "content-security-policy", "cache-control"]) {
                assert_eq!(response.headers().get_all(name).iter().count(), 1, "{name} of {path}");
            }
            assert!(!response.headers().contains_key("server") && !response.headers().contains_key("x-powered-by"));
        }
    }

    #[tokio::test]
    async fn a_handlers_own_policy_stays_and_others_get_the_default() {
        let page = answer_to("/page", true).await;
        assert!(
            page.headers()["content-security-policy"]
                .to_str()
                .expect("text")
                .starts_with("default-src 'none'; script-src 'sha256-")
        );
        assert_eq!(answer_to("/asset", true).await.headers()["cache-control"], "public, max-age=31536000, immutable");
        let error = answer_to("/error", true).await;
        assert_eq!(error.headers()["content-security-policy"], DEFAULT_CONTENT_SECURITY_POLICY);
        assert_eq!(error.headers()["cache-control"], "no-store");
    }

    #[tokio::test]
    async fn plain_http_is_not_sent_to_https() {
        let page = answer_to("/page", false).await;
        assert!(!page.headers().contains_key("strict-transport-security"));
        assert!(
            !page.headers()["content-security-policy"].to_str().expect("text").contains("upgrade-insecure-requests")
        );
    }

    #[test]
    fn values_are_one_line_each_and_the_report_path_is_the_same_everywhere() {
        for header in EVERY_RESPONSE {
            assert!(!header.value.contains("  ") && !header.value.contains('\n'), "{}", header.name);
            assert_eq!(header.name, header.name.to_ascii_lowercase());
        }
        let endpoint = EVERY_RESPONSE.iter().find(|header| header.name == "reporting-endpoints").expect("is there");
        assert_eq!(endpoint.value, format!("csp=\"{CSP_REPORT_PATH}\""));
    }

    #[test]
    fn the_page_policy_is_this() {
        // The hash of the empty text, from FIPS 180-4 test vectors.
        let script = ScriptHash::of(b"");
        assert_eq!(script.as_str(), "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
        assert_eq!(
            payer_page_content_security_policy(&script, true),
            "default-src 'none'; script-src 'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='; style-src 'self'; img-src 'self'; \
             font-src 'self'; connect-src 'self'; form-action 'self'; frame-src 'none'; frame-ancestors 'none'; base-uri 'none'; \
             object-src 'none'; require-trusted-types-for 'script'; trusted-types 'none'; upgrade-insecure-requests; \
             report-uri /csp-reports; report-to csp"
        );
    }
}
