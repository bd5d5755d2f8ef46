//! Who may use a payer's token from where, and what is refused: forged tokens, foreign pages, forms,
//! wrong parameters, live cards, too many calls.

use reqwest::Method;
use serde_json::{Value, json};

use crate::payer::GOOD_CARD;
use crate::storefront::{SHOP, Storefront, confirmation, confirmation_with, token_of};
use crate::world::World;

const NOTHING_HAPPENED: &str =
    "select (select count(*) from charge) + (select count(*) from payer_return) + (select count(*) from payment)";

#[tokio::test]
async fn tokens_that_open_nothing_get_one_answer() {
    let world = World::without_worker().await;
    let (merchant, elsewhere) = (world.merchant().await, World::without_worker().await);
    let session = merchant.session().await;
    let token = token_of(&session);
    let (id, tag) = token.split_once('~').expect("an id and a tag");
    let of_another_world = token_of(&elsewhere.merchant().await.session().await);
    let flipped = format!("{id}~{}{}", if tag.starts_with('A') { "B" } else { "A" }, &tag[1..]);
    let forged = [
        of_another_world.as_str(),
        flipped.as_str(),
        id,
        &format!("{id}~"),
        &format!("{id}~{}", &tag[..tag.len() - 1]),
        &format!("{id}~{tag}="),
        &format!("{}~{tag}", id.replace("cs_test_", "cs_live_")),
        "x",
        "~",
        "%00",
        "%ff",
        "..%2f..",
        "cs_test_",
        &"a".repeat(3000),
    ];
    let shop = Storefront::new(&merchant);
    let mut answers = Vec::new();
    for token in forged {
        answers.push(shop.look(token).await);
        answers.push(shop.confirm(token, &confirmation(GOOD_CARD, "press-1")).await);
        answers.push(shop.send(shop.request(Method::POST, token, "/confirm").body("no JSON")).await);
        answers.push(shop.send(shop.request(Method::OPTIONS, token, "/confirm")).await);
        answers.push(shop.from(Some("https://evil.example")).look(token).await);
        // A merchant's key opens nothing here.
        answers.push(shop.send(shop.request(Method::GET, token, "").bearer_auth(&merchant.key)).await);
    }
    let first = answers[0].text.clone();
    for answer in answers {
        assert_eq!((answer.status.as_u16(), answer.text.as_str()), (404, first.as_str()));
        assert_eq!(answer.header("access-control-allow-origin"), None);
        answer.refused_with(404, "resource_missing", "token");
    }
    assert_eq!(world.count(NOTHING_HAPPENED).await, 0);
    // The session is untouched and its own token opens it.
    assert_eq!(shop.look(&token).await.ok()["state"], "pending");
    elsewhere.end().await;
    world.end().await;
}

#[tokio::test]
async fn pages_of_other_origins_are_answered_nothing() {
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    // A neighbour's list is not this merchant's.
    let neighbour = world.merchant().await;
    neighbour.post("/v1/redirect_urls", &[("url", "https://neighbour.example")]).await.ok();
    let session = merchant.session().await;
    let token = token_of(&session);
    let body = confirmation(GOOD_CARD, "press-1");
    let shop = Storefront::new(&merchant);
    for origin in [
        "https://evil.example",
        "https://neighbour.example",
        "http://shop.example",
        "https://shop.example:8443",
        "https://shop.example.evil.example",
        "https://shop.example/",
        "https://SHOP.example",
        "null",
        "*",
        "",
    ] {
        let page = shop.from(Some(origin));
        for answer in [
            page.look(&token).await,
            page.confirm(&token, &body).await,
            page.send(
                page.request(Method::OPTIONS, &token, "/confirm").header("Access-Control-Request-Method", "POST"),
            )
            .await,
        ] {
            for (name, value) in &answer.headers {
                assert!(!name.starts_with("access-control-"), "{origin}: {name}: {value}");
            }
            answer.refused_with(403, "origin_not_allowed", "");
        }
    }
    assert_eq!(world.count(NOTHING_HAPPENED).await, 0);
    assert_eq!(merchant.read(&session).await["opened_at"], Value::Null);

    let preflight = shop.request(Method::OPTIONS, &token, "/confirm");
    let preflight = preflight
        .header("Access-Control-Request-Method", "POST")
        .header("Access-Control-Request-Headers", "content-type");
    let asked = shop.send(preflight).await;
    assert_eq!((asked.status.as_u16(), asked.text.as_str()), (204, ""));
    assert_eq!(asked.header("access-control-allow-origin"), Some(SHOP));
    assert_eq!(asked.header("access-control-allow-methods"), Some("GET, POST"));
    assert_eq!(asked.header("access-control-allow-headers"), Some("content-type, idempotency-key"));
    // The merchant's own page on a developer's machine, an app, and the shop itself.
    for origin in [Some("http://127.0.0.1:3000"), None, Some(SHOP)] {
        let answer = shop.from(origin).look(&token).await;
        assert_eq!(answer.header("access-control-allow-origin"), origin);
        assert_eq!(answer.header("access-control-allow-credentials"), None);
        assert_eq!(answer.header("vary"), Some("origin"));
        answer.ok();
    }
    // An origin that is allowed from now on is allowed at once, one that is not any more within seconds.
    let late = shop.from(Some("https://late.example"));
    late.look(&token).await.refused_with(403, "origin_not_allowed", "");
    let entry = merchant.post("/v1/redirect_urls", &[("url", "https://late.example/return")]).await.ok();
    late.look(&token).await.ok();
    merchant.delete(&format!("/v1/redirect_urls/{}", entry["id"].as_str().expect("an id"))).await.ok();
    late.look(&token).await.refused_with(403, "origin_not_allowed", "");
    world.end().await;
}

