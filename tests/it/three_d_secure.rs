//! 3-D Secure from the form to the bank and back, without JavaScript.

use reqwest::{Method, StatusCode};

use crate::payer::{Card, GOOD_CARD, Page, Payer};
use crate::world::World;

pub const ASKED_CARD: Card = Card { number: "4000 0000 0000 3220", expiry: "12 / 49", cvc: "123" };

/// Answers the bank that a page leads to; gives the page that it shows then.
pub async fn answer_the_bank(page: &Page, word: &str) -> Page {
    answer_the_bank_about(page, word, "€25.98").await
}

/// The same for a payment of another amount, which the bank shows.
pub async fn answer_the_bank_about(page: &Page, word: &str, amount: &str) -> Page {
    let url = page.refresh_url().expect("the page leads to the bank");
    let url = url::Url::parse(&url).expect("a URL");
    let mut at_the_bank = Payer::new(&url.origin().ascii_serialization());
    at_the_bank.visit(url.path()).await.says(amount);
    let answered = at_the_bank.send(Method::POST, url.path(), Some(&[("answer", word)])).await;
    if answered.status != StatusCode::SEE_OTHER {
        return answered;
    }
    let next = answered.header("location").expect("a redirect says where").to_owned();
    at_the_bank.visit(&next).await
}

/// Where the bank leads back to, as a path at the gateway.
pub fn path_at(page: &Page, base: &str) -> String {
    let back = page.refresh_url().expect("the bank leads back");
    back.strip_prefix(base).expect("to the gateway").to_owned()
}

#[tokio::test]
async fn a_payer_who_proves_who_he_is_has_paid() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    let session = merchant.session().await;
    let mut payer = world.payer();
    let asked = payer.pay(&session, ASKED_CARD).await;
    asked.says("Your bank wants to know that it is you").says("No money was taken yet.");
    receiver.wait_for("payment_intent.requires_action").await;
    let read = merchant.read(&session).await;
    assert_eq!((&read["status"], &read["state"]), (&"open".into(), &"processing".into()));
    let payment = format!("/v1/payment_intents/{}", read["payment_intent"].as_str().expect("a payment"));
    let waiting = merchant.get(&payment).await.ok();
    assert_eq!(waiting["status"], "requires_action");
    assert_eq!(waiting["next_action"]["redirect_to_url"]["url"].as_str(), asked.refresh_url().as_deref());

    // The link once more shows the way to the bank, and goes there only by a click.
    let again = payer.visit(&payer.path_of(&session)).await;
    again.says("Continue to your bank");
    assert_eq!(again.refresh_url(), None);

    let hop = answer_the_bank(&asked, "approve").await;
    let back = path_at(&hop, world.base());
    // Back in another browser, without a cookie, by POST and twice: it settles all the same.
    let settled = Payer::new(world.base()).send(Method::POST, &back, Some(&[("PaRes", "forged")])).await;
    assert_eq!(settled.status, StatusCode::SEE_OTHER);
    payer.visit(&back).await.says("Payment complete").says("You paid €25.98");
    payer.visit(&back).await.says("Payment complete");
    receiver.wait_for("checkout.session.completed").await;
    let paid = merchant.get(&format!("{payment}?expand[]=latest_charge")).await.ok();
    assert_eq!(paid["status"], "succeeded");
    assert_eq!(paid["latest_charge"]["payment_method_details"]["card"]["three_d_secure"]["result"], "authenticated");
    assert_eq!(world.count("select count(*) from simulator.charge where state = 'captured'").await, 1);
    world.end().await;
}

#[tokio::test]
async fn a_payer_who_fails_at_his_bank_may_try_another_card() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let session = merchant.session().await;
    let mut payer = world.payer();
    let asked = payer.pay(&session, ASKED_CARD).await;
    let hop = answer_the_bank(&asked, "fail").await;
    let form = payer.visit(&path_at(&hop, world.base())).await;
    form.says("The payment did not go through");
    assert!(form.has_card_form());
    payer.pay(&session, GOOD_CARD).await.says("Payment complete");
    world.end().await;
}

#[tokio::test]
async fn a_payer_who_never_comes_back_is_found_to_have_paid_or_not() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    let approved = merchant.session().await;
    let page = world.payer().pay(&approved, ASKED_CARD).await;
    answer_the_bank(&page, "approve_and_stay").await;
    let left = merchant.session().await;
    world.payer().pay(&left, ASKED_CARD).await;

    world.advance(chrono::Duration::minutes(2));
    let completed = receiver.wait_for("checkout.session.completed").await;
    assert_eq!(completed.object_id(), approved["id"].as_str().expect("an id"));
    // Long after the deadline the other one is closed, and can take no money any more.
    world.advance(chrono::Duration::minutes(45));
    let expired = receiver.wait_for("checkout.session.expired").await;
    assert_eq!(expired.object_id(), left["id"].as_str().expect("an id"));
    assert_eq!(world.count("select count(*) from simulator.charge where state = 'captured'").await, 1);
    world.end().await;
}

