//! The API as a whole, walked by its own OpenAPI document: no route is open to strangers, none shows
//! one merchant what is another's, and every answer is of the documented kind.

use reqwest::Method;
use serde_json::{Value, json};

use crate::merchant::{Answer, Merchant};
use crate::world::{World, WorldOptions};

const COMMITTED: &str = include_str!("../../openapi.json");

/// Method, path and operation of everything in the document.
fn operations() -> Vec<(Method, String, Value)> {
    let document: Value = serde_json::from_str(COMMITTED).expect("the document is JSON");
    let mut operations = Vec::new();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).expect("a method");
            operations.push((method, path.clone(), operation.clone()));
        }
    }
    assert!(operations.len() >= 18, "the document has lost operations");
    operations
}

#[track_caller]
fn is_json(answer: &Answer) {
    assert!(answer.header("content-type").is_some_and(|kind| kind.starts_with("application/json")), "{}", answer.text);
    assert!(answer.header("request-id").is_some_and(|id| id.starts_with("req_") && id.len() == 28), "no Request-Id");
    assert_eq!(answer.header("stripe-notice"), None);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
}

#[test]
fn the_committed_document_is_the_one_that_the_code_makes() {
    assert!(
        COMMITTED == checkstand::api::openapi_json(),
        "openapi.json is out of date; write it anew with: cargo run -- openapi > openapi.json"
    );
}

#[test]
fn the_document_is_well_formed_and_every_reference_leads_somewhere() {
    let document: Value = serde_json::from_str(COMMITTED).expect("the document is JSON");
    assert_eq!(document["openapi"], "3.1.0");
    let mut ids = Vec::new();
    for (method, path, operation) in operations() {
        let id = operation["operationId"].as_str().expect("every operation has an id").to_owned();
        assert!(!ids.contains(&id), "{method} {path}: operation id {id} is taken");
        ids.push(id);
        assert!(operation["tags"].as_array().is_some_and(|tags| !tags.is_empty()), "{method} {path}");
        assert!(operation["summary"].is_string(), "{method} {path} has no summary");
        for status in ["200", "4XX"] {
            let media_type =
                if status == "200" && path.ends_with("/stream") { "text/event-stream" } else { "application/json" };
            let schema = &operation["responses"][status]["content"][media_type]["schema"];
            assert!(schema.is_object(), "{method} {path} does not say what {status} looks like");
        }
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let name = parameter["name"].as_str().expect("a parameter has a name");
            let place = if path.contains(&format!("{{{name}}}")) { "path" } else { "query" };
            assert_eq!(parameter["in"], place, "{method} {path} {name}");
        }
        assert_eq!(path.contains("{id}"), operation["parameters"][0]["name"] == "id", "{method} {path}");
        if method == Method::POST {
            // Forms can be sent by foreign pages, so a payer's token takes none.
            let kinds = ["application/json", "application/x-www-form-urlencoded"];
            for media_type in &kinds[..if path.contains("{token}") { 1 } else { 2 }] {
                let schema = &operation["requestBody"]["content"][media_type]["schema"];
                assert!(schema.is_object(), "{method} {path} takes no {media_type}");
            }
        }
    }
    let mut open = vec![&document];
    while let Some(value) = open.pop() {
        if let Some(reference) = value.get("$ref").and_then(Value::as_str) {
            let pointer = reference.strip_prefix('#').expect("a reference within the document");
            assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
        }
        open.extend(value.as_object().into_iter().flat_map(|object| object.values()));
        open.extend(value.as_array().into_iter().flatten());
    }
}

#[tokio::test]
async fn the_gateway_serves_its_document() {
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    let answer = merchant.send(merchant.bare_request(Method::GET, "/openapi.json")).await;
    is_json(&answer);
    assert_eq!((answer.status.as_u16(), answer.text.as_str()), (200, COMMITTED));
    world.end().await;
}

#[tokio::test]
async fn every_operation_refuses_a_stranger() {
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    let rows = world.rows().await;
    for (method, path, _) in operations() {
        let path = path.replace("{id}", "x");
        if path.contains("{token}") {
            // The payer's token is the credential; one that opens nothing gets one answer.
            let answer = merchant.send(merchant.bare_request(method.clone(), &path)).await;
            is_json(&answer);
            answer.refused_with(404, "resource_missing", "token");
            continue;
        }
        for key in [None, Some("sk_test_000000000000000000000000000000000000")] {
            let mut request = merchant.bare_request(method.clone(), &path);
            if let Some(key) = key {
                request = request.bearer_auth(key);
            }
            let answer = merchant.send(request).await;
            is_json(&answer);
            assert_eq!(answer.refused(401)["type"], "invalid_request_error", "{method} {path}");
        }
    }
    assert_eq!(world.rows().await, rows);
    world.end().await;
}

