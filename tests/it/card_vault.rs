//! The card vault: numbers sealed under the operator's key, opened for the customer they belong to,
//! sealed anew, given up. Off unless there is a key.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use checkstand::ops::card_vault::{self, Rotated};

use crate::customers_api::id;
use crate::payer::{Card, GOOD_CARD};
use crate::saved_cards::{choose, customer_with_card, listed, methods_of, session_for, with};
use crate::world::{World, WorldOptions};

fn key(seed: u8) -> String {
    STANDARD.encode([seed; 32])
}

async fn world_with_vault() -> World {
    World::with(WorldOptions { settings: vec![("CARD_VAULT_KEYS", key(1))], ..WorldOptions::default() }).await
}

/// Everything in the tables of ours, as text; bytes in hexadecimal.
async fn whole_database(world: &World) -> String {
    let mut all = String::new();
    for table in ["payment_method", "charge", "event", "checkout_session", "customer", "payment"] {
        let sql = format!("select coalesce(string_agg(to_jsonb(t)::text, ' '), '') from {table} t where $1 <> ''");
        let mut database = world.database().await;
        let text: String =
            sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).bind("x").fetch_one(&mut database).await.expect(table);
        all.push_str(&text);
    }
    all
}

const SEALED: &str = "select count(*) from payment_method where vault_sealed is not null";

#[tokio::test]
async fn a_number_out_of_the_vault_is_charged_with_a_fresh_security_code() {
    let world = world_with_vault().await;
    let merchant = world.merchant().await;
    let (grace, method) = customer_with_card(&world, &merchant, GOOD_CARD).await;
    assert_eq!(world.count(SEALED).await, 1);
    let everything = whole_database(&world).await;
    for number in ["4242424242424242", &hex::encode("4242424242424242")] {
        assert!(!everything.contains(number), "the database holds the number");
    }
    // As if the provider that remembers the card were gone.
    world.execute("update payment_method set provider_token = null").await;
    let session = session_for(&merchant, &grace, &[]).await;
    let mut payer = world.payer();
    let page = payer.open(&session).await;
    page.says("CVC of the saved card");
    let kept = listed(&page);
    for code in ["", "12", "12345"] {
        let refused = payer.submit(&page, &with(choose(&page, &kept[0].value), "saved_card_cvc", code)).await;
        refused.says("Enter the security code");
        assert!(listed(&refused)[0].checked, "the choice is kept");
    }
    payer.submit(&page, &with(choose(&page, &kept[0].value), "saved_card_cvc", "123")).await.says("Payment complete");
    let charges = merchant.get("/v1/charges?limit=1").await.ok();
    assert_eq!(charges["data"][0]["payment_method"], method["id"]);
    assert_eq!(charges["data"][0]["payment_method_details"]["card"]["checks"]["cvc_check"], "pass");

    // Detached, the number is gone and not only hidden.
    merchant.post(&format!("/v1/payment_methods/{}/detach", id(&method)), &[]).await.ok();
    assert_eq!(world.count(SEALED).await, 0);
    assert_eq!(world.count("select count(*) from payment_method where vault_key is not null").await, 0);
    world.end().await;
}

#[tokio::test]
async fn without_a_key_no_number_is_kept() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    customer_with_card(&world, &merchant, GOOD_CARD).await;
    assert_eq!(world.count(SEALED).await, 0);
    assert_eq!(world.count("select count(*) from payment_method where provider_token is not null").await, 1);
    world.end().await;
}

#[tokio::test]
async fn a_declined_card_leaves_no_sealed_number_behind() {
    let world = world_with_vault().await;
    let merchant = world.merchant().await;
    let session = merchant
        .session_with(&[("customer_creation", "always"), ("payment_intent_data[setup_future_usage]", "on_session")])
        .await;
    let mut payer = world.payer();
    payer.pay(&session, crate::payer::DECLINED_CARD).await.says("The payment did not go through");
    assert_eq!(world.count("select count(*) from payment_method").await, 0);
    world.end().await;
}

