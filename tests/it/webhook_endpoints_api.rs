//! Webhook endpoints over the API: made, read, changed, listed, deleted; which URLs and events are taken.

use serde_json::{Value, json};

use crate::merchant::{Refused, ids};
use crate::world::{World, WorldOptions};

const ENDPOINTS: &str = "/v1/webhook_endpoints";
const HOOKS: (&str, &str) = ("url", "https://shop.example/hooks");
const ALL: (&str, &str) = ("enabled_events[]", "*");

#[tokio::test]
async fn an_endpoint_is_made_read_changed_and_deleted_and_tells_its_secret_once() {
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    let fields = [
        HOOKS,
        ("enabled_events[0]", "checkout.session.completed"),
        ("enabled_events[1]", "checkout.session.*"),
        ("description", "Orders"),
        ("metadata[team]", "shop"),
        ("api_version", "2024-06-20"),
    ];
    let made = merchant.post(ENDPOINTS, &fields).await.ok();
    assert!(made["secret"].as_str().is_some_and(|secret| secret.starts_with("whsec_") && secret.len() >= 38), "{made}");
    let path = format!("{ENDPOINTS}/{}", made["id"].as_str().expect("an id"));

    let mut expected = made.clone();
    expected.as_object_mut().expect("an object").remove("secret");
    assert_eq!(merchant.get(&path).await.ok(), expected);
    assert_eq!(merchant.get(ENDPOINTS).await.ok()["data"], json!([expected]));
    let shapes: Value = serde_json::from_str(include_str!("../sdk/shapes.json")).expect("JSON");
    for key in shapes["webhook_endpoint"].as_array().expect("keys").iter().filter_map(Value::as_str) {
        assert!(expected.get(key).is_some(), "no `{key}`");
    }

    let change = [("disabled", "true"), ("description", ""), ("metadata[team]", ""), ("metadata[on]", "call")];
    let changed = merchant.post(&path, &change).await.ok();
    assert_eq!([&changed["status"], &changed["description"]], [&json!("disabled"), &Value::Null]);
    assert_eq!([&changed["metadata"], &changed["url"]], [&json!({"on": "call"}), &json!(HOOKS.1)]);
    assert!(changed.get("secret").is_none());
    let change = json!({"disabled": false, "enabled_events": ["*"], "url": "https://shop.example/v2"});
    let changed = merchant.post_json(&path, &change).await.ok();
    assert_eq!([&changed["status"], &changed["enabled_events"]], [&json!("enabled"), &json!(["*"])]);
    assert_eq!(merchant.get(&path).await.ok(), changed);

    let deleted = merchant.delete(&path).await.ok();
    assert_eq!(deleted, json!({"id": made["id"], "object": "webhook_endpoint", "deleted": true}));
    merchant.get(&path).await.refused_with(404, "resource_missing", "id");
    merchant.delete(&path).await.refused_with(404, "resource_missing", "id");
    merchant.post(&path, &[("disabled", "true")]).await.refused_with(404, "resource_missing", "id");
    world.end().await;
}

