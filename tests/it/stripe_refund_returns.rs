//! Refunds that Stripe calls succeeded and later failed: the payer's bank did not take the money, which is on the
//! account again. localstripe's never fail, so the proxy before it tells of that.

use std::sync::Arc;

use reqwest::Method;
use serde_json::{Value, json};

use crate::fault_proxy::Fault;
use crate::payer::GOOD_CARD;
use crate::stripe_callbacks::{SECRET, rig_with, send, signed};
use crate::world::World;

const EARNED: &str = "select coalesce(sum(amount), 0)::int8 from ledger_entry where account = 'merchant'";

/// Stripe's message about a refund, signed. Gives what it is answered.
async fn told(world: &World, kind: &str, refund: &Value) -> u16 {
    let body = json!({"object": "event", "id": "evt_1", "type": kind, "data": {"object": refund}}).to_string();
    let header = signed(&[(&body, SECRET, world.now())]).await;
    send(world, "/callbacks/stripe", &body, &[("stripe-signature", &header[0])]).await
}

#[tokio::test]
async fn a_refund_that_comes_back_after_it_succeeded_is_booked_once_and_can_be_made_anew() {
    let (world, proxy, localstripe) = rig_with(true).await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    let session = merchant.session().await;
    world.payer().pay(&session, GOOD_CARD).await.says("Payment complete");
    let payment = merchant.read(&session).await["payment_intent"].as_str().expect("a payment").to_owned();
    let of = ("payment_intent", payment.as_str());
    let made = merchant.post("/v1/refunds", &[of, ("amount", "1000")]).await.ok();
    let path = format!("/v1/refunds/{}", made["id"].as_str().expect("an id"));
    assert_eq!((&made["status"], world.count(EARNED).await), (&"succeeded".into(), 1598));

    let mut refund = localstripe.refunds().await[0].clone();
    refund["status"] = "failed".into();
    refund["failure_reason"] = "lost_or_stolen_card".into();
    // A message that claims so while Stripe has it as succeeded changes nothing, nor does one about nobody's refund.
    assert_eq!(told(&world, "refund.failed", &refund).await, 200);
    let mut nobodys = refund.clone();
    nobodys["metadata"]["checkstand_charge"] = "ch_nobody".into();
    assert_eq!(told(&world, "refund.failed", &nobodys).await, 200);
    assert_eq!(merchant.get(&path).await.ok()["status"], "succeeded");

    let page = json!({"object": "list", "data": [refund], "has_more": false}).to_string();
    proxy.answer_with(Arc::new(move |request| {
        (request.method == Method::GET && request.path() == "/v1/refunds").then(|| (200, page.clone()))
    }));
    // It cannot be read just now: the message has to come again.
    proxy.strike(Method::GET, "/v1/refunds", Fault::CutAfter, 1);
    assert_eq!(told(&world, "refund.failed", &refund).await, 503);
    for kind in ["refund.failed", "charge.refund.updated", "refund.updated", "refund.failed"] {
        assert_eq!(told(&world, kind, &refund).await, 200, "{kind}");
    }
    let failed = merchant.get(&path).await.ok();
    assert_eq!((&failed["status"], &failed["failure_reason"]), (&"failed".into(), &"lost_or_stolen_card".into()));
    let charge = merchant.get(&format!("/v1/charges/{}", made["charge"].as_str().expect("a charge"))).await.ok();
    assert_eq!((&charge["amount_refunded"], &charge["refunded"]), (&0.into(), &false.into()));
    assert_eq!(world.count(EARNED).await, 2598, "the money is the merchant's again");
    world.books_are_right().await;
    for kind in ["refund.failed", "charge.refund.updated"] {
        assert_eq!(receiver.wait_for(kind).await.json["data"]["object"]["status"], "failed", "{kind}");
    }
    assert_eq!(world.count("select count(*) from event where type = 'refund.failed'").await, 1);

    let anew = merchant.post("/v1/refunds", &[of, ("amount", "1500")]).await.ok();
    assert_eq!((&anew["status"], world.count(EARNED).await), (&"succeeded".into(), 1098));
    world.books_are_right().await;
    world.end().await;
}
