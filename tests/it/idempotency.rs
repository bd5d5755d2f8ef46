//! Requests sent twice: one key is one change and one answer, whoever asks, whenever and wherever.

use checkstand::ops::sweep;
use serde_json::json;
use sqlx::{Connection, Executor};

use crate::merchant::{Answer, coffee, coffee_with};
use crate::world::World;

const SESSIONS: &str = "/v1/checkout/sessions";
const MISMATCH: &str = "Keys for idempotent requests can only be used with the same parameters";

#[track_caller]
fn is_replay(first: &Answer, again: &Answer) {
    assert_eq!(first.header("idempotent-replayed"), None);
    assert_eq!(again.header("idempotent-replayed"), Some("true"), "{}", again.text);
    assert_eq!((first.status, &first.text), (again.status, &again.text));
    assert_ne!(first.header("request-id"), again.header("request-id"));
}

#[track_caller]
fn is_mismatch(answer: Answer) {
    let error = answer.refused(400);
    assert_eq!(error["type"], "idempotency_error");
    assert!(error["message"].as_str().is_some_and(|text| text.starts_with(MISMATCH)), "{error}");
}

#[tokio::test]
async fn a_repeated_request_gets_the_first_answer_byte_for_byte() {
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    let key = "order-7 :~!";
    let first = merchant.post_with_key(SESSIONS, &coffee(), key).await;
    assert_eq!(first.header("idempotency-key"), Some(key));
    let id = first.json["id"].as_str().expect("an id").to_owned();
    // What happens to the session meanwhile does not change what the first answer was.
    merchant.post(&format!("{SESSIONS}/{id}/expire"), &[]).await.ok();
    let rows = world.rows().await;
    is_replay(&first, &merchant.post_with_key(SESSIONS, &coffee(), key).await);
    assert_eq!(world.rows().await, rows);

    let path = format!("{SESSIONS}/{}", merchant.session().await["id"].as_str().expect("an id"));
    let first = merchant.post_with_key(&path, &[("metadata[a]", "1")], "update").await;
    merchant.post(&path, &[("metadata[a]", "2")]).await.ok();
    is_replay(&first, &merchant.post_with_key(&path, &[("metadata[a]", "1")], "update").await);
    assert_eq!(merchant.get(&path).await.ok()["metadata"], json!({"a": "2"}), "a replay changes nothing");
    let expire = format!("{path}/expire");
    let first = merchant.post_with_key(&expire, &[], "expire").await;
    assert_eq!(first.json["state"], "expired");
    is_replay(&first, &merchant.post_with_key(&expire, &[], "expire").await);
    world.end().await;
}

#[tokio::test]
async fn a_secret_that_is_shown_once_is_shown_again_to_the_same_request_only() {
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    let fields = [("url", "https://shop.example/hooks"), ("enabled_events[]", "*")];
    let first = merchant.post_with_key("/v1/webhook_endpoints", &fields, "endpoint").await;
    let secret = first.json["secret"].as_str().expect("a secret").to_owned();
    assert!(secret.starts_with("whsec_"));
    is_replay(&first, &merchant.post_with_key("/v1/webhook_endpoints", &fields, "endpoint").await);
    assert_eq!(world.count("select count(*) from webhook_endpoint").await, 1);
    let bare = &secret["whsec_".len()..];
    let kept: Vec<u8> = {
        let mut database = world.database().await;
        sqlx::query_scalar("select body_sealed from idempotency_key").fetch_one(&mut database).await.expect("a row")
    };
    assert!(!kept.windows(bare.len()).any(|window| window == bare.as_bytes()), "the kept answer is sealed");
    world.end().await;
}

#[tokio::test]
async fn a_key_belongs_to_one_request_one_merchant_and_one_mode() {
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    let session = merchant.post_with_key(SESSIONS, &coffee(), "k").await.ok();
    let rows = world.rows().await;
    is_mismatch(merchant.post_with_key(SESSIONS, &coffee_with(&[("metadata[a]", "1")]), "k").await);
    is_mismatch(merchant.post_with_key(&format!("{SESSIONS}?expand[]=line_items"), &coffee(), "k").await);
    let expire = format!("{SESSIONS}/{}/expire", session["id"].as_str().expect("an id"));
    is_mismatch(merchant.post_with_key(&expire, &[], "k").await);
    is_mismatch(merchant.post_with_key("/v1/redirect_urls", &[("url", "https://other.example")], "k").await);
    assert_eq!(merchant.read(&session).await["status"], "open");
    assert_eq!(world.rows().await, rows);

    let stranger = world.merchant().await;
    let other = stranger.post_with_key(SESSIONS, &coffee(), "k").await;
    assert_eq!(other.header("idempotent-replayed"), None);
    assert_ne!(other.ok()["id"], session["id"]);
    let live = world.another_key(&merchant, true, |_| ()).await;
    let allowed = live.post_with_key("/v1/redirect_urls", &[("url", "https://shop.example")], "k").await;
    assert_eq!(allowed.header("idempotent-replayed"), None);
    assert_eq!(allowed.ok()["livemode"], true);
    // Another key of the same merchant is the same merchant.
    let second = world.another_key(&merchant, false, |_| ()).await;
    assert_eq!(second.post_with_key(SESSIONS, &coffee(), "k").await.ok()["id"], session["id"]);
    world.end().await;
}

