//! Payers who dispute at their banks: what merchants hear and answer, what is booked, and that no race,
//! repetition or lost answer makes one dispute two, or gives money back twice.

use checkstand::providers::simulator_faults::{Fault, SimulatorFees, Times};
use chrono::Duration;
use serde_json::Value;
use tokio::task::JoinSet;

use crate::deal::{BUYER, HELD, SELLERS, Story};
use crate::merchant::Merchant;
use crate::payer::{Card, GOOD_CARD};
use crate::world::{World, WorldOptions};

const FRAUDULENT: Card = Card { number: "4000 0000 0000 0259", expiry: "12 / 49", cvc: "123" };
const NOT_RECEIVED: Card = Card { number: "4000 0000 0000 2685", expiry: "12 / 49", cvc: "123" };
const EARNED: &str = "select coalesce(sum(amount), 0)::int8 from ledger_entry where account = 'merchant'";
const AT_BANKS: &str = "select coalesce(sum(amount), 0)::int8 from ledger_entry where account = 'disputed'";
const PAYERS: &str = "select coalesce(sum(amount), 0)::int8 from ledger_entry where account = 'payer'";
const FEES: &str = "select coalesce(sum(amount), 0)::int8 from ledger_entry where account = 'fees'";
const UNSETTLED: &str = "select (select count(*) from refund where look_up_at is not null)
     + (select count(*) from dispute where look_up_at is not null)
     + (select count(*) from simulator.dispute where not heard)";
const WINNING: (&str, &str) = ("evidence[uncategorized_text]", "winning_evidence");
const LOSING: (&str, &str) = ("evidence[uncategorized_text]", "losing_evidence");

/// The payment of a session that was paid with this card.
async fn paid(world: &World, merchant: &Merchant, card: Card) -> String {
    let session = merchant.session().await;
    world.payer().pay(&session, card).await.says("Payment complete");
    merchant.read(&session).await["payment_intent"].as_str().expect("a payment").to_owned()
}

async fn dispute(merchant: &Merchant, payment: &str, fields: &[(&str, &str)]) -> Value {
    let all = [&[("payment_intent", payment)], fields].concat();
    merchant.post("/v1/test_helpers/disputes", &all).await.ok()
}

fn path(dispute: &Value) -> String {
    format!("/v1/disputes/{}", dispute["id"].as_str().expect("an id"))
}

async fn charge(merchant: &Merchant, dispute: &Value) -> Value {
    merchant.get(&format!("/v1/charges/{}", dispute["charge"].as_str().expect("a charge"))).await.ok()
}

/// What is the merchant's, the banks', and the payers'.
async fn books(world: &World) -> (i64, i64, i64) {
    world.books_are_right().await;
    (world.count(EARNED).await, world.count(AT_BANKS).await, world.count(PAYERS).await)
}

#[tokio::test]
async fn the_test_cards_are_disputed_by_themselves_and_the_merchant_hears_it() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    let payment = paid(&world, &merchant, FRAUDULENT).await;
    let created = receiver.wait_for("charge.dispute.created").await;
    let withdrawn = receiver.wait_for("charge.dispute.funds_withdrawn").await;
    assert_eq!(created.object_id(), withdrawn.object_id());
    let listed = merchant.get(&format!("/v1/disputes?payment_intent={payment}")).await.ok();
    let [found] = &listed["data"].as_array().expect("a list")[..] else { panic!("{listed}") };
    assert_eq!((&found["status"], &found["reason"]), (&"needs_response".into(), &"fraudulent".into()));
    assert_eq!((&found["amount"], &found["amount_withdrawn"]), (&2598.into(), &2598.into()));
    assert!(found["evidence_details"]["due_by"].as_i64() > Some(world.now()), "{found}");
    assert_eq!(*found, merchant.get(&path(found)).await.ok());
    let charge = charge(&merchant, found).await;
    assert_eq!((&charge["disputed"], &charge["refunded"]), (&true.into(), &false.into()));
    assert_eq!(books(&world).await, (0, 2598, -2598));

    paid(&world, &merchant, NOT_RECEIVED).await;
    world.count_becomes("select count(*) from dispute where reason = 'product_not_received'", 1).await;
    assert_eq!(merchant.get("/v1/disputes?limit=1").await.ok()["has_more"], true);
    let other = world.merchant().await;
    other.get(&path(found)).await.refused_with(404, "resource_missing", "id");
    assert_eq!(other.get("/v1/disputes").await.ok()["data"], serde_json::json!([]));
    world.end().await;
}

