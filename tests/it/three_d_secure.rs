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
