//! Rules that refuse, challenge or let pass: what the bank hears of it, what the payer and the merchant
//! read, and that no number of tries at once gets past a limit.

use chrono::Duration;
use serde_json::{Value, json};

use crate::merchant::Merchant;
use crate::payer::{Card, DECLINED_CARD, GOOD_CARD, Page, Payer};
use crate::saved_cards::{choose, customer_with_card, session_for};
use crate::three_d_secure::{answer_the_bank, path_at};
use crate::world::{World, WorldOptions};

pub const DECLINED: &str = "Your card was declined. You were not charged. Contact your bank, or use another card.";
const SENT: &str = "select count(*) from simulator.charge";
const TAKEN: &str = "select count(*) from simulator.charge where state = 'captured'";
const HOLDS_NOTHING: &str = "select count(*) from ledger_entry";

/// A world with these rules beside the defaults, behind a proxy on this machine that is believed.
pub async fn world_with(rules: &str, replicas: usize) -> World {
    let settings = vec![("TRUSTED_PROXIES", "127.0.0.0/8".to_owned())];
    World::with(WorldOptions { replicas, settings, file: rules.to_owned(), ..WorldOptions::default() }).await
}

pub fn card(number: &'static str) -> Card {
    Card { number, ..GOOD_CARD }
}

/// Fills in the form of a new session and presses the button, whatever the card.
pub async fn try_to_pay(merchant: &Merchant, payer: &Payer, number: &str, email: &str) -> (Value, Page) {
    let session = merchant.session().await;
    let page = try_again(payer, &session, number, email).await;
    (session, page)
}

async fn try_again(payer: &Payer, session: &Value, number: &str, email: &str) -> Page {
    let mut payer = payer.clone();
    let page = payer.open(session).await;
    assert!(page.has_card_form(), "no form: {} {}", page.status, page.text());
    let mut form = Payer::fill(&page, GOOD_CARD);
    for (name, value) in &mut form {
        match name.as_str() {
            "card_number" => *value = number.to_owned(),
            "email" => *value = email.to_owned(),
            _ => {}
        }
    }
    payer.submit(&page, &form).await
}

/// The newest charge of a session's payment.
pub async fn charge_of(merchant: &Merchant, session: &Value) -> Value {
    let session = merchant.read(session).await;
    let payment = session["payment_intent"].as_str().expect("a payment");
    merchant.get(&format!("/v1/payment_intents/{payment}?expand[]=latest_charge")).await.ok()["latest_charge"].clone()
}

fn rule_and_kind(charge: &Value) -> (&str, &str) {
    (charge["outcome"]["rule"].as_str().unwrap_or(""), charge["outcome"]["type"].as_str().unwrap_or(""))
}

const EMAIL_LIST: &str =
    "[fraud.rules.bad_people]\nwhen = 'list'\nof = 'email'\nvalues = ['mallory@example.com']\naction = 'block'";

#[tokio::test]
async fn a_blocked_payment_is_sent_to_nobody_and_only_the_merchant_learns_why() {
    let world = world_with(EMAIL_LIST, 1).await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    let (session, page) = try_to_pay(&merchant, &world.payer(), GOOD_CARD.number, "Mallory+x@Example.com").await;
    page.says(DECLINED);
    // Behind the list of test cards, whose names say what they are for.
    let text = page.text().to_lowercase();
    let (_, form) = text.split_once("total:").expect("the order follows the test cards");
    for word in ["fraud", "block", "risk", "rule", "bad_people", "suspect"] {
        assert!(!form.contains(word), "the payer reads “{word}”: {form}");
    }
    let charge = charge_of(&merchant, &session).await;
    assert_eq!(
        (&charge["status"], &charge["paid"], &charge["failure_code"]),
        (&"failed".into(), &false.into(), &"card_declined".into())
    );
    let message = "The payment was blocked by the rule `bad_people` and was not sent to the bank. The customer was told only that the card was declined.";
    let outcome = json!({
        "advice_code": null,
        "network_advice_code": null,
        "network_decline_code": null,
        "network_status": "not_sent_to_network",
        "reason": "rule",
        "risk_level": "highest",
        "rule": "bad_people", "rule_stricter_than": null,
        "seller_message": message,
        "type": "blocked",
    });
    assert_eq!((&charge["outcome"], &charge["failure_message"]), (&outcome, &message.into()));
    let told = receiver.wait_for("charge.failed").await;
    assert_eq!(told.json["data"]["object"]["outcome"], outcome);
    let failed = receiver.wait_for("payment_intent.payment_failed").await;
    assert_eq!(failed.json["data"]["object"]["last_payment_error"]["decline_code"], "fraudulent");
    assert_eq!((world.count(SENT).await, world.count(HOLDS_NOTHING).await), (0, 0));
    // Another try of the same session is another try.
    try_again(&world.payer(), &session, GOOD_CARD.number, "ada@example.com").await.says("Payment complete");
    assert_eq!(rule_and_kind(&charge_of(&merchant, &session).await), ("", "authorized"));
    world.end().await;
}

