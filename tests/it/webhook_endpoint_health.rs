//! How a merchant learns whether an endpoint works, and what becomes of one that does not: tests, statistics, pauses that
//! use up no attempt, and giving up with an event and a mail.

use chrono::Duration;
use serde_json::Value;

use crate::merchant::Merchant;
use crate::receiver::Receiver;
use crate::world::{World, eventually};

const CREATED: &str = "checkout.session.created";
const DISABLED: &str = "webhook_endpoint.disabled";

fn path(receiver: &Receiver) -> String {
    format!("/v1/webhook_endpoints/{}", receiver.endpoint_id)
}

async fn statistics(merchant: &Merchant, receiver: &Receiver) -> Value {
    merchant.get(&format!("{}/statistics", path(receiver))).await.ok()
}

#[tokio::test]
async fn a_test_goes_to_the_one_endpoint_signed_and_tells_what_its_receiver_said() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let tested = world.receiver(&merchant).await;
    let other = world.receiver(&merchant).await;
    merchant.post(&path(&tested), &[("custom_headers[x-shop]", "corner"), ("disabled", "true")]).await.ok();
    let test = format!("{}/test", path(&tested));
    let answer = merchant.post(&test, &[]).await.ok();
    assert_eq!((&answer["delivered"], &answer["status_code"]), (&true.into(), &200.into()), "{answer}");
    assert_eq!((&answer["response_excerpt"], &answer["error"]), (&"seen".into(), &Value::Null));
    let delivery = tested.wait_for("webhook_endpoint.test").await;
    tested.believes(&delivery, world.app().clock.now());
    assert_eq!((delivery.event_id().into(), delivery.object_id()), (answer["event"].clone(), &*tested.endpoint_id));
    assert_eq!(delivery.headers["x-shop"], "corner");
    assert!(delivery.json["data"]["object"].get("secret").is_none());

    tested.answer_with(418);
    tested.answer_with_body("short and stout");
    let refused = merchant.post_with_key(&test, &[], "test-1").await.ok();
    assert_eq!((&refused["delivered"], &refused["status_code"]), (&false.into(), &418.into()));
    assert_eq!((&refused["response_excerpt"], &refused["error"]), (&"short and stout".into(), &"answered 418".into()));
    assert_eq!(merchant.post_with_key(&test, &[], "test-1").await.ok(), refused, "a replay sent another test");
    tested.answer_with(410);
    merchant.post(&test, &[]).await.ok();

    assert_eq!(tested.deliveries().len(), 3);
    assert!(other.deliveries().is_empty(), "a test went to another endpoint");
    assert_eq!(world.count("select count(*) from event").await, 0);
    assert_eq!(world.count("select count(*) from delivery_attempt").await, 0);
    assert_eq!(merchant.get(&path(&tested)).await.ok()["disabled_reason"], "requested", "a test changed its endpoint");

    let (closed, _socket) = Receiver::closed();
    merchant.post(&path(&tested), &[("url", &closed.url)]).await.ok();
    let silent = merchant.post(&test, &[]).await.ok();
    assert_eq!((&silent["delivered"], &silent["status_code"]), (&false.into(), &Value::Null));
    assert!(silent["error"].as_str().is_some_and(|error| error.starts_with("no connection")), "{silent}");
    let stranger = world.merchant().await;
    stranger.post(&test, &[]).await.refused_with(404, "resource_missing", "id");
    world.end().await;
}

#[tokio::test]
async fn a_merchant_runs_one_test_at_a_time() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    let gate = receiver.hold_answers();
    let (waiting, test) = (merchant.clone(), format!("{}/test", path(&receiver)));
    let first = tokio::spawn({
        let test = test.clone();
        async move { waiting.post(&test, &[]).await.ok() }
    });
    receiver.wait_for("webhook_endpoint.test").await;
    merchant.post(&test, &[]).await.refused_with(400, "endpoint_test_in_progress", "");
    gate.add_permits(2);
    assert_eq!(first.await.expect("it lives")["delivered"], true);
    merchant.post(&test, &[]).await.ok();
    world.end().await;
}