/// An escrow with a dispute, and the file that came with it.
async fn disputed_with_a_file(world: &World, merchant: &Merchant) -> (String, String) {
    let mut story = crate::deal::Story::of(world, merchant.clone(), &crate::deal::canoe("quick")).await;
    story.pay().await;
    let session = story.session("dispute", crate::deal::BUYER).await;
    let fields = [("reason", "damaged"), ("text", "It has a hole.")];
    let file = ("hole.pdf", "application/pdf", &b"%PDF-1.7"[..]);
    crate::deal::press_with_files(&mut story.buyer, &session, &fields, &[file]).await.says("Dispute opened");
    let files = merchant.get(&format!("/v1/escrows/{}/attachments", story.id)).await.ok();
    let file = files["data"][0]["id"].as_str().expect("an id").to_owned();
    (story.id, file)
}

/// What one merchant has of everything, by the kind's path.
async fn belongings(world: &World, merchant: &Merchant) -> Vec<(&'static str, String)> {
    let id = |object: &Value| object["id"].as_str().expect("an id").to_owned();
    let kept = [("customer_creation", "always"), ("payment_intent_data[setup_future_usage]", "off_session")];
    let session = merchant.session_with(&kept).await;
    world.payer().pay(&session, crate::payer::GOOD_CARD).await.says("Payment complete");
    let customer = merchant.read(&session).await["customer"].as_str().expect("a customer").to_owned();
    let methods = merchant.get(&format!("/v1/payment_methods?customer={customer}")).await.ok();
    let payment = merchant.read(&session).await["payment_intent"].as_str().expect("a payment").to_owned();
    let charges = merchant.get(&format!("/v1/charges?payment_intent={payment}")).await.ok();
    let refund = merchant.post("/v1/refunds", &[("payment_intent", &payment), ("amount", "1")]).await.ok();
    let disputed = [("payment_intent", payment.as_str()), ("amount", "1")];
    let dispute = merchant.post("/v1/test_helpers/disputes", &disputed).await.ok();
    let dear = merchant.session_with(&[("line_items[0][price_data][unit_amount]", "39900")]).await;
    world.payer().pay(&dear, crate::payer::GOOD_CARD).await.says("Order placed");
    let review = merchant.get("/v1/reviews").await.ok()["data"][0].clone();
    let (escrow, file) = disputed_with_a_file(world, merchant).await;
    let open = merchant.session().await;
    let hook = [("url", "https://shop.example/hooks"), ("enabled_events[]", "*")];
    let endpoint = merchant.post("/v1/webhook_endpoints", &hook).await.ok();
    let event = merchant.get("/v1/events?limit=1").await.ok()["data"][0].clone();
    let replay = merchant.post("/v1/event_replays", &[("from", "1700000000")]).await.ok();
    let redirect = merchant.get("/v1/redirect_urls?limit=1").await.ok()["data"][0].clone();
    vec![
        ("/v1/checkout/sessions/", id(&open)),
        ("/v1/test_helpers/checkout/sessions/", id(&open)),
        ("/v1/payment_intents/", payment),
        ("/v1/charges/", id(&charges["data"][0])),
        ("/v1/refunds/", id(&refund)),
        ("/v1/disputes/", id(&dispute)),
        ("/v1/customers/", customer),
        ("/v1/payment_methods/", id(&methods["data"][0])),
        ("/v1/reviews/", id(&review)),
        ("/v1/escrows/", escrow),
        ("/v1/escrow_attachments/", file),
        ("/v1/webhook_endpoints/", id(&endpoint)),
        ("/v1/events/", id(&event)),
        ("/v1/event_replays/", id(&replay)),
        ("/v1/redirect_urls/", id(&redirect)),
    ]
}

#[tokio::test]
async fn nothing_of_one_merchant_is_shown_to_or_touched_by_another_or_by_the_other_mode() {
    let hold = "[fraud.rules.dear]\nwhen = 'amount'\ncurrency = 'eur'\nabove = 30000\naction = 'review'";
    let world = World::with(WorldOptions { worker: false, file: hold.to_owned(), ..WorldOptions::default() }).await;
    let (owner, stranger) = (world.merchant().await, world.merchant().await);
    let other_mode = world.another_key(&owner, true, |_| ()).await;
    let belongings = belongings(&world, &owner).await;
    let rows = world.rows().await;
    let mut walked = 0;
    for (method, path, _) in operations() {
        if !path.contains("{id}") {
            continue;
        }
        let (_, id) = belongings.iter().find(|(kind, _)| path.starts_with(kind)).expect("one of every kind");
        let with_id = path.replace("{id}", id);
        for intruder in [&stranger, &other_mode] {
            let answer = intruder.send(intruder.request(method.clone(), &with_id)).await;
            is_json(&answer);
            if path.starts_with("/v1/test_helpers/") && intruder.key == other_mode.key {
                answer.refused_with(400, "test_mode_only", "");
                continue;
            }
            let error = answer.refused_with(404, "resource_missing", "id");
            // What is another's must look like what is not there at all.
            let absent = format!("{}0000", &id[..id.len() - 4]);
            let answer = intruder.send(intruder.request(method.clone(), &path.replace("{id}", &absent))).await;
            let missing = answer.refused_with(404, "resource_missing", "id");
            let masked = |error: &Value, id: &str| error["message"].as_str().map(|text| text.replace(id, "?"));
            assert_eq!(masked(&error, id), masked(&missing, &absent), "{method} {path}");
        }
        walked += 1;
    }
    assert!(walked >= 19, "{walked}");
    assert_eq!(world.rows().await, rows);
    for (kind, id) in belongings.iter().filter(|(kind, _)| !kind.contains("test_helpers")) {
        owner.get(&format!("{kind}{id}")).await.ok();
    }
    assert_eq!(owner.get(&format!("{}{}", belongings[0].0, belongings[0].1)).await.ok()["status"], "open");
    world.end().await;
}

