//! The payment company is slow, silent, cut off or out of reach: the payer is told that it is being
//! checked, and money and state agree once it can be asked.

use std::sync::Arc;

use checkstand::domain::id::ChargeId;
use checkstand::ops::payments;
use checkstand::providers::simulator_faults::{Fault, Times};
use checkstand::providers::{Facts, Report};
use chrono::Duration;
use serde_json::Value;

use crate::merchant::Merchant;
use crate::payer::{DECLINED_CARD, GOOD_CARD, Page, Payer};
use crate::receiver::Receiver;
use crate::world::{World, WorldOptions};

const CAPTURED: &str = "select count(*) from simulator.charge where state = 'captured'";
const KNOWN_TO_THE_COMPANY: &str = "select count(*) from simulator.charge";
const IN_DOUBT: &str = "select count(*) from charge where state = 'pending'";
const ASKED: &str = "select coalesce(max(look_ups), 0)::bigint from charge";

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
        Self::with_replicas(1).await
    }

    async fn with_replicas(replicas: usize) -> Self {
        let world = World::with(WorldOptions { replicas, ..WorldOptions::default() }).await;
        let merchant = world.merchant().await;
        let receiver = world.receiver(&merchant).await;
        let session = merchant.session().await;
        let payer = world.payer();
        Self { world, merchant, receiver, session, payer }
    }

    fn strike(&self, fault: Fault, times: Times) {
        self.world.replicas[0].simulator.set(fault, times);
    }

    /// Pays, and reads that nobody knows yet.
    async fn pay_into_doubt(&mut self) -> Page {
        let page = self.payer.pay(&self.session, GOOD_CARD).await;
        assert_eq!(page.status, 200);
        page.says("We are checking your payment")
            .says("We do not know yet whether €25.98 was taken.")
            .says("please do not pay a second time")
            .says("Look again now");
        assert!(!page.has_card_form());
        page
    }

    async fn ends_paid_once(mut self) {
        let event = self.receiver.wait_for("checkout.session.completed").await;
        assert_eq!(event.object_id(), self.session["id"]);
        self.payer.open(&self.session).await.says("Payment complete").says("You paid €25.98.");
        let after = self.merchant.read(&self.session).await;
        assert_eq!((&after["status"], &after["payment_status"]), (&"complete".into(), &"paid".into()));
        assert_eq!(self.world.count(CAPTURED).await, 1);
        assert_eq!(self.world.count("select count(*) from charge where state = 'succeeded'").await, 1);
        assert_eq!(self.world.count("select count(*) from event where type = 'checkout.session.completed'").await, 1);
        self.world.end().await;
    }
}

#[tokio::test]
async fn an_answer_that_is_lost_after_the_money_was_taken_is_asked_for() {
    let mut story = Story::begin().await;
    story.strike(Fault::FailAfter, Times::Next(1));
    story.pay_into_doubt().await;
    assert_eq!(story.merchant.read(&story.session).await["state"], "processing");
    story.world.advance(Duration::seconds(3));
    story.ends_paid_once().await;
}

#[tokio::test]
async fn a_decline_whose_answer_is_lost_gives_the_payer_the_form_again() {
    let mut story = Story::begin().await;
    story.strike(Fault::FailAfter, Times::Next(1));
    story.payer.pay(&story.session, DECLINED_CARD).await.says("We are checking your payment");
    story.world.advance(Duration::seconds(3));
    story.receiver.wait_for("checkout.session.payment_failed").await;
    let page = story.payer.open(&story.session).await;
    page.says("Your card was declined.").says("You can try 3 more times.");
    let form = Payer::fill(&page, GOOD_CARD);
    story.payer.submit(&page, &form).await.says("Payment complete");
    story.ends_paid_once().await;
}

#[tokio::test]
async fn a_charge_that_never_arrived_is_closed_before_another_is_tried() {
    let mut story = Story::begin().await;
    story.strike(Fault::FailBefore, Times::Next(1));
    story.pay_into_doubt().await;
    assert_eq!(story.world.count(KNOWN_TO_THE_COMPANY).await, 0);
    story.world.advance(Duration::seconds(3));
    story.receiver.wait_for("checkout.session.payment_failed").await;
    // Refused in advance: should the lost call still come through, it takes nothing.
    let refused = "select count(*) from simulator.charge where state = 'refused'";
    assert_eq!(story.world.count(refused).await, 1);
    let page = story.payer.open(&story.session).await;
    page.says("Your card could not be processed just now. You were not charged.");
    let form = Payer::fill(&page, GOOD_CARD);
    story.payer.submit(&page, &form).await.says("Payment complete");
    story.ends_paid_once().await;
}