#[tokio::test]
async fn evidence_wins_or_loses_and_the_money_follows_it() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    for (evidence, status, expected) in [(WINNING, "won", (2598, 0, -2598)), (LOSING, "lost", (2598, 0, -2598))] {
        let payment = paid(&world, &merchant, GOOD_CARD).await;
        let opened = dispute(&merchant, &payment, &[]).await;
        let staged = [("evidence[customer_name]", "Ada"), ("submit", "false"), ("metadata[case]", "7")];
        let staged = merchant.post(&path(&opened), &staged).await.ok();
        assert_eq!(
            (&staged["status"], &staged["evidence"]["customer_name"]),
            (&"needs_response".into(), &"Ada".into())
        );
        assert_eq!(
            (&staged["metadata"]["case"], &staged["evidence_details"]["submission_count"]),
            (&"7".into(), &0.into())
        );
        let fields = [evidence];
        let answered = merchant.post_with_key(&path(&opened), &fields, status).await;
        let again = merchant.post_with_key(&path(&opened), &fields, status).await;
        assert_eq!(answered.text, again.text);
        let answered = answered.ok();
        assert_eq!(answered["status"], status);
        assert_eq!(answered["evidence_details"]["submission_count"], 1);
        assert_eq!(answered["amount_reinstated"], if status == "won" { 2598 } else { 0 });
        receiver.wait_for("charge.dispute.closed").await;
        // The second payment is lost to its payer, which leaves what the first one brought.
        assert_eq!(books(&world).await, expected);
        for late in [&[WINNING][..], &[("submit", "true")]] {
            merchant.post(&path(&opened), late).await.refused_with(400, "dispute_unexpected_state", "");
        }
        merchant.post(&path(&opened), &[("metadata[case]", "8")]).await.ok();
        merchant.post(&format!("{}/close", path(&opened)), &[]).await.refused_with(400, "dispute_unexpected_state", "");
    }
    receiver.wait_for("charge.dispute.funds_reinstated").await;
    let told = "select count(*) from event where type in ('charge.dispute.closed', 'charge.dispute.funds_withdrawn')";
    assert_eq!(world.count(told).await, 4);
    world.end().await;
}

#[tokio::test]
async fn other_evidence_goes_to_the_bank_and_a_dispute_can_be_given_up() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let payment = paid(&world, &merchant, GOOD_CARD).await;
    let opened = dispute(&merchant, &payment, &[("amount", "1000"), ("reason", "duplicate")]).await;
    assert_eq!((&opened["amount"], &opened["reason"]), (&1000.into(), &"duplicate".into()));
    let second = dispute(&merchant, &payment, &[]).await;
    assert_eq!(second["amount"], 1598);
    let reviewed = merchant.post(&path(&opened), &[("evidence[product_description]", "Two bags")]).await.ok();
    assert_eq!(reviewed["status"], "under_review");
    let closed = merchant.post(&format!("{}/close", path(&second)), &[]).await.ok();
    assert_eq!((&closed["status"], &closed["amount_reinstated"]), (&"lost".into(), &0.into()));
    assert_eq!(books(&world).await, (0, 1000, -1000));
    let helper = "/v1/test_helpers/disputes";
    merchant.post(helper, &[("payment_intent", &payment)]).await.refused_with(400, "charge_disputed", "");
    merchant.post(helper, &[("payment_intent", &payment), ("reason", "boredom")]).await.refused_with(
        400,
        "parameter_invalid_value",
        "reason",
    );
    let live = world.merchant_with_mode(true).await;
    live.post(helper, &[("payment_intent", &payment)]).await.refused_with(400, "test_mode_only", "");
    let open = dispute(&merchant, &paid(&world, &merchant, GOOD_CARD).await, &[]).await;
    let long = "x".repeat(20_001);
    for (field, value, code) in [
        ("evidence[receipt]", "file_1", "parameter_unknown"),
        ("evidence[uncategorized_text]", long.as_str(), "parameter_invalid_string"),
    ] {
        merchant.post(&path(&open), &[(field, value)]).await.refused_with(400, code, field);
    }
    world.end().await;
}

