//! The payer is back at the shop after the shop's backend knows, within a bound and never at the price
//! of a payer who waits for an endpoint that does not work.

use checkstand::app::REDIRECT_HOLDS_MAX;
use serde_json::Value;

use crate::merchant::Merchant;
use crate::payer::{GOOD_CARD, Page};
use crate::receiver::Receiver;
use crate::world::{World, WorldOptions, eventually};

const COMPLETED: &str = "checkout.session.completed";

async fn holding(hold_ms: &str) -> World {
    let settings = vec![("REDIRECT_HOLD_MS", hold_ms.to_owned())];
    World::with(WorldOptions { settings, ..WorldOptions::default() }).await
}

/// A payer with the form open, at a merchant whose endpoint has been told of everything so far.
async fn about_to_pay(
    world: &World,
    fields: &[(&str, &str)],
) -> (Merchant, Receiver, Value, impl Future<Output = Page> + Send + 'static) {
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    let session = merchant.session_with(fields).await;
    let mut payer = world.payer();
    let page = payer.open(&session).await;
    receiver.wait_for("checkout.session.opened").await;
    world.count_becomes("select count(*) from delivery", 0).await;
    let form = crate::payer::Payer::fill(&page, GOOD_CARD);
    (merchant, receiver, session, async move { payer.submit(&page, &form).await })
}

async fn holds_become(world: &World, count: usize) {
    eventually(&format!("{count} payers held"), async || {
        (REDIRECT_HOLDS_MAX - world.app().redirect_holds.available_permits() == count).then_some(())
    })
    .await;
}

/// Whether the payer went on before the bound: it counts from the completion.
async fn went_on_early(world: &World, merchant: &Merchant, session: &Value) -> bool {
    world.now() - merchant.read(session).await["ended_at"].as_i64().expect("it has ended") < 10
}

#[tokio::test]
async fn the_way_back_waits_until_the_endpoint_has_taken_the_completion() {
    let world = holding("10000").await;
    let (_, receiver, _, paying) = about_to_pay(&world, &[]).await;
    let gate = receiver.hold_answers();
    let paying = tokio::spawn(paying);
    receiver.wait_for(COMPLETED).await;
    holds_become(&world, 1).await;
    assert!(!paying.is_finished());
    gate.add_permits(100);
    let page = paying.await.expect("the browser lives");
    page.says("Payment complete");
    assert!(page.refresh_url().expect("leads on").contains("status=completed"));
    let told = world.count("select count(*) from delivery_attempt where outcome = 'delivered'").await;
    assert!(told > 0, "the payer was let go before the endpoint had answered");
    holds_become(&world, 0).await;
    world.end().await;
}

#[tokio::test]
async fn a_silent_endpoint_holds_nobody_longer_than_the_operator_says() {
    let world = holding("200").await;
    let (_, receiver, session, paying) = about_to_pay(&world, &[]).await;
    let gate = receiver.hold_answers();
    paying.await.says("Payment complete");
    assert!(world.count("select count(*) from delivery").await > 0, "nobody has answered yet");
    // The bound counts from the completion: loaded again, the page waits for nothing.
    world.payer().visit(&format!("{}/done", world.payer().path_of(&session))).await.says("Payment complete");
    gate.add_permits(100);
    world.end().await;
}

#[tokio::test]
async fn an_endpoint_that_has_failed_once_is_not_waited_for() {
    let world = holding("10000").await;
    let (merchant, receiver, session, paying) = about_to_pay(&world, &[]).await;
    receiver.answer_with(500);
    paying.await.says("Payment complete");
    assert!(went_on_early(&world, &merchant, &session).await);
    assert!(world.count("select count(*) from delivery").await > 0, "it is owed still");
    world.end().await;
}

#[tokio::test]
async fn a_session_can_ask_not_to_be_held() {
    let world = holding("10000").await;
    let (merchant, receiver, session, paying) = about_to_pay(&world, &[("hold_redirect", "false")]).await;
    let gate = receiver.hold_answers();
    paying.await.says("Payment complete");
    assert!(went_on_early(&world, &merchant, &session).await);
    gate.add_permits(100);
    world.end().await;
}

#[tokio::test]
async fn a_payer_who_closes_the_page_is_waited_with_no_longer() {
    let world = holding("10000").await;
    let (_, receiver, _, paying) = about_to_pay(&world, &[]).await;
    let gate = receiver.hold_answers();
    let paying = tokio::spawn(paying);
    holds_become(&world, 1).await;
    paying.abort();
    holds_become(&world, 0).await;
    gate.add_permits(100);
    world.end().await;
}

#[tokio::test]
async fn a_paused_endpoint_is_not_waited_for() {
    let world = holding("10000").await;
    let (merchant, receiver, session, paying) = about_to_pay(&world, &[]).await;
    receiver.answer_with(500);
    for _ in 0..30 {
        merchant.session().await;
    }
    world.count_becomes("select count(*) from webhook_endpoint_health where paused_until is not null", 1).await;
    paying.await.says("Payment complete");
    assert!(
        went_on_early(&world, &merchant, &session).await,
        "the payer waited for an endpoint that nothing is sent to"
    );
    let untried = "select count(*) from delivery d join event e on e.id = d.event_id
        where e.type = 'checkout.session.completed'
          and not exists (select 1 from delivery_attempt a where a.event_id = d.event_id)";
    assert_eq!(world.count(untried).await, 1, "it was tried, so this story shows nothing");
    world.end().await;
}

#[tokio::test]
async fn a_payer_goes_on_when_the_endpoint_is_disabled_or_says_that_it_is_gone_meanwhile() {
    for gone in [false, true] {
        let world = holding("10000").await;
        let (merchant, receiver, session, paying) = about_to_pay(&world, &[]).await;
        let gate = receiver.hold_answers();
        let paying = tokio::spawn(paying);
        receiver.wait_for(COMPLETED).await;
        holds_become(&world, 1).await;
        if gone {
            receiver.answer_with(410);
            gate.add_permits(100);
        } else {
            let path = format!("/v1/webhook_endpoints/{}", receiver.endpoint_id);
            merchant.post(&path, &[("disabled", "true")]).await.ok();
        }
        paying.await.expect("the browser lives").says("Payment complete");
        assert!(went_on_early(&world, &merchant, &session).await, "gone: {gone}");
        gate.add_permits(100);
        world.end().await;
    }
}

#[tokio::test]
async fn an_ordered_endpoint_that_an_earlier_event_of_the_session_failed_at_is_not_waited_for() {
    let world = holding("10000").await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    merchant.post(&format!("/v1/webhook_endpoints/{}", receiver.endpoint_id), &[("ordered", "true")]).await.ok();
    receiver.answer_with(500);
    let session = merchant.session().await;
    let first = receiver.wait_for("checkout.session.created").await;
    merchant.attempts_of(first.event_id(), 1).await;
    world.payer().pay(&session, GOOD_CARD).await.says("Payment complete");
    assert!(went_on_early(&world, &merchant, &session).await, "the payer waited for what is not sent yet");
    assert!(receiver.of_kind(COMPLETED).is_empty());
    // In good order he is held like everybody.
    receiver.answer_with(200);
    let second = merchant.session().await;
    receiver.wait_until("the other session", |all| all.iter().any(|one| second["id"] == one.object_id())).await;
    world.payer().pay(&second, GOOD_CARD).await.says("Payment complete");
    let told = receiver.of_kind(COMPLETED);
    assert!(told.iter().any(|one| second["id"] == one.object_id()), "he was back before the shop knew");
    world.end().await;
}
