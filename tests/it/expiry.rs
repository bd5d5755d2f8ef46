//! Sessions end at their deadline by themselves: the merchant hears it once, however many are due and
//! however many replicas look; a payment that is under way is waited for.

use std::collections::BTreeSet;

use chrono::Duration;
use serde_json::Value;

use crate::merchant::{Merchant, coffee};
use crate::payer::{DECLINED_CARD, GOOD_CARD};
use crate::world::{World, WorldOptions};
use checkstand::providers::simulator_faults::{Fault, Times};

const EXPIRED: &str = "checkout.session.expired";

/// Requests at once when many sessions are made.
const MAKERS: usize = 8;

async fn make_sessions(merchant: &Merchant, count: usize) -> BTreeSet<String> {
    let mut makers = tokio::task::JoinSet::new();
    for maker in 0..MAKERS {
        let merchant = merchant.clone();
        let share = count / MAKERS + usize::from(maker < count % MAKERS);
        makers.spawn(async move {
            let mut ids = Vec::new();
            for _ in 0..share {
                ids.push(merchant.session().await["id"].as_str().expect("an id").to_owned());
            }
            ids
        });
    }
    makers.join_all().await.into_iter().flatten().collect()
}

/// A session of the same world that is due as well: its event says that the sweep has been by.
async fn sweep_has_been_by(world: &World, merchant: &Merchant, receiver: &crate::receiver::Receiver) {
    let deadline = (world.app().clock.now() + Duration::seconds(60)).timestamp().to_string();
    let barrier = merchant.session_with(&[("expires_at", &deadline)]).await;
    world.advance(Duration::seconds(61));
    receiver
        .wait_until("the sweep", |all| all.iter().any(|one| one.kind() == EXPIRED && barrier["id"] == one.object_id()))
        .await;
}

#[tokio::test]
async fn a_session_expires_at_its_deadline_and_everybody_can_tell() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    let session = merchant.session_with(&[("expired_url", "https://shop.example/late?cart=7")]).await;
    let lifetime = session["expires_at"].as_i64().unwrap() - session["created"].as_i64().unwrap();
    assert_eq!(lifetime, 30 * 60, "half an hour unless the merchant says otherwise");
    world.payer().open(&session).await.says("Pay");

    world.advance(Duration::minutes(31));
    let event = receiver.wait_for(EXPIRED).await;
    assert_eq!(event.object_id(), session["id"]);
    let told = &event.json["data"]["object"];
    let read = merchant.read(&session).await;
    for view in [told, &read] {
        assert_eq!(view["status"], "expired");
        assert_eq!(view["state"], "expired");
        assert_eq!(view["payment_status"], "unpaid");
        assert_eq!(view["url"], Value::Null);
        assert_eq!(view["payment_intent"], Value::Null);
        assert_eq!(view["completed_at"], Value::Null);
    }
    let listed = merchant.get("/v1/checkout/sessions?status=expired").await.ok();
    assert_eq!(listed["data"][0]["id"], session["id"]);

    let page = world.payer().open(&session).await;
    assert!(!page.has_card_form(), "an expired session still takes cards");
    let id = session["id"].as_str().unwrap();
    let way_back = format!("https://shop.example/late?cart=7&#38;session_id={id}&#38;status=expired");
    assert!(page.html.contains(&way_back), "no way back to {way_back} in {}", page.html);
    merchant.post(&format!("/v1/checkout/sessions/{id}/expire"), &[]).await.refused(400);
    world.end().await;
}

#[tokio::test]
async fn a_form_sent_after_the_deadline_takes_no_money_even_before_the_sweep() {
    let world = World::with(WorldOptions { worker: false, ..WorldOptions::default() }).await;
    let merchant = world.merchant().await;
    let session = merchant.session().await;
    let mut payer = world.payer();
    let page = payer.open(&session).await;
    world.advance(Duration::minutes(31));
    let form = crate::payer::Payer::fill(&page, GOOD_CARD);
    let answer = payer.submit(&page, &form).await;
    assert!(!answer.text().contains("Payment complete"), "{}", answer.text());
    answer.says("No money");
    assert_eq!(world.count("select count(*) from charge").await, 0);
    assert_eq!(world.count("select count(*) from simulator.charge").await, 0);
    world.end().await;
}

#[tokio::test]
async fn each_session_has_a_deadline_of_its_own_from_one_minute() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    let in_seconds = |seconds: i64| (world.app().clock.now() + Duration::seconds(seconds)).timestamp().to_string();
    let default = merchant.session().await;
    let short = merchant.session_with(&[("expires_at", &in_seconds(61))]).await;
    let long = merchant.session_with(&[("expires_at", &in_seconds(24 * 3600))]).await;
    for seconds in [-5, 0, 30, 24 * 3600 + 60] {
        let mut fields = coffee();
        let deadline = in_seconds(seconds);
        fields.push(("expires_at", &deadline));
        let error = merchant.post("/v1/checkout/sessions", &fields).await.refused(400);
        assert_eq!(error["param"], "expires_at", "{seconds} s from now: {error}");
    }

    world.advance(Duration::seconds(62));
    assert_eq!(receiver.wait_for(EXPIRED).await.object_id(), short["id"]);
    for open in [&default, &long] {
        assert_eq!(merchant.read(open).await["status"], "open");
    }
    world.advance(Duration::minutes(30));
    receiver.wait_for_many(EXPIRED, 2).await;
    assert_eq!(merchant.read(&long).await["status"], "open");
    world.end().await;
}

