//! Deliveries through the death of those who make them: nothing is lost, what comes twice is the same,
//! and who comes back late changes nothing.

use chrono::Duration;
use sqlx::Connection as _;

use crate::program::Program;
use crate::tally::Tally;
use crate::world::{World, WorldOptions, eventually};

const CREATED: &str = "checkout.session.created";

/// Events that go through the crashes, unless STORY_EVENTS says otherwise: on a slow machine a tenth shows the same sooner.
const EVENTS: usize = 100_000;

/// Crashes on their way, and how far apart: nearly all arrive between them.
const CRASHES: usize = 5;
const STRIDES_BETWEEN: usize = 13;

fn events() -> usize {
    let asked = std::env::var("STORY_EVENTS").ok().map(|text| text.parse().expect("STORY_EVENTS is a number"));
    asked.unwrap_or(EVENTS).max(1_000)
}

const OWED: &str = "select count(*) from delivery";

/// Copies the one event there is to so many, each owed to every endpoint and due now.
async fn owe(world: &World, count: usize) {
    world
        .execute(&format!(
            "insert into event (id, created_at, merchant_id, livemode, type, object_id, body)
             select n.id, e.created_at, e.merchant_id, e.livemode, e.type, e.object_id, replace(e.body, e.id, n.id)
             from event e cross join lateral (
                 select left(e.id, 14) || left(md5(i::text), 16) as id from generate_series(2, {count}) i) n;
             insert into delivery (endpoint_id, event_id, event_created_at, merchant_id, attempts, due_at, lease_token)
             select w.id, e.id, e.created_at, e.merchant_id, 0, now(), gen_random_uuid()
             from event e join webhook_endpoint w using (merchant_id) on conflict do nothing;
             analyze delivery"
        ))
        .await;
}

fn without_worker() -> WorldOptions {
    WorldOptions { worker: false, ..WorldOptions::default() }
}

#[tokio::test]
async fn a_sender_killed_between_the_answer_and_its_mark_sends_the_same_again() {
    let mut world = World::with(without_worker()).await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    let gate = receiver.hold_answers();
    let (gateway, base) = Program::serve(&world, &[]).await;
    merchant.at(&base).session().await;
    receiver.wait_for(CREATED).await;

    // Whoever holds the row keeps the mark from being written.
    let mut holder = world.database().await;
    sqlx::raw_sql("begin; select 1 from delivery for update").execute(&mut holder).await.expect("held");
    gate.add_permits(1);
    let marking =
        "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    world.count_becomes(marking, 1).await;
    gateway.kill().await;
    // The server would still carry out what the dead had asked for; here the request was never sent.
    let cut = "select pg_terminate_backend(pid) from pg_stat_activity
               where datname = current_database() and wait_event_type = 'Lock'";
    sqlx::raw_sql(cut).execute(&mut holder).await.expect("cut");
    sqlx::raw_sql("rollback").execute(&mut holder).await.expect("let go");
    holder.close().await.expect("closes");
    assert_eq!(world.count("select count(*) from delivery_attempt").await, 0, "it was marked before the kill");

    gate.add_permits(1);
    world.add_replica_with(true).await;
    world.advance(Duration::seconds(31));
    let both = receiver.wait_for_many(CREATED, 2).await;
    assert_eq!((both[0].event_id(), &both[0].body), (both[1].event_id(), &both[1].body));
    receiver.believes(&both[1], world.app().clock.now());
    world.count_becomes(OWED, 0).await;
    world.end().await;
}

#[tokio::test]
async fn of_three_replicas_one_that_stood_still_for_its_lease_changes_nothing_when_it_wakes() {
    let mut world = World::with(without_worker()).await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    let gate = receiver.hold_answers();
    let (sleeper, base) = Program::serve(&world, &[]).await;
    merchant.at(&base).session().await;
    receiver.wait_for_many(CREATED, 1).await;
    sleeper.stand_still().await;
    // Its answer waits in its socket, and it is a bad one.
    receiver.answer_with(500);
    gate.add_permits(1);
    eventually("the answer on its way", async || (gate.available_permits() == 0).then_some(())).await;
    receiver.answer_with(200);

    for _ in 0..2 {
        world.add_replica_with(true).await;
    }
    world.advance(Duration::seconds(31));
    receiver.wait_for_many(CREATED, 2).await;
    gate.add_permits(1);
    world.count_becomes(OWED, 0).await;

    sleeper.signal("CONT").await;
    // An orderly end writes out whatever it still had in hand.
    sleeper.signal("TERM").await;
    let (ended_well, printed) = sleeper.ended().await;
    assert!(ended_well, "{printed}");
    assert_eq!(world.count(OWED).await, 0, "a stale failure put the row back");
    let log = merchant.attempts_of(receiver.deliveries()[0].event_id(), 1).await;
    assert_eq!(log["attempts"][0]["outcome"], "delivered", "a stale result was logged");
    assert_eq!(receiver.deliveries().len(), 2);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_hundred_thousand_events_none_is_lost_through_crashes_and_equal_ids_mean_equal_bodies() {
    let mut world = World::with(without_worker()).await;
    let merchant = world.merchant().await;
    let tally = Tally::register(&merchant).await;
    merchant.session().await;
    let events = events();
    let stride = events * 39 / 40 / CRASHES / STRIDES_BETWEEN;
    owe(&world, events).await;
    let mut seen = 0;
    for _ in 0..CRASHES {
        let mut worker = Program::start(&["worker"], &world.variables().await);
        worker.line_with("the worker is running").await;
        for _ in 0..STRIDES_BETWEEN {
            seen += stride;
            tally.wait_for(seen).await;
        }
        worker.kill().await;
        seen = tally.deliveries();
    }
    assert!(tally.events() < events, "all had arrived before the last crash");
    world.add_replica_with(true).await;
    while tally.events() < events {
        // What the dead had taken comes due when their leases end.
        world.advance(Duration::seconds(31));
        let wanted = (tally.events() + stride).min(events);
        eventually("further events", async || (tally.events() >= wanted).then_some(())).await;
    }
    world.advance(Duration::seconds(31));
    world.count_becomes(OWED, 0).await;
    tally.equal_ids_meant_equal_bodies();
    assert_eq!(tally.events(), events);
    world.end().await;
}

#[tokio::test]
async fn a_dead_endpoint_with_a_large_backlog_leaves_the_first_tries_of_others_alone() {
    let mut world = World::with(without_worker()).await;
    let merchant = world.merchant().await;
    let dead = world.receiver(&merchant).await;
    dead.hold_answers();
    merchant.session().await;
    owe(&world, EVENTS).await;
    world.add_replica_with(true).await;
    let there = merchant.at(&world.replicas[1].base);
    dead.wait_for(CREATED).await;
    let other = world.merchant().await.at(&world.replicas[1].base);
    let neighbours = [world.receiver(&there).await, world.receiver(&other).await];
    for (place, owner) in [&there, &other].into_iter().enumerate() {
        for count in 1..=20 {
            owner.session().await;
            neighbours[place].wait_for_many(CREATED, count).await;
        }
    }
    let untouched = "select count(*)::text from delivery where endpoint_id = $1 and attempts = 0 and due_at <= now()";
    let waiting: usize = world.text(untouched, &dead.endpoint_id).await.parse().expect("a number");
    assert!(waiting > EVENTS / 2, "only {waiting} wait: the others waited for the rest");
    world.end().await;
}
