//! What did not arrive is sent again, by the schedule, until it does or is given up; and nobody else
//! waits meanwhile. Time is moved to where the API says that the next attempt is due.

use chrono::{DateTime, Duration};
use serde_json::Value;

use crate::merchant::Merchant;
use crate::receiver::{Delivery, Receiver};
use crate::world::World;

const CREATED: &str = "checkout.session.created";

/// Attempts in test mode before a delivery is given up.
const ATTEMPTS_MAX: usize = 5;

fn newest(deliveries: &Value) -> &Value {
    &deliveries["attempts"][0]
}

/// Moves the clock to where the newest recorded attempt said that the next one is due.
async fn reach_next_attempt(world: &World, deliveries: &Value) {
    let due = newest(deliveries)["next_attempt_at"].as_i64().expect("a next attempt");
    let due = DateTime::from_timestamp(due, 0).expect("a time") + Duration::seconds(1);
    let wait = due - world.app().clock.now();
    assert!(wait > Duration::zero(), "the next attempt was announced too late to be moved to");
    world.advance(wait);
}

/// A merchant whose endpoint has just failed to take its first event.
async fn failing(world: &World, status: u16) -> (Merchant, Receiver, Delivery) {
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    receiver.answer_with(status);
    merchant.session().await;
    let first = receiver.wait_for(CREATED).await;
    (merchant, receiver, first)
}

#[tokio::test]
async fn a_failed_delivery_comes_again_with_the_same_id_and_body_and_a_fresh_timestamp() {
    let world = World::start().await;
    let (merchant, receiver, first) = failing(&world, 500).await;
    receiver.answer_with_body("the shop is closed\n\u{7}come back");
    let mut deliveries = merchant.attempts_of(first.event_id(), 1).await;
    assert_eq!((&deliveries["pending"], &deliveries["dead"]), (&1.into(), &0.into()));

    let mut waits = Vec::new();
    for attempt in 2..=3 {
        let record = newest(&deliveries);
        waits.push(record["next_attempt_at"].as_i64().unwrap() - record["started_at"].as_i64().unwrap());
        reach_next_attempt(&world, &deliveries).await;
        let arrived = receiver.wait_for_many(CREATED, attempt).await;
        let again = &arrived[attempt - 1];
        assert_eq!(again.body, first.body);
        assert_eq!(again.headers["webhook-id"], first.headers["webhook-id"]);
        assert!(again.timestamp() >= arrived[attempt - 2].timestamp() + 5, "an old timestamp was signed");
        receiver.believes(again, world.app().clock.now());
        deliveries = merchant.attempts_of(first.event_id(), attempt).await;
    }
    // 5 s and 30 s with a fifth of jitter at most, and a second for whole numbers on either side.
    assert!((4..=7).contains(&waits[0]) && (29..=37).contains(&waits[1]), "{waits:?}");

    receiver.answer_with(204);
    reach_next_attempt(&world, &deliveries).await;
    let deliveries = merchant.attempts_of(first.event_id(), 4).await;
    assert_eq!((&deliveries["pending"], &deliveries["dead"]), (&0.into(), &0.into()));
    let log = deliveries["attempts"].as_array().unwrap();
    let told: Vec<(i64, i64, &str)> = log
        .iter()
        .map(|one| {
            (one["attempt"].as_i64().unwrap(), one["status_code"].as_i64().unwrap(), one["outcome"].as_str().unwrap())
        })
        .collect();
    assert_eq!(told, [(4, 204, "delivered"), (3, 500, "retry"), (2, 500, "retry"), (1, 500, "retry")]);
    for one in log {
        assert_eq!(one["webhook_endpoint"], receiver.endpoint_id);
        assert!((0..15_000).contains(&one["duration_ms"].as_i64().unwrap()), "{one}");
        assert_eq!(one["error"].is_string(), one["outcome"] != "delivered", "{one}");
    }
    assert_eq!(log[1]["response_excerpt"], "the shop is closed come back", "the answer's text is not cleaned");
    assert_eq!(log[0]["next_attempt_at"], Value::Null);
    world.end().await;
}

#[tokio::test]
async fn nothing_is_sent_before_it_is_due() {
    let world = World::start().await;
    let (merchant, receiver, first) = failing(&world, 500).await;
    merchant.attempts_of(first.event_id(), 1).await;
    receiver.answer_with(200);
    let prompt = world.receiver(&merchant).await;
    merchant.session().await;
    let other = prompt.wait_for(CREATED).await;
    receiver.wait_for_many(CREATED, 2).await;

    world.advance(Duration::seconds(3));
    // A resend goes through the queue: when it arrives, all that was due has been taken from there.
    merchant.resend(other.event_id(), None).await.ok();
    prompt.wait_for_many(CREATED, 2).await;
    receiver.wait_for_many(CREATED, 3).await;
    let early = receiver.of_kind(CREATED).iter().filter(|one| one.event_id() == first.event_id()).count();
    assert_eq!(early, 1, "an attempt that is due after 5 s was made after 3");
    world.end().await;
}

