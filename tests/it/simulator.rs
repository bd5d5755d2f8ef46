//! The simulator itself: every published test card with its outcome and facts, and the faults.

use checkstand::domain::decline::DeclineReason;
use checkstand::domain::money::{Currency, Money};
use checkstand::providers::simulator::Simulator;
use checkstand::providers::simulator_cards::TEST_CARDS;
use checkstand::providers::simulator_faults::{Fault, SimulatorBehaviour, Times};
use checkstand::providers::{
    Authentication, AuthenticationFlow, AuthenticationResult, BillingDetails, CallbackError, Capture, CaptureReport,
    ChargeRequest, CheckResult, Facts, LookUp, Provider, Report, Reversal, RiskLevel, Source,
};
use std::sync::Arc;

use crate::provider_conformance::{Notebook, SimulatorWithBank, Surroundings, known};
use crate::world::World;

fn money(minor: i64) -> Money {
    Money { minor, currency: Currency::parse("eur").expect("a known currency") }
}

fn request(around: &dyn Surroundings, charge_id: &str, number: &str) -> ChargeRequest {
    ChargeRequest {
        charge_id: charge_id.to_owned(),
        money: money(2_500),
        source: Source::Card(around.keep(number)),
        billing: BillingDetails::default(),
        keep_for: None,
        description: None,
        livemode: false,
        capture: Capture::Automatic,
        authentication: Authentication::WhenRequired,
        return_url: "http://127.0.0.1:9/3ds/abc".to_owned(),
        statement_descriptor: None,
    }
}

/// A charge as a merchant's test would make it, its payer approving whatever his bank asks.
async fn outcome(simulator: &SimulatorWithBank, charge_id: &str, number: &str) -> (Option<DeclineReason>, Facts) {
    let mut report =
        simulator.provider.charge(request(simulator, charge_id, number), &Notebook::default().page("")).await;
    if let Report::RequiresAction { redirect_url, .. } = &report {
        simulator.answer_challenge(redirect_url, true).await;
        match simulator.provider.look_up(&known(charge_id)).await {
            LookUp::Found(found) => report = found,
            other => panic!("{number}: {other:?}"),
        }
    }
    match report {
        Report::Succeeded { facts, .. } => (None, facts),
        Report::Declined { reason, facts, .. } => (Some(reason), facts),
        other => panic!("{number}: {other:?}"),
    }
}