#[tokio::test]
async fn a_way_back_that_nobody_waits_for_is_a_link_that_leads_nowhere() {
    let world = World::start().await;
    let unknown = world.payer().visit("/3ds/nonsense").await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
    world.end().await;
}

/// Kinds of a session's events, in the order in which they were told.
async fn told(world: &World, session: &serde_json::Value) -> String {
    let kinds = "select coalesce(string_agg(type, ' ' order by session_sequence), '') from event
         where session_id = $1 and type not like 'charge.%' and type <> 'payment_intent.created'";
    world.text(kinds, session["id"].as_str().expect("an id")).await
}

#[tokio::test]
async fn an_approval_after_the_sessions_deadline_is_taken_or_comes_to_nothing_and_events_say_which() {
    const ASKED: &str = "checkout.session.created checkout.session.opened payment_intent.requires_action";
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    // Approved at the bank long before anybody here hears of it; approved in the minutes that are left after the
    // deadline; approved when those are over. The last one is never approved.
    let sessions =
        [merchant.session().await, merchant.session().await, merchant.session().await, merchant.session().await];
    let mut pages = Vec::new();
    for session in &sessions {
        pages.push(world.payer().pay(session, ASKED_CARD).await);
    }
    let [unheard, late, too_late, never] = &sessions;
    answer_the_bank(&pages[0], "approve_and_stay").await;

    world.advance(chrono::Duration::minutes(35));
    // A session whose payer is at his bank waits for him a little longer than its deadline.
    checkstand::ops::sweep::expire_due(world.app()).await.expect("a round of the sweep");
    checkstand::ops::doubts::settle_due(world.app()).await.expect("a round of questions");
    assert_eq!(merchant.read(never).await["state"], "processing");
    let hop = answer_the_bank(&pages[1], "approve").await;
    world.payer().visit(&path_at(&hop, world.base())).await.says("You paid €25.98");

    world.advance(chrono::Duration::minutes(6));
    checkstand::ops::doubts::settle_due(world.app()).await.expect("a round of questions");
    let refused = answer_the_bank_late(&pages[2]).await;
    refused.says("Too late").says("You were not charged");
    let back = path_at_link(&refused, world.base());
    world.payer().visit(&back).await.says("This payment has run out of time");

    for paid in [unheard, late] {
        let read = merchant.read(paid).await;
        assert_eq!((&read["state"], &read["payment_status"]), (&"completed".into(), &"paid".into()), "{read}");
        let expected = format!("{ASKED} payment_intent.succeeded checkout.session.completed");
        assert_eq!(told(&world, paid).await, expected);
    }
    for unpaid in [too_late, never] {
        let read = merchant.read(unpaid).await;
        assert_eq!((&read["state"], &read["payment_status"]), (&"expired".into(), &"unpaid".into()), "{read}");
        let payment = format!("/v1/payment_intents/{}", read["payment_intent"].as_str().expect("a payment"));
        let payment = merchant.get(&format!("{payment}?expand[]=latest_charge")).await.ok();
        assert_eq!((&payment["status"], &payment["latest_charge"]["paid"]), (&"canceled".into(), &false.into()));
        let expected = format!(
            "{ASKED} payment_intent.payment_failed checkout.session.payment_failed checkout.session.expired \
             payment_intent.canceled"
        );
        assert_eq!(told(&world, unpaid).await, expected);
    }
    assert_eq!(world.count("select count(*) from simulator.charge where state = 'captured'").await, 2);
    world.books_are_right().await;
    world.end().await;
}

/// Approves when the bank has closed its question.
async fn answer_the_bank_late(page: &Page) -> Page {
    let url = url::Url::parse(&page.refresh_url().expect("the page leads to the bank")).expect("a URL");
    let mut at_the_bank = Payer::new(&url.origin().ascii_serialization());
    at_the_bank.send(Method::POST, url.path(), Some(&[("answer", "approve")])).await
}

/// The way back as a link, as a path at the gateway.
fn path_at_link(page: &Page, base: &str) -> String {
    let link = page.html.split("href=\"").find_map(|rest| rest.strip_prefix(base)?.split('"').next());
    link.expect("a link back").to_owned()
}
