//! Fraud rules and money for escrows: nobody can hold such money back for a review, so a rule that asks for
//! one has the payer's bank asked instead, and refuses who was not.

use serde_json::Value;

use crate::deal::{BUYER, HELD, Story};
use crate::fraud::{DECLINED, card, charge_of, world_with};
use crate::payer::GOOD_CARD;
use crate::three_d_secure::{answer_the_bank_about, path_at};
use crate::world::World;

const BEFORE: &str = "[fraud.rules.dear]\nwhen = 'amount'\ncurrency = 'eur'\nabove = 2000\naction = 'review'";
const BY_ANSWER: &str = "[fraud.rules.some_risk]\nwhen = 'risk'\nlevel = 'elevated'\naction = 'review'";
/// Its bank asks only when it is told to.
const ASKED_WHEN_TOLD: &str = "4000 0000 0000 3055";
const TAKEN: &str = "select count(*) from simulator.charge where state = 'captured'";
const REVIEWS: &str = "select count(*) from review";

async fn pays_with(story: &mut Story, world: &World, number: &'static str) -> Value {
    let session = story.session("accept_pay", BUYER).await;
    let asked = story.buyer.pay(&session, card(number)).await;
    if let Some(url) = asked.refresh_url()
        && !url.starts_with("https://shop.example")
    {
        asked.says("Your bank wants to know that it is you");
        let back = path_at(&answer_the_bank_about(&asked, "approve", "€250.00").await, world.base());
        story.buyer.visit(&back).await.says("Payment complete");
    }
    session
}

fn outcome(charge: &Value) -> [&str; 5] {
    ["type", "rule", "rule_stricter_than", "network_status", "seller_message"]
        .map(|key| charge["outcome"][key].as_str().unwrap_or("null"))
}

#[tokio::test]
async fn a_review_of_money_for_an_escrow_is_an_authentication_and_never_dangles() {
    let world = world_with(BEFORE, 1).await;
    let mut story = Story::begin(&world, "quick").await;
    let session = pays_with(&mut story, &world, ASKED_WHEN_TOLD).await;
    assert_eq!((story.status().await.as_str(), world.count(HELD).await), ("paid", 25_000));
    let charge = charge_of(&story.merchant, &session).await;
    let told = outcome(&charge);
    assert_eq!(&told[..4], ["authorized", "dear", "review", "approved_by_network"]);
    assert!(told[4].contains("authenticated instead"), "{}", told[4]);
    assert_eq!(charge["payment_method_details"]["card"]["three_d_secure"]["result"], "authenticated");
    assert!(charge["review"].is_null());
    assert_eq!(world.count(REVIEWS).await, 0);
    story.call("deliver", &[]).await.ok();
    story.act("complete", BUYER, &[]).await.says("The deal is done");
    world.books_are_right().await;
    world.end().await;
}

#[tokio::test]
async fn who_cannot_be_authenticated_in_a_reviews_place_pays_nothing_into_an_escrow() {
    let world = world_with(BEFORE, 1).await;
    let mut story = Story::begin(&world, "quick").await;
    let session = story.session("accept_pay", BUYER).await;
    // This card knows no 3-D Secure.
    story.buyer.pay(&session, GOOD_CARD).await.says(DECLINED);
    let charge = charge_of(&story.merchant, &session).await;
    let told = outcome(&charge);
    assert_eq!(&told[..4], ["blocked", "dear", "review", "reversed_after_approval"]);
    assert!(told[4].contains("without authenticating the payer"), "{}", told[4]);
    assert_eq!((story.status().await.as_str(), world.count(HELD).await), ("pending", 0));
    assert_eq!((world.count(REVIEWS).await, world.count("select count(*) from ledger_entry").await), (0, 0));
    assert_eq!(world.count(TAKEN).await, 0);
    // He may come again with one that does.
    pays_with(&mut story, &world, ASKED_WHEN_TOLD).await;
    assert_eq!((story.status().await.as_str(), world.count(HELD).await), ("paid", 25_000));
    world.books_are_right().await;
    world.end().await;
}

#[tokio::test]
async fn a_review_by_the_answer_is_met_by_the_authentication_that_came_before_it() {
    let world = world_with(BY_ANSWER, 1).await;
    let mut story = Story::begin(&world, "quick").await;
    let session = story.session("accept_pay", BUYER).await;
    // A risk that the provider tells with its answer, and a card without 3-D Secure.
    story.buyer.pay(&session, card("4000 0000 0000 9235")).await.says(DECLINED);
    let charge = charge_of(&story.merchant, &session).await;
    assert_eq!(&outcome(&charge)[..4], ["blocked", "some_risk", "review", "reversed_after_approval"]);
    assert_eq!(story.status().await, "pending");
    // No risk: nothing stands in the way, but every payer of an escrow was authenticated as far as his card can be.
    let session = pays_with(&mut story, &world, ASKED_WHEN_TOLD).await;
    let charge = charge_of(&story.merchant, &session).await;
    assert_eq!(charge["payment_method_details"]["card"]["three_d_secure"]["result"], "authenticated");
    assert_eq!((world.count(REVIEWS).await, world.count(HELD).await), (0, 25_000));
    assert_eq!((world.count(TAKEN).await, story.status().await.as_str()), (1, "paid"));
    world.books_are_right().await;
    world.end().await;
}