#[tokio::test]
async fn statistics_tell_what_came_of_the_newest_attempts() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    let none = statistics(&merchant, &receiver).await;
    assert_eq!((&none["attempts"], &none["success_rate"]), (&0.into(), &Value::Null));
    assert_eq!((&none["duration_ms_p95"], &none["last_failure"]), (&Value::Null, &Value::Null));
    for _ in 0..3 {
        merchant.session().await;
    }
    receiver.wait_for_many(CREATED, 3).await;
    receiver.answer_with(503);
    merchant.session().await;
    let failed = receiver.wait_for_many(CREATED, 4).await.remove(3);
    merchant.attempts_of(failed.event_id(), 1).await;
    world.count_becomes("select count(*) from delivery", 1).await;
    let told = statistics(&merchant, &receiver).await;
    let numbers = [("attempts", 4), ("delivered", 3), ("retried", 1), ("dead", 0), ("pending", 1), ("failures", 1)];
    for (name, number) in numbers {
        assert_eq!(told[name], number, "{name}: {told}");
    }
    assert_eq!(told["success_rate"], "0.7500");
    assert!(told["duration_ms_p50"].as_i64() <= told["duration_ms_p95"].as_i64(), "{told}");
    let failure = &told["last_failure"];
    assert_eq!((&failure["status_code"], &failure["error"]), (&503.into(), &"answered 503".into()));
    assert_eq!(failure["event"], failed.event_id());
    assert_eq!((&told["oldest_due_at"], told["failing_since"].is_i64()), (&Value::Null, true));

    let two_days = format!("{}/statistics?window_hours=48", path(&receiver));
    receiver.answer_with(200);
    world.advance(Duration::hours(25));
    merchant.attempts_of(failed.event_id(), 2).await;
    let told = eventually("a recovered endpoint", async || {
        let told = merchant.get(&two_days).await.ok();
        (told["failing_since"].is_null() && told["attempts"] == 9).then_some(told)
    })
    .await;
    // The four sessions have expired meanwhile.
    assert_eq!(
        (&told["delivered"], &told["failures"], &told["success_rate"]),
        (&8.into(), &0.into(), &"0.8888".into())
    );
    // Yesterday's are outside of a day.
    let today = statistics(&merchant, &receiver).await;
    assert_eq!((&today["attempts"], &today["success_rate"]), (&5.into(), &"1.0000".into()));
    for hours in ["0", "169", "x"] {
        let asked = format!("{}/statistics?window_hours={hours}", path(&receiver));
        merchant.get(&asked).await.refused_with(400, "parameter_invalid_integer", "window_hours");
    }
    world.end().await;
}

#[tokio::test]
async fn after_many_failures_in_a_row_an_endpoint_is_left_alone_and_one_delivery_tries_it_out() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let broken = world.receiver(&merchant).await;
    let neighbour = world.receiver(&merchant).await;
    broken.answer_with(500);
    const SESSIONS: usize = 30;
    for _ in 0..SESSIONS {
        merchant.session().await;
    }
    neighbour.wait_for_many(CREATED, SESSIONS).await;
    let told = eventually("a pause", async || {
        let told = statistics(&merchant, &broken).await;
        told["paused_until"].is_i64().then_some(told)
    })
    .await;
    assert!(told["failures"].as_i64() >= Some(20), "{told}");
    assert!(told["paused_until"].as_i64() <= Some(world.now() + 60), "{told}");

    // Some were under way. Then nothing more is sent, however much is due, and no attempt is used up.
    world.advance(Duration::seconds(20));
    merchant.session().await;
    neighbour.wait_for_many(CREATED, SESSIONS + 1).await;
    let sent = broken.deliveries().len();
    let barrier = merchant.session().await;
    neighbour.wait_until("another event", |all| all.iter().any(|one| barrier["id"] == one.object_id())).await;
    assert_eq!(broken.deliveries().len(), sent, "a paused endpoint was delivered to");
    let untried = "select count(*) from delivery d where attempts = 0 and not exists
        (select 1 from delivery_attempt a where a.endpoint_id = d.endpoint_id and a.event_id = d.event_id)";
    assert!(world.count(untried).await >= 2, "what waited used up an attempt");

    // The pause ends: one goes ahead, fails, and the next pause begins.
    world.advance(Duration::seconds(15));
    broken.wait_until("one delivery that goes ahead", |all| all.len() > sent).await;
    eventually("the next pause", async || {
        let told = statistics(&merchant, &broken).await;
        (told["paused_until"].as_i64() > Some(world.now() + 30)).then_some(())
    })
    .await;
    assert_eq!(broken.deliveries().len(), sent + 1, "more than one went ahead");

    // The receiver is mended: after the pause one goes ahead, and all others follow.
    broken.answer_with(200);
    world.advance(Duration::minutes(15));
    world.count_becomes("select count(*) from delivery where dead_at is null", 0).await;
    let told = statistics(&merchant, &broken).await;
    assert_eq!((&told["paused_until"], &told["failures"]), (&Value::Null, &0.into()), "{told}");
    assert_eq!(world.count("select count(*) from delivery where dead_at is not null").await, 0);
    world.end().await;
}