#[tokio::test]
async fn every_kind_of_list_is_looked_at() {
    let mut world = world_with("", 1).await;
    let merchant = world.merchant().await;
    let (first, _) = try_to_pay(&merchant, &world.payer(), "5555555555554444", "ada@example.com").await;
    let fingerprint = charge_of(&merchant, &first).await["payment_method_details"]["card"]["fingerprint"].clone();
    let list = |name: &str, of: &str, value: &str| {
        format!("[fraud.rules.{name}]\nwhen = 'list'\nof = '{of}'\nvalues = ['{value}']\naction = 'block'\n")
    };
    let rules = [
        list("by_card", "card", fingerprint.as_str().expect("a fingerprint")),
        list("by_email", "email", "mallory@example.com"),
        list("by_domain", "email_domain", "throwaway.example"),
        list("by_bin", "bin", "601111"),
        list("by_network", "network", "203.0.113.0/24"),
    ];
    world.write_file(&rules.concat());
    world.add_replica().await;
    let payer = Payer::new(&world.replicas[1].base);
    let there = merchant.at(&world.replicas[1].base);
    let usual = "4242424242424242";
    for (number, email, from, rule) in [
        ("5555555555554444", "ada@example.com", "198.51.100.1", "by_card"),
        (usual, "mallory@example.com", "198.51.100.1", "by_email"),
        (usual, "ada@mail.throwaway.example", "198.51.100.1", "by_domain"),
        ("6011111111111117", "ada@example.com", "198.51.100.1", "by_bin"),
        (usual, "ada@example.com", "203.0.113.77", "by_network"),
        (usual, "ada@example.com", "198.51.100.1", ""),
    ] {
        let (session, page) = try_to_pay(&there, &payer.behind(from), number, email).await;
        page.says(if rule.is_empty() { "Payment complete" } else { DECLINED });
        assert_eq!(charge_of(&merchant, &session).await["outcome"]["rule"].as_str().unwrap_or(""), rule);
    }
    world.end().await;
}

#[tokio::test]
async fn the_test_cards_for_risk_and_checks_meet_the_default_rules() {
    let world = world_with("", 1).await;
    let merchant = world.merchant().await;
    for (number, network, reason, level, rule, kind) in [
        ("4100000000000019", "not_sent_to_network", "highest_risk_level", "highest", "", "blocked"),
        ("4000000000004954", "reversed_after_approval", "highest_risk_level", "highest", "highest_risk", "blocked"),
        ("4000000000009235", "approved_by_network", "", "elevated", "", "authorized"),
        ("4000000000000101", "reversed_after_approval", "rule", "highest", "cvc_fails", "blocked"),
        ("4000000000000036", "approved_by_network", "", "normal", "", "authorized"),
        ("4000000000000010", "approved_by_network", "", "normal", "", "authorized"),
    ] {
        let (session, page) = try_to_pay(&merchant, &world.payer(), number, "ada@example.com").await;
        page.says(if kind == "blocked" { DECLINED } else { "Payment complete" });
        let charge = charge_of(&merchant, &session).await;
        let text = |key: &str| charge["outcome"][key].as_str().unwrap_or("").to_owned();
        let found = ["network_status", "reason", "risk_level", "rule", "type"].map(text);
        assert_eq!(found, [network, reason, level, rule, kind].map(str::to_owned), "{number}");
        let checks = &charge["payment_method_details"]["card"]["checks"];
        let failed = |name: &str| checks[name] == "fail";
        assert_eq!(failed("cvc_check"), number.ends_with("0101"), "{number}");
        assert_eq!(failed("address_postal_code_check"), ["0036", "0010"].iter().any(|end| number.ends_with(end)));
    }
    assert_eq!(world.count("select count(*) from simulator.charge where state = 'void'").await, 2);
    assert_eq!(world.count("select count(*) from charge where state = 'succeeded'").await, world.count(TAKEN).await);
    world.end().await;
}

