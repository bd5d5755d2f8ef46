//! A payer with a browser that has no JavaScript: keeps cookies, follows redirects within a site one
//! by one, fills in the form that the page shows.

use std::collections::BTreeMap;
use std::sync::Arc;

use checkstand::keyring::Keyring;
use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::merchant::http_client;

/// A page as the browser got it.
#[derive(Debug, Clone)]
pub struct Page {
    pub status: StatusCode,
    /// Path and query of the page, after redirects.
    pub path: String,
    pub headers: reqwest::header::HeaderMap,
    pub html: String,
}

impl Page {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The value of a hidden or text field of the page's form.
    pub fn field(&self, name: &str) -> Option<String> {
        let marker = format!("name=\"{name}\"");
        let tag = self.html.split('<').find(|tag| tag.starts_with("input") && tag.contains(&marker))?;
        let value = tag.split("value=\"").nth(1).map_or("", |rest| rest.split('"').next().unwrap_or(""));
        Some(unescape(value))
    }

    pub fn has_card_form(&self) -> bool {
        self.html.contains("name=\"card_number\"")
    }

    /// Where the page sends the browser by itself.
    pub fn refresh_url(&self) -> Option<String> {
        let content = self.html.split("http-equiv=\"refresh\" content=\"").nth(1)?.split('"').next()?;
        content.split_once("url=").map(|(_, url)| unescape(url))
    }

    /// The text of the page without its tags.
    pub fn text(&self) -> String {
        let body = self.html.split("<body").nth(1).unwrap_or(&self.html);
        let mut text = String::new();
        for (place, piece) in body.split('<').enumerate() {
            let (tag, words) = piece.split_once('>').unwrap_or(("", piece));
            // What stands in a line stays in it; every other element stands apart.
            let in_line = place == 0 || ["bdi", "/bdi"].contains(&tag.split(' ').next().unwrap_or(""));
            if !in_line {
                text.push(' ');
            }
            text.push_str(words);
        }
        unescape(&text).split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[track_caller]
    pub fn says(&self, words: &str) -> &Self {
        assert!(self.text().contains(words), "the page does not say “{words}”: {}", self.text());
        self
    }
}

fn unescape(text: &str) -> String {
    let mut text = text.to_owned();
    for (entity, character) in [
        ("&#60;", "<"),
        ("&#62;", ">"),
        ("&#34;", "\""),
        ("&#39;", "'"),
        ("&#x27;", "'"),
        ("&quot;", "\""),
        ("&lt;", "<"),
        ("&gt;", ">"),
        // Last, so that what only looks like an entity stays what it is.
        ("&amp;", "&"),
        ("&#38;", "&"),
    ] {
        text = text.replace(entity, character);
    }
    text
}

/// A card as typed.
#[derive(Clone, Copy)]
pub struct Card {
    pub number: &'static str,
    pub expiry: &'static str,
    pub cvc: &'static str,
}

/// A card that pays.
pub const GOOD_CARD: Card = Card { number: "4242 4242 4242 4242", expiry: "12 / 49", cvc: "123" };

/// A card that the bank refuses.
pub const DECLINED_CARD: Card = Card { number: "4000 0000 0000 0002", expiry: "12 / 49", cvc: "123" };

/// A browser.
#[derive(Clone)]
pub struct Payer {
    base: String,
    client: reqwest::Client,
    cookies: BTreeMap<String, String>,
    forwarded_for: Option<String>,
    keyring: Option<Arc<Keyring>>,
}

/// The id of the proofs that stories write down without a mail.
pub const PROOF: &str = "written-down-by-a-story";

impl Payer {
    pub fn new(base: &str) -> Self {
        Self {
            base: base.to_owned(),
            client: http_client(),
            cookies: BTreeMap::new(),
            forwarded_for: None,
            keyring: None,
        }
    }

    pub fn cookies(&self) -> &BTreeMap<String, String> {
        &self.cookies
    }

    pub fn forget_cookies(&mut self) {
        self.cookies.clear();
    }

    pub fn forget_cookies_named(&mut self, beginning: &str) {
        self.cookies.retain(|name, _| !name.starts_with(beginning));
    }

    pub fn set_cookie(&mut self, name: &str, value: &str) {
        self.cookies.insert(name.to_owned(), value.to_owned());
    }

    /// The same browser, cookies and all, at another replica.
    pub fn at(&self, base: &str) -> Self {
        Self { base: base.to_owned(), ..self.clone() }
    }

    /// The same browser behind a proxy that says this in `X-Forwarded-For`.
    pub fn behind(&self, forwarded_for: &str) -> Self {
        Self { forwarded_for: Some(forwarded_for.to_owned()), ..self.clone() }
    }

    /// The path of a session's page. The host is the gateway's public one, which need not be where it
    /// listens.
    pub fn path_of(&self, session: &Value) -> String {
        let url = session["url"].as_str().expect("an open session has a URL");
        url::Url::parse(url).expect("a URL").path().to_owned()
    }

    /// A browser that has proven itself wherever a proof has been written down; see `deal::Story::session`.
    pub fn who_reads_the_mail(mut self, keyring: &Arc<Keyring>) -> Self {
        self.keyring = Some(Arc::clone(keyring));
        self
    }

