//! Money that is reserved first: taken later, in whole or in part, or let go.

use checkstand::providers::simulator_faults::{Fault, Times};
use serde_json::Value;

use crate::payer::GOOD_CARD;
use crate::world::World;

const MANUAL: (&str, &str) = ("payment_intent_data[capture_method]", "manual");
const BOOKS: &str = "select count(*) from (select currency from ledger_entry group by object_id, movement, currency
     having sum(amount) <> 0) unbalanced";
const EARNED: &str = "select coalesce(sum(amount), 0)::int8 from ledger_entry where account = 'merchant'";

fn intent(session: &Value) -> String {
    format!("/v1/payment_intents/{}", session["payment_intent"].as_str().expect("a payment"))
}

#[tokio::test]
async fn reserved_money_is_taken_in_part_and_the_rest_is_let_go() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    let session_link = merchant.session_with(&[MANUAL]).await;
    let mut payer = world.payer();
    payer.pay(&session_link, GOOD_CARD).await.says("€25.98 is reserved and not yet taken");
    let session = merchant.read(&session_link).await;
    assert_eq!((&session["status"], &session["payment_status"]), (&"complete".into(), &"unpaid".into()));
    let path = intent(&session);
    let reserved = merchant.get(&path).await.ok();
    assert_eq!((&reserved["status"], &reserved["amount_capturable"]), (&"requires_capture".into(), &2598.into()));
    receiver.wait_for("payment_intent.amount_capturable_updated").await;

    let capture = format!("{path}/capture");
    let refused = merchant.post(&capture, &[("amount_to_capture", "2599")]).await.refused(400);
    assert_eq!((&refused["code"], &refused["param"]), (&"amount_too_large".into(), &"amount_to_capture".into()));
    merchant.post(&capture, &[("amount_to_capture", "0")]).await.refused(400);
    let first = merchant.post_with_key(&capture, &[("amount_to_capture", "1000")], "capture-1").await;
    let again = merchant.post_with_key(&capture, &[("amount_to_capture", "1000")], "capture-1").await;
    assert_eq!((first.text.as_str(), again.header("idempotent-replayed")), (again.text.as_str(), Some("true")));
    let taken = first.ok();
    assert_eq!((&taken["status"], &taken["amount_received"]), (&"succeeded".into(), &1000.into()));
    assert_eq!(merchant.post(&capture, &[]).await.refused(400)["code"], "charge_already_captured");
    assert_eq!(merchant.read(&session).await["payment_status"], "paid");
    payer.open(&session_link).await.says("You paid €10.00.");
    receiver.wait_for("charge.captured").await;
    receiver.wait_for("payment_intent.succeeded").await;
    assert_eq!((world.count(BOOKS).await, world.count(EARNED).await), (0, 1000));
    world.end().await;
}

#[tokio::test]
async fn reserved_money_is_let_go_and_cannot_be_taken_any_more() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    let session = merchant.session_with(&[MANUAL]).await;
    world.payer().pay(&session, GOOD_CARD).await;
    let path = intent(&merchant.read(&session).await);
    merchant.post(&format!("{path}/cancel"), &[("cancellation_reason", "because")]).await.refused(400);
    let gone = merchant.post(&format!("{path}/cancel"), &[("cancellation_reason", "requested_by_customer")]).await.ok();
    assert_eq!(
        (&gone["status"], &gone["cancellation_reason"], &gone["amount_received"]),
        (&"canceled".into(), &"requested_by_customer".into(), &0.into())
    );
    merchant.post(&format!("{path}/capture"), &[]).await.refused(400);
    world.payer().open(&session).await.says("This payment was closed").says("No money was taken.");
    receiver.wait_for("payment_intent.canceled").await;
    assert_eq!((world.count(BOOKS).await, world.count(EARNED).await), (0, 0));
    assert_eq!(world.count("select count(*) from simulator.charge where state = 'void'").await, 1);
    world.end().await;
}

#[tokio::test]
async fn the_reason_for_letting_go_outlives_a_change_of_the_notes() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let session = merchant.session_with(&[MANUAL]).await;
    world.payer().pay(&session, GOOD_CARD).await;
    let path = intent(&merchant.read(&session).await);
    world.replicas[0].simulator.set(Fault::RefuseReversal, Times::Always);
    merchant.post(&format!("{path}/cancel"), &[("cancellation_reason", "fraudulent")]).await.ok();
    merchant.post(&path, &[("metadata[case]", "7")]).await.ok();
    world.replicas[0].simulator.calm();
    world.advance(chrono::Duration::seconds(70));
    world.count_becomes("select count(*) from payment where status = 'canceled'", 1).await;
    assert_eq!(merchant.get(&path).await.ok()["cancellation_reason"], "fraudulent");
    world.books_are_right().await;
    world.end().await;
}

#[tokio::test]
async fn captures_and_a_cancellation_at_once_leave_one_outcome() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let session = merchant.session_with(&[MANUAL]).await;
    world.payer().pay(&session, GOOD_CARD).await;
    let path = intent(&merchant.read(&session).await);
    let mut asking = tokio::task::JoinSet::new();
    for number in 0..20 {
        let (merchant, path) = (merchant.clone(), path.clone());
        asking.spawn(async move {
            let end = if number % 5 == 0 { "cancel" } else { "capture" };
            merchant.post(&format!("{path}/{end}"), &[]).await.status.as_u16()
        });
    }
    let answers = asking.join_all().await;
    assert_eq!(answers.iter().filter(|status| **status == 200).count(), 1, "{answers:?}");
    let payment = merchant.get(&path).await.ok();
    let taken = i64::from(payment["status"] == "succeeded");
    assert_eq!(payment["amount_received"].as_i64(), Some(2598 * taken));
    assert_eq!(world.count("select count(*) from simulator.charge where state = 'captured'").await, taken);
    assert_eq!((world.count(BOOKS).await, world.count(EARNED).await), (0, 2598 * taken));
    world.end().await;
}
