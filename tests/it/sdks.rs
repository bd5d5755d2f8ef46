//! A merchant's backend as it really is: Stripe's own SDKs and the webhook libraries that people use,
//! unmodified, against the gateway. What they check in detail stands in `tests/sdk`.

use serde_json::json;
use tokio::process::Command;

use crate::outside::{node, python, run};
use crate::payer::GOOD_CARD;
use crate::world::World;

/// Checks that each SDK's story makes at the least: a story that became empty must not pass.
const CHECKS_MIN: u64 = 57;

async fn the_whole_story(mut backend: Command) {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let (customer, _) = crate::saved_cards::customer_with_card(&world, &merchant, GOOD_CARD).await;
    backend
        .env("CHECKSTAND_CUSTOMER", customer["id"].as_str().expect("an id"))
        .env("CHECKSTAND_BASE", world.base())
        .env("CHECKSTAND_KEY", &merchant.key)
        .env("CHECKSTAND_SUCCESS_URL", "https://shop.example/thanks?id={CHECKOUT_SESSION_ID}")
        .env("CHECKSTAND_CANCEL_URL", "https://shop.example/cart");
    let facts = run(backend, String::new()).await;
    assert!(facts["checks"].as_u64().is_some_and(|checks| checks >= CHECKS_MIN), "{facts}");
    world.end().await;
}

#[tokio::test]
async fn the_official_node_sdk_works_unmodified() {
    the_whole_story(node("stripe_sdk.mjs")).await;
}

#[tokio::test]
async fn the_official_python_sdk_works_unmodified() {
    the_whole_story(python("stripe_sdk.py")).await;
}

#[tokio::test]
async fn webhooks_pass_the_libraries_that_merchants_verify_them_with() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    let paid = merchant.session_with(&[("metadata[note]", "Café & “crème” 🫖 </script>")]).await;
    world.payer().pay(&paid, GOOD_CARD).await;
    let left = merchant.session().await;
    let id = left["id"].as_str().expect("an id");
    merchant.post(&format!("/v1/checkout/sessions/{id}/expire"), &[]).await.ok();

    let wanted = ["checkout.session.created", "checkout.session.completed", "checkout.session.expired"];
    let deliveries = receiver
        .wait_until("a session created, one completed, one expired", |all| {
            wanted.iter().all(|kind| all.iter().any(|delivery| delivery.kind() == *kind))
        })
        .await;
    let lines: String = deliveries
        .iter()
        .map(|delivery| {
            let line = json!({ "body": delivery.body, "headers": delivery.headers, "secret": receiver.secret });
            format!("{line}\n")
        })
        .collect();
    for verifier in [node("verify_webhook.mjs"), python("verify_webhook.py")] {
        let facts = run(verifier, lines.clone()).await;
        assert_eq!(facts["verified"], deliveries.len(), "{facts}");
    }
    world.end().await;
}
