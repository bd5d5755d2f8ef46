//! Who hears of what: every event of a session's life, once, signed, in the bytes that are stored;
//! endpoints that chose other events, were switched off or deleted, or belong to the other mode; and
//! that an event and the change it tells of exist together or not at all.

use serde_json::Value;

use crate::merchant::Merchant;
use crate::payer::{DECLINED_CARD, GOOD_CARD};
use crate::receiver::{Delivery, Receiver};
use crate::world::{World, WorldOptions};

/// What every story here ends with: one event for each number a session has given out, and a row of
/// the outbox for nothing that was delivered.
async fn events_and_sessions_agree(world: &World) {
    let disagreeing = "select count(*) from checkout_session s where s.event_count <>
        (select count(*) from event e where e.session_id = s.id)";
    assert_eq!(world.count(disagreeing).await, 0, "a session's count is not the number of its events");
    let gaps = "select count(*) from (select session_sequence as given, row_number() over
        (partition by session_id order by session_sequence) as expected from event) n where given <> expected";
    assert_eq!(world.count(gaps).await, 0, "the events of a session are not numbered 1, 2, 3, …");
    let endings = "select count(*) from checkout_session s where (s.ended_at is not null)::int <>
        (select count(*) from event e where e.session_id = s.id and e.type = 'checkout.session.' || s.state)
        and s.state <> 'pending'";
    assert_eq!(world.count(endings).await, 0, "a session ended without saying so once, or said so without ending");
}

async fn stored_body(world: &World, event_id: &str) -> String {
    let mut connection = world.database().await;
    let body = sqlx::query_scalar("select body from event where id = $1").bind(event_id);
    body.fetch_one(&mut connection).await.expect("the event is stored")
}

fn kinds_about<'d>(deliveries: &'d [Delivery], session: &Value) -> Vec<&'d str> {
    let mut kinds: Vec<&str> = deliveries
        .iter()
        .filter(|delivery| session["id"] == delivery.object_id())
        .map(|delivery| delivery.kind().strip_prefix("checkout.session.").expect("an event of a session"))
        .collect();
    kinds.sort_unstable();
    kinds
}

async fn endpoint_for(merchant: &Merchant, events: &[&str]) -> Receiver {
    let mut receiver = Receiver::start().await;
    receiver.register(merchant, events).await;
    receiver
}

/// Waits until this endpoint has a session's `created`: what was owed to others of it before has been
/// decided by then, because one statement decides for all.
async fn hears_of(receiver: &Receiver, session: &Value) {
    let id = session["id"].clone();
    receiver.wait_until("a session's first event", |all| all.iter().any(|one| id == one.object_id())).await;
}

#[tokio::test]
async fn every_event_of_every_life_arrives_once_signed_and_in_the_stored_bytes() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;

    let paid = merchant.session().await;
    world.payer().pay(&paid, GOOD_CARD).await;
    let cancelled = merchant.session().await;
    world.payer().cancel(&cancelled).await.says("cancelled");
    let failed = merchant.session().await;
    let mut clumsy = world.payer();
    for _ in 0..4 {
        clumsy.pay(&failed, DECLINED_CARD).await;
    }
    let expired_by_hand = merchant.session().await;
    merchant.post(&format!("/v1/checkout/sessions/{}/expire", expired_by_hand["id"].as_str().unwrap()), &[]).await.ok();
    let expired_by_time = merchant.session().await;
    world.advance(chrono::Duration::minutes(31));

    let of_sessions = |all: &[Delivery]| all.iter().filter(|one| one.kind().starts_with("checkout.session.")).count();
    receiver.wait_until("all events of sessions", |all| of_sessions(all) >= 16).await;
    world.count_becomes("select count(*) from delivery", 0).await;
    let arrived = receiver.deliveries();
    let lives = [
        (&paid, vec!["completed", "created", "opened"]),
        (&cancelled, vec!["cancelled", "created"]),
        (
            &failed,
            vec!["created", "failed", "opened", "payment_failed", "payment_failed", "payment_failed", "payment_failed"],
        ),
        (&expired_by_hand, vec!["created", "expired"]),
        (&expired_by_time, vec!["created", "expired"]),
    ];
    for (session, expected) in lives {
        assert_eq!(kinds_about(&arrived, session), expected, "{}", merchant.read(session).await["state"]);
    }

    for (kind, times) in [
        ("payment_intent.created", 2),
        ("payment_intent.succeeded", 1),
        ("payment_intent.payment_failed", 4),
        ("payment_intent.canceled", 1),
        ("charge.succeeded", 1),
        ("charge.failed", 4),
    ] {
        assert_eq!(arrived.iter().filter(|delivery| delivery.kind() == kind).count(), times, "{kind}");
    }

    let now = world.app().clock.now();
    let mut ids: Vec<&str> = Vec::new();
    for delivery in &arrived {
        ids.push(delivery.event_id());
        // The clock was moved by half an hour between the first deliveries and the last.
        let age = chrono::Duration::seconds(now.timestamp() - delivery.timestamp());
        receiver.believes(delivery, now - age);
        assert!(age <= chrono::Duration::minutes(32), "signed with another clock: {age}");
        assert_eq!(stored_body(&world, delivery.event_id()).await, delivery.body);
        assert_eq!(delivery.headers["content-type"], "application/json; charset=utf-8");
        assert_eq!(delivery.headers["accept-encoding"], "identity");
        assert_eq!(delivery.json["pending_webhooks"], 1);
        // No payer token: whoever reads a merchant's webhook log must not be able to open the page.
        assert_eq!(delivery.json["data"]["object"]["url"], Value::Null);
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), arrived.len(), "an event arrived twice");
    for session in [&paid, &cancelled, &failed, &expired_by_hand, &expired_by_time] {
        let token = session["url"].as_str().and_then(|url| url.rsplit('/').next()).expect("a token");
        assert!(arrived.iter().all(|delivery| !delivery.body.contains(token)), "an event holds a payer token");
    }

    world.count_becomes("select count(*) from delivery", 0).await;
    for delivery in &arrived {
        let read = merchant.get(&format!("/v1/events/{}", delivery.event_id())).await.ok();
        let mut sent = delivery.json.clone();
        sent["pending_webhooks"] = 0.into();
        assert_eq!(read, sent, "the API tells another story than the webhook");
    }
    let stored = world.count("select count(*) from event").await;
    assert_eq!(stored, i64::try_from(arrived.len()).expect("few"));
    events_and_sessions_agree(&world).await;
    world.end().await;
}