#[tokio::test]
async fn what_a_foreign_form_can_send_is_refused() {
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    let session = merchant.session().await;
    let token = token_of(&session);
    let shop = Storefront::new(&merchant);
    let json = confirmation(GOOD_CARD, "press-1").to_string();
    let form = "attempt_key=a&payer[email]=a@example.com&payer[name]=A&payment_method_data[type]=card";
    for (kind, body) in [
        (Some("application/x-www-form-urlencoded"), form),
        (Some("application/x-www-form-urlencoded"), json.as_str()),
        (Some("multipart/form-data; boundary=x"), json.as_str()),
        (Some("text/plain"), json.as_str()),
        (Some("text/plain; application/json"), json.as_str()),
        (Some("application/jsonp"), json.as_str()),
        (None, json.as_str()),
    ] {
        let mut request = shop.request(Method::POST, &token, "/confirm").body(body.to_owned());
        if let Some(kind) = kind {
            request = request.header("Content-Type", kind);
        }
        shop.send(request).await.refused_with(415, "unsupported_media_type", "");
    }
    let compressed = shop.request(Method::POST, &token, "/confirm").header("Content-Encoding", "gzip");
    shop.send(compressed.header("Content-Type", "application/json").body(json.clone())).await.refused_with(
        415,
        "unsupported_media_type",
        "",
    );
    let with_query = shop.request(Method::POST, &token, "/confirm?attempt_key=x").json(&confirmation(GOOD_CARD, "a"));
    shop.send(with_query).await.refused_with(400, "parameters_misplaced", "");
    let long = shop.request(Method::POST, &token, "/confirm").header("Content-Type", "application/json");
    shop.send(long.body(" ".repeat(17 * 1024))).await.refused_with(413, "request_too_large", "");
    assert_eq!(world.count(NOTHING_HAPPENED).await, 0);
    // What is right is taken, with a charset as well.
    let right =
        shop.request(Method::POST, &token, "/confirm").header("Content-Type", "application/json; charset=utf-8");
    assert_eq!(shop.send(right.body(json)).await.ok()["state"], "completed");
    world.end().await;
}

