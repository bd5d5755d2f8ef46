//! A signing secret is replaced without losing a delivery: old and new sign side by side for the hours that were
//! asked for, to the libraries that merchants verify with, and then the new one alone. And the key
//! pair that may sign beside it, verified by Node's own Ed25519.

use chrono::Duration;
use serde_json::{Value, json};

use crate::merchant::Merchant;
use crate::outside::{node, python, run};
use crate::receiver::{Delivery, Receiver};
use crate::world::World;

async fn rotate(merchant: &Merchant, receiver: &Receiver, fields: &[(&str, &str)]) -> Value {
    let path = format!("/v1/webhook_endpoints/{}/rotate_secret", receiver.endpoint_id);
    merchant.post(&path, fields).await.ok()
}

async fn next_delivery(merchant: &Merchant, receiver: &Receiver) -> Delivery {
    let session = merchant.session().await;
    let arrived =
        receiver.wait_until("a session's event", |all| all.iter().any(|one| session["id"] == one.object_id()));
    let found = arrived.await.into_iter().find(|one| session["id"] == one.object_id());
    found.expect("it was waited for")
}

/// Both libraries of both languages, given a line for each pair of delivery and secret.
async fn verifies(lines: &[Value]) {
    let input: String = lines.iter().map(|line| format!("{line}\n")).collect();
    for verifier in [node("verify_webhook.mjs"), python("verify_webhook.py")] {
        assert_eq!(run(verifier, input.clone()).await["verified"], lines.len());
    }
}

fn line(delivery: &Delivery, secret: &str, verdict: &str) -> Value {
    json!({ "body": delivery.body, "headers": delivery.headers, "secret": secret, "expect": verdict })
}

/// Signed by a clock that the story has moved.
fn by_moved_clock(mut line: Value) -> Value {
    line["moved_clock"] = true.into();
    line
}

#[tokio::test]
async fn while_a_secret_is_replaced_both_sign_and_afterwards_the_new_one_alone() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    let old = receiver.secret.clone();
    let before = next_delivery(&merchant, &receiver).await;

    let rotated = rotate(&merchant, &receiver, &[("overlap_hours", "2")]).await;
    let new = rotated["secret"].as_str().expect("the new secret is shown").to_owned();
    assert_ne!(new, old);
    assert_eq!(rotated["previous_secret_expires_at"].as_i64().expect("a time") - world.now(), 2 * 3600);
    let path = format!("/v1/webhook_endpoints/{}", receiver.endpoint_id);
    let read = merchant.get(&path).await.ok();
    assert_eq!((read.get("secret"), &read["id"]), (None, &rotated["id"]), "a secret is shown once");

    let during = next_delivery(&merchant, &receiver).await;
    assert_eq!(during.headers["webhook-signature"].split(' ').count(), 2);
    assert_eq!(during.headers["stripe-signature"].matches(",v1=").count(), 2);
    world.advance(Duration::minutes(119));
    let late = next_delivery(&merchant, &receiver).await;
    assert_eq!(late.headers["webhook-signature"].split(' ').count(), 2);
    world.advance(Duration::minutes(2));
    // What signed so far is remembered for two seconds at most; by its own clock it stops in time all the same.
    let after = next_delivery(&merchant, &receiver).await;
    assert_eq!(after.headers["webhook-signature"].split(' ').count(), 1);
    assert_eq!(after.headers["stripe-signature"].matches("v1=").count(), 1);
    assert_eq!(merchant.get(&path).await.ok()["previous_secret_expires_at"], Value::Null);
    verifies(&[
        line(&before, &old, "ok"),
        line(&before, &new, "refused"),
        line(&during, &old, "ok"),
        line(&during, &new, "ok"),
        by_moved_clock(line(&after, &new, "ok")),
        by_moved_clock(line(&after, &old, "refused")),
    ])
    .await;
    world.end().await;
}