/// What is refused before its operation begins still hears first that the key is taken.
#[tokio::test]
async fn a_key_that_was_used_is_taken_even_for_objects_that_are_not_there() {
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    merchant.post_with_key(SESSIONS, &coffee(), "k").await.ok();
    let unknown_payment = [("payment_intent", "pi_x")];
    let rows = world.rows().await;
    let cases: [(&str, &[(&str, &str)]); 10] = [
        ("/v1/refunds", &unknown_payment),
        ("/v1/refunds", &[]),
        ("/v1/refunds/re_x", &[("metadata[a]", "1")]),
        ("/v1/payment_intents/pi_x/capture", &[]),
        ("/v1/payment_intents/pi_x/cancel", &[]),
        ("/v1/checkout/sessions/cs_x/expire", &[]),
        ("/v1/customers/cus_x", &[("name", "")]),
        ("/v1/events/evt_x/resend", &[]),
        ("/v1/escrows/esc_x/sessions", &[("action", "complete")]),
        ("/v1/checkout/sessions", &[("mode", "sideways")]),
    ];
    for (path, fields) in cases {
        is_mismatch(merchant.post_with_key(path, fields, "k").await);
        let without_key = merchant.post(path, fields).await;
        assert_ne!(without_key.json["error"]["type"], "idempotency_error", "{path}: {}", without_key.text);
    }
    assert_eq!(world.rows().await, rows);
    // The same request again keeps its answer, though it would be refused by now.
    let url = [("url", "https://hooks.example")];
    let endpoint = merchant.post_with_key("/v1/redirect_urls", &url, "allow").await.ok();
    let session = coffee_with(&[("success_url", "https://hooks.example/thanks")]);
    let first = merchant.post_with_key(SESSIONS, &session, "while allowed").await;
    merchant.delete(&format!("/v1/redirect_urls/{}", endpoint["id"].as_str().expect("an id"))).await.ok();
    is_replay(&first, &merchant.post_with_key(SESSIONS, &session, "while allowed").await);
    world.end().await;
}

#[tokio::test]
async fn a_refused_request_does_not_use_its_key_up() {
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    let rows = world.rows().await;
    merchant.post_with_key(SESSIONS, &[], "k").await.refused(400);
    merchant.post_with_key(SESSIONS, &coffee_with(&[("success_url", "https://evil.example")]), "k").await.refused(400);
    merchant.with_key("sk_test_x", "").post_with_key(SESSIONS, &coffee(), "k").await.refused(401);
    assert_eq!(world.rows().await, rows);
    let made = merchant.post_with_key(SESSIONS, &coffee(), "k").await;
    assert_eq!(made.header("idempotent-replayed"), None);
    // A state that forbids the request is a refusal like any other: the key is free afterwards.
    let expire = format!("{SESSIONS}/{}/expire", made.ok()["id"].as_str().expect("an id"));
    merchant.post(&expire, &[]).await.ok();
    merchant.post_with_key(&expire, &[], "e").await.refused(400);
    merchant.post_with_key(SESSIONS, &coffee(), "e").await.ok();
    world.end().await;
}

#[tokio::test]
async fn a_key_is_one_to_255_printable_characters() {
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    let longest = "k".repeat(255);
    merchant.post_with_key(SESSIONS, &coffee(), &longest).await.ok();
    let rows = world.rows().await;
    merchant.post_with_key(SESSIONS, &coffee(), &"k".repeat(256)).await.refused_with(
        400,
        "idempotency_key_invalid",
        "",
    );
    merchant.post_with_key(SESSIONS, &coffee(), "").await.refused_with(400, "idempotency_key_invalid", "");
    merchant.post_with_key(SESSIONS, &coffee(), "schlüssel").await.refused_with(400, "idempotency_key_invalid", "");
    assert_eq!(world.rows().await, rows);
    world.end().await;
}

