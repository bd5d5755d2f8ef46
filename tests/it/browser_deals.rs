//! Escrows in Chromium: buyer and seller in two browsers, with codes from their mails, with JavaScript and
//! without; and every page that they can meet, at the widths of phones and a desk, light and dark. What is
//! done and seen there stands in `tests/sdk/deal.mjs`.

use serde_json::{Map, Value, json};

use crate::browser::Scene;
use crate::deal::{BUYER, SELLER, Story, UNBALANCED, canoe};
use crate::payer::{GOOD_CARD, PROOF};
use crate::three_d_secure::ASKED_CARD;
use checkstand::domain::id::SessionId;

/// Longer than a line of any phone, without a place to break it at.
const LONG_WORD: &str = "Rindfleischetikettierungsüberwachungsaufgabenübertragungsgesetzesentwurfsverfasserin";

async fn walk(java_script: bool) {
    let scene = Scene::start().await;
    let return_url = format!("{}/thanks?deal=7", scene.shop);
    let further = json!({
        "url": format!("{}/c/none-of-the-links-of-this-story", scene.world.base()),
        "sessionId": null,
        "successUrl": return_url,
        "returnUrl": return_url,
        "api": { "base": scene.world.base(), "key": scene.merchant.key },
        "codeUrl": scene.mailbox().await,
        "buyer": BUYER,
        "seller": SELLER,
        "screenshots": Scene::pictures(if java_script { "deal with script" } else { "deal without script" }),
    });
    let facts = scene.tell("deal", &json!({}), java_script, further).await;
    let id = facts["escrow"].as_str().expect("an id");
    let contract = scene.merchant.get(&format!("/v1/escrows/{id}/contract")).await.ok();
    let names: Vec<&str> = contract["signatures"].as_array().expect("two").iter().map(name_of).collect();
    assert!(contract["is_signed_by_both"] == true && names.len() == 2, "{contract}");
    assert!(names.contains(&"Bea Buyer") && names.contains(&"Sam Seller"), "{contract}");
    assert_eq!(scene.world.count(UNBALANCED).await, 0);
    let states = "select count(*) from checkout_session where state <> 'completed'";
    assert_eq!(scene.world.count(states).await, 0, "each link was used, once");
    assert_eq!(scene.world.count("select count(*) from payer_binding").await, 6);
    scene.world.books_are_right().await;
    scene.end().await;
}