#[tokio::test]
async fn twelve_hundred_sessions_due_at_once_end_with_one_event_each() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    let sessions = make_sessions(&merchant, 1200).await;
    assert_eq!(sessions.len(), 1200);
    receiver.wait_for_many("checkout.session.created", 1200).await;
    world.advance(Duration::minutes(31));
    let events = receiver.wait_for_many(EXPIRED, 1200).await;
    world.count_becomes("select count(*) from delivery", 0).await;
    let ended: BTreeSet<String> = events.iter().map(|event| event.object_id().to_owned()).collect();
    assert_eq!(ended, sessions);
    assert_eq!(receiver.of_kind(EXPIRED).len(), 1200, "an event arrived twice");
    assert_eq!(world.count("select count(*) from event where type = 'checkout.session.expired'").await, 1200);
    assert_eq!(world.count("select count(*) from checkout_session where state = 'expired'").await, 1200);
    world.end().await;
}

#[tokio::test]
async fn two_replicas_that_sweep_at_once_announce_each_expiry_once() {
    let world = World::with(WorldOptions { replicas: 3, ..WorldOptions::default() }).await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    let sessions = make_sessions(&merchant, 300).await;
    receiver.wait_for_many("checkout.session.created", 300).await;
    world.advance(Duration::minutes(31));
    // Beside their own beats, all of them are told to look at this very moment.
    let rounds = world.replicas.iter().map(|replica| checkstand::ops::sweep::expire_due(&replica.app));
    for round in futures_util::future::join_all(rounds).await {
        round.expect("a round of the sweep");
    }
    let events = receiver.wait_for_many(EXPIRED, 300).await;
    world.count_becomes("select count(*) from delivery", 0).await;
    let ended: BTreeSet<String> = events.iter().map(|event| event.object_id().to_owned()).collect();
    assert_eq!(ended, sessions);
    assert_eq!(receiver.of_kind(EXPIRED).len(), 300, "an expiry was announced twice");
    assert_eq!(world.count("select count(*) from event where type = 'checkout.session.expired'").await, 300);
    world.end().await;
}

/// A session whose charge is in doubt until the story says otherwise.
async fn session_in_doubt(world: &World, merchant: &Merchant, fault: Fault) -> Value {
    let session = merchant.session().await;
    let simulator = &world.replicas[0].simulator;
    simulator.set(fault, Times::Next(1));
    simulator.set(Fault::RefuseLookUp, Times::Always);
    simulator.set(Fault::RefuseReversal, Times::Always);
    let card = if fault == Fault::FailAfter { GOOD_CARD } else { DECLINED_CARD };
    world.payer().pay(&session, card).await;
    assert_eq!(merchant.read(&session).await["state"], "processing");
    session
}

async fn kinds_of(world: &World, session: &Value) -> Vec<String> {
    let mut connection = world.database().await;
    sqlx::query_scalar("select type from event where session_id = $1 order by session_sequence")
        .bind(session["id"].as_str().unwrap())
        .fetch_all(&mut connection)
        .await
        .expect("events")
}

#[tokio::test]
async fn a_payer_reads_that_the_shop_closed_the_session_and_not_that_he_was_slow() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let session = merchant.session().await;
    merchant.post(&format!("/v1/checkout/sessions/{}/expire", session["id"].as_str().unwrap()), &[]).await.ok();
    let page = world.payer().open(&session).await;
    page.says("This payment was closed").says("No money was taken.");
    assert!(!page.text().contains("time"), "{}", page.text());
    world.end().await;
}

#[tokio::test]
async fn a_payment_under_way_at_the_deadline_is_waited_for_and_still_completes() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    let session = session_in_doubt(&world, &merchant, Fault::FailAfter).await;
    world.advance(Duration::minutes(31));
    sweep_has_been_by(&world, &merchant, &receiver).await;
    assert_eq!(merchant.read(&session).await["state"], "processing", "expired although money may have moved");
    let id = session["id"].as_str().unwrap();
    merchant.post(&format!("/v1/checkout/sessions/{id}/expire"), &[]).await.refused(400);

    world.replicas[0].simulator.calm();
    world.advance(Duration::minutes(2));
    assert_eq!(receiver.wait_for("checkout.session.completed").await.object_id(), id);
    let read = merchant.read(&session).await;
    assert_eq!((&read["status"], &read["payment_status"]), (&"complete".into(), &"paid".into()));
    assert_eq!(kinds_of(&world, &session).await.last().map(String::as_str), Some("checkout.session.completed"));
    world.end().await;
}

#[tokio::test]
async fn a_payment_declined_after_the_deadline_expires_the_session() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    let session = session_in_doubt(&world, &merchant, Fault::FailBefore).await;
    world.advance(Duration::minutes(31));
    sweep_has_been_by(&world, &merchant, &receiver).await;
    assert_eq!(merchant.read(&session).await["state"], "processing");

    world.replicas[0].simulator.calm();
    world.advance(Duration::minutes(2));
    let id = session["id"].as_str().unwrap();
    receiver.wait_until("the expiry", |all| all.iter().any(|one| one.kind() == EXPIRED && one.object_id() == id)).await;
    assert_eq!(merchant.read(&session).await["state"], "expired");
    assert_eq!(world.count("select count(*) from simulator.charge where state = 'captured'").await, 0);
    let kinds = kinds_of(&world, &session).await;
    let lives: Vec<&str> = kinds.iter().filter_map(|kind| kind.strip_prefix("checkout.session.")).collect();
    assert_eq!(lives, ["created", "opened", "payment_failed", "expired"]);
    let payments: Vec<&str> = kinds.iter().filter_map(|kind| kind.strip_prefix("payment_intent.")).collect();
    assert_eq!(payments, ["created", "payment_failed", "canceled"]);
    world.end().await;
}
