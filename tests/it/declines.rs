//! Cards that pay and cards that do not: what the payer reads, what the merchant reads, what is kept.

use reqwest::Method;

use crate::payer::{Card, DECLINED_CARD, GOOD_CARD, Payer};
use crate::three_d_secure::{answer_the_bank, path_at};
use crate::world::World;

const DECLINED: &str = "Your card was declined. You were not charged. Contact your bank, or use another card.";

const STATE: &str = "select concat_ws(' ', state, failure_code, decline_code) from charge where session_id = $1";
const CARD: &str = "select concat_ws(' ', card_brand, card_last4, card_exp_month, card_exp_year, card_funding)
     from charge where session_id = $1";

/// What becomes of a card.
enum Fate {
    /// Paid; brand as stored and as shown, funding.
    Paid(&'static str, &'static str, &'static str),
    /// Refused: code and decline code, what the payer reads.
    Refused(&'static str, &'static str),
}

use Fate::{Paid, Refused};

/// The published test cards and what they do, for a payer who passes wherever his bank asks him.
const CARDS: &[(&str, Fate)] = &[
    ("4242424242424242", Paid("visa", "Visa", "credit")),
    ("5555555555554444", Paid("mastercard", "Mastercard", "credit")),
    ("378282246310005", Paid("amex", "American Express", "credit")),
    ("6011111111111117", Paid("discover", "Discover", "credit")),
    ("3056930009020004", Paid("diners", "Diners Club", "credit")),
    ("3566002020360505", Paid("jcb", "JCB", "credit")),
    ("6200000000000005", Paid("unionpay", "UnionPay", "credit")),
    ("4000056655665556", Paid("visa", "Visa", "debit")),
    ("4000000000004954", Refused("card_declined fraudulent", DECLINED)),
    ("4000000000009235", Paid("visa", "Visa", "credit")),
    ("4000000000000101", Refused("card_declined fraudulent", DECLINED)),
    ("4000000000000036", Paid("visa", "Visa", "credit")),
    ("4000000000000010", Paid("visa", "Visa", "credit")),
    ("4000000000000259", Paid("visa", "Visa", "credit")),
    ("4000000000003055", Paid("visa", "Visa", "credit")),
    ("4000000032200000", Paid("visa", "Visa", "credit")),
    ("4000000000000002", Refused("card_declined generic_decline", DECLINED)),
    ("4000000000009995", Refused("card_declined insufficient_funds", "there is not enough money on it")),
    ("4000000000009987", Refused("card_declined lost_card", DECLINED)),
    ("4000000000009979", Refused("card_declined stolen_card", DECLINED)),
    ("4000000000006975", Refused("card_declined card_velocity_exceeded", "because it is over its limit")),
    ("4000000000000069", Refused("expired_card", "Your card has expired.")),
    ("4000000000000127", Refused("incorrect_cvc", "The security code is not right.")),
    ("4000000000000119", Refused("processing_error", "Your card could not be processed just now.")),
    ("4100000000000019", Refused("card_declined fraudulent", DECLINED)),
    ("4000000000003220", Paid("visa", "Visa", "credit")),
    ("4000002500003155", Paid("visa", "Visa", "credit")),
    ("4000002760003184", Paid("visa", "Visa", "credit")),
    ("4000008400001629", Refused("card_declined generic_decline", DECLINED)),
    ("4000008260003178", Refused("card_declined insufficient_funds", "there is not enough money on it")),
    ("4000008400001280", Refused("card_declined generic_decline", DECLINED)),
    (
        "4539578763621486",
        Refused("card_declined test_mode_live_card", "This is a test page and takes test cards only."),
    ),
];

/// Those whose bank asks the payer first.
const ASKED: [&str; 5] =
    ["4000000000003220", "4000002500003155", "4000002760003184", "4000008400001629", "4000008260003178"];

#[tokio::test]
async fn every_test_card_does_what_is_published_for_it() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    for (number, fate) in CARDS {
        let session = merchant.session().await;
        let id = session["id"].as_str().expect("an id");
        let cvc = if number.len() == 15 { "1234" } else { "123" };
        let mut payer = world.payer();
        let mut page = payer.pay(&session, Card { number, expiry: "04/49", cvc }).await;
        if ASKED.contains(number) {
            page.says("Your bank wants to know that it is you");
            assert_eq!(world.text(STATE, id).await, "requires_action", "{number}");
            let hop = answer_the_bank(&page, "approve").await;
            page = payer.visit(&path_at(&hop, world.base())).await;
        }
        let last4 = &number[number.len() - 4..];
        let after = merchant.get(&format!("/v1/checkout/sessions/{id}?expand[]=payment_intent")).await.ok();
        let payment = &after["payment_intent"];
        match fate {
            Paid(brand, shown, funding) => {
                page.says("Payment complete").says(&format!("{shown} ending in {last4}"));
                assert_eq!(world.text(STATE, id).await, "succeeded", "{number}");
                assert_eq!(world.text(CARD, id).await, format!("{brand} {last4} 4 2049 {funding}"), "{number}");
                assert_eq!(payment["status"], "succeeded", "{number}");
                assert_eq!(payment["amount_received"], 2598, "{number}");
                assert!(payment["last_payment_error"].is_null(), "{number}");
            }
            Refused(codes, words) => {
                assert_eq!(page.status, 200, "{number}");
                page.says("The payment did not go through").says(words).says("You can try 3 more times.");
                assert!(page.has_card_form(), "{number}");
                assert_eq!(world.text(STATE, id).await, format!("failed {codes}"), "{number}");
                let error = &payment["last_payment_error"];
                let told = [&error["code"], &error["decline_code"]].map(|code| code.as_str().unwrap_or(""));
                assert_eq!(told.join(" ").trim(), *codes, "{number}");
                assert_eq!(error["type"], "card_error");
                assert_eq!(payment["status"], "requires_payment_method", "{number}");
                assert_eq!(payment["amount_received"], 0, "{number}");
                assert_eq!(after["status"], "open", "{number}");
            }
        }
    }
    world.end().await;
}

