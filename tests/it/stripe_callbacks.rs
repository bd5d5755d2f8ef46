//! Messages from Stripe: who may send them, and that they decide nothing by themselves.

use chrono::Duration;
use reqwest::Method;
use serde_json::{Value, json};

use crate::fault_proxy::{Fault, FaultProxy};
use crate::localstripe::{LocalStripe, REFUSED};
use crate::merchant::http_client;
use crate::outside::{node, run};
use crate::payer::GOOD_CARD;
use crate::stripe_stories::settings;
use crate::world::{World, WorldOptions, eventually};

/// Stripe's secrets are any text to us.
pub const SECRET: &str = "whsec_f00dfeedf00dfeedf00dfeedf00dfeedf00dfeedf00dfeedf00dfeedf00dfeed";
const OLD_SECRET: &str = "whsec_old";
const MANUAL: (&str, &str) = ("payment_intent_data[capture_method]", "manual");

async fn rig() -> (World, FaultProxy, LocalStripe) {
    rig_with(true).await
}

pub async fn rig_with(worker: bool) -> (World, FaultProxy, LocalStripe) {
    let localstripe = LocalStripe::start().await;
    let proxy = FaultProxy::start(&localstripe.base, &REFUSED).await;
    let mut settings = settings(&proxy.base);
    settings.push(("STRIPE_CALLBACK_SECRETS", format!("{OLD_SECRET},{SECRET}")));
    let world = World::with(WorldOptions { settings, worker, ..WorldOptions::default() }).await;
    (world, proxy, localstripe)
}

/// Signs messages with Stripe's own SDK.
pub async fn signed(messages: &[(&str, &str, i64)]) -> Vec<String> {
    let lines: String = messages
        .iter()
        .map(|(payload, secret, timestamp)| {
            format!("{}\n", json!({ "payload": payload, "secret": secret, "timestamp": timestamp }))
        })
        .collect();
    let facts = run(node("sign_callback.mjs"), lines).await;
    let headers = facts["headers"].as_array().expect("a list").iter();
    headers.map(|header| header.as_str().expect("a header").to_owned()).collect()
}

pub async fn send(world: &World, path: &str, body: &str, headers: &[(&str, &str)]) -> u16 {
    let mut request = http_client().post(format!("{}{path}", world.base())).body(body.to_owned());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send().await.expect("the gateway answers").status().as_u16()
}

fn event(kind: &str, charge: &str) -> String {
    let object = json!({ "object": "payment_intent", "id": "pi_1", "status": "succeeded", "amount_received": 1_000_000,
        "metadata": { "checkstand_charge": charge } });
    json!({ "object": "event", "id": "evt_1", "type": kind, "data": { "object": object } }).to_string()
}

#[tokio::test]
async fn only_stripes_signature_opens_the_door_and_only_for_some_minutes() {
    let (world, proxy, _localstripe) = rig().await;
    let now = world.now();
    let body = event("payment_intent.succeeded", "ch_nobody");
    let other = event("payment_intent.succeeded", "ch_somebody");
    let headers = signed(&[
        (&body, SECRET, now),
        (&body, OLD_SECRET, now),
        (&body, "whsec_of_somebody_else", now),
        (&body, SECRET, now - 301),
        (&body, SECRET, now + 360),
        ("{\"object\":", SECRET, now),
        ("{\"object\":\"event\"}", SECRET, now),
    ])
    .await;
    let [good, old, wrong, stale, early, broken, empty] = headers.as_slice() else { panic!("seven headers") };
    for (what, body, header, expected) in [
        ("a good one about no charge of ours", body.as_str(), good, 200),
        ("one with the old secret", &body, old, 200),
        ("one of somebody else", &body, wrong, 400),
        ("a stale one", &body, stale, 400),
        ("one from the future", &body, early, 400),
        ("one whose body was changed", &other, good, 400),
        ("one that cannot be read", "{\"object\":", broken, 400),
        ("one about nothing", "{\"object\":\"event\"}", empty, 200),
    ] {
        assert_eq!(send(&world, "/callbacks/stripe", body, &[("stripe-signature", header)]).await, expected, "{what}");
    }
    let good = good.as_str();
    assert_eq!(send(&world, "/callbacks/stripe", &body, &[]).await, 400, "no signature");
    let twice = [("stripe-signature", good), ("stripe-signature", good)];
    assert_eq!(send(&world, "/callbacks/stripe", &body, &twice).await, 400, "two headers");
    assert_eq!(send(&world, "/callbacks/simulator", &body, &[("stripe-signature", good)]).await, 404);
    assert_eq!(send(&world, "/callbacks/nobody", &body, &[("stripe-signature", good)]).await, 404);
    let long = " ".repeat(300 * 1024);
    assert_eq!(send(&world, "/callbacks/stripe", &long, &[("stripe-signature", good)]).await, 413);
    // Another site's form could not do more than that either.
    let from_elsewhere =
        [("stripe-signature", good), ("origin", "https://evil.example"), ("sec-fetch-site", "cross-site")];
    assert_eq!(send(&world, "/callbacks/stripe", &body, &from_elsewhere).await, 200);
    let get = http_client().get(format!("{}/callbacks/stripe", world.base())).send().await.expect("an answer");
    assert_eq!(get.status().as_u16(), 405);
    assert!(proxy.recorded().is_empty(), "nothing of this was worth a question to Stripe");
    world.end().await;
}

