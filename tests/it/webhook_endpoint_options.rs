//! What a merchant may set of an endpoint, seen from the receiver: headers of his own, how many deliveries begin within a
//! second and run at once, and the order of a session's events.

use serde_json::{Value, json};

use crate::merchant::{Merchant, Refused};
use crate::payer::GOOD_CARD;
use crate::receiver::{Delivery, Receiver};
use crate::world::{World, eventually};

const ENDPOINTS: &str = "/v1/webhook_endpoints";
const CREATED: &str = "checkout.session.created";

async fn set(merchant: &Merchant, receiver: &Receiver, fields: &[(&str, &str)]) -> Value {
    merchant.post(&format!("{ENDPOINTS}/{}", receiver.endpoint_id), fields).await.ok()
}

#[tokio::test]
async fn custom_headers_arrive_with_every_delivery_and_are_never_shown() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    let secret = "Bearer not-for-anybodys-eyes";
    let fields = [("custom_headers[Authorization]", secret), ("custom_headers[X-Shop]", "corner")];
    let changed = set(&merchant, &receiver, &fields).await;
    assert_eq!(changed["custom_header_names"], json!(["authorization", "x-shop"]));
    let shown = merchant.get(&format!("{ENDPOINTS}/{}", receiver.endpoint_id)).await;
    assert!(!shown.text.contains("not-for-anybodys-eyes"), "a header's value is shown");
    let in_clear = "select count(*) from webhook_endpoint w
        where position('not-for-anybodys-eyes'::bytea in custom_headers_sealed) > 0
           or w::text like '%not-for-anybodys-eyes%'";
    assert_eq!(world.count(in_clear).await, 0, "a header's value is stored in clear");

    merchant.session().await;
    let first = receiver.wait_for(CREATED).await;
    assert_eq!((first.headers["authorization"].as_str(), first.headers["x-shop"].as_str()), (secret, "corner"));
    receiver.believes(&first, world.app().clock.now());

    // One is removed, one changed, one added; then all go.
    let fields =
        [("custom_headers[authorization]", ""), ("custom_headers[X-SHOP]", "other"), ("custom_headers[x-new]", "1")];
    assert_eq!(set(&merchant, &receiver, &fields).await["custom_header_names"], json!(["x-new", "x-shop"]));
    merchant.session().await;
    let second = receiver.wait_for_many(CREATED, 2).await.remove(1);
    assert_eq!((second.headers.get("authorization"), second.headers["x-shop"].as_str()), (None, "other"));
    assert_eq!(set(&merchant, &receiver, &[("custom_headers", "")]).await["custom_header_names"], json!([]));
    merchant.session().await;
    assert!(!receiver.wait_for_many(CREATED, 3).await[2].headers.contains_key("x-new"));
    world.end().await;
}

#[tokio::test]
async fn options_out_of_bounds_and_headers_with_a_meaning_are_refused_and_change_nothing() {
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    let path = format!("{ENDPOINTS}/{}", receiver.endpoint_id);
    let before = merchant.get(&path).await.ok();
    for name in ["Host", "cookie", "Content-Length", "Transfer-Encoding", "Stripe-Signature", "webhook-id", "TE", "a b"]
    {
        let field = format!("custom_headers[{name}]");
        merchant.post(&path, &[(&field, "1")]).await.refused_with(400, "custom_header_invalid", &field);
    }
    let long = "v".repeat(513);
    let eleven: Vec<(String, &str)> = (0..11).map(|number| (format!("custom_headers[x-{number}]"), "1")).collect();
    let eleven: Vec<(&str, &str)> = eleven.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    let cases: [Refused; 10] = [
        (&[("custom_headers[x-a]", "line\nend")], "custom_header_invalid", "custom_headers[x-a]"),
        (&[("custom_headers[x-a]", &long)], "custom_header_invalid", "custom_headers[x-a]"),
        (&eleven, "custom_header_invalid", "custom_headers"),
        (&[("events_per_second", "0")], "parameter_invalid_integer", "events_per_second"),
        (&[("events_per_second", "1001")], "parameter_invalid_integer", "events_per_second"),
        (&[("concurrency", "0")], "parameter_invalid_integer", "concurrency"),
        (&[("concurrency", "65")], "parameter_invalid_integer", "concurrency"),
        (&[("ordered", "maybe")], "parameter_invalid_boolean", "ordered"),
        (&[("ed25519", "yes")], "parameter_invalid_boolean", "ed25519"),
        (
            &[("enabled_events[]", "*"), ("enabled_events[]", "checkout.session.complted")],
            "parameter_invalid",
            "enabled_events[1]",
        ),
    ];
    for (fields, code, param) in cases {
        merchant.post(&path, fields).await.refused_with(400, code, param);
    }
    let misspelt = merchant.post(&path, &[("enabled_events[]", "checkout.session.complted")]).await.refused(400);
    let message = misspelt["message"].as_str().expect("a message");
    assert!(message.contains("`checkout.session.completed`"), "{message}");
    assert_eq!(merchant.get(&path).await.ok(), before);
    world.end().await;
}

