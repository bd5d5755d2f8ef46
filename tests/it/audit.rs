//! The audit: it finds nothing in a busy database, and names what somebody broke behind the gateway's
//! back, each rule by its own sentence.

use std::process::Output;

use checkstand::providers::simulator_faults::{Fault, SimulatorFees, Times};
use chrono::Duration;
use serde_json::Value;
use tokio::process::Command;

use crate::merchant::Merchant;
use crate::payer::{Card, DECLINED_CARD, GOOD_CARD};
use crate::world::{World, audit_of, execute_at};

const MANUAL: (&str, &str) = ("payment_intent_data[capture_method]", "manual");
const ASKED_CARD: Card = Card { number: "4000 0000 0000 3220", expiry: "12 / 49", cvc: "123" };

async fn intent(merchant: &Merchant, session: &Value) -> String {
    merchant.read(session).await["payment_intent"].as_str().expect("a payment").to_owned()
}

/// Everything that can become of a payment, in one database.
async fn busy() -> World {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let simulator = &world.replicas[0].simulator;
    merchant.session().await;
    let cancelled = merchant.session().await;
    world.payer().cancel(&cancelled).await;
    let expired = merchant.session().await;
    world.payer().pay(&expired, DECLINED_CARD).await;
    let path = format!("/v1/checkout/sessions/{}/expire", expired["id"].as_str().expect("an id"));
    merchant.post(&path, &[]).await.ok();
    let failed = merchant.session().await;
    for _ in 0..4 {
        world.payer().pay(&failed, DECLINED_CARD).await;
    }
    world.payer().pay(&merchant.session().await, ASKED_CARD).await;
    for amount in [&[("amount", "598")][..], &[]] {
        let refunded = merchant.session().await;
        world.payer().pay(&refunded, GOOD_CARD).await;
        let payment = intent(&merchant, &refunded).await;
        let fields = [&[("payment_intent", payment.as_str())][..], amount].concat();
        merchant.post("/v1/refunds", &fields).await.ok();
    }
    for end in ["capture", "cancel", "reserved"] {
        let reserved = merchant.session_with(&[MANUAL]).await;
        world.payer().pay(&reserved, GOOD_CARD).await;
        let path = format!("/v1/payment_intents/{}/{end}", intent(&merchant, &reserved).await);
        match end {
            "capture" => merchant.post(&path, &[("amount_to_capture", "1000")]).await.ok(),
            "cancel" => merchant.post(&path, &[]).await.ok(),
            _ => Value::Null,
        };
    }
    simulator.set_fees(SimulatorFees { basis_points: 290, fixed: 30, dispute: 1_500 });
    for end in ["winning_evidence", "losing_evidence", "open"] {
        let disputed = merchant.session().await;
        world.payer().pay(&disputed, GOOD_CARD).await;
        let payment = intent(&merchant, &disputed).await;
        let dispute = merchant.post("/v1/test_helpers/disputes", &[("payment_intent", payment.as_str())]).await.ok();
        let path = format!("/v1/disputes/{}", dispute["id"].as_str().expect("an id"));
        if end != "open" {
            merchant.post(&path, &[("evidence[uncategorized_text]", end)]).await.ok();
        }
    }
    simulator.set_fees(SimulatorFees::default());
    // Two outcomes that are not known: of a charge that was made, and of a refund that was not.
    simulator.set(Fault::RefuseLookUp, Times::Always);
    let refunding = merchant.session().await;
    world.payer().pay(&refunding, GOOD_CARD).await;
    simulator.set(Fault::FailAfter, Times::Next(1));
    world.payer().pay(&merchant.session().await, GOOD_CARD).await;
    simulator.set(Fault::RefuseReversal, Times::Always);
    let payment = intent(&merchant, &refunding).await;
    merchant.post("/v1/refunds", &[("payment_intent", payment.as_str())]).await.ok();
    let overdue = merchant.session_with(&[("client_reference_id", "overdue")]).await;
    world
        .execute(
            "update checkout_session set expires_at = created_at + interval '1 second'
                   where client_reference_id = 'overdue'",
        )
        .await;
    world.advance(Duration::seconds(2));
    let id = overdue["id"].as_str().expect("an id");
    crate::world::eventually("the deadline", async || {
        (world.text("select state from checkout_session where id = $1", id).await == "expired").then_some(())
    })
    .await;
    world
}

