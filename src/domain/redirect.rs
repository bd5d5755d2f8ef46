//! Where a payer may be sent back to: the merchant's allow-list, and the URL of the way back.
//!
//! The rule: a URL is parsed once, its origin is compared as a tuple and its path by whole segments,
//! and what is sent to the browser is what the parser wrote, never the text that came in. Whether a
//! session has such a URL is `domain::session`'s business.

use url::{Host, Url};

use super::id::SessionId;

/// Longest URL taken. Browsers and proxies start to fail above two thousand characters.
pub const URL_LENGTH_MAX: usize = 2048;

/// Replaced by the session's id on the way back, as at Stripe.
pub const SESSION_ID_PLACEHOLDER: &str = "{CHECKOUT_SESSION_ID}";

/// One entry of a merchant's allow-list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AllowedRedirect {
    /// `https`, or `http` for loopback hosts in test mode.
    pub scheme: String,
    /// Host as the URL parser writes it: lower case, punycode, IPv6 in brackets.
    pub host: String,
    /// Port; `None` is any port, for loopback hosts in test mode.
    pub port: Option<u16>,
    /// A path that the URL's path must equal or lie below; `/` is every path.
    pub path_prefix: String,
}

/// Why a redirect URL is refused. Each renders as the end of a sentence about the parameter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RedirectError {
    /// Longer than [`URL_LENGTH_MAX`].
    TooLong,
    /// Not an absolute http or https URL, or one with white space, controls or backslashes.
    NotAUrl,
    /// Carries a user name or password.
    HasCredentials,
    /// `http` where only `https` is allowed.
    NotHttps,
    /// An allow-list entry with a query or a fragment.
    NotAPrefix,
    /// Any port (`:*`) for a host that is not loopback, or in live mode.
    WildcardPort,
    /// A `*` in the host name.
    WildcardHost,
    /// Well-formed, but no entry of the allow-list covers it.
    NotAllowed,
}

impl RedirectError {
    /// What is wrong, for the developer who sent it.
    pub fn message(self) -> &'static str {
        match self {
            Self::TooLong => "must be at most 2048 characters long",
            Self::NotAUrl => {
                "must be an absolute URL that starts with https:// (or http:// for loopback hosts in test mode), without spaces, control characters or backslashes"
            }
            Self::HasCredentials => "must not contain a user name or password",
            Self::NotHttps => "must use https; http is accepted for loopback hosts in test mode only",
            Self::NotAPrefix => "must be an origin with an optional path, without a query or fragment",
            Self::WildcardPort => "may use any port (`:*`) for loopback hosts in test mode only",
            Self::WildcardHost => "must name one host; a host name cannot stand for several",
            Self::NotAllowed => {
                "is not covered by this merchant's redirect URLs; add its origin with POST /v1/redirect_urls or `checkstand redirect-url add`"
            }
        }
    }
}

fn is_loopback(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => *name == "localhost" || name.ends_with(".localhost"),
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    }
}

/// Parses a URL that came from outside and applies the rules that hold for every redirect URL.
fn parse(text: &str, livemode: bool) -> Result<Url, RedirectError> {
    if text.len() > URL_LENGTH_MAX {
        return Err(RedirectError::TooLong);
    }
    // The WHATWG parser strips tabs and newlines and reads a backslash as a slash. What it would
    // have to mend is refused, so that no two programs can read the same text differently.
    if text.chars().any(|c| c.is_control() || c.is_whitespace() || c == '\\') {
        return Err(RedirectError::NotAUrl);
    }
    let scheme_is_spelled_out = ["https://", "http://"]
        .iter()
        .any(|scheme| text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)));
    if !scheme_is_spelled_out || text.contains(":///") {
        return Err(RedirectError::NotAUrl);
    }
    let url = Url::parse(text).map_err(|_| RedirectError::NotAUrl)?;
    let authority = text.split("//").nth(1).unwrap_or_default();
    let authority = authority.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') || !url.username().is_empty() || url.password().is_some() {
        return Err(RedirectError::HasCredentials);
    }
    let host = url.host().ok_or(RedirectError::NotAUrl)?;
    // The URL parser takes it for a letter, but whoever writes one expects it to match.
    if url.host_str().is_some_and(|host| host.contains('*')) {
        return Err(RedirectError::WildcardHost);
    }
    // An encoded slash or backslash is one segment to us and may be two to the shop's server.
    let path = url.path().to_ascii_lowercase();
    if path.contains("%2f") || path.contains("%5c") || path.contains("%00") {
        return Err(RedirectError::NotAUrl);
    }
    if url.scheme() == "http" && (livemode || !is_loopback(&host)) {
        return Err(RedirectError::NotHttps);
    }
    Ok(url)
}