#[tokio::test]
async fn days_without_one_success_switch_an_endpoint_off_and_its_merchant_hears_of_it() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let broken = world.receiver(&merchant).await;
    let witness = world.receiver(&merchant).await;
    broken.answer_with(500);
    merchant.session().await;
    let first = broken.wait_for(CREATED).await;
    merchant.attempts_of(first.event_id(), 2).await;
    eventually("a failure that counts", async || {
        statistics(&merchant, &broken).await["failing_since"].is_i64().then_some(())
    })
    .await;
    // Five days of failures, told to the table of how endpoints fare.
    world.execute("update webhook_endpoint_health set failures = failures + 48").await;
    world.advance(Duration::days(5) - Duration::minutes(1));
    eventually("the failures before the time is over", async || {
        (statistics(&merchant, &broken).await["failures"].as_i64() >= Some(50)).then_some(())
    })
    .await;
    assert_eq!(merchant.get(&path(&broken)).await.ok()["status"], "enabled", "given up before five days were over");
    world.advance(Duration::minutes(5));
    let told = witness.wait_for(DISABLED).await;
    let object = &told.json["data"]["object"];
    assert_eq!((&object["id"], &object["status"]), (&broken.endpoint_id.as_str().into(), &"disabled".into()));
    assert_eq!((&object["disabled_reason"], object.get("secret")), (&"failing".into(), None));
    let read = merchant.get(&path(&broken)).await.ok();
    assert_eq!((&read["status"], &read["disabled_reason"]), (&"disabled".into(), &"failing".into()));
    assert!(broken.of_kind(DISABLED).is_empty(), "it was told to itself");
    let mails = checkstand::ops::mails::newest(world.app(), 9).await.expect("the mailbox");
    let mail = mails.iter().find(|mail| mail.kind == "webhook_endpoint_disabled").expect("a mail to the merchant");
    assert_eq!(mail.recipient, "help@corner-coffee.example");
    for text in [&mail.body_text, &mail.body_html] {
        let told = text.contains(&broken.endpoint_id) && text.contains("5 days");
        let missed = format!("--endpoint {}", broken.endpoint_id);
        assert!(text.contains("event replay") && text.contains(&missed), "how to send what it misses: {text}");
        assert!(told && text.contains(broken.url.trim_start_matches("http://")), "{text}");
    }

    // Enabled again, it begins anew.
    broken.answer_with(200);
    let enabled = merchant.post(&path(&broken), &[("disabled", "false")]).await.ok();
    assert_eq!((&enabled["status"], &enabled["disabled_reason"]), (&"enabled".into(), &Value::Null));
    assert_eq!(statistics(&merchant, &broken).await["failures"], 0);
    let session = merchant.session().await;
    broken.wait_until("a new event", |all| all.iter().any(|one| session["id"] == one.object_id())).await;
    world.end().await;
}

#[tokio::test]
async fn an_endpoint_that_says_it_is_gone_is_told_of_at_once() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let gone = world.receiver(&merchant).await;
    let witness = world.receiver(&merchant).await;
    gone.answer_with(410);
    merchant.session().await;
    let told = witness.wait_for(DISABLED).await;
    assert_eq!(told.json["data"]["object"]["disabled_reason"], "gone");
    assert_eq!(told.object_id(), gone.endpoint_id);
    assert_eq!(witness.of_kind(DISABLED).len(), 1);
    assert_eq!(world.count("select count(*) from mail where kind = 'webhook_endpoint_disabled'").await, 1);
    world.end().await;
}
