//! Events over the API: read, listed, followed to their deliveries, sent again.

use serde_json::{Value, json};

use crate::merchant::{Merchant, ids};
use crate::world::World;

const EVENTS: &str = "/v1/events";

#[tokio::test]
async fn an_event_tells_what_happened_as_it_was_then() {
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    let fields = crate::merchant::coffee_with(&[("metadata[order]", "7")]);
    let made = merchant.post_with_key("/v1/checkout/sessions", &fields, "k").await;
    let session = made.json.clone();
    let path = format!("/v1/checkout/sessions/{}", session["id"].as_str().expect("an id"));
    merchant.post(&path, &[("metadata[order]", "8")]).await.ok();
    merchant.post(&format!("{path}/expire"), &[]).await.ok();

    let list = merchant.get(EVENTS).await.ok();
    let kinds: Vec<&Value> = list["data"].as_array().expect("events").iter().map(|event| &event["type"]).collect();
    assert_eq!(kinds, [&json!("checkout.session.expired"), &json!("checkout.session.created")]);
    let [expired, created] = [&list["data"][0], &list["data"][1]];
    assert_eq!(created["request"], json!({"id": made.header("request-id"), "idempotency_key": "k"}));
    let mut frozen = session.clone();
    frozen["url"] = Value::Null;
    assert_eq!(created["data"]["object"], frozen, "the object as it was made, without the payer's link");
    assert_eq!(expired["data"]["object"]["metadata"], json!({"order": "8"}));
    assert_eq!(expired["data"]["object"]["status"], "expired");
    assert_eq!([&created["livemode"], &created["pending_webhooks"]], [&json!(false), &json!(0)]);
    let shapes: Value = serde_json::from_str(include_str!("../sdk/shapes.json")).expect("JSON");
    for key in shapes["event"].as_array().expect("keys").iter().filter_map(Value::as_str) {
        assert!(key.split('.').try_fold(created, |here, step| here.get(step)).is_some(), "no `{key}`");
    }
    let one = merchant.get(&format!("{EVENTS}/{}", created["id"].as_str().expect("an id"))).await.ok();
    assert_eq!(&one, created);
    world.end().await;
}

#[tokio::test]
async fn events_are_filtered_and_paged() {
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    let first = merchant.session().await;
    let first_id = first["id"].as_str().expect("an id");
    world.advance(chrono::Duration::seconds(10));
    merchant.post(&format!("/v1/checkout/sessions/{first_id}/expire"), &[]).await.ok();
    world.advance(chrono::Duration::seconds(10));
    merchant.post("/v1/webhook_endpoints", &[("url", "https://shop.example/h"), ("enabled_events[]", "*")]).await.ok();
    merchant.session().await;
    let all = ids(&merchant.get(EVENTS).await.ok());
    let [owed, expired, created] = [0, 1, 2].map(|place: usize| all[place].clone());
    let middle = merchant.get(&format!("{EVENTS}/{expired}")).await.ok()["created"].as_i64().expect("a time");
    for (query, expected) in [
        ("type=checkout.session.expired".to_owned(), vec![&expired]),
        ("type=checkout.session.*".to_owned(), vec![&owed, &expired, &created]),
        ("type=checkout.*".to_owned(), vec![&owed, &expired, &created]),
        ("type=*".to_owned(), vec![&owed, &expired, &created]),
        ("types[]=charge.failed&types[]=*".to_owned(), vec![&owed, &expired, &created]),
        ("types[]=checkout.session.created&types[]=charge.failed".to_owned(), vec![&owed, &created]),
        (format!("related_object={first_id}"), vec![&expired, &created]),
        ("delivery_success=false".to_owned(), vec![&owed]),
        ("delivery_success=true".to_owned(), vec![&expired, &created]),
        (format!("created[gt]={middle}"), vec![&owed]),
        (format!("created={middle}"), vec![&expired]),
        ("limit=2".to_owned(), vec![&owed, &expired]),
        (format!("limit=2&starting_after={owed}"), vec![&expired, &created]),
        (format!("limit=1&ending_before={created}"), vec![&expired]),
        (format!("limit=2&ending_before={created}"), vec![&owed, &expired]),
    ] {
        let list = merchant.get(&format!("{EVENTS}?{query}")).await.ok();
        assert_eq!(ids(&list).iter().collect::<Vec<_>>(), expected, "{query}");
    }
    let up = merchant.get(&format!("{EVENTS}?limit=1&ending_before={created}")).await.ok();
    assert_eq!(up["has_more"], true, "one more lies above");
    let many: String = (0..21).map(|number| format!("types[{number}]=a&")).collect();
    for (query, code, param) in [
        ("type=a&types[]=b", "parameters_exclusive", "types"),
        ("type=checkout.session", "parameter_invalid", "type"),
        ("types[]=*&types[]=foo.bar", "parameter_invalid", "types[1]"),
        (many.as_str(), "parameter_invalid", "types"),
        ("delivery_success=yes", "parameter_invalid_boolean", "delivery_success"),
        ("created[gt]=-8000000000000", "parameter_invalid_integer", "created[gt]"),
    ] {
        merchant.get(&format!("{EVENTS}?{query}")).await.refused_with(400, code, param);
    }
    world.end().await;
}