/// What a card is for: its decline, its risk, the checks that fail (c, p, a), its authentication.
type Expected =
    (Option<DeclineReason>, RiskLevel, &'static str, Option<(Option<AuthenticationFlow>, AuthenticationResult)>);

fn expected(number: &str) -> Expected {
    use AuthenticationFlow::{Challenge, Frictionless};
    use AuthenticationResult::{Authenticated, ProcessingError};
    use DeclineReason as Why;
    use RiskLevel::{Elevated, Highest, Normal};
    let asked = Some((Some(Challenge), Authenticated));
    match number {
        "4000000000000002" => (Some(Why::GenericDecline), Normal, "", None),
        "4000000000009995" => (Some(Why::InsufficientFunds), Normal, "", None),
        "4000000000009987" => (Some(Why::LostCard), Normal, "", None),
        "4000000000009979" => (Some(Why::StolenCard), Normal, "", None),
        "4000000000006975" => (Some(Why::CardVelocityExceeded), Normal, "", None),
        "4000000000000069" => (Some(Why::ExpiredCard), Normal, "", None),
        "4000000000000127" => (Some(Why::IncorrectCvc), Normal, "c", None),
        "4000000000000119" => (Some(Why::ProcessingError), Normal, "", None),
        "4100000000000019" => (Some(Why::Fraudulent), Highest, "", None),
        "4000000000004954" => (None, Highest, "", None),
        "4000000000009235" => (None, Elevated, "", None),
        "4000000000000101" => (None, Normal, "c", None),
        "4000000000000036" => (None, Normal, "p", None),
        "4000000000000010" => (None, Normal, "pa", None),
        "4000000032200000" => (None, Normal, "", Some((Some(Frictionless), Authenticated))),
        "4000000000003220" | "4000002500003155" | "4000002760003184" => (None, Normal, "", asked),
        "4000008400001629" => (Some(Why::GenericDecline), Normal, "", asked),
        "4000008260003178" => (Some(Why::InsufficientFunds), Normal, "", asked),
        "4000008400001280" => (Some(Why::GenericDecline), Normal, "", Some((None, ProcessingError))),
        _ => (None, Normal, "", None),
    }
}

#[tokio::test]
async fn every_test_card_does_what_it_is_published_for() {
    let simulator = SimulatorWithBank::start().await;
    for card in TEST_CARDS {
        let number = card.number;
        let (declined, facts) = outcome(&simulator, &format!("ch_{number}"), number).await;
        let fails = |check| check == Some(CheckResult::Fail);
        let mut failed = String::new();
        for (letter, check) in
            [('c', facts.checks.cvc), ('p', facts.checks.postal_code), ('a', facts.checks.address_line1)]
        {
            failed.extend(fails(check).then_some(letter));
        }
        let three_d_secure = facts.three_d_secure.map(|ended| (ended.flow, ended.result));
        let risk = facts.risk.expect("the company has an opinion");
        assert_eq!((declined, risk, failed.as_str(), three_d_secure), expected(number), "{number}");
        assert!(facts.network.is_some(), "{number}");
    }
    simulator.world.end().await;
}

#[tokio::test]
async fn authentication_can_be_insisted_on_where_a_card_can_do_it() {
    let simulator = SimulatorWithBank::start().await;
    let insisting = |charge_id: &str, number: &str| ChargeRequest {
        authentication: Authentication::Always,
        ..request(&simulator, charge_id, number)
    };
    let asked = simulator.provider.charge(insisting("ch_can", "4000000000003055"), &Notebook::default().page("")).await;
    assert!(matches!(asked, Report::RequiresAction { .. }), "{asked:?}");
    let cannot =
        simulator.provider.charge(insisting("ch_cannot", "4242424242424242"), &Notebook::default().page("")).await;
    let Report::Succeeded { facts, .. } = cannot else { panic!("{cannot:?}") };
    let ended = facts.three_d_secure.expect("it was asked for");
    assert_eq!((ended.flow, ended.result), (None, AuthenticationResult::NotSupported));
    simulator.world.end().await;
}

#[tokio::test]
async fn without_bank_pages_a_card_that_insists_is_declined() {
    let with_bank = SimulatorWithBank::start().await;
    let app = with_bank.world.app();
    let (pool, vault) = (app.store.pool().clone(), Arc::clone(&app.vault));
    let alone = Simulator::new(pool, vault, SimulatorBehaviour::default(), None);
    assert!(!alone.capabilities().three_d_secure);
    let report = alone.charge(request(&with_bank, "ch_alone", "4000000000003220"), &Notebook::default().page("")).await;
    assert!(matches!(report, Report::Declined { reason: DeclineReason::AuthenticationRequired, .. }), "{report:?}");
    with_bank.world.end().await;
}

#[tokio::test]
async fn a_way_back_that_is_no_web_address_declines_for_good() {
    let simulator = SimulatorWithBank::start().await;
    let bad = ChargeRequest {
        return_url: "javascript:alert(1)".to_owned(),
        ..request(&simulator, "ch_bad", "4000000000003220")
    };
    let report = simulator.provider.charge(bad, &Notebook::default().page("")).await;
    assert!(matches!(report, Report::Declined { reason: DeclineReason::ProcessingError, .. }), "{report:?}");
    assert_eq!(simulator.provider.look_up(&known("ch_bad")).await, LookUp::Found(report));
    simulator.world.end().await;
}

#[tokio::test]
async fn faults_change_what_is_heard_of_captures_and_reversals_and_not_what_was_done() {
    let simulator = SimulatorWithBank::start().await;
    let provider = &simulator.provider;
    let manual = ChargeRequest { capture: Capture::Manual, ..request(&simulator, "ch_faults", "4242424242424242") };
    assert!(matches!(provider.charge(manual, &Notebook::default().page("")).await, Report::Authorized { .. }));

    simulator.behaviour.set(Fault::FailCaptureBefore, Times::Next(1));
    assert!(matches!(provider.capture(&known("ch_faults"), money(2_000)).await, CaptureReport::Unknown { .. }));
    assert!(matches!(provider.look_up(&known("ch_faults")).await, LookUp::Found(Report::Authorized { .. })));
    simulator.behaviour.set(Fault::FailCaptureAfter, Times::Next(1));
    assert!(matches!(provider.capture(&known("ch_faults"), money(2_000)).await, CaptureReport::Unknown { .. }));
    assert!(matches!(provider.look_up(&known("ch_faults")).await, LookUp::Found(Report::Succeeded { .. })));
    assert!(matches!(provider.capture(&known("ch_faults"), money(2_000)).await, CaptureReport::Captured { .. }));

    simulator.behaviour.set(Fault::FailReversalAfter, Times::Next(1));
    assert!(matches!(provider.void(&known("ch_faults")).await, Reversal::Unknown { .. }));
    assert!(matches!(provider.look_up(&known("ch_faults")).await, LookUp::Found(Report::Reversed { .. })));
    assert!(matches!(provider.void(&known("ch_faults")).await, Reversal::Done { .. }));
    simulator.world.end().await;
}

#[tokio::test]
async fn the_simulator_sends_no_callbacks() {
    let world = World::start().await;
    let simulator = world.app().providers.by_name("simulator").expect("is there");
    assert_eq!(simulator.read_callback(&[], b"{}"), Err(CallbackError::NotSupported));
    world.end().await;
}
