//! The simulated bank's pages: what a payer without JavaScript meets there, and that an answer counts
//! once, in time, and says to the shop only what it should.

use std::sync::{Arc, Mutex};

use checkstand::domain::decline::DeclineReason;
use checkstand::domain::money::{Currency, Money};
use checkstand::providers::{Authentication, BillingDetails, Capture, ChargeRequest, LookUp, Provider, Report, Source};
use reqwest::{Method, StatusCode};

use crate::payer::{Page, Payer};
use crate::provider_conformance::{Notebook, SimulatorWithBank, Surroundings, known};

const RETURN_URL: &str = "http://127.0.0.1:9/3ds/one-time-word?a=1&b=2";

/// The path of the page that asks the payer of a new charge.
async fn challenge(simulator: &SimulatorWithBank, charge_id: &str, number: &str) -> String {
    let request = ChargeRequest {
        charge_id: charge_id.to_owned(),
        money: Money { minor: 123_450, currency: Currency::parse("eur").expect("a known currency") },
        source: Source::Card(simulator.keep(number)),
        billing: BillingDetails::default(),
        keep_for: None,
        description: None,
        livemode: false,
        capture: Capture::Automatic,
        authentication: Authentication::Always,
        return_url: RETURN_URL.to_owned(),
        statement_descriptor: Some("CORNER <COFFEE>".to_owned()),
    };
    let report = simulator.provider.charge(request, &Notebook::default().page("")).await;
    let Report::RequiresAction { redirect_url, .. } = report else {
        panic!("the payer should be asked: {report:?}");
    };
    redirect_url.strip_prefix(&simulator.bank).expect("the bank's origin").to_owned()
}

async fn answer(payer: &mut Payer, path: &str, word: &str) -> Page {
    let page = payer.send(Method::POST, path, Some(&[("answer", word)])).await;
    if page.status != StatusCode::SEE_OTHER {
        return page;
    }
    let next = page.header("location").expect("a redirect says where").to_owned();
    assert_eq!(next, format!("{path}/return"), "a redirect after a form stays with the bank");
    payer.visit(&next).await
}