/// Waits until so many attempts are written down and nothing is owed: the mark follows the receiver's
/// answer by a moment.
async fn followed(merchant: &Merchant, path: &str, attempts: usize) -> Value {
    let mut tick = tokio::time::interval(std::time::Duration::from_millis(20));
    let following = async {
        loop {
            tick.tick().await;
            let told = merchant.get(&format!("{path}/deliveries")).await.ok();
            if told["attempts"].as_array().is_some_and(|all| all.len() == attempts) && told["pending"] == 0 {
                return told;
            }
        }
    };
    let told = tokio::time::timeout(std::time::Duration::from_secs(30), following).await;
    told.unwrap_or_else(|_| panic!("{attempts} attempts are not written down"))
}

#[tokio::test]
async fn an_event_can_be_followed_to_its_receiver_and_sent_again() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    merchant.session().await;
    let delivery = receiver.wait_for("checkout.session.created").await;
    let path = format!("{EVENTS}/{}", delivery.event_id());

    // An attempt that was overtaken by the next resend is not written down, so each is waited for.
    followed(&merchant, &path, 1).await;
    let again = merchant.post_with_key(&format!("{path}/resend"), &[], "again").await.ok();
    assert_eq!(again["pending_webhooks"], 1);
    followed(&merchant, &path, 2).await;
    let replay = merchant.post_with_key(&format!("{path}/resend"), &[], "again").await;
    assert_eq!(replay.header("idempotent-replayed"), Some("true"));
    let fields = [("webhook_endpoint", receiver.endpoint_id.as_str()), ("expand[]", "data")];
    merchant.post(&format!("{path}/resend"), &fields).await.ok();
    let told = followed(&merchant, &path, 3).await;
    let arrived = receiver.deliveries();
    assert!(arrived.len() == 3 && arrived.iter().all(|each| each.event_id() == delivery.event_id()));
    for attempt in told["attempts"].as_array().expect("attempts") {
        assert_eq!([&attempt["outcome"], &attempt["status_code"]], [&json!("delivered"), &json!(200)]);
        assert_eq!(attempt["webhook_endpoint"], receiver.endpoint_id);
    }
    assert_eq!([&told["object"], &told["dead"]], [&json!("event_deliveries"), &json!(0)]);
    assert_eq!(merchant.get(&path).await.ok()["pending_webhooks"], 0);

    let elsewhere = "we_00000000000000000000000000";
    for (fields, status, param) in [
        (vec![("webhook_endpoint", elsewhere)], 400, "webhook_endpoint"),
        (vec![("webhook_endpoint", "x")], 400, "webhook_endpoint"),
        (vec![("endpoint", elsewhere)], 400, "endpoint"),
    ] {
        let error = merchant.post(&format!("{path}/resend"), &fields).await.refused(status);
        assert_eq!(error["param"], param);
    }
    merchant.delete(&format!("/v1/webhook_endpoints/{}", receiver.endpoint_id)).await.ok();
    merchant.post(&format!("{path}/resend"), &[]).await.refused_with(400, "resource_missing", "");
    world.end().await;
}
