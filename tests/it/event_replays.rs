//! Ranges of events sent again: which ones, to whom, never more at once than can be sent, and whatever
//! dies meanwhile.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::merchant::{Merchant, ids};
use crate::payer::GOOD_CARD;
use crate::receiver::Receiver;
use crate::world::{World, WorldOptions, eventually};

const REPLAYS: &str = "/v1/event_replays";
const CREATED: &str = "checkout.session.created";

/// More events than a replay puts into the queue at once.
const MANY: i64 = 1_500;

async fn replay(merchant: &Merchant, fields: &[(&str, &str)]) -> Value {
    merchant.post(REPLAYS, fields).await.ok()
}

async fn read(merchant: &Merchant, replay: &Value) -> Value {
    merchant.get(&format!("{REPLAYS}/{}", replay["id"].as_str().expect("an id"))).await.ok()
}

async fn ended(merchant: &Merchant, replay: &Value) -> Value {
    eventually("the replay's end", async || {
        let now = read(merchant, replay).await;
        (now["status"] != "running").then_some(now)
    })
    .await
}

fn a_minute_ago(world: &World) -> String {
    (world.now() - 60).to_string()
}

/// Copies the one event there is, so that there are so many.
async fn multiply(world: &World, count: i64) {
    world
        .execute(&format!(
            "insert into event (id, created_at, merchant_id, livemode, type, object_id, body)
             select n.id, e.created_at, e.merchant_id, e.livemode, e.type, e.object_id, replace(e.body, e.id, n.id)
             from event e cross join lateral (
                 select left(e.id, 14) || left(md5(i::text), 16) as id from generate_series(2, {count}) i) n"
        ))
        .await;
}

#[tokio::test]
async fn a_range_comes_again_with_the_same_ids_and_bodies() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    for _ in 0..5 {
        merchant.session().await;
    }
    receiver.wait_for_many(CREATED, 5).await;
    world.count_becomes("select count(*) from delivery", 0).await;
    let from = a_minute_ago(&world);
    let begun = replay(&merchant, &[("from", &from)]).await;
    assert_eq!((&begun["object"], &begun["status"]), (&"event_replay".into(), &"running".into()));
    let done = ended(&merchant, &begun).await;
    assert_eq!(
        (&done["status"], &done["events_scanned"], &done["deliveries"]),
        (&"completed".into(), &5.into(), &5.into())
    );
    assert_eq!((&done["reached"], done["ended_at"].is_i64()), (&done["to"], true));
    receiver.wait_for_many(CREATED, 10).await;
    let mut bodies: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for delivery in receiver.deliveries() {
        bodies.entry(delivery.event_id().to_owned()).or_default().push(delivery.body);
    }
    assert_eq!(bodies.len(), 5);
    assert!(bodies.values().all(|twice| twice.len() == 2 && twice[0] == twice[1]), "{bodies:?}");
    assert_eq!(ids(&merchant.get(REPLAYS).await.ok()), [done["id"].as_str().expect("an id")]);
    let stranger = world.merchant().await;
    let path = format!("{REPLAYS}/{}", done["id"].as_str().expect("an id"));
    stranger.get(&path).await.refused(404);
    stranger.post(&format!("{path}/cancel"), &[]).await.refused(404);
    assert_eq!(merchant.post(&format!("{path}/cancel"), &[]).await.ok()["status"], "completed");
    world.end().await;
}

