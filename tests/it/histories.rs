//! Random histories of one session on the real service, beside a model of twenty lines a verb: after
//! each step the API says what the model says, and at the end the books are right, the simulator's
//! among them. What fails is shrunk to its shortest form and printed.
//!
//! No worker runs: time moves and the sweeps run where the history says so. `HISTORIES` in the
//! environment makes more of them.

use std::collections::BTreeSet;
use std::sync::Arc;

use checkstand::ops::{doubts, sweep};
use checkstand::providers::simulator_faults::{Fault, Times};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use reqwest::Method;
use serde_json::{Value, json};

use crate::history_model::{Model, TOTAL};
use crate::merchant::Merchant;
use crate::payer::{Card, Payer};
use crate::world::World;

/// Histories of one run of the suite.
const HISTORIES: u32 = 40;

const MANUAL: (&str, &str) = ("payment_intent_data[capture_method]", "manual");

/// What a card leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bank {
    Grants,
    Declines,
    AsksAndGrants,
    AsksAndDeclines,
}

impl Bank {
    fn card(self) -> Card {
        let number = match self {
            Self::Grants => "4242 4242 4242 4242",
            Self::Declines => "4000 0000 0000 0002",
            Self::AsksAndGrants => "4000 0000 0000 3220",
            Self::AsksAndDeclines => "4000 0084 0000 1629",
        };
        Card { number, expiry: "12 / 49", cvc: "123" }
    }
}

/// One thing that somebody does, or that happens.
#[derive(Debug, Clone, Copy)]
pub enum Step {
    /// The payer sends the form.
    Pay(Bank),
    /// The payer answers his bank, and comes back or closes the tab.
    Answer { approves: bool, comes_back: bool },
    /// The payer gives up.
    Cancel,
    /// The merchant ends the session.
    Expire,
    /// The merchant takes reserved money.
    Capture(Option<i64>),
    /// The merchant lets reserved money go.
    Void,
    /// The merchant gives money back.
    Refund(Option<i64>),
    /// The payer goes to his bank.
    Dispute(Option<i64>),
    /// The bank decides about that.
    Decide { for_merchant: bool },
    /// Some seconds pass and the sweeps run.
    Pass(i64),
    /// The next call that it concerns goes wrong.
    Strike(Fault),
}

fn step() -> impl Strategy<Value = Step> {
    let amount = || prop_oneof![1 => Just(None), 3 => (0..=TOTAL + 1).prop_map(Some)];
    let bank = prop_oneof![
        4 => Just(Bank::Grants), 2 => Just(Bank::Declines), 3 => Just(Bank::AsksAndGrants), 1 => Just(Bank::AsksAndDeclines)
    ];
    let fault = prop::sample::select(vec![
        Fault::FailBefore,
        Fault::FailAfter,
        Fault::RefuseLookUp,
        Fault::RefuseReversal,
        Fault::FailReversalAfter,
        Fault::FailCaptureBefore,
        Fault::FailCaptureAfter,
    ]);
    prop_oneof![
        8 => bank.prop_map(Step::Pay),
        3 => (prop::bool::weighted(0.7), any::<bool>()).prop_map(|(approves, comes_back)| Step::Answer { approves, comes_back }),
        1 => Just(Step::Cancel),
        1 => Just(Step::Expire),
        3 => amount().prop_map(Step::Capture),
        1 => Just(Step::Void),
        4 => amount().prop_map(Step::Refund),
        2 => amount().prop_map(Step::Dispute),
        2 => any::<bool>().prop_map(|for_merchant| Step::Decide { for_merchant }),
        3 => prop_oneof![4 => Just(70), 1 => Just(31 * 60)].prop_map(Step::Pass),
        4 => fault.prop_map(Step::Strike),
    ]
}

/// Transactions of others that have not ended.
const UNDER_WAY: &str = "select count(*) from pg_stat_activity
     where datname = current_database() and pid <> pg_backend_pid() and xact_start is not null
       and backend_type = 'client backend'";

