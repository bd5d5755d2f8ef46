//! Giving money back: all of it, parts of it, never more than was taken.

use checkstand::providers::simulator_faults::{Fault, Times};

use crate::payer::{DECLINED_CARD, GOOD_CARD};
use crate::world::World;

const BOOKS: &str = "select count(*) from (select currency from ledger_entry group by object_id, movement, currency
     having sum(amount) <> 0) unbalanced";
const EARNED: &str = "select coalesce(sum(amount), 0)::int8 from ledger_entry where account = 'merchant'";
const GIVEN_BACK: &str = "select coalesce(sum(amount_refunded), 0)::int8 from simulator.charge";

#[tokio::test]
async fn money_goes_back_in_parts_until_nothing_is_left() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    let session = merchant.session().await;
    world.payer().pay(&session, GOOD_CARD).await;
    let payment = merchant.read(&session).await["payment_intent"].as_str().expect("a payment").to_owned();
    let of = ("payment_intent", payment.as_str());
    let fields = [of, ("amount", "1000"), ("reason", "requested_by_customer"), ("metadata[case]", "7")];
    let first = merchant.post_with_key("/v1/refunds", &fields, "refund-1").await;
    let again = merchant.post_with_key("/v1/refunds", &fields, "refund-1").await;
    assert_eq!(first.text, again.text);
    let first = first.ok();
    assert_eq!((&first["status"], &first["amount"]), (&"succeeded".into(), &1000.into()));
    let refused = merchant.post("/v1/refunds", &[of, ("amount", "1599")]).await.refused(400);
    assert_eq!((&refused["code"], &refused["param"]), (&"amount_too_large".into(), &"amount".into()));
    let rest = merchant.post("/v1/refunds", &[("charge", first["charge"].as_str().expect("a charge"))]).await.ok();
    assert_eq!(rest["amount"], 1598);
    assert_eq!(merchant.post("/v1/refunds", &[of]).await.refused(400)["code"], "charge_already_refunded");

    let charge = merchant.get(&format!("/v1/charges/{}", first["charge"].as_str().expect("a charge"))).await.ok();
    assert_eq!((&charge["amount_refunded"], &charge["refunded"]), (&2598.into(), &true.into()));
    let listed = merchant.get(&format!("/v1/refunds?payment_intent={payment}")).await.ok();
    assert_eq!(listed["data"].as_array().map(Vec::len), Some(2));
    let path = format!("/v1/refunds/{}", first["id"].as_str().expect("an id"));
    merchant.post(&path, &[("metadata[case]", "8")]).await.ok();
    assert_eq!(merchant.get(&path).await.ok()["metadata"]["case"], "8");
    receiver.wait_for("refund.created").await;
    receiver.wait_for("charge.refunded").await;
    world.payer().open(&session).await.says("€25.98 goes back to you.");
    assert_eq!((world.count(BOOKS).await, world.count(EARNED).await, world.count(GIVEN_BACK).await), (0, 0, 2598));
    world.end().await;
}

#[tokio::test]
async fn a_hundred_refunds_at_once_never_give_back_more_than_was_taken() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let session = merchant.session().await;
    world.payer().pay(&session, GOOD_CARD).await;
    let payment = merchant.read(&session).await["payment_intent"].as_str().expect("a payment").to_owned();
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let (merchant, payment) = (merchant.clone(), payment.clone());
        asking.spawn(async move {
            merchant.post("/v1/refunds", &[("payment_intent", &payment), ("amount", "100")]).await.status.as_u16()
        });
    }
    let answers = asking.join_all().await;
    let given = i64::try_from(answers.iter().filter(|status| **status == 200).count()).expect("a count");
    assert!(given <= 25, "{given} refunds of 1.00 from 25.98");
    assert!(answers.iter().all(|status| [200, 400, 503].contains(status)), "{answers:?}");
    assert_eq!(world.count(GIVEN_BACK).await, given * 100);
    assert_eq!((world.count(BOOKS).await, world.count(EARNED).await), (0, 2598 - given * 100));
    world.end().await;
}

#[tokio::test]
async fn a_refund_that_nobody_answers_is_repeated_until_it_is_known() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    let session = merchant.session().await;
    world.payer().pay(&session, GOOD_CARD).await;
    let payment = merchant.read(&session).await["payment_intent"].as_str().expect("a payment").to_owned();
    world.replicas[0].simulator.set(Fault::RefuseReversal, Times::Always);
    let refund = merchant.post("/v1/refunds", &[("payment_intent", &payment)]).await.ok();
    assert_eq!(refund["status"], "pending");
    let refused = merchant.post("/v1/refunds", &[("payment_intent", &payment)]).await.refused(400);
    assert_eq!(refused["code"], "charge_already_refunded", "what is pending counts as gone");
    world.replicas[0].simulator.calm();
    world.advance(chrono::Duration::seconds(70));
    receiver.wait_for("charge.refunded").await;
    assert_eq!((world.count(GIVEN_BACK).await, world.count(EARNED).await), (2598, 0));
    world.end().await;
}

#[tokio::test]
async fn what_was_not_taken_cannot_be_given_back() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let session = merchant.session().await;
    world.payer().pay(&session, DECLINED_CARD).await;
    let payment = merchant.read(&session).await["payment_intent"].as_str().expect("a payment").to_owned();
    let refused = merchant.post("/v1/refunds", &[("payment_intent", &payment)]).await.refused(400);
    assert_eq!(refused["code"], "charge_not_refundable");
    merchant.post("/v1/refunds", &[]).await.refused(400);
    merchant.post("/v1/refunds", &[("payment_intent", &payment), ("charge", "ch_x")]).await.refused(400);
    merchant.post("/v1/refunds", &[("charge", "ch_x")]).await.refused_with(400, "resource_missing", "charge");
    let unknown = [("payment_intent", "pi_x")];
    merchant.post("/v1/refunds", &unknown).await.refused_with(400, "resource_missing", "payment_intent");
    world.end().await;
}
