//! Rows that nobody can make sense of, and results that the database will not take: each is set aside with its reason, alone.

use chrono::Duration;

use crate::world::{World, eventually};

const CREATED: &str = "checkout.session.created";

/// Attempts in test mode before a delivery is given up.
const ATTEMPTS_MAX: usize = 5;

#[tokio::test]
async fn an_endpoint_row_that_cannot_be_used_uses_up_its_attempts_and_its_neighbours_flow() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let mut poisoned = Vec::new();
    for (change, says) in [
        ("secret_sealed = '\\x00112233'", "secret cannot be opened"),
        ("custom_header_names = '{x-shop}', custom_headers_sealed = '\\x00112233'", "cannot be opened"),
        ("url = 'http://10.0.0.1/webhooks'", "URL is refused"),
        ("url = 'no address at all'", "URL is refused"),
    ] {
        let receiver = world.receiver(&merchant).await;
        world.execute(&format!("update webhook_endpoint set {change} where id = '{}'", receiver.endpoint_id)).await;
        poisoned.push((receiver, says));
    }
    let sound = world.receiver(&merchant).await;
    merchant.session().await;
    let event = sound.wait_for(CREATED).await;
    for attempt in 1..=ATTEMPTS_MAX {
        merchant.attempts_of(event.event_id(), 1 + attempt * poisoned.len()).await;
        world.advance(Duration::minutes(5));
    }
    let log = merchant.deliveries_of(event.event_id()).await;
    assert_eq!((&log["pending"], &log["dead"]), (&0.into(), &poisoned.len().into()), "{log}");
    let attempts = log["attempts"].as_array().expect("a list");
    for (receiver, says) in &poisoned {
        let own: Vec<_> = attempts.iter().filter(|one| one["webhook_endpoint"] == receiver.endpoint_id).collect();
        assert_eq!(own.len(), ATTEMPTS_MAX, "{says}");
        for one in own {
            assert!(one["error"].as_str().is_some_and(|error| error.contains(says)), "{says}: {one}");
        }
        assert!(receiver.deliveries().is_empty(), "{says}: something was sent");
    }
    let next = merchant.session().await;
    sound.wait_until("the next event", |all| all.iter().any(|one| next["id"] == one.object_id())).await;
    world.end().await;
}

#[tokio::test]
async fn a_result_that_the_database_refuses_is_dropped_alone_and_its_row_is_not_sent_for_ever() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    let gate = receiver.hold_answers();
    let (bad, good) = (merchant.session().await, merchant.session().await);
    let both = receiver.wait_for_many(CREATED, 2).await;
    let of = |session: &serde_json::Value| {
        both.iter().find(|one| session["id"] == one.object_id()).expect("its event").event_id().to_owned()
    };
    let (bad, good) = (of(&bad), of(&good));
    world.execute(&format!("alter table delivery_attempt add constraint refused check (event_id <> '{bad}')")).await;
    gate.add_permits(100);
    // They end together, so their marks stand in one statement, which fails.
    merchant.attempts_of(&good, 1).await;
    world.count_becomes("select count(*) from delivery", 1).await;
    assert_eq!(merchant.deliveries_of(&bad).await["pending"], 1);
    // Each time its lease runs out it is sent once more, until its attempts are used up: the claims are counted, and the
    // first attempt, which nobody could write down, comes on top.
    let sent = || receiver.deliveries().iter().filter(|one| one.event_id() == bad).count();
    for claim in 1..=ATTEMPTS_MAX + 3 {
        world.advance(Duration::seconds(31));
        let claims = i64::try_from(claim).expect("few");
        world.count_becomes("select attempts::int8 from delivery", claims).await;
        let expected = 1 + claim.min(ATTEMPTS_MAX);
        eventually("the next attempt", async || (sent() >= expected).then_some(())).await;
        assert_eq!(sent(), expected, "it is sent for ever");
    }
    // Once the database takes it, it is dead, for all to see.
    world.execute("alter table delivery_attempt drop constraint refused").await;
    world.advance(Duration::seconds(31));
    eventually("the end", async || (merchant.deliveries_of(&bad).await["dead"] == 1).then_some(())).await;
    world.end().await;
}