#[tokio::test]
async fn an_exhausted_delivery_is_kept_and_a_resend_brings_it() {
    let world = World::start().await;
    let (merchant, receiver, first) = failing(&world, 503).await;
    let steady = world.receiver(&merchant).await;
    let mut deliveries = merchant.attempts_of(first.event_id(), 1).await;
    for attempt in 2..=ATTEMPTS_MAX {
        reach_next_attempt(&world, &deliveries).await;
        deliveries = merchant.attempts_of(first.event_id(), attempt).await;
    }
    assert_eq!(newest(&deliveries)["outcome"], "dead");
    assert_eq!((&deliveries["pending"], &deliveries["dead"]), (&0.into(), &1.into()));
    let undelivered = merchant.get("/v1/events?delivery_success=false").await.ok();
    assert_eq!(undelivered["data"][0]["id"], first.event_id());

    // Given up means given up: days later nothing more is sent.
    world.advance(Duration::days(2));
    receiver.answer_with(200);
    let barrier = merchant.session().await;
    steady.wait_until("another event", |all| all.iter().any(|one| barrier["id"] == one.object_id())).await;
    let sent = receiver.of_kind(CREATED).iter().filter(|one| one.event_id() == first.event_id()).count();
    assert_eq!(sent, ATTEMPTS_MAX);

    let resent = merchant.resend(first.event_id(), Some(&receiver.endpoint_id)).await.ok();
    assert_eq!(resent["id"], first.event_id());
    let deliveries = merchant.attempts_of(first.event_id(), ATTEMPTS_MAX + 1).await;
    assert_eq!((&newest(&deliveries)["outcome"], &newest(&deliveries)["attempt"]), (&"delivered".into(), &1.into()));
    assert_eq!(deliveries["dead"], 0);
    let again: Vec<Delivery> =
        receiver.of_kind(CREATED).into_iter().filter(|one| one.event_id() == first.event_id()).collect();
    assert!(again.iter().all(|one| one.body == first.body), "a resend is not the same message");
    receiver.believes(&again[ATTEMPTS_MAX], world.app().clock.now());
    assert_eq!(merchant.get("/v1/events?delivery_success=false").await.ok()["data"], serde_json::json!([]));

    // To all: the endpoint that was made after the event gets it too.
    assert_eq!(merchant.resend(first.event_id(), None).await.ok()["pending_webhooks"], 2);
    steady.wait_until("the resent event", |all| all.iter().any(|one| one.event_id() == first.event_id())).await;
    merchant.attempts_of(first.event_id(), ATTEMPTS_MAX + 3).await;
    world.end().await;
}

#[tokio::test]
async fn a_resend_needs_somebody_to_send_to() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    merchant.session().await;
    let event = merchant.event(CREATED).await;
    let id = event["id"].as_str().unwrap();
    merchant.resend(id, None).await.refused(400);
    merchant.resend(id, Some("we_1")).await.refused_with(400, "resource_missing", "webhook_endpoint");
    merchant.resend("evt_nothing", None).await.refused(404);
    let mut picky = Receiver::start().await;
    picky.register(&merchant, &["checkout.session.completed"]).await;
    merchant.resend(id, None).await.refused(400);
    // Named, it gets what it did not subscribe to.
    merchant.resend(id, Some(&picky.endpoint_id)).await.ok();
    assert_eq!(picky.wait_for(CREATED).await.event_id(), id);
    merchant.attempts_of(id, 1).await;
    let disable = format!("/v1/webhook_endpoints/{}", picky.endpoint_id);
    merchant.post(&disable, &[("disabled", "true")]).await.ok();
    merchant.resend(id, Some(&picky.endpoint_id)).await.refused_with(400, "resource_missing", "webhook_endpoint");
    world.end().await;
}

#[tokio::test]
async fn gone_disables_the_endpoint_at_once() {
    let world = World::start().await;
    let (merchant, receiver, first) = failing(&world, 410).await;
    let deliveries = merchant.attempts_of(first.event_id(), 1).await;
    assert_eq!(newest(&deliveries)["outcome"], "dead");
    assert_eq!(deliveries["dead"], 1);
    let endpoint = format!("/v1/webhook_endpoints/{}", receiver.endpoint_id);
    assert_eq!(merchant.get(&endpoint).await.ok()["status"], "disabled");

    let later = merchant.session().await;
    assert_eq!(merchant.event(CREATED).await["data"]["object"]["id"], later["id"]);
    assert_eq!(merchant.event(CREATED).await["pending_webhooks"], 0);
    receiver.answer_with(200);
    merchant.post(&endpoint, &[("disabled", "false")]).await.ok();
    merchant.resend(first.event_id(), None).await.ok();
    receiver.wait_for_many(CREATED, 2).await;
    world.end().await;
}