#[tokio::test]
async fn a_replay_sends_what_was_asked_for_to_whom_it_was_asked_for() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let [all, mut few] = [world.receiver(&merchant).await, Receiver::start().await];
    few.register(&merchant, &["charge.*"]).await;
    let session = merchant.session().await;
    let id = session["id"].as_str().expect("an id");
    merchant.post(&format!("/v1/checkout/sessions/{id}/expire"), &[]).await.ok();
    all.wait_for("checkout.session.expired").await;
    world.count_becomes("select count(*) from delivery", 0).await;
    let from = a_minute_ago(&world);

    let told = replay(&merchant, &[("from", &from), ("types[]", "checkout.session.expired")]).await;
    assert_eq!(ended(&merchant, &told).await["deliveries"], 1);
    all.wait_for_many("checkout.session.expired", 2).await;
    assert!(few.deliveries().is_empty(), "it does not subscribe");

    let endpoint = few.endpoint_id.clone();
    let told = replay(&merchant, &[("from", &from), ("webhook_endpoint", &endpoint)]).await;
    assert_eq!(ended(&merchant, &told).await["deliveries"], 2);
    few.wait_for("checkout.session.expired").await;
    assert_eq!(all.deliveries().len(), 3, "it was not meant");

    let fields = [("from", from.as_str()), ("types[]", "*"), ("webhook_endpoint", &endpoint), ("expand[]", "data")];
    world.count_becomes("select count(*) from delivery", 0).await;
    assert_eq!(ended(&merchant, &replay(&merchant, &fields).await).await["deliveries"], 2, "`*` stands for all");
    few.wait_for_many("checkout.session.expired", 2).await;

    // Nothing has failed, so nothing comes again.
    let told = replay(&merchant, &[("from", &from), ("only_failed", "true")]).await;
    assert_eq!(ended(&merchant, &told).await["deliveries"], 0);
    // Seconds are whole: the range ends before this one.
    let to = (world.now() - 30).to_string();
    let told = replay(&merchant, &[("from", &from), ("to", &to)]).await;
    assert_eq!(ended(&merchant, &told).await["events_scanned"], 0);
    world.end().await;
}

#[tokio::test]
async fn first_attempts_under_way_are_not_made_twice_because_of_a_replay() {
    let mut world = World::without_worker().await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    let gate = receiver.hold_answers();
    const SESSIONS: usize = 5;
    for _ in 0..SESSIONS {
        merchant.session().await;
    }
    world.add_replica_with(true).await;
    receiver.wait_for_many(CREATED, SESSIONS).await;
    let told = replay(&merchant, &[("from", &a_minute_ago(&world))]).await;
    let ended = ended(&merchant, &told).await;
    assert_eq!((&ended["events_scanned"], &ended["deliveries"]), (&SESSIONS.into(), &0.into()));
    gate.add_permits(2 * SESSIONS);
    world.count_becomes("select count(*) from delivery", 0).await;
    assert_eq!(receiver.deliveries().len(), SESSIONS);
    world.end().await;
}

#[tokio::test]
async fn only_what_failed_comes_again_whether_it_waits_or_was_given_up() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    merchant.session().await;
    receiver.wait_for_many(CREATED, 1).await;
    world.count_becomes("select count(*) from delivery", 0).await;
    receiver.answer_with(500);
    merchant.session().await;
    merchant.session().await;
    receiver.wait_for_many(CREATED, 3).await;
    world.count_becomes("select count(*) from delivery_attempt where outcome = 'retry'", 2).await;
    let given_up = receiver.deliveries()[1].event_id().to_owned();
    world.execute(&format!("update delivery set dead_at = now() where event_id = '{given_up}'")).await;
    receiver.answer_with(200);
    let from = a_minute_ago(&world);
    let told = replay(&merchant, &[("from", &from), ("only_failed", "true")]).await;
    assert_eq!(ended(&merchant, &told).await["deliveries"], 2);
    world.count_becomes("select count(*) from delivery", 0).await;
    assert_eq!(receiver.deliveries().len(), 5);
    world.end().await;
}

/// A replay whose endpoint does not answer: it has put into the queue what it may, and waits.
async fn stuck() -> (World, Merchant, Receiver, std::sync::Arc<tokio::sync::Semaphore>, Value) {
    let world = World::with(WorldOptions { worker: false, ..WorldOptions::default() }).await;
    let merchant = world.merchant().await;
    merchant.session().await;
    multiply(&world, MANY).await;
    let receiver = world.receiver(&merchant).await;
    let gate = receiver.hold_answers();
    let begun = replay(&merchant, &[("from", &a_minute_ago(&world))]).await;
    let mut world = world;
    world.add_replica_with(true).await;
    receiver.wait_for(CREATED).await;
    let owed = "select count(*) from (select 1 from delivery where due_at <= now() limit 500) due";
    world.count_becomes(owed, 500).await;
    (world, merchant, receiver, gate, begun)
}

