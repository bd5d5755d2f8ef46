//! The payer's browser: its cookies, and whether a form really came from our page.
//!
//! The rule: a form is believed when the browser says that it came from our origin *and* it carries
//! the token that ties it to this browser's cookie and this session. The first cookie names the
//! browser; the second is never read: its change alone makes Chromium throw the page with the typed
//! card number out of its back-forward cache. A third binds a browser to a session for one person.

use axum::http::{HeaderMap, HeaderValue, header};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::app::Settings;
use crate::domain::id::SessionId;
use crate::keyring::Keyring;

/// How long a browser keeps its cookies: longer than any payer types, shorter than a shared computer
/// changes hands.
const COOKIE_LIFETIME_S: i64 = 3600;

/// Characters of a browser id: 192 bits in base64url.
const BROWSER_ID_LENGTH: usize = 32;

/// Characters of a session's id in the name of its binding: 80 random bits.
const BINDING_NAME_LENGTH: usize = 16;

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

fn set_cookie(settings: &Settings, name: &str, value: &str, lifetime_s: i64) -> HeaderValue {
    let secure = if settings.is_https() { "; Secure" } else { "" };
    let name = cookie_name(settings, name);
    let text = format!("{name}={value}; Path=/{secure}; HttpOnly; SameSite=Lax; Max-Age={lifetime_s}");
    HeaderValue::try_from(text).expect("cookie names and values are ASCII")
}

fn cookies(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
}

/// The cookie that binds a browser to a session has a name for each session, so that one browser can be
/// bound to several. The end of an id is random enough to tell them apart.
fn binding_name(settings: &Settings, session: &SessionId) -> String {
    let id = session.as_str();
    let tail = id.get(id.len().saturating_sub(BINDING_NAME_LENGTH)..).unwrap_or(id);
    cookie_name(settings, &format!("pi-{tail}"))
}

/// What the browser keeps that proves it to be the target user's; to be judged by `ops::identity`.
pub fn binding_of<'h>(headers: &'h HeaderMap, settings: &Settings, session: &SessionId) -> Option<&'h str> {
    let name = binding_name(settings, session);
    cookies(headers).find(|(key, _)| *key == name).map(|(_, value)| value)
}

/// Binds the browser that gets this answer to a session, for so many seconds.
pub fn remember_binding(
    settings: &Settings,
    session: &SessionId,
    binding: &str,
    lifetime_s: i64,
    headers: &mut HeaderMap,
) {
    let name = binding_name(settings, session);
    let set = set_cookie(settings, name.trim_start_matches("__Host-"), binding, lifetime_s);
    headers.append(header::SET_COOKIE, set);
}

impl Browser {
    /// The browser that sent the request; a new one when it has no cookie of ours.
    pub fn of(headers: &HeaderMap, settings: &Settings) -> Self {
        let name = cookie_name(settings, "cs");
        let id = cookies(headers)
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

    /// What names the browser.
    pub fn id(&self) -> &str {
        &self.id
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
        headers.append(header::SET_COOKIE, set_cookie(settings, "cs", &self.id, COOKIE_LIFETIME_S));
    }
}

/// Sets the second cookie to something new; on every answer to a form.
pub fn evict_from_back_cache(settings: &Settings, headers: &mut HeaderMap) {
    headers.append(header::SET_COOKIE, set_cookie(settings, "v", &random(), COOKIE_LIFETIME_S));
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
