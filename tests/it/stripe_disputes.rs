//! Disputes at Stripe: its messages only say where to look, whatever their order, and what it says when it is
//! asked is booked once. localstripe has no disputes, so the proxy before it plays that part of Stripe.

use std::sync::{Arc, Mutex};

use reqwest::Method;
use serde_json::{Value, json};

use crate::fault_proxy::{Fault, FaultProxy, Recorded};
use crate::localstripe::LocalStripe;
use crate::merchant::Merchant;
use crate::payer::GOOD_CARD;
use crate::stripe_callbacks::{SECRET, rig_with, send, signed};
use crate::world::World;

const FEE: i64 = 1_500;

/// Stripe's disputes.
#[derive(Clone, Default)]
pub struct Disputes {
    all: Arc<Mutex<Vec<Value>>>,
}

fn booking(amount: i64, fee: i64) -> Value {
    json!({"object": "balance_transaction", "amount": amount, "currency": "eur", "fee": fee})
}

impl Disputes {
    /// At Stripe as it is reached through this proxy.
    pub fn behind(proxy: &FaultProxy) -> Self {
        let disputes = Self::default();
        let answering = disputes.clone();
        proxy.answer_with(Arc::new(move |request| answering.answer(request)));
        disputes
    }

    /// A payer disputes what an intent took.
    pub fn open(&self, intent: &str, amount: i64) -> String {
        let mut all = self.all.lock().expect("nobody panicked");
        let id = format!("dp_{}{}", intent.trim_start_matches("pi_"), all.len());
        all.push(json!({"object": "dispute", "id": id, "payment_intent": intent, "amount": amount, "currency": "eur",
            "livemode": false, "status": "needs_response", "reason": "fraudulent",
            "balance_transactions": [booking(-amount, FEE)],
            "evidence_details": {"due_by": 1_900_000_000, "has_evidence": false, "submission_count": 0}}));
        id
    }

    /// Changes a dispute, as Stripe and the banks do.
    pub fn change(&self, id: &str, change: impl FnOnce(&mut Value)) {
        let mut all = self.all.lock().expect("nobody panicked");
        change(all.iter_mut().find(|dispute| dispute["id"] == id).expect("it was opened"));
    }

    fn answer(&self, request: &Recorded) -> Option<(u16, String)> {
        let rest = request.path().strip_prefix("/v1/disputes/")?;
        let (id, closes) = rest.strip_suffix("/close").map_or((rest, false), |id| (id, true));
        let mut all = self.all.lock().expect("nobody panicked");
        let Some(dispute) = all.iter_mut().find(|dispute| dispute["id"] == id) else {
            let error = json!({"error": {"type": "invalid_request_error", "code": "resource_missing"}});
            return Some((404, error.to_string()));
        };
        if request.method == Method::POST {
            if dispute["status"] != "needs_response" {
                return Some((400, json!({"error": {"type": "invalid_request_error"}}).to_string()));
            }
            let text = request.form.iter().find(|(name, _)| name == "evidence[uncategorized_text]");
            let status = match text.map(|(_, text)| text.as_str()) {
                _ if closes => "lost",
                Some("winning_evidence") => "won",
                Some("losing_evidence") => "lost",
                _ => "under_review",
            };
            dispute["status"] = status.into();
            if !closes {
                dispute["evidence_details"]["submission_count"] = 1.into();
            }
            if status == "won" {
                let amount = dispute["amount"].as_i64().expect("an amount");
                dispute["balance_transactions"].as_array_mut().expect("a list").push(booking(amount, -FEE));
            }
        }
        Some((200, dispute.to_string()))
    }
}

struct Story {
    world: World,
    proxy: FaultProxy,
    localstripe: LocalStripe,
    disputes: Disputes,
    merchant: Merchant,
    intent: String,
}

impl Story {
    /// A payment through Stripe.
    async fn paid() -> Self {
        let (world, proxy, localstripe) = rig_with(true).await;
        let disputes = Disputes::behind(&proxy);
        let merchant = world.merchant().await;
        world.payer().pay(&merchant.session().await, GOOD_CARD).await.says("Payment complete");
        let intent = localstripe.intent().await["id"].as_str().expect("an id").to_owned();
        Self { world, proxy, localstripe, disputes, merchant, intent }
    }

    /// Stripe's message about a dispute, signed. Gives what it is answered.
    async fn told(&self, kind: &str, object: &Value) -> u16 {
        let body = json!({"object": "event", "id": "evt_1", "type": kind, "data": {"object": object}}).to_string();
        let header = signed(&[(&body, SECRET, self.world.now())]).await;
        send(&self.world, "/callbacks/stripe", &body, &[("stripe-signature", &header[0])]).await
    }

    fn object(&self, id: &str) -> Value {
        json!({"object": "dispute", "id": id, "payment_intent": self.intent, "amount": 1, "status": "won"})
    }

    async fn the_dispute(&self) -> Value {
        let listed = self.merchant.get("/v1/disputes").await.ok();
        assert_eq!(listed["data"].as_array().map(Vec::len), Some(1), "{listed}");
        listed["data"][0].clone()
    }