#[tokio::test]
async fn a_replay_waits_for_its_endpoint_lets_others_pass_and_goes_on_after_a_death() {
    let (mut world, merchant, receiver, gate, begun) = stuck().await;
    let waiting = read(&merchant, &begun).await;
    assert_eq!(waiting["status"], "running");
    assert!(waiting["events_scanned"].as_i64().expect("a number") < MANY, "all of it is in the queue at once");

    // A fresh event of somebody else goes through meanwhile.
    let other = world.merchant().await;
    let elsewhere = world.receiver(&other).await;
    other.session().await;
    elsewhere.wait_for(CREATED).await;

    // The process goes; another goes on.
    gate.add_permits(usize::try_from(MANY).expect("few") * 3);
    world.replicas[1].stop().await;
    world.add_replica_with(true).await;
    let done = ended(&merchant, &begun).await;
    assert_eq!((&done["status"], &done["events_scanned"]), (&"completed".into(), &MANY.into()));
    world.count_becomes("select count(*) from delivery", 0).await;
    let told: std::collections::BTreeSet<String> =
        receiver.deliveries().iter().map(|one| one.event_id().to_owned()).collect();
    assert_eq!(told.len(), usize::try_from(MANY).expect("few"));
    world.end().await;
}

#[tokio::test]
async fn a_cancelled_replay_adds_nothing_and_what_is_owed_still_comes() {
    let (world, merchant, receiver, gate, begun) = stuck().await;
    let path = format!("{REPLAYS}/{}/cancel", begun["id"].as_str().expect("an id"));
    let cancelled = merchant.post(&path, &[]).await.ok();
    assert_eq!(cancelled["status"], "cancelled");
    let owed = cancelled["deliveries"].as_i64().expect("a number");
    assert!((1..MANY).contains(&owed), "{cancelled}");
    gate.add_permits(usize::try_from(MANY).expect("few") * 3);
    world.count_becomes("select count(*) from delivery", 0).await;
    assert_eq!(read(&merchant, &begun).await["deliveries"], owed);
    assert_eq!(i64::try_from(receiver.deliveries().len()).expect("few"), owed);
    world.end().await;
}

#[tokio::test]
async fn a_replay_to_all_endpoints_goes_on_while_one_of_them_is_paused() {
    let mut world = World::without_worker().await;
    let merchant = world.merchant().await;
    merchant.session().await;
    multiply(&world, MANY).await;
    let [sound, paused] = [world.receiver(&merchant).await, world.receiver(&merchant).await];
    world
        .execute(&format!(
            "insert into webhook_endpoint_health (endpoint_id, failing_since, failures, pauses, paused_until)
             values ('{}', now(), 20, 1, now() + interval '1 hour')",
            paused.endpoint_id
        ))
        .await;
    let from = a_minute_ago(&world);
    let begun = replay(&merchant, &[("from", &from)]).await;
    world.add_replica_with(true).await;
    let done = ended(&merchant, &begun).await;
    assert_eq!((&done["status"], &done["deliveries"]), (&"completed".into(), &(2 * MANY).into()));
    // What the paused one is owed waits for its turn.
    world.count_becomes("select count(*) from delivery", MANY).await;
    sound.wait_for_many(CREATED, usize::try_from(MANY).expect("few")).await;
    assert!(paused.deliveries().is_empty(), "it was to be left alone");

    // Nobody is there to go on for: a replay to the paused one alone does not add to what it is owed.
    let alone = replay(&merchant, &[("from", &from), ("webhook_endpoint", &paused.endpoint_id)]).await;
    let id = alone["id"].as_str().expect("an id").to_owned();
    let looked_at = "select (looked_at > created_at)::text from event_replay where id = $1";
    eventually("a look at it", async || (world.text(looked_at, &id).await == "true").then_some(())).await;
    let waiting = read(&merchant, &alone).await;
    assert_eq!((&waiting["status"], &waiting["events_scanned"]), (&"running".into(), &0.into()));
    world.end().await;
}

#[tokio::test]
async fn a_replay_whose_endpoint_goes_says_so() {
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    merchant.session().await;
    let receiver = world.receiver(&merchant).await;
    let fields = [("from", &*a_minute_ago(&world)), ("webhook_endpoint", &receiver.endpoint_id)];
    let begun = replay(&merchant, &fields).await;
    merchant.post(&format!("/v1/webhook_endpoints/{}", receiver.endpoint_id), &[("disabled", "true")]).await.ok();
    let mut world = world;
    world.add_replica_with(true).await;
    let failed = ended(&merchant, &begun).await;
    assert_eq!((&failed["status"], &failed["deliveries"]), (&"failed".into(), &0.into()));
    assert!(failed["failure_message"].as_str().expect("a reason").contains("disabled"));
    merchant.post(REPLAYS, &fields).await.refused_with(400, "resource_missing", "webhook_endpoint");
    world.end().await;
}

