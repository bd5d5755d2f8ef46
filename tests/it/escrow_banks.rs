//! Escrows whose buyers dispute the charge at their banks: what is held stays held until somebody who may
//! decides, nothing goes out twice, and what a bank took and kept is in the books of what was held.

use checkstand::providers::simulator_faults::{Fault, Times};
use chrono::Duration;
use serde_json::{Value, json};

use crate::deal::{BUYER, GIVEN_BACK, HELD, MERCHANTS, SELLER, SELLERS, Story};
use crate::world::World;

const PAYERS: &str = "select coalesce(sum(amount), 0)::int8 from ledger_entry where account = 'payer'";
const UNSETTLED: &str = "select count(*) from refund where state = 'pending'";

/// The buyer goes to his bank about so much of the money; all of it unless given.
async fn to_the_bank(story: &Story, amount: Option<&str>) -> String {
    let payment = story.escrow().await["payment_intent"].as_str().expect("a payment").to_owned();
    let mut fields = vec![("payment_intent", payment.as_str())];
    fields.extend(amount.map(|amount| ("amount", amount)));
    let dispute = story.merchant.post("/v1/test_helpers/disputes", &fields).await.ok();
    format!("/v1/disputes/{}", dispute["id"].as_str().expect("an id"))
}

async fn bank_decides(story: &Story, dispute: &str, evidence: &str) {
    story.merchant.post(dispute, &[("evidence[uncategorized_text]", evidence)]).await.ok();
}

async fn lost(story: &Story, amount: Option<&str>) {
    let dispute = to_the_bank(story, amount).await;
    bank_decides(story, &dispute, "losing_evidence").await;
}

async fn split(story: &Story, refund: &str, release: &str) -> crate::merchant::Answer {
    let fields = [("resolution", "split"), ("refund_amount", refund), ("release_amount", release)];
    story.call("resolve", &fields).await
}

/// Held, the sellers', the merchant's, the payers', and what went back through the provider.
async fn books(world: &World) -> [i64; 5] {
    world.books_are_right().await;
    let mut sums = [0; 5];
    for (sum, account) in sums.iter_mut().zip([HELD, SELLERS, MERCHANTS, PAYERS, GIVEN_BACK]) {
        *sum = world.count(account).await;
    }
    sums
}

/// The sweep has been by when another escrow, due later, has been completed by it.
async fn time_has_passed(world: &World) {
    let other = Story::delivered(world, "quick").await;
    let receiver = world.receiver(&other.merchant).await;
    world.advance(Duration::days(8));
    receiver.wait_for("escrow.completed").await;
}

#[tokio::test]
async fn a_lost_bank_dispute_pays_nobody_until_the_merchant_decides() {
    let world = World::start().await;
    let mut story = Story::delivered(&world, "quick").await;
    let complete = story.session("complete", BUYER).await;
    lost(&story, None).await;
    story.ask("complete", BUYER).await.refused_with(400, "charge_disputed", "");
    story.press(&complete, BUYER, &[]).await.says("This could not be done any more");
    assert_eq!(story.merchant.read(&complete).await["state"], "failed");
    time_has_passed(&world).await;
    assert_eq!(story.status().await, "delivered");
    // What the other escrow brought went to its seller.
    assert_eq!(books(&world).await, [25_000, 25_000, -25_000, -25_000, 0]);
    let released = story.call("resolve", &[("resolution", "release")]).await.ok();
    assert_eq!(released["status"], "completed");
    assert_eq!(books(&world).await, [0, 50_000, -25_000, -25_000, 0]);
    world.end().await;
}

#[tokio::test]
async fn what_a_bank_kept_leaves_what_is_held_and_the_merchant_divides_the_rest() {
    let world = World::start().await;
    // All of it is the buyer's already: nothing goes back a second time.
    let story = Story::delivered(&world, "standard").await;
    lost(&story, None).await;
    split(&story, "10000", "15000").await.refused_with(400, "escrow_split_not_whole", "refund_amount");
    let ended = story.call("resolve", &[("resolution", "refund")]).await.ok();
    assert_eq!((&ended["status"], &ended["settlement"]["buyer"]), (&"cancelled".into(), &25_000.into()));
    assert_eq!(ended["settlement"]["lost_at_bank"], 25_000);
    assert_eq!(books(&world).await, [0; 5]);
    // A part of it.
    let story = Story::paid(&world, "instant").await;
    lost(&story, Some("5000")).await;
    story.call("deliver", &[]).await.refused_with(400, "charge_disputed", "");
    split(&story, "10000", "15000").await.refused_with(400, "escrow_split_not_whole", "refund_amount");
    let ended = split(&story, "5000", "15000").await.ok();
    assert_eq!(ended["status"], "completed", "{ended}");
    assert_eq!(ended["settlement"], json!({"buyer": 10_000, "seller": 0, "merchant": 15_000, "lost_at_bank": 5_000}));
    assert_eq!(books(&world).await, [0, 0, 15_000, -15_000, 5_000]);
    let story = Story::paid(&world, "instant").await;
    lost(&story, Some("5000")).await;
    assert_eq!(story.call("resolve", &[("resolution", "refund")]).await.ok()["status"], "cancelled");
    assert_eq!(books(&world).await, [0, 0, 15_000, -15_000, 25_000]);
    // The seller gets what is left, and the bank's part is all that goes to the buyer.
    let story = Story::delivered(&world, "quick").await;
    lost(&story, Some("5000")).await;
    assert_eq!(split(&story, "0", "20000").await.ok()["status"], "completed");
    assert_eq!(books(&world).await, [0, 20_000, 15_000, -35_000, 25_000]);
    // A seller who gives up gives what is left.
    let mut story = Story::paid(&world, "quick").await;
    lost(&story, Some("5000")).await;
    story.act("cancel_escrow", SELLER, &[]).await.says("Deal cancelled").says("€200.00");
    assert_eq!(story.status().await, "cancelled");
    assert_eq!(books(&world).await, [0, 20_000, 15_000, -35_000, 45_000]);
    world.end().await;
}