#[tokio::test]
async fn a_company_that_takes_the_money_and_falls_silent_is_not_waited_for() {
    let mut story = Story::begin().await;
    story.strike(Fault::HangAfter, Times::Next(1));
    let (path, form) = story.payer.ready(&story.session, GOOD_CARD).await;
    let mut tab = story.payer.clone();
    let silent = tokio::spawn({
        let (path, form) = (path.clone(), form.clone());
        async move { tab.press(&path, &form).await }
    });
    story.world.count_becomes(CAPTURED, 1).await;
    let other_tab = story.payer.visit(&path.replace("/pay", "")).await;
    other_tab.says("We are checking your payment");
    // A reload of the waiting form is the same try and is told the same at once.
    let again = story.payer.press(&path, &form).await;
    assert_eq!(again.status, 303);
    story.world.advance(Duration::seconds(30));
    story.receiver.wait_for("checkout.session.completed").await;
    story.payer.visit(&path.replace("/pay", "")).await.says("You paid €25.98.");
    // The waiting tab is answered as well, long after, and with the truth.
    let late = silent.await.expect("lives");
    assert_eq!(late.header("location"), Some(path.replace("/pay", "/done").as_str()));
    story.ends_paid_once().await;
}

#[tokio::test]
async fn a_slow_company_is_waited_for() {
    let mut story = Story::begin().await;
    story.world.replicas[0].simulator.set_latency_ms(700);
    story.payer.pay(&story.session, GOOD_CARD).await.says("Payment complete");
    story.ends_paid_once().await;
}

#[tokio::test]
async fn while_the_company_cannot_be_asked_nothing_is_decided() {
    let mut story = Story::begin().await;
    story.strike(Fault::FailAfter, Times::Next(1));
    story.strike(Fault::RefuseLookUp, Times::Always);
    let page = story.pay_into_doubt().await;
    for asked in 1..=4 {
        story.world.advance(SOON);
        story.world.count_becomes(ASKED, asked).await;
        story.payer.visit(&page.path).await.says("We are checking your payment");
    }
    assert_eq!(story.world.count(IN_DOUBT).await, 1);
    story.strike(Fault::RefuseLookUp, Times::Never);
    story.world.advance(SOON);
    story.ends_paid_once().await;
}

#[tokio::test]
async fn a_charge_that_cannot_be_closed_stays_in_doubt_until_it_can() {
    let mut story = Story::begin().await;
    story.strike(Fault::FailBefore, Times::Next(1));
    story.strike(Fault::RefuseReversal, Times::Always);
    let page = story.pay_into_doubt().await;
    for asked in 1..=2 {
        story.world.advance(SOON);
        story.world.count_becomes(ASKED, asked).await;
        story.payer.visit(&page.path).await.says("We are checking your payment");
    }
    story.strike(Fault::RefuseReversal, Times::Never);
    story.world.advance(SOON);
    story.receiver.wait_for("checkout.session.payment_failed").await;
    assert!(story.payer.visit(&page.path).await.has_card_form());
    assert_eq!(story.world.count(CAPTURED).await, 0);
    story.world.end().await;
}

#[tokio::test]
async fn a_payment_begun_in_time_counts_though_its_answer_comes_after_the_deadline() {
    let mut story = Story::begin().await;
    story.strike(Fault::FailAfter, Times::Next(1));
    story.strike(Fault::RefuseLookUp, Times::Always);
    let page = story.pay_into_doubt().await;
    story.world.advance(Duration::minutes(40));
    story.world.count_becomes(ASKED, 1).await;
    story.payer.visit(&page.path).await.says("We are checking your payment");
    story.strike(Fault::RefuseLookUp, Times::Never);
    story.world.advance(SOON);
    story.receiver.wait_for("checkout.session.completed").await;
    assert_eq!(story.world.count("select count(*) from event where type = 'checkout.session.expired'").await, 0);
    story.ends_paid_once().await;
}

