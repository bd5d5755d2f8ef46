//! The Stripe connector against localstripe: what every provider must keep to, and what answers that
//! are lost, late, wrong or not about us may make of it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use checkstand::domain::decline::DeclineReason;
use checkstand::providers::stripe::{REQUEST_TIMEOUT, Stripe, StripeSettings};
use checkstand::providers::{
    Capture, CaptureReport, ChargeRef, ChargeRequest, LookUp, NotRemembered, Provider as _, ReferenceKeeper,
    RefundRequest, Report, Reversal,
};
use checkstand::vault::{Vault, VaultToken};
use reqwest::Method;
use zeroize::Zeroizing;

use crate::fault_proxy::{Fault, FaultProxy, answer_bank};
use crate::localstripe::{DECLINED_NUMBER, KEY, LocalStripe, REFUSED};
use crate::provider_conformance::{ConformanceCards, Notebook, Surroundings, money, suite};
use crate::stripe_disputes::Disputes;
use crate::world::entered_card;

const PAYS: &str = "4242424242424242";
const ASKED: &str = "4000002500003155";

/// The connector behind a proxy before localstripe.
pub struct Rig {
    pub localstripe: LocalStripe,
    pub proxy: FaultProxy,
    pub disputes: Disputes,
    pub provider: Stripe,
    vault: Arc<Vault>,
    notebook: Notebook,
}

impl Rig {
    pub async fn start() -> Self {
        Self::with_timeout(REQUEST_TIMEOUT).await
    }

    pub async fn with_timeout(request_timeout: Duration) -> Self {
        let localstripe = LocalStripe::start().await;
        let proxy = FaultProxy::start(&localstripe.base, &REFUSED).await;
        let disputes = Disputes::behind(&proxy);
        let vault = Arc::new(Vault::new(Zeroizing::new([7; 32])));
        let settings = StripeSettings {
            live_key: None,
            test_key: Some(KEY.to_owned().into()),
            api_base: proxy.base.clone(),
            callback_secrets: Vec::new(),
            omitted: Vec::new(),
            request_timeout,
            // localstripe lets everybody read them.
            read_fees: true,
        };
        let provider = Stripe::new(settings, Arc::clone(&vault), || 0).expect("a connector");
        Self { localstripe, proxy, disputes, provider, vault, notebook: Notebook::default() }
    }

    pub fn request(&self, charge_id: &str, number: &str) -> ChargeRequest {
        crate::provider_conformance::request(charge_id, self.keep(number))
    }

    pub async fn charge(&self, charge_id: &str, number: &str) -> Report {
        self.provider.charge(self.request(charge_id, number), &self.notebook.page(charge_id)).await
    }

    pub async fn reserve(&self, charge_id: &str) -> Report {
        let request = ChargeRequest { capture: Capture::Manual, ..self.request(charge_id, PAYS) };
        self.provider.charge(request, &self.notebook.page(charge_id)).await
    }

    pub fn known(&self, charge_id: &str) -> ChargeRef {
        self.notebook.known(charge_id)
    }

    pub async fn look_up(&self, charge_id: &str) -> LookUp {
        self.provider.look_up(&self.known(charge_id)).await
    }

    pub async fn refund(&self, refund_id: &str, charge_id: &str, minor: i64) -> Reversal {
        let (refund_id, charge) = (refund_id.to_owned(), self.known(charge_id));
        self.provider.refund(RefundRequest { refund_id, charge, money: money(minor) }).await
    }
}

#[async_trait]
impl Surroundings for Rig {
    fn keep(&self, number: &str) -> VaultToken {
        self.vault.keep(entered_card(number)).token
    }

    fn lose_next_answer(&self) -> bool {
        self.proxy.strike(Method::POST, "/confirm", Fault::CutAfter, 1);
        true
    }

    async fn answer_challenge(&self, redirect_url: &str, approve: bool) {
        let status = answer_bank(redirect_url, approve).await;
        assert!(matches!(status, 200 | 400), "{status}");
    }

    fn tells_of_authentication(&self) -> bool {
        false
    }

    async fn open_dispute(&self, charge: &ChargeRef) -> Option<String> {
        let intent = charge.reference.as_deref().expect("it was charged");
        Some(self.disputes.open(intent, charge.money.minor))
    }
}

#[tokio::test]
async fn stripe_keeps_to_what_every_provider_must() {
    let rig = Rig::start().await;
    let cards = ConformanceCards {
        pays: PAYS,
        declined: (DECLINED_NUMBER, DeclineReason::GenericDecline),
        challenged: Some(ASKED),
    };
    suite(&rig.provider, &rig, &cards).await;
    rig.localstripe.assert_one_charge_each().await;
}