#[tokio::test]
async fn a_number_with_a_wrong_check_digit_is_refused_before_anybody_is_asked() {
    let world = World::start().await;
    let session = world.merchant().await.session().await;
    let page = world.payer().pay(&session, Card { number: "4242424242424241", ..GOOD_CARD }).await;
    assert_eq!(page.status, 422);
    page.says("Check the card number");
    assert_eq!(world.count("select count(*) from charge").await, 0);
    assert_eq!(world.count("select tries::bigint from checkout_session").await, 0);
    world.end().await;
}

#[tokio::test]
async fn a_declined_payer_tries_again_on_the_same_page_and_pays() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    let session = merchant.session().await;
    let mut payer = world.payer();
    let declined = payer.pay(&session, DECLINED_CARD).await;
    declined.says("You were not charged.").says("You can try 3 more times.");
    assert_eq!(declined.field("email").as_deref(), Some("ada@example.com"), "what was typed stays");
    assert_eq!(declined.field("card_name").as_deref(), Some("Ada Lovelace"));
    assert!(!declined.html.contains("0000 0002\""), "the card number does not");

    // Left and come back to: the reason is still there.
    payer.open(&session).await.says(DECLINED).says("You can try 3 more times.");
    let event = receiver.wait_for("checkout.session.payment_failed").await;
    assert_eq!(event.json["data"]["object"]["state"], "pending");

    let form = Payer::fill(&declined, GOOD_CARD);
    payer.submit(&declined, &form).await.says("Payment complete").says("Visa ending in 4242");
    let completed = receiver.wait_for("checkout.session.completed").await;
    let payment = completed.json["data"]["object"]["payment_intent"].as_str().expect("an id").to_owned();
    let read = merchant.get(&format!("/v1/payment_intents/{payment}?expand[]=latest_charge")).await.ok();
    assert_eq!(read["status"], "succeeded");
    assert_eq!(read["latest_charge"]["payment_method_details"]["card"]["last4"], "4242");
    assert_eq!(world.count("select count(*) from charge").await, 2);
    assert_eq!(world.count("select count(*) from payment").await, 1);
    assert_eq!(world.count("select count(*) from simulator.charge where state = 'captured'").await, 1);
    world.end().await;
}