#[tokio::test]
async fn what_the_answer_condemns_is_given_back_even_when_the_void_is_not_answered_at_first() {
    use checkstand::providers::simulator_faults::{Fault, Times};
    let world = world_with("", 1).await;
    let merchant = world.merchant().await;
    world.replicas[0].simulator.set(Fault::RefuseReversal, Times::Next(1));
    let (session, page) = try_to_pay(&merchant, &world.payer(), "4000000000000101", "ada@example.com").await;
    page.says("We are checking your payment");
    assert_eq!(world.count(TAKEN).await, 1);
    world.advance(Duration::seconds(30));
    world.count_becomes("select count(*) from charge where state = 'failed'", 1).await;
    let charge = charge_of(&merchant, &session).await;
    assert_eq!(rule_and_kind(&charge), ("cvc_fails", "blocked"));
    assert_eq!(charge["outcome"]["network_status"], "reversed_after_approval");
    assert_eq!((world.count(TAKEN).await, world.count(HOLDS_NOTHING).await), (0, 0));
    world.end().await;
}

const FRIENDS: &str =
    "[fraud.rules.friends]\nwhen = 'list'\nof = 'email_domain'\nvalues = ['friends.example']\naction = 'allow'
[fraud.rules.dear]\nwhen = 'amount'\ncurrency = 'eur'\nabove = 2000\naction = 'block'";

#[tokio::test]
async fn an_allow_list_comes_before_every_other_rule() {
    let world = world_with(FRIENDS, 1).await;
    let merchant = world.merchant().await;
    let (session, page) = try_to_pay(&merchant, &world.payer(), "4000000000000101", "ada@friends.example").await;
    page.says("Payment complete");
    assert_eq!(rule_and_kind(&charge_of(&merchant, &session).await), ("friends", "authorized"));
    let (session, page) = try_to_pay(&merchant, &world.payer(), GOOD_CARD.number, "ada@example.com").await;
    page.says(DECLINED);
    assert_eq!(rule_and_kind(&charge_of(&merchant, &session).await), ("dear", "blocked"));
    world.end().await;
}

const PROVE_IT: &str = "[fraud.rules.dear]\nwhen = 'amount'\ncurrency = 'eur'\nabove = 2000\naction = 'challenge'
[fraud.rules.unproven]\nwhen = 'not_authenticated'\naction = 'block'";

#[tokio::test]
async fn a_challenged_payer_proves_who_he_is_or_does_not_pay() {
    let world = world_with(PROVE_IT, 1).await;
    let merchant = world.merchant().await;
    // This card's bank asks only when it is told to.
    let mut payer = world.payer();
    let session = merchant.session().await;
    let asked = payer.pay(&session, card("4000 0000 0000 3055")).await;
    asked.says("Your bank wants to know that it is you");
    let back = path_at(&answer_the_bank(&asked, "approve").await, world.base());
    payer.visit(&back).await.says("Payment complete");
    let charge = charge_of(&merchant, &session).await;
    assert_eq!(rule_and_kind(&charge), ("dear", "authorized"));
    assert_eq!(charge["payment_method_details"]["card"]["three_d_secure"]["result"], "authenticated");
    // This one's cannot, and a rule does not put up with it.
    let (session, page) = try_to_pay(&merchant, &payer, GOOD_CARD.number, "ada@example.com").await;
    page.says(DECLINED);
    assert_eq!(rule_and_kind(&charge_of(&merchant, &session).await), ("unproven", "blocked"));
    assert_eq!(world.count(TAKEN).await, 1);
    world.end().await;
}

const TRIES: &str = "[fraud.rules.card_tries]\nmax = 3\nmodes = 'all'
[fraud.rules.email_declines]\nmax = 2\nmodes = 'all'\naction = 'block'";