/// The service as one session's history drives it.
struct Driver<'w> {
    world: &'w World,
    merchant: &'w Merchant,
    session: Value,
    payer: Payer,
}

impl Driver<'_> {
    fn id(&self) -> &str {
        self.session["id"].as_str().expect("an id")
    }

    /// What the API says: the same words as [`Model::told`].
    async fn told(&self) -> Value {
        let path = format!("/v1/checkout/sessions/{}?expand[]=payment_intent.latest_charge", self.id());
        let session = self.merchant.get(&path).await.ok();
        let payment = &session["payment_intent"];
        let charge = &payment["latest_charge"];
        json!({
            "session": session["state"], "paid": session["payment_status"], "payment": payment["status"],
            "received": payment["amount_received"], "capturable": payment["amount_capturable"],
            "captured": charge["amount_captured"], "refunded": charge["amount_refunded"],
            "disputed": charge["disputed"],
        })
    }

    async fn payment(&self) -> Option<Value> {
        let session = self.merchant.get(&format!("/v1/checkout/sessions/{}?expand[]=payment_intent", self.id())).await;
        Some(session.ok()["payment_intent"].clone()).filter(Value::is_object)
    }

    /// Does it, and gives the API's status where the API was asked.
    async fn take(&mut self, step: Step) -> Option<u16> {
        let amount_of = |name: &'static str, amount: Option<i64>| -> Vec<(&'static str, String)> {
            amount.map(|amount| (name, amount.to_string())).into_iter().collect()
        };
        let (path, mut fields) = match step {
            Step::Pay(bank) => {
                let page = self.payer.open(&self.session).await;
                if page.has_card_form() {
                    let form = Payer::fill(&page, bank.card());
                    self.payer.submit(&page, &form).await;
                }
                return None;
            }
            Step::Answer { approves, comes_back } => {
                self.answer(approves, comes_back).await;
                return None;
            }
            Step::Cancel => {
                let path = self.payer.path_of(&self.session);
                let page = self.payer.visit(&format!("{path}/cancel")).await;
                if let Some(token) = page.field("csrf_token") {
                    self.payer.send(Method::POST, &format!("{path}/cancel"), Some(&[("csrf_token", &token)])).await;
                }
                return None;
            }
            Step::Pass(seconds) => {
                // What was refused is rolled back behind its answer, and a sweep leaves out what somebody still holds.
                self.world.count_becomes(UNDER_WAY, 0).await;
                self.world.advance(chrono::Duration::seconds(seconds));
                sweep::expire_due(self.world.app()).await.expect("the database answers");
                doubts::settle_due(self.world.app()).await.expect("the database answers");
                return None;
            }
            Step::Strike(fault) => {
                self.world.replicas[0].simulator.set(fault, Times::Next(1));
                return None;
            }
            Step::Decide { for_merchant } => {
                let newest = self.merchant.get("/v1/disputes?limit=1").await.ok();
                let path = format!("/v1/disputes/{}", newest["data"][0]["id"].as_str().expect("a dispute"));
                let text = if for_merchant { "winning_evidence" } else { "losing_evidence" };
                return Some(
                    self.merchant.post(&path, &[("evidence[uncategorized_text]", text)]).await.status.as_u16(),
                );
            }
            Step::Expire => (format!("/v1/checkout/sessions/{}/expire", self.id()), Vec::new()),
            Step::Capture(amount) => ("capture".to_owned(), amount_of("amount_to_capture", amount)),
            Step::Void => ("cancel".to_owned(), Vec::new()),
            Step::Refund(amount) => ("/v1/refunds".to_owned(), amount_of("amount", amount)),
            Step::Dispute(amount) => ("/v1/test_helpers/disputes".to_owned(), amount_of("amount", amount)),
        };
        let path = if path.starts_with('/') && path.ends_with("/expire") {
            path
        } else {
            let payment = self.payment().await?;
            let id = payment["id"].as_str().expect("an id");
            if path.starts_with('/') {
                fields.push(("payment_intent", id.to_owned()));
                path
            } else {
                format!("/v1/payment_intents/{id}/{path}")
            }
        };
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        Some(self.merchant.post(&path, &fields).await.status.as_u16())
    }

    async fn answer(&mut self, approves: bool, comes_back: bool) {
        let Some(payment) = self.payment().await else { return };
        let Some(url) = payment["next_action"]["redirect_to_url"]["url"].as_str() else { return };
        let url = url::Url::parse(url).expect("a URL");
        let mut at_the_bank = Payer::new(&url.origin().ascii_serialization());
        let word = if approves { "approve" } else { "fail" };
        at_the_bank.send(Method::POST, url.path(), Some(&[("answer", word)])).await;
        // Where the bank leads on, now or after an earlier answer.
        let hop = at_the_bank.visit(&format!("{}/return", url.path())).await;
        if comes_back && let Some(back) = hop.refresh_url() {
            let back = back.strip_prefix(self.world.base()).expect("back to the gateway").to_owned();
            self.payer.visit(&back).await;
        }
    }
}

