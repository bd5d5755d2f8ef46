//! One try of the payer at one provider after another: what goes on to the next, what never does, and
//! that all of them together take the money once.

use std::process::Stdio;
use std::sync::Arc;

use checkstand::providers::simulator_faults::{Fault, Times};
use chrono::Duration;
use reqwest::{Method, StatusCode};
use serde_json::Value;
use tokio::process::Command;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::merchant::Merchant;
use crate::payer::{Card, GOOD_CARD, Payer};
use crate::receiver::Receiver;
use crate::world::{World, WorldOptions, eventually};

const CAPTURED: &str = "select count(*) from simulator.charge where state = 'captured'";
const CAPTURED_AT_SECOND: &str =
    "select count(*) from simulator.charge where state = 'captured' and provider = 'second'";
const SENT_TO_SECOND: &str = "select count(*) from charge where provider = 'second'";
const CHARGES: &str = "select count(*) from charge";

/// Longer than every pause between two look-ups.
const SOON: Duration = Duration::seconds(70);

struct Story {
    world: World,
    merchant: Merchant,
    receiver: Receiver,
    session: Value,
    payer: Payer,
}

impl Story {
    async fn begin() -> Self {
        Self::among("simulator,second").await
    }

    async fn among(names: &str) -> Self {
        let settings = vec![("SIMULATOR_NAMES", names.to_owned())];
        let world = World::with(WorldOptions { settings, ..WorldOptions::default() }).await;
        let merchant = world.merchant().await;
        let receiver = world.receiver(&merchant).await;
        let session = merchant.session().await;
        let payer = world.payer();
        Self { world, merchant, receiver, session, payer }
    }

    fn strike(&self, company: &str, fault: Fault, times: Times) {
        self.world.replicas[0].simulators[company].set(fault, times);
    }

    /// The session's charges as the merchant sees them, the first one first.
    async fn charges(&self) -> Vec<Value> {
        let payment = self.merchant.read(&self.session).await["payment_intent"].as_str().expect("one").to_owned();
        let list = self.merchant.get(&format!("/v1/charges?payment_intent={payment}")).await.ok();
        let mut charges = list["data"].as_array().expect("a list").clone();
        charges.reverse();
        charges
    }

    async fn ends_paid_once(self) {
        let completed = self.receiver.wait_for("checkout.session.completed").await;
        assert_eq!(completed.object_id(), self.session["id"]);
        assert_eq!(self.merchant.read(&self.session).await["payment_status"], "paid");
        assert_eq!(self.world.count(CAPTURED).await, 1);
        self.world.end().await;
    }
}

#[tokio::test]
async fn a_charge_that_was_not_made_for_a_passing_reason_goes_on_to_the_next_provider() {
    for (fault, message) in [
        (Fault::DeclineSoftly, "An error occurred while the card was processed."),
        (Fault::RefuseConnection, "The payment provider could not be reached. Nothing was sent to it"),
    ] {
        let mut story = Story::begin().await;
        story.strike("simulator", fault, Times::Always);
        let (path, form) = story.payer.ready(&story.session, GOOD_CARD).await;
        let paid = story.payer.press(&path, &form).await;
        assert_eq!(paid.header("location"), Some(path.replace("/pay", "/done").as_str()), "{}", paid.text());
        let charges = story.charges().await;
        assert_eq!(charges.len(), 2);
        assert_eq!((&charges[0]["status"], &charges[0]["paid"]), (&"failed".into(), &false.into()));
        assert_eq!(charges[0]["failure_code"], "processing_error");
        let told = charges[0]["failure_message"].as_str().expect("words");
        assert!(told.starts_with(message), "{told}");
        assert_eq!((&charges[1]["status"], &charges[1]["captured"]), (&"succeeded".into(), &true.into()));
        assert_ne!(charges[0]["id"], charges[1]["id"]);
        assert_eq!(charges[0]["payment_method"], charges[1]["payment_method"]);
        let failed = story.receiver.wait_for("charge.failed").await;
        assert_eq!(failed.object_id(), charges[0]["id"]);
        let succeeded = story.receiver.wait_for("charge.succeeded").await;
        assert_eq!(succeeded.object_id(), charges[1]["id"]);
        let payment = story.merchant.read(&story.session).await["payment_intent"].as_str().expect("one").to_owned();
        let payment = story.merchant.get(&format!("/v1/payment_intents/{payment}")).await.ok();
        assert_eq!(payment["latest_charge"], charges[1]["id"]);
        // To the payer it was one try that went well, and the same form again is the same try.
        assert_eq!(story.world.count("select count(*) from checkout_session where tries = 1").await, 1);
        let failures = "select count(*) from event where type in
            ('payment_intent.payment_failed', 'checkout.session.payment_failed')";
        assert_eq!(story.world.count(failures).await, 0);
        assert_eq!(story.payer.press(&path, &form).await.status, StatusCode::SEE_OTHER);
        assert_eq!(story.world.count(CHARGES).await, 2);
        assert_eq!(story.world.count(CAPTURED_AT_SECOND).await, 1);
        // Nothing of the card is left for anybody.
        assert_eq!(story.world.app().vault.cards_kept(), 0);
        story.ends_paid_once().await;
    }
}

