//! What every provider must keep to, whoever is behind it: one suite, run here for the simulator and
//! in `stripe_conformance` for Stripe.
//!
//! A further provider implements [`Surroundings`] (a fresh card, a lost answer, a payer at his bank)
//! and calls [`suite`]. Each rule is checked on charges of its own; what a provider says that it
//! cannot do is not asked of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use checkstand::domain::decline::DeclineReason;
use checkstand::domain::money::{Currency, Money};
use checkstand::domain::payment_method::FutureUsage;
use checkstand::providers::simulator::Simulator;
use checkstand::providers::simulator_acs;
use checkstand::providers::simulator_faults::{Fault, SimulatorBehaviour, Times};
use checkstand::providers::{
    Authentication, AuthenticationFlow, AuthenticationResult, BillingDetails, Capture, CaptureReport, ChargeRef,
    ChargeRequest, DisputeLookUp, DisputeNews, DisputeRequest, DisputeStatus, Evidence, LookUp, NotRemembered,
    Provider, ReferenceKeeper, RefundRequest, Report, Reversal, Source,
};
use checkstand::vault::VaultToken;
use rand::distr::{Alphanumeric, SampleString};
use reqwest::StatusCode;

use crate::merchant::http_client;
use crate::world::{World, entered_card};

/// The amount that the suite plays with, in cents.
const AMOUNT: i64 = 2_500;

/// Calls of one kind at the same moment.
const RACERS: usize = 8;

/// The cards that a provider publishes for these outcomes, digits only.
pub struct ConformanceCards {
    pub pays: &'static str,
    pub declined: (&'static str, DeclineReason),
    /// Pays once its bank knows the payer.
    pub challenged: Option<&'static str>,
}

/// What the suite needs beside the provider.
#[async_trait]
pub trait Surroundings: Send + Sync {
    /// Puts a card into the vault that the provider takes cards from.
    fn keep(&self, number: &str) -> VaultToken;

    /// Sees to it that the next charge is made and its answer lost; `false` where that cannot be done.
    fn lose_next_answer(&self) -> bool;

    /// Is the payer at his bank.
    async fn answer_challenge(&self, redirect_url: &str, approve: bool);

    /// Disputes a charge in its payer's place, over the suite's amount; gives the provider's name for that, where
    /// it can be done.
    async fn open_dispute(&self, charge: &ChargeRef) -> Option<String>;

    /// Whether the provider says afterwards how an authentication went.
    fn tells_of_authentication(&self) -> bool {
        true
    }
}

/// Remembers the references of charges as the gateway's books do.
#[derive(Default)]
pub struct Notebook {
    references: Mutex<HashMap<String, String>>,
}

impl Notebook {
    /// Where the reference of one charge is written.
    pub fn page<'n>(&'n self, charge_id: &'n str) -> NotebookPage<'n> {
        NotebookPage { notebook: self, charge_id }
    }

    /// A charge with what is written of it.
    pub fn known(&self, charge_id: &str) -> ChargeRef {
        let reference = self.references.lock().expect("nobody panicked").get(charge_id).cloned();
        ChargeRef { charge_id: charge_id.to_owned(), reference, money: money(AMOUNT), livemode: false }
    }
}

/// The place of one charge in the notebook.
pub struct NotebookPage<'n> {
    notebook: &'n Notebook,
    charge_id: &'n str,
}

#[async_trait]
impl ReferenceKeeper for NotebookPage<'_> {
    async fn remember(&self, reference: &str) -> Result<(), NotRemembered> {
        let mut references = self.notebook.references.lock().expect("nobody panicked");
        let kept = references.entry(self.charge_id.to_owned()).or_insert_with(|| reference.to_owned());
        if kept == reference { Ok(()) } else { Err(NotRemembered::Earlier(kept.clone())) }
    }
}

/// A charge of which no reference was remembered.
pub fn known(charge_id: &str) -> ChargeRef {
    Notebook::default().known(charge_id)
}

/// A charge of the suite's amount with that card.
pub fn request(charge_id: &str, token: VaultToken) -> ChargeRequest {
    ChargeRequest {
        charge_id: charge_id.to_owned(),
        money: money(AMOUNT),
        source: Source::Card(token),
        billing: BillingDetails::default(),
        keep_for: None,
        description: Some("Beans".to_owned()),
        livemode: false,
        capture: Capture::Automatic,
        authentication: Authentication::WhenRequired,
        return_url: "http://127.0.0.1:9/3ds/abc".to_owned(),
        statement_descriptor: Some("CORNER COFFEE".to_owned()),
    }
}