#[tokio::test]
async fn retry_after_is_honoured_within_bounds() {
    let world = World::start().await;
    // Test mode honours at most 90 s; 500 has no say; a date in the past and a wait shorter than the
    // schedule's own change nothing.
    let cases = [
        (429, "60", 60..=72),
        (503, "60", 60..=72),
        (503, "86400", 90..=108),
        (500, "60", 5..=6),
        (429, "1", 5..=6),
        (429, "Fri, 02 Jan 2026 03:04:05 GMT", 5..=6),
        (503, "soon", 5..=6),
    ];
    for (status, retry_after, expected) in cases {
        let merchant = world.merchant().await;
        let receiver = world.receiver(&merchant).await;
        receiver.answer_with(status);
        receiver.answer_with_header("retry-after", retry_after);
        merchant.session().await;
        let event = receiver.wait_for(CREATED).await;
        let deliveries = merchant.attempts_of(event.event_id(), 1).await;
        let record = newest(&deliveries);
        let wait = record["next_attempt_at"].as_i64().unwrap() - record["started_at"].as_i64().unwrap();
        // Both times are cut to whole seconds, and the attempt itself takes a moment.
        let fits = (expected.start() - 1..=expected.end() + 2).contains(&wait);
        assert!(fits, "{status} with Retry-After {retry_after} waits {wait} s, not {expected:?}");
    }
    world.end().await;
}

#[tokio::test]
async fn a_redirect_is_a_failure_and_is_not_followed() {
    let world = World::start().await;
    let elsewhere = Receiver::start().await;
    for status in [301, 302, 303, 307, 308] {
        let merchant = world.merchant().await;
        let receiver = world.receiver(&merchant).await;
        receiver.answer_with(status);
        receiver.answer_with_header("location", &elsewhere.url);
        merchant.session().await;
        let event = receiver.wait_for(CREATED).await;
        let deliveries = merchant.attempts_of(event.event_id(), 1).await;
        let record = newest(&deliveries);
        assert_eq!((&record["outcome"], &record["status_code"]), (&"retry".into(), &status.into()));
        assert!(record["error"].as_str().unwrap().contains("redirect"), "{record}");
    }
    assert!(elsewhere.deliveries().is_empty(), "a redirect was followed");
    world.end().await;
}

#[tokio::test]
async fn an_endpoint_that_refuses_connections_gets_its_events_when_it_is_back() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let (mut receiver, socket) = Receiver::closed();
    receiver.register(&merchant, &["*"]).await;
    merchant.session().await;
    let event = merchant.event(CREATED).await;
    let id = event["id"].as_str().unwrap();
    let deliveries = merchant.attempts_of(id, 1).await;
    let record = newest(&deliveries);
    assert_eq!((&record["outcome"], &record["status_code"]), (&"retry".into(), &Value::Null));
    assert!(record["error"].as_str().unwrap().starts_with("no connection"), "{record}");

    receiver.open(socket);
    reach_next_attempt(&world, &deliveries).await;
    assert_eq!(receiver.wait_for(CREATED).await.event_id(), id);
    assert_eq!(newest(&merchant.attempts_of(id, 2).await)["outcome"], "delivered");
    world.end().await;
}

#[tokio::test]
async fn a_slow_endpoint_holds_up_nobody_else() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let slow = world.receiver(&merchant).await;
    let gate = slow.hold_answers();
    let fast = world.receiver(&merchant).await;
    let neighbour = world.merchant().await;
    let other = world.receiver(&neighbour).await;
    const SESSIONS: usize = 20;
    let shopping = (0..SESSIONS).map(async |_| tokio::join!(merchant.session(), neighbour.session()));
    futures_util::future::join_all(shopping).await;
    fast.wait_for_many(CREATED, SESSIONS).await;
    other.wait_for_many(CREATED, SESSIONS).await;
    let held = slow.deliveries().len();
    assert!((1..=16).contains(&held), "{held} deliveries at once to one endpoint");

    gate.add_permits(SESSIONS);
    slow.wait_for_many(CREATED, SESSIONS).await;
    world.count_becomes("select count(*) from delivery", 0).await;
    for receiver in [&slow, &fast, &other] {
        assert_eq!(receiver.deliveries().len(), SESSIONS);
    }
    world.end().await;
}