#[tokio::test]
async fn nothing_is_split_while_a_bank_decides_about_a_part() {
    let world = World::start().await;
    let story = Story::disputed(&world, "quick").await;
    let dispute = to_the_bank(&story, Some("1000")).await;
    split(&story, "10000", "15000").await.refused_with(400, "charge_disputed", "");
    story.call("resolve", &[("resolution", "release")]).await.refused_with(400, "charge_disputed", "");
    story.call("resolve", &[("resolution", "refund")]).await.refused_with(400, "charge_disputed", "");
    assert_eq!((story.status().await.as_str(), world.count(GIVEN_BACK).await), ("disputed", 0));
    bank_decides(&story, &dispute, "winning_evidence").await;
    assert_eq!(split(&story, "10000", "15000").await.ok()["status"], "completed");
    assert_eq!(books(&world).await, [0, 15_000, 0, -15_000, 10_000]);
    world.end().await;
}

/// A split whose refund the provider made without anybody hearing of it, then a dispute at the bank: the refund is
/// booked all the same.
async fn refunded_and_disputed(world: &World) -> (Story, String) {
    let story = Story::disputed(world, "quick").await;
    world.replicas[0].simulator.set(Fault::FailReversalAfter, Times::Next(1));
    assert_eq!(split(&story, "10000", "15000").await.ok()["status"], "refunding");
    let dispute = to_the_bank(&story, Some("3000")).await;
    world.advance(Duration::seconds(70));
    world.count_becomes(UNSETTLED, 0).await;
    let held: Value = story.escrow().await;
    assert_eq!((&held["status"], &held["refunded_at"].is_i64()), (&"release_held".into(), &true), "{held}");
    (story, dispute)
}

#[tokio::test]
async fn a_refund_that_was_made_is_booked_and_the_release_waits_for_the_bank() {
    let world = World::start().await;
    let (story, dispute) = refunded_and_disputed(&world).await;
    assert_eq!(books(&world).await, [15_000, 0, -3_000, -15_000, 10_000]);
    split(&story, "1", "14999").await.refused_with(400, "charge_disputed", "");
    bank_decides(&story, &dispute, "winning_evidence").await;
    world.count_becomes(SELLERS, 15_000).await;
    assert_eq!(story.status().await, "completed");
    assert_eq!(books(&world).await, [0, 15_000, 0, -15_000, 10_000]);
    // Lost, it waits for the merchant.
    let (story, dispute) = refunded_and_disputed(&world).await;
    bank_decides(&story, &dispute, "losing_evidence").await;
    time_has_passed(&world).await;
    assert_eq!(story.status().await, "release_held");
    assert_eq!(books(&world).await, [15_000, 40_000, -3_000, -52_000, 20_000]);
    split(&story, "2000", "13000").await.refused_with(400, "escrow_split_not_whole", "refund_amount");
    let ended = split(&story, "2000", "10000").await.ok();
    assert_eq!(ended["settlement"], json!({"buyer": 15_000, "seller": 10_000, "merchant": 0, "lost_at_bank": 3_000}));
    assert_eq!(books(&world).await, [0, 50_000, 0, -50_000, 22_000]);
    world.end().await;
}

#[tokio::test]
async fn a_link_whose_act_a_bank_dispute_forbids_says_so() {
    let world = World::start().await;
    let mut story = Story::delivered(&world, "quick").await;
    let complete = story.session("complete", BUYER).await;
    let cancel = story.session("cancel_escrow", SELLER).await;
    let dispute = to_the_bank(&story, None).await;
    story.ask("complete", BUYER).await.refused_with(400, "charge_disputed", "");
    story.ask("cancel_escrow", SELLER).await.refused_with(400, "charge_disputed", "");
    let page = story.buyer.open(&complete).await;
    page.says("The bank is asked about this payment");
    crate::deal::press(&mut story.buyer, &complete, &page, &[]).await.says("This could not be done any more");
    story.press(&cancel, SELLER, &[]).await.says("This could not be done any more");
    for session in [&complete, &cancel] {
        assert_eq!(story.merchant.read(session).await["state"], "failed");
    }
    // The deadline passes while all is held: the deal is not completed, and can be rejected or disputed.
    world.advance(Duration::days(8));
    let ask = story.session("dispute", BUYER).await;
    let page = story.buyer.open(&ask).await;
    page.says("delivered, the time for inspection runs");
    story.call("reject_delivery", &[("reason", "It leaks.")]).await.ok();
    assert_eq!(story.status().await, "paid");
    bank_decides(&story, &dispute, "winning_evidence").await;
    assert_eq!(books(&world).await, [25_000, 0, 0, -25_000, 0]);
    world.end().await;
}

#[tokio::test]
async fn a_seller_who_never_answers_does_not_freeze_the_money() {
    let world = World::start().await;
    let mut story = Story::paid(&world, "standard").await;
    story.act("request_cancellation", BUYER, &[("text", "I moved away.")]).await;
    assert_eq!(story.call("resolve", &[("resolution", "refund")]).await.ok()["status"], "cancelled");
    assert_eq!(books(&world).await, [0, 0, 0, 0, 25_000]);
    world.end().await;
}