#[tokio::test]
async fn a_malformed_endpoint_is_refused_and_nothing_is_kept_of_it() {
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    let made = merchant.post(ENDPOINTS, &[HOOKS, ALL]).await.ok();
    let path = format!("{ENDPOINTS}/{}", made["id"].as_str().expect("an id"));
    let before = (world.rows().await, merchant.get(&path).await.ok());
    let long = format!("https://shop.example/{}", "a".repeat(2048));
    let urls = [
        "http://shop.example/hooks",
        "https://user:secret@shop.example/hooks",
        "https://10.0.0.1/hooks",
        "https://169.254.169.254/latest/meta-data",
        "https://2130706433/",
        "https://localhost./",
        "https://postgres:5432/",
        "https://shop.example/#fragment",
        "https://shop.example\\@evil.example/",
        "https://shop.example/\thooks",
        "ftp://shop.example/",
        "file:///etc/passwd",
        "shop.example/hooks",
        long.as_str(),
    ];
    for url in urls {
        merchant.post_with_key(ENDPOINTS, &[("url", url), ALL], "k").await.refused_with(400, "url_invalid", "url");
        merchant.post_with_key(&path, &[("url", url)], "k").await.refused_with(400, "url_invalid", "url");
    }
    let too_many: Vec<(&str, &str)> = std::iter::once(HOOKS).chain(std::iter::repeat_n(ALL, 101)).collect();
    let long_name = "a".repeat(101);
    let cases: [Refused; 12] = [
        (&[HOOKS], "parameter_missing", "enabled_events"),
        (&[ALL], "parameter_missing", "url"),
        (&[("url", ""), ALL], "parameter_invalid_empty", "url"),
        (&[HOOKS, ("enabled_events", "*")], "parameter_invalid_array", "enabled_events"),
        (&[HOOKS, ("enabled_events[]", "")], "parameter_invalid_empty", "enabled_events[0]"),
        (&[HOOKS, ("enabled_events[]", "Checkout.Session")], "parameter_invalid", "enabled_events[0]"),
        (&[HOOKS, ("enabled_events[]", "checkout.*.completed")], "parameter_invalid", "enabled_events[0]"),
        (&[HOOKS, ("enabled_events[]", &long_name)], "parameter_invalid", "enabled_events[0]"),
        (&too_many, "parameter_invalid", "enabled_events"),
        (&[HOOKS, ALL, ("connect", "true")], "parameter_unsupported", "connect"),
        (&[HOOKS, ALL, ("secret", "whsec_mine")], "parameter_unknown", "secret"),
        (&[HOOKS, ALL, ("enabled_event[]", "*")], "parameter_unknown", "enabled_event"),
    ];
    for (fields, code, param) in cases {
        merchant.post_with_key(ENDPOINTS, fields, "k").await.refused_with(400, code, param);
    }
    merchant.post_json(ENDPOINTS, &json!({"url": HOOKS.1, "enabled_events": []})).await.refused_with(
        400,
        "parameter_invalid_empty",
        "enabled_events",
    );
    merchant.post(&path, &[("disabled", "maybe")]).await.refused_with(400, "parameter_invalid_boolean", "disabled");
    assert_eq!((world.rows().await, merchant.get(&path).await.ok()), before);
    world.end().await;
}

#[tokio::test]
async fn loopback_endpoints_need_the_operators_word_and_test_mode() {
    let settings = vec![("LOOPBACK_WEBHOOKS", "false".to_owned())];
    let closed = World::with(WorldOptions { worker: false, settings, ..WorldOptions::default() }).await;
    let merchant = closed.merchant().await;
    for url in ["http://127.0.0.1:9/", "http://localhost:9/", "https://[::1]/", "https://localhost/"] {
        merchant.post(ENDPOINTS, &[("url", url), ALL]).await.refused_with(400, "url_invalid", "url");
    }
    closed.end().await;

    let open = World::without_worker().await;
    let test = open.merchant().await;
    let live = open.another_key(&test, true, |_| ()).await;
    for url in ["http://127.0.0.1:9/", "http://localhost:9/", "https://[::1]/"] {
        test.post(ENDPOINTS, &[("url", url), ALL]).await.ok();
        live.post(ENDPOINTS, &[("url", url), ALL]).await.refused_with(400, "url_invalid", "url");
    }
    live.post(ENDPOINTS, &[("url", "https://shop.example:8443/"), ALL]).await.refused_with(400, "url_invalid", "url");
    live.post(ENDPOINTS, &[HOOKS, ALL]).await.ok();
    open.end().await;
}

#[tokio::test]
async fn a_merchant_keeps_no_more_endpoints_than_the_bound_also_when_asked_at_once() {
    let settings = vec![("WEBHOOK_ENDPOINTS_MAX", "3".to_owned())];
    let world = World::with(WorldOptions { worker: false, settings, ..WorldOptions::default() }).await;
    let merchant = world.merchant().await;
    let requests = (0..8).map(|_| merchant.post(ENDPOINTS, &[HOOKS, ALL]));
    let answers = futures_util::future::join_all(requests).await;
    let made = answers.iter().filter(|answer| answer.status == 200).count();
    for answer in answers.into_iter().filter(|answer| answer.status != 200) {
        answer.refused_with(400, "webhook_endpoints_limit", "url");
    }
    assert_eq!(made, 3);
    let list = merchant.get(&format!("{ENDPOINTS}?limit=2")).await.ok();
    assert_eq!((ids(&list).len(), &list["has_more"]), (2, &json!(true)));
    merchant.delete(&format!("{ENDPOINTS}/{}", ids(&list)[0])).await.ok();
    merchant.post(ENDPOINTS, &[HOOKS, ALL]).await.ok();
    // Live mode has a bound of its own.
    let live = world.another_key(&merchant, true, |_| ()).await;
    live.post(ENDPOINTS, &[HOOKS, ALL]).await.ok();
    world.end().await;
}
