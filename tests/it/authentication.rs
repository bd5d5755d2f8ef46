//! Who may call: keys of every kind, in every place where a key can stand, good and bad.

use reqwest::Method;
use reqwest::header::AUTHORIZATION;

use crate::merchant::{Answer, Merchant};
use crate::world::World;

const SESSIONS: &str = "/v1/checkout/sessions";

async fn call(merchant: &Merchant, authorization: Option<&str>) -> Answer {
    let request = merchant.bare_request(Method::GET, SESSIONS);
    merchant
        .send(match authorization {
            Some(value) => request.header(AUTHORIZATION, value),
            None => request,
        })
        .await
}

fn basic(user_and_password: &str) -> String {
    use base64::Engine;
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(user_and_password))
}

/// The key with one character of its random part exchanged, so that its checksum is wrong.
fn mistyped(key: &str) -> String {
    let (head, tail) = key.split_at(20);
    let other = if tail.starts_with('x') { 'y' } else { 'x' };
    format!("{head}{other}{}", &tail[1..])
}

#[tokio::test]
async fn a_secret_key_is_taken_as_bearer_and_as_basic_user() {
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    let key = merchant.key.as_str();
    for authorization in [
        format!("Bearer {key}"),
        format!("bearer {key}"),
        format!("BEARER  {key}"),
        basic(&format!("{key}:")),
        basic(key),
        basic(&format!("{key}:x")),
    ] {
        call(&merchant, Some(&authorization)).await.ok();
    }
    world.end().await;
}

#[tokio::test]
async fn everything_else_is_refused_without_repeating_the_key() {
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    let key = merchant.key.as_str();
    let unknown = checkstand::domain::api_key::SecretKey::generate(false).expose().to_owned();
    let refused = [
        None,
        Some(String::new()),
        Some("Bearer".to_owned()),
        Some("Bearer ".to_owned()),
        Some(key.to_owned()),
        Some(format!("Digest {key}")),
        Some(format!("Token {key}")),
        Some(format!("Basic {key}")),
        Some("Basic !!!".to_owned()),
        Some(basic("")),
        Some(basic(":")),
        Some(basic(&format!(":{key}"))),
        Some(format!("Bearer {}", mistyped(key))),
        Some(format!("Bearer {}", key.replace("sk_test_", "sk_live_"))),
        Some(format!("Bearer {}", key.replace("sk_", "rk_"))),
        Some(format!("Bearer {}", key.replace("sk_", "pk_"))),
        Some(format!("Bearer {unknown}")),
        Some(format!("Bearer {key}{key}")),
        Some(format!("Bearer {key} {key}")),
        Some(format!("Bearer {}", "a".repeat(4000))),
        Some("Bearer sk_test_' or 1=1 --".to_owned()),
    ];
    for authorization in refused {
        let answer = call(&merchant, authorization.as_deref()).await;
        assert_eq!(answer.header("www-authenticate"), Some("Bearer realm=\"checkstand\""), "{authorization:?}");
        assert!(answer.header("request-id").is_some_and(|id| id.starts_with("req_")));
        assert!(!answer.text.contains(&key[8..30]) && !answer.text.contains(&unknown[8..30]), "{}", answer.text);
        assert_eq!(answer.refused(401)["type"], "invalid_request_error", "{authorization:?}");
    }
    let publishable = call(&merchant, Some(&format!("Bearer {}", key.replace("sk_", "pk_")))).await.refused(401);
    assert!(publishable["message"].as_str().is_some_and(|text| text.contains("publishable")), "{publishable}");
    merchant.get(SESSIONS).await.ok();
    world.end().await;
}

#[tokio::test]
async fn a_revoked_key_is_refused_at_once_by_a_replica_that_has_not_seen_it() {
    let mut world = World::without_worker().await;
    let merchant = world.merchant().await;
    merchant.get(SESSIONS).await.ok();
    world.execute(&format!("update api_key set revoked_at = now() where id = '{}'", merchant.key_id)).await;
    world.add_replica().await;
    let fresh = merchant.at(&world.replicas[1].base);
    let error = fresh.get(SESSIONS).await.refused(401);
    assert!(error["message"].as_str().is_some_and(|text| text.contains("revoked")), "{error}");
    // The merchant's other key still works there.
    world.another_key(&merchant, false, |_| ()).await.at(&world.replicas[1].base).get(SESSIONS).await.ok();
    world.end().await;
}

#[tokio::test]
async fn an_expired_key_stops_at_its_time_even_where_it_is_remembered() {
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    let expires_at = world.app().clock.now() + chrono::Duration::minutes(5);
    let short = world.another_key(&merchant, false, |key| key.expires_at = Some(expires_at)).await;
    short.get(SESSIONS).await.ok();
    world.advance(chrono::Duration::minutes(5));
    let error = short.get(SESSIONS).await.refused(401);
    assert!(error["message"].as_str().is_some_and(|text| text.contains("Expired API Key")), "{error}");
    merchant.get(SESSIONS).await.ok();
    world.end().await;
}

#[tokio::test]
async fn a_demo_key_works_from_the_machine_itself() {
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    let demo = world.another_key(&merchant, false, |key| key.loopback_only = true).await;
    demo.get(SESSIONS).await.ok();
    world.end().await;
}

#[tokio::test]
async fn a_live_key_does_not_see_test_objects_and_the_other_way_round() {
    let world = World::without_worker().await;
    let test = world.merchant().await;
    let live = world.another_key(&test, true, |_| ()).await;
    let session = test.session().await;
    let id = session["id"].as_str().expect("an id");
    live.get(&format!("{SESSIONS}/{id}")).await.refused_with(404, "resource_missing", "id");
    live.post(&format!("{SESSIONS}/{id}/expire"), &[]).await.refused_with(404, "resource_missing", "id");
    for path in [SESSIONS, "/v1/events", "/v1/webhook_endpoints", "/v1/redirect_urls"] {
        assert_eq!(live.get(path).await.ok()["data"], serde_json::json!([]), "{path}");
    }
    // Allow-lists are kept apart too: what test mode may do says nothing about real money.
    let cart = crate::merchant::coffee();
    live.post(SESSIONS, &cart).await.refused_with(400, "redirect_url_not_allowed", "success_url");
    live.post("/v1/redirect_urls", &[("url", "https://shop.example")]).await.ok();
    let real = live.session().await;
    assert!(real["livemode"] == true && real["id"].as_str().is_some_and(|id| id.starts_with("cs_live_")));
    test.get(&format!("{SESSIONS}/{}", real["id"].as_str().expect("an id"))).await.refused(404);
    assert_eq!(test.read(&session).await["status"], "open");
    world.end().await;
}
