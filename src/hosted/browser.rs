//! The payer's browser: its cookies, and whether a form really came from our page.
//!
//! The rule: a form is believed when the browser says that it came from our origin *and* it carries
//! the token that ties it to this browser's cookie and this session. The first cookie names the
//! browser; the second is never read: its change alone makes Chromium throw the page with the typed
//! card number out of its back-forward cache.

use axum::http::{HeaderMap, HeaderValue, header};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::app::Settings;
use crate::domain::id::SessionId;
use crate::keyring::Keyring;

/// How long a browser keeps its cookies: longer than any payer types, shorter than a shared computer
/// changes hands.
const COOKIE_LIFETIME_S: u32 = 3600;

/// Characters of a browser id: 192 bits in base64url.
const BROWSER_ID_LENGTH: usize = 32;

/// A browser id, fresh or from its cookie.
#[derive(Clone)]
pub struct Browser {
    id: String,
    is_new: bool,
}

/// Whether the browser says that a form came from our own page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FormOrigin {
    /// From our page.
    Ours,
    /// From elsewhere, or it does not say.
    Elsewhere,
}

fn random() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; 24]>())
}

/// The prefix makes browsers refuse the cookie from a sibling host or over plain http. A developer's
/// machine has no TLS, so there the names go without it.
fn cookie_name(settings: &Settings, name: &str) -> String {
    if settings.is_https() { format!("__Host-{name}") } else { name.to_owned() }
}

fn set_cookie(settings: &Settings, name: &str, value: &str) -> HeaderValue {
    let secure = if settings.is_https() { "; Secure" } else { "" };
    let name = cookie_name(settings, name);
    let text = format!("{name}={value}; Path=/{secure}; HttpOnly; SameSite=Lax; Max-Age={COOKIE_LIFETIME_S}");
    HeaderValue::try_from(text).expect("cookie names and values are ASCII")
}

impl Browser {
    /// The browser that sent the request; a new one when it has no cookie of ours.
    pub fn of(headers: &HeaderMap, settings: &Settings) -> Self {
        let name = cookie_name(settings, "cs");
        let id = headers
            .get_all(header::COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .find(|(key, value)| {
                *key == name
                    && value.len() == BROWSER_ID_LENGTH
                    && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            })
            .map(|(_, value)| value.to_owned());
        match id {
            Some(id) => Self { id, is_new: false },
            None => Self { id: random(), is_new: true },
        }
    }

    /// Whether the browser sent no cookie of ours.
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// The token for forms of a session.
    pub fn csrf_token(&self, keyring: &Keyring, session: &SessionId) -> String {
        keyring.csrf_token(session, &self.id)
    }

    /// Whether a form's token is this browser's.
    pub fn sent(&self, keyring: &Keyring, session: &SessionId, token: &str) -> bool {
        !self.is_new && keyring.csrf_token_matches(session, &self.id, token)
    }

    /// Sets the browser's cookie on an answer, anew each time so that it lasts from the last visit.
    pub fn remember(&self, settings: &Settings, headers: &mut HeaderMap) {
        headers.append(header::SET_COOKIE, set_cookie(settings, "cs", &self.id));
    }
}

/// Sets the second cookie to something new; on every answer to a form.
pub fn evict_from_back_cache(settings: &Settings, headers: &mut HeaderMap) {
    headers.append(header::SET_COOKIE, set_cookie(settings, "v", &random()));
}

/// Judges where a form came from. `Sec-Fetch-Site` cannot be set by a page; browsers that do not send
/// it send `Origin` with every form.
pub fn form_origin(headers: &HeaderMap, settings: &Settings) -> FormOrigin {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let is_ours = match text("sec-fetch-site") {
        Some(site) => site == "same-origin",
        None => text("origin") == Some(settings.public_url.as_str()),
    };
    if is_ours { FormOrigin::Ours } else { FormOrigin::Elsewhere }
}
