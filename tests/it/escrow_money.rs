//! The money of escrows: held, given back, released, and never twice.

use checkstand::providers::simulator_faults::{Fault, Times};

use crate::deal::{BUYER, GIVEN_BACK, HELD, MERCHANTS, SELLER, SELLERS, Story, UNBALANCED};
use crate::world::World;

#[tokio::test]
async fn money_that_nobody_says_went_back_rests_in_refunding_until_somebody_does() {
    let world = World::start().await;
    let mut story = Story::paid(&world, "quick").await;
    let receiver = world.receiver(&story.merchant).await;
    world.replicas[0].simulator.set(Fault::RefuseReversal, Times::Always);
    let page = story.act("cancel_escrow", SELLER, &[]).await;
    page.says("Deal cancelled").says("€250.00 is going back to the buyer");
    assert_eq!((story.status().await.as_str(), world.count(HELD).await), ("refunding", 25_000));
    story.ask("dispute", BUYER).await.refused_with(400, "escrow_action_not_allowed_in_state", "action");
    world.replicas[0].simulator.calm();
    world.advance(chrono::Duration::seconds(70));
    assert_eq!(receiver.wait_for("escrow.cancelled").await.object_id(), story.id);
    assert_eq!((story.status().await.as_str(), world.count(HELD).await), ("cancelled", 0));
    assert_eq!((world.count(GIVEN_BACK).await, world.count(UNBALANCED).await), (25_000, 0));
    world.end().await;
}

#[tokio::test]
async fn a_split_gives_back_first_and_releases_the_rest_only_then() {
    let world = World::start().await;
    let story = Story::disputed(&world, "standard").await;
    let receiver = world.receiver(&story.merchant).await;
    for (refund, release) in [("0", "25000"), ("10000", "15001"), ("25000", "0"), ("-1", "25001")] {
        let fields = [("resolution", "split"), ("refund_amount", refund), ("release_amount", release)];
        story.call("resolve", &fields).await.refused_with(400, "escrow_split_not_whole", "refund_amount");
    }
    story.call("resolve", &[("resolution", "split")]).await.refused_with(400, "parameter_missing", "refund_amount");
    let odd = [("resolution", "refund"), ("refund_amount", "1")];
    story.call("resolve", &odd).await.refused_with(400, "parameters_exclusive", "refund_amount");
    world.replicas[0].simulator.set(Fault::RefuseReversal, Times::Always);
    let fields = [("resolution", "split"), ("refund_amount", "10000"), ("release_amount", "15000")];
    let asked = story.call("resolve", &fields).await.ok();
    assert_eq!(asked["status"], "refunding");
    assert_eq!(
        asked["settlement"],
        serde_json::json!({"buyer": 10_000, "seller": 14_400, "merchant": 600, "lost_at_bank": 0})
    );
    assert_eq!((world.count(HELD).await, world.count(SELLERS).await), (25_000, 0));
    world.replicas[0].simulator.calm();
    world.advance(chrono::Duration::seconds(70));
    receiver.wait_for("escrow.completed").await;
    assert_eq!((world.count(HELD).await, world.count(GIVEN_BACK).await), (0, 10_000));
    assert_eq!((world.count(SELLERS).await, world.count(MERCHANTS).await), (14_400, 600));
    let done = story.escrow().await;
    assert_eq!((&done["status"], &done["resolution"]), (&"completed".into(), &"split".into()));
    assert_eq!(world.count(UNBALANCED).await, 0);
    world.end().await;
}

#[tokio::test]
async fn a_dispute_can_be_decided_for_either_side() {
    let world = World::start().await;
    let story = Story::disputed(&world, "quick").await;
    let released = story.call("resolve", &[("resolution", "release")]).await.ok();
    assert_eq!((&released["status"], &released["resolution"]), (&"completed".into(), &"release".into()));
    assert_eq!((world.count(SELLERS).await, world.count(HELD).await), (25_000, 0));
    let story = Story::disputed(&world, "quick").await;
    let answer = story
        .merchant
        .post_with_key(&format!("/v1/escrows/{}/resolve", story.id), &[("resolution", "refund")], "decide")
        .await;
    assert_eq!(answer.json["status"], "cancelled");
    let again = story
        .merchant
        .post_with_key(&format!("/v1/escrows/{}/resolve", story.id), &[("resolution", "refund")], "decide")
        .await;
    assert_eq!(again.text, answer.text, "the kept answer says how it ended");
    assert_eq!((world.count(GIVEN_BACK).await, world.count(HELD).await), (25_000, 0));
    world.end().await;
}

#[tokio::test]
async fn the_money_of_an_escrow_is_not_refunded_behind_its_back() {
    let world = World::start().await;
    let story = Story::paid(&world, "quick").await;
    let payment = story.escrow().await["payment_intent"].as_str().expect("a payment").to_owned();
    let refused = story.merchant.post("/v1/refunds", &[("payment_intent", &payment)]).await.refused(400);
    assert_eq!(refused["code"], "escrow_holds_payment");
    assert_eq!((world.count(HELD).await, world.count(GIVEN_BACK).await), (25_000, 0));
    world.books_are_right().await;
    world.execute("delete from ledger_entry where movement = 'held'").await;
    let audit = world.audit().await;
    let books = audit.rules.iter().find(|rule| rule.name == "escrow_books_fit").expect("the rule is judged");
    assert_eq!(books.broken, 1);
    assert!(books.findings[0].sentence.contains("holds 0 ") && books.findings[0].sentence.contains("says 25000"));
    world.end().await;
}
