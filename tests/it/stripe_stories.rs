//! Payments through Stripe as merchants and payers meet them, with localstripe as Stripe: what is shown,
//! what is booked, and what localstripe's own books have.

use std::sync::Arc;

use chrono::Duration;
use reqwest::Method;
use serde_json::Value;

use crate::fault_proxy::{Fault, FaultProxy, answer_bank};
use crate::localstripe::{KEY, LocalStripe, REFUSED};
use crate::payer::{Card, GOOD_CARD};
use crate::world::{World, WorldOptions};

const DECLINED: Card = Card { number: "4000 0000 0000 0341", expiry: "12 / 49", cvc: "123" };
const ASKED: Card = Card { number: "4000 0025 0000 3155", expiry: "12 / 49", cvc: "123" };
const MANUAL: (&str, &str) = ("payment_intent_data[capture_method]", "manual");
const EARNED: &str = "select coalesce(sum(amount), 0)::int8 from ledger_entry where account = 'merchant'";
const BOOKS: &str = "select count(*) from (select currency from ledger_entry group by object_id, movement, currency
     having sum(amount) <> 0) unbalanced";

/// Settings of a gateway whose test mode is Stripe's, there.
pub fn settings(api_base: &str) -> Vec<(&'static str, String)> {
    vec![
        ("TEST_MODE_PROVIDER", "stripe".to_owned()),
        ("STRIPE_TEST_SECRET_KEY", KEY.to_owned()),
        ("STRIPE_API_BASE", api_base.to_owned()),
    ]
}