#[tokio::test]
async fn a_request_is_replayed_even_when_it_would_be_refused_by_now() {
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    let deadline = (world.now() + 60).to_string();
    let fields = coffee_with(&[("expires_at", &deadline)]);
    let first = merchant.post_with_key(SESSIONS, &fields, "k").await;
    // A retry half a minute later asks for less than the shortest lifetime, but it asks for nothing new.
    world.advance(chrono::Duration::seconds(30));
    is_replay(&first, &merchant.post_with_key(SESSIONS, &fields, "k").await);
    let allowed = merchant.get("/v1/redirect_urls").await.ok();
    for id in crate::merchant::ids(&allowed) {
        merchant.delete(&format!("/v1/redirect_urls/{id}")).await.ok();
    }
    is_replay(&first, &merchant.post_with_key(SESSIONS, &fields, "k").await);
    is_mismatch(merchant.post_with_key(SESSIONS, &coffee(), "k").await);
    world.end().await;
}

#[tokio::test]
async fn twenty_requests_with_one_key_at_once_make_one_object() {
    let mut world = World::without_worker().await;
    world.add_replica().await;
    let merchant = world.merchant().await;
    let bases: Vec<String> = world.replicas.iter().map(|replica| replica.base.clone()).collect();
    let endpoint = vec![("url", "https://shop.example/hooks"), ("enabled_events[]", "*")];
    for (path, fields, count) in [
        (SESSIONS, coffee(), "select count(*) from checkout_session"),
        ("/v1/webhook_endpoints", endpoint, "select count(*) from webhook_endpoint"),
    ] {
        let requests = (0..20).map(|number| {
            let merchant = merchant.at(&bases[number % bases.len()]);
            let fields = &fields;
            async move { merchant.post_with_key(path, fields, path).await }
        });
        let answers = futures_util::future::join_all(requests).await;
        let mut ids: Vec<String> = Vec::new();
        for answer in answers {
            if answer.status == 409 {
                answer.refused_with(409, "idempotency_key_in_use", "");
            } else {
                ids.push(answer.ok()["id"].as_str().expect("an id").to_owned());
            }
        }
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 1, "{path}: {ids:?}");
        assert_eq!(world.count(count).await, 1);
    }
    assert_eq!(world.count("select count(*) from event").await, 1);
    world.end().await;
}

#[tokio::test]
async fn a_key_whose_first_request_is_still_running_is_in_use() {
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    let mut first = world.database().await;
    first.execute("begin").await.expect("begins");
    sqlx::query(
        "insert into idempotency_key values ($1, false, 'k', 'POST /v1/checkout/sessions', '\\x00', 200, '\\x00', now())",
    )
    .bind(&merchant.id)
    .execute(&mut first)
    .await
    .expect("a row that nobody sees yet");
    let endpoint = [("url", "https://shop.example/hooks"), ("enabled_events[]", "*")];
    for (path, fields) in [(SESSIONS, coffee()), ("/v1/webhook_endpoints", endpoint.to_vec())] {
        let error = merchant.post_with_key(path, &fields, "k").await.refused_with(409, "idempotency_key_in_use", "");
        assert_eq!(error["type"], "idempotency_error");
    }
    assert_eq!(world.count("select count(*) from checkout_session").await, 0);
    first.execute("rollback").await.expect("rolls back");
    merchant.post_with_key(SESSIONS, &coffee(), "k").await.ok();
    first.close().await.expect("closes");
    world.end().await;
}

#[tokio::test]
async fn an_answer_outlives_its_process_and_is_the_same_at_every_replica() {
    let mut world = World::without_worker().await;
    let merchant = world.merchant().await;
    let first = merchant.post_with_key(SESSIONS, &coffee(), "k").await;
    world.add_replica().await;
    is_replay(&first, &merchant.at(&world.replicas[1].base).post_with_key(SESSIONS, &coffee(), "k").await);
    world.replicas[0].stop().await;
    world.add_replica().await;
    is_replay(&first, &merchant.at(&world.replicas[2].base).post_with_key(SESSIONS, &coffee(), "k").await);
    world.end().await;
}

#[tokio::test]
async fn an_answer_is_kept_for_a_day_and_then_forgotten() {
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    let first = merchant.post_with_key(SESSIONS, &coffee(), "k").await;
    world.advance(chrono::Duration::hours(24) - chrono::Duration::minutes(1));
    sweep::tidy(world.app()).await.expect("tidies");
    is_replay(&first, &merchant.post_with_key(SESSIONS, &coffee(), "k").await);
    world.advance(chrono::Duration::minutes(2));
    sweep::tidy(world.app()).await.expect("tidies");
    assert_eq!(world.count("select count(*) from idempotency_key").await, 0);
    let again = merchant.post_with_key(SESSIONS, &coffee(), "k").await;
    assert_eq!(again.header("idempotent-replayed"), None);
    assert_ne!(again.ok()["id"], first.ok()["id"]);
    world.end().await;
}