#[tokio::test]
async fn wrong_parameters_are_named_and_charge_nothing() {
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    let session = merchant.session().await;
    let token = token_of(&session);
    let shop = Storefront::new(&merchant);
    let card = "/payment_method_data/card";
    let at = |name: &str| format!("{card}/{name}");
    let cases: Vec<(String, Value, u16, &str, &str)> = vec![
        ("/attempt_key".into(), Value::Null, 400, "parameter_missing", "attempt_key"),
        ("/attempt_key".into(), json!("k".repeat(256)), 400, "parameter_invalid_string", "attempt_key"),
        ("/attempt_key".into(), json!(""), 400, "parameter_missing", "attempt_key"),
        ("/frobnicate".into(), json!("x"), 400, "parameter_unknown", "frobnicate"),
        ("/payer".into(), Value::Null, 400, "parameter_missing", "payer"),
        ("/payer/email".into(), Value::Null, 400, "parameter_missing", "payer[email]"),
        ("/payer/email".into(), json!("nobody"), 400, "email_invalid", "payer[email]"),
        ("/payer/email".into(), json!("4242424242424242@example.com"), 400, "email_invalid", "payer[email]"),
        ("/payer/name".into(), Value::Null, 400, "parameter_missing", "payer[name]"),
        ("/payer/name".into(), json!("  "), 400, "parameter_invalid_string", "payer[name]"),
        ("/payer/name".into(), json!("n".repeat(101)), 400, "parameter_invalid_string", "payer[name]"),
        ("/payer/name".into(), json!("Ada 4242 4242 4242 4242"), 400, "parameter_invalid_string", "payer[name]"),
        ("/payer/phone".into(), json!("+49 30 1"), 400, "parameter_unsupported", "payer[phone]"),
        ("/billing_address".into(), json!({"city": "Berlin"}), 400, "parameter_unsupported", "billing_address"),
        ("/payment_method_data".into(), Value::Null, 400, "parameter_missing", "payment_method_data"),
        (
            "/payment_method_data/type".into(),
            json!("cash"),
            400,
            "parameter_invalid_value",
            "payment_method_data[type]",
        ),
        (at("number"), Value::Null, 400, "parameter_missing", "payment_method_data[card][number]"),
        (
            at("number"),
            json!(4242424242424242_u64),
            400,
            "parameter_invalid_string",
            "payment_method_data[card][number]",
        ),
        (at("number"), json!("4242424242424241"), 402, "incorrect_number", "payment_method_data[card][number]"),
        (at("number"), json!("4".repeat(65)), 400, "parameter_invalid_value", "payment_method_data[card][number]"),
        (at("cvc"), json!("12"), 402, "invalid_cvc", "payment_method_data[card][cvc]"),
        (at("exp_month"), json!(13), 402, "invalid_expiry_month", "payment_method_data[card][exp_month]"),
        (at("exp_month"), json!("12"), 400, "parameter_invalid_integer", "payment_method_data[card][exp_month]"),
        (at("exp_year"), json!(2000), 402, "expired_card", "payment_method_data[card][exp_year]"),
        (at("exp_year"), json!(3000), 402, "invalid_expiry_year", "payment_method_data[card][exp_year]"),
        ("/return_url".into(), json!("https://evil.example/"), 400, "redirect_url_not_allowed", "return_url"),
        ("/return_url".into(), json!("javascript:alert(1)"), 400, "url_invalid", "return_url"),
    ];
    for (pointer, value, status, code, param) in cases {
        let body = confirmation_with(GOOD_CARD, "press-1", &[(pointer.as_str(), value)]);
        let answer = shop.confirm(&token, &body).await;
        assert!(!answer.text.contains("4242"), "{pointer}: {}", answer.text);
        answer.refused_with(status, code, param);
    }
    let different = shop.request(Method::POST, &token, "/confirm").header("Idempotency-Key", "another");
    let different = shop.send(different.json(&confirmation(GOOD_CARD, "press-1"))).await;
    different.refused_with(400, "parameters_exclusive", "attempt_key");
    shop.send(shop.request(Method::GET, &token, "?expand[]=metadata")).await.refused_with(
        400,
        "parameter_unknown",
        "expand",
    );
    let known = merchant.session_with(&[("customer_email", "known@example.com")]).await;
    let body = confirmation(GOOD_CARD, "press-1");
    shop.confirm(&token_of(&known), &body).await.refused_with(400, "parameter_invalid", "payer[email]");
    assert_eq!(world.count(NOTHING_HAPPENED).await, 0);
    // None of it used up a try, and the key is still good.
    assert_eq!(shop.confirm(&token, &body).await.ok()["state"], "completed");
    world.end().await;
}

#[tokio::test]
async fn a_live_card_is_not_taken_unless_the_operator_says_so() {
    let world = World::without_worker().await;
    let merchant = world.merchant_with_mode(true).await;
    let session = merchant.session().await;
    let (shop, token) = (Storefront::new(&merchant), token_of(&session));
    let shown = shop.look(&token).await.ok();
    assert_eq!((&shown["livemode"], &shown["accepts_card_data"]), (&true.into(), &false.into()));
    let refused = shop.confirm(&token, &confirmation(GOOD_CARD, "press-1")).await;
    refused.refused_with(400, "card_data_not_accepted", "payment_method_data");
    assert_eq!(world.count(NOTHING_HAPPENED).await, 0);
    world.end().await;
}

#[tokio::test]
async fn a_page_that_calls_without_end_is_slowed_down_and_nobody_else_is() {
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    let shop = Storefront::new(&merchant);
    let (busy, calm) = (token_of(&merchant.session().await), token_of(&merchant.session().await));
    let looks = futures_util::future::join_all((0..100).map(|_| shop.look(&busy))).await;
    let (slowed, answered): (Vec<_>, Vec<_>) = looks.into_iter().partition(|answer| answer.status.as_u16() == 429);
    assert!(answered.len() >= 60 && slowed.len() >= 10, "{} answered, {} not", answered.len(), slowed.len());
    for answer in slowed {
        assert_eq!(answer.header("retry-after"), Some("1"));
        assert_eq!(answer.refused_with(429, "rate_limit", "")["type"], "rate_limit_error");
    }
    shop.look(&calm).await.ok();
    assert_eq!(shop.confirm(&calm, &confirmation(GOOD_CARD, "press-1")).await.ok()["state"], "completed");
    world.end().await;
}
