//! Payers in Chromium, with JavaScript and without: the pages as people meet them, up to the shop that
//! they come back to. What is done and seen there stands in `tests/sdk/browser.mjs`; here stands what
//! must be true in the gateway afterwards.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use axum::Router;
use axum::extract::Query;
use axum::response::Html;
use axum::routing::get;
use checkstand::domain::session::TRIES_MAX;
use checkstand::providers::simulator_faults::{Fault, Times};
use checkstand::server::{self, ServerLimits};
use reqwest::Method;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::merchant::Merchant;
use crate::outside::{chromium, run};
use crate::payer::{Card, DECLINED_CARD, GOOD_CARD};
use crate::payer_identity::{TARGET, newest_code_of, newest_code_to};
use crate::saved_cards::customer_with_card;
use crate::world::{World, WorldOptions};

const THANKS: &str = "<!doctype html><html lang=en><title>Corner Coffee</title><h1>Thanks for your order!</h1>";
const CART: &str = "<!doctype html><html lang=en><title>Corner Coffee</title><h1>Your cart</h1>";

/// Asks the payer whether his card shall be kept.
const OFFER: (&str, &str) = ("saved_payment_method_options[payment_method_save]", "enabled");

/// Has the card kept without asking.
const KEEP: (&str, &str) = ("payment_intent_data[setup_future_usage]", "off_session");

/// A world with a shop that payers come back to.
pub struct Scene {
    pub world: World,
    pub merchant: Merchant,
    /// Origin of the shop.
    pub shop: String,
    stop_shop: CancellationToken,
}

impl Scene {
    pub async fn start() -> Self {
        Self::with(Vec::new()).await
    }

    pub async fn with(settings: Vec<(&'static str, String)>) -> Self {
        let world = World::with(WorldOptions { settings, ..WorldOptions::default() }).await;
        let merchant = world.merchant().await;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let shop = format!("http://{}", listener.local_addr().expect("an address"));
        let pages = Router::new()
            .route("/thanks", get(async || Html(THANKS)))
            .route("/cart", get(async || Html(CART)))
            .route("/favicon.ico", get(async || ""));
        let stop_shop = CancellationToken::new();
        tokio::spawn(server::serve(listener, pages, ServerLimits::default(), stop_shop.clone()));
        Self { world, merchant, shop, stop_shop }
    }

    pub fn success_url(&self) -> String {
        format!("{}/thanks?order=42&id={{CHECKOUT_SESSION_ID}}", self.shop)
    }

    fn cancel_url(&self) -> String {
        format!("{}/cart?order=42", self.shop)
    }

    /// A session whose payer comes back to the shop.
    pub async fn session(&self) -> Value {
        self.session_with(&[]).await
    }

    async fn session_with(&self, fields: &[(&str, &str)]) -> Value {
        let (success_url, cancel_url) = (self.success_url(), self.cancel_url());
        let mut all = vec![("success_url", success_url.as_str()), ("cancel_url", cancel_url.as_str())];
        all.extend_from_slice(fields);
        self.merchant.session_with(&all).await
    }

    /// A scene with the card vault on, and a customer with a card in it.
    async fn with_kept_card() -> (Self, String) {
        let key = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, [7; 32]);
        let scene = Self::with(vec![("CARD_VAULT_KEYS", key)]).await;
        let (customer, _) = customer_with_card(&scene.world, &scene.merchant, GOOD_CARD).await;
        scene.world.execute("update payment_method set provider_token = null").await;
        (scene, customer["id"].as_str().expect("an id").to_owned())
    }

    /// Tells one of the browser's stories; `further` adds to its argument or replaces.
    pub async fn tell(&self, story: &str, session: &Value, java_script: bool, further: Value) -> Value {
        let pictures = if java_script { "with script" } else { "without script" };
        let mut argument = json!({
            "url": session["url"],
            "sessionId": session["id"],
            "successUrl": self.success_url(),
            "cancelUrl": self.cancel_url(),
            "javaScript": java_script,
            "amountText": "€25.98",
            "texts": ["Corner Coffee", "House blend", "2 × €12.99"],
            "screenshots": Self::pictures(pictures),
        });
        for (name, value) in further.as_object().expect("an object") {
            argument[name] = value.clone();
        }
        run(chromium(story, &argument), String::new()).await
    }