#[tokio::test]
async fn what_a_dispute_took_is_not_given_back_once_more() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let payment = paid(&world, &merchant, GOOD_CARD).await;
    merchant.post("/v1/refunds", &[("payment_intent", &payment), ("amount", "98")]).await.ok();
    let opened = dispute(&merchant, &payment, &[("amount", "2000")]).await;
    let of = ("payment_intent", payment.as_str());
    merchant.post("/v1/refunds", &[of, ("amount", "501")]).await.refused_with(400, "charge_disputed", "");
    merchant.post("/v1/refunds", &[of, ("amount", "2501")]).await.refused_with(400, "amount_too_large", "amount");
    let rest = merchant.post("/v1/refunds", &[of]).await.ok();
    assert_eq!(rest["amount"], 500);
    merchant.post("/v1/refunds", &[of]).await.refused_with(400, "charge_disputed", "");
    let again = "/v1/test_helpers/disputes";
    merchant.post(again, &[of]).await.refused_with(400, "charge_disputed", "");
    assert_eq!(books(&world).await, (0, 2000, -2000));
    merchant.post(&path(&opened), &[WINNING]).await.ok();
    assert_eq!(merchant.post("/v1/refunds", &[of]).await.ok()["amount"], 2000);
    merchant.post(again, &[of]).await.refused_with(400, "charge_already_refunded", "");
    assert_eq!(books(&world).await, (0, 0, 0));
    world.end().await;
}

#[tokio::test]
async fn a_hundred_refunds_at_once_and_a_dispute_never_take_more_than_there_was() {
    let world = World::with(WorldOptions { replicas: 2, ..WorldOptions::default() }).await;
    let merchant = world.merchant().await;
    for round in 0..3 {
        let payment = paid(&world, &merchant, GOOD_CARD).await;
        let mut racing = JoinSet::new();
        for number in 0..100 {
            let shop = merchant.at(&world.replicas[number % 2].base);
            let payment = payment.clone();
            racing.spawn(async move {
                let answer = if number % 25 == 12 {
                    let fields = [("payment_intent", payment.as_str()), ("amount", "1300")];
                    shop.post("/v1/test_helpers/disputes", &fields).await
                } else {
                    shop.post("/v1/refunds", &[("payment_intent", payment.as_str()), ("amount", "100")]).await
                };
                answer.status.as_u16()
            });
        }
        let statuses = racing.join_all().await;
        assert!(statuses.iter().all(|status| [200, 400, 503].contains(status)), "{round}: {statuses:?}");
        world.advance(Duration::minutes(2));
        world.count_becomes(UNSETTLED, 0).await;
        world.books_are_right().await;
    }
    let over = "select count(*) from charge where amount_refunded + amount_withdrawn > amount_captured or overdrawn";
    assert_eq!(world.count(over).await, 0);
    world.end().await;
}

