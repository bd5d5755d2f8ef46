//! Paying on the merchant's own page with nothing but the payer's token.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::payer::{Card, DECLINED_CARD, GOOD_CARD, Payer};
use crate::storefront::{Storefront, answer_the_bank, confirmation, confirmation_with, token_of};
use crate::world::{World, WorldOptions};

const ASKED_CARD: Card = Card { number: "4000 0000 0000 3220", expiry: "12 / 49", cvc: "123" };
const LOST_CARD: Card = Card { number: "4000 0000 0000 9987", expiry: "12 / 49", cvc: "123" };

const CAPTURED: &str = "select count(*) from simulator.charge where state = 'captured'";
const CHARGES: &str = "select count(*) from charge";

/// Everything that a payer's page gets to see, so that something new is thought about here.
const SHOWN: [&str; 28] = [
    "accepts_card_data",
    "amount_subtotal",
    "amount_total",
    "billing_address_collection",
    "currency",
    "customer_details",
    "customer_email",
    "expires_at",
    "expires_in",
    "id",
    "last_payment_error",
    "line_items",
    "livemode",
    "locale",
    "merchant",
    "mode",
    "next_action",
    "object",
    "payment_method_types",
    "payment_status",
    "redirect_url",
    "saved_payment_methods",
    "state",
    "status",
    "submit_type",
    "total_details",
    "tries_left",
    "url",
];

#[tokio::test]
async fn a_payer_pays_on_the_merchants_own_page() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    let session = merchant
        .session_with(&[
            ("metadata[margin]", "secret-of-the-shop"),
            ("client_reference_id", "order-of-the-shop"),
            ("line_items[0][price_data][product_data][metadata][shelf]", "shelf-of-the-shop"),
            ("payment_intent_data[description]", "note-of-the-shop"),
            ("customer_email", "known@example.com"),
        ])
        .await;
    let shop = Storefront::new(&merchant);
    let token = token_of(&session);
    let first = shop.look(&token).await;
    assert_eq!(first.header("access-control-allow-origin"), Some("https://shop.example"));
    assert!(!first.text.contains("of-the-shop"), "{}", first.text);
    let shown = first.ok();
    let mut keys: Vec<&str> = shown.as_object().expect("an object").keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(keys, SHOWN);
    assert_eq!(
        (&shown["id"], &shown["amount_total"], &shown["currency"]),
        (&session["id"], &2598.into(), &"eur".into())
    );
    assert_eq!(
        (&shown["state"], &shown["status"], &shown["tries_left"]),
        (&"pending".into(), &"open".into(), &4.into())
    );
    assert_eq!(shown["merchant"]["name"], "Corner Coffee");
    assert_eq!(shown["line_items"][0]["name"], "House blend");
    assert_eq!(shown["customer_email"], "known@example.com");
    assert!(shown["expires_in"].as_i64().is_some_and(|left| (1700..=1800).contains(&left)), "{shown}");
    receiver.wait_for("checkout.session.opened").await;

    let body = confirmation_with(GOOD_CARD, "press-1", &[("/payer/email", Value::Null)]);
    let paid = shop.confirm(&token, &body).await.ok();
    assert_eq!((&paid["state"], &paid["payment_status"]), (&"completed".into(), &"paid".into()));
    assert_eq!((&paid["url"], &paid["next_action"]), (&Value::Null, &Value::Null));
    let back = paid["redirect_url"].as_str().expect("a way back");
    assert!(back.starts_with("https://shop.example/thanks?") && back.ends_with("status=completed"), "{back}");
    receiver.wait_for("checkout.session.completed").await;

    let read = merchant.read(&session).await;
    assert_eq!(read["customer_details"]["email"], "known@example.com");
    assert_eq!(read["customer_details"]["name"], "Ada Lovelace");
    let payment = read["payment_intent"].as_str().expect("a payment");
    let payment = merchant.get(&format!("/v1/payment_intents/{payment}?expand[]=latest_charge")).await.ok();
    assert_eq!((&payment["status"], &payment["latest_charge"]["status"]), (&"succeeded".into(), &"succeeded".into()));
    // The hosted page of the same session knows it too, and shows no form.
    let mut payer = world.payer();
    payer.visit(&format!("/c/{token}")).await.says("Payment complete");
    assert_eq!(receiver.deliveries().iter().filter(|one| one.kind() == "checkout.session.opened").count(), 1);
    assert_eq!(world.count(CAPTURED).await, 1);
    world.end().await;
}