#[tokio::test]
async fn what_makes_no_replay_is_refused() {
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    let (past, future) = (a_minute_ago(&world), (world.now() + 60).to_string());
    for (fields, status, code, param) in [
        (vec![], 400, "parameter_missing", "from"),
        (vec![("from", future.as_str())], 400, "parameter_invalid", "from"),
        (vec![("from", past.as_str()), ("to", past.as_str())], 400, "parameter_invalid", "from"),
        (vec![("from", "yesterday")], 400, "parameter_invalid_integer", "from"),
        (vec![("from", past.as_str()), ("webhook_endpoint", "we_x")], 400, "resource_missing", "webhook_endpoint"),
        (vec![("from", past.as_str()), ("types[]", "foo.bar")], 400, "parameter_invalid", "types[0]"),
        (vec![("from", past.as_str()), ("endpoint", "x")], 400, "parameter_unknown", "endpoint"),
    ] {
        merchant.post(REPLAYS, &fields).await.refused_with(status, code, param);
    }
    for _ in 0..4 {
        replay(&merchant, &[("from", &past)]).await;
    }
    merchant.post(REPLAYS, &[("from", &past)]).await.refused_with(400, "event_replays_limit", "");
    let first = merchant.post_with_key(&format!("{REPLAYS}/evrp_x/cancel"), &[], "k").await;
    first.refused(404);
    world.end().await;
}

/// The numbers of a session's events in the order in which this endpoint's attempts were logged.
async fn attempted(world: &World, receiver: &Receiver, session: &Value) -> Vec<i64> {
    let mut connection = world.database().await;
    sqlx::query_scalar(
        "select e.session_sequence::int8 from delivery_attempt a join event e on e.id = a.event_id
         where a.endpoint_id = $1 and e.session_id = $2 order by a.id",
    )
    .bind(&receiver.endpoint_id)
    .bind(session["id"].as_str())
    .fetch_all(&mut connection)
    .await
    .expect("the log")
}

#[tokio::test]
async fn a_replay_keeps_the_order_of_a_session_where_the_endpoint_wants_it() {
    for only_failed in ["false", "true"] {
        let world = World::start().await;
        let merchant = world.merchant().await;
        let receiver = world.receiver(&merchant).await;
        // What is to fail fails before the endpoint asks for order.
        receiver.answer_with(if only_failed == "true" { 500 } else { 200 });
        let session = merchant.session().await;
        world.payer().pay(&session, GOOD_CARD).await;
        receiver.wait_for("checkout.session.completed").await;
        let count = world.count("select count(*) from event").await;
        world.count_becomes("select count(distinct event_id) from delivery_attempt", count).await;
        let path = format!("/v1/webhook_endpoints/{}", receiver.endpoint_id);
        merchant.post(&path, &[("ordered", "true")]).await.ok();
        let before = attempted(&world, &receiver, &session).await.len();

        receiver.answer_with(500);
        let from = a_minute_ago(&world);
        let told = replay(&merchant, &[("from", &from), ("only_failed", only_failed)]).await;
        assert_eq!(ended(&merchant, &told).await["deliveries"], count);
        world.count_becomes("select count(*) from delivery where parked", count - 1).await;
        let id = session["id"].as_str().expect("an id");
        let tried = world.text("select count(*)::text from delivery where session_id = $1 and attempts > 0", id);
        assert_eq!(tried.await, "1", "an event behind the one that fails was tried");
        // Nobody else is held up.
        receiver.answer_with(200);
        let other = merchant.session().await;
        receiver
            .wait_until("another session's event", |all| all.iter().any(|one| other["id"] == one.object_id()))
            .await;

        world.advance(chrono::Duration::seconds(8));
        world.count_becomes("select count(*) from delivery", 0).await;
        let numbers = attempted(&world, &receiver, &session).await.split_off(before);
        let mut expected: Vec<i64> = (1..=count).collect();
        expected.insert(0, 1);
        assert_eq!(numbers, expected, "only_failed={only_failed}");
        world.end().await;
    }
}