async fn world(settings: Vec<(&'static str, String)>) -> World {
    World::with(WorldOptions { settings, ..WorldOptions::default() }).await
}

/// A gateway, a proxy before localstripe, and localstripe.
async fn behind_a_proxy() -> (World, FaultProxy, LocalStripe) {
    let localstripe = LocalStripe::start().await;
    let proxy = FaultProxy::start(&localstripe.base, &REFUSED).await;
    (world(settings(&proxy.base)).await, proxy, localstripe)
}

fn intent(session: &Value) -> String {
    format!("/v1/payment_intents/{}", session["payment_intent"].as_str().expect("a payment"))
}

/// What merchants were told they earned is what Stripe holds, and nothing was charged twice.
async fn agree(world: &World, localstripe: &LocalStripe, minor: i64) {
    localstripe.assert_one_charge_each().await;
    assert_eq!((world.count(BOOKS).await, world.count(EARNED).await), (0, minor));
    assert_eq!(localstripe.money().await, minor);
}

#[tokio::test]
async fn a_session_is_paid_through_stripe_after_a_card_was_declined_and_refunded_in_parts() {
    let localstripe = LocalStripe::start().await;
    let mut settings = settings(&localstripe.base);
    settings.push(("STRIPE_OMITTED_PARAMETERS", REFUSED.join(",")));
    let world = world(settings).await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    let session = merchant.session().await;
    let mut payer = world.payer();
    let form = payer.pay(&session, DECLINED).await;
    form.says("Your card was declined.");
    assert!(form.has_card_form());
    payer.pay(&session, GOOD_CARD).await.says("Payment complete").says("You paid €25.98");
    receiver.wait_for("checkout.session.completed").await;
    agree(&world, &localstripe, 2598).await;

    let payment =
        merchant.get(&format!("{}?expand[]=latest_charge", intent(&merchant.read(&session).await))).await.ok();
    assert_eq!(payment["status"], "succeeded");
    let charge = payment["latest_charge"]["id"].as_str().expect("a charge");
    let at_stripe = localstripe.intents().await;
    let paid = at_stripe.iter().find(|intent| intent["status"] == "succeeded").expect("one was paid");
    assert_eq!(paid["metadata"]["checkstand_charge"], charge);
    let failed = merchant.get("/v1/charges?limit=10").await.ok();
    assert_eq!(
        (&failed["data"][1]["status"], &failed["data"][1]["failure_code"]),
        (&"failed".into(), &"card_declined".into())
    );

    merchant.post("/v1/refunds", &[("charge", charge), ("amount", "1000")]).await.ok();
    agree(&world, &localstripe, 1598).await;
    // Stripe's stand-in would give back any amount.
    merchant.post("/v1/refunds", &[("charge", charge), ("amount", "1599")]).await.refused(400);
    let rest = merchant.post("/v1/refunds", &[("charge", charge)]).await.ok();
    assert_eq!((&rest["status"], &rest["amount"]), (&"succeeded".into(), &1598.into()));
    agree(&world, &localstripe, 0).await;
    world.end().await;
}

#[tokio::test]
async fn money_reserved_at_stripe_is_taken_in_part_or_let_go() {
    let (world, proxy, localstripe) = behind_a_proxy().await;
    let merchant = world.merchant().await;
    let session = merchant.session_with(&[MANUAL]).await;
    world.payer().pay(&session, GOOD_CARD).await.says("€25.98 is reserved and not yet taken");
    let path = intent(&merchant.read(&session).await);
    let taken = merchant.post(&format!("{path}/capture"), &[("amount_to_capture", "1000")]).await.ok();
    assert_eq!((&taken["status"], &taken["amount_received"]), (&"succeeded".into(), &1000.into()));
    agree(&world, &localstripe, 1000).await;

    let session = merchant.session_with(&[MANUAL]).await;
    world.payer().pay(&session, GOOD_CARD).await;
    let path = intent(&merchant.read(&session).await);
    // The answer is lost, and the sweep makes it good.
    proxy.strike(Method::POST, "/cancel", Fault::CutAfter, 1);
    merchant.post(&format!("{path}/cancel"), &[]).await;
    world.advance(Duration::minutes(2));
    world.count_becomes("select count(*) from payment where status = 'canceled'", 1).await;
    assert_eq!(localstripe.statuses().await, ["canceled", "succeeded"]);
    agree(&world, &localstripe, 1000).await;
    world.end().await;
}

#[tokio::test]
async fn a_payer_is_sent_to_his_bank_by_stripe_and_comes_back() {
    let (world, proxy, localstripe) = behind_a_proxy().await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    let session = merchant.session().await;
    let mut payer = world.payer();
    let asked = payer.pay(&session, ASKED).await;
    let bank = asked.refresh_url().expect("the page leads to the bank");
    receiver.wait_for("payment_intent.requires_action").await;
    agree(&world, &localstripe, 0).await;
    assert_eq!(answer_bank(&bank, true).await, 200);
    let sent = proxy.recorded();
    let confirm = sent.iter().find(|sent| sent.path().ends_with("/confirm")).expect("it was confirmed");
    let back = confirm.form.iter().find(|(name, _)| name == "return_url").expect("with a way back").1.clone();
    let back = back.strip_prefix(world.base()).expect("to the gateway").to_owned();
    payer.visit(&back).await.says("Payment complete");
    receiver.wait_for("checkout.session.completed").await;
    agree(&world, &localstripe, 2598).await;

    let session = merchant.session().await;
    let asked = payer.pay(&session, ASKED).await;
    assert_eq!(answer_bank(&asked.refresh_url().expect("the bank"), false).await, 200);
    world.advance(Duration::minutes(1));
    receiver.wait_for("payment_intent.payment_failed").await;
    agree(&world, &localstripe, 2598).await;
    world.end().await;
}

#[tokio::test]
async fn a_confirmation_that_was_done_and_not_answered_is_found_and_never_repeated() {
    let (world, proxy, localstripe) = behind_a_proxy().await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    let session = merchant.session().await;
    proxy.strike(Method::POST, "/confirm", Fault::CutAfter, 1);
    let mut payer = world.payer();
    payer.pay(&session, GOOD_CARD).await;
    assert_eq!(merchant.read(&session).await["state"], "processing");
    world.advance(Duration::minutes(2));
    receiver.wait_for("checkout.session.completed").await;
    payer.open(&session).await.says("Payment complete");
    agree(&world, &localstripe, 2598).await;
    assert_eq!((proxy.count(&Method::POST, "/confirm"), localstripe.intents().await.len()), (1, 1));
    world.end().await;
}

#[tokio::test]
async fn a_confirmation_that_never_arrived_is_closed_and_the_payer_pays_with_another_try() {
    let (world, proxy, localstripe) = behind_a_proxy().await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    let session = merchant.session().await;
    let mut payer = world.payer();
    proxy.strike(Method::POST, "/confirm", Fault::CutBefore, 1);
    payer.pay(&session, GOOD_CARD).await;
    assert_eq!(merchant.read(&session).await["state"], "processing");
    // The first question finds it unconfirmed: that call may still be on its way, so it is cancelled before it is given up.
    world.advance(Duration::minutes(2));
    receiver.wait_for("payment_intent.payment_failed").await;
    assert_eq!(localstripe.intent().await["status"], "canceled");
    payer.pay(&session, GOOD_CARD).await.says("Payment complete");
    agree(&world, &localstripe, 2598).await;
    assert_eq!(localstripe.statuses().await, ["canceled", "succeeded"]);
    world.end().await;
}

#[tokio::test]
async fn an_intent_whose_answer_was_lost_is_left_unconfirmed_and_the_payer_hears_it_at_once() {
    let (world, proxy, localstripe) = behind_a_proxy().await;
    let merchant = world.merchant().await;
    let session = merchant.session().await;
    let mut payer = world.payer();
    for fault in [Fault::CutBefore, Fault::CutAfter] {
        proxy.strike(Method::POST, "/v1/payment_intents", fault, 1);
        let form = payer.pay(&session, GOOD_CARD).await;
        form.says("could not be processed just now");
        assert!(form.has_card_form());
    }
    payer.pay(&session, GOOD_CARD).await.says("Payment complete");
    agree(&world, &localstripe, 2598).await;
    assert_eq!(localstripe.statuses().await, ["requires_confirmation", "succeeded"]);
    world.end().await;
}

#[tokio::test]
async fn lost_answers_to_captures_and_refunds_are_made_good_by_the_sweep() {
    let (world, proxy, localstripe) = behind_a_proxy().await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    let session = merchant.session_with(&[MANUAL]).await;
    world.payer().pay(&session, GOOD_CARD).await;
    let path = intent(&merchant.read(&session).await);
    proxy.strike(Method::POST, "/capture", Fault::CutAfter, 1);
    merchant.post(&format!("{path}/capture"), &[]).await;
    world.advance(Duration::minutes(2));
    receiver.wait_for("charge.captured").await;
    agree(&world, &localstripe, 2598).await;
    for (fault, left) in [(Fault::CutAfter, 2000), (Fault::CutBefore, 1402)] {
        proxy.strike(Method::POST, "/refunds", fault, 1);
        let pending = merchant.post("/v1/refunds", &[("payment_intent", &path[20..]), ("amount", "598")]).await.ok();
        assert_eq!(pending["status"], "pending");
        world.advance(Duration::minutes(2));
        world.count_becomes("select count(*) from refund where state = 'pending'", 0).await;
        agree(&world, &localstripe, left).await;
    }
    assert_eq!(localstripe.refunds().await.len(), 2);
    world.end().await;
}

#[tokio::test]
async fn a_charge_that_is_closed_or_being_closed_is_not_confirmed_any_more() {
    let (world, proxy, localstripe) = behind_a_proxy().await;
    let merchant = world.merchant().await;
    let session = merchant.session().await;
    let mut payer = world.payer();
    for is_closed in [false, true] {
        let (path, form) = payer.ready(&session, GOOD_CARD).await;
        // Whoever makes the charge is slow: its intent is made, and its reference not yet written down.
        proxy.strike(Method::POST, "/v1/payment_intents", Fault::HoldAfter, 1);
        let mut pressing_payer = payer.clone();
        let pressing = tokio::spawn(async move { pressing_payer.press(&path, &form).await });
        world
            .count_becomes("select count(*) from charge where state = 'pending' and provider_reference is null", 1)
            .await;
        if is_closed {
            // The sweep finds that Stripe knows nothing of it, and closes it.
            world.advance(Duration::minutes(2));
            world.count_becomes("select count(*) from charge where state = 'failed'", 2).await;
        } else {
            world.execute("update charge set closing = true where state = 'pending'").await;
        }
        proxy.release();
        pressing.await.expect("the page is answered");
        assert_eq!(proxy.count(&Method::POST, "/confirm"), 0, "is_closed: {is_closed}");
        agree(&world, &localstripe, 0).await;
    }
    assert_eq!(localstripe.statuses().await, ["requires_confirmation"; 2]);
    payer.pay(&session, GOOD_CARD).await.says("Payment complete");
    agree(&world, &localstripe, 2598).await;
    world.end().await;
}

#[tokio::test]
async fn what_was_captured_past_the_gateway_is_booked_as_stripe_has_it() {
    let (world, _proxy, localstripe) = behind_a_proxy().await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    let session = merchant.session_with(&[MANUAL]).await;
    world.payer().pay(&session, GOOD_CARD).await.says("is reserved");
    let path = intent(&merchant.read(&session).await);
    let at_stripe = localstripe.intent().await["id"].as_str().expect("an id").to_owned();
    // As in Stripe's own dashboard.
    let captured = [("amount_to_capture", "1000")];
    let (status, _) =
        localstripe.ask(Method::POST, &format!("/v1/payment_intents/{at_stripe}/capture"), &captured).await;
    assert_eq!(status, 200);
    let taken = merchant.post(&format!("{path}/capture"), &[("amount_to_capture", "2598")]).await.ok();
    assert_eq!((&taken["status"], &taken["amount_received"]), (&"succeeded".into(), &1000.into()));
    assert_eq!(receiver.wait_for("payment_intent.succeeded").await.json["data"]["object"]["amount_received"], 1000);
    assert_eq!(merchant.read(&session).await["payment_status"], "paid");
    agree(&world, &localstripe, 1000).await;
    merchant.post("/v1/refunds", &[("payment_intent", &path[20..]), ("amount", "1001")]).await.refused(400);
    world.end().await;
}

#[tokio::test]
async fn what_is_still_reserved_is_let_go_when_stripe_has_less_than_is_to_be_captured() {
    let (world, proxy, localstripe) = behind_a_proxy().await;
    let merchant = world.merchant().await;
    let session = merchant.session_with(&[MANUAL]).await;
    world.payer().pay(&session, GOOD_CARD).await.says("is reserved");
    let path = intent(&merchant.read(&session).await);
    let mut less = localstripe.intent().await;
    less["amount_capturable"] = 1500.into();
    let read = format!("/v1/payment_intents/{}", less["id"].as_str().expect("an id"));
    proxy.answer_with(Arc::new(move |request| {
        (request.method == Method::GET && request.path() == read).then(|| (200, less.to_string()))
    }));
    let given_up = merchant.post(&format!("{path}/capture"), &[]).await.ok();
    assert_eq!((&given_up["status"], &given_up["amount_received"]), (&"canceled".into(), &0.into()));
    assert_eq!(localstripe.statuses().await, ["canceled"], "nothing stays reserved on the payer's card");
    assert_eq!(proxy.count(&Method::POST, "/capture"), 0);
    agree(&world, &localstripe, 0).await;
    world.end().await;
}