/// What somebody does to the database, the rule that breaks first, and how its sentence begins when `{}`
/// stands for the id that is found.
const BREAKS: &[(&str, &str, &str)] = &[
    (
        "one_live_charge",
        "drop index charge_one_live_per_session;
         update charge set state = 'succeeded', failure_code = null, amount_captured = amount where id in
             (select id from charge where state = 'failed' and session_id in
                 (select session_id from charge group by session_id having count(*) = 4) limit 2)",
        "session {} has several live charges: ch_",
    ),
    (
        "sessions_fit_charges",
        "update checkout_session set state = 'completed', completed_at = now()
         where id = (select id from checkout_session where state = 'cancelled' limit 1)",
        "session {} is completed but its charges are: none",
    ),
    (
        "payments_fit_charges",
        "update payment set amount_received = amount_received - 1
         where id = (select id from payment where status = 'succeeded' limit 1)",
        "payment {} is succeeded with 2597 of 2598 eur received",
    ),
    (
        "sessions_follow_events",
        "update checkout_session set state = 'cancelled'
         where id = (select id from checkout_session where client_reference_id = 'overdue')",
        "session {} is cancelled in its row, but its 1 ending event(s) say: expired",
    ),
    (
        "payments_follow_events",
        "update event set type = 'payment_intent.requires_action'
         where id = (select id from event where type = 'payment_intent.canceled' limit 1)",
        "payment {} of session cs_test_",
    ),
    (
        "charges_follow_events",
        "update event set type = 'charge.failed' where id = (select id from event where type = 'charge.succeeded' limit 1)",
        "charge {} of session cs_test_",
    ),
    (
        "refunds_follow_events",
        "update event set type = 'refund.failed' where id = (select id from event where type = 'refund.updated' limit 1)",
        "refund {} of charge ch_",
    ),
    (
        "events_without_gaps",
        "delete from event where id = (select id from event where session_sequence = 2 limit 1)",
        "session {} has announced",
    ),
    (
        "events_without_gaps",
        "update event set session_sequence = 1 where id = (select id from event where session_sequence = 2 limit 1)",
        "session {} has announced",
    ),
    (
        "no_money_for_ended_sessions",
        "update checkout_session set state = 'expired', completed_at = null, paid_at = null
         where id = (select session_id from charge where state = 'succeeded' and amount_refunded = 0 limit 1)",
        "session {} is expired, but charge ch_",
    ),
    (
        "no_money_for_ended_sessions",
        "update checkout_session set state = 'failed', completed_at = null, paid_at = null
         where id = (select session_id from charge where state = 'authorized' limit 1)",
        "session {} is failed, but charge ch_",
    ),
    (
        "refunds_within_captures",
        "insert into refund (id, merchant_id, livemode, charge_id, payment_id, amount, currency, metadata, state, created_at,
             look_up_at)
         select 're_planted', merchant_id, livemode, id, payment_id, amount - 597, currency, '{}', 'pending', now(), now()
         from charge where amount_refunded = 598",
        "charge {} captured 2598 eur, its row says that 598 were refunded, its refunds say 598 and 2001 more are pending",
    ),
    (
        "movements_balance",
        "update ledger_entry set amount = amount + 1 where id =
             (select id from ledger_entry where movement = 'captured' and account = 'payer' limit 1)",
        "the 2 ledger entries of {}, movement captured, sum to 1 eur and not to zero",
    ),
    (
        "currencies_balance",
        "delete from ledger_entry where id = (select id from ledger_entry where account = 'merchant' limit 1)",
        "the ",
    ),
    (
        "ledger_fits_charges",
        "delete from ledger_entry where object_id = (select id from refund where amount = 598)",
        "charge {} is succeeded in eur: by its row 0 reserved, 2598 captured, 598 refunded; by the ledger (eur) 0 reserved, 2598 captured, 0 refunded",
    ),
    (
        "ledger_fits_charges",
        "update ledger_entry set object_id = 'ch_nobody' where movement = 'authorized' and object_id =
             (select id from charge where state = 'authorized')",
        "the ledger has entries of ch_nobody, but there is no such charge",
    ),
    (
        "disputes_within_captures",
        "update charge set amount_refunded = 1 where amount_withdrawn > 0",
        "charge {} captured 2598 eur and refunded 1; by its row disputes hold 2598 of it, by its disputes 2598.",
    ),
    (
        "disputes_within_captures",
        "update charge set amount_withdrawn = 0, disputed = false where id =
             (select charge_id from dispute where status = 'lost')",
        "charge {} captured 2598 eur and refunded 0; by its row disputes hold 0 of it, by its disputes 2598.",
    ),
    (
        "ledger_fits_disputes",
        "delete from ledger_entry where movement = 'dispute_won'",
        "dispute {} is won: by its row 2598 withdrawn, 2598 reinstated; by the ledger (eur) 2598 withdrawn, 0 reinstated, 0 lost",
    ),
    (
        "ledger_fits_disputes",
        "update dispute set status = 'needs_response', closed_at = null where status = 'lost'",
        "dispute {} is needs_response: by its row 2598 withdrawn, 0 reinstated; by the ledger (eur) 2598 withdrawn, 0 reinstated, 2598 lost",
    ),
    (
        "ledger_fits_disputes",
        "update ledger_entry set object_id = 'dp_nobody' where movement = 'disputed' and object_id =
             (select id from dispute where status = 'won')",
        "the ledger has movements of a dispute dp_nobody, but there is no such dispute",
    ),
    (
        "fees_booked_once",
        "delete from ledger_entry where movement = 'fee' and object_id = (select id from dispute where status = 'won')",
        "the provider keeps 1500 eur of {} by its row, and 0 by the ledger (none)",
    ),
    (
        "fees_booked_once",
        "update charge set fee = null where id = (select charge_id from dispute where status = 'won')",
        "the provider keeps none eur of {} by its row, and 106 by the ledger (eur)",
    ),
    (
        "simulator_agrees_on_disputes",
        "update simulator.dispute set status = 'won' where status = 'lost'",
        "dispute {} of charge ch_",
    ),
    (
        "simulator_agrees_on_disputes",
        "insert into simulator.dispute (provider, reference, charge_id, amount, currency, reason, status, heard)
         select provider, 'simdp_stray', charge_id, 1, currency, reason, status, true from simulator.dispute where status = 'won'",
        "dispute simdp_stray of charge ch_",
    ),
    (
        "simulator_agrees_on_charges",
        "update simulator.charge set state = 'void' where charge_id =
             (select id from charge where state = 'succeeded' and amount_refunded = 0
              and id not in (select charge_id from refund) limit 1)",
        "charge {} (eur): ours is succeeded with 0 reserved,",
    ),
    (
        "simulator_agrees_on_charges",
        "insert into simulator.charge (provider, charge_id, reference, amount, currency, state, amount_captured)
         values ('simulator', 'ch_stray', 'sim_stray', 5, 'eur', 'captured', 5)",
        "charge ch_stray (eur): ours is none with none reserved",
    ),
    (
        "simulator_agrees_on_refunds",
        "delete from simulator.refund where amount = 598",
        "refund {} of charge ch_",
    ),
];

