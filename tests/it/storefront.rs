//! A merchant's own checkout page in its payer's browser: knows the payer's token and no API key, and
//! calls from an origin.

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::merchant::{Answer, Merchant};
use crate::payer::{Card, Payer};

/// An origin on every merchant's allow-list.
pub const SHOP: &str = "https://shop.example";

/// The page.
#[derive(Clone)]
pub struct Storefront {
    browser: Merchant,
    origin: Option<&'static str>,
}

/// What the page sends to pay, with a key that names the attempt.
pub fn confirmation(card: Card, attempt: &str) -> Value {
    let (month, year) = card.expiry.split_once(" / ").expect("month and year");
    json!({
        "attempt_key": attempt,
        "payer": { "email": "ada@example.com", "name": "Ada Lovelace" },
        "payment_method_data": {
            "type": "card",
            "card": {
                "number": card.number,
                "exp_month": month.parse::<u32>().expect("a month"),
                "exp_year": 2000 + year.parse::<u32>().expect("a year"),
                "cvc": card.cvc,
            },
        },
    })
}

/// The same with other values at these places.
pub fn confirmation_with(card: Card, attempt: &str, changes: &[(&str, Value)]) -> Value {
    let mut body = confirmation(card, attempt);
    for (pointer, value) in changes {
        let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
        let parent = body.pointer_mut(parent).and_then(Value::as_object_mut).expect("an object");
        if value.is_null() {
            parent.remove(name);
        } else {
            parent.insert(name.to_owned(), value.clone());
        }
    }
    body
}

/// The token in a session's URL.
pub fn token_of(session: &Value) -> String {
    let url = session["url"].as_str().expect("an open session has a URL");
    url.rsplit_once("/c/").expect("the page's address").1.to_owned()
}

impl Storefront {
    /// A page of the merchant's shop.
    pub fn new(merchant: &Merchant) -> Self {
        Self { browser: merchant.clone(), origin: Some(SHOP) }
    }

    /// The same calls from another origin, or from an app, which has none.
    pub fn from(&self, origin: Option<&'static str>) -> Self {
        Self { origin, ..self.clone() }
    }

    pub fn request(&self, method: Method, token: &str, rest: &str) -> RequestBuilder {
        let path = format!("/v1/checkout/sessions/token/{token}{rest}");
        let request = self.browser.bare_request(method, &path);
        match self.origin {
            Some(origin) => request.header("Origin", origin),
            None => request,
        }
    }

    pub async fn send(&self, request: RequestBuilder) -> Answer {
        self.browser.send(request).await
    }

    /// What the payer may see.
    pub async fn look(&self, token: &str) -> Answer {
        self.send(self.request(Method::GET, token, "")).await
    }

    pub async fn confirm(&self, token: &str, body: &Value) -> Answer {
        self.send(self.request(Method::POST, token, "/confirm").json(body)).await
    }
}

/// Goes to a bank's page and answers; gives the address that the bank leads back to.
pub async fn answer_the_bank(bank_url: &str, word: &str) -> String {
    let url = url::Url::parse(bank_url).expect("a URL");
    let mut at_the_bank = Payer::new(&url.origin().ascii_serialization());
    let answered = at_the_bank.send(Method::POST, url.path(), Some(&[("answer", word)])).await;
    let next = answered.header("location").expect("the bank goes on").to_owned();
    at_the_bank.visit(&next).await.refresh_url().expect("the bank leads back")
}
