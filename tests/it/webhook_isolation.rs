//! Webhooks must not become a way into the network that the gateway stands in: addresses that are not
//! on the public internet are refused when they are set and again when something is to be sent.

use crate::merchant::Merchant;
use crate::receiver::Receiver;
use crate::world::{World, WorldOptions};

fn without_loopback() -> WorldOptions {
    WorldOptions { settings: vec![("LOOPBACK_WEBHOOKS", "false".to_owned())], ..WorldOptions::default() }
}

/// Refused in every mode, whatever the operator allows.
const NEVER: [&str; 72] = [
    // Not a web address, or none that two readers agree on.
    "",
    "hooks",
    "shop.example/hooks",
    "//shop.example/hooks",
    "ftp://shop.example/hooks",
    "file:///etc/passwd",
    "gopher://shop.example/",
    "javascript:alert(1)",
    "data:text/plain,x",
    "https:shop.example",
    "https:/shop.example/",
    "https:\\\\shop.example/",
    "https://",
    "https:///hooks",
    "https://?x",
    " https://shop.example/",
    "https://shop.example/ ",
    "https://shop.example/a b",
    "https://shop.exa\nmple/",
    "https://shop.example/\u{0}",
    "https://shop.example\\@10.0.0.1/",
    "https://shop.example/#top",
    "https://shop.example:0/",
    "https://shop.example:65536/",
    "https://shop.example:x/",
    // Without encryption.
    "http://shop.example/hooks",
    "http://shop.example:443/hooks",
    "HTTP://shop.example/hooks",
    // With a user in front, which hides where it leads.
    "https://user@shop.example/",
    "https://user:secret@shop.example/",
    "https://@shop.example/",
    "https://127.0.0.1@shop.example/",
    "https://shop.example:443@127.0.0.1/",
    // Names of a local network.
    "https://metadata/",
    "https://postgres:5432/",
    "https://kubernetes.default.svc./",
    "https://localhost./",
    "https://shop.example./",
    // Addresses in place of a name: private, link-local, the cloud's, and public ones too.
    "https://10.0.0.1/",
    "https://10.255.255.255:8443/",
    "https://172.16.0.1/",
    "https://192.168.1.1/",
    "https://100.64.0.1/",
    "https://169.254.169.254/latest/meta-data/",
    "https://168.63.129.16/",
    "https://0.0.0.0/",
    "https://0/",
    "https://224.0.0.1/",
    "https://255.255.255.255/",
    "https://8.8.8.8/",
    // The same in other notations.
    "https://2130706433/",
    "https://0x7f000001/",
    "https://0x7f.1/",
    "https://0177.0.0.1/",
    "https://127.1/",
    "https://127.0.0.2/",
    "https://127.0.0.01/",
    "https://127.0.0.1./",
    "https://%31%32%37.0.0.1/",
    "https://１２７.０.０.１/",
    "https://①②⑦.0.0.1/",
    "https://127。0。0。1/",
    "https://0xa9fea9fe/",
    "https://2852039166/",
    // IPv6, also carrying IPv4.
    "https://[::]/",
    "https://[fe80::1]/",
    "https://[fd00:ec2::254]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:a9fe:a9fe]/",
    "https://[64:ff9b::a9fe:a9fe]/",
    "https://[2002:7f00:1::1]/",
    "https://[2606:4700::1111]/",
];

/// The machine itself, which an operator may allow for test mode.
const LOOPBACK: [&str; 7] = [
    "http://localhost/hooks",
    "http://localhost:3000/hooks",
    "https://localhost/hooks",
    "http://shop.localhost:3000/",
    "http://127.0.0.1:3000/hooks",
    "https://127.0.0.1/hooks",
    "http://[::1]:3000/hooks",
];

const PUBLIC: [&str; 4] = [
    "https://shop.example/hooks",
    "https://hooks.shop.example:443/a?b=c@d",
    "HTTPS://Shop.Example",
    "https://bücher.example/hooks",
];

async fn is_taken(merchant: &Merchant, url: &str) -> bool {
    let answer = merchant.post("/v1/webhook_endpoints", &[("url", url), ("enabled_events[]", "*")]).await;
    if answer.status == 200 {
        let id = answer.json["id"].as_str().expect("an id").to_owned();
        merchant.delete(&format!("/v1/webhook_endpoints/{id}")).await.ok();
        return true;
    }
    let error = answer.refused(400);
    assert_eq!(error["param"], "url", "{url}: {error}");
    false
}