#[tokio::test]
async fn an_endpoints_own_bound_on_deliveries_at_once_is_kept() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let narrow = world.receiver(&merchant).await;
    set(&merchant, &narrow, &[("concurrency", "2")]).await;
    let witness = world.receiver(&merchant).await;
    let gate = narrow.hold_answers();
    const SESSIONS: usize = 12;
    futures_util::future::join_all((0..SESSIONS).map(|_| merchant.session())).await;
    witness.wait_for_many(CREATED, SESSIONS).await;
    narrow.wait_for_many(CREATED, 2).await;
    for released in 1..=4 {
        assert!(narrow.deliveries().len() <= 1 + released, "more than two at once");
        gate.add_permits(1);
        narrow.wait_for_many(CREATED, 2 + released).await;
    }
    gate.add_permits(SESSIONS);
    narrow.wait_for_many(CREATED, SESSIONS).await;
    world.count_becomes("select count(*) from delivery", 0).await;
    assert_eq!(narrow.deliveries().len(), SESSIONS, "waiting for a place used up an attempt or sent twice");
    assert_eq!(world.count("select max(attempt)::int8 from delivery_attempt").await, 1);
    world.end().await;
}

#[tokio::test]
async fn an_endpoints_own_rate_is_kept_across_replicas_and_holds_up_nobody_else() {
    let mut world = World::start().await;
    world.add_replica().await;
    let merchant = world.merchant().await;
    let slow = world.receiver(&merchant).await;
    set(&merchant, &slow, &[("events_per_second", "1")]).await;
    let witness = world.receiver(&merchant).await;
    const SESSIONS: usize = 6;
    let other = merchant.at(&world.replicas[1].base);
    let shopping = (0..SESSIONS).map(
        async |number| {
            if number % 2 == 0 { merchant.session().await } else { other.session().await }
        },
    );
    futures_util::future::join_all(shopping).await;
    witness.wait_for_many(CREATED, SESSIONS).await;
    assert!(slow.deliveries().len() < SESSIONS, "the witness waited for the slow one, or the rate was not kept");
    slow.wait_for_many(CREATED, SESSIONS).await;
    world.count_becomes("select count(*) from delivery", 0).await;
    let endpoint = slow.endpoint_id.as_str();
    // Six at one a second with a tenth of a second's play: the last begins 4.9 s after the first, at the least.
    let spread = world
        .text(
            "select (extract(epoch from max(started_at + duration_ms * interval '1 ms')
                       - min(started_at)) * 1000)::int8::text
             from delivery_attempt where endpoint_id = $1",
            endpoint,
        )
        .await;
    let spread: i64 = spread.parse().expect("milliseconds");
    assert!(spread >= 4_700, "six deliveries within {spread} ms");
    assert_eq!(world.count("select max(attempt)::int8 from delivery_attempt").await, 1);
    world.end().await;
}

fn kinds(deliveries: &[Delivery], session: &Value) -> Vec<String> {
    let about = deliveries.iter().filter(|one| one.json["data"]["object"]["id"] == session["id"]);
    about.map(|one| one.kind().replace("checkout.session.", "")).collect()
}

