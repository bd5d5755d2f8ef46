//! Payments that a rule holds: the merchant takes the money, gives it up, or never decides.

use checkstand::providers::simulator_faults::{Fault, Times};
use chrono::Duration;
use serde_json::Value;

use crate::fraud::{charge_of, try_to_pay, world_with};
use crate::merchant::{Merchant, ids};
use crate::payer::{GOOD_CARD, Payer};
use crate::world::World;

const HOLD: &str = "[fraud.rules.dear]\nwhen = 'amount'\ncurrency = 'eur'\nabove = 2000\naction = 'review'";
const BOOKS: &str = "select count(*) from (select currency from ledger_entry group by object_id, movement, currency
     having sum(amount) <> 0) unbalanced";
const EARNED: &str = "select coalesce(sum(amount), 0)::int8 from ledger_entry where account = 'merchant'";
const RESERVED: &str = "select count(*) from simulator.charge where state = 'authorized'";
const TAKEN: &str = "select count(*) from simulator.charge where state = 'captured'";
const LET_GO: &str = "select count(*) from simulator.charge where state = 'void'";

/// A payment that is held, and the id of its review.
async fn held(merchant: &Merchant, payer: &Payer) -> (Value, String) {
    let (session, page) = try_to_pay(merchant, payer, GOOD_CARD.number, "ada@example.com").await;
    page.says("Order placed").says("€25.98 is reserved and not yet taken");
    for word in ["review", "fraud", "risk", "Payment complete"] {
        assert!(!page.text().contains(word), "the payer reads “{word}”: {}", page.text());
    }
    let review = charge_of(merchant, &session).await["review"].as_str().expect("a review").to_owned();
    (session, review)
}

async fn payment_of(merchant: &Merchant, session: &Value) -> Value {
    let session = merchant.read(session).await;
    let payment = session["payment_intent"].as_str().expect("a payment");
    merchant.get(&format!("/v1/payment_intents/{payment}")).await.ok()
}

#[tokio::test]
async fn a_held_payment_is_reserved_until_the_merchant_approves_it() {
    let world = world_with(HOLD, 1).await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    let (session, id) = held(&merchant, &world.payer()).await;
    let opened = receiver.wait_for("review.opened").await;
    assert_eq!((opened.object_id(), &opened.json["data"]["object"]["open"]), (id.as_str(), &true.into()));
    let completed = receiver.wait_for("checkout.session.completed").await;
    assert_eq!(completed.json["data"]["object"]["payment_status"], "unpaid");
    let read = merchant.read(&session).await;
    assert_eq!((&read["status"], &read["payment_status"]), (&"complete".into(), &"unpaid".into()));
    let payment = payment_of(&merchant, &session).await;
    assert_eq!(
        (&payment["status"], &payment["capture_method"], &payment["review"]),
        (&"requires_capture".into(), &"automatic".into(), &id.clone().into())
    );
    let charge = charge_of(&merchant, &session).await;
    let outcome = &charge["outcome"];
    assert_eq!(
        (&outcome["type"], &outcome["rule"], &outcome["network_status"], &outcome["risk_level"]),
        (&"manual_review".into(), &"dear".into(), &"approved_by_network".into(), &"elevated".into())
    );
    assert_eq!(receiver.wait_for("charge.succeeded").await.json["data"]["object"]["outcome"], *outcome);
    let list = merchant.get("/v1/reviews").await.ok();
    assert_eq!(ids(&list), [id.as_str()]);
    let review = merchant.get(&format!("/v1/reviews/{id}")).await.ok();
    assert_eq!(review, list["data"][0]);
    assert_eq!(
        [&review["object"], &review["reason"], &review["opened_reason"], &review["rule"], &review["charge"]],
        [&"review".into(), &"rule".into(), &"rule".into(), &"dear".into(), &charge["id"]]
    );
    assert_eq!((world.count(RESERVED).await, world.count(TAKEN).await), (1, 0));

    let stranger = world.merchant().await;
    stranger.get(&format!("/v1/reviews/{id}")).await.refused(404);
    stranger.post(&format!("/v1/reviews/{id}/approve"), &[]).await.refused(404);

    let approve = format!("/v1/reviews/{id}/approve");
    let approved = merchant.post_with_key(&approve, &[], "approve-1").await;
    let again = merchant.post_with_key(&approve, &[], "approve-1").await;
    assert_eq!((approved.text.as_str(), again.header("idempotent-replayed")), (again.text.as_str(), Some("true")));
    let approved = approved.ok();
    assert_eq!((&approved["open"], &approved["closed_reason"]), (&false.into(), &"approved".into()));
    merchant.post(&approve, &[]).await.ok();
    assert_eq!(merchant.read(&session).await["payment_status"], "paid");
    assert_eq!(payment_of(&merchant, &session).await["amount_received"], 2598);
    assert!(ids(&merchant.get("/v1/reviews").await.ok()).is_empty());
    for kind in ["review.closed", "charge.captured", "payment_intent.succeeded"] {
        receiver.wait_for(kind).await;
    }
    let paid = receiver.wait_for("checkout.session.async_payment_succeeded").await;
    assert_eq!(paid.json["data"]["object"]["payment_status"], "paid");
    let payment = payment_of(&merchant, &session).await["id"].as_str().expect("an id").to_owned();
    merchant.post(&format!("/v1/payment_intents/{payment}/cancel"), &[]).await.refused(400);
    assert_eq!((world.count(TAKEN).await, world.count(BOOKS).await, world.count(EARNED).await), (1, 0, 2598));
    assert_eq!(world.count("select count(*) from event where type = 'review.closed'").await, 1);
    let path = world.payer().path_of(&session);
    world.payer().visit(&format!("{path}/status")).await.says("Payment complete");
    world.end().await;
}

