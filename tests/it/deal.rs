//! Deals for stories: an escrow with a buyer and a seller, each with a browser and links of his own.

use std::sync::Arc;

use checkstand::app::App;
use reqwest::Method;
use serde_json::Value;

use crate::merchant::{Answer, Merchant};
use crate::payer::{Card, GOOD_CARD, PROOF, Page, Payer};
use crate::world::World;

pub const BUYER: &str = "bea@buyer.example";
pub const SELLER: &str = "sam@seller.example";

/// What is held, and what went to sellers, to the merchant and back to payers' cards, by the books and by the bank.
pub const HELD: &str = "select coalesce(sum(amount), 0)::int8 from ledger_entry where account = 'held'";
pub const SELLERS: &str = "select coalesce(sum(amount), 0)::int8 from ledger_entry where account = 'seller'";
pub const MERCHANTS: &str = "select coalesce(sum(amount), 0)::int8 from ledger_entry where account = 'merchant'";
pub const GIVEN_BACK: &str = "select coalesce(sum(amount_refunded), 0)::int8 from simulator.charge";
pub const TAKEN: &str = "select coalesce(sum(amount_captured), 0)::int8 from simulator.charge";
pub const UNBALANCED: &str =
    "select count(*) from (select currency from ledger_entry group by object_id, movement, currency
     having sum(amount) <> 0) unbalanced";

/// What an escrow of each mode needs, a canoe for 250.00.
pub fn canoe(mode: &str) -> Vec<(&'static str, &'static str)> {
    let mut fields = vec![("title", "A canoe"), ("amount", "25000"), ("currency", "eur"), ("buyer_email", BUYER)];
    match mode {
        "instant" => fields.push(("mode", "instant")),
        "quick" => fields.extend([("mode", "quick"), ("seller_email", SELLER), ("estimated_delivery_days", "3")]),
        _ => fields.extend([
            ("mode", "standard"),
            ("seller_email", SELLER),
            ("estimated_delivery_days", "3"),
            ("contract_terms", "The canoe is sold as seen.\nIt floats."),
            ("application_fee_amount", "1000"),
        ]),
    }
    fields
}

/// A browser at one of the gateways whose user reads every mail.
pub fn reader(world: &World, replica: usize) -> Payer {
    Payer::new(&world.replicas[replica].base).who_reads_the_mail(&world.app().keyring)
}

/// An escrow and its two sides.
pub struct Story {
    app: Arc<App>,
    pub merchant: Merchant,
    pub id: String,
    pub buyer: Payer,
    pub seller: Payer,
}

impl Story {
    pub async fn begin(world: &World, mode: &str) -> Self {
        let merchant = world.merchant().await;
        Self::of(world, merchant, &canoe(mode)).await
    }

    pub async fn of(world: &World, merchant: Merchant, fields: &[(&str, &str)]) -> Self {
        let escrow = merchant.post("/v1/escrows", fields).await.ok();
        let id = escrow["id"].as_str().expect("an id").to_owned();
        let app = Arc::clone(world.app());
        Self { app, merchant, id, buyer: reader(world, 0), seller: reader(world, 0) }
    }

    /// The escrow as it is now.
    pub async fn escrow(&self) -> Value {
        self.merchant.get(&format!("/v1/escrows/{}", self.id)).await.ok()
    }

    pub async fn status(&self) -> String {
        self.escrow().await["status"].as_str().expect("a status").to_owned()
    }

    /// Asks for a session.
    pub async fn ask(&self, action: &str, email: &str) -> Answer {
        let fields = [("action", action), ("target_user_email", email), ("redirect_url", "https://shop.example/deal")];
        self.merchant.post(&format!("/v1/escrows/{}/sessions", self.id), &fields).await
    }

    /// A session whose user has proven himself already: codes are sent a few an hour, and their own stories use them.
    pub async fn session(&self, action: &str, email: &str) -> Value {
        let session = self.ask(action, email).await.ok();
        sqlx::query(
            "insert into payer_binding (session_id, id, merchant_id, email, proven_at)
             select id, $2, merchant_id, target_user_email, created_at from checkout_session where id = $1",
        )
        .bind(session["id"].as_str().expect("an id"))
        .bind(PROOF)
        .execute(self.app.store.pool())
        .await
        .expect("a proof can be written down");
        session
    }