    /// Where pictures of the pages go, for a look at them after the run.
    pub fn pictures(folder: &str) -> PathBuf {
        Path::new(env!("CARGO_TARGET_TMPDIR")).join("pictures").join(folder)
    }

    /// A mailbox that gives the newest code, or the newest one to an address: its URL.
    pub async fn mailbox(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/code", listener.local_addr().expect("an address"));
        let app = std::sync::Arc::clone(self.world.app());
        let newest = async move |Query(asked): Query<BTreeMap<String, String>>| match asked.get("to") {
            Some(address) => newest_code_to(&app, address).await,
            None => newest_code_of(&app).await,
        };
        let mailbox = Router::new().route("/code", get(newest));
        tokio::spawn(server::serve(listener, mailbox, ServerLimits::default(), self.stop_shop.clone()));
        url
    }

    async fn give_up(&self, session: &Value) {
        let mut payer = self.world.payer();
        let path = format!("{}/cancel", payer.path_of(session));
        let token = payer.visit(&path).await.field("csrf_token").expect("the page asks");
        payer.send(Method::POST, &path, Some(&[("csrf_token", &token)])).await;
    }

    /// The session's state and status now, and the charges of the whole world that took money.
    pub async fn assert_ended(&self, session: &Value, state: &str, charges: i64) {
        let after = self.merchant.read(session).await;
        assert_eq!(after["state"], state, "{after}");
        assert_eq!(after["payment_status"], if state == "completed" { "paid" } else { "unpaid" }, "{after}");
        let captured = "select count(*) from simulator.charge where state = 'captured'";
        assert_eq!(self.world.count(captured).await, charges, "charges that took money");
    }

    pub async fn end(self) {
        self.stop_shop.cancel();
        self.world.end().await;
    }
}

/// Tells a story that ends in one payment, with JavaScript and without, and gives what was seen.
async fn paid_once(story: &str, further: Value) -> Vec<Value> {
    let scene = Scene::start().await;
    let mut seen = Vec::new();
    for (java_script, charges) in [(true, 1), (false, 2)] {
        let session = scene.session().await;
        let facts = scene.tell(story, &session, java_script, further.clone()).await;
        scene.assert_ended(&session, "completed", charges).await;
        let landing = format!("{}/thanks?order=42&id={}", scene.shop, session["id"].as_str().expect("an id"));
        assert!(facts["landing"].as_str().is_some_and(|landed| landed.starts_with(&landing)), "{facts}");
        seen.push(facts);
    }
    scene.end().await;
    seen
}

#[tokio::test]
async fn a_payer_pays_and_is_back_in_the_shop() {
    for facts in paid_once("pay", json!({})).await {
        assert_eq!(facts["button"], "Pay €25.98");
    }
}

#[tokio::test]
async fn a_payer_who_is_asked_for_his_address_leaves_a_part_out_is_told_and_pays() {
    let scene = Scene::start().await;
    for (java_script, charges) in [(true, 1), (false, 2)] {
        let session = scene.session_with(&[("billing_address_collection", "required")]).await;
        let facts = scene.tell("pay_with_address", &session, java_script, json!({})).await;
        assert_eq!(facts["message"], "Error: Enter the postcode of your billing address.");
        scene.assert_ended(&session, "completed", charges).await;
        let address = scene.merchant.read(&session).await["customer_details"]["address"].clone();
        assert_eq!((&address["country"], &address["postal_code"]), (&"CH".into(), &"4051".into()));
    }
    scene.end().await;
}

