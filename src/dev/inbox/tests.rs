//! The inbox as a receiver: what it believes, what it counts, what it keeps.

use axum::body::Body;
use axum::http::Request;
use tower::ServiceExt as _;

use super::*;
use crate::domain::signature::{standard_webhooks_signature, stripe_signature_header};

const NOW: i64 = 1_767_323_045;

fn inbox() -> Inbox {
    Inbox::new(SigningSecret::generate(), Arc::new(|| DateTime::from_timestamp(NOW, 0).expect("a moment")))
}

fn event(id: &str) -> String {
    format!(r#"{{"id":"{id}","type":"checkout.session.completed","data":{{"object":{{"id":"cs_test_1"}}}}}}"#)
}

fn signed(secret: &SigningSecret, id: &str, at: i64, body: &str) -> HeaderMap {
    let secrets = std::slice::from_ref(secret);
    let value = |text: String| text.parse().expect("a header value");
    HeaderMap::from_iter([
        ("stripe-signature".parse().expect("a name"), value(stripe_signature_header(secrets, at, body))),
        ("webhook-id".parse().expect("a name"), value(id.to_owned())),
        ("webhook-timestamp".parse().expect("a name"), value(at.to_string())),
        ("webhook-signature".parse().expect("a name"), value(standard_webhooks_signature(secrets, id, at, body))),
    ])
}

fn deliver(inbox: &Inbox, id: &str) -> Arc<Message> {
    let body = event(id);
    inbox.receive(&signed(&inbox.secret, id, NOW, &body), body.as_bytes())
}

async fn answer_to(inbox: &Inbox, request: Request<Body>) -> (StatusCode, String) {
    let answer = router(inbox.clone()).oneshot(request).await.expect("infallible");
    let status = answer.status();
    let body = axum::body::to_bytes(answer.into_body(), 1 << 20).await.expect("a body");
    (status, String::from_utf8(body.to_vec()).expect("UTF-8"))
}

fn post_of(headers: HeaderMap, body: impl Into<Body>) -> Request<Body> {
    let mut request = Request::post(WEBHOOKS_PATH).body(body.into()).expect("a request");
    *request.headers_mut() = headers;
    request
}

fn get_of(path: &str) -> Request<Body> {
    Request::get(path).body(Body::empty()).expect("a request")
}

#[tokio::test]
async fn a_signed_event_is_taken_and_shown() {
    let inbox = inbox();
    let body = event("evt_1");
    let headers = signed(&inbox.secret, "evt_1", NOW, &body);
    assert_eq!(answer_to(&inbox, post_of(headers, body)).await.0, StatusCode::OK);

    let (_, list) = answer_to(&inbox, get_of("/inbox")).await;
    assert!(list.contains("checkout.session.completed") && list.contains("evt_1"), "{list}");
    assert!(list.contains("http-equiv=\"refresh\" content=\"5;url=/inbox\""), "{list}");
    let (_, held) = answer_to(&inbox, get_of("/inbox?refresh=off")).await;
    assert!(!held.contains("http-equiv"), "{held}");
    let (status, page) = answer_to(&inbox, get_of("/inbox/1")).await;
    assert_eq!(status, StatusCode::OK);
    assert!(page.contains("webhook-signature") && page.contains("right, over"), "{page}");
    for unknown in ["/inbox/2", "/inbox/-1", "/inbox/x"] {
        assert_eq!(answer_to(&inbox, get_of(unknown)).await.0, StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn what_is_not_signed_right_is_refused_and_says_why() {
    let inbox = inbox();
    let body = event("evt_1");
    let other = SigningSecret::generate();
    let mut half = signed(&inbox.secret, "evt_1", NOW, &body);
    half.remove("webhook-signature");
    for (headers, reason) in [
        (HeaderMap::new(), "Stripe-Signature: the header is missing"),
        (signed(&other, "evt_1", NOW, &body), "Stripe-Signature: no signature matches"),
        (signed(&inbox.secret, "evt_1", NOW - 301, &body), "outside the tolerance"),
        (half, "webhook-signature: the webhook-signature header is missing"),
    ] {
        let (status, answer) = answer_to(&inbox, post_of(headers, body.clone())).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(answer.contains(reason), "{answer}");
    }
    assert!(inbox.newest_about("cs_test_1", &["checkout.session.completed"]).is_none());
}

#[test]
fn the_same_event_twice_is_one_entry_with_a_count() {
    let inbox = inbox();
    deliver(&inbox, "evt_1");
    deliver(&inbox, "evt_2");
    assert_eq!(deliver(&inbox, "evt_1").attempt_count, 2);
    let kept = inbox.messages();
    assert_eq!(kept.iter().map(|message| message.number).collect::<Vec<_>>(), [1, 2]);
    assert!(!kept[0].body_changed);
}

#[test]
fn a_forged_repeat_leaves_the_verified_event_alone() {
    let inbox = inbox();
    deliver(&inbox, "evt_1");
    assert!(!inbox.receive(&HeaderMap::new(), event("evt_1").as_bytes()).verified());
    assert_eq!(inbox.messages().len(), 2);
    assert!(inbox.message(1).is_some_and(|message| message.verified() && message.attempt_count == 1));
}

#[test]
fn a_repeat_with_another_body_is_told() {
    let inbox = inbox();
    deliver(&inbox, "evt_1");
    let other = event("evt_1").replace("cs_test_1", "cs_test_2");
    let message = inbox.receive(&signed(&inbox.secret, "evt_1", NOW, &other), other.as_bytes());
    assert!(message.body_changed && message.body.contains("cs_test_1"));
}

#[test]
fn the_oldest_give_way_and_large_bodies_count() {
    let inbox = inbox();
    for number in 0..MESSAGES_MAX + 3 {
        deliver(&inbox, &format!("evt_{number}"));
    }
    let kept = inbox.messages();
    assert_eq!(kept.len(), MESSAGES_MAX);
    assert_eq!(kept[MESSAGES_MAX - 1].event_id, "evt_3");

    let large = vec![b' '; BODY_BYTES_MAX];
    for _ in 0..BODIES_BYTES_MAX / BODY_BYTES_MAX + 1 {
        inbox.receive(&HeaderMap::new(), &large);
    }
    assert_eq!(inbox.messages().len(), BODIES_BYTES_MAX / BODY_BYTES_MAX);
}

#[tokio::test]
async fn a_body_above_the_limit_is_not_read() {
    let inbox = inbox();
    let (status, _) = answer_to(&inbox, post_of(HeaderMap::new(), vec![b' '; BODY_BYTES_MAX + 1])).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(inbox.messages().is_empty());
}

#[tokio::test]
async fn what_is_no_event_is_shown_escaped_all_the_same() {
    let inbox = inbox();
    answer_to(&inbox, post_of(HeaderMap::new(), "<script>\u{1}")).await;
    answer_to(&inbox, post_of(HeaderMap::new(), vec![0xff, 0xfe])).await;
    let (_, page) = answer_to(&inbox, get_of("/inbox/1")).await;
    assert!(page.contains("Not an event") && page.contains("&#60;script&#62;"), "{page}");
    assert_eq!(inbox.messages().len(), 2);
}

#[tokio::test]
async fn the_list_for_programs_has_what_tests_need() {
    let inbox = inbox();
    deliver(&inbox, "evt_1");
    deliver(&inbox, "evt_1");
    let (_, json) = answer_to(&inbox, get_of("/inbox.json")).await;
    let list: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(list[0]["event_id"], "evt_1");
    assert_eq!(list[0]["type"], "checkout.session.completed");
    assert_eq!(list[0]["verified"], true);
    assert_eq!(list[0]["attempt_count"], 2);
    assert_eq!(list[0]["received_at"], "2026-01-02T03:04:05.000Z");
    assert_eq!(list[0]["body"]["data"]["object"]["id"], "cs_test_1");
}
