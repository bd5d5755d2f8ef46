//! A session, its payment and its charges read while payments run: nothing that is answered together
//! contradicts itself, and nothing goes back.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::merchant::{Merchant, coffee_with};
use crate::payer::{DECLINED_CARD, GOOD_CARD};
use crate::storefront::{Storefront, confirmation, token_of};
use crate::world::{World, WorldOptions};

const PAYMENTS: usize = 50;

/// What session, payment and newest charge may be at one moment.
const POSSIBLE: [(&[&str], &str, &[&str], &str); 5] = [
    (&["pending"], "unpaid", &["requires_payment_method"], "failed"),
    (&["processing"], "unpaid", &["processing", "requires_action"], "pending"),
    (&["completed"], "paid", &["succeeded"], "succeeded"),
    (&["completed"], "unpaid", &["requires_capture"], "succeeded"),
    (&["failed", "expired", "cancelled"], "unpaid", &["canceled"], "failed"),
];

fn is_possible(session: &str, paid: &str, payment: &str, charge: &str) -> bool {
    POSSIBLE.iter().any(|(sessions, payment_status, payments, charges)| {
        sessions.contains(&session) && paid == *payment_status && payments.contains(&payment) && charge == *charges
    })
}

fn word<'v>(object: &'v Value, pointer: &str) -> &'v str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// One answer that tells of all three.
#[track_caller]
fn judge(session: &Value) -> bool {
    if session["payment_intent"].is_null() {
        assert_eq!((word(session, "/state"), word(session, "/payment_status")), ("pending", "unpaid"), "{session}");
        return false;
    }
    let (state, paid) = (word(session, "/state"), word(session, "/payment_status"));
    let payment = word(session, "/payment_intent/status");
    let charge = &session["payment_intent"]["latest_charge"];
    assert!(
        is_possible(state, paid, payment, word(charge, "/status")),
        "{state}, {paid}, {payment}, {}",
        charge["status"]
    );
    let error = &session["payment_intent"]["last_payment_error"];
    assert_eq!(error.is_null(), word(charge, "/status") != "failed", "{session}");
    if !error.is_null() {
        assert_eq!(error["charge"], charge["id"], "{session}");
    }
    let received = session["payment_intent"]["amount_received"].as_i64();
    assert_eq!(received, charge["amount_captured"].as_i64(), "{session}");
    true
}

async fn watch(merchant: &Merchant, id: &str) -> usize {
    let expand = "expand[]=payment_intent.latest_charge";
    let session = merchant.get(&format!("/v1/checkout/sessions/{id}?{expand}")).await.ok();
    if !judge(&session) {
        return 0;
    }
    // What is read afterwards is the same or later.
    let payment = word(&session, "/payment_intent/id");
    let later = merchant.get(&format!("/v1/payment_intents/{payment}?expand[]=latest_charge")).await.ok();
    let charges = merchant.get(&format!("/v1/charges?payment_intent={payment}&limit=10")).await.ok();
    let newest = &charges["data"][0];
    match word(&session, "/state") {
        "completed" => {
            assert_eq!(later["status"], session["payment_intent"]["status"]);
            assert_eq!(newest["id"], session["payment_intent"]["latest_charge"]["id"]);
        }
        _ => assert!(word(newest, "/id") >= word(&session, "/payment_intent/latest_charge/id"), "{newest}"),
    }
    if word(&later, "/status") == "succeeded" {
        assert_eq!((word(&later, "/latest_charge/status"), word(newest, "/status")), ("succeeded", "succeeded"));
    }
    let alive =
        charges["data"].as_array().expect("a list").iter().filter(|charge| charge["status"] != "failed").count();
    assert!(alive <= 1, "{charges}");
    1
}

#[tokio::test]
async fn what_is_read_together_was_true_together() {
    let settings = vec![("SIMULATOR_LATENCY_MS", "5".to_owned())];
    let world = World::with(WorldOptions { replicas: 2, settings, ..WorldOptions::default() }).await;
    let merchant = world.merchant().await;
    let other_replica = merchant.at(&world.replicas[1].base);
    let mut sessions = Vec::new();
    for number in 0..PAYMENTS {
        let capture = if number % 5 == 0 { "manual" } else { "automatic" };
        let fields = coffee_with(&[("payment_intent_data[capture_method]", capture)]);
        sessions.push(merchant.post("/v1/checkout/sessions", &fields).await.ok());
    }
    let is_over = AtomicBool::new(false);
    let paying = async {
        let payments = sessions.iter().enumerate().map(|(number, session)| {
            let shop = Storefront::new(if number % 2 == 0 { &merchant } else { &other_replica });
            async move {
                let token = token_of(session);
                if number % 3 == 0 {
                    let declined = confirmation(DECLINED_CARD, "press-1");
                    shop.confirm(&token, &declined).await.refused_with(402, "card_declined", "");
                }
                shop.confirm(&token, &confirmation(GOOD_CARD, "press-2")).await.ok();
            }
        });
        futures_util::future::join_all(payments).await;
        is_over.store(true, Ordering::Release);
    };
    let reading = async {
        let mut seen = 0;
        while !is_over.load(Ordering::Acquire) {
            let one_by_one = sessions.iter().map(|session| watch(&other_replica, word(session, "/id")));
            seen += futures_util::future::join_all(one_by_one).await.into_iter().sum::<usize>();
        }
        seen
    };
    let listing = async {
        while !is_over.load(Ordering::Acquire) {
            let path = "/v1/checkout/sessions?limit=100&expand[]=data.payment_intent.latest_charge";
            for session in merchant.get(path).await.ok()["data"].as_array().expect("a list") {
                judge(session);
            }
            let payments = merchant.get("/v1/payment_intents?limit=100&expand[]=data.latest_charge").await.ok();
            for payment in payments["data"].as_array().expect("a list") {
                let (status, charge) = (word(payment, "/status"), word(payment, "/latest_charge/status"));
                let fits = match status {
                    "succeeded" | "requires_capture" => charge == "succeeded",
                    "processing" | "requires_action" => charge == "pending",
                    _ => charge == "failed",
                };
                assert!(fits, "{status} and {charge}");
            }
        }
    };
    let ((), seen, ()) = tokio::join!(paying, reading, listing);
    assert!(seen > 0, "nothing was read while payments ran");
    for session in &sessions {
        assert_eq!(watch(&merchant, word(session, "/id")).await, 1);
        assert_eq!(merchant.read(session).await["status"], "complete");
    }
    world.end().await;
}