#[tokio::test]
async fn a_busy_database_is_clean_and_each_break_is_named() {
    let mut world = busy().await;
    world.books_are_right().await;
    let audit = world.audit().await;
    assert_eq!(audit.doubts.broken, 0, "nothing is old yet: {:?}", audit.doubts);
    world.replicas[0].stop().await;
    world.execute("update charge set created_at = created_at - interval '1 hour' where state = 'pending'").await;
    let audit = world.audit().await;
    assert!(audit.clean, "what is in doubt breaks no rule");
    let [old] = &audit.doubts.findings[..] else { panic!("{:?}", audit.doubts) };
    assert!(old.sentence.starts_with(&format!("charge {} (pending) has waited 60 minutes", old.id)), "{old:?}");

    for (number, (rule, sql, sentence)) in BREAKS.iter().enumerate() {
        let url = world.copy(&number.to_string()).await;
        execute_at(&url, sql).await;
        let audit = audit_of(&url).await;
        let broken = audit.rules.iter().find(|judged| judged.name == *rule).expect("the rule is judged");
        assert!(!audit.clean && broken.broken > 0, "{rule} still holds after: {sql}");
        let found = |finding: &checkstand::ops::audit::Finding| {
            finding.sentence.starts_with(&sentence.replace("{}", &finding.id))
        };
        assert!(broken.findings.iter().any(found), "{sql}: no “{sentence}” in {:#?}", broken.findings);
    }
    let unjudged: Vec<&str> =
        // Those of escrows are broken in the stories of escrows.
        audit.rules.iter().map(|rule| rule.name).filter(|name| !name.starts_with("escrow_") && !BREAKS.iter().any(|(rule, ..)| rule == name)).collect();
    assert!(unjudged.is_empty(), "no story breaks {unjudged:?}");
    world.end().await;
}