#[tokio::test]
async fn a_payer_pays_on_the_merchants_own_page_and_no_foreign_page_can_make_him() {
    let scene = Scene::start().await;
    let (session, other) = (scene.session().await, scene.session().await);
    let facts = scene.tell("own_page", &session, true, json!({ "otherUrl": other["url"] })).await;
    assert!(facts["landing"].as_str().is_some_and(|landed| landed.starts_with(&scene.cancel_url())), "{facts}");
    scene.assert_ended(&session, "completed", 1).await;
    let untouched = scene.merchant.read(&other).await;
    assert_eq!((&untouched["state"], &untouched["payment_intent"]), (&"pending".into(), &Value::Null));
    scene.end().await;
}

#[tokio::test]
async fn a_payer_on_a_dark_phone_in_german_pays() {
    let phone = json!({
        "width": 360, "height": 640, "colorScheme": "dark", "locale": "de-DE",
        "amountText": "25,98 €", "texts": ["Corner Coffee", "2 × 12,99 €"],
    });
    for facts in paid_once("pay", phone).await {
        assert_eq!(facts["button"], "Pay 25,98 €");
    }
}

#[tokio::test]
async fn a_payer_pays_with_the_keyboard_alone() {
    paid_once("pay_by_keyboard", json!({})).await;
}

#[tokio::test]
async fn a_payer_whose_card_is_declined_pays_with_another() {
    for facts in paid_once("decline_then_pay", json!({})).await {
        let declined = facts["declined"].as_str().unwrap_or_default();
        assert!(declined.contains("Your card was declined") && declined.contains("You were not charged"), "{facts}");
    }
}

#[tokio::test]
async fn a_payer_who_mistyped_is_told_where_and_pays() {
    for facts in paid_once("invalid_then_pay", json!({})).await {
        assert!(facts["message"].as_str().is_some_and(|message| message.contains("2 things need")), "{facts}");
    }
}

#[tokio::test]
async fn a_button_pressed_twice_charges_once() {
    paid_once("double_click", json!({})).await;
}

#[tokio::test]
async fn a_link_open_in_two_tabs_charges_once() {
    paid_once("two_tabs", json!({})).await;
}

#[tokio::test]
async fn going_back_after_paying_shows_no_card_and_pays_nothing() {
    paid_once("back_after_paying", json!({})).await;
}

#[tokio::test]
async fn a_paid_link_says_so_however_often_it_is_loaded() {
    for facts in paid_once("reload_after_paying", json!({})).await {
        assert_eq!(facts["heading"], "Payment complete");
    }
}

#[tokio::test]
async fn a_payer_gives_up_and_is_back_in_the_cart() {
    let scene = Scene::start().await;
    for java_script in [true, false] {
        let session = scene.session().await;
        let facts = scene.tell("cancel", &session, java_script, json!({})).await;
        assert!(facts["landing"].as_str().is_some_and(|landed| landed.contains("/cart?order=42")), "{facts}");
        scene.assert_ended(&session, "cancelled", 0).await;
    }
    scene.end().await;
}

#[tokio::test]
async fn a_payer_who_comes_too_late_finds_the_way_back() {
    let scene = Scene::start().await;
    let sessions = [scene.session().await, scene.session().await];
    scene.world.advance(chrono::Duration::minutes(31));
    for (session, java_script) in sessions.iter().zip([true, false]) {
        let facts = scene.tell("expired", session, java_script, json!({})).await;
        assert_eq!(facts["heading"], "This payment has run out of time");
        assert_eq!(facts["automatic"], false, "{facts}");
    }
    scene.end().await;
}

#[tokio::test]
async fn a_payer_whose_bank_stays_silent_waits_and_is_back_in_the_shop() {
    let scene = Scene::start().await;
    let simulator = &scene.world.replicas[0].simulator;
    for (java_script, charges) in [(true, 1), (false, 2)] {
        simulator.set(Fault::FailAfter, Times::Next(1));
        simulator.set(Fault::RefuseLookUp, Times::Next(2));
        let session = scene.session().await;
        scene.tell("pay", &session, java_script, json!({})).await;
        scene.assert_ended(&session, "completed", charges).await;
    }
    scene.end().await;
}