#[tokio::test]
async fn a_confirmation_that_never_arrived_takes_nothing_and_never_will() {
    let rig = Rig::start().await;
    rig.proxy.strike(Method::POST, "/confirm", Fault::CutBefore, 1);
    let report = rig.charge("ch_cut", PAYS).await;
    assert!(matches!(report, Report::Unknown { .. }), "{report:?}");
    assert_eq!(rig.look_up("ch_cut").await, LookUp::NotFound, "it may still be on its way");
    assert_eq!(rig.provider.void(&rig.known("ch_cut")).await, Reversal::NothingToReverse);
    assert!(matches!(rig.look_up("ch_cut").await, LookUp::Found(Report::Reversed { .. })));
    // The confirmation that was on its way arrives now.
    let id = rig.known("ch_cut").reference.expect("remembered");
    let late = rig.localstripe.ask(Method::POST, &format!("/v1/payment_intents/{id}/confirm"), &[]).await;
    assert_eq!(late.0, 400, "{late:?}");
    assert_eq!((rig.localstripe.money().await, rig.proxy.count(&Method::POST, "/confirm")), (0, 1));
}

#[tokio::test]
async fn a_slow_answer_is_a_doubt_and_its_money_is_found() {
    let rig = Rig::with_timeout(Duration::from_millis(400)).await;
    rig.proxy.strike(Method::POST, "/confirm", Fault::HoldAfter, 1);
    let report = rig.charge("ch_slow", PAYS).await;
    assert!(matches!(&report, Report::Unknown { detail } if detail.contains("in time")), "{report:?}");
    assert!(matches!(rig.look_up("ch_slow").await, LookUp::Found(Report::Succeeded { .. })));
    rig.proxy.release();
    assert_eq!(rig.proxy.count(&Method::POST, "/confirm"), 1, "a confirmation is sent once");
    rig.localstripe.assert_one_charge_each().await;
}