#[tokio::test]
async fn the_event_tells_which_request_caused_it_and_none_when_a_payer_did() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    let answer = merchant.post_with_key("/v1/checkout/sessions", &crate::merchant::coffee(), "order-17").await;
    let request_id = answer.header("request-id").expect("every answer has an id").to_owned();
    let session = answer.ok();
    world.payer().pay(&session, GOOD_CARD).await;
    let created = receiver.wait_for("checkout.session.created").await;
    assert_eq!(created.json["request"]["id"], request_id);
    assert_eq!(created.json["request"]["idempotency_key"], "order-17");
    let completed = receiver.wait_for("checkout.session.completed").await;
    assert_eq!(completed.json["request"]["id"], Value::Null);
    assert_eq!(completed.json["request"]["idempotency_key"], Value::Null);
    world.end().await;
}

#[tokio::test]
async fn endpoints_get_what_they_chose_and_the_event_counts_them() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let all = endpoint_for(&merchant, &["*"]).await;
    let exact = endpoint_for(&merchant, &["checkout.session.completed"]).await;
    let family = endpoint_for(&merchant, &["checkout.session.*"]).await;
    let two = endpoint_for(&merchant, &["checkout.session.opened", "checkout.session.completed"]).await;
    // Neither a shorter prefix without its dot nor another family.
    let other = endpoint_for(&merchant, &["refund.*", "checkout.session.expired"]).await;

    let session = merchant.session().await;
    world.payer().pay(&session, GOOD_CARD).await;
    let expected: [(&Receiver, &[&str]); 4] = [
        (&all, &["completed", "created", "opened"]),
        (&exact, &["completed"]),
        (&family, &["completed", "created", "opened"]),
        (&two, &["completed", "opened"]),
    ];
    for (receiver, kinds) in expected {
        receiver.wait_until("all that was chosen", |seen| seen.len() >= kinds.len()).await;
    }
    world.count_becomes("select count(*) from delivery", 0).await;
    for (receiver, kinds) in expected {
        assert_eq!(kinds_about(&receiver.deliveries(), &session), kinds);
    }
    assert!(other.deliveries().is_empty(), "{:?}", other.deliveries());
    for (kind, endpoints) in [("created", 2), ("opened", 3), ("completed", 4)] {
        let delivery = all.wait_for(&format!("checkout.session.{kind}")).await;
        assert_eq!(delivery.json["pending_webhooks"], endpoints, "{kind}");
    }
    // The same bytes for everybody, each signed with his own secret.
    let (one, same) = (exact.of_kind("checkout.session.completed"), two.of_kind("checkout.session.completed"));
    assert_eq!(one[0].body, same[0].body);
    assert_ne!(one[0].headers["webhook-signature"], same[0].headers["webhook-signature"]);
    exact.believes(&one[0], world.app().clock.now());
    two.believes(&same[0], world.app().clock.now());
    world.end().await;
}