#[tokio::test]
async fn tries_are_counted_over_sessions_and_restarts_until_they_are_old() {
    let mut world = world_with(TRIES, 1).await;
    let merchant = world.merchant().await;
    for _ in 0..3 {
        try_to_pay(&merchant, &world.payer(), GOOD_CARD.number, "ada@example.com").await.1.says("Payment complete");
    }
    world.replicas[0].stop().await;
    world.add_replica().await;
    let there = merchant.at(&world.replicas[1].base);
    let payer = Payer::new(&world.replicas[1].base);
    for number in ["4242424242424242", "4242 4242 4242 4242"] {
        let (session, page) = try_to_pay(&there, &payer, number, "bob@example.com").await;
        page.says(DECLINED);
        assert_eq!(rule_and_kind(&charge_of(&there, &session).await), ("card_tries", "blocked"));
    }
    try_to_pay(&there, &payer, "5555555555554444", "bob@example.com").await.1.says("Payment complete");
    assert_eq!(world.count(SENT).await, 4);
    // What was refused counts for nothing: an hour after the last one that was sent the card is good again.
    world.advance(Duration::minutes(61));
    try_to_pay(&there, &payer, GOOD_CARD.number, "ada@example.com").await.1.says("Payment complete");

    // Declines of one mailbox, however its address is decorated; successes are none.
    for (number, email) in [(DECLINED_CARD.number, "eve+1@example.com"), ("4000000000009995", "Eve@example.com")] {
        try_to_pay(&there, &payer, number, email).await.1.says("declined");
    }
    let (session, page) = try_to_pay(&there, &payer, "6011111111111117", "eve+2@example.com").await;
    page.says(DECLINED);
    assert_eq!(rule_and_kind(&charge_of(&there, &session).await), ("email_declines", "blocked"));
    try_to_pay(&there, &payer, "6011111111111117", "ada@example.com").await.1.says("Payment complete");
    world.end().await;
}

#[tokio::test]
async fn a_hundred_tries_of_one_card_at_once_on_two_replicas_do_not_pass_its_limit() {
    let world = world_with("[fraud.rules.card_tries]\nmax = 5\nmodes = 'all'", 2).await;
    let merchant = world.merchant().await;
    let mut ready = Vec::new();
    for number in 0..100 {
        let session = merchant.session().await;
        let mut payer = world.payer();
        let (path, form) = payer.ready(&session, GOOD_CARD).await;
        ready.push((payer.at(&world.replicas[number % 2].base), path, form));
    }
    let start = std::sync::Arc::new(tokio::sync::Barrier::new(ready.len()));
    let mut racing = tokio::task::JoinSet::new();
    for (mut payer, path, form) in ready {
        let start = std::sync::Arc::clone(&start);
        racing.spawn(async move {
            start.wait().await;
            payer.press(&path, &form).await.status.as_u16()
        });
    }
    let answers = racing.join_all().await;
    assert!(answers.iter().all(|status| *status == 303), "{answers:?}");
    let sent = world.count(SENT).await;
    assert!(sent <= 5, "{sent} tries were sent");
    assert_eq!(world.count(TAKEN).await, sent);
    assert_eq!(world.count("select count(*) from charge where outcome ->> 'action' = 'block'").await, 100 - sent);
    assert_eq!(world.count("select count(*) from charge where state = 'failed'").await, 100 - sent);
    world.end().await;
}

#[tokio::test]
async fn only_a_trusted_proxy_is_believed_about_the_payers_network_and_no_address_is_kept() {
    let rule = "[fraud.rules.network_declines]\nmax = 2\n[fraud.rules.by_network]\nwhen = 'list'\nof = 'network'\nvalues = ['203.0.113.0/24']\naction = 'block'";
    let mut world = world_with(rule, 1).await;
    world.set("TRUSTED_PROXIES", "10.0.0.0/8");
    world.add_replica().await;
    let merchant = world.merchant().await;
    let there = merchant.at(&world.replicas[1].base);
    let (listed, fine) = ("203.0.113.9", "198.51.100.7");
    let pays = async |merchant: &Merchant, base: &str, from: &str| {
        let payer = Payer::new(base).behind(from);
        !try_to_pay(merchant, &payer, GOOD_CARD.number, "ada@example.com").await.1.text().contains(DECLINED)
    };
    let [here_base, there_base] = [&world.replicas[0].base, &world.replicas[1].base];
    assert!(!pays(&merchant, here_base, listed).await);
    assert!(!pays(&merchant, here_base, &format!("{fine}, {listed}")).await, "the payer's own words were believed");
    assert!(pays(&merchant, here_base, &format!("{listed}, {fine}")).await, "the payer's own words were believed");
    assert!(pays(&there, there_base, listed).await, "a peer that is not trusted was believed");

    // Two declines from one network, in one /24, and the third try is not sent; the network next door's is.
    for last in [1, 2] {
        let payer = world.payer().behind(&format!("192.0.2.{last}"));
        try_to_pay(&merchant, &payer, DECLINED_CARD.number, "ada@example.com").await.1.says(DECLINED);
    }
    let before = world.count(SENT).await;
    assert!(!pays(&merchant, here_base, "192.0.2.200").await);
    assert_eq!(world.count(SENT).await, before);
    assert!(pays(&merchant, here_base, "192.0.3.200").await);
    for table in [
        "select count(*) from charge t where t::text like '%192.0.2.%'",
        "select count(*) from event t where t::text like '%192.0.2.%'",
        "select count(*) from checkout_session t where t::text like '%192.0.2.%'",
    ] {
        assert_eq!(world.count(table).await, 0, "{table}");
    }
    world.end().await;
}

