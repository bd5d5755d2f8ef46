//! Where payers may be sent back to: the allow-list over the API, and what a session may name.

use serde_json::json;

use crate::merchant::{Merchant, coffee_with, ids};
use crate::world::World;

const REDIRECTS: &str = "/v1/redirect_urls";
const SESSIONS: &str = "/v1/checkout/sessions";

/// Every parameter of a session that names a way back.
const WAYS: [&str; 5] = ["success_url", "cancel_url", "return_url", "expired_url", "failed_url"];

/// URLs that must never be a way back for a merchant who allows `https://shop.example/return` and
/// `http://127.0.0.1:*`, in test mode.
const HOSTILE: [&str; 74] = [
    // Other hosts, and hosts that only look like ours.
    "https://evil.example/return",
    "https://shop.example.evil.example/return",
    "https://evilshop.example/return",
    "https://evil-shop.example/return",
    "https://sub.shop.example/return",
    "https://shop.example./return",
    "https://shop.examplе/return",
    "https://ѕhop.example/return",
    "https://shop。example.evil.example/return",
    "https://shop%2eexample.evil.example/return",
    "https://shop.example%2eevil.example/return",
    "https://shop.example%00.evil.example/return",
    "https://shop.example%2f.evil.example/return",
    "https://evil.example/https://shop.example/return",
    "https://evil.example/return?https://shop.example/return",
    "https://evil.example#https://shop.example/return",
    "https://evil.example?.shop.example/return",
    "https://{CHECKOUT_SESSION_ID}.evil.example/return",
    "https://shop.example{CHECKOUT_SESSION_ID}/return",
    "https://[::1]/return",
    "https://[::ffff:127.0.0.1]/return",
    "https://127.0.0.1.evil.example/return",
    // Other ports and schemes.
    "https://shop.example:8443/return",
    "https://shop.example:80/return",
    "https://shop.example:0/return",
    "https://shop.example:99999/return",
    "https://shop.example:-443/return",
    "http://shop.example/return",
    "http://shop.example:443/return",
    "https://127.0.0.1/return",
    "http://127.0.0.2/return",
    "http://localhost/return",
    "ftp://shop.example/return",
    "wss://shop.example/return",
    "blob:https://shop.example/return",
    "filesystem:https://shop.example/return",
    "view-source:https://shop.example/return",
    "javascript:alert(1)",
    "JavaScript://shop.example/return%0aalert(1)",
    "java\tscript:alert(1)",
    "data:text/html,<script>alert(1)</script>",
    "vbscript:msgbox(1)",
    "intent://shop.example/return",
    "about:blank",
    // User names.
    "https://shop.example@evil.example/return",
    "https://evil.example@shop.example/return",
    "https://user:secret@shop.example/return",
    "https://@shop.example/return",
    "https://:@shop.example/return",
    "https://shop.example%40evil.example/return",
    "https://shop.example:443@evil.example/return",
    // Backslashes, and slashes that are missing or too many.
    "https://shop.example\\@evil.example/return",
    "https:\\\\shop.example/return",
    "https://shop.example\\return",
    "https:/shop.example/return",
    "https:shop.example/return",
    "https:///shop.example/return",
    "https:////evil.example/return",
    "//shop.example/return",
    "///evil.example/return",
    "\\\\evil.example/return",
    "/return",
    "return",
    "shop.example/return",
    // Paths beside the allowed one.
    "https://shop.example/",
    "https://shop.example/returns",
    "https://shop.example/Return",
    "https://shop.example/return/../admin",
    "https://shop.example/return/%2e%2e/admin",
    "https://shop.example/return/.%2E/admin",
    "https://shop.example/return%2f..%2fadmin",
    "https://shop.example/return%5c..%5cadmin",
    // White space within.
    " https://shop.example/return",
    "https://shop.example/return\u{2028}x",
];

async fn allow_only(merchant: &Merchant, urls: &[&str]) {
    for id in ids(&merchant.get(REDIRECTS).await.ok()) {
        merchant.delete(&format!("{REDIRECTS}/{id}")).await.ok();
    }
    for url in urls {
        merchant.post(REDIRECTS, &[("url", url)]).await.ok();
    }
}

#[tokio::test]
async fn no_hostile_way_back_gets_into_a_session() {
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    allow_only(&merchant, &["https://shop.example/return", "http://127.0.0.1:*"]).await;
    let fine = [
        "https://shop.example/return",
        "HTTPS://SHOP.EXAMPLE:443/return/deep?id={CHECKOUT_SESSION_ID}&next=https://evil.example#top",
        "http://127.0.0.1:8080/anything",
    ];
    let good = |way: &str, url: &str| -> Vec<(String, String)> {
        let mut fields = coffee_with(&[("success_url", fine[0]), ("cancel_url", fine[0])]);
        fields.retain(|(name, _)| *name != way);
        let mut fields: Vec<(String, String)> =
            fields.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        fields.push((way.to_owned(), url.to_owned()));
        fields
    };
    for (place, url) in fine.into_iter().enumerate() {
        let session = merchant.post(SESSIONS, &borrowed(&good(WAYS[place], url))).await.ok();
        assert_eq!(session[WAYS[place]], url);
    }
    let before = world.rows().await;
    let long = format!("https://shop.example/return/{}", "a".repeat(2048));
    let controls = ["\u{1}", "\n", "\r\n", "\t", "\u{7f}", "\u{85}", "\u{a0}", "\u{0}"]
        .map(|control| format!("https://shop.example/return{control}x"));
    let hostile = HOSTILE.into_iter().chain([long.as_str()]).chain(controls.iter().map(String::as_str));
    for (place, url) in hostile.enumerate() {
        let way = WAYS[place % WAYS.len()];
        let error = merchant.post_with_key(SESSIONS, &borrowed(&good(way, url)), "k").await.refused(400);
        let code = error["code"].as_str().expect("a code");
        let refused_by_kind = ["redirect_url_not_allowed", "url_invalid"].contains(&code)
            || (url.contains(['\u{0}', '\u{1}']) && code.starts_with("parameter_"));
        assert!(refused_by_kind && error["param"] == way, "{url}: {error}");
    }
    assert_eq!(world.rows().await, before, "nothing was written for any of them");
    world.end().await;
}