#[tokio::test]
async fn a_no_of_the_payers_bank_is_taken_nowhere_else() {
    let mut story = Story::begin().await;
    for (number, code) in [
        ("4000 0000 0000 0002", "card_declined"),
        ("4000 0000 0000 9995", "card_declined"),
        ("4000 0000 0000 9979", "card_declined"),
        ("4000 0000 0000 0127", "incorrect_cvc"),
    ] {
        story.payer.pay(&story.session, Card { number, ..GOOD_CARD }).await.says("You were not charged.");
        let charges = story.charges().await;
        assert_eq!(charges.last().expect("one")["failure_code"], code);
        story.session = story.merchant.session().await;
    }
    assert_eq!(story.world.count(CHARGES).await, 4);
    assert_eq!(story.world.count(SENT_TO_SECOND).await, 0);
    story.world.end().await;
}

#[tokio::test]
async fn three_providers_are_asked_and_then_the_payer() {
    let mut story = Story::among("simulator,second,third,fourth").await;
    for company in ["simulator", "second", "third"] {
        story.strike(company, Fault::DeclineSoftly, Times::Next(1));
    }
    let form = story.payer.pay(&story.session, GOOD_CARD).await;
    form.says("Your card could not be processed just now. You were not charged.").says("You can try 3 more times.");
    let asked = "select count(distinct provider) from charge where state = 'failed' and provider <> 'fourth'";
    assert_eq!(story.world.count(asked).await, 3);
    assert_eq!(story.world.count(CHARGES).await, 3);
    story.receiver.wait_for("checkout.session.payment_failed").await;
    let form_again = Payer::fill(&form, GOOD_CARD);
    story.payer.submit(&form, &form_again).await.says("Payment complete");
    story.ends_paid_once().await;
}

#[tokio::test]
async fn an_unknown_outcome_goes_nowhere_until_it_is_known() {
    // Taken, and nobody knows; then not taken, and nobody knows.
    for (fault, is_taken) in [(Fault::FailAfter, true), (Fault::FailBefore, false)] {
        let mut story = Story::begin().await;
        story.strike("simulator", fault, Times::Next(1));
        story.strike("simulator", Fault::RefuseLookUp, Times::Always);
        story.payer.pay(&story.session, GOOD_CARD).await.says("We are checking your payment");
        story.world.advance(SOON);
        story.world.count_becomes("select coalesce(max(look_ups), 0)::bigint from charge", 1).await;
        assert_eq!(story.world.count(CHARGES).await, 1);
        assert_eq!(story.merchant.read(&story.session).await["state"], "processing");
        story.strike("simulator", Fault::RefuseLookUp, Times::Never);
        story.world.advance(SOON);
        if !is_taken {
            story.receiver.wait_for("checkout.session.payment_failed").await;
            story.payer.pay(&story.session, GOOD_CARD).await.says("Payment complete");
        }
        story.receiver.wait_for("checkout.session.completed").await;
        assert_eq!(story.world.count(SENT_TO_SECOND).await, 0);
        story.ends_paid_once().await;
    }
}

#[tokio::test]
async fn a_doubt_at_the_second_provider_stays_there_too() {
    let mut story = Story::begin().await;
    story.strike("simulator", Fault::DeclineSoftly, Times::Next(1));
    story.strike("second", Fault::FailAfter, Times::Next(1));
    story.payer.pay(&story.session, GOOD_CARD).await.says("We are checking your payment");
    assert_eq!(story.world.count(CHARGES).await, 2);
    story.world.advance(SOON);
    story.receiver.wait_for("checkout.session.completed").await;
    assert_eq!(story.world.count(CAPTURED_AT_SECOND).await, 1);
    story.ends_paid_once().await;
}