/// Every rule, one after the other.
pub async fn suite(provider: &dyn Provider, around: &dyn Surroundings, cards: &ConformanceCards) {
    let bench = Bench { provider, around, cards, notebook: Notebook::default() };
    bench.the_same_id_charges_once().await;
    bench.a_decline_is_final_and_known_afterwards().await;
    bench.strangers_are_not_found().await;
    bench.a_lost_answer_is_found_by_looking_it_up().await;
    bench.a_void_gives_everything_back_and_may_be_repeated().await;
    bench.refunds_happen_once_and_never_exceed_the_charge().await;
    bench.a_card_that_it_remembers_pays_again().await;
    let can = provider.capabilities();
    if can.reference_first {
        bench.nothing_is_taken_under_a_reference_that_is_not_remembered().await;
    }
    if can.void_in_advance {
        bench.a_void_in_advance_keeps_the_charge_from_happening().await;
    }
    if can.manual_capture {
        bench.a_capture_takes_once_what_was_reserved().await;
        bench.a_capture_of_too_much_or_after_a_void_is_refused().await;
        bench.racing_captures_take_one_amount().await;
    }
    if can.disputes {
        bench.a_dispute_takes_its_money_back_and_gives_it_back_when_it_is_won().await;
        bench.a_dispute_is_answered_once_and_its_end_stays().await;
        bench.strangers_disputes_are_not_found().await;
    }
    if let (true, Some(card)) = (can.three_d_secure, cards.challenged) {
        bench.an_approved_challenge_pays(card).await;
        bench.a_failed_challenge_is_a_decline(card).await;
        bench.a_void_ends_an_open_challenge(card).await;
        if can.manual_capture {
            bench.an_approved_challenge_only_reserves_what_is_captured_by_hand(card).await;
        }
    }
}

struct Bench<'a> {
    provider: &'a dyn Provider,
    around: &'a dyn Surroundings,
    cards: &'a ConformanceCards,
    notebook: Notebook,
}

pub fn money(minor: i64) -> Money {
    Money { minor, currency: Currency::parse("eur").expect("a known currency") }
}

fn new_id(prefix: &str) -> String {
    format!("{prefix}_{}", Alphanumeric.sample_string(&mut rand::rng(), 24))
}

fn reference(report: &Report) -> &str {
    match report {
        Report::Succeeded { reference, .. } | Report::Authorized { reference, .. } => reference,
        other => panic!("no money was granted: {other:?}"),
    }
}