impl AllowedRedirect {
    /// Reads an entry such as `https://shop.example/return` or `http://localhost:*`.
    ///
    /// # Errors
    /// See [`RedirectError`].
    pub fn parse(text: &str, livemode: bool) -> Result<Self, RedirectError> {
        let any_port = text
            .split("//")
            .nth(1)
            .is_some_and(|rest| rest.split('/').next().is_some_and(|authority| authority.ends_with(":*")));
        let url = parse(&if any_port { text.replacen(":*", "", 1) } else { text.to_owned() }, livemode)?;
        if url.query().is_some() || url.fragment().is_some() {
            return Err(RedirectError::NotAPrefix);
        }
        let host = url.host().ok_or(RedirectError::NotAUrl)?;
        if any_port && (livemode || !is_loopback(&host)) {
            return Err(RedirectError::WildcardPort);
        }
        Ok(Self {
            scheme: url.scheme().to_owned(),
            host: host.to_string(),
            port: if any_port { None } else { url.port_or_known_default() },
            path_prefix: url.path().to_owned(),
        })
    }

    /// Whether a browser's `Origin` header names this entry's origin. Its path is no part of an origin.
    pub fn is_origin(&self, origin: &str) -> bool {
        let Ok(url) = Url::parse(origin) else { return false };
        // A browser writes an origin as the parser does. Whatever is written otherwise came from something else.
        url.origin().ascii_serialization() == origin && self.is_of(&url)
    }

    fn is_of(&self, url: &Url) -> bool {
        url.scheme() == self.scheme
            && url.host().is_some_and(|host| host.to_string() == self.host)
            && (self.port.is_none() || url.port_or_known_default() == self.port)
    }

    fn covers(&self, url: &Url) -> bool {
        let path = url.path();
        let below = path
            .strip_prefix(self.path_prefix.as_str())
            .is_some_and(|rest| rest.is_empty() || self.path_prefix.ends_with('/') || rest.starts_with('/'));
        self.is_of(url) && below
    }
}

impl std::fmt::Display for AllowedRedirect {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}://{}", self.scheme, self.host)?;
        match (self.port, self.scheme.as_str()) {
            (None, _) => write!(formatter, ":*")?,
            (Some(443), "https") | (Some(80), "http") => {}
            (Some(port), _) => write!(formatter, ":{port}")?,
        }
        formatter.write_str(&self.path_prefix)
    }
}

/// A redirect URL that the allow-list covers. Holding one is the proof.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WayBack(String);

impl WayBack {
    /// Checks a URL against the allow-list. The placeholder may stand anywhere after the origin.
    ///
    /// # Errors
    /// See [`RedirectError`].
    pub fn parse(text: &str, allowed: &[AllowedRedirect], livemode: bool) -> Result<Self, RedirectError> {
        // An id is longer than its placeholder, so it is filled in before the length is judged.
        let url = parse(&text.replace(SESSION_ID_PLACEHOLDER, "cs_test_00000000000000000000000000"), livemode)?;
        if !allowed.iter().any(|entry| entry.covers(&url)) {
            return Err(RedirectError::NotAllowed);
        }
        Ok(Self(text.to_owned()))
    }

    /// Takes a URL from our own table, where only allowed ones are written.
    pub fn from_stored(text: String) -> Self {
        Self(text)
    }

    /// The URL as the merchant gave it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The URL to send the payer to: placeholder filled in, `session_id` and `status` appended.
    pub fn for_outcome(&self, session: &SessionId, status: &str) -> String {
        let filled = self.0.replace(SESSION_ID_PLACEHOLDER, session.as_str());
        let Ok(mut url) = Url::parse(&filled) else {
            return filled;
        };
        let kept: Vec<(String, String)> = url
            .query_pairs()
            .filter(|(name, _)| name != "session_id" && name != "status")
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .collect();
        url.query_pairs_mut()
            .clear()
            .extend_pairs(kept)
            .append_pair("session_id", session.as_str())
            .append_pair("status", status);
        url.into()
    }

    /// The host that the payer will see in the address bar.
    pub fn host(&self) -> String {
        Url::parse(&self.0.replace(SESSION_ID_PLACEHOLDER, ""))
            .ok()
            .and_then(|url| url.host_str().map(str::to_owned))
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[&str]) -> Vec<AllowedRedirect> {
        entries.iter().map(|entry| AllowedRedirect::parse(entry, false).expect(entry)).collect()
    }

    #[test]
    fn a_url_below_an_entry_is_covered_and_its_neighbours_are_not() {
        let allowed = list(&["https://shop.example/return", "http://localhost:*", "https://shop.example:8443/"]);
        for (text, covered) in [
            ("https://shop.example/return", true),
            ("https://shop.example/return/a?b=c#d", true),
            ("HTTPS://SHOP.example/return?id={CHECKOUT_SESSION_ID}", true),
            ("https://shop.example/returns", false),
            ("https://shop.example/", false),
            ("https://shop.example/return/../admin", false),
            ("https://shop.example/return/%2e%2e/admin", false),
            ("https://shop.example.evil.test/return", false),
            ("https://evil.test/https://shop.example/return", false),
            ("https://shop.example.:443/return", false),
            ("https://shop.example:8443/x", true),
            ("https://shop.example:8444/x", false),
            ("http://localhost:3000/x", true),
            ("http://localhost/x", true),
            ("http://127.0.0.1:3000/x", false),
        ] {
            assert_eq!(WayBack::parse(text, &allowed, false).is_ok(), covered, "{text}");
        }
    }