#[tokio::test]
async fn a_held_payment_that_is_given_up_goes_back_to_its_payer() {
    let world = world_with(HOLD, 1).await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    let (session, id) = held(&merchant, &world.payer()).await;
    let payment = payment_of(&merchant, &session).await["id"].as_str().expect("an id").to_owned();
    let cancel = format!("/v1/payment_intents/{payment}/cancel");
    let gone = merchant.post(&cancel, &[("cancellation_reason", "fraudulent")]).await.ok();
    assert_eq!((&gone["status"], &gone["cancellation_reason"]), (&"canceled".into(), &"fraudulent".into()));
    let closed = receiver.wait_for("review.closed").await;
    assert_eq!(closed.json["data"]["object"]["closed_reason"], "canceled");
    let failed = receiver.wait_for("checkout.session.async_payment_failed").await;
    assert_eq!(failed.json["data"]["object"]["payment_status"], "unpaid");
    merchant.post(&format!("/v1/reviews/{id}/approve"), &[]).await.refused_with(400, "review_closed", "");
    let path = world.payer().path_of(&session);
    world.payer().visit(&format!("{path}/status")).await.says("This payment was closed").says("No money was taken.");
    assert_eq!((world.count(LET_GO).await, world.count(BOOKS).await, world.count(EARNED).await), (1, 0, 0));
    world.end().await;
}

#[tokio::test]
async fn a_held_payment_that_nobody_decides_is_let_go() {
    let world = world_with(HOLD, 2).await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    let (session, id) = held(&merchant, &world.payer()).await;
    world.advance(Duration::hours(143));
    assert_eq!(merchant.get(&format!("/v1/reviews/{id}")).await.ok()["open"], true);
    world.advance(Duration::hours(2));
    let closed = receiver.wait_for("review.closed").await;
    assert_eq!(closed.json["data"]["object"]["closed_reason"], "payment_never_settled");
    receiver.wait_for("checkout.session.async_payment_failed").await;
    let payment = payment_of(&merchant, &session).await;
    assert_eq!((&payment["status"], &payment["cancellation_reason"]), (&"canceled".into(), &"expired".into()));
    assert_eq!((world.count(LET_GO).await, world.count(BOOKS).await, world.count(EARNED).await), (1, 0, 0));
    assert_eq!(world.count("select count(*) from event where type = 'review.closed'").await, 1);
    world.end().await;
}

#[tokio::test]
async fn an_approval_that_the_bank_does_not_answer_takes_the_money_once() {
    let world = world_with(HOLD, 1).await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    let (session, id) = held(&merchant, &world.payer()).await;
    world.replicas[0].simulator.set(Fault::FailCaptureAfter, Times::Next(1));
    let approved = merchant.post(&format!("/v1/reviews/{id}/approve"), &[]).await.ok();
    assert_eq!(approved["closed_reason"], "approved");
    assert_eq!(merchant.read(&session).await["payment_status"], "unpaid");
    world.advance(Duration::seconds(30));
    receiver.wait_for("checkout.session.async_payment_succeeded").await;
    assert_eq!((world.count(TAKEN).await, world.count(EARNED).await), (1, 2598));
    world.end().await;
}