impl Bench<'_> {
    fn request(&self, charge_id: &str, number: &str) -> ChargeRequest {
        request(charge_id, self.around.keep(number))
    }

    async fn charge(&self, request: ChargeRequest) -> Report {
        let charge_id = request.charge_id.clone();
        self.provider.charge(request, &self.notebook.page(&charge_id)).await
    }

    async fn look_up(&self, charge_id: &str) -> LookUp {
        self.provider.look_up(&self.notebook.known(charge_id)).await
    }

    async fn capture(&self, charge_id: &str, money: Money) -> CaptureReport {
        self.provider.capture(&self.notebook.known(charge_id), money).await
    }

    async fn void(&self, charge_id: &str) -> Reversal {
        self.provider.void(&self.notebook.known(charge_id)).await
    }

    async fn paid(&self) -> String {
        let id = new_id("ch");
        let report = self.charge(self.request(&id, self.cards.pays)).await;
        assert!(matches!(report, Report::Succeeded { .. }), "{report:?}");
        id
    }

    async fn authorized(&self) -> String {
        let id = new_id("ch");
        let request = ChargeRequest { capture: Capture::Manual, ..self.request(&id, self.cards.pays) };
        let report = self.charge(request).await;
        assert!(matches!(report, Report::Authorized { .. }), "{report:?}");
        id
    }

    async fn found(&self, id: &str) -> Report {
        match self.look_up(id).await {
            LookUp::Found(report) => report,
            other => panic!("{id} should be known: {other:?}"),
        }
    }

    async fn refund(&self, refund_id: &str, charge_id: &str, minor: i64) -> Reversal {
        let (refund_id, charge) = (refund_id.to_owned(), self.notebook.known(charge_id));
        self.provider.refund(RefundRequest { refund_id, charge, money: money(minor) }).await
    }

    async fn the_same_id_charges_once(&self) {
        let id = new_id("ch");
        let racing = (0..RACERS).map(|_| self.charge(self.request(&id, self.cards.pays)));
        let reports = futures_util::future::join_all(racing).await;
        let again = self.charge(self.request(&id, self.cards.pays)).await;
        assert!(matches!(again, Report::Succeeded { .. }), "{again:?}");
        assert!(reports.iter().all(|report| *report == again), "one id, several charges: {reports:?} {again:?}");
        assert_eq!(self.found(&id).await, again);
        // One charge, so one amount to give back.
        assert!(matches!(self.refund(&new_id("re"), &id, AMOUNT).await, Reversal::Done { .. }));
        assert_eq!(self.refund(&new_id("re"), &id, 1).await, Reversal::NothingToReverse);
    }

    async fn a_decline_is_final_and_known_afterwards(&self) {
        let id = new_id("ch");
        let (card, expected) = self.cards.declined;
        let report = self.charge(self.request(&id, card)).await;
        assert!(matches!(report, Report::Declined { reason, .. } if reason == expected), "{report:?}");
        assert_eq!(self.found(&id).await, report);
        let again = self.charge(self.request(&id, self.cards.pays)).await;
        assert_eq!(again, report, "a declined id was charged with another card");
        assert_eq!(self.refund(&new_id("re"), &id, 1).await, Reversal::NothingToReverse);
    }

    async fn strangers_are_not_found(&self) {
        let id = new_id("ch");
        assert_eq!(self.look_up(&id).await, LookUp::NotFound);
        assert_eq!(self.refund(&new_id("re"), &id, 1).await, Reversal::NothingToReverse);
        assert_eq!(self.look_up(&id).await, LookUp::NotFound, "a refund made a charge");
    }

    async fn a_lost_answer_is_found_by_looking_it_up(&self) {
        if !self.around.lose_next_answer() {
            return;
        }
        let id = new_id("ch");
        let report = self.charge(self.request(&id, self.cards.pays)).await;
        assert!(matches!(report, Report::Unknown { .. }), "a lost answer is neither yes nor no: {report:?}");
        let found = self.found(&id).await;
        assert!(matches!(found, Report::Succeeded { .. }), "{found:?}");
        let again = self.charge(self.request(&id, self.cards.pays)).await;
        assert_eq!(reference(&again), reference(&found), "charged twice");
    }

    async fn a_void_gives_everything_back_and_may_be_repeated(&self) {
        let id = self.paid().await;
        for _ in 0..2 {
            let voided = self.void(&id).await;
            assert!(matches!(voided, Reversal::Done { .. }), "{voided:?}");
        }
        assert!(matches!(self.found(&id).await, Report::Reversed { .. }));
        assert_eq!(self.refund(&new_id("re"), &id, 1).await, Reversal::NothingToReverse);
    }

    /// A paid charge that its payer disputes, where that can be done.
    async fn disputed(&self) -> Option<(ChargeRef, String)> {
        let charge = self.notebook.known(&self.paid().await);
        let dispute = self.around.open_dispute(&charge).await?;
        Some((charge, dispute))
    }

    async fn dispute(&self, charge: &ChargeRef, dispute: &str) -> DisputeNews {
        match self.provider.look_up_dispute(charge, dispute).await {
            DisputeLookUp::Found(news) => news,
            other => panic!("{dispute} should be known: {other:?}"),
        }
    }

    fn evidence(text: &str) -> Evidence {
        [("uncategorized_text".to_owned(), text.to_owned())].into()
    }

    async fn a_dispute_takes_its_money_back_and_gives_it_back_when_it_is_won(&self) {
        let Some((charge, id)) = self.disputed().await else { return };
        let news = self.dispute(&charge, &id).await;
        assert_eq!((news.money, news.status), (money(AMOUNT), Some(DisputeStatus::NeedsResponse)));
        assert_eq!((news.withdrawn, news.reinstated), (AMOUNT, 0));
        assert!(checkstand::domain::dispute::REASONS.contains(&news.reason.as_str()), "{news:?}");
        assert_eq!(self.dispute(&charge, &id).await, news, "told again");
        let DisputeLookUp::Found(won) =
            self.provider.submit_evidence(&charge, &id, &Self::evidence("winning_evidence")).await
        else {
            panic!("the evidence was not taken");
        };
        assert_eq!((won.status, won.reinstated, won.submissions), (Some(DisputeStatus::Won), AMOUNT, Some(1)));
        assert_eq!(self.dispute(&charge, &id).await, won);
    }

    async fn a_dispute_is_answered_once_and_its_end_stays(&self) {
        let Some((charge, id)) = self.disputed().await else { return };
        let racing = (0..RACERS).map(|_| self.provider.close_dispute(&charge, &id));
        for answer in futures_util::future::join_all(racing).await {
            let DisputeLookUp::Found(lost) = answer else { panic!("{answer:?}") };
            assert_eq!((lost.status, lost.reinstated), (Some(DisputeStatus::Lost), 0));
        }
        let DisputeLookUp::Found(late) =
            self.provider.submit_evidence(&charge, &id, &Self::evidence("winning_evidence")).await
        else {
            panic!("an answer that comes too late is told how it stands");
        };
        assert_eq!((late.status, late.reinstated, late.submissions), (Some(DisputeStatus::Lost), 0, Some(0)));
    }

    async fn strangers_disputes_are_not_found(&self) {
        let charge = self.notebook.known(&self.paid().await);
        assert_eq!(self.provider.look_up_dispute(&charge, "dp_nobody").await, DisputeLookUp::NotFound);
        assert_eq!(self.provider.close_dispute(&charge, "dp_nobody").await, DisputeLookUp::NotFound);
        let Some((_, another)) = self.disputed().await else { return };
        let crossed = self.provider.look_up_dispute(&charge, &another).await;
        assert!(!matches!(crossed, DisputeLookUp::Found(_)), "another charge's dispute: {crossed:?}");
    }

    async fn a_card_that_it_remembers_pays_again(&self) {
        let id = new_id("ch");
        let asked = ChargeRequest { keep_for: Some(FutureUsage::OffSession), ..self.request(&id, self.cards.pays) };
        let report = self.charge(asked).await;
        let Report::Succeeded { facts, .. } = &report else { panic!("not charged: {report:?}") };
        assert_eq!(self.found(&id).await, report, "the reference is told again");
        // What a provider does not remember, it cannot be asked for.
        let Some(reference) = facts.reusable_reference.clone() else { return };
        for _ in 0..2 {
            let id = new_id("ch");
            let source = Source::Saved { reference: reference.clone() };
            let again = self.charge(ChargeRequest { source, ..self.request(&id, self.cards.pays) }).await;
            assert!(matches!(again, Report::Succeeded { .. }), "a remembered card: {again:?}");
            assert!(matches!(self.refund(&new_id("re"), &id, AMOUNT).await, Reversal::Done { .. }));
        }
        let unknown = Source::Saved { reference: new_id("nobody") };
        let id = new_id("ch");
        let refused = self.charge(ChargeRequest { source: unknown, ..self.request(&id, self.cards.pays) }).await;
        assert!(matches!(refused, Report::Declined { .. }), "a card that nobody remembers: {refused:?}");
        let plain = new_id("ch");
        let report = self.charge(self.request(&plain, self.cards.pays)).await;
        let Report::Succeeded { facts, .. } = &report else { panic!("not charged: {report:?}") };
        assert_eq!(facts.reusable_reference, None, "remembered though nobody asked for it");
    }

    async fn a_void_in_advance_keeps_the_charge_from_happening(&self) {
        let id = new_id("ch");
        assert_eq!(self.void(&id).await, Reversal::NothingToReverse);
        let report = self.charge(self.request(&id, self.cards.pays)).await;
        assert!(matches!(report, Report::Reversed { .. }), "charged after its void: {report:?}");
        assert_eq!(self.void(&id).await, Reversal::NothingToReverse);
    }

    async fn refunds_happen_once_and_never_exceed_the_charge(&self) {
        let id = self.paid().await;
        let first = new_id("re");
        let done = self.refund(&first, &id, 1_000).await;
        assert!(matches!(done, Reversal::Done { .. }), "{done:?}");
        assert_eq!(self.refund(&first, &id, 1_000).await, done, "the same refund again");
        assert_eq!(self.refund(&new_id("re"), &id, AMOUNT - 999).await, Reversal::NothingToReverse);
        // Fifteen hundred are left: three of these fit, whoever comes first.
        let ids: Vec<String> = (0..RACERS).map(|_| new_id("re")).collect();
        let racing = ids.iter().map(|refund_id| self.refund(refund_id, &id, 500));
        let reversals = futures_util::future::join_all(racing).await;
        let made = reversals.iter().filter(|reversal| matches!(reversal, Reversal::Done { .. })).count();
        assert_eq!(made, 3, "{reversals:?}");
        assert!(matches!(self.found(&id).await, Report::Reversed { .. }), "wholly refunded");
    }

    async fn nothing_is_taken_under_a_reference_that_is_not_remembered(&self) {
        struct Closed;
        #[async_trait]
        impl ReferenceKeeper for Closed {
            async fn remember(&self, _: &str) -> Result<(), NotRemembered> {
                Err(NotRemembered::Closed)
            }
        }
        let report = self.provider.charge(self.request(&new_id("ch"), self.cards.pays), &Closed).await;
        assert!(matches!(report, Report::Declined { .. }), "{report:?}");
    }

    async fn a_capture_takes_once_what_was_reserved(&self) {
        let id = self.authorized().await;
        assert_eq!(self.refund(&new_id("re"), &id, 1).await, Reversal::NothingToReverse, "nothing is captured yet");
        let captured = self.capture(&id, money(1_500)).await;
        assert!(matches!(captured, CaptureReport::Captured { .. }), "{captured:?}");
        assert_eq!(self.capture(&id, money(1_500)).await, captured, "the same capture again");
        let more = self.capture(&id, money(AMOUNT)).await;
        assert!(matches!(more, CaptureReport::TakenOtherwise { amount: 1_500, .. }), "a second amount: {more:?}");
        assert!(matches!(self.found(&id).await, Report::Succeeded { .. }));
        assert_eq!(self.refund(&new_id("re"), &id, 1_501).await, Reversal::NothingToReverse, "more than captured");
        assert!(matches!(self.refund(&new_id("re"), &id, 1_500).await, Reversal::Done { .. }));
        assert_eq!(self.capture(&id, money(1_500)).await, captured, "the same capture after its refund");
    }

    async fn a_capture_of_too_much_or_after_a_void_is_refused(&self) {
        let id = self.authorized().await;
        for minor in [AMOUNT + 1, 0, -1] {
            let refused = self.capture(&id, money(minor)).await;
            assert!(matches!(refused, CaptureReport::Refused { .. }), "{minor}: {refused:?}");
        }
        assert!(matches!(self.found(&id).await, Report::Authorized { .. }));
        assert!(matches!(self.void(&id).await, Reversal::Done { .. }), "a reservation can be voided");
        let refused = self.capture(&id, money(AMOUNT)).await;
        assert!(matches!(refused, CaptureReport::Refused { .. }), "captured after the void: {refused:?}");
        assert!(matches!(self.found(&id).await, Report::Reversed { .. }));
        let stranger = self.capture(&new_id("ch"), money(AMOUNT)).await;
        assert!(matches!(stranger, CaptureReport::Refused { .. }), "{stranger:?}");
    }

    async fn racing_captures_take_one_amount(&self) {
        let id = self.authorized().await;
        let amounts = (1..).map(|step| step * 100).take(RACERS);
        let racing = amounts.map(|minor| self.capture(&id, money(minor)));
        let reports = futures_util::future::join_all(racing).await;
        let captured = reports.iter().filter(|report| matches!(report, CaptureReport::Captured { .. })).count();
        assert_eq!(captured, 1, "{reports:?}");
    }

    /// A charge whose payer is asked, and where.
    async fn challenged(&self, card: &str, capture: Capture) -> (String, String) {
        let id = new_id("ch");
        let report = self.charge(ChargeRequest { capture, ..self.request(&id, card) }).await;
        let Report::RequiresAction { redirect_url, .. } = &report else {
            panic!("the payer should be asked: {report:?}");
        };
        assert_eq!(self.found(&id).await, report, "the same question, as long as it is open");
        (id, redirect_url.clone())
    }

    async fn an_approved_challenge_pays(&self, card: &str) {
        let (id, url) = self.challenged(card, Capture::Automatic).await;
        self.around.answer_challenge(&url, true).await;
        let report = self.found(&id).await;
        let Report::Succeeded { facts, .. } = &report else {
            panic!("approved, yet not charged: {report:?}");
        };
        if self.around.tells_of_authentication() {
            let ended = facts.three_d_secure.as_ref().expect("an authentication took place");
            assert_eq!(ended.flow, Some(AuthenticationFlow::Challenge));
            assert_eq!(ended.result, AuthenticationResult::Authenticated);
        }
        assert!(matches!(self.refund(&new_id("re"), &id, AMOUNT).await, Reversal::Done { .. }));
    }

    async fn an_approved_challenge_only_reserves_what_is_captured_by_hand(&self, card: &str) {
        let (id, url) = self.challenged(card, Capture::Manual).await;
        let early = self.capture(&id, money(AMOUNT)).await;
        assert!(matches!(early, CaptureReport::Refused { .. }), "captured before the payer answered: {early:?}");
        self.around.answer_challenge(&url, true).await;
        assert!(matches!(self.found(&id).await, Report::Authorized { .. }));
        let captured = self.capture(&id, money(AMOUNT)).await;
        assert!(matches!(captured, CaptureReport::Captured { .. }), "{captured:?}");
    }

    async fn a_failed_challenge_is_a_decline(&self, card: &str) {
        let (id, url) = self.challenged(card, Capture::Automatic).await;
        self.around.answer_challenge(&url, false).await;
        let report = self.found(&id).await;
        assert!(
            matches!(report, Report::Declined { reason: DeclineReason::AuthenticationFailed, .. }),
            "refused by the payer: {report:?}"
        );
        assert_eq!(self.refund(&new_id("re"), &id, 1).await, Reversal::NothingToReverse);
    }

    async fn a_void_ends_an_open_challenge(&self, card: &str) {
        let (id, url) = self.challenged(card, Capture::Automatic).await;
        assert_eq!(self.void(&id).await, Reversal::NothingToReverse, "nothing was taken yet");
        self.around.answer_challenge(&url, true).await;
        let report = self.found(&id).await;
        assert!(matches!(report, Report::Reversed { .. }), "charged after its void: {report:?}");
    }
}