#[tokio::test]
async fn without_an_overlap_the_old_secret_stops_at_once_and_a_second_rotation_forgets_the_first() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    let secrets: Vec<String> = {
        let mut secrets = vec![receiver.secret.clone()];
        for hours in ["0", "24", "168"] {
            let rotated = rotate(&merchant, &receiver, &[("overlap_hours", hours)]).await;
            secrets.push(rotated["secret"].as_str().expect("a secret").to_owned());
            let signatures = next_delivery(&merchant, &receiver).await.headers["webhook-signature"].clone();
            assert_eq!(signatures.split(' ').count(), if hours == "0" { 1 } else { 2 }, "{hours}");
        }
        secrets
    };
    let last = next_delivery(&merchant, &receiver).await;
    verifies(&[
        line(&last, &secrets[3], "ok"),
        line(&last, &secrets[2], "ok"),
        line(&last, &secrets[1], "refused"),
        line(&last, &secrets[0], "refused"),
    ])
    .await;

    let path = format!("/v1/webhook_endpoints/{}/rotate_secret", receiver.endpoint_id);
    for hours in ["-1", "169", "1.5", "soon"] {
        let refused = merchant.post(&path, &[("overlap_hours", hours)]).await;
        refused.refused_with(400, "parameter_invalid_integer", "overlap_hours");
    }
    merchant.post(&path, &[("secret", "whsec_mine")]).await.refused_with(400, "parameter_unknown", "secret");
    let stranger = world.merchant().await;
    stranger.post(&path, &[]).await.refused_with(404, "resource_missing", "id");
    // The same request again is the same rotation.
    let first = merchant.post_with_key(&path, &[], "rotate-1").await.ok();
    assert_eq!(merchant.post_with_key(&path, &[], "rotate-1").await.ok(), first);
    world.end().await;
}

#[tokio::test]
async fn a_key_pair_signs_beside_the_secret_and_is_replaced_with_it() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let mut receiver = world.receiver(&merchant).await;
    let path = format!("/v1/webhook_endpoints/{}", receiver.endpoint_id);
    let changed = merchant.post(&path, &[("ed25519", "true")]).await.ok();
    let first_key = changed["public_key"].as_str().expect("a public key").to_owned();
    assert!(first_key.starts_with("whpk_") && first_key.len() == 49, "{first_key}");
    // Asked for again it stays the same.
    assert_eq!(merchant.post(&path, &[("ed25519", "true")]).await.ok()["public_key"], first_key.as_str());

    let one = next_delivery(&merchant, &receiver).await;
    let signature = one.headers["webhook-signature"].clone();
    let versions = |text: &str| -> Vec<String> {
        text.split(' ').map(|token| token.split(',').next().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(versions(&signature), ["v1", "v1a"]);
    receiver.believes(&one, world.app().clock.now());

    let rotated = rotate(&merchant, &receiver, &[]).await;
    let second_key = rotated["public_key"].as_str().expect("a public key").to_owned();
    assert_ne!(second_key, first_key);
    let old = std::mem::replace(&mut receiver.secret, rotated["secret"].as_str().expect("a secret").to_owned());
    let two = next_delivery(&merchant, &receiver).await;
    assert_eq!(versions(&two.headers["webhook-signature"]), ["v1", "v1", "v1a", "v1a"]);

    let with_key = |delivery: &Delivery, secret: &str, key: &str, verdict: &str| {
        let mut line = line(delivery, secret, "ok");
        line["public_key"] = key.into();
        line["expect_public_key"] = verdict.into();
        line
    };
    verifies(&[
        with_key(&one, &old, &first_key, "ok"),
        with_key(&one, &old, &second_key, "refused"),
        with_key(&two, &old, &first_key, "ok"),
        with_key(&two, &receiver.secret, &second_key, "ok"),
    ])
    .await;

    let without = merchant.post(&path, &[("ed25519", "false")]).await.ok();
    assert_eq!(without["public_key"], Value::Null);
    let three = next_delivery(&merchant, &receiver).await;
    assert_eq!(versions(&three.headers["webhook-signature"]), ["v1", "v1"]);
    // The private half is nowhere in clear.
    let seeds = world.count("select count(*) from webhook_endpoint where key_seed_sealed is not null").await;
    assert_eq!(seeds, 0);
    world.end().await;
}