#[tokio::test]
async fn a_payer_is_asked_by_his_bank_through_the_second_provider() {
    let mut story = Story::begin().await;
    story.strike("simulator", Fault::RefuseConnection, Times::Always);
    let card = Card { number: "4000 0000 0000 3220", ..GOOD_CARD };
    let asked = story.payer.pay(&story.session, card).await;
    let at_the_bank = asked.refresh_url().expect("the page leads to the bank");
    let at_the_bank = url::Url::parse(&at_the_bank).expect("a URL");
    let mut bank = Payer::new(&at_the_bank.origin().ascii_serialization());
    let answered = bank.send(Method::POST, at_the_bank.path(), Some(&[("answer", "approve")])).await;
    let hop = bank.visit(answered.header("location").expect("leads on")).await;
    let back = hop.refresh_url().expect("the bank leads back");
    let back = back.strip_prefix(story.world.base()).expect("to the gateway").to_owned();
    story.payer.visit(&back).await.says("Payment complete");
    assert_eq!(story.world.count(CAPTURED_AT_SECOND).await, 1);
    assert_eq!(story.charges().await.len(), 2);
    story.ends_paid_once().await;
}

#[tokio::test]
async fn a_hundred_forms_at_once_take_the_money_once_over_both_providers() {
    let settings = vec![("SIMULATOR_NAMES", "simulator,second".to_owned())];
    let world = World::with(WorldOptions { replicas: 2, settings, ..WorldOptions::default() }).await;
    for replica in &world.replicas {
        replica.simulators["simulator"].set(Fault::DeclineSoftly, Times::Always);
    }
    let session = world.merchant().await.session().await;
    let mut payer = world.payer();
    let (path, form) = payer.ready(&session, GOOD_CARD).await;
    let start = Arc::new(Barrier::new(100));
    let mut racing = JoinSet::new();
    for tab in 0..100_usize {
        let mut racer = payer.at(&world.replicas[tab % 2].base);
        let (path, mut form, start) = (path.clone(), form.clone(), Arc::clone(&start));
        // Half of them the same form, half a tab of their own each.
        if tab % 4 < 2 {
            form[1].1 = format!("{tab:032x}");
        }
        racing.spawn(async move {
            start.wait().await;
            racer.press(&path, &form).await
        });
    }
    for page in racing.join_all().await {
        assert_eq!(page.header("location"), Some(path.replace("/pay", "/done").as_str()), "{}", page.text());
    }
    world.count_becomes("select count(*) from checkout_session where state = 'completed'", 1).await;
    assert_eq!(world.count(CAPTURED).await, 1);
    assert_eq!(world.count(CAPTURED_AT_SECOND).await, 1);
    assert_eq!(world.count(CHARGES).await, 2);
    payer.visit(&path.replace("/pay", "/done")).await.says("You paid €25.98.");
    world.end().await;
}

#[tokio::test]
async fn a_gateway_that_dies_between_two_providers_leaves_nothing_charged_and_a_payer_who_may_go_on() {
    let mut story = Story::begin().await;
    let listening = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listening.local_addr().expect("an address").to_string();
    drop(listening);
    let mut doomed = Command::new(env!("CARGO_BIN_EXE_checkstand"))
        .args(["serve", "--no-worker", "--listen", &address])
        .envs(story.world.environment().await)
        .env("CHECKSTAND_SIMULATOR_NAMES", "simulator,second")
        .env("CHECKSTAND_SIMULATOR_FAULTS", "simulator:decline_softly:always,second:hang_before:always")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("the program starts");
    let base = format!("http://{address}");
    eventually("the other gateway", async || reqwest::get(format!("{base}/healthz")).await.ok()).await;
    let mut payer = Payer::new(&base);
    let (path, form) = payer.ready(&story.session, GOOD_CARD).await;
    let paying = tokio::spawn(async move { payer.press(&path, &form).await });
    let passed_on = "select count(*) from charge where provider = 'second' and state = 'pending'";
    story.world.count_becomes(passed_on, 1).await;
    doomed.kill().await.expect("it dies");
    assert!(paying.await.is_err(), "nobody answers");

    story.world.advance(SOON);
    story.receiver.wait_for("checkout.session.payment_failed").await;
    assert_eq!(story.merchant.read(&story.session).await["state"], "pending");
    assert_eq!(story.world.count(CAPTURED).await, 0);
    let charges = story.charges().await;
    assert!(charges.len() == 2 && charges.iter().all(|charge| charge["status"] == "failed"), "{charges:?}");
    // The card died with the process, so the payer is asked for it again.
    let form = story.payer.open(&story.session).await;
    assert!(form.has_card_form());
    story.payer.pay(&story.session, GOOD_CARD).await.says("Payment complete");
    story.ends_paid_once().await;
}