    /// A call of the merchant's backend.
    pub async fn call(&self, verb: &str, fields: &[(&str, &str)]) -> Answer {
        self.merchant.post(&format!("/v1/escrows/{}/{verb}", self.id), fields).await
    }

    fn browser(&mut self, email: &str) -> &mut Payer {
        if email == BUYER { &mut self.buyer } else { &mut self.seller }
    }

    /// Opens a link and presses the button of the act.
    pub async fn press(&mut self, session: &Value, email: &str, fields: &[(&str, &str)]) -> Page {
        let browser = self.browser(email);
        let page = browser.open(session).await;
        press(browser, session, &page, fields).await
    }

    /// A new link, opened and done.
    pub async fn act(&mut self, action: &str, email: &str, fields: &[(&str, &str)]) -> Page {
        let session = self.session(action, email).await;
        self.press(&session, email, fields).await
    }

    pub async fn sign(&mut self, email: &str, name: &str) -> Page {
        self.act("sign_contract", email, &[("name", name), ("consent", "yes")]).await
    }

    pub async fn pay_with(&mut self, card: Card) -> Page {
        let session = self.session("accept_pay", BUYER).await;
        self.buyer.pay(&session, card).await
    }

    pub async fn pay(&mut self) {
        self.pay_with(GOOD_CARD).await.says("Payment complete");
    }

    /// As far as paid, whatever the mode needs before.
    pub async fn paid(world: &World, mode: &str) -> Self {
        let mut story = Self::begin(world, mode).await;
        if mode == "standard" {
            story.sign(SELLER, "Sam Seller").await.says("Contract signed");
            story.sign(BUYER, "Bea Buyer").await.says("Contract signed");
        }
        story.pay().await;
        story
    }

    pub async fn delivered(world: &World, mode: &str) -> Self {
        let story = Self::paid(world, mode).await;
        story.call("deliver", &[("tracking_reference", "TRACK-7")]).await.ok();
        story
    }

    pub async fn disputed(world: &World, mode: &str) -> Self {
        let mut story = Self::paid(world, mode).await;
        story.act("dispute", BUYER, &[("reason", "not_received"), ("text", "Nothing came.")]).await;
        story
    }
}

/// Sends the form of an act's page.
pub async fn press(browser: &mut Payer, session: &Value, page: &Page, fields: &[(&str, &str)]) -> Page {
    let path = format!("{}/act", browser.path_of(session));
    let csrf_token = page.field("csrf_token").unwrap_or_default();
    let mut form = vec![("csrf_token", csrf_token.as_str())];
    form.extend_from_slice(fields);
    let answer = browser.send(Method::POST, &path, Some(&form)).await;
    browser.follow(answer).await
}

/// A file as a browser sends it: name, media type as the browser believes, bytes.
pub type File<'f> = (&'f str, &'f str, &'f [u8]);

/// Sends the form of a dispute with files, as a browser does.
pub async fn press_with_files(
    browser: &mut Payer,
    session: &Value,
    fields: &[(&str, &str)],
    files: &[File<'_>],
) -> Page {
    let page = browser.open(session).await;
    let csrf_token = page.field("csrf_token").unwrap_or_default();
    let mut body = Vec::new();
    let mut part = |head: String, content: &[u8]| {
        body.extend_from_slice(format!("--edge\r\nContent-Disposition: form-data; {head}\r\n\r\n").as_bytes());
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n");
    };
    part("name=\"csrf_token\"".to_owned(), csrf_token.as_bytes());
    for (name, value) in fields {
        part(format!("name=\"{name}\""), value.as_bytes());
    }
    for (name, media_type, content) in files {
        part(format!("name=\"files\"; filename=\"{name}\"\r\nContent-Type: {media_type}"), content);
    }
    body.extend_from_slice(b"--edge--\r\n");
    let path = format!("{}/act", browser.path_of(session));
    let ours = [("sec-fetch-site", "same-origin")];
    let body = Some(("multipart/form-data; boundary=edge", body));
    let answer = browser.send_body(Method::POST, &path, &ours, body).await;
    browser.follow(answer).await
}
