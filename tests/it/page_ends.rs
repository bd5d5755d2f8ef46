//! What the payer sees once the session has ended: one page for every end, which says whether money
//! moved and leads back to the shop.

use chrono::Duration;
use serde_json::Value;

use crate::merchant::coffee;
use crate::payer::{Card, DECLINED_CARD, GOOD_CARD, Payer};
use crate::world::{World, WorldOptions};

const ENDED: &str = "select count(*) from checkout_session where state not in ('pending', 'processing')";

async fn without_sweep() -> World {
    World::with(WorldOptions { worker: false, ..WorldOptions::default() }).await
}

/// A session that may go back to one place for each outcome, to one for all, to one for giving up, or nowhere.
fn ways(kind: &str) -> Vec<(&'static str, &'static str)> {
    let mut fields = coffee();
    fields.retain(|(name, _)| !name.ends_with("_url"));
    fields.extend(match kind {
        "each" => vec![
            ("success_url", "https://shop.example/paid"),
            ("cancel_url", "https://shop.example/cart"),
            ("expired_url", "https://shop.example/late"),
            ("failed_url", "https://shop.example/sorry"),
        ],
        "return" => vec![("return_url", "https://shop.example/back?a=b")],
        "two" => vec![("success_url", "https://shop.example/paid"), ("cancel_url", "https://shop.example/cart")],
        _ => vec![],
    });
    fields
}

async fn bring_to(outcome: &str, world: &World, payer: &mut Payer, session: &Value) {
    let path = payer.path_of(session);
    match outcome {
        "completed" => drop(payer.pay(session, GOOD_CARD).await),
        "cancelled" => {
            let page = payer.visit(&format!("{path}/cancel")).await;
            let token = page.field("csrf_token").expect("a token");
            payer.press(&format!("{path}/cancel"), &[("csrf_token".to_owned(), token)]).await;
        }
        "failed" => {
            for _ in 0..4 {
                payer.pay(session, DECLINED_CARD).await;
            }
        }
        // The sweep is not running: the deadline counts by itself.
        _ => world.advance(Duration::minutes(31)),
    }
}

#[tokio::test]
async fn every_end_has_its_page_which_says_whether_money_moved_and_leads_back() {
    let world = without_sweep().await;
    let merchant = world.merchant().await;
    let mut headings = Vec::new();
    for (outcome, heading, money, leaves) in [
        ("completed", "Payment complete", "You paid €25.98.", true),
        ("cancelled", "Payment cancelled", "No money was taken.", true),
        ("failed", "The payment did not go through", "No money was taken.", false),
        ("expired", "This payment has run out of time", "No money was taken.", false),
    ] {
        headings.push(heading);
        for (kind, place) in [
            ("each", ["/paid?", "/cart?", "/sorry?", "/late?"]),
            ("return", ["/back?a=b&"; 4]),
            ("two", ["/paid?", "/cart?", "/cart?", "/cart?"]),
            ("none", [""; 4]),
        ] {
            let place = place[headings.len() - 1];
            let session = merchant.post("/v1/checkout/sessions", &ways(kind)).await.ok();
            let id = session["id"].as_str().expect("an id");
            let mut payer = world.payer();
            let path = payer.path_of(&session);
            bring_to(outcome, &world, &mut payer, &session).await;

            // The link in the mail, typed again, tells the same and stays.
            let status = payer.visit(&path).await;
            assert_eq!(status.path, format!("{path}/status"), "{outcome}");
            assert!(status.refresh_url().is_none(), "{outcome}: /status leaves by itself");
            let done = payer.visit(&format!("{path}/done")).await;
            for page in [&status, &done] {
                assert_eq!(page.status, 200);
                assert!(!page.has_card_form() && !page.html.contains("<form"), "{outcome} shows a form");
                page.says(heading).says(money).says(id).says("Corner Coffee");
            }
            if kind == "none" {
                done.says("You can close this page.");
                assert!(done.refresh_url().is_none() && !done.html.contains("<a "), "{outcome} leads nowhere");
                continue;
            }
            let url = format!("https://shop.example{place}session_id={id}&status={outcome}");
            let link = format!("href=\"{}\" rel=\"noreferrer\"", url.replace('&', "&#38;"));
            for page in [&status, &done] {
                assert!(page.html.contains(&link), "{outcome}/{kind}: no link to {url}: {}", page.html);
                page.says("Go back to shop.example");
            }
            assert_eq!(done.refresh_url(), leaves.then_some(url), "{outcome}/{kind}");
        }
    }
    world.end().await;
}