#[tokio::test]
async fn a_disabled_or_deleted_endpoint_gets_nothing_and_an_enabled_one_again() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let witness = world.receiver(&merchant).await;
    let paused = world.receiver(&merchant).await;
    let doomed = world.receiver(&merchant).await;
    let pause = format!("/v1/webhook_endpoints/{}", paused.endpoint_id);
    assert_eq!(merchant.post(&pause, &[("disabled", "true")]).await.ok()["status"], "disabled");
    let removed = merchant.delete(&format!("/v1/webhook_endpoints/{}", doomed.endpoint_id)).await.ok();
    assert_eq!(removed["deleted"], true);

    let unheard = merchant.session().await;
    hears_of(&witness, &unheard).await;
    assert_eq!(witness.deliveries()[0].json["pending_webhooks"], 1);
    world.count_becomes("select count(*) from delivery", 0).await;

    assert_eq!(merchant.post(&pause, &[("disabled", "false")]).await.ok()["status"], "enabled");
    let heard = merchant.session().await;
    hears_of(&paused, &heard).await;
    world.count_becomes("select count(*) from delivery", 0).await;
    assert_eq!(kinds_about(&paused.deliveries(), &unheard), Vec::<&str>::new(), "events of the pause came later");
    assert!(doomed.deliveries().is_empty(), "a deleted endpoint was delivered to");
    world.end().await;
}

#[tokio::test]
async fn what_is_owed_to_an_endpoint_goes_with_it_when_it_is_deleted() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let broken = world.receiver(&merchant).await;
    broken.answer_with(500);
    merchant.session().await;
    let event = broken.wait_for("checkout.session.created").await;
    merchant.attempts_of(event.event_id(), 1).await;
    assert_eq!(merchant.deliveries_of(event.event_id()).await["pending"], 1);

    merchant.delete(&format!("/v1/webhook_endpoints/{}", broken.endpoint_id)).await.ok();
    assert_eq!(world.count("select count(*) from delivery").await, 0);
    let after = merchant.deliveries_of(event.event_id()).await;
    assert_eq!(after["pending"], 0);
    assert_eq!(after["attempts"].as_array().map(Vec::len), Some(1), "the log of attempts was lost");
    world.end().await;
}

#[tokio::test]
async fn an_endpoint_with_a_great_backlog_is_deleted_at_once_and_its_backlog_piece_by_piece() {
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    let [doomed, kept] = [world.receiver(&merchant).await, world.receiver(&merchant).await];
    merchant.session().await;
    world
        .execute(&format!(
            "insert into delivery (endpoint_id, event_id, event_created_at, merchant_id, attempts, due_at, lease_token)
             select endpoint_id, event_id || '_' || n, event_created_at, merchant_id, 0, due_at, lease_token
             from delivery, generate_series(1, 60000) n where endpoint_id = '{}'",
            doomed.endpoint_id
        ))
        .await;
    merchant.delete(&format!("/v1/webhook_endpoints/{}", doomed.endpoint_id)).await.ok();
    let left = world.count("select count(*) from delivery").await;
    assert!((2..60_000).contains(&left), "{left}");
    checkstand::ops::sweep::tidy(world.app()).await.expect("a round of tidying");
    assert_eq!(world.count("select count(*) from delivery").await, 1);
    assert_eq!(
        world.text("select endpoint_id from delivery where endpoint_id = $1", &kept.endpoint_id).await,
        kept.endpoint_id
    );
    world.end().await;
}

#[tokio::test]
async fn an_event_written_while_its_endpoint_was_deleted_is_not_owed_for_ever() {
    let world = World::with(WorldOptions { worker: false, ..WorldOptions::default() }).await;
    let merchant = world.merchant().await;
    let doomed = world.receiver(&merchant).await;
    let kept = world.receiver(&merchant).await;
    // The event's transaction has seen the endpoint and has not committed when the endpoint goes.
    let mut connection = world.database().await;
    world
        .execute(
            "create function wait_for_story() returns trigger language plpgsql as
                 $$ begin perform pg_advisory_xact_lock(1); return new; end $$;
             create trigger wait_for_story before insert on delivery for each row execute function wait_for_story()",
        )
        .await;
    sqlx::raw_sql("select pg_advisory_lock(1)").execute(&mut connection).await.expect("a lock");
    let writer = merchant.clone();
    let writing = tokio::spawn(async move { writer.session().await });
    world
        .count_becomes(
            "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
            1,
        )
        .await;
    merchant.delete(&format!("/v1/webhook_endpoints/{}", doomed.endpoint_id)).await.ok();
    sqlx::raw_sql("select pg_advisory_unlock(1)").execute(&mut connection).await.expect("the lock is given up");
    let session = writing.await.expect("the request lives");
    assert_eq!(world.count("select count(*) from delivery").await, 2, "the story did not bring about its trouble");

    checkstand::ops::sweep::tidy(world.app()).await.expect("a round of tidying");
    let event = merchant.event("checkout.session.created").await;
    assert_eq!((&event["data"]["object"]["id"], &event["pending_webhooks"]), (&session["id"], &1.into()));
    let owed = "select count(*) from delivery d join webhook_endpoint w on w.id = d.endpoint_id";
    assert_eq!(world.count(owed).await, 1, "what is owed to the endpoint that stayed was forgotten");
    assert!(kept.deliveries().is_empty() && doomed.deliveries().is_empty());
    world.end().await;
}