#[tokio::test]
async fn a_charge_that_turns_out_untaken_after_the_deadline_leaves_an_expired_session() {
    let mut story = Story::begin().await;
    story.strike(Fault::FailBefore, Times::Next(1));
    story.strike(Fault::RefuseLookUp, Times::Always);
    let page = story.pay_into_doubt().await;
    story.world.advance(Duration::minutes(40));
    story.world.count_becomes(ASKED, 1).await;
    story.strike(Fault::RefuseLookUp, Times::Never);
    story.world.advance(SOON);
    story.receiver.wait_for("checkout.session.expired").await;
    story.payer.visit(&page.path).await.says("This payment has run out of time").says("No money was taken.");
    assert_eq!(story.world.count(CAPTURED).await, 0);
    assert_eq!(story.world.count("select count(*) from payment where status = 'canceled'").await, 1);
    story.world.end().await;
}

#[tokio::test]
async fn what_one_gateway_leaves_open_another_settles() {
    let mut story = Story::with_replicas(2).await;
    story.strike(Fault::FailAfter, Times::Next(1));
    story.pay_into_doubt().await;
    let base = story.world.replicas[1].base.clone();
    story.world.replicas[0].stop().await;
    story.payer = story.payer.at(&base);
    story.merchant = story.merchant.at(&base);
    story.world.advance(Duration::seconds(30));
    story.ends_paid_once().await;
}

#[tokio::test]
async fn news_of_a_charge_that_comes_twice_counts_once() {
    let mut story = Story::begin().await;
    story.strike(Fault::AnswerTwice, Times::Always);
    let app = Arc::clone(story.world.app());
    story.world.replicas[0].simulator.on_report(Some(Arc::new(move |charge, report| {
        let app = Arc::clone(&app);
        // As a callback would: beside the call that it is about, and twice.
        for report in [report.clone(), report] {
            let (inside, charge) = (Arc::clone(&app), ChargeId::from_stored(charge.clone()));
            app.tasks.spawn(async move { payments::settle(&inside, &charge, report).await.map(drop) });
        }
    })));
    story.payer.pay(&story.session, GOOD_CARD).await.says("Payment complete");
    story.ends_paid_once().await;
}

#[tokio::test]
async fn late_news_changes_nothing_that_is_settled() {
    let mut story = Story::begin().await;
    story.payer.pay(&story.session, GOOD_CARD).await.says("Payment complete");
    let id = story.session["id"].as_str().expect("an id");
    let charge = ChargeId::from_stored(story.world.text("select id from charge where session_id = $1", id).await);
    for report in [
        Report::Declined {
            reason: checkstand::domain::decline::DeclineReason::GenericDecline,
            reference: None,
            facts: Facts::default(),
        },
        Report::Unknown { detail: "late".to_owned() },
        Report::Pending { reference: None },
        Report::Succeeded { reference: "sim_again".to_owned(), facts: Facts::default() },
    ] {
        payments::settle(story.world.app(), &charge, report).await.expect("is heard");
    }
    story.ends_paid_once().await;
}

#[tokio::test]
async fn money_that_is_reported_for_a_charge_settled_otherwise_is_given_back() {
    let mut story = Story::begin().await;
    story.strike(Fault::FailAfter, Times::Next(1));
    story.pay_into_doubt().await;
    let id = story.session["id"].as_str().expect("an id");
    let charge = ChargeId::from_stored(story.world.text("select id from charge where session_id = $1", id).await);
    // A company that first says no and then yes.
    let no = Report::Declined {
        reason: checkstand::domain::decline::DeclineReason::GenericDecline,
        reference: None,
        facts: Facts::default(),
    };
    payments::settle(story.world.app(), &charge, no).await.expect("is heard");
    let yes = Report::Succeeded { reference: "sim_late".to_owned(), facts: Facts::default() };
    story.strike(Fault::RefuseReversal, Times::Next(1));
    payments::settle(story.world.app(), &charge, yes).await.expect("is heard");
    // The first void was not answered. That money is there and goes back is known all the same.
    let path = format!("/v1/charges/{charge}");
    let late = story.merchant.get(&path).await.ok();
    assert_eq!((&late["amount_captured"], &late["refunded"]), (&2598.into(), &false.into()));
    story.world.advance(SOON);
    let told = story.receiver.wait_for("charge.refunded").await;
    assert_eq!(told.json["data"]["object"]["id"], charge.as_str());
    let late = story.merchant.get(&path).await.ok();
    assert_eq!((&late["amount_refunded"], &late["refunded"]), (&2598.into(), &true.into()));
    let left = "select coalesce(sum(amount), 0)::bigint from ledger_entry where account = 'merchant'";
    assert_eq!(story.world.count(left).await, 0);
    assert_eq!(story.world.count(CAPTURED).await, 0);
    assert_eq!(story.world.count("select count(*) from simulator.charge where state = 'void'").await, 1);
    let page = story.payer.open(&story.session).await;
    let form = Payer::fill(&page, GOOD_CARD);
    story.payer.submit(&page, &form).await.says("Payment complete");
    story.ends_paid_once().await;
}