async fn lives_through(
    world: &World,
    merchant: &Merchant,
    is_manual: bool,
    steps: &[Step],
) -> Result<(), TestCaseError> {
    world.replicas[0].simulator.calm();
    let fields: &[(&str, &str)] = if is_manual { &[MANUAL] } else { &[] };
    let session = merchant.session_with(fields).await;
    let mut driver = Driver { world, merchant, session, payer: world.payer() };
    let mut model = Model::new(is_manual);
    for (number, step) in steps.iter().enumerate() {
        // Two refunds in doubt would meet one fault in either order.
        if matches!(step, Step::Refund(_)) && model.has_pending_refund() {
            continue;
        }
        // One dispute at a time, of money that was certainly taken.
        let fits = match step {
            Step::Dispute(_) => model.can_be_disputed(),
            Step::Decide { .. } => model.is_disputed(),
            _ => true,
        };
        if !fits {
            continue;
        }
        let (status, expected) = (driver.take(*step).await, model.take(*step));
        prop_assert_eq!(status, expected, "step {} of {:?}: the status", number, steps);
        prop_assert_eq!(driver.told().await, model.told(), "after step {} of {:?}", number, steps);
    }
    // Everything answers again, and every deadline passes.
    world.replicas[0].simulator.calm();
    model.calm();
    for _ in 0..2 {
        driver.take(Step::Pass(45 * 60)).await;
        model.take(Step::Pass(45 * 60));
    }
    prop_assert_eq!(driver.told().await, model.told(), "at the end of {:?}", steps);
    let open = "select count(*) from charge where look_up_at is not null or state in ('pending', 'requires_action')";
    prop_assert_eq!(world.count(open).await, 0, "in doubt at the end of {:?}", steps);
    let audit = world.audit().await;
    let broken: BTreeSet<String> =
        audit.rules.iter().flat_map(|rule| &rule.findings).map(|one| one.sentence.clone()).collect();
    prop_assert!(audit.clean, "after {:?}: {:#?}", steps, broken);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_histories_go_as_the_model_says_and_the_books_are_right() {
    let world = Arc::new(World::without_worker().await);
    let merchant = world.merchant().await;
    let cases = std::env::var("HISTORIES").ok().and_then(|count| count.parse().ok()).unwrap_or(HISTORIES);
    let (inside, runtime) = (Arc::clone(&world), tokio::runtime::Handle::current());
    let ran = tokio::task::spawn_blocking(move || {
        let config = Config { cases, max_shrink_iters: 300, failure_persistence: None, ..Config::default() };
        let histories = (any::<bool>(), prop::collection::vec(step(), 1..18));
        TestRunner::new(config).run(&histories, |(is_manual, steps)| {
            runtime.block_on(lives_through(&inside, &merchant, is_manual, &steps))
        })
    });
    if let Err(error) = ran.await.expect("the runner lives") {
        panic!("{error}");
    }
    Arc::into_inner(world).expect("nobody else holds it").end().await;
}