fn name_of(signature: &Value) -> &str {
    signature["name"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn two_sides_in_two_browsers_sign_pay_release_and_dispute() {
    walk(true).await;
}

#[tokio::test]
async fn two_sides_need_no_java_script() {
    walk(false).await;
}

/// Links that are to be looked at, and what opens their gates.
#[derive(Default)]
struct Album {
    pages: Map<String, Value>,
    cookies: Vec<Value>,
}

impl Album {
    fn link(&mut self, name: &str, url: &Value) {
        self.pages.insert(format!("{:02}-{name}", self.pages.len()), url.clone());
    }

    fn add(&mut self, scene: &Scene, name: &str, session: &Value, page: &str) {
        let url = session["url"].as_str().expect("a session has a URL");
        self.link(name, &json!(format!("{url}{page}")));
        let id = SessionId::parse(session["id"].as_str().expect("an id")).expect("an id");
        let token = scene.world.app().keyring.binding_token(&id, PROOF);
        self.cookies.push(json!({ "name": format!("pi-{}", &id.as_str()[id.as_str().len() - 16..]), "value": token }));
    }
}

/// Words as long as they may be, and longer than any line.
fn long_words(mode: &str) -> Vec<(&'static str, String)> {
    let mut fields: Vec<(&str, String)> =
        canoe(mode).into_iter().map(|(name, value)| (name, value.to_owned())).collect();
    for (name, value) in &mut fields {
        match *name {
            "title" => *value = format!("{LONG_WORD} und {LONG_WORD}"),
            "contract_terms" => *value = format!("{LONG_WORD}\n\nIt floats. {}", "Wholly and always. ".repeat(60)),
            _ => {}
        }
    }
    fields
}

async fn begun(scene: &Scene, mode: &str) -> Story {
    let fields = long_words(mode);
    let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    Story::of(&scene.world, scene.merchant.clone(), &fields).await
}

/// Pages of signing, of paying and of the payer's bank.
async fn before_the_money(scene: &Scene, album: &mut Album) {
    let mut story = begun(scene, "standard").await;
    album.link("ask", &story.ask("sign_contract", SELLER).await.ok()["url"]);
    let (second, form) = (story.session("sign_contract", SELLER).await, story.session("sign_contract", BUYER).await);
    album.add(scene, "sign", &form, "");
    album.add(scene, "leave", &form, "/cancel");
    let signed = story.session("sign_contract", SELLER).await;
    story.press(&signed, SELLER, &[("name", "Sam Seller"), ("consent", "yes")]).await.says("Contract signed");
    album.add(scene, "signed", &signed, "/status");
    album.add(scene, "signed-already", &second, "");
    let left = story.session("sign_contract", BUYER).await;
    story.buyer.cancel(&left).await.says("You left without doing it");
    album.add(scene, "left", &left, "/status");
    let withdrawn = story.session("sign_contract", BUYER).await;
    let expire = format!("/v1/checkout/sessions/{}/expire", withdrawn["id"].as_str().expect("an id"));
    story.merchant.post(&expire, &[]).await.ok();
    album.add(scene, "withdrawn", &withdrawn, "/status");

    let story = begun(scene, "quick").await;
    album.add(scene, "accept-pay", &story.session("accept_pay", BUYER).await, "");

    let mut story = begun(scene, "quick").await;
    let (asked, other) = (story.session("accept_pay", BUYER).await, story.session("accept_pay", BUYER).await);
    let at_the_bank = story.buyer.pay(&asked, ASKED_CARD).await;
    album.link("bank", &json!(at_the_bank.refresh_url().expect("the page leads to the bank")));
    album.add(scene, "authenticate", &asked, "");
    album.add(scene, "payment-in-flight", &other, "");
}

/// Pages of a deal whose money is held.
async fn after_it(scene: &Scene, album: &mut Album) {
    let mut story = begun(scene, "quick").await;
    let paid = story.session("accept_pay", BUYER).await;
    story.buyer.pay(&paid, GOOD_CARD).await.says("Payment complete");
    album.add(scene, "paid", &paid, "/status");
    album.add(scene, "cancel-escrow", &story.session("cancel_escrow", SELLER).await, "");
    let note = format!("{LONG_WORD} {LONG_WORD}");

    let story = paid_and_delivered(scene).await;
    for action in ["complete", "dispute", "request_cancellation"] {
        album.add(scene, action, &story.session(action, BUYER).await, "");
    }

    let mut story = paid_and_delivered(scene).await;
    let asked = story.session("request_cancellation", BUYER).await;
    story.press(&asked, BUYER, &[("text", &note)]).await.says("Cancellation asked for");
    album.add(scene, "cancellation-asked", &asked, "/status");
    for action in ["accept_cancellation", "reject_cancellation"] {
        album.add(scene, action, &story.session(action, SELLER).await, "");
    }

    let mut story = paid_and_delivered(scene).await;
    let (first, second) = (story.session("complete", BUYER).await, story.session("complete", BUYER).await);
    let third = story.session("complete", BUYER).await;
    story.press(&first, BUYER, &[]).await.says("The deal is done");
    album.add(scene, "completed", &first, "/status");
    album.add(scene, "moved-on", &second, "");
    story.press(&third, BUYER, &[]).await.says("This could not be done any more");
    album.add(scene, "failed", &third, "/status");

    let mut story = paid_and_delivered(scene).await;
    let disputed = story.session("dispute", BUYER).await;
    story.press(&disputed, BUYER, &[("reason", "other"), ("text", &note)]).await.says("Dispute opened");
    album.add(scene, "disputed", &disputed, "/status");
}

async fn paid_and_delivered(scene: &Scene) -> Story {
    let mut story = begun(scene, "quick").await;
    story.pay().await;
    let fields = [("tracking_reference", LONG_WORD), ("note", "On your doorstep.")];
    story.call("deliver", &fields).await.ok();
    story
}

#[tokio::test]
async fn every_page_of_a_deal_fits_every_window() {
    let scene = Scene::start().await;
    let mut album = Album::default();
    before_the_money(&scene, &mut album).await;
    after_it(&scene, &mut album).await;
    let further = json!({
        "url": format!("{}/c/none-of-the-links-of-this-story", scene.world.base()),
        "pages": album.pages,
        "cookies": album.cookies,
        "bankOrigin": scene.world.replicas[0].bank,
        "screenshots": Scene::pictures("deals"),
    });
    let facts = scene.tell("look_at_deals", &json!({}), true, further).await;
    let looks = facts["looks"].as_array().expect("a list");
    assert_eq!(looks.len(), 23, "{facts}");
    // Each is the page that it is looked at for: of one kind of page there are two at most.
    for (name, heading) in [
        ("sign", "Sign the contract"),
        ("cancel-escrow", "Cancel the deal"),
        ("dispute", "Open a dispute"),
        ("request_cancellation", "Ask for cancellation"),
        ("accept_cancellation", "Accept the cancellation"),
        ("reject_cancellation", "Reject the cancellation"),
        ("signed-already", "You have signed already"),
        ("payment-in-flight", "A payment for this is being checked"),
        ("authenticate", "Your bank wants to know that it is you"),
        ("complete", "Release the money"),
        ("moved-on", "This is not possible any more"),
        ("disputed", "Dispute opened"),
    ] {
        let is_seen =
            |look: &Value| look[0].as_str().is_some_and(|seen| &seen[3..] == name) && look[1].as_str() == Some(heading);
        assert!(looks.iter().any(is_seen), "{name} is not “{heading}”: {facts}");
    }
    scene.end().await;
}
