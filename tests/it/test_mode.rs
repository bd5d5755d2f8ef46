//! A merchant's automated tests: paying, being declined, answering the bank and running out of time
//! by API, with everything that follows from it.

use serde_json::Value;

use crate::merchant::{Answer, Merchant};
use crate::payer::{Card, GOOD_CARD};
use crate::receiver::Receiver;
use crate::world::World;

const CAPTURED: &str = "select count(*) from simulator.charge where state = 'captured'";
const CHARGES: &str = "select count(*) from charge";
const UNBALANCED: &str =
    "select count(*) from (select currency from ledger_entry group by object_id, movement, currency
     having sum(amount) <> 0) unbalanced";
const EARNED: &str = "select coalesce(sum(amount), 0)::int8 from ledger_entry where account = 'merchant'";
const ASKED_CARD: Card = Card { number: "4000 0000 0000 3220", expiry: "12 / 49", cvc: "123" };

async fn play(merchant: &Merchant, session: &Value, what: &str, fields: &[(&str, &str)]) -> Answer {
    let id = session["id"].as_str().expect("an id");
    merchant.post(&format!("/v1/test_helpers/checkout/sessions/{id}/{what}"), fields).await
}

/// The types of a session's events in the order that they were announced, without the session's own making.
async fn story(receiver: &Receiver, last: &str) -> Vec<String> {
    receiver.wait_for(last).await;
    let mut kinds: Vec<String> = receiver.deliveries().iter().map(|one| one.kind().to_owned()).collect();
    kinds.retain(|kind| kind != "checkout.session.created");
    kinds.sort_unstable();
    kinds
}

#[tokio::test]
async fn a_test_pays_without_a_browser_and_everything_follows() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    let session = merchant.session().await;
    let fields = [("card", "mastercard"), ("email", "grace@example.com"), ("expand[]", "payment_intent.latest_charge")];
    let paid = play(&merchant, &session, "complete", &fields).await.ok();
    assert_eq!((&paid["object"], &paid["status"]), (&"checkout.session".into(), &"complete".into()));
    assert_eq!(
        (&paid["payment_status"], &paid["customer_details"]["email"]),
        (&"paid".into(), &"grace@example.com".into())
    );
    let charge = &paid["payment_intent"]["latest_charge"];
    assert_eq!((&charge["status"], &charge["amount_captured"]), (&"succeeded".into(), &2598.into()));
    assert_eq!(charge["payment_method_details"]["card"]["last4"], "4444");
    let kinds = story(&receiver, "checkout.session.completed").await;
    assert_eq!(
        kinds,
        ["charge.succeeded", "checkout.session.completed", "payment_intent.created", "payment_intent.succeeded"]
    );
    assert_eq!((world.count(CAPTURED).await, world.count(EARNED).await, world.count(UNBALANCED).await), (1, 2598, 0));
    assert_eq!(merchant.read(&session).await["payment_intent"], paid["payment_intent"]["id"]);

    // By number, by the session's own address, and with money that is only reserved.
    let manual = [("payment_intent_data[capture_method]", "manual"), ("customer_email", "known@example.com")];
    let session = merchant.session_with(&manual).await;
    let fields = [("card", "3782 822463 10005"), ("email", "ignored@example.com"), ("expand[]", "payment_intent")];
    let reserved = play(&merchant, &session, "complete", &fields).await.ok();
    assert_eq!((&reserved["status"], &reserved["payment_status"]), (&"complete".into(), &"unpaid".into()));
    assert_eq!(reserved["payment_intent"]["status"], "requires_capture");
    assert_eq!(reserved["customer_details"]["email"], "known@example.com");
    world.end().await;
}