async fn report_of(simulator: &SimulatorWithBank, charge_id: &str) -> Report {
    match simulator.provider.look_up(&known(charge_id)).await {
        LookUp::Found(report) => report,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_payer_is_asked_with_merchant_and_amount_and_sent_back_by_a_page() {
    let simulator = SimulatorWithBank::start().await;
    let mut payer = Payer::new(&simulator.bank);
    let path = challenge(&simulator, "ch_asked", "4000000000003220").await;

    let page = payer.visit(&path).await;
    page.says("CORNER <COFFEE>").says("€1,234.50").says("No real money moves");
    assert!(!page.html.contains("<script"), "the pages work without JavaScript");
    let policy = page.header("content-security-policy").expect("a policy");
    assert!(policy.starts_with("default-src 'none';") && policy.contains("form-action 'self'"), "{policy}");
    assert!(!policy.contains("script-src"), "{policy}");
    assert_eq!(page.header("referrer-policy"), Some("strict-origin"));
    assert_eq!(page.header("cache-control"), Some("no-store"));

    let back = answer(&mut payer, &path, "approve").await;
    assert_eq!(back.status, StatusCode::OK);
    assert_eq!(back.refresh_url().as_deref(), Some(RETURN_URL));
    assert!(back.html.contains("<a class=\"go\""), "a link for who follows no refresh");
    assert!(matches!(report_of(&simulator, "ch_asked").await, Report::Succeeded { .. }));
    simulator.world.end().await;
}

#[tokio::test]
async fn each_answer_settles_the_charge_and_leaves_in_its_own_way() {
    let simulator = SimulatorWithBank::start().await;
    let mut payer = Payer::new(&simulator.bank);
    let cases = [
        ("approve", None, true),
        ("fail", Some(DeclineReason::AuthenticationFailed), true),
        ("cancel", Some(DeclineReason::AuthenticationFailed), true),
        ("approve_twice", None, false),
        ("approve_and_stay", None, false),
    ];
    for (word, declined, hops) in cases {
        let charge_id = format!("ch_{word}");
        let path = challenge(&simulator, &charge_id, "4000002500003155").await;
        let page = answer(&mut payer, &path, word).await;
        assert_eq!(page.refresh_url().is_some(), hops, "{word}");
        assert!(page.html.contains("/3ds/one-time-word"), "{word} leaves a way back");
        match (report_of(&simulator, &charge_id).await, declined) {
            (Report::Succeeded { .. }, None) => {}
            (Report::Declined { reason, .. }, Some(expected)) => assert_eq!(reason, expected, "{word}"),
            (report, _) => panic!("{word}: {report:?}"),
        }
    }
    simulator.world.end().await;
}

#[tokio::test]
async fn the_first_answer_counts_and_the_same_button_twice_is_one() {
    let simulator = SimulatorWithBank::start().await;
    let mut payer = Payer::new(&simulator.bank);
    let path = challenge(&simulator, "ch_once", "4000000000003220").await;
    let first = answer(&mut payer, &path, "fail").await;
    assert_eq!(answer(&mut payer, &path, "fail").await.text(), first.text());
    let refused = answer(&mut payer, &path, "approve").await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    refused.says("Already refused").says("Back to the shop");
    let reopened = payer.visit(&path).await;
    assert_eq!(reopened.status, StatusCode::GONE);
    reopened.says("Already refused").says("Back to the shop");
    assert!(matches!(report_of(&simulator, "ch_once").await, Report::Declined { .. }));
    simulator.world.end().await;
}

#[tokio::test]
async fn racing_answers_leave_one_outcome() {
    let simulator = SimulatorWithBank::start().await;
    let path = challenge(&simulator, "ch_race", "4000000000003220").await;
    let racing = (0..8).map(|racer| {
        let mut payer = Payer::new(&simulator.bank);
        let path = path.clone();
        async move {
            let word = if racer % 2 == 0 { "approve" } else { "cancel" };
            let page = payer.send(Method::POST, &path, Some(&[("answer", word)])).await;
            (word, page.status == StatusCode::SEE_OTHER)
        }
    });
    let answered = futures_util::future::join_all(racing).await;
    let approved = matches!(report_of(&simulator, "ch_race").await, Report::Succeeded { .. });
    for (word, taken) in answered {
        assert_eq!(taken, approved == (word == "approve"), "{word} was told otherwise than the books have it");
    }
    simulator.world.end().await;
}

#[tokio::test]
async fn a_late_or_withdrawn_question_is_not_answered() {
    let simulator = SimulatorWithBank::start().await;
    let mut payer = Payer::new(&simulator.bank);

    let withdrawn = challenge(&simulator, "ch_withdrawn", "4000000000003220").await;
    let _ = simulator.provider.void(&known("ch_withdrawn")).await;
    let page = answer(&mut payer, &withdrawn, "approve").await;
    assert_eq!(page.status, StatusCode::CONFLICT);
    page.says("Too late").says("You were not charged").says("Back to the shop");
    assert!(matches!(report_of(&simulator, "ch_withdrawn").await, Report::Reversed { .. }));

    let late = challenge(&simulator, "ch_late", "4000000000003220").await;
    let mut database = simulator.world.database().await;
    sqlx::query("update simulator.charge set challenge_expires_at = now() where charge_id = 'ch_late'")
        .execute(&mut database)
        .await
        .expect("the books are there");
    assert_eq!(payer.visit(&late).await.status, StatusCode::GONE);
    assert_eq!(answer(&mut payer, &late, "approve").await.status, StatusCode::CONFLICT);
    let report = report_of(&simulator, "ch_late").await;
    assert!(matches!(report, Report::Declined { reason: DeclineReason::AuthenticationFailed, .. }), "{report:?}");
    simulator.world.end().await;
}

#[tokio::test]
async fn wrong_addresses_and_wrong_words_decide_nothing() {
    let simulator = SimulatorWithBank::start().await;
    let mut payer = Payer::new(&simulator.bank);
    let unknown = format!("/challenge/{}", "x".repeat(32));
    let absent = payer.visit(&unknown).await;
    for path in ["/challenge/short", "/challenge/%27or%201=1--%20%20%20%20%20%20%20%20%20%20", "/", "/challenge"] {
        let page = payer.visit(path).await;
        assert_eq!((page.status, page.html), (StatusCode::NOT_FOUND, absent.html.clone()), "{path}");
    }
    let path = challenge(&simulator, "ch_open", "4000000000003220").await;
    for word in ["", "approved", "APPROVE"] {
        assert_eq!(answer(&mut payer, &path, word).await.status, StatusCode::BAD_REQUEST, "{word}");
    }
    let long = "x".repeat(1_000);
    assert_eq!(answer(&mut payer, &path, &long).await.status, StatusCode::PAYLOAD_TOO_LARGE);
    // Nobody has answered, so the way back leads to the question.
    let asked = payer.visit(&format!("{path}/return")).await;
    assert_eq!((asked.status, asked.path.as_str()), (StatusCode::OK, path.as_str()));
    assert!(matches!(report_of(&simulator, "ch_open").await, Report::RequiresAction { .. }));
    simulator.world.end().await;
}

#[tokio::test]
async fn a_result_sent_twice_reaches_the_shop_by_every_way() {
    let simulator = SimulatorWithBank::start().await;
    let heard: Arc<Mutex<Vec<(String, Report)>>> = Arc::default();
    let ear = Arc::clone(&heard);
    simulator.behaviour.on_report(Some(Arc::new(move |charge_id, report| {
        ear.lock().expect("nobody panicked").push((charge_id, report));
    })));
    let mut payer = Payer::new(&simulator.bank);
    let path = challenge(&simulator, "ch_twice", "4000008260003178").await;
    let page = answer(&mut payer, &path, "approve_twice").await;
    let policy = page.header("content-security-policy").expect("a policy");
    assert!(policy.ends_with("img-src http://127.0.0.1:9; form-action http://127.0.0.1:9"), "{policy}");
    assert!(page.html.contains("<form method=\"post\" action=\"http://127.0.0.1:9/3ds/"), "{}", page.html);
    assert!(page.html.contains("src=\"http://127.0.0.1:9/3ds/"), "{}", page.html);
    answer(&mut payer, &path, "approve_twice").await;
    let heard = heard.lock().expect("nobody panicked").clone();
    assert_eq!(heard.len(), 2, "the first answer is told twice, its repetition not at all");
    for (charge_id, report) in &heard {
        assert_eq!(charge_id, "ch_twice");
        assert!(
            matches!(report, Report::Declined { reason: DeclineReason::InsufficientFunds, .. }),
            "authenticated, and declined for want of money: {report:?}"
        );
    }
    simulator.world.end().await;
}