#[tokio::test]
async fn an_ordered_endpoint_gets_a_sessions_events_one_after_the_other() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let ordered = world.receiver(&merchant).await;
    assert_eq!(set(&merchant, &ordered, &[("ordered", "true")]).await["ordered"], true);
    let plain = world.receiver(&merchant).await;

    ordered.answer_with(500);
    let stuck = merchant.session().await;
    let first = ordered.wait_for(CREATED).await;
    merchant.attempts_of(first.event_id(), 2).await;
    world.payer().pay(&stuck, GOOD_CARD).await;
    // To the other endpoint all of it comes, to the ordered one nothing behind the event that failed.
    plain.wait_for("checkout.session.completed").await;
    world.count_becomes("select count(*) from delivery where parked", world_parked(&world, &stuck).await).await;
    assert_eq!(kinds(&ordered.deliveries(), &stuck), ["created"]);
    // Another session is not held up by it.
    ordered.answer_with(200);
    let free = merchant.session().await;
    ordered.wait_until("the other session's event", |all| !kinds(all, &free).is_empty()).await;
    assert_eq!(kinds(&ordered.deliveries(), &stuck), ["created"]);

    world.advance(chrono::Duration::seconds(8));
    ordered.wait_for("checkout.session.completed").await;
    world.count_becomes("select count(*) from delivery", 0).await;
    let numbers: Vec<i64> = {
        let mut connection = world.database().await;
        sqlx::query_scalar(
            "select e.session_sequence::int8 from delivery_attempt a join event e on e.id = a.event_id
             where a.endpoint_id = $1 and e.session_id = $2 order by a.id",
        )
        .bind(&ordered.endpoint_id)
        .bind(stuck["id"].as_str())
        .fetch_all(&mut connection)
        .await
        .expect("the log")
    };
    let mut sorted = numbers.clone();
    sorted.sort_unstable();
    assert_eq!(numbers, sorted, "events of the session were attempted out of order");
    assert_eq!(numbers[..2], [1, 1], "the first was tried twice");
    assert_eq!(numbers.iter().filter(|number| **number > 1).count(), numbers.len() - 2, "another was tried twice");
    world.end().await;
}

/// How many events of a session wait for its first one: all others.
async fn world_parked(world: &World, session: &Value) -> i64 {
    let id = session["id"].as_str().expect("an id");
    let count = world.text("select (count(*) - 1)::text from event where session_id = $1", id).await;
    count.parse().expect("a number")
}

#[tokio::test]
async fn what_waits_for_its_turn_is_sent_at_once_when_the_endpoint_wants_order_no_more() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    set(&merchant, &receiver, &[("ordered", "true")]).await;
    let plain = world.receiver(&merchant).await;
    receiver.answer_with(500);
    let session = merchant.session().await;
    let first = receiver.wait_for(CREATED).await;
    merchant.attempts_of(first.event_id(), 2).await;
    // It is tried again in an hour, and what waits behind it does not come due by itself before that.
    world.execute("update delivery set due_at = due_at + interval '1 hour' where session_id is not null").await;
    world.payer().pay(&session, GOOD_CARD).await;
    plain.wait_for("checkout.session.completed").await;
    world.count_becomes("select count(*) from delivery where parked", world_parked(&world, &session).await).await;
    receiver.answer_with(200);
    assert_eq!(set(&merchant, &receiver, &[("ordered", "false")]).await["ordered"], false);
    receiver.wait_for("checkout.session.completed").await;
    world.count_becomes("select count(*) from delivery", 1).await;
    assert_eq!(kinds(&receiver.deliveries(), &session).iter().filter(|kind| *kind == "created").count(), 1);
    assert_eq!(world.count("select max(attempt)::int8 from delivery_attempt").await, 1, "waiting used up an attempt");
    world.end().await;
}

#[tokio::test]
async fn an_event_that_is_given_up_lets_the_next_one_of_its_session_go() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let ordered = world.receiver(&merchant).await;
    set(&merchant, &ordered, &[("ordered", "true")]).await;
    ordered.answer_with(500);
    let session = merchant.session().await;
    let first = ordered.wait_for(CREATED).await;
    world.payer().pay(&session, GOOD_CARD).await;
    for attempt in 2..=5 {
        merchant.attempts_of(first.event_id(), attempt - 1).await;
        world.advance(chrono::Duration::minutes(4));
    }
    let given_up = merchant.attempts_of(first.event_id(), 5).await;
    assert_eq!(given_up["dead"], 1);
    let second = eventually("the session's next event", async || {
        ordered.deliveries().into_iter().find(|one| one.event_id() != first.event_id())
    })
    .await;
    let number = world.text("select session_sequence::text from event where id = $1", second.event_id()).await;
    assert_eq!(number, "2");
    world.end().await;
}