#[tokio::test]
async fn a_test_is_declined_as_it_asks_and_the_fourth_time_the_session_fails() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    let session = merchant.session().await;
    for (decline_code, code) in
        [("", "card_declined"), ("insufficient_funds", "card_declined"), ("expired_card", "expired_card")]
    {
        let fields = [("decline_code", decline_code), ("expand[]", "payment_intent.latest_charge")];
        let fields = if decline_code.is_empty() { &fields[1..] } else { &fields[..] };
        let declined = play(&merchant, &session, "decline", fields).await.ok();
        assert_eq!((&declined["state"], &declined["status"]), (&"pending".into(), &"open".into()));
        assert_eq!(declined["payment_intent"]["status"], "requires_payment_method");
        assert_eq!(declined["payment_intent"]["last_payment_error"]["code"], code);
        let charge = &declined["payment_intent"]["latest_charge"];
        assert_eq!((&charge["status"], &charge["failure_code"]), (&"failed".into(), &code.into()));
        let reason = if decline_code.is_empty() { "generic_decline" } else { decline_code };
        assert_eq!(charge["outcome"]["reason"], reason);
    }
    let failed = play(&merchant, &session, "decline", &[("decline_code", "stolen_card")]).await.ok();
    assert_eq!((&failed["state"], &failed["status"]), (&"failed".into(), &"expired".into()));
    let kinds = story(&receiver, "payment_intent.canceled").await;
    assert_eq!(kinds.iter().filter(|kind| *kind == "checkout.session.payment_failed").count(), 4);
    assert!(kinds.contains(&"checkout.session.failed".to_owned()), "{kinds:?}");

    // Paying with a card that is declined is an error, so that no test goes on as if it had paid.
    let session = merchant.session().await;
    let error =
        play(&merchant, &session, "complete", &[("card", "lost_card")]).await.refused_with(402, "card_declined", "");
    assert_eq!((&error["type"], &error["decline_code"]), (&"card_error".into(), &"lost_card".into()));
    assert_eq!(merchant.read(&session).await["state"], "pending");
    assert_eq!((world.count(CHARGES).await, world.count(CAPTURED).await), (5, 0));
    world.end().await;
}

#[tokio::test]
async fn a_test_answers_the_bank_in_its_payers_place() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    let expand = ("expand[]", "payment_intent.latest_charge");
    for (result, state, status) in [
        (Some("approve"), "completed", "succeeded"),
        (None, "completed", "succeeded"),
        (Some("fail"), "pending", "requires_payment_method"),
        (Some("cancel"), "pending", "requires_payment_method"),
    ] {
        let session = merchant.session().await;
        let asked = play(&merchant, &session, "complete", &[("card", "three_d_secure_required"), expand]).await.ok();
        assert_eq!(
            (&asked["state"], &asked["payment_intent"]["status"]),
            (&"processing".into(), &"requires_action".into())
        );
        let mut fields = vec![expand];
        fields.extend(result.map(|result| ("result", result)));
        let answered = play(&merchant, &session, "authenticate", &fields).await.ok();
        assert_eq!((&answered["state"], &answered["payment_intent"]["status"]), (&state.into(), &status.into()));
        let secure = &answered["payment_intent"]["latest_charge"]["payment_method_details"]["card"]["three_d_secure"];
        assert_eq!(secure["result"], if state == "completed" { "authenticated" } else { "failed" });
    }
    // A payer who went as far as his bank on the page may be answered for as well; and the bank declines afterwards.
    let session = merchant.session().await;
    world.payer().pay(&session, ASKED_CARD).await.says("Your bank wants to know that it is you");
    assert_eq!(play(&merchant, &session, "authenticate", &[]).await.ok()["state"], "completed");
    let session = merchant.session().await;
    play(&merchant, &session, "complete", &[("card", "three_d_secure_declined")]).await.ok();
    assert_eq!(play(&merchant, &session, "authenticate", &[]).await.ok()["state"], "pending");
    receiver.wait_for("payment_intent.requires_action").await;
    receiver.wait_for("checkout.session.completed").await;
    assert_eq!((world.count(CAPTURED).await, world.count(UNBALANCED).await), (3, 0));
    world.end().await;
}

#[tokio::test]
async fn a_test_lets_a_session_run_out_of_time() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    let session = merchant.session().await;
    // One that had a try gives its payment up with it.
    play(&merchant, &session, "decline", &[]).await.ok();
    let expired = play(&merchant, &session, "expire", &[]).await.ok();
    assert_eq!(
        (&expired["state"], &expired["status"], &expired["url"]),
        (&"expired".into(), &"expired".into(), &Value::Null)
    );
    assert!(expired["expires_at"].as_i64().expect("a time") <= world.now(), "the deadline has passed: {expired}");
    let event = receiver.wait_for("checkout.session.expired").await;
    assert_eq!(
        (event.object_id(), &event.json["request"]["id"]),
        (session["id"].as_str().expect("an id"), &Value::Null)
    );
    receiver.wait_for("payment_intent.canceled").await;
    world.end().await;
}