#[tokio::test]
async fn a_declined_payer_is_told_what_he_may_know_and_pays_with_another_card() {
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    let session = merchant.session().await;
    let (shop, token) = (Storefront::new(&merchant), token_of(&session));
    let declined = shop.confirm(&token, &confirmation(LOST_CARD, "press-1")).await;
    assert_eq!(declined.header("access-control-allow-origin"), Some("https://shop.example"));
    let error = declined.refused_with(402, "card_declined", "");
    assert_eq!((&error["type"], &error["decline_code"]), (&"card_error".into(), &"generic_decline".into()));
    assert!(error["message"].as_str().is_some_and(|text| text.contains("You were not charged")), "{error}");
    // The same press again is the same answer and uses up no try.
    shop.confirm(&token, &confirmation(LOST_CARD, "press-1")).await.refused_with(402, "card_declined", "");

    let shown = shop.look(&token).await.ok();
    assert_eq!((&shown["state"], &shown["tries_left"]), (&"pending".into(), &3.into()));
    assert_eq!(shown["last_payment_error"]["decline_code"], "generic_decline");
    assert_eq!(shown["customer_details"]["name"], "Ada Lovelace");
    let charges = merchant.get("/v1/charges").await.ok();
    assert_eq!(charges["data"][0]["outcome"]["reason"], "lost_card", "the merchant knows more");

    let paid = shop.confirm(&token, &confirmation(GOOD_CARD, "press-2")).await.ok();
    assert_eq!((&paid["state"], &paid["last_payment_error"]), (&"completed".into(), &Value::Null));
    assert_eq!((world.count(CHARGES).await, world.count(CAPTURED).await), (2, 1));

    // Four tries, as on the page; then it has failed.
    let session = merchant.session().await;
    let token = token_of(&session);
    for press in ["a", "b", "c", "d"] {
        shop.confirm(&token, &confirmation(DECLINED_CARD, press)).await.refused_with(402, "card_declined", "");
    }
    shop.confirm(&token, &confirmation(GOOD_CARD, "e")).await.refused_with(400, "session_not_open", "");
    let failed = shop.look(&token).await.ok();
    assert_eq!(
        (&failed["state"], &failed["status"], &failed["tries_left"]),
        (&"failed".into(), &"expired".into(), &0.into())
    );
    assert!(failed["redirect_url"].as_str().is_some_and(|url| url.ends_with("status=failed")), "{failed}");
    world.end().await;
}

#[tokio::test]
async fn a_payer_who_must_prove_who_he_is_comes_back_to_the_merchants_own_page() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let shop = Storefront::new(&merchant);
    let return_url = "https://shop.example/checkout?cart=7";
    for (word, state) in [("approve", "completed"), ("fail", "pending"), ("cancel", "pending")] {
        let session = merchant.session().await;
        let token = token_of(&session);
        let body = confirmation_with(ASKED_CARD, "press-1", &[("/return_url", json!(return_url))]);
        let asked = shop.confirm(&token, &body).await.ok();
        assert_eq!((&asked["state"], &asked["status"]), (&"processing".into(), &"open".into()));
        let action = &asked["next_action"];
        assert_eq!(
            (&action["type"], &action["redirect_to_url"]["return_url"]),
            (&"redirect_to_url".into(), &return_url.into())
        );
        assert_eq!(shop.look(&token).await.ok()["next_action"], *action);
        // The same press again leads to the same bank; another waits.
        assert_eq!(shop.confirm(&token, &body).await.ok()["next_action"], *action);
        shop.confirm(&token, &confirmation(GOOD_CARD, "press-2")).await.refused_with(400, "session_processing", "");

        let bank = action["redirect_to_url"]["url"].as_str().expect("the bank");
        let back = answer_the_bank(bank, word).await;
        let back = back.strip_prefix(world.base()).expect("to the gateway first");
        // However the bank sends him, in whatever browser, twice: never from a form to another origin.
        let mut browser = Payer::new(world.base());
        let posted = browser.send(reqwest::Method::POST, back, Some(&[("PaRes", "forged")])).await;
        assert_eq!((posted.status, posted.header("location")), (StatusCode::SEE_OTHER, Some(back)));
        for _ in 0..2 {
            let hop = browser.visit(back).await;
            let expected = format!("{return_url}&session_id={}&status={state}", session["id"].as_str().expect("an id"));
            assert_eq!(hop.refresh_url().as_deref(), Some(expected.as_str()));
            hop.says("Back to shop.example").says("Test mode");
        }
        let shown = shop.look(&token).await.ok();
        assert_eq!((&shown["state"], &shown["next_action"]), (&state.into(), &Value::Null));
        if state == "pending" {
            assert_eq!(shown["last_payment_error"]["code"], "payment_intent_authentication_failure");
            shop.confirm(&token, &confirmation(GOOD_CARD, "press-3")).await.ok();
        }
    }
    // Without a return_url the way back is the gateway's own, as for the hosted page.
    let session = merchant.session().await;
    let asked = shop.confirm(&token_of(&session), &confirmation(ASKED_CARD, "press-1")).await.ok();
    assert_eq!(asked["next_action"]["redirect_to_url"]["return_url"], Value::Null);
    let back =
        answer_the_bank(asked["next_action"]["redirect_to_url"]["url"].as_str().expect("the bank"), "approve").await;
    let hosted = Payer::new(world.base()).visit(back.strip_prefix(world.base()).expect("to the gateway")).await;
    hosted.says("Payment complete");
    assert_eq!(world.count(CAPTURED).await, 4);
    world.end().await;
}

