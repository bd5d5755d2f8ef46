//! Kept cards on the merchant's own page: offered to whoever has the link, as the hosted page offers them, and
//! charged by their id.

use serde_json::{Value, json};

use crate::customers_api::id;
use crate::fraud::charge_of;
use crate::payer::GOOD_CARD;
use crate::saved_cards::{customer_with_card, session_for};
use crate::storefront::{Storefront, confirmation_with, token_of};
use crate::world::{World, WorldOptions};

const CHARGES: &str = "select count(*) from charge";

fn kept(method: &Value, attempt: &str) -> Value {
    json!({ "attempt_key": attempt, "payment_method": method["id"] })
}

#[tokio::test]
async fn a_returning_payer_pays_on_the_merchants_own_page_without_typing_anything() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let (grace, card) = customer_with_card(&world, &merchant, GOOD_CARD).await;
    let session = session_for(&merchant, &grace, &[]).await;
    let (shop, token) = (Storefront::new(&merchant), token_of(&session));
    let shown = shop.look(&token).await;
    for private in ["grace@", "Hopper", "Lovelace", id(&grace), "simcard", "fingerprint"] {
        assert!(!shown.text.contains(private), "{private}: {}", shown.text);
    }
    let offered = json!([{
        "id": card["id"],
        "type": "card",
        "card": { "brand": "visa", "exp_month": 12, "exp_year": 2049, "last4": "4242" },
        "expired": false,
        "has_billing_address": false,
        "requires_cvc": false,
    }]);
    assert_eq!(shown.ok()["saved_payment_methods"], offered);
    let paid = shop.confirm(&token, &kept(&card, "press-1")).await.ok();
    assert_eq!((&paid["state"], &paid["saved_payment_methods"]), (&"completed".into(), &json!([])));
    assert_eq!(paid["customer_details"], Value::Null, "who has the link need not learn who it is");
    assert_eq!(shop.confirm(&token, &kept(&card, "press-1")).await.ok()["state"], "completed");
    let charge = charge_of(&merchant, &session).await;
    assert_eq!((&charge["payment_method"], &charge["customer"]), (&card["id"], &grace["id"]));
    assert_eq!(
        (&charge["billing_details"]["email"], &charge["billing_details"]["name"]),
        (&"grace@navy.example".into(), &"Ada Lovelace".into())
    );
    assert_eq!(world.count(CHARGES).await, 2, "the one that kept it, and this one");
    world.end().await;
}

#[tokio::test]
async fn only_a_card_that_the_session_offers_is_charged() {
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    let (grace, card) = customer_with_card(&world, &merchant, GOOD_CARD).await;
    let (_, foreign) = customer_with_card(&world, &merchant, GOOD_CARD).await;
    let session = session_for(&merchant, &grace, &[]).await;
    let (shop, token) = (Storefront::new(&merchant), token_of(&session));
    for (session, method) in
        [(&session, &foreign), (&merchant.session().await, &card), (&session, &json!({"id": "pm_x"}))]
    {
        let refused = shop.confirm(&token_of(session), &kept(method, "press")).await;
        refused.refused_with(400, "payment_method_unusable", "payment_method");
    }
    let limited =
        session_for(&merchant, &grace, &[("saved_payment_method_options[allow_redisplay_filters][]", "limited")]).await;
    assert_eq!(shop.look(&token_of(&limited)).await.ok()["saved_payment_methods"], json!([]));
    let refused = shop.confirm(&token_of(&limited), &kept(&card, "press")).await;
    refused.refused_with(400, "payment_method_unusable", "payment_method");
    let both = confirmation_with(GOOD_CARD, "press", &[("/payment_method", card["id"].clone())]);
    shop.confirm(&token, &both).await.refused_with(400, "parameters_exclusive", "payment_method");
    let neither = json!({ "attempt_key": "press" });
    shop.confirm(&token, &neither).await.refused_with(400, "parameter_missing", "payment_method_data");
    let code = json!({ "card": { "cvc": "123" } });
    let typed = confirmation_with(GOOD_CARD, "press", &[("/payment_method_options", code)]);
    shop.confirm(&token, &typed).await.refused_with(400, "parameters_exclusive", "payment_method_options");
    let elsewhere = confirmation_with(GOOD_CARD, "press", &[]);
    let refused = shop.confirm(&token, &elsewhere).await;
    assert!(!refused.text.contains("grace@"), "{}", refused.text);
    refused.refused_with(400, "parameter_invalid", "payer[email]");
    assert_eq!(world.count(CHARGES).await, 2);
    world.end().await;
}

#[tokio::test]
async fn a_card_out_of_the_vault_needs_its_security_code_again() {
    let key = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, [7; 32]);
    let settings = vec![("CARD_VAULT_KEYS", key)];
    let world = World::with(WorldOptions { settings, ..WorldOptions::default() }).await;
    let merchant = world.merchant().await;
    let (grace, card) = customer_with_card(&world, &merchant, GOOD_CARD).await;
    world.execute("update payment_method set provider_token = null").await;
    let session = session_for(&merchant, &grace, &[]).await;
    let (shop, token) = (Storefront::new(&merchant), token_of(&session));
    assert_eq!(shop.look(&token).await.ok()["saved_payment_methods"][0]["requires_cvc"], true);
    let with_code = |cvc: &str| {
        let mut body = kept(&card, "press");
        body["payment_method_options"] = json!({ "card": { "cvc": cvc } });
        body
    };
    let param = "payment_method_options[card][cvc]";
    shop.confirm(&token, &kept(&card, "press")).await.refused_with(400, "parameter_missing", param);
    shop.confirm(&token, &with_code("12")).await.refused_with(402, "invalid_cvc", param);
    assert_eq!(shop.confirm(&token, &with_code("123")).await.ok()["state"], "completed");
    let charge = charge_of(&merchant, &session).await;
    assert_eq!(charge["payment_method"], card["id"]);
    world.end().await;
}