#[tokio::test]
async fn after_the_last_try_the_page_says_so_and_keeps_the_banks_reason_to_itself() {
    let world = World::start().await;
    let session = world.merchant().await.session().await;
    let mut payer = world.payer();
    let stolen = Card { number: "4000000000009979", ..GOOD_CARD };
    for _ in 0..3 {
        payer.pay(&session, stolen).await;
    }
    let page = payer.pay(&session, stolen).await;
    page.says("The payment did not go through").says("All 4 tries were used.").says("No money was taken.");
    assert!(!page.text().to_lowercase().contains("stolen"));
    world.end().await;
}

#[tokio::test]
async fn an_expired_session_shows_no_form_whatever_is_sent_to_it() {
    let world = without_sweep().await;
    let session = world.merchant().await.session().await;
    let mut payer = world.payer();
    let page = payer.open(&session).await;
    let (path, form) = (format!("{}/pay", page.path), Payer::fill(&page, GOOD_CARD));
    world.advance(Duration::minutes(31));
    let mut unreadable = form.clone();
    unreadable[4].1 = "4242".to_owned();
    for form in [form, unreadable] {
        let answer = payer.press(&path, &form).await;
        assert_eq!(answer.status, 303);
        let page = payer.visit(answer.header("location").expect("leads on")).await;
        page.says("This payment has run out of time").says("No money was taken.");
        assert!(!page.has_card_form());
    }
    let asked = payer.visit(&format!("{}/cancel", page.path)).await;
    asked.says("This payment has run out of time");
    assert_eq!(world.count("select count(*) from charge").await, 0);
    assert_eq!(world.count("select count(*) from simulator.charge").await, 0);
    world.end().await;
}

#[tokio::test]
async fn the_sweep_ends_a_session_at_its_deadline_and_says_so() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    let session = merchant.session().await;
    world.advance(Duration::minutes(31));
    assert_eq!(receiver.wait_for("checkout.session.expired").await.object_id(), session["id"]);
    world.payer().open(&session).await.says("This payment has run out of time");
    assert_eq!(world.count(ENDED).await, 1);
    world.end().await;
}

#[tokio::test]
async fn giving_up_asks_first() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    let session = merchant.session().await;
    let mut payer = world.payer();
    let page = payer.open(&session).await;
    let path = page.path.clone();
    assert!(page.html.contains(&format!("href=\"{path}/cancel\"")), "the form has no way out");
    let asked = payer.visit(&format!("{path}/cancel")).await;
    asked.says("Cancel this payment?").says("You have not paid.").says("Go back and pay");
    assert_eq!(merchant.read(&session).await["state"], "pending", "asking changes nothing");

    let form = [("csrf_token".to_owned(), asked.field("csrf_token").expect("a token"))];
    let answer = payer.press(&format!("{path}/cancel"), &form).await;
    assert_eq!((answer.status.as_u16(), answer.header("location")), (303, Some(format!("{path}/done").as_str())));
    payer.visit(&format!("{path}/done")).await.says("Payment cancelled");
    let event = receiver.wait_for("checkout.session.cancelled").await;
    assert_eq!(event.json["data"]["object"]["status"], "expired");
    assert_eq!(merchant.read(&session).await["state"], "cancelled");

    // A second press of a page that stood open changes nothing and tells the same.
    payer.press(&format!("{path}/cancel"), &form).await;
    payer.visit(&path).await.says("Payment cancelled");
    assert_eq!(world.count("select count(*) from event where type = 'checkout.session.cancelled'").await, 1);
    world.end().await;
}