#[tokio::test]
async fn a_number_does_not_open_in_another_row() {
    let world = world_with_vault().await;
    let merchant = world.merchant().await;
    let (grace, _) = customer_with_card(&world, &merchant, GOOD_CARD).await;
    let other_card = Card { number: "5555 5555 5555 4444", ..GOOD_CARD };
    let (mallory, _) = customer_with_card(&world, &merchant, other_card).await;
    // Somebody who can write to the database gives his customer the number of another.
    world
        .execute(
            "update payment_method m set provider_token = null, vault_sealed = o.vault_sealed
             from payment_method o where o.id <> m.id",
        )
        .await;
    for customer in [&grace, &mallory] {
        let session = session_for(&merchant, customer, &[]).await;
        let mut payer = world.payer();
        let page = payer.open(&session).await;
        let kept = listed(&page);
        let answer = payer.submit(&page, &with(choose(&page, &kept[0].value), "saved_card_cvc", "123")).await;
        assert!(answer.has_card_form(), "{}", answer.text());
    }
    assert_eq!(world.count("select count(*) from charge").await, 2);
    world.end().await;
}

#[tokio::test]
async fn keys_are_rotated_in_steps_that_can_be_cut_off_and_a_missing_one_is_named() {
    let mut world = world_with_vault().await;
    let merchant = world.merchant().await;
    let (grace, _) = customer_with_card(&world, &merchant, GOOD_CARD).await;
    for number in ["5555 5555 5555 4444", "4000 0566 5566 5556"] {
        customer_with_card(&world, &merchant, Card { number, ..GOOD_CARD }).await;
    }
    let old = card_vault::keys(world.app()).await.expect("keys")[0].key.clone();
    card_vault::refuse_missing_keys(world.app()).await.expect("nothing is missing");

    // A gateway with a new key in front opens what the old key sealed.
    world.set("CARD_VAULT_KEYS", &format!("{},{}", key(2), key(1)));
    world.add_replica().await;
    let app = world.replicas[1].app.clone();
    let in_use = card_vault::keys(&app).await.expect("keys");
    assert_eq!(in_use.iter().map(|key| (key.numbers, key.is_current)).collect::<Vec<_>>(), [(0, true), (3, false)]);
    // One step done and the next never begun; then the whole once more, twice.
    let first = world.text("select min(id) from payment_method where $1 <> ''", "x").await;
    let (done, _) = card_vault::rotate_batch(&app, &old, Some(&first)).await.expect("a step");
    assert_eq!(done, Rotated { sealed: 2, stuck: 0 });
    assert_eq!(card_vault::rotate(&app).await.expect("rotated"), Rotated { sealed: 1, stuck: 0 });
    assert_eq!(card_vault::rotate(&app).await.expect("rotated"), Rotated::default());
    let in_use = card_vault::keys(&app).await.expect("keys");
    assert_eq!(in_use.iter().map(|key| key.numbers).collect::<Vec<_>>(), [3, 0]);

    // With the old key gone everything still opens; the gateway that has only the old one says what it lacks.
    world.set("CARD_VAULT_KEYS", &key(2));
    world.add_replica().await;
    card_vault::refuse_missing_keys(&world.replicas[2].app).await.expect("nothing is missing");
    let refused = card_vault::refuse_missing_keys(world.app()).await.expect_err("the new key is not known there");
    let new = &in_use[0].key;
    assert!(format!("{refused:?}").contains(&format!("{new} (3 card numbers)")), "{refused:?}");
    assert_eq!(card_vault::rotate(world.app()).await.expect("nothing opens"), Rotated { sealed: 0, stuck: 3 });
    world.execute("update payment_method set provider_token = null").await;
    let session = session_for(&merchant, &grace, &[]).await;
    let mut payer = world.payer().at(&world.replicas[2].base);
    let page = payer.open(&session).await;
    let form = with(choose(&page, &listed(&page)[0].value), "saved_card_cvc", "123");
    payer.submit(&page, &form).await.says("Payment complete");

    // A key that is lost: its numbers are given up by name, its cards are no longer offered.
    card_vault::forget(&world.replicas[2].app, new).await.expect_err("that key is there");
    assert_eq!(card_vault::forget(world.app(), new).await.expect("erased"), 3);
    card_vault::refuse_missing_keys(world.app()).await.expect("nothing is missing any more");
    let session = session_for(&merchant, &grace, &[]).await;
    assert!(listed(&world.payer().open(&session).await).is_empty());
    assert_eq!(methods_of(&merchant, &grace).await.len(), 1);
    world.end().await;
}