/// The simulator with its bank's pages on an origin of their own.
pub struct SimulatorWithBank {
    pub world: World,
    pub provider: Arc<Simulator>,
    pub behaviour: SimulatorBehaviour,
    pub bank: String,
}

impl SimulatorWithBank {
    pub async fn start() -> Self {
        let world = World::start().await;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let bank = format!("http://{}", listener.local_addr().expect("an address"));
        let behaviour = SimulatorBehaviour::default();
        let app = world.app();
        let (pool, vault) = (app.store.pool().clone(), Arc::clone(&app.vault));
        let provider = Arc::new(Simulator::new(pool, vault, behaviour.clone(), Some(bank.clone())));
        let router = simulator_acs::router(Arc::clone(&provider));
        tokio::spawn(async move { axum::serve(listener, router).await.expect("the bank serves") });
        Self { world, provider, behaviour, bank }
    }
}

#[async_trait]
impl Surroundings for SimulatorWithBank {
    fn keep(&self, number: &str) -> VaultToken {
        self.world.app().vault.keep(entered_card(number)).token
    }

    fn lose_next_answer(&self) -> bool {
        self.behaviour.set(Fault::FailAfter, Times::Next(1));
        true
    }

    async fn open_dispute(&self, charge: &ChargeRef) -> Option<String> {
        let key = charge.charge_id.clone();
        let request = DisputeRequest { charge: charge.clone(), key, amount: None, reason: "fraudulent".to_owned() };
        self.provider.open_dispute(request).await
    }

    async fn answer_challenge(&self, redirect_url: &str, approve: bool) {
        let body = if approve { "answer=approve" } else { "answer=fail" };
        let response = http_client().post(redirect_url).body(body).send().await.expect("the bank answers");
        let status = response.status();
        assert!(matches!(status, StatusCode::SEE_OTHER | StatusCode::CONFLICT), "{status}");
    }
}

#[tokio::test]
async fn the_simulator_keeps_to_what_every_provider_must() {
    let simulator = SimulatorWithBank::start().await;
    let cards = ConformanceCards {
        pays: "4242424242424242",
        declined: ("4000000000009995", DeclineReason::InsufficientFunds),
        challenged: Some("4000000000003220"),
    };
    suite(&*simulator.provider, &simulator, &cards).await;
    simulator.world.end().await;
}