#[tokio::test]
async fn four_declines_end_the_session_for_good() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    let session = merchant.session().await;
    let mut payer = world.payer();
    let mut page = payer.open(&session).await;
    let first = Payer::fill(&page, DECLINED_CARD);
    for left in ["3 more times", "2 more times", "once more"] {
        let form = Payer::fill(&page, DECLINED_CARD);
        page = payer.submit(&page, &form).await;
        page.says(&format!("You can try {left}."));
    }
    let form = Payer::fill(&page, DECLINED_CARD);
    let last = payer.submit(&page, &form).await;
    last.says("All 4 tries were used.").says("No money was taken.");
    assert!(!last.has_card_form());
    let failed = receiver.wait_for("checkout.session.failed").await;
    assert_eq!(failed.json["data"]["object"]["state"], "failed");
    assert_eq!(failed.json["data"]["object"]["status"], "expired");
    receiver
        .wait_until("four declines", |all| {
            all.iter().filter(|delivery| delivery.kind() == "checkout.session.payment_failed").count() == 4
        })
        .await;

    // No fifth: neither with a new form nor with an old one.
    let mut fresh = first.clone();
    fresh[1].1 = "f".repeat(32);
    for form in [&first, &fresh] {
        let mut form = form.clone();
        form[4].1 = GOOD_CARD.number.to_owned();
        let answer = payer.press(&format!("{}/pay", payer.path_of(&session)), &form).await;
        assert_eq!(answer.status, 303);
    }
    assert_eq!(world.count("select count(*) from charge").await, 4);
    assert_eq!(world.count("select count(*) from simulator.charge where state <> 'declined'").await, 0);
    assert_eq!(world.count("select count(*) from payment where status = 'canceled'").await, 1);
    let payment = failed.json["data"]["object"]["payment_intent"].as_str().expect("an id").to_owned();
    let read = merchant.get(&format!("/v1/payment_intents/{payment}")).await.ok();
    assert_eq!((&read["status"], &read["last_payment_error"]["code"]), (&"canceled".into(), &"card_declined".into()));
    world.end().await;
}

#[tokio::test]
async fn the_same_form_sent_again_charges_nothing_and_tells_the_same() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    for card in [DECLINED_CARD, GOOD_CARD] {
        let session = merchant.session().await;
        let mut payer = world.payer();
        let (path, form) = payer.ready(&session, card).await;
        let first = payer.press(&path, &form).await;
        assert_eq!(first.status, 303);
        let before = world.count("select count(*) from charge").await;
        for _ in 0..3 {
            let again = payer.press(&path, &form).await;
            assert_eq!((again.status, again.header("location")), (first.status, first.header("location")));
            let words = |page: &crate::payer::Page| page.text().replace("28 minutes", "29 minutes");
            assert_eq!(words(&again), words(&first));
        }
        assert_eq!(world.count("select count(*) from charge").await, before);
        let tries = world
            .text("select tries::text from checkout_session where id = $1", session["id"].as_str().expect("an id"));
        assert_eq!(tries.await, "1");
    }
    assert_eq!(world.count("select count(*) from simulator.charge").await, 2);
    world.end().await;
}

#[tokio::test]
async fn a_paid_session_takes_no_second_payment() {
    let world = World::start().await;
    let session = world.merchant().await.session().await;
    let mut payer = world.payer();
    let (path, form) = payer.ready(&session, GOOD_CARD).await;
    let (_, other_tab) = payer.ready(&session, GOOD_CARD).await;
    payer.press(&path, &form).await;
    let again = payer.press(&path, &other_tab).await;
    assert_eq!(again.status, 303);
    let page = payer.send(Method::GET, again.header("location").expect("leads on"), None).await;
    page.says("Payment complete").says("You paid €25.98.");
    assert_eq!(world.count("select count(*) from charge").await, 1);
    world.end().await;
}