    async fn balance(&self, account: &'static str) -> i64 {
        let sql = "select coalesce(sum(amount), 0)::int8::text from ledger_entry where account = $1";
        self.world.text(sql, account).await.parse().expect("a number")
    }
}

#[tokio::test]
async fn messages_in_any_order_and_number_make_one_dispute_that_says_what_stripe_says() {
    let story = Story::paid().await;
    let id = story.disputes.open(&story.intent, 2598);
    // The last one first, and each claims that it was won over one cent.
    for kind in ["funds_withdrawn", "created", "updated", "created", "closed"] {
        assert_eq!(story.told(&format!("charge.dispute.{kind}"), &story.object(&id)).await, 200, "{kind}");
    }
    let found = story.the_dispute().await;
    assert_eq!((&found["status"], &found["amount"]), (&"needs_response".into(), &2598.into()));
    assert_eq!((&found["amount_withdrawn"], &found["provider_fee"]), (&2598.into(), &FEE.into()));
    assert_eq!((story.balance("merchant").await, story.balance("disputed").await), (-FEE, 2598));
    let told = "select count(*) from event where type like 'charge.dispute.%'";
    assert_eq!(story.world.count(told).await, 2);

    let path = format!("/v1/disputes/{}", found["id"].as_str().expect("an id"));
    story.proxy.strike(Method::POST, "", Fault::CutAfter, 1);
    let fields = [("evidence[uncategorized_text]", "winning_evidence"), ("evidence[customer_name]", "Ada")];
    story.merchant.post(&path, &fields).await.ok();
    story.world.advance(chrono::Duration::minutes(2));
    story.world.count_becomes("select count(*) from dispute where status = 'won'", 1).await;
    assert_eq!(story.told("charge.dispute.funds_reinstated", &story.object(&id)).await, 200);
    assert_eq!((story.balance("merchant").await, story.balance("disputed").await), (2598 - FEE, 0));
    let sent = story.proxy.recorded();
    let answers = sent.iter().filter(|sent| sent.method == Method::POST && sent.path().starts_with("/v1/disputes/"));
    assert_eq!(answers.count(), 1, "an answer that was taken is not given again");
    story.world.books_are_right().await;
    story.localstripe.assert_one_charge_each().await;
    story.world.end().await;
}

#[tokio::test]
async fn what_is_not_ours_or_cannot_be_read_is_not_booked() {
    let story = Story::paid().await;
    let id = story.disputes.open(&story.intent, 2598);
    let of_nobody = json!({"object": "dispute", "id": id, "payment_intent": "pi_nobody"});
    assert_eq!(story.told("charge.dispute.created", &of_nobody).await, 200);
    let nameless = json!({"object": "dispute", "id": "../../v1/refunds", "payment_intent": story.intent});
    assert_eq!(story.told("charge.dispute.created", &nameless).await, 200);
    assert_eq!(story.told("charge.dispute.created", &story.object("dp_unknown")).await, 200);
    // Another payment's dispute under our payment's name, and one that Stripe does not give out now: told again later.
    story.disputes.change(&id, |dispute| dispute["currency"] = "usd".into());
    assert_eq!(story.told("charge.dispute.created", &story.object(&id)).await, 503);
    story.disputes.change(&id, |dispute| dispute["currency"] = "eur".into());
    story.proxy.strike(Method::GET, &*Box::leak(id.clone().into_boxed_str()), Fault::CutAfter, 1);
    assert_eq!(story.told("charge.dispute.created", &story.object(&id)).await, 503);
    assert_eq!(story.world.count("select count(*) from dispute").await, 0);
    assert_eq!(story.told("charge.dispute.created", &story.object(&id)).await, 200);
    assert_eq!(story.the_dispute().await["status"], "needs_response");
    story.world.end().await;
}

#[tokio::test]
async fn an_inquiry_moves_nothing_and_more_than_was_left_is_booked_and_marked() {
    let story = Story::paid().await;
    let id = story.disputes.open(&story.intent, 2598);
    story.disputes.change(&id, |dispute| {
        dispute["status"] = "warning_needs_response".into();
        dispute["balance_transactions"] = json!([]);
    });
    assert_eq!(story.told("charge.dispute.created", &story.object(&id)).await, 200);
    assert_eq!((story.balance("merchant").await, story.balance("disputed").await), (2598, 0));
    let payment = story.the_dispute().await["payment_intent"].as_str().expect("a payment").to_owned();
    story.merchant.post("/v1/refunds", &[("payment_intent", &payment), ("amount", "1000")]).await.ok();
    // The inquiry becomes a dispute of all that was paid, although a part went back.
    story.disputes.change(&id, |dispute| {
        dispute["status"] = "lost".into();
        dispute["balance_transactions"] = json!([booking(-2598, FEE)]);
    });
    assert_eq!(story.told("charge.dispute.closed", &story.object(&id)).await, 200);
    assert_eq!((story.balance("merchant").await, story.balance("payer").await), (-1000 - FEE, 1000));
    assert_eq!(story.the_dispute().await["status"], "lost");
    assert_eq!(story.world.count("select count(*) from charge where overdrawn").await, 1);
    story.world.books_are_right().await;
    story.world.end().await;
}
