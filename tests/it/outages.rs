//! A provider is away for a while: payers are passed by it or told at once, and it gets its charges
//! again when it is back.

use checkstand::providers::simulator_faults::{Fault, Times};
use chrono::Duration;
use reqwest::StatusCode;

use crate::merchant::Merchant;
use crate::payer::{GOOD_CARD, Payer};
use crate::world::{World, WorldOptions, eventually};

/// Unanswered charges that open the breaker, as configured by default.
const FAILURES: usize = 5;

/// Longer than it stays open at first.
const A_MOMENT: Duration = Duration::seconds(11);

async fn among(names: &str) -> (World, Merchant) {
    let settings = vec![("SIMULATOR_NAMES", names.to_owned())];
    let world = World::with(WorldOptions { settings, ..WorldOptions::default() }).await;
    let merchant = world.merchant().await;
    (world, merchant)
}

/// What the gateway says of its providers to who asks whether it is ready.
async fn readiness(world: &World) -> String {
    let answer = reqwest::get(format!("{}/readyz", world.base())).await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK, "an outage of a provider is not ours");
    answer.text().await.expect("text")
}

async fn asked(world: &World) -> (i64, i64) {
    let first = world.count("select count(*) from charge where provider = 'simulator'").await;
    (first, world.count("select count(*) from charge where provider = 'second'").await)
}

#[tokio::test]
async fn a_provider_that_is_away_is_passed_by_until_it_is_back() {
    let (world, merchant) = among("simulator,second").await;
    let metrics = async || {
        let answer = reqwest::get(format!("{}/metrics", world.base())).await.expect("an answer");
        answer.text().await.expect("text")
    };
    // Counting begins when they are first asked for.
    metrics().await;
    let first = &world.replicas[0].simulators["simulator"];
    first.set(Fault::RefuseConnection, Times::Always);
    let pay = async || {
        let session = merchant.session().await;
        world.payer().pay(&session, GOOD_CARD).await.says("Payment complete");
    };
    for _ in 0..FAILURES {
        pay().await;
    }
    assert_eq!(asked(&world).await, (5, 5));
    assert_eq!(readiness(&world).await, "ready\nprovider simulator: open\nprovider second: closed\n");
    for _ in 0..3 {
        pay().await;
    }
    assert_eq!(asked(&world).await, (5, 8), "nobody is sent to the one that is away");

    // One payer finds out that it is still away, and pays all the same.
    world.advance(A_MOMENT);
    pay().await;
    pay().await;
    assert_eq!(asked(&world).await, (6, 10));
    first.set(Fault::RefuseConnection, Times::Never);
    world.advance(A_MOMENT);
    pay().await;
    assert_eq!(asked(&world).await, (6, 11), "after a probe that failed the pause is longer");
    world.advance(A_MOMENT);
    assert!(readiness(&world).await.contains("provider simulator: half_open"));
    pay().await;
    pay().await;
    assert_eq!(asked(&world).await, (8, 11));
    assert!(readiness(&world).await.contains("provider simulator: closed"));
    let taken = "select count(*) from simulator.charge where state = 'captured'";
    assert_eq!(world.count(taken).await, 13);
    assert_eq!(world.count("select count(*) from checkout_session where state = 'completed'").await, 13);
    let metrics = metrics().await;
    for name in ["checkstand_provider_breaker_open{", "checkstand_failovers_total{"] {
        assert!(metrics.contains(name), "{name}");
    }
    assert!(metrics.contains("checkstand_provider_breaker_changes_total{provider=\"simulator\",state=\"closed\"}"));
    world.end().await;
}

#[tokio::test]
async fn when_nobody_can_be_asked_the_payer_hears_it_at_once_and_nothing_is_kept() {
    let (world, merchant) = among("simulator").await;
    let company = &world.replicas[0].simulators["simulator"];
    company.set(Fault::RefuseConnection, Times::Always);
    for _ in 0..FAILURES {
        let session = merchant.session().await;
        let page = world.payer().pay(&session, GOOD_CARD).await;
        page.says("Your card could not be processed just now. You were not charged.");
    }
    let session = merchant.session().await;
    let mut payer = world.payer();
    for _ in 0..6 {
        let page = payer.pay(&session, GOOD_CARD).await;
        assert_eq!(page.status, StatusCode::SERVICE_UNAVAILABLE);
        page.says("Cards cannot be taken just now. You were not charged, and your card was not kept.");
        assert_eq!(world.app().vault.cards_kept(), 0);
        assert_eq!(page.field("card_number").as_deref(), Some(""), "the form again, without the card");
        assert_eq!(page.field("email").as_deref(), Some("ada@example.com"));
    }
    // Not begun: however often it is tried, no try is used up and nothing has happened.
    assert_eq!(world.count("select count(*) from charge").await, 5);
    let read = merchant.read(&session).await;
    assert_eq!((&read["state"], &read["payment_intent"]), (&"pending".into(), &serde_json::Value::Null));
    assert_eq!(world.count("select count(*) from checkout_session where tries > 1").await, 0);

    company.set(Fault::RefuseConnection, Times::Never);
    world.advance(A_MOMENT);
    payer.pay(&session, GOOD_CARD).await.says("Payment complete");
    assert_eq!(world.count("select count(*) from simulator.charge").await, 1);
    world.end().await;
}

#[tokio::test]
async fn a_look_up_that_is_answered_ends_the_outage() {
    let (world, merchant) = among("simulator").await;
    let company = &world.replicas[0].simulators["simulator"];
    company.set(Fault::FailAfter, Times::Always);
    company.set(Fault::RefuseLookUp, Times::Always);
    for _ in 0..FAILURES {
        let session = merchant.session().await;
        world.payer().pay(&session, GOOD_CARD).await.says("We are checking your payment");
    }
    assert!(readiness(&world).await.contains("provider simulator: open"));
    // While charges are held back, the doubts go on being asked about.
    world.advance(A_MOMENT);
    eventually("a look-up that failed", async || readiness(&world).await.contains("simulator: open").then_some(()))
        .await;
    assert!(world.count("select count(*) from charge where look_ups > 0").await > 0);
    let session = merchant.session().await;
    assert_eq!(world.payer().pay(&session, GOOD_CARD).await.status, StatusCode::SERVICE_UNAVAILABLE);
    company.calm();
    world.advance(Duration::seconds(70));
    world.count_becomes("select count(*) from checkout_session where state = 'completed'", 5).await;
    // The sweep goes round once more if its first answers came while charges were still held back.
    eventually("the end of the outage", async || {
        let mut payer: Payer = world.payer();
        let page = payer.pay(&merchant.session().await, GOOD_CARD).await;
        (page.status == StatusCode::OK).then_some(())
    })
    .await;
    assert!(readiness(&world).await.contains("provider simulator: closed"));
    assert_eq!(
        world.count("select count(*) from simulator.charge where state = 'captured'").await,
        world.count("select count(*) from charge where state = 'succeeded'").await
    );
    world.end().await;
}