#[tokio::test]
async fn approvals_captures_and_cancellations_at_once_leave_one_outcome() {
    let world = world_with(HOLD, 2).await;
    let merchant = world.merchant().await;
    let (session, id) = held(&merchant, &world.payer()).await;
    let payment = payment_of(&merchant, &session).await["id"].as_str().expect("an id").to_owned();
    let mut asking = tokio::task::JoinSet::new();
    for number in 0..24_usize {
        let merchant = merchant.at(&world.replicas[number % 2].base);
        let path = match number % 3 {
            0 => format!("/v1/reviews/{id}/approve"),
            1 => format!("/v1/payment_intents/{payment}/capture"),
            _ => format!("/v1/payment_intents/{payment}/cancel"),
        };
        asking.spawn(async move { merchant.post(&path, &[]).await.status.as_u16() });
    }
    let answers = asking.join_all().await;
    assert!(answers.iter().all(|status| [200, 400].contains(status)), "{answers:?}");
    let review = merchant.get(&format!("/v1/reviews/{id}")).await.ok();
    let taken = i64::from(review["closed_reason"] == "approved");
    assert_eq!(payment_of(&merchant, &session).await["amount_received"], 2598 * taken);
    assert_eq!((world.count(TAKEN).await, world.count(LET_GO).await), (taken, 1 - taken));
    assert_eq!((world.count(BOOKS).await, world.count(EARNED).await), (0, 2598 * taken));
    assert_eq!(world.count("select count(*) from event where type = 'review.closed'").await, 1);
    world.end().await;
}

#[tokio::test]
async fn money_that_the_merchant_takes_himself_stays_reserved_after_the_approval() {
    let world = world_with(HOLD, 1).await;
    let merchant = world.merchant().await;
    let session = merchant.session_with(&[("payment_intent_data[capture_method]", "manual")]).await;
    world.payer().pay(&session, GOOD_CARD).await.says("Order placed");
    let review = charge_of(&merchant, &session).await["review"].as_str().expect("a review").to_owned();
    merchant.post(&format!("/v1/reviews/{review}/approve"), &[]).await.ok();
    let payment = payment_of(&merchant, &session).await;
    assert_eq!((&payment["status"], world.count(RESERVED).await), (&"requires_capture".into(), 1));
    let id = payment["id"].as_str().expect("an id");
    merchant.post(&format!("/v1/payment_intents/{id}/capture"), &[]).await.ok();
    assert_eq!(merchant.read(&session).await["payment_status"], "paid");
    world.end().await;
}

const HOLD_BY_ANSWER: &str =
    "[fraud.rules.elevated_risk]\naction = 'review'\n[fraud.rules.postcode_fails]\naction = 'review'";

async fn is_paid(world: &World, merchant: &Merchant, number: &str) -> (Value, bool) {
    let (session, page) = try_to_pay(merchant, &world.payer(), number, "ada@example.com").await;
    page.says(if page.text().contains("reserved") { "Order placed" } else { "Payment complete" });
    let paid = merchant.read(&session).await["payment_status"] == "paid";
    (session, paid)
}

#[tokio::test]
async fn where_the_answer_may_hold_a_payment_the_others_are_taken_at_once_all_the_same() {
    let world = world_with(HOLD_BY_ANSWER, 1).await;
    let merchant = world.merchant().await;
    let (session, paid) = is_paid(&world, &merchant, GOOD_CARD.number).await;
    assert!(paid);
    assert_eq!(charge_of(&merchant, &session).await["review"], Value::Null);
    for (number, rule, reason) in
        [("4000000000009235", "elevated_risk", "elevated_risk_level"), ("4000000000000036", "postcode_fails", "rule")]
    {
        let (session, paid) = is_paid(&world, &merchant, number).await;
        assert!(!paid, "{number}");
        let charge = charge_of(&merchant, &session).await;
        let outcome = &charge["outcome"];
        assert_eq!((&outcome["rule"], &outcome["reason"]), (&rule.into(), &reason.into()), "{number}");
        let review = charge["review"].as_str().expect("a review");
        merchant.post(&format!("/v1/reviews/{review}/approve"), &[]).await.ok();
    }
    assert_eq!((world.count(TAKEN).await, world.count(EARNED).await), (3, 3 * 2598));

    // The capture after the answer is cut off: the sweep finds the reservation and takes it.
    world.replicas[0].simulator.set(Fault::FailCaptureBefore, Times::Next(1));
    let (_, page) = try_to_pay(&merchant, &world.payer(), GOOD_CARD.number, "ada@example.com").await;
    page.says("We are checking your payment");
    world.advance(Duration::seconds(30));
    world.count_becomes(TAKEN, 4).await;
    world.count_becomes("select count(*) from checkout_session where paid_at is not null", 4).await;
    assert_eq!((world.count(BOOKS).await, world.count(EARNED).await), (0, 4 * 2598));
    world.end().await;
}
