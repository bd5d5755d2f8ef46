//! Several gateways on one database are one service: what one wrote another serves, delivers and, when
//! the first is gone, takes over; and one that comes back late changes nothing.

use chrono::Duration;
use serde_json::Value;

use crate::merchant::{Merchant, coffee, http_client};
use crate::payer::{GOOD_CARD, Payer};
use crate::world::{World, WorldOptions};

const CREATED: &str = "checkout.session.created";

fn pair() -> WorldOptions {
    WorldOptions { replicas: 2, ..WorldOptions::default() }
}

/// The session's link as a load balancer would lead it to another replica.
fn link_at(session: &Value, from: &str, to: &str) -> Value {
    let mut session = session.clone();
    session["url"] = session["url"].as_str().expect("a URL").replace(from, to).into();
    session
}

#[tokio::test]
async fn a_session_made_on_one_replica_is_paid_on_another() {
    let world = World::with(pair()).await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    let [first, second] = [&world.replicas[0].base, &world.replicas[1].base];
    let session = merchant.session().await;
    let page = Payer::new(second).pay(&link_at(&session, first, second), GOOD_CARD).await;
    page.says("Payment complete");
    for base in [first, second] {
        assert_eq!(merchant.at(base).read(&session).await["payment_status"], "paid");
    }
    receiver.wait_for("checkout.session.completed").await;
    world.count_becomes("select count(*) from delivery", 0).await;
    assert_eq!(receiver.of_kind("checkout.session.completed").len(), 1);
    world.end().await;
}

#[tokio::test]
async fn an_idempotency_key_holds_on_every_replica() {
    let world = World::with(pair()).await;
    let merchant = world.merchant().await;
    let there = merchant.at(&world.replicas[1].base);
    let fields = coffee();
    let (one, two) = tokio::join!(
        merchant.post_with_key("/v1/checkout/sessions", &fields, "order-1"),
        there.post_with_key("/v1/checkout/sessions", &fields, "order-1"),
    );
    let again = there.post_with_key("/v1/checkout/sessions", &fields, "order-1").await;
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    let id = again.ok()["id"].clone();
    for answer in [one, two] {
        // Both may have run at once; then one of them was asked to come again.
        assert!(answer.status == 409 || answer.json["id"] == id, "{} {}", answer.status, answer.text);
    }
    assert_eq!(world.count("select count(*) from checkout_session").await, 1);
    assert_eq!(world.count("select count(*) from event").await, 1);
    world.end().await;
}

#[tokio::test]
async fn events_of_a_gateway_without_a_worker_are_delivered_by_another() {
    let mut world = World::with(WorldOptions { worker: false, ..WorldOptions::default() }).await;
    world.add_replica_with(true).await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    let session = merchant.session().await;
    world.payer().pay(&session, GOOD_CARD).await;
    for kind in ["created", "opened", "completed"] {
        let delivery = receiver.wait_for(&format!("checkout.session.{kind}")).await;
        receiver.believes(&delivery, world.app().clock.now());
    }
    world.count_becomes("select count(*) from delivery", 0).await;
    assert_eq!(
        i64::try_from(receiver.deliveries().len()).expect("few"),
        world.count("select count(*) from event").await
    );
    world.end().await;
}

/// As a process leaves rows that died before it sent anything: those that it wrote come due when its lease ends, those
/// that it claimed have been due all the time.
const DIED_HAVING_WRITTEN: &str =
    "update delivery set lease_token = gen_random_uuid(), due_at = due_at + interval '30 seconds'";
const DIED_HAVING_CLAIMED: &str =
    "update delivery set lease_token = gen_random_uuid(), attempts = 1, leased_until = due_at + interval '30 seconds'";

#[tokio::test]
async fn what_a_dead_replica_had_written_is_taken_over_when_its_lease_ends() {
    what_a_dead_replica_had_is_taken_over_when_its_lease_ends(DIED_HAVING_WRITTEN, 0).await;
}

#[tokio::test]
async fn what_a_dead_replica_had_claimed_is_taken_over_when_its_lease_ends() {
    what_a_dead_replica_had_is_taken_over_when_its_lease_ends(DIED_HAVING_CLAIMED, 50).await;
}

async fn what_a_dead_replica_had_is_taken_over_when_its_lease_ends(died: &'static str, begun: i64) {
    let mut world = World::with(WorldOptions { worker: false, ..WorldOptions::default() }).await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    for _ in 0..50 {
        merchant.session().await;
    }
    assert_eq!(world.count("select count(*) from delivery").await, 50);
    world.execute(died).await;
    world.add_replica_with(true).await;

    // Another event goes through the queue meanwhile: a lease that still runs is respected.
    let session = merchant.session().await;
    receiver.wait_until("another event", |all| all.iter().any(|one| session["id"] == one.object_id())).await;
    assert_eq!(receiver.deliveries().len(), 1, "a delivery was taken from somebody who still had its lease");

    world.advance(Duration::seconds(31));
    receiver.wait_for_many(CREATED, 51).await;
    world.count_becomes("select count(*) from delivery", 0).await;
    assert_eq!(receiver.deliveries().len(), 51, "a taken-over delivery was sent twice");
    let second_attempts = world.count("select count(*) from delivery_attempt where attempt = 2").await;
    assert_eq!(second_attempts, begun, "an attempt that may have been made is counted");
    world.end().await;
}