#[tokio::test]
async fn charges_from_before_the_ledger_are_in_it_after_the_migration() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    for _ in 0..2 {
        world.payer().pay(&merchant.session().await, GOOD_CARD).await;
    }
    world.execute("delete from ledger_entry where object_id = (select min(id) from charge)").await;
    assert!(!world.audit().await.clean);
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let mut files = std::fs::read_dir(folder).expect("there are migrations").map(|file| file.expect("readable").path());
    let file = files.find(|file| file.to_string_lossy().ends_with("_books_in_full.sql")).expect("the migration");
    world.execute(&std::fs::read_to_string(file).expect("SQL is text")).await;
    world.books_are_right().await;
    world.end().await;
}

async fn command(url: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_checkstand"));
    command.arg("audit").args(arguments).env("DATABASE_URL", url).output().await.expect("the program runs")
}

#[tokio::test]
async fn the_command_tells_by_its_exit_code_and_stays_short() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    for _ in 0..3 {
        world.payer().pay(&merchant.session().await, GOOD_CARD).await;
    }
    let url = world.database_url().await;
    let clean = command(&url, &[]).await;
    let text = String::from_utf8(clean.stdout).expect("text");
    assert_eq!(clean.status.code(), Some(0), "{text}{}", String::from_utf8_lossy(&clean.stderr));
    assert!(text.lines().all(|line| line.starts_with("ok ")), "{text}");

    world.execute("delete from ledger_entry").await;
    let broken = command(&url, &["--limit", "2"]).await;
    let text = String::from_utf8(broken.stdout).expect("text");
    assert_eq!(broken.status.code(), Some(1), "{text}");
    assert!(text.contains("BROKEN  ledger_fits_charges") && text.contains("and 1 more; --limit"), "{text}");
    let complaint = String::from_utf8(broken.stderr).expect("text");
    assert_eq!(complaint, "checkstand: a rule is broken: ledger_fits_charges\n");
    let json = command(&url, &["--json"]).await;
    let audit: Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!((&audit["object"], &audit["clean"]), (&"audit".into(), &false.into()));
    let rule = audit["rules"].as_array().expect("rules").iter().find(|rule| rule["name"] == "ledger_fits_charges");
    assert_eq!(rule.expect("the rule")["broken"], 3);

    let nowhere = command("postgres://nobody@127.0.0.1:1/nothing", &[]).await;
    assert_eq!(nowhere.status.code(), Some(2), "{}", String::from_utf8_lossy(&nowhere.stderr));
    let old = command(&url.replace("story_", "no_such_"), &[]).await;
    assert_eq!(old.status.code(), Some(2));
    world.end().await;
}