#[tokio::test]
async fn money_that_must_go_back_is_asked_back_until_it_has_gone() {
    let mut story = Story::begin().await;
    story.strike(Fault::FailAfter, Times::Next(1));
    story.strike(Fault::RefuseLookUp, Times::Always);
    story.pay_into_doubt().await;
    let id = story.session["id"].as_str().expect("an id");
    let charge = ChargeId::from_stored(story.world.text("select id from charge where session_id = $1", id).await);
    let no = Report::Declined {
        reason: checkstand::domain::decline::DeclineReason::GenericDecline,
        reference: None,
        facts: Facts::default(),
    };
    payments::settle(story.world.app(), &charge, no).await.expect("is heard");
    // First no, then yes, and then the company cannot be reached.
    story.strike(Fault::RefuseReversal, Times::Always);
    let yes = Report::Succeeded { reference: "sim_late".to_owned(), facts: Facts::default() };
    payments::settle(story.world.app(), &charge, yes).await.expect("is heard");
    assert_eq!(story.world.count(CAPTURED).await, 1, "it cannot be given back yet");
    story.world.replicas[0].simulator.calm();
    story.world.advance(SOON);
    story.world.count_becomes("select count(*) from simulator.charge where state = 'void'", 1).await;
    story.receiver.wait_for("charge.updated").await;
    story.world.books_are_right().await;
    let page = story.payer.open(&story.session).await;
    let form = Payer::fill(&page, GOOD_CARD);
    story.payer.submit(&page, &form).await.says("Payment complete");
    story.ends_paid_once().await;
}

#[tokio::test]
async fn a_company_that_answers_slowly_keeps_no_session_open_and_no_gateway_running() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    let simulator = &world.replicas[0].simulator;
    simulator.set(Fault::FailAfter, Times::Always);
    for _ in 0..3 {
        let session = merchant.session().await;
        world.payer().pay(&session, GOOD_CARD).await.says("We are checking your payment");
    }
    let unpaid = merchant.session().await;
    // From now on each question takes longer than a story waits.
    simulator.set_latency_ms(120_000);
    world.advance(Duration::minutes(31));
    let expired = receiver.wait_for("checkout.session.expired").await;
    assert_eq!(expired.object_id(), unpaid["id"].as_str().expect("an id"));
    // Nor does the process wait for its answers: this comes to an end.
    world.end().await;
}

#[tokio::test]
async fn a_success_heard_of_while_its_charge_is_being_voided_completes_nothing() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    let simulator = &world.replicas[0].simulator;
    simulator.set(Fault::FailBefore, Times::Always);
    simulator.set(Fault::RefuseReversal, Times::Always);
    let session = merchant.session().await;
    world.payer().pay(&session, GOOD_CARD).await.says("We are checking your payment");
    // The company does not know the charge, and does not answer whether it is closed.
    world.advance(SOON);
    world.count_becomes("select count(*) from charge where closing", 1).await;
    let id = session["id"].as_str().expect("an id");
    let charge = world.text("select id from charge where session_id = $1", id).await;
    let charge = ChargeId::parse(&charge).expect("an id");
    let late = Report::Succeeded { reference: "sim_crossed".to_owned(), facts: Facts::default() };
    payments::settle(world.app(), &charge, late).await.expect("it is heard");
    assert_eq!(merchant.read(&session).await["state"], "processing");

    simulator.calm();
    world.advance(SOON);
    receiver.wait_for("checkout.session.payment_failed").await;
    assert_eq!(merchant.read(&session).await["state"], "pending");
    assert_eq!(world.count(CAPTURED).await, 0);
    world.end().await;
}