/// One event whose first attempt hangs at the receiver while its lease has run out and the other
/// replica has begun a second one.
async fn stalled_and_taken_over() -> (World, Merchant, crate::receiver::Receiver, std::sync::Arc<tokio::sync::Semaphore>)
{
    let world = World::with(pair()).await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    let gate = receiver.hold_answers();
    merchant.session().await;
    receiver.wait_for_many(CREATED, 1).await;
    world.advance(Duration::seconds(31));
    receiver.wait_for_many(CREATED, 2).await;
    (world, merchant, receiver, gate)
}

#[tokio::test]
async fn the_result_of_a_replica_that_lost_its_lease_is_dropped() {
    let (mut world, merchant, receiver, gate) = stalled_and_taken_over().await;
    // The stalled attempt is the one that waits longest, and it fails; its news comes too late.
    receiver.answer_with(500);
    gate.add_permits(1);
    let event = receiver.deliveries()[0].event_id().to_owned();
    crate::world::eventually("the stalled attempt's answer", async || (gate.available_permits() == 0).then_some(()))
        .await;
    receiver.answer_with(200);
    gate.add_permits(1);
    let log = merchant.attempts_of(&event, 1).await;
    assert_eq!((&log["attempts"][0]["outcome"], &log["attempts"][0]["attempt"]), (&"delivered".into(), &1.into()));
    // Stopping writes out whatever a worker still had in hand.
    for replica in &mut world.replicas {
        replica.stop().await;
    }
    assert_eq!(world.count("select count(*) from delivery").await, 0, "a stale failure put the row back");
    assert_eq!(world.count("select count(*) from delivery_attempt").await, 1, "a stale result was logged");
    assert_eq!(receiver.deliveries().len(), 2);
    world.end().await;
}

#[tokio::test]
async fn two_results_for_one_delivery_count_once() {
    let (mut world, _, receiver, gate) = stalled_and_taken_over().await;
    gate.add_permits(2);
    world.count_becomes("select count(*) from delivery", 0).await;
    for replica in &mut world.replicas {
        replica.stop().await;
    }
    assert_eq!(world.count("select count(*) from delivery_attempt").await, 1);
    let [one, two] = &receiver.deliveries()[..] else { panic!("more than two deliveries") };
    assert_eq!((one.event_id(), &one.body), (two.event_id(), &two.body));
    world.end().await;
}

/// A client that goes to the next replica when one does not take its connection, as a load balancer
/// does. Every other failure is a failed request.
async fn send_somewhere(merchants: &[Merchant], turn: usize, key: &str) -> String {
    for attempt in 0..merchants.len() * 200 {
        let merchant = &merchants[(turn + attempt) % merchants.len()];
        let request = merchant.form("/v1/checkout/sessions", &coffee()).header("Idempotency-Key", key);
        let request = request.header("Connection", "close").build().expect("a request");
        match http_client().execute(request).await {
            Ok(response) => {
                assert_eq!(response.status(), 200, "{key} at {}", merchant.base);
                let session: Value = response.json().await.expect("a whole answer");
                return session["id"].as_str().expect("an id").to_owned();
            }
            Err(error) => assert!(error.is_connect(), "{key} at {} was cut off: {error:?}", merchant.base),
        }
    }
    panic!("no replica took {key}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_fails_no_request_and_loses_no_event() {
    let mut world = World::with(WorldOptions { replicas: 3, ..WorldOptions::default() }).await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    let bases: std::sync::Arc<std::sync::Mutex<Vec<Merchant>>> = std::sync::Arc::new(std::sync::Mutex::new(
        world.replicas.iter().map(|replica| merchant.at(&replica.base)).collect(),
    ));
    let done = tokio_util::sync::CancellationToken::new();
    let mut shops = tokio::task::JoinSet::new();
    for shop in 0..4_usize {
        let (bases, done) = (std::sync::Arc::clone(&bases), done.clone());
        shops.spawn(async move {
            let mut ids = Vec::new();
            while !done.is_cancelled() {
                let merchants = bases.lock().expect("not poisoned").clone();
                ids.push(send_somewhere(&merchants, shop + ids.len(), &format!("{shop}-{}", ids.len())).await);
            }
            ids
        });
    }
    for place in 0..3 {
        receiver.wait_for_many(CREATED, (place + 1) * 20).await;
        world.replicas[place].stop().await;
        world.add_replica().await;
        let fresh = world.replicas.last().expect("just added").base.clone();
        bases.lock().expect("not poisoned")[place] = merchant.at(&fresh);
    }
    receiver.wait_for_many(CREATED, 80).await;
    done.cancel();
    let ids: std::collections::BTreeSet<String> = shops.join_all().await.into_iter().flatten().collect();
    receiver.wait_for_many(CREATED, ids.len()).await;
    world.count_becomes("select count(*) from delivery", 0).await;
    let told: Vec<String> = receiver.of_kind(CREATED).iter().map(|one| one.object_id().to_owned()).collect();
    let distinct: std::collections::BTreeSet<String> = told.iter().cloned().collect();
    assert_eq!(distinct, ids);
    assert_eq!(told.len(), ids.len(), "events of an orderly stop were sent twice");
    world.end().await;
}