#[tokio::test]
async fn a_press_that_arrives_many_times_is_one_charge() {
    let world = World::with(WorldOptions { replicas: 2, ..WorldOptions::default() }).await;
    let merchant = world.merchant().await;
    let session = merchant.session().await;
    let token = token_of(&session);
    let bodies =
        [confirmation(GOOD_CARD, "press-1"), confirmation_with(GOOD_CARD, "x", &[("/attempt_key", Value::Null)])];
    let presses = (0..20).map(|number| {
        let shop = Storefront::new(&merchant.at(&world.replicas[number % 2].base));
        let mut request = shop.request(reqwest::Method::POST, &token, "/confirm").json(&bodies[number / 10]);
        if number >= 10 {
            request = request.header("Idempotency-Key", "press-1");
        }
        async move { shop.send(request).await.ok() }
    });
    for answer in futures_util::future::join_all(presses).await {
        let state = answer["state"].as_str().expect("a state");
        assert!(["processing", "completed"].contains(&state), "{answer}");
    }
    let shop = Storefront::new(&merchant);
    assert_eq!(shop.confirm(&token, &bodies[0]).await.ok()["state"], "completed");
    shop.confirm(&token, &confirmation(GOOD_CARD, "press-2")).await.refused_with(400, "session_not_open", "");
    assert_eq!((world.count(CHARGES).await, world.count(CAPTURED).await), (1, 1));
    world.end().await;
}

#[tokio::test]
async fn a_press_that_was_made_with_one_card_says_nothing_of_another() {
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    let (shop, session) = (Storefront::new(&merchant), merchant.session().await);
    let token = token_of(&session);
    shop.confirm(&token, &confirmation(DECLINED_CARD, "press")).await.refused_with(402, "card_declined", "");
    let other = shop.confirm(&token, &confirmation(GOOD_CARD, "press")).await.refused(400);
    assert_eq!(other["type"], "idempotency_error", "{other}");
    shop.confirm(&token, &confirmation(DECLINED_CARD, "press")).await.refused_with(402, "card_declined", "");
    assert_eq!(world.count(CHARGES).await, 1);
    assert_eq!(shop.confirm(&token, &confirmation(GOOD_CARD, "another press")).await.ok()["state"], "completed");
    world.end().await;
}

#[tokio::test]
async fn the_hosted_page_and_the_merchants_page_racing_charge_once() {
    let world = World::with(WorldOptions { replicas: 2, ..WorldOptions::default() }).await;
    let merchant = world.merchant().await;
    for round in 1..=10 {
        let session = merchant.session().await;
        let token = token_of(&session);
        let mut payer = world.payer().at(&world.replicas[round % 2].base);
        let (path, form) = payer.ready(&session, GOOD_CARD).await;
        let shop = Storefront::new(&merchant);
        let body = confirmation(GOOD_CARD, "press-1");
        let (page, answer) = tokio::join!(payer.press(&path, &form), shop.confirm(&token, &body));
        assert_eq!(page.status, StatusCode::SEE_OTHER);
        if answer.status != StatusCode::OK {
            let code = answer.refused(400)["code"].clone();
            assert!(["session_processing", "session_not_open"].contains(&code.as_str().unwrap_or_default()), "{code}");
        }
        assert_eq!(world.count(CAPTURED).await, i64::try_from(round).expect("small"));
        assert_eq!(merchant.read(&session).await["status"], "complete");
    }
    assert_eq!(world.count(CHARGES).await, 10);
    world.end().await;
}

#[tokio::test]
async fn a_session_that_has_ended_shows_how_and_takes_no_card() {
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    let shop = Storefront::new(&merchant);
    let expired = merchant.session().await;
    let id = expired["id"].as_str().expect("an id");
    merchant.post(&format!("/v1/checkout/sessions/{id}/expire"), &[]).await.ok();
    let cancelled = merchant.session().await;
    world.payer().cancel(&cancelled).await;
    let overdue = merchant.session().await;
    world.advance(chrono::Duration::minutes(31));
    for (session, state) in [(&expired, "expired"), (&cancelled, "cancelled"), (&overdue, "expired")] {
        let token = token_of(session);
        let shown = shop.look(&token).await.ok();
        assert_eq!(
            (&shown["state"], &shown["status"], &shown["url"]),
            (&state.into(), &"expired".into(), &Value::Null)
        );
        assert_eq!(
            shown["expires_in"].as_i64() == Some(0),
            world.now() >= shown["expires_at"].as_i64().expect("a time")
        );
        assert!(shown["redirect_url"].as_str().is_some_and(|url| url.ends_with(&format!("status={state}"))), "{shown}");
        shop.confirm(&token, &confirmation(GOOD_CARD, "press-1")).await.refused_with(400, "session_not_open", "");
    }
    assert_eq!(world.count(CHARGES).await, 0);
    assert_eq!(world.count("select count(*) from payer_return").await, 0);
    world.end().await;
}