#[tokio::test]
async fn whatever_fails_before_the_confirmation_is_certain() {
    let rig = Rig::start().await;
    let faults = [
        ("/v1/payment_methods", Fault::CutBefore),
        ("/v1/payment_methods", Fault::CutAfter),
        ("/v1/payment_intents", Fault::CutBefore),
        ("/v1/payment_intents", Fault::CutAfter),
        ("/v1/payment_intents", Fault::AnswerAfter(500, "{}")),
        ("/v1/payment_intents", Fault::AnswerAfter(200, "<html>")),
        (
            "/v1/payment_intents",
            Fault::Instead(429, r#"{"error":{"type":"invalid_request_error","code":"rate_limit"}}"#),
        ),
        ("/v1/payment_intents", Fault::Instead(401, r#"{"error":{"type":"invalid_request_error"}}"#)),
    ];
    for (number, (path, fault)) in faults.into_iter().enumerate() {
        let id = format!("ch_before_{number}");
        rig.proxy.strike(Method::POST, path, fault, 1);
        let report = rig.charge(&id, PAYS).await;
        assert!(
            matches!(report, Report::Declined { reason: DeclineReason::ProcessingError, .. }),
            "{path} {fault:?}: {report:?}"
        );
        assert_eq!(rig.look_up(&id).await, LookUp::NotFound);
    }
    let card = r#"{"error":{"type":"card_error","code":"incorrect_number"}}"#;
    rig.proxy.strike(Method::POST, "/v1/payment_methods", Fault::Instead(402, card), 1);
    let report = rig.charge("ch_number", PAYS).await;
    assert!(matches!(report, Report::Declined { reason: DeclineReason::IncorrectNumber, .. }), "{report:?}");
    assert_eq!((rig.proxy.count(&Method::POST, "/confirm"), rig.localstripe.money().await), (0, 0));
}

#[tokio::test]
async fn answers_to_the_confirmation_that_prove_nothing_are_doubts() {
    let rig = Rig::start().await;
    let refused = r#"{"error":{"type":"card_error","code":"card_declined"}}"#;
    for (number, fault) in [
        Fault::AnswerAfter(500, refused),
        Fault::AnswerAfter(503, "overloaded"),
        Fault::AnswerAfter(200, "{\"id\":"),
        Fault::AnswerAfter(200, "{\"object\":\"payment_intent\",\"status\":\"canceled\"}"),
        Fault::AnswerAfter(409, r#"{"error":{"type":"idempotency_error"}}"#),
        Fault::AnswerAfter(403, "<html>a proxy that nobody knew of</html>"),
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("ch_doubt_{number}");
        rig.proxy.strike(Method::POST, "/confirm", fault, 1);
        let report = rig.charge(&id, PAYS).await;
        assert!(matches!(report, Report::Unknown { .. }), "{fault:?}: {report:?}");
        assert!(matches!(rig.look_up(&id).await, LookUp::Found(Report::Succeeded { .. })), "{fault:?}");
    }
    // A refusal in Stripe's own form, although the money was taken: the intent is read, not believed.
    rig.proxy.strike(Method::POST, "/confirm", Fault::AnswerAfter(402, refused), 1);
    assert!(matches!(rig.charge("ch_liar", PAYS).await, Report::Succeeded { .. }));
    rig.localstripe.assert_one_charge_each().await;
}

#[tokio::test]
async fn a_confirmation_refused_for_another_reason_is_cancelled_and_then_certain() {
    let rig = Rig::start().await;
    let cases = [
        (429, r#"{"error":{"type":"invalid_request_error","code":"lock_timeout"}}"#, DeclineReason::ProcessingError),
        (400, r#"{"error":{"type":"invalid_request_error","param":"return_url"}}"#, DeclineReason::ProcessingError),
        (
            402,
            r#"{"error":{"type":"card_error","code":"card_declined","decline_code":"lost_card"}}"#,
            DeclineReason::LostCard,
        ),
    ];
    for (number, (status, body, expected)) in cases.into_iter().enumerate() {
        let id = format!("ch_refused_{number}");
        rig.proxy.strike(Method::POST, "/confirm", Fault::Instead(status, body), 1);
        let report = rig.charge(&id, PAYS).await;
        assert!(matches!(report, Report::Declined { reason, .. } if reason == expected), "{status}: {report:?}");
    }
    assert_eq!(rig.localstripe.statuses().await, ["canceled"; 3]);
    // Where the cancellation is not certain, the outcome is not.
    rig.proxy.strike(Method::POST, "/confirm", Fault::Instead(400, cases[1].1), 1);
    rig.proxy.strike(Method::POST, "/cancel", Fault::CutBefore, 1);
    let report = rig.charge("ch_uncertain", PAYS).await;
    assert!(matches!(report, Report::Unknown { .. }), "{report:?}");
}

/// Writes nothing down.
struct NoKeeper(NotRemembered);

#[async_trait]
impl ReferenceKeeper for NoKeeper {
    async fn remember(&self, _: &str) -> Result<(), NotRemembered> {
        Err(self.0.clone())
    }
}

#[tokio::test]
async fn a_reference_that_is_not_remembered_is_never_confirmed() {
    let rig = Rig::start().await;
    for why in [NotRemembered::Closed, NotRemembered::Failed("the disk is full".to_owned())] {
        let report = rig.provider.charge(rig.request("ch_forgotten", PAYS), &NoKeeper(why)).await;
        assert!(matches!(report, Report::Declined { reason: DeclineReason::ProcessingError, .. }), "{report:?}");
    }
    assert_eq!((rig.proxy.count(&Method::POST, "/confirm"), rig.localstripe.money().await), (0, 0));
}

#[tokio::test]
async fn another_charges_intent_is_never_taken_for_this_one() {
    let rig = Rig::start().await;
    let paid = rig.charge("ch_other", PAYS).await;
    assert!(matches!(paid, Report::Succeeded { .. }));
    let known = rig.known("ch_other");
    let strangers = [
        ChargeRef { charge_id: "ch_mine".to_owned(), ..known.clone() },
        ChargeRef { money: money(2_501), ..known.clone() },
        ChargeRef { reference: Some("pi_nothing".to_owned()), ..known.clone() },
        ChargeRef { reference: Some("sim_reference".to_owned()), ..known.clone() },
        ChargeRef { livemode: true, ..known.clone() },
    ];
    for stranger in &strangers {
        assert_eq!(rig.provider.look_up(stranger).await, LookUp::Unknown, "{stranger:?}");
        assert!(matches!(rig.provider.void(stranger).await, Reversal::Unknown { .. }), "{stranger:?}");
        assert!(matches!(rig.provider.capture(stranger, money(1)).await, CaptureReport::Unknown { .. }));
        let refund = RefundRequest { refund_id: "re_x".to_owned(), charge: stranger.clone(), money: money(1) };
        assert!(matches!(rig.provider.refund(refund).await, Reversal::Unknown { .. }), "{stranger:?}");
    }
    assert_eq!(rig.localstripe.money().await, 2_500, "nobody gave anything back");
}

#[tokio::test]
async fn what_was_cancelled_holds_no_money_whatever_its_capture_says() {
    let rig = Rig::start().await;
    assert!(matches!(rig.reserve("ch_gone").await, Report::Authorized { .. }));
    let id = rig.known("ch_gone").reference.expect("remembered");
    // As when a reservation expires, or is let go in the provider's own overview.
    rig.localstripe.ask(Method::POST, &format!("/v1/payment_intents/{id}/cancel"), &[]).await;
    let refused = rig.provider.capture(&rig.known("ch_gone"), money(2_500)).await;
    assert!(matches!(refused, CaptureReport::Refused { .. }), "{refused:?}");
    assert_eq!(rig.proxy.count(&Method::POST, "/capture"), 0, "localstripe would have said yes");
    // And were it sent all the same: this server answers 200, and the status says what happened.
    let (status, captured) = rig.localstripe.ask(Method::POST, &format!("/v1/payment_intents/{id}/capture"), &[]).await;
    assert_eq!((status, &captured["status"]), (200, &"canceled".into()));
    assert!(matches!(rig.look_up("ch_gone").await, LookUp::Found(Report::Reversed { .. })));
}

#[tokio::test]
async fn lost_answers_to_captures_refunds_and_voids_are_made_good_by_repeating() {
    let rig = Rig::start().await;
    for (number, fault) in [Fault::CutBefore, Fault::CutAfter].into_iter().enumerate() {
        let id = format!("ch_repeat_{number}");
        assert!(matches!(rig.reserve(&id).await, Report::Authorized { .. }));
        rig.proxy.strike(Method::POST, "/capture", fault, 1);
        let lost = rig.provider.capture(&rig.known(&id), money(2_000)).await;
        assert!(matches!(lost, CaptureReport::Unknown { .. }), "{fault:?}: {lost:?}");
        let captured = rig.provider.capture(&rig.known(&id), money(2_000)).await;
        assert!(matches!(captured, CaptureReport::Captured { .. }), "{fault:?}: {captured:?}");

        let refund_id = format!("re_repeat_{number}");
        rig.proxy.strike(Method::POST, "/refunds", fault, 1);
        let lost = rig.refund(&refund_id, &id, 700).await;
        assert!(matches!(lost, Reversal::Unknown { .. }), "{fault:?}: {lost:?}");
        let done = rig.refund(&refund_id, &id, 700).await;
        assert!(matches!(done, Reversal::Done { .. }), "{fault:?}: {done:?}");
        assert_eq!(rig.refund(&refund_id, &id, 700).await, done);
        assert_eq!(rig.refund("re_more", &id, 1_301).await, Reversal::NothingToReverse, "it would be accepted there");

        rig.proxy.strike(Method::POST, "/refunds", fault, 1);
        let lost = rig.provider.void(&rig.known(&id)).await;
        assert!(matches!(lost, Reversal::Unknown { .. }), "{fault:?}: {lost:?}");
        let voided = rig.provider.void(&rig.known(&id)).await;
        assert!(matches!(voided, Reversal::Done { .. }), "{fault:?}: {voided:?}");
        assert_eq!(rig.localstripe.money().await, 0, "{fault:?}");
    }
    assert_eq!(rig.localstripe.refunds().await.len(), 4);
    rig.localstripe.assert_one_charge_each().await;
}

#[tokio::test]
async fn a_bank_that_can_only_be_asked_by_script_declines_and_leaves_nothing_open() {
    let localstripe = LocalStripe::start().await;
    let vault = Arc::new(Vault::new(Zeroizing::new([7; 32])));
    let settings = StripeSettings {
        live_key: None,
        test_key: Some(KEY.to_owned().into()),
        api_base: localstripe.base.clone(),
        callback_secrets: Vec::new(),
        omitted: REFUSED.map(str::to_owned).to_vec(),
        request_timeout: REQUEST_TIMEOUT,
        read_fees: false,
    };
    let provider = Stripe::new(settings, Arc::clone(&vault), || 0).expect("a connector");
    let notebook = Notebook::default();
    let token = vault.keep(entered_card(ASKED)).token;
    let request = crate::provider_conformance::request("ch_script", token);
    let report = provider.charge(request, &notebook.page("ch_script")).await;
    assert!(matches!(report, Report::Declined { reason: DeclineReason::AuthenticationRequired, .. }), "{report:?}");
    assert_eq!(localstripe.intent().await["status"], "canceled");
}