#[tokio::test]
async fn a_dispute_that_many_tell_of_at_once_is_one_dispute_with_one_booking() {
    let world = World::with(WorldOptions { replicas: 2, ..WorldOptions::default() }).await;
    let merchant = world.merchant().await;
    let payment = paid(&world, &merchant, GOOD_CARD).await;
    let fields = [("payment_intent", payment.as_str())];
    let mut racing = JoinSet::new();
    for number in 0..20 {
        let shop = merchant.at(&world.replicas[number % 2].base);
        let request = shop.form("/v1/test_helpers/disputes", &fields).header("Idempotency-Key", "one");
        racing.spawn(async move { shop.send(request).await.status.as_u16() });
    }
    let statuses = racing.join_all().await;
    assert!(statuses.iter().all(|status| [200, 409, 503].contains(status)), "{statuses:?}");
    // Told of again, as a company does that was not answered.
    for _ in 0..3 {
        world.execute("update simulator.dispute set heard = false").await;
        world.count_becomes(UNSETTLED, 0).await;
    }
    assert_eq!(world.count("select count(*) from dispute").await, 1);
    assert_eq!(world.count("select count(*) from event where type like 'charge.dispute.%'").await, 2);
    assert_eq!(books(&world).await, (0, 2598, -2598));
    world.end().await;
}

#[tokio::test]
async fn an_answer_whose_outcome_is_lost_is_repeated_until_it_is_known() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let simulator = &world.replicas[0].simulator;
    let payment = paid(&world, &merchant, GOOD_CARD).await;
    let opened = dispute(&merchant, &payment, &[]).await;
    simulator.set(Fault::FailDisputeAfter, Times::Next(1));
    let pending = merchant.post(&path(&opened), &[WINNING]).await.ok();
    assert_eq!(pending["status"], "needs_response", "nobody knows yet");
    world.books_are_right().await;
    world.advance(Duration::minutes(2));
    world.count_becomes("select count(*) from dispute where status = 'won'", 1).await;
    assert_eq!(books(&world).await, (2598, 0, -2598));
    // Out of reach when it is to be given up, and reached later.
    let opened = dispute(&merchant, &paid(&world, &merchant, GOOD_CARD).await, &[]).await;
    simulator.set(Fault::RefuseConnection, Times::Always);
    merchant.post(&format!("{}/close", path(&opened)), &[]).await.ok();
    merchant.post(&path(&opened), &[WINNING]).await.refused_with(400, "dispute_unexpected_state", "");
    simulator.calm();
    world.advance(Duration::minutes(2));
    world.count_becomes("select count(*) from dispute where status = 'lost'", 1).await;
    assert_eq!(books(&world).await, (2598, 0, -2598));
    world.end().await;
}

#[tokio::test]
async fn a_dispute_of_a_charge_in_doubt_settles_it_first() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let session = merchant.session().await;
    world.replicas[0].simulator.set(Fault::FailAfter, Times::Next(1));
    world.payer().pay(&session, FRAUDULENT).await;
    world.count_becomes("select count(*) from dispute", 1).await;
    assert_eq!(merchant.read(&session).await["state"], "completed");
    assert_eq!(books(&world).await, (0, 2598, -2598));
    world.end().await;
}

#[tokio::test]
async fn what_the_provider_keeps_is_booked_once_and_shown() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let fees = SimulatorFees { basis_points: 290, fixed: 30, dispute: 1_500 };
    world.replicas[0].simulator.set_fees(fees);
    let payment = paid(&world, &merchant, GOOD_CARD).await;
    let intent = merchant.get(&format!("/v1/payment_intents/{payment}?expand[]=latest_charge")).await.ok();
    assert_eq!(intent["latest_charge"]["provider_fee"], 106);
    let reserved = merchant.session_with(&[("payment_intent_data[capture_method]", "manual")]).await;
    world.payer().pay(&reserved, GOOD_CARD).await;
    assert_eq!(world.count(FEES).await, 106, "nothing is kept of what is only reserved");
    let reserved = merchant.read(&reserved).await["payment_intent"].as_str().expect("a payment").to_owned();
    let capture = format!("/v1/payment_intents/{reserved}/capture");
    let captured = merchant.post(&capture, &[("amount_to_capture", "1000"), ("expand[]", "latest_charge")]).await.ok();
    assert_eq!(captured["latest_charge"]["provider_fee"], 59);
    let opened = dispute(&merchant, &payment, &[]).await;
    assert_eq!(opened["provider_fee"], 1500);
    let won = merchant.post(&path(&opened), &[WINNING]).await.ok();
    assert_eq!(won["provider_fee"], 1500);
    assert_eq!(world.count(FEES).await, 106 + 59 + 1500);
    assert_eq!(books(&world).await, (3598 - 1665, 0, -3598));
    world.end().await;
}