#[tokio::test]
async fn ids_that_are_none_are_absent() {
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    for (method, path, _) in operations() {
        let long = "a".repeat(3000);
        for id in
            ["x", "..", "%00", "%2e%2e", "a%2fb", "%ff", "'%20or%201=1", "%0d%0aX:1", "ü", "cs_test_", long.as_str()]
        {
            // A client takes dots for "one up" before it asks, and one up from these is another list.
            let is_dots = id == ".." || id == "%2e%2e";
            if !path.contains("{id}") || (is_dots && path == "/v1/customers/{id}/payment_methods") {
                continue;
            }
            let answer = merchant.send(merchant.request(method.clone(), &path.replace("{id}", id))).await;
            is_json(&answer);
            let error = answer.refused(404);
            assert!(error["message"].as_str().is_some_and(|text| text.len() < 600), "{method} {path} {id}");
        }
    }
    world.end().await;
}

#[tokio::test]
async fn unknown_routes_and_methods_answer_with_the_envelope_too() {
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    for path in [
        "/v1",
        "/v1/",
        "/v1/nope",
        "/v1/checkout",
        "/v1/checkout/sessions/",
        "/v1/checkout/sessions/x/nope",
        "/v1/checkout-sessions",
        "/v1//checkout/sessions",
        "/v1/products",
        "/v1/%00",
    ] {
        for method in [Method::GET, Method::POST, Method::DELETE] {
            let answer = merchant
                .send(
                    merchant.request(method.clone(), path).header("Idempotency-Key", "k").header("Stripe-Version", "x"),
                )
                .await;
            is_json(&answer);
            assert_eq!(
                [answer.header("idempotency-key"), answer.header("stripe-version")],
                [Some("k"), Some("x")],
                "{path}"
            );
            let error = answer.refused(404);
            let start = format!("Unrecognized request URL ({method}: ");
            assert!(error["message"].as_str().is_some_and(|text| text.starts_with(&start)), "{error}");
        }
    }
    let documented = operations();
    for (_, path, _) in &documented {
        let with_id = path.replace("{id}", "x");
        for method in [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS] {
            // What browsers ask before a merchant's own page may call is no operation.
            let is_preflight = method == Method::OPTIONS && path.contains("{token}");
            if is_preflight || documented.iter().any(|(known, at, _)| at == path && *known == method) {
                continue;
            }
            let answer = merchant.send(merchant.request(method.clone(), &with_id)).await;
            is_json(&answer);
            assert!(answer.header("allow").is_some_and(|methods| !methods.is_empty()), "{method} {path}: no Allow");
            assert_eq!(answer.refused(405)["type"], "invalid_request_error", "{method} {path}");
        }
    }
    world.end().await;
}

#[tokio::test]
async fn every_answer_has_an_id_of_its_own_and_echoes_what_sdks_look_for() {
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    let mut seen = Vec::new();
    for path in ["/v1/events", "/v1/events/x", "/v1/nope", "/v1/events?limit=0"] {
        for version in ["2026-10-28.endive", "2019-05-16", "nonsense"] {
            let request = merchant.request(Method::GET, path).header("Stripe-Version", version);
            let answer = merchant.send(request.header("Request-Id", "req_mine")).await;
            is_json(&answer);
            assert_eq!(answer.header("stripe-version"), Some(version));
            seen.push(answer.header("request-id").expect("an id").to_owned());
        }
    }
    seen.sort_unstable();
    seen.dedup();
    assert_eq!((seen.len(), seen.contains(&"req_mine".to_owned())), (12, false));
    for path in [
        "/v1/events/x?foo=1",
        "/v1/webhook_endpoints/x?foo=1",
        "/v1/redirect_urls/x?foo=1",
        "/v1/payment_intents/x?foo=1",
        "/v1/events/x/deliveries?foo=1",
    ] {
        merchant.get(path).await.refused_with(400, "parameter_unknown", "foo");
    }
    assert_eq!(merchant.get("/v1/events/x?expand[]=data").await.refused(404)["param"], json!("id"));
    world.end().await;
}