    #[test]
    fn texts_that_two_parsers_could_read_differently_are_refused() {
        let allowed = list(&["https://shop.example"]);
        for text in [
            "",
            "/",
            "//shop.example",
            "shop.example",
            "https:shop.example",
            "https:/shop.example",
            "https:///shop.example",
            "https://shop.example\\@evil.test",
            "https:\\\\shop.example",
            "https://shop.example@evil.test",
            "https://evil.test@shop.example",
            "https://@shop.example",
            "https://shop.example/\n",
            "https://shop.example/\t",
            " https://shop.example",
            "https://shop.example/a b",
            "javascript:alert(1)",
            "data:text/html,x",
            "ftp://shop.example",
            "http://shop.example",
            "https://shop.example%2f.evil.test",
            "https://shop.example/a%2Fb",
            "https://shop.example/a%5cb",
            "https://{CHECKOUT_SESSION_ID}.evil.test",
            "https://",
            "https://shop.example:99999",
        ] {
            assert!(WayBack::parse(text, &allowed, false).is_err(), "{text}");
        }
        let long = format!("https://shop.example/{}", "a".repeat(URL_LENGTH_MAX));
        assert_eq!(WayBack::parse(&long, &allowed, false), Err(RedirectError::TooLong));
    }

    #[test]
    fn an_origin_is_that_of_an_entry_whatever_the_path() {
        let allowed = list(&["https://shop.example/return", "http://localhost:*", "https://pay.example:8443"]);
        for (origin, is_allowed) in [
            ("https://shop.example", true),
            ("http://localhost:3000", true),
            ("http://localhost", true),
            ("https://pay.example:8443", true),
            ("https://shop.example:443", false),
            ("https://shop.example/", false),
            ("https://shop.example/return", false),
            ("HTTPS://shop.example", false),
            ("http://shop.example", false),
            ("https://shop.example:8443", false),
            ("https://pay.example", false),
            ("https://shop.example.evil.test", false),
            ("https://evil.test", false),
            ("https://user@shop.example", false),
            ("null", false),
            ("", false),
            ("*", false),
        ] {
            assert_eq!(allowed.iter().any(|entry| entry.is_origin(origin)), is_allowed, "{origin}");
        }
    }

    #[test]
    fn http_and_any_port_are_for_loopback_in_test_mode() {
        assert!(AllowedRedirect::parse("http://localhost:*", false).is_ok());
        assert_eq!(AllowedRedirect::parse("http://localhost:3000", true), Err(RedirectError::NotHttps));
        assert_eq!(AllowedRedirect::parse("http://shop.example", false), Err(RedirectError::NotHttps));
        assert_eq!(AllowedRedirect::parse("https://shop.example:*", false), Err(RedirectError::WildcardPort));
        assert_eq!(AllowedRedirect::parse("https://*.shop.example", false), Err(RedirectError::WildcardHost));
        assert_eq!(AllowedRedirect::parse("https://shop.example/?a", false), Err(RedirectError::NotAPrefix));
    }

    #[test]
    fn the_way_back_carries_session_and_status_once() {
        let session = SessionId::generate(chrono::Utc::now(), false);
        let allowed = list(&["https://shop.example"]);
        let way = WayBack::parse(
            "https://shop.example/ok?sid={CHECKOUT_SESSION_ID}&status=forged&q=ä%26b#top",
            &allowed,
            false,
        )
        .expect("covered");
        assert_eq!(
            way.for_outcome(&session, "completed"),
            format!("https://shop.example/ok?sid={session}&q=%C3%A4%26b&session_id={session}&status=completed#top"),
        );
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_accepted_stays_on_the_listed_origin(text in "(https?:)?[/\\\\]{0,3}[a-z@.:%0-9\\\\/{}#?&\\[\\]\\-]{0,40}") {
            let allowed = list(&["https://shop.example/r"]);
            for candidate in [text.clone(), format!("https://shop.example{text}")] {
                if let Ok(way) = WayBack::parse(&candidate, &allowed, false) {
                    let session = SessionId::generate(chrono::Utc::now(), false);
                    let url = Url::parse(&way.for_outcome(&session, "completed")).expect("a URL");
                    proptest::prop_assert_eq!(url.origin().ascii_serialization(), "https://shop.example");
                    proptest::prop_assert!(url.path() == "/r" || url.path().starts_with("/r/"));
                }
            }
        }
    }
}