#[tokio::test]
async fn the_money_of_an_escrow_is_not_released_while_its_buyer_disputes_at_his_bank() {
    let world = World::start().await;
    let story = Story::delivered(&world, "quick").await;
    let payment = story.escrow().await["payment_intent"].as_str().expect("a payment").to_owned();
    let opened = dispute(&story.merchant, &payment, &[]).await;
    assert_eq!(story.status().await, "delivered");
    story.ask("complete", BUYER).await.refused_with(400, "charge_disputed", "");
    world.advance(Duration::days(30));
    let marker = story.merchant.session().await;
    world.payer().open(&marker).await;
    assert_eq!((world.count(HELD).await, world.count(SELLERS).await), (25_000, 0));
    assert_eq!(books(&world).await, (-25_000, 25_000, -25_000));
    story.merchant.post(&path(&opened), &[WINNING]).await.ok();
    world.count_becomes(SELLERS, 25_000).await;
    assert_eq!(books(&world).await, (0, 0, -25_000));
    world.end().await;
}

#[tokio::test]
async fn while_an_answer_is_on_its_way_to_the_bank_nothing_else_is_taken_and_the_record_shows_what_it_got() {
    let world = World::with(WorldOptions { replicas: 2, ..WorldOptions::default() }).await;
    let merchant = world.merchant().await;
    let opened = dispute(&merchant, &paid(&world, &merchant, GOOD_CARD).await, &[]).await;
    let text = ("evidence[uncategorized_text]", "Signed by Ada.");
    // It has arrived, and its answer is lost.
    world.replicas[0].simulator.set(Fault::FailDisputeAfter, Times::Next(1));
    merchant.at(&world.replicas[0].base).post(&path(&opened), &[text]).await.ok();
    let elsewhere = merchant.at(&world.replicas[1].base);
    for fields in [&[LOSING, ("submit", "false")][..], &[LOSING], &[("submit", "true")]] {
        elsewhere.post(&path(&opened), fields).await.refused_with(400, "dispute_unexpected_state", "");
    }
    let close = format!("{}/close", path(&opened));
    elsewhere.post(&close, &[]).await.refused_with(400, "dispute_unexpected_state", "");
    elsewhere.post(&path(&opened), &[("metadata[case]", "7")]).await.ok();
    world.advance(Duration::minutes(2));
    world.count_becomes("select count(*) from dispute where status = 'under_review' and under_way is null", 1).await;
    let handed_in = merchant.get(&path(&opened)).await.ok();
    assert_eq!(handed_in["evidence"]["uncategorized_text"], text.1);
    assert_eq!(handed_in["evidence_details"]["submission_count"], 1);

    let opened = dispute(&merchant, &paid(&world, &merchant, GOOD_CARD).await, &[]).await;
    let mut racing = JoinSet::new();
    for number in 0..16 {
        let shop = merchant.at(&world.replicas[number % 2].base);
        let path = path(&opened);
        racing.spawn(async move {
            let answer = match number % 3 {
                0 => shop.post(&path, &[WINNING]).await,
                1 => shop.post(&path, &[LOSING]).await,
                _ => shop.post(&format!("{path}/close"), &[]).await,
            };
            answer.status.as_u16()
        });
    }
    let mut statuses = racing.join_all().await;
    statuses.sort_unstable();
    assert_eq!(statuses[..2], [200, 400], "one answer is taken: {statuses:?}");
    world.count_becomes(UNSETTLED, 0).await;
    world.books_are_right().await;
    world.end().await;
}