fn borrowed(fields: &[(String, String)]) -> Vec<(&str, &str)> {
    fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

#[tokio::test]
async fn an_entry_is_made_read_listed_and_deleted() {
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    allow_only(&merchant, &[]).await;
    for (given, kept) in [
        ("https://shop.example", "https://shop.example/"),
        ("HTTPS://Shop.Example:443/Return", "https://shop.example/Return"),
        ("https://bücher.example:8443", "https://xn--bcher-kva.example:8443/"),
        ("http://localhost:*", "http://localhost:*/"),
        ("http://[::1]:3000/back", "http://[::1]:3000/back"),
    ] {
        let made = merchant.post(REDIRECTS, &[("url", given)]).await.ok();
        assert_eq!([&made["object"], &made["url"]], [&json!("redirect_url"), &json!(kept)]);
        let path = format!("{REDIRECTS}/{}", made["id"].as_str().expect("an id"));
        assert_eq!(merchant.get(&path).await.ok(), made);
        merchant.post(REDIRECTS, &[("url", kept)]).await.refused_with(400, "resource_already_exists", "url");
    }
    let list = merchant.get(&format!("{REDIRECTS}?limit=2")).await.ok();
    assert_eq!((ids(&list).len(), &list["has_more"], &list["url"]), (2, &json!(true), &json!(REDIRECTS)));
    let path = format!("{REDIRECTS}/{}", ids(&list)[0]);
    let deleted = merchant.delete(&path).await.ok();
    assert_eq!(deleted, json!({"id": ids(&list)[0], "object": "redirect_url", "deleted": true}));
    merchant.get(&path).await.refused_with(404, "resource_missing", "id");
    merchant.delete(&path).await.refused_with(404, "resource_missing", "id");
    world.end().await;
}

#[tokio::test]
async fn an_entry_must_be_an_origin_with_an_optional_path() {
    let world = World::without_worker().await;
    let test = world.merchant().await;
    let live = world.another_key(&test, true, |_| ()).await;
    let before = world.rows().await;
    for url in [
        "shop.example",
        "https://",
        "https://*.shop.example",
        "https://shop.example:*",
        "https://user@shop.example",
        "https://shop.example/?a=b",
        "https://shop.example/#a",
        "http://other.example",
        "https://shop.example\\evil.example",
        "javascript:alert(1)",
        "*",
        "https://shop.example/a b",
        "https://shop.example/a%2fb",
    ] {
        test.post_with_key(REDIRECTS, &[("url", url)], "k").await.refused_with(400, "url_invalid", "url");
    }
    for url in ["http://localhost:3000", "http://127.0.0.1:*", "https://localhost:*"] {
        live.post_with_key(REDIRECTS, &[("url", url)], "k").await.refused_with(400, "url_invalid", "url");
    }
    test.post(REDIRECTS, &[]).await.refused_with(400, "parameter_missing", "url");
    test.post(REDIRECTS, &[("url", "")]).await.refused_with(400, "parameter_invalid_empty", "url");
    assert_eq!(world.rows().await, before);
    world.end().await;
}

#[tokio::test]
async fn sessions_keep_a_way_back_that_is_no_longer_allowed_to_new_ones() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let session = merchant.session().await;
    allow_only(&merchant, &[]).await;
    merchant.post(SESSIONS, &crate::merchant::coffee()).await.refused_with(
        400,
        "redirect_url_not_allowed",
        "success_url",
    );
    let page = world.payer().pay(&session, crate::payer::GOOD_CARD).await;
    assert!(page.refresh_url().is_some_and(|url| url.starts_with("https://shop.example/thanks?")));
    world.end().await;
}

#[tokio::test]
async fn a_merchant_keeps_a_hundred_entries_at_most_also_when_asked_at_once() {
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    let urls: Vec<String> = (0..104).map(|number| format!("https://shop-{number}.example")).collect();
    for url in &urls[..94] {
        merchant.post(REDIRECTS, &[("url", url)]).await.ok();
    }
    let requests = urls[94..].iter().map(|url| {
        let merchant = &merchant;
        async move { merchant.post(REDIRECTS, &[("url", url)]).await }
    });
    let answers = futures_util::future::join_all(requests).await;
    let made = answers.iter().filter(|answer| answer.status == 200).count();
    for answer in answers.into_iter().filter(|answer| answer.status != 200) {
        answer.refused_with(400, "redirect_urls_limit", "url");
    }
    // Two stand there from the beginning.
    assert_eq!((made, world.count("select count(*) from redirect_url").await), (4, 100));
    world.end().await;
}