#[tokio::test]
async fn a_backlog_of_one_endpoint_does_not_hold_up_the_queue() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let clogged = world.receiver(&merchant).await;
    merchant.session().await;
    clogged.wait_for(CREATED).await;
    world.count_becomes("select count(*) from delivery", 0).await;
    let gate = clogged.hold_answers();
    // Copies of the one event, all of them long due.
    world
        .execute(
            "insert into event select e.id || '_' || i, e.created_at, e.merchant_id, e.livemode, e.type, e.object_id,
                 e.session_id, i + 1, e.body from event e, generate_series(1, 20000) i;
             insert into delivery select w.id, e.id, e.created_at, e.merchant_id, 0, e.created_at, gen_random_uuid()
                 from event e, webhook_endpoint w where e.session_sequence > 1",
        )
        .await;
    clogged.wait_until("the backlog to be begun", |all| all.len() > 1).await;

    let neighbour = world.merchant().await;
    let prompt = world.receiver(&neighbour).await;
    neighbour.session().await;
    let event = prompt.wait_for(CREATED).await;
    // A resend goes through the same queue that the backlog stands in.
    neighbour.resend(event.event_id(), None).await.ok();
    prompt.wait_for_many(CREATED, 2).await;
    assert!(clogged.deliveries().len() < 100, "the backlog was not held");
    gate.add_permits(100_000);
    world.execute("delete from delivery").await;
    world.end().await;
}

#[tokio::test]
async fn a_secret_that_does_not_open_is_marked_and_its_neighbours_flow() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let poisoned = world.receiver(&merchant).await;
    world.execute("update webhook_endpoint set secret_sealed = '\\x00112233'").await;
    let sound = world.receiver(&merchant).await;
    merchant.session().await;
    let event = sound.wait_for(CREATED).await;
    let mut deliveries = merchant.attempts_of(event.event_id(), 2).await;
    for attempt in 2..=ATTEMPTS_MAX {
        let records = deliveries["attempts"].as_array().unwrap();
        let record = records.iter().find(|one| one["webhook_endpoint"] == poisoned.endpoint_id).expect("a record");
        assert_eq!(record["outcome"], "retry");
        assert!(record["error"].as_str().unwrap().contains("secret cannot be opened"), "{record}");
        let due = DateTime::from_timestamp(record["next_attempt_at"].as_i64().unwrap() + 1, 0).unwrap();
        world.advance(due - world.app().clock.now());
        deliveries = merchant.attempts_of(event.event_id(), attempt + 1).await;
    }
    assert_eq!(newest(&deliveries)["outcome"], "dead");
    assert_eq!((&deliveries["pending"], &deliveries["dead"]), (&0.into(), &1.into()));
    assert!(poisoned.deliveries().is_empty(), "an unsigned message was sent");
    assert_eq!(sound.deliveries().len(), 1);
    world.end().await;
}

#[tokio::test]
async fn an_event_that_is_no_longer_stored_is_given_up_and_its_neighbours_flow() {
    let world = World::start().await;
    let (merchant, receiver, first) = failing(&world, 500).await;
    let deliveries = merchant.attempts_of(first.event_id(), 1).await;
    receiver.answer_with(200);
    world.execute("delete from event").await;
    reach_next_attempt(&world, &deliveries).await;
    world.count_becomes("select count(*) from delivery where dead_at is not null", 1).await;
    assert_eq!(receiver.deliveries().len(), 1, "an empty message was sent");
    let session = merchant.session().await;
    receiver.wait_until("the next event", |all| all.iter().any(|one| session["id"] == one.object_id())).await;
    world.end().await;
}

#[tokio::test]
async fn what_is_owed_waits_while_an_endpoint_is_disabled_and_follows_its_url() {
    let world = World::start().await;
    let (merchant, old, first) = failing(&world, 500).await;
    let mut new = Receiver::start().await;
    let witness = world.receiver(&merchant).await;
    let path = format!("/v1/webhook_endpoints/{}", old.endpoint_id);
    let deliveries = merchant.attempts_of(first.event_id(), 1).await;
    merchant.post(&path, &[("disabled", "true")]).await.ok();
    reach_next_attempt(&world, &deliveries).await;
    // What comes again was claimed from the queue, and the other one was due before it.
    merchant.session().await;
    let other = witness.wait_for(CREATED).await;
    merchant.resend(other.event_id(), Some(&witness.endpoint_id)).await.ok();
    witness.wait_for_many(CREATED, 2).await;
    assert_eq!(old.deliveries().len(), 1, "a disabled endpoint was delivered to");
    assert_eq!(merchant.attempts_of(first.event_id(), 1).await["pending"], 1);

    merchant.post(&path, &[("url", &new.url), ("disabled", "false")]).await.ok();
    new.secret.clone_from(&old.secret);
    let arrived = new.wait_for(CREATED).await;
    assert_eq!((arrived.event_id(), &arrived.body), (first.event_id(), &first.body));
    new.believes(&arrived, world.app().clock.now());
    world.count_becomes("select count(*) from delivery", 0).await;
    assert_eq!((old.deliveries().len(), new.deliveries().len()), (1, 1), "what happened meanwhile was owed as well");
    world.end().await;
}