    fn with_cookies(&self, path: &str, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        let mut cookies: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let token = path.strip_prefix("/c/").and_then(|rest| rest.split('/').next());
        if let (Some(keyring), Some(token)) = (&self.keyring, token)
            && let Some(session) = keyring.open_payer_token(token)
        {
            let id = session.as_str();
            cookies.push(format!("pi-{}={}", &id[id.len() - 16..], keyring.binding_token(&session, PROOF)));
        }
        if cookies.is_empty() { request } else { request.header("Cookie", cookies.join("; ")) }
    }

    /// One request, no redirects.
    pub async fn send(&mut self, method: Method, path: &str, form: Option<&[(&str, &str)]>) -> Page {
        let base = self.base.clone();
        let from_our_page = [("sec-fetch-site", "same-origin"), ("origin", base.as_str())];
        let headers = if form.is_some() { &from_our_page[..] } else { &[] };
        self.send_with(method, path, headers, form).await
    }

    /// One request with headers of one's own choice, no redirects.
    pub async fn send_with(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        form: Option<&[(&str, &str)]>,
    ) -> Page {
        let mut body = None;
        if let Some(fields) = form {
            let mut text = url::form_urlencoded::Serializer::new(String::new());
            text.extend_pairs(fields);
            body = Some(("application/x-www-form-urlencoded", text.finish().into_bytes()));
        }
        self.send_body(method, path, headers, body).await
    }

    /// One request with a body of any type, no redirects.
    pub async fn send_body(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<(&str, Vec<u8>)>,
    ) -> Page {
        let mut request = self.client.request(method, format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(forwarded_for) = &self.forwarded_for {
            request = request.header("X-Forwarded-For", forwarded_for);
        }
        if let Some((media_type, bytes)) = body {
            request = request.header("Content-Type", media_type).body(bytes);
        }
        let response = self.with_cookies(path, request).send().await.expect("the gateway answers");
        let status = response.status();
        let headers = response.headers().clone();
        for cookie in headers.get_all("set-cookie") {
            let text = cookie.to_str().expect("a cookie is text");
            let (name, value) = text.split(';').next().unwrap_or("").split_once('=').expect("a cookie has a name");
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
        let html = response.text().await.expect("a whole page");
        Page { status, path: path.to_owned(), headers, html }
    }

    /// Follows redirects within the gateway, as a browser does.
    pub async fn follow(&mut self, mut page: Page) -> Page {
        for _ in 0..5 {
            if page.status != StatusCode::SEE_OTHER {
                return page;
            }
            let path = page.header("location").expect("a redirect says where").to_owned();
            assert!(path.starts_with('/'), "a redirect after a form leaves the gateway: {path}");
            page = self.send(Method::GET, &path, None).await;
        }
        panic!("too many redirects");
    }

    pub async fn visit(&mut self, path: &str) -> Page {
        let page = self.send(Method::GET, path, None).await;
        self.follow(page).await
    }

    /// Opens a session's page.
    pub async fn open(&mut self, session: &Value) -> Page {
        let path = self.path_of(session);
        self.visit(&path).await
    }

    /// The fields that the form would send.
    pub fn filled(form: &[(String, String)]) -> Vec<(&str, &str)> {
        form.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }

    /// Fills the form of a page with a card.
    pub fn fill(page: &Page, card: Card) -> Vec<(String, String)> {
        let keep = |name: &str| (name.to_owned(), page.field(name).unwrap_or_default());
        let email = match page.field("email") {
            Some(email) if !email.is_empty() => email,
            _ => "ada@example.com".to_owned(),
        };
        vec![
            keep("csrf_token"),
            keep("attempt_key"),
            ("email".to_owned(), email),
            ("card_name".to_owned(), "Ada Lovelace".to_owned()),
            ("card_number".to_owned(), card.number.to_owned()),
            ("card_expiry".to_owned(), card.expiry.to_owned()),
            ("card_cvc".to_owned(), card.cvc.to_owned()),
        ]
    }

    /// Presses the pay button of a page.
    pub async fn submit(&mut self, page: &Page, form: &[(String, String)]) -> Page {
        let path = format!("{}/pay", page.path.trim_end_matches("/pay"));
        let answer = self.send(Method::POST, &path, Some(&Self::filled(form))).await;
        self.follow(answer).await
    }

    /// Opens the page and fills the form: where it goes and what it would send.
    pub async fn ready(&mut self, session: &Value, card: Card) -> (String, Vec<(String, String)>) {
        let page = self.open(session).await;
        assert!(page.has_card_form(), "no form: {} {}", page.status, page.text());
        (format!("{}/pay", page.path), Self::fill(&page, card))
    }

    /// Presses a button without following where the answer leads.
    pub async fn press(&mut self, path: &str, form: &[(String, String)]) -> Page {
        self.send(Method::POST, path, Some(&Self::filled(form))).await
    }

    /// Opens the page and pays with a card.
    pub async fn pay(&mut self, session: &Value, card: Card) -> Page {
        let page = self.open(session).await;
        assert!(page.has_card_form(), "no form: {} {}", page.status, page.text());
        let form = Self::fill(&page, card);
        self.submit(&page, &form).await
    }

    /// Gives the session up: opens the question and answers yes.
    pub async fn cancel(&mut self, session: &Value) -> Page {
        let path = format!("{}/cancel", self.path_of(session));
        let question = self.visit(&path).await;
        let csrf_token = question.field("csrf_token").expect("the question has a form");
        let answer = self.send(Method::POST, &path, Some(&[("csrf_token", &csrf_token)])).await;
        self.follow(answer).await
    }
}