#[tokio::test]
async fn live_and_test_mode_never_hear_of_each_other() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    let live = world.in_live_mode(&merchant).await;
    // Nothing can answer here; what is owed to it is seen in the queue.
    let fields = [("url", "https://hooks.shop.example/live"), ("enabled_events[]", "*")];
    let live_endpoint = live.post("/v1/webhook_endpoints", &fields).await.ok();
    assert_eq!(live_endpoint["livemode"], true);

    let live_session = live.session().await;
    let test_session = merchant.session().await;
    hears_of(&receiver, &test_session).await;
    assert_eq!(kinds_about(&receiver.deliveries(), &live_session), Vec::<&str>::new());
    let crossed = "select count(*) from delivery d join webhook_endpoint w on w.id = d.endpoint_id
        join event e on e.id = d.event_id where w.livemode <> e.livemode";
    assert_eq!(world.count(crossed).await, 0);
    let owed_live = "select count(*) from delivery d join event e on e.id = d.event_id where e.livemode";
    assert_eq!(world.count(owed_live).await, 1);

    let test_event = receiver.wait_for("checkout.session.created").await.event_id().to_owned();
    live.get(&format!("/v1/events/{test_event}")).await.refused(404);
    live.get(&format!("/v1/events/{test_event}/deliveries")).await.refused(404);
    live.resend(&test_event, None).await.refused(404);
    merchant.resend(&test_event, live_endpoint["id"].as_str()).await.refused_with(
        400,
        "resource_missing",
        "webhook_endpoint",
    );
    assert_eq!(live.get("/v1/events").await.ok()["data"].as_array().map(Vec::len), Some(1));
    world.end().await;
}

#[tokio::test]
async fn another_merchants_events_and_endpoints_are_out_of_reach() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let stranger = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    let ear = world.receiver(&stranger).await;
    let session = merchant.session().await;
    hears_of(&receiver, &session).await;
    let event = receiver.deliveries()[0].event_id().to_owned();
    stranger.get(&format!("/v1/events/{event}")).await.refused(404);
    stranger.get(&format!("/v1/events/{event}/deliveries")).await.refused(404);
    stranger.resend(&event, None).await.refused(404);
    merchant.resend(&event, Some(&ear.endpoint_id)).await.refused_with(400, "resource_missing", "webhook_endpoint");
    stranger
        .post(&format!("/v1/webhook_endpoints/{}", receiver.endpoint_id), &[("disabled", "true")])
        .await
        .refused(404);
    stranger.delete(&format!("/v1/webhook_endpoints/{}", receiver.endpoint_id)).await.refused(404);
    hears_of(&ear, &stranger.session().await).await;
    assert_eq!(kinds_about(&ear.deliveries(), &session), Vec::<&str>::new());
    world.end().await;
}

#[tokio::test]
async fn an_event_and_its_change_exist_together_or_not_at_all() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    let session = merchant.session().await;
    hears_of(&receiver, &session).await;
    let expire = format!("/v1/checkout/sessions/{}/expire", session["id"].as_str().unwrap());

    // One table after the other refuses to be written; each time nothing at all may have happened.
    for (table, occasion) in [("event", "insert"), ("delivery", "insert"), ("checkout_session", "update or insert")] {
        world
            .execute(&format!(
                "create or replace function refuse() returns trigger language plpgsql as
                     $$ begin raise exception 'refused'; end $$;
                 create trigger refuse before {occasion} on {table} for each row execute function refuse()"
            ))
            .await;
        merchant.post(&expire, &[]).await.refused(500);
        merchant.post("/v1/checkout/sessions", &crate::merchant::coffee()).await.refused(500);
        world.execute(&format!("drop trigger refuse on {table}")).await;
        assert_eq!(merchant.read(&session).await["state"], "pending", "{table} refused and the session changed");
        assert_eq!(world.count("select count(*) from checkout_session").await, 1, "{table}");
        assert_eq!(world.count("select count(*) from event").await, 1, "{table} refused and an event was told");
    }
    assert_eq!(merchant.post(&expire, &[]).await.ok()["state"], "expired");
    receiver.wait_for("checkout.session.expired").await;
    world.count_becomes("select count(*) from delivery", 0).await;
    assert_eq!(receiver.deliveries().len(), 2, "news of a change that never was went out");
    events_and_sessions_agree(&world).await;
    world.end().await;
}