#[tokio::test]
async fn urls_that_lead_elsewhere_than_the_public_internet_are_refused() {
    let world = World::with(without_loopback()).await;
    let merchant = world.merchant().await;
    let live = world.in_live_mode(&merchant).await;
    let url = "https://shop.example/hooks";
    let endpoint = merchant.post("/v1/webhook_endpoints", &[("url", url), ("enabled_events[]", "*")]).await.ok();
    let path = format!("/v1/webhook_endpoints/{}", endpoint["id"].as_str().unwrap());
    for url in NEVER.into_iter().chain(LOOPBACK) {
        assert!(!is_taken(&merchant, url).await, "taken in test mode: {url:?}");
        assert!(!is_taken(&live, url).await, "taken in live mode: {url:?}");
        // An empty value means that nothing is to be changed.
        if !url.is_empty() {
            merchant.post(&path, &[("url", url)]).await.refused(400);
        }
    }
    let too_long = format!("https://shop.example/{}", "a".repeat(2048));
    assert!(!is_taken(&merchant, &too_long).await);
    for url in PUBLIC {
        assert!(is_taken(&merchant, url).await && is_taken(&live, url).await, "refused: {url}");
    }
    // Another port is for developers.
    assert!(is_taken(&merchant, "https://shop.example:8443/hooks").await);
    assert!(!is_taken(&live, "https://shop.example:8443/hooks").await);
    assert_eq!(merchant.get(&path).await.ok()["url"], "https://shop.example/hooks");
    world.end().await;
}

#[tokio::test]
async fn the_machine_itself_is_for_test_mode_where_the_operator_allows_it() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let live = world.in_live_mode(&merchant).await;
    for url in LOOPBACK {
        assert!(is_taken(&merchant, url).await, "refused: {url}");
        assert!(!is_taken(&live, url).await, "taken in live mode: {url}");
    }
    for url in NEVER {
        assert!(!is_taken(&merchant, url).await && !is_taken(&live, url).await, "taken: {url:?}");
    }
    world.end().await;
}

#[tokio::test]
async fn what_became_forbidden_after_it_was_set_is_not_sent() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let canary = world.receiver(&merchant).await;
    let port = canary.url.rsplit(':').next().unwrap().to_owned();
    // Rows as an older version, an import or a thief with database access might leave them.
    let forms = ["http://127.1", "http://2130706433", "http://user@127.0.0.1", "http://[::ffff:127.0.0.1]", "http://0"];
    for form in forms {
        let url = format!("{form}:{port}");
        merchant
            .post("/v1/webhook_endpoints", &[("url", "https://shop.example/"), ("enabled_events[]", "*")])
            .await
            .ok();
        world.execute(&format!("update webhook_endpoint set url = '{url}' where url = 'https://shop.example/'")).await;
    }
    merchant.session().await;
    let event = canary.wait_for("checkout.session.created").await;
    let log = merchant.attempts_of(event.event_id(), 1 + forms.len()).await;
    for attempt in log["attempts"].as_array().unwrap() {
        if attempt["webhook_endpoint"] == canary.endpoint_id {
            continue;
        }
        assert_eq!(attempt["outcome"], "retry", "{attempt}");
        assert!(attempt["error"].as_str().unwrap().contains("URL is refused"), "{attempt}");
        assert_eq!(attempt["response_excerpt"], serde_json::Value::Null);
    }
    assert_eq!(canary.deliveries().len(), 1, "a forbidden address was reached");
    world.end().await;
}

#[tokio::test]
async fn an_operator_who_forbids_loopback_stops_what_was_set_before() {
    let mut world = World::start().await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    world.replicas[0].stop().await;
    world.set("LOOPBACK_WEBHOOKS", "false");
    world.add_replica().await;
    let merchant = merchant.at(&world.replicas[1].base);
    merchant.session().await;
    let event = merchant.event("checkout.session.created").await;
    let log = merchant.attempts_of(event["id"].as_str().unwrap(), 1).await;
    assert!(log["attempts"][0]["error"].as_str().unwrap().contains("URL is refused"), "{log}");
    assert!(receiver.deliveries().is_empty());
    world.end().await;
}

#[tokio::test]
async fn a_receivers_answer_is_kept_short_and_printable() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    receiver.answer_with_body(&format!("\u{1b}[31m<script>\0{}", "é".repeat(100_000)));
    merchant.session().await;
    let event = receiver.wait_for("checkout.session.created").await;
    let log = merchant.attempts_of(event.event_id(), 1).await;
    assert_eq!(log["attempts"][0]["outcome"], "delivered");
    let excerpt = log["attempts"][0]["response_excerpt"].as_str().unwrap();
    assert!(excerpt.starts_with("[31m<script>éé") && excerpt.len() <= 1024, "{} bytes: {excerpt}", excerpt.len());
    assert!(!excerpt.chars().any(char::is_control));
    world.end().await;
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_an_attempt_like_any_other() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let fields = [("url", "https://nowhere.invalid/hooks"), ("enabled_events[]", "*")];
    merchant.post("/v1/webhook_endpoints", &fields).await.ok();
    let neighbour: Receiver = world.receiver(&merchant).await;
    merchant.session().await;
    let event = neighbour.wait_for("checkout.session.created").await;
    let log = merchant.attempts_of(event.event_id(), 2).await;
    let failed = log["attempts"].as_array().unwrap().iter().find(|one| one["outcome"] == "retry").expect("a failure");
    assert!(failed["error"].as_str().unwrap().starts_with("no connection"), "{failed}");
    world.end().await;
}
