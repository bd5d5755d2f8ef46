//! Money that the provider refuses to give back: the escrow keeps it, says so, and the merchant decides again.

use checkstand::providers::simulator_faults::{Fault, Times};

use crate::deal::{BUYER, GIVEN_BACK, HELD, MERCHANTS, SELLER, SELLERS, Story, UNBALANCED};
use crate::world::World;

/// What the bank gives back is given already, so it refuses to.
const REFUSING: &str = "update simulator.charge set state = 'void'";
const WILLING: &str = "update simulator.charge set state = 'captured'";

async fn refused(world: &World, mode: &str) -> Story {
    let story = Story::disputed(world, mode).await;
    world.execute(REFUSING).await;
    let asked = story.call("resolve", &[("resolution", "refund")]).await.ok();
    assert_eq!(asked["status"], "refund_failed");
    assert!(asked["refund_failed_at"].is_i64() && asked["completed_at"].is_null(), "{asked}");
    assert_eq!(world.count(HELD).await, 25_000);
    story
}

#[tokio::test]
async fn a_refused_refund_is_told_and_can_be_tried_again() {
    let world = World::start().await;
    let story = Story::disputed(&world, "standard").await;
    let receiver = world.receiver(&story.merchant).await;
    world.execute(REFUSING).await;
    let first = story.call("resolve", &[("resolution", "refund")]).await.ok();
    assert_eq!((&first["status"], &first["settlement"]["buyer"]), (&"refund_failed".into(), &25_000.into()));
    let told = receiver.wait_for("escrow.refund_failed").await;
    assert_eq!(
        (told.object_id(), &told.json["data"]["object"]["status"]),
        (story.id.as_str(), &"refund_failed".into())
    );
    receiver.wait_for("refund.failed").await;
    // Nobody but the merchant moves it, and time does not.
    for action in ["dispute", "complete", "request_cancellation"] {
        story.ask(action, BUYER).await.refused_with(400, "escrow_action_not_allowed_in_state", "action");
    }
    story.call("cancel", &[]).await.refused_with(400, "escrow_action_not_allowed_in_state", "");
    world.advance(chrono::Duration::days(30));
    let list = story.merchant.get("/v1/escrows?status=refund_failed").await.ok();
    assert_eq!(list["data"][0]["id"], story.id.as_str());
    // Once more in vain, then the bank is willing.
    let again = story.call("resolve", &[("resolution", "refund")]).await.ok();
    assert_eq!(again["status"], "refund_failed");
    world.execute(WILLING).await;
    world.books_are_right().await;
    let done = story.call("resolve", &[("resolution", "refund")]).await.ok();
    assert_eq!((&done["status"], done["refunded_at"].is_i64()), (&"cancelled".into(), true));
    assert_eq!((world.count(HELD).await, world.count(GIVEN_BACK).await), (0, 25_000));
    assert_eq!(world.count("select count(*) from refund where state = 'failed'").await, 2);
    assert_eq!(world.count(UNBALANCED).await, 0);
    world.books_are_right().await;
    world.end().await;
}

#[tokio::test]
async fn what_cannot_be_given_back_may_be_released_or_split_instead() {
    let world = World::start().await;
    let story = refused(&world, "standard").await;
    let done = story.call("resolve", &[("resolution", "release")]).await.ok();
    assert_eq!((&done["status"], &done["resolution"]), (&"completed".into(), &"release".into()));
    assert_eq!((world.count(HELD).await, world.count(SELLERS).await, world.count(MERCHANTS).await), (0, 24_000, 1_000));
    world.execute(WILLING).await;
    world.books_are_right().await;

    let story = refused(&world, "quick").await;
    world.execute(WILLING).await;
    let fields = [("resolution", "split"), ("refund_amount", "10000"), ("release_amount", "15000")];
    assert_eq!(story.call("resolve", &fields).await.ok()["status"], "completed");
    assert_eq!((world.count(HELD).await, world.count(GIVEN_BACK).await), (0, 10_000));
    world.books_are_right().await;
    world.end().await;
}

#[tokio::test]
async fn a_seller_whose_cancellation_the_bank_refuses_reads_that_the_money_stays_held() {
    let world = World::start().await;
    let mut story = Story::paid(&world, "quick").await;
    let receiver = world.receiver(&story.merchant).await;
    world.execute(REFUSING).await;
    let page = story.act("cancel_escrow", SELLER, &[]).await;
    page.says("could not be given back yet").says("stays held").says("Given up, but the money did not go back");
    receiver.wait_for("escrow.refund_failed").await;
    assert_eq!((story.status().await.as_str(), world.count(HELD).await), ("refund_failed", 25_000));
    world.execute(WILLING).await;
    // Two decisions at once: one of them is made.
    let decide = async |resolution: &'static str| story.call("resolve", &[("resolution", resolution)]).await;
    let (one, other) = tokio::join!(decide("refund"), decide("release"));
    assert_eq!([one.status.as_u16(), other.status.as_u16()].iter().filter(|status| **status == 200).count(), 1);
    assert_eq!(world.count(HELD).await, 0);
    assert_eq!(world.count(GIVEN_BACK).await + world.count(SELLERS).await, 25_000);
    world.books_are_right().await;
    world.end().await;
}

#[tokio::test]
async fn a_doubt_about_a_refund_is_no_refusal() {
    let world = World::start().await;
    let story = Story::disputed(&world, "quick").await;
    world.replicas[0].simulator.set(Fault::RefuseReversal, Times::Always);
    assert_eq!(story.call("resolve", &[("resolution", "refund")]).await.ok()["status"], "refunding");
    story.call("resolve", &[("resolution", "release")]).await.refused_with(
        400,
        "escrow_action_not_allowed_in_state",
        "",
    );
    world.replicas[0].simulator.calm();
    world.end().await;
}