/// A number with a right check digit, of no published card.
fn made_up_card(number: usize) -> String {
    let body = format!("453957{:09}", 100_000_000 + number * 7919);
    let luhn = |digits: &str| {
        digits.bytes().rev().enumerate().fold(0u32, |sum, (place, digit)| {
            let digit = u32::from(digit - b'0');
            let doubled = if place % 2 == 1 { digit * 2 } else { digit };
            sum + if doubled > 9 { doubled - 9 } else { doubled }
        })
    };
    let check = (0..10).find(|check| luhn(&format!("{body}{check}")) % 10 == 0).expect("one of ten fits");
    format!("{body}{check}")
}

const BOT_RULES: &str = "[fraud.rules.network_declines]\nmax = 4";

#[tokio::test]
async fn a_robot_that_tests_two_hundred_cards_gets_few_of_them_to_the_bank_and_honest_payers_still_pay() {
    let world = world_with(BOT_RULES, 2).await;
    let merchant = world.merchant().await;
    let mut robots = tokio::task::JoinSet::new();
    for robot in 0..20_usize {
        let merchant = merchant.clone();
        let bot = Payer::new(&world.replicas[robot % 2].base).behind(&format!("203.0.{robot}.66"));
        robots.spawn(async move {
            for visit in 0..5 {
                // Two cards a session, a session for each visit.
                let (session, _) =
                    try_to_pay(&merchant, &bot, &made_up_card(robot * 10 + visit * 2), "x@bot.example").await;
                try_again(&bot, &session, &made_up_card(robot * 10 + visit * 2 + 1), "y@bot.example")
                    .await
                    .says("declined");
            }
        });
    }
    let mut honest = 0;
    while !robots.is_empty() {
        let payer = world.payer().behind(&format!("198.51.{honest}.7"));
        try_to_pay(&merchant, &payer, GOOD_CARD.number, "ada@example.com").await.1.says("Payment complete");
        honest += 1;
        while let Some(ended) = robots.try_join_next() {
            ended.expect("the robot got answers");
        }
    }
    assert_eq!(world.count("select count(*) from charge where state = 'failed'").await, 200);
    let budget = 20 * 4;
    let sent = world.count("select count(*) from simulator.charge where state = 'declined'").await;
    assert!((1..=budget).contains(&sent), "{sent} cards were tested, {budget} may be");
    assert_eq!(world.count(TAKEN).await, honest);
    world.end().await;
}

#[tokio::test]
async fn a_fifth_card_finds_the_session_at_its_end() {
    let world = world_with("", 1).await;
    let merchant = world.merchant().await;
    let session = merchant.session().await;
    for number in 0..4 {
        try_again(&world.payer(), &session, &made_up_card(number), "x@bot.example").await;
    }
    let mut payer = world.payer();
    assert!(!payer.open(&session).await.has_card_form());
    assert_eq!(merchant.read(&session).await["state"], "failed");
    world.end().await;
}

#[tokio::test]
async fn a_list_of_first_digits_sees_kept_cards_too() {
    let mut world = world_with("", 1).await;
    let merchant = world.merchant().await;
    let (customer, method) = customer_with_card(&world, &merchant, card("5555555555554444")).await;
    assert!(!method.to_string().contains("555555"), "kept, and not shown: {method}");
    world.write_file("[fraud.rules.by_bin]\nwhen = 'list'\nof = 'bin'\nvalues = ['555555']\naction = 'block'\n");
    world.add_replica().await;
    let there = merchant.at(&world.replicas[1].base);
    let pay = async || {
        let session = session_for(&there, &customer, &[]).await;
        let mut payer = Payer::new(&world.replicas[1].base);
        let page = payer.open(&session).await;
        let form = choose(&page, method["id"].as_str().expect("an id"));
        (session, payer.submit(&page, &form).await)
    };
    let (session, page) = pay().await;
    page.says(DECLINED);
    assert_eq!(charge_of(&merchant, &session).await["outcome"]["rule"], "by_bin");
    // As cards are that were kept before their first digits were.
    world.execute("update payment_method set card_bin = null").await;
    pay().await.1.says("Payment complete");
    world.end().await;
}