#[tokio::test]
async fn without_secrets_there_is_no_door() {
    let world = World::with(WorldOptions { settings: settings("http://127.0.0.1:9"), ..WorldOptions::default() }).await;
    let body = event("payment_intent.succeeded", "ch_nobody");
    let header = signed(&[(&body, OLD_SECRET, world.now())]).await;
    assert_eq!(send(&world, "/callbacks/stripe", &body, &[("stripe-signature", &header[0])]).await, 404);
    world.end().await;
}

#[tokio::test]
async fn a_message_of_stripes_own_settles_a_payment_whose_answer_was_lost() {
    // Without the worker there is no sweep that could ask by itself.
    let (world, proxy, localstripe) = rig_with(false).await;
    localstripe.send_events_to(&format!("{}/callbacks/stripe", world.base()), SECRET).await;
    let merchant = world.merchant().await;
    let session = merchant.session().await;
    proxy.strike(Method::POST, "/confirm", Fault::CutAfter, 1);
    world.payer().pay(&session, GOOD_CARD).await;
    eventually("the session to be completed", async || {
        (merchant.read(&session).await["state"] == "completed").then_some(())
    })
    .await;
    localstripe.assert_one_charge_each().await;
    world.end().await;
}

async fn reserved(world: &World, localstripe: &LocalStripe) -> (crate::merchant::Merchant, String, Value) {
    let merchant = world.merchant().await;
    let session = merchant.session_with(&[MANUAL]).await;
    world.payer().pay(&session, GOOD_CARD).await.says("is reserved");
    let session = merchant.read(&session).await;
    let path = format!("/v1/payment_intents/{}", session["payment_intent"].as_str().expect("a payment"));
    (merchant, path, localstripe.intent().await)
}

#[tokio::test]
async fn a_success_announced_of_a_cancelled_intent_is_no_money() {
    let (world, _proxy, localstripe) = rig().await;
    let (merchant, path, intent) = reserved(&world, &localstripe).await;
    let at_stripe = format!("/v1/payment_intents/{}", intent["id"].as_str().expect("an id"));
    localstripe.ask(Method::POST, &format!("{at_stripe}/cancel"), &[]).await;
    localstripe.send_events_to(&format!("{}/callbacks/stripe", world.base()), SECRET).await;
    // localstripe captures what was cancelled and announces payment_intent.succeeded, signed, with the status `canceled`.
    let (status, captured) = localstripe.ask(Method::POST, &format!("{at_stripe}/capture"), &[]).await;
    assert_eq!((status, &captured["status"]), (200, &"canceled".into()));
    let given_up = eventually("the payment to be given up", async || {
        let payment = merchant.get(&path).await.ok();
        (payment["status"] == "canceled").then_some(payment)
    })
    .await;
    assert_eq!(given_up["amount_received"], 0);
    let earned = "select coalesce(sum(amount), 0)::int8 from ledger_entry where account = 'merchant'";
    assert_eq!(world.count(earned).await, 0);
    merchant.post(&format!("{path}/capture"), &[]).await.refused(400);
    world.end().await;
}

#[tokio::test]
async fn a_reservation_that_expired_at_stripe_is_booked_as_gone_and_told() {
    let (world, _proxy, localstripe) = rig().await;
    let (merchant, path, intent) = reserved(&world, &localstripe).await;
    let receiver = world.receiver(&merchant).await;
    let id = intent["id"].as_str().expect("an id");
    let charge = intent["metadata"]["checkstand_charge"].as_str().expect("our charge");
    // A message that comes while the money is still reserved changes nothing, whatever it claims.
    let lie = event("payment_intent.canceled", charge);
    let header = signed(&[(&lie, SECRET, world.now())]).await;
    assert_eq!(send(&world, "/callbacks/stripe", &lie, &[("stripe-signature", &header[0])]).await, 200);
    assert_eq!(merchant.get(&path).await.ok()["status"], "requires_capture");

    world.advance(Duration::days(7));
    localstripe.ask(Method::POST, &format!("/v1/payment_intents/{id}/cancel"), &[]).await;
    let told = event("payment_intent.canceled", charge);
    let header = signed(&[(&told, SECRET, world.now())]).await;
    for _ in 0..2 {
        assert_eq!(send(&world, "/callbacks/stripe", &told, &[("stripe-signature", &header[0])]).await, 200);
    }
    assert_eq!(merchant.get(&path).await.ok()["status"], "canceled");
    receiver.wait_for("payment_intent.canceled").await;
    assert_eq!(world.count("select count(*) from event where type = 'payment_intent.canceled'").await, 1);
    world.end().await;
}