#[tokio::test]
async fn the_one_a_link_is_for_types_the_code_from_the_mail_and_pays() {
    let scene = Scene::start().await;
    let code_url = scene.mailbox().await;
    for (java_script, charges, locale) in [(true, 1, "en"), (false, 2, "de")] {
        let (success_url, cancel_url) = (scene.success_url(), scene.cancel_url());
        let fields = [
            ("success_url", success_url.as_str()),
            ("cancel_url", &cancel_url),
            ("target_user_email", TARGET),
            ("locale", locale),
        ];
        let session = scene.merchant.session_with(&fields).await;
        let further = json!({ "codeUrl": code_url, "amountText": if locale == "en" { "€25.98" } else { "25,98" } });
        let facts = scene.tell("prove_identity", &session, java_script, further).await;
        scene.assert_ended(&session, "completed", charges).await;
        assert!(facts["error"].as_str().is_some_and(|error| error.contains('4')), "{facts}");
    }
    scene.end().await;
}

#[tokio::test]
async fn the_icon_is_where_browsers_look_when_a_page_names_none() {
    let world = World::start().await;
    let icon = world.payer().visit("/favicon.ico").await;
    assert_eq!(icon.status, 200);
    assert_eq!(icon.header("content-type"), Some("image/svg+xml"));
    assert_eq!(icon.header("cache-control"), Some("public, max-age=86400"));
    world.end().await;
}

#[tokio::test]
async fn a_returning_payer_pays_with_a_kept_card() {
    let (scene, customer) = Scene::with_kept_card().await;
    for (java_script, charges) in [(true, 2), (false, 3)] {
        let session = scene.session_with(&[("customer", &customer), OFFER]).await;
        scene.tell("pay_with_kept_card", &session, java_script, json!({})).await;
        scene.assert_ended(&session, "completed", charges).await;
    }
    scene.end().await;
}

/// Each page that a payer can meet, at the widths of a small phone, a tablet and a desk, light and dark.
#[tokio::test]
async fn every_page_fits_every_window() {
    let (scene, customer) = Scene::with_kept_card().await;
    let kept = scene.session_with(&[("customer", &customer), OFFER]).await;
    let second = [("customer", customer.as_str()), KEEP];
    let session = scene.session_with(&second).await;
    let mastercard = Card { number: "5555 5555 5555 4444", ..GOOD_CARD };
    scene.world.payer().pay(&session, mastercard).await;
    scene
        .world
        .execute("update payment_method set card_exp_year = 2020, allow_redisplay = 'always' where card_last4 = '4444'")
        .await;
    let keeping = scene.session_with(&[("customer_creation", "always"), KEEP, OFFER]).await;
    let [declined, failed, completed, cancelled, asked] = [
        scene.session().await,
        scene.session().await,
        scene.session().await,
        scene.session().await,
        scene.session().await,
    ];
    scene.world.payer().pay(&declined, DECLINED_CARD).await;
    for _ in 0..TRIES_MAX {
        scene.world.payer().pay(&failed, DECLINED_CARD).await;
    }
    scene.world.payer().pay(&completed, GOOD_CARD).await;
    scene.give_up(&cancelled).await;
    let unknown = json!({ "url": format!("{}/c/nothing", scene.world.base()) });
    let form = scene.session().await;
    let pages = [
        ("form", &form, ""),
        ("kept", &kept, ""),
        ("keeping", &keeping, ""),
        ("asked", &asked, "/cancel"),
        ("declined", &declined, ""),
        ("failed", &failed, "/status"),
        ("completed", &completed, "/status"),
        ("cancelled", &cancelled, "/status"),
        ("unknown", &unknown, ""),
    ];
    let urls: Value = pages
        .iter()
        .map(|(name, session, page)| ((*name).to_owned(), json!(format!("{}{page}", url_of(session)))))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let facts = scene.tell("look", &form, true, json!({ "pages": urls, "screenshots": Scene::pictures("look") })).await;
    assert_eq!(facts["looks"], pages.len() * 6, "{facts}");
    scene.end().await;
}

fn url_of(session: &Value) -> &str {
    session["url"].as_str().expect("an open session has a URL")
}