#[tokio::test]
async fn a_wrong_state_or_parameter_is_refused_and_changes_nothing() {
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    let (paid, expired, asked, open) =
        (merchant.session().await, merchant.session().await, merchant.session().await, merchant.session().await);
    play(&merchant, &paid, "complete", &[]).await.ok();
    play(&merchant, &expired, "expire", &[]).await.ok();
    play(&merchant, &asked, "complete", &[("card", "three_d_secure_required")]).await.ok();
    let rows = world.rows().await;
    let not_open = "session_not_open";
    for (session, what, code) in [
        (&paid, "complete", not_open),
        (&paid, "decline", not_open),
        (&paid, "authenticate", not_open),
        (&paid, "expire", not_open),
        (&expired, "complete", not_open),
        (&expired, "authenticate", not_open),
        (&expired, "expire", not_open),
        (&asked, "complete", "session_processing"),
        (&asked, "decline", "session_processing"),
        (&asked, "expire", "session_processing"),
        (&open, "authenticate", "payment_intent_unexpected_state"),
    ] {
        play(&merchant, session, what, &[]).await.refused_with(400, code, "");
    }
    for (what, fields, code, param) in [
        ("complete", [("card", "4539578763621486")], "parameter_invalid_value", "card"),
        ("complete", [("card", "platinum")], "parameter_invalid_value", "card"),
        ("complete", [("email", "nobody")], "email_invalid", "email"),
        ("complete", [("cvc", "123")], "parameter_unknown", "cvc"),
        ("decline", [("decline_code", "visa")], "parameter_invalid_value", "decline_code"),
        ("decline", [("decline_code", "test_mode_live_card")], "parameter_invalid_value", "decline_code"),
        ("authenticate", [("result", "maybe")], "parameter_invalid_value", "result"),
        ("expire", [("at", "now")], "parameter_unknown", "at"),
    ] {
        play(&merchant, &open, what, &fields).await.refused_with(400, code, param);
    }
    let live = world.in_live_mode(&merchant).await;
    let live_session = live.session().await;
    for what in ["complete", "decline", "authenticate", "expire"] {
        for session in [&open, &live_session] {
            play(&live, session, what, &[]).await.refused_with(400, "test_mode_only", "");
        }
        play(&world.merchant().await, &open, what, &[]).await.refused_with(404, "resource_missing", "id");
    }
    assert_eq!((world.count(CHARGES).await, world.count(CAPTURED).await), (2, 1));
    assert_eq!(merchant.read(&open).await["state"], "pending");
    // The live session, its event and its merchant's list.
    assert!(world.rows().await >= rows);
    world.end().await;
}

#[tokio::test]
async fn a_repeated_request_of_a_test_is_done_once() {
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    let session = merchant.session().await;
    let id = session["id"].as_str().expect("an id");
    let path = |what: &str| format!("/v1/test_helpers/checkout/sessions/{id}/{what}");
    let declined = merchant.post_with_key(&path("decline"), &[], "k-1").await;
    let again = merchant.post_with_key(&path("decline"), &[], "k-1").await;
    assert_eq!((&again.text, again.header("idempotent-replayed")), (&declined.text, Some("true")));
    let asked = [("card", "three_d_secure_required")];
    let first = merchant.post_with_key(&path("complete"), &asked, "k-2").await;
    merchant.post_with_key(&path("authenticate"), &[], "k-3").await.ok();
    let again = merchant.post_with_key(&path("complete"), &asked, "k-2").await;
    assert_eq!((&again.text, again.header("idempotent-replayed")), (&first.text, Some("true")));
    assert_eq!(
        merchant.post_with_key(&path("complete"), &[("card", "visa")], "k-2").await.refused(400)["type"],
        "idempotency_error"
    );
    merchant.post_with_key(&path("authenticate"), &[], "k-3").await.ok();

    // All at once: one charge, and one answer for all that got one.
    let session = merchant.session().await;
    let path = format!("/v1/test_helpers/checkout/sessions/{}/complete", session["id"].as_str().expect("an id"));
    let racing = (0..10).map(|_| merchant.post_with_key(&path, &[], "k-4"));
    let mut bodies: Vec<String> =
        futures_util::future::join_all(racing).await.into_iter().map(|answer| answer.ok().to_string()).collect();
    bodies.dedup();
    assert_eq!(bodies.len(), 1, "{bodies:?}");
    assert_eq!((world.count(CHARGES).await, world.count(CAPTURED).await), (3, 2));
    // A page that is open meanwhile finds the session paid.
    world.payer().visit(&world.payer().path_of(&session)).await.says("Payment complete");
    let other = merchant.session().await;
    let (path, form) = world.payer().ready(&other, GOOD_CARD).await;
    play(&merchant, &other, "complete", &[]).await.ok();
    world.payer().press(&path, &form).await;
    assert_eq!(world.count(CAPTURED).await, 3);
    world.end().await;
}
