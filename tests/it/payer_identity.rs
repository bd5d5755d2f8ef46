//! Sessions for one person: nothing of the act is shown and nothing is done before a code that was sent to
//! him has been typed, in the browser that asked for it.

use checkstand::domain::id::SessionId;
use checkstand::i18n::Locale;
use checkstand::ops::identity::{self, Sent};
use chrono::Duration;
use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::payer::{GOOD_CARD, Page, Payer};
use crate::three_d_secure::{ASKED_CARD, answer_the_bank, path_at};
use crate::world::{World, WorldOptions};

pub const TARGET: &str = "ada@example.com";

/// A session for Ada.
pub async fn session_for_ada(merchant: &crate::merchant::Merchant) -> Value {
    merchant.session_with(&[("target_user_email", TARGET)]).await
}

/// What an unbound browser may not see of the coffee.
fn assert_tells_nothing(page: &Page) {
    for private in ["25.98", "25,98", "House blend", TARGET, "ada@", "card_number", "4242"] {
        assert!(!page.html.contains(private), "the page tells {private}: {}", page.text());
    }
}

impl Payer {
    /// Presses the button that asks for a code.
    pub async fn ask_for_code(&mut self, session: &Value) -> Page {
        let page = self.open(session).await;
        let token = page.field("csrf_token").expect("the page offers a code");
        self.ask_for_code_with(session, &token).await
    }

    async fn ask_for_code_with(&mut self, session: &Value, csrf_token: &str) -> Page {
        let path = format!("{}/identity/send", self.path_of(session));
        let answer = self.send(Method::POST, &path, Some(&[("csrf_token", csrf_token)])).await;
        if answer.status == StatusCode::SEE_OTHER { self.open(session).await } else { answer }
    }

    /// Types a code and presses the button.
    pub async fn type_code(&mut self, session: &Value, code: &str) -> Page {
        let page = self.open(session).await;
        let token = page.field("csrf_token").expect("the page has a form");
        let path = format!("{}/identity/confirm", self.path_of(session));
        let answer = self.send(Method::POST, &path, Some(&[("csrf_token", &token), ("code", code)])).await;
        if answer.status == StatusCode::SEE_OTHER { self.open(session).await } else { answer }
    }
}

/// The code in the newest mail, which only Ada reads.
pub async fn newest_code(world: &World) -> String {
    newest_code_of(world.app()).await
}

pub async fn newest_code_of(app: &checkstand::app::App) -> String {
    let mails = checkstand::ops::mails::newest(app, 1).await.expect("the mailbox");
    assert_eq!(mails[0].kind, "identity_code");
    code_in(&mails[0].body_text)
}

/// The newest code that was sent to an address.
pub async fn newest_code_to(app: &checkstand::app::App, address: &str) -> String {
    let mails = checkstand::ops::mails::newest(app, 20).await.expect("the mailbox");
    let mail = mails.iter().find(|mail| mail.recipient == address).expect("a mail to that address");
    code_in(&mail.body_text)
}

/// The code in a mail's text.
pub fn code_in(text: &str) -> String {
    let line = text.lines().find(|line| line.starts_with("    ")).expect("the code has a line of its own");
    let code = line.replace(' ', "");
    assert!(code.len() == 8 && code.bytes().all(|byte| byte.is_ascii_digit()), "{line}");
    code
}

/// A code that is not this one.
fn other_than(code: &str) -> String {
    format!("{:08}", (code.parse::<u32>().expect("digits") + 1) % 100_000_000)
}

#[tokio::test]
async fn the_link_alone_sends_nothing_shows_nothing_and_does_nothing() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let session = session_for_ada(&merchant).await;
    assert_eq!(session["target_user_email"], TARGET);
    assert_eq!(merchant.read(&session).await["target_user_email"], TARGET);
    let mut scanner = world.payer();
    let path = scanner.path_of(&session);
    for page in ["", "/status", "/cancel", "/3ds", "/done", "/identity/send", "/identity/confirm", "/pay"] {
        let seen = scanner.visit(&format!("{path}{page}")).await;
        seen.says("Confirm that it is you").says("a•••@e•••.com").says("Corner Coffee");
        assert_tells_nothing(&seen);
    }
    assert_eq!(world.count("select count(*) from mail").await, 0);

    // Forms that were never shown do nothing either, though their token is right.
    let token = scanner.open(&session).await.field("csrf_token").expect("a form");
    let mut form = Payer::fill(&scanner.open(&session).await, GOOD_CARD);
    form[1].1 = "0123456789abcdef0123456789abcdef".to_owned();
    scanner.send(Method::POST, &format!("{path}/pay"), Some(&Payer::filled(&form))).await;
    scanner.send(Method::POST, &format!("{path}/cancel"), Some(&[("csrf_token", &token)])).await;
    assert_eq!(merchant.read(&session).await["state"], "pending");
    assert_eq!(world.count("select count(*) from charge").await, 0);
    world.end().await;
}

#[tokio::test]
async fn the_one_it_is_for_types_the_code_and_pays() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let session = session_for_ada(&merchant).await;
    let mut ada = world.payer();
    let asked = ada.ask_for_code(&session).await;
    asked.says("Enter the code").says("a•••@e•••.com").says("You can ask for a new code in");
    assert!(asked.html.contains("autocomplete=\"one-time-code\"") && asked.html.contains("inputmode=\"numeric\""));
    assert_tells_nothing(&asked);
    let code = newest_code(&world).await;
    ada.type_code(&session, "1234").await.says("Enter the 8 digits from the mail.");
    let pasted = format!(" {} {}\u{a0}", &code[..4], &code[4..]);
    let form = ada.type_code(&session, &pasted).await;
    assert!(form.has_card_form(), "{}", form.text());
    assert_eq!(form.field("email").as_deref(), Some(TARGET), "the proven address is filled in");
    ada.pay(&session, GOOD_CARD).await.says("Payment complete").says(TARGET).says("Visa ending in 4242");
    // The link alone tells how it ended, not whose card and address it was.
    let seen = world.payer().open(&session).await;
    seen.says("Payment complete");
    assert!(!seen.html.contains("ada@") && !seen.html.contains("4242"), "{}", seen.text());
    world.end().await;
}

#[tokio::test]
async fn a_code_is_worth_nothing_in_another_browser_another_session_or_twice() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let (session, other) = (session_for_ada(&merchant).await, session_for_ada(&merchant).await);
    let (mut ada, mut eve) = (world.payer(), world.payer());
    ada.ask_for_code(&session).await;
    let code = newest_code(&world).await;
    // Eve has the link and the code, and not the browser. Her tries use nothing up.
    for guess in [code.as_str(), "00000000", "00000001", "00000002", "00000003", "00000004", code.as_str()] {
        eve.type_code(&session, guess).await.says("That code cannot be used here any more.");
    }
    ada.ask_for_code(&other).await;
    ada.type_code(&other, &code).await.says("That is not the code. You have 4 tries left.");
    assert!(ada.type_code(&session, &code).await.has_card_form());

    // Used: neither a browser that asked before nor one that copies the form gets in with it.
    let mut without_binding = ada.clone();
    without_binding.forget_cookies_named("pi-");
    without_binding.type_code(&session, &code).await.says("That code cannot be used here any more.");
    // A binding is of one session: under the other's name it opens nothing.
    let (name, value) = ada.cookies().iter().find(|(name, _)| name.starts_with("pi-")).expect("a binding");
    let tail = other["id"].as_str().expect("an id");
    let mut forger = ada.clone();
    forger.set_cookie(&format!("pi-{}", &tail[tail.len() - 16..]), value);
    forger.open(&other).await.says("Enter the code");
    let mut changed = ada.clone();
    changed.set_cookie(name, &value.replace(value.chars().next().expect("a letter"), "~"));
    assert!(!changed.open(&session).await.has_card_form());
    assert_eq!(world.count("select count(*) from payer_binding").await, 1);
    world.end().await;
}

#[tokio::test]
async fn five_wrong_guesses_end_a_code_and_three_codes_end_the_link() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let session = session_for_ada(&merchant).await;
    let mut eve = world.payer();
    for (number, wait) in [(1, 30), (2, 90), (3, 0)] {
        assert!(!eve.ask_for_code(&session).await.html.contains("identity/send") || number < 3);
        let code = newest_code(&world).await;
        for left in ["4 tries left", "3 tries left", "2 tries left", "one try left"] {
            eve.type_code(&session, &other_than(&code)).await.says(left);
        }
        let fifth = eve.type_code(&session, &other_than(&code)).await;
        if number < 3 {
            fifth.says("That code cannot be used here any more.");
            // The right one comes too late.
            let dead = eve.type_code(&session, &code).await;
            dead.says("That code cannot be used here any more. Ask for a new one.");
            let early = eve.ask_for_code(&session).await;
            assert_eq!(early.status, StatusCode::TOO_MANY_REQUESTS);
            assert!(early.header("retry-after").is_some());
            early.says("Wait");
            world.advance(Duration::seconds(wait));
        } else {
            fifth.says("This link has no codes left").says("no money was taken");
        }
    }
    world.advance(Duration::minutes(20));
    eve.open(&session).await.says("This link has no codes left");
    assert_eq!(world.count("select count(*) from mail").await, 3);
    assert_eq!(world.count("select count(*) from payer_binding").await, 0);
    world.end().await;
}

#[tokio::test]
async fn a_code_dies_by_the_clock_and_by_a_newer_one() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let session = session_for_ada(&merchant).await;
    let mut ada = world.payer();
    ada.ask_for_code(&session).await;
    let first = newest_code(&world).await;
    world.advance(Duration::seconds(31));
    ada.ask_for_code(&session).await.says("You can ask for a new code in 90 seconds.");
    let second = newest_code(&world).await;
    ada.type_code(&session, &first).await.says("That is not the code.");
    world.advance(Duration::minutes(10));
    ada.type_code(&session, &second).await.says("That code cannot be used here any more.");
    ada.ask_for_code(&session).await.says("This is the last code for this link.");
    let third = newest_code(&world).await;
    assert!(ada.type_code(&session, &third).await.has_card_form());
    world.end().await;
}

#[tokio::test]
async fn ten_thousand_guesses_on_two_replicas_are_judged_five_times() {
    let world = World::with(WorldOptions { replicas: 2, ..WorldOptions::default() }).await;
    let merchant = world.merchant().await;
    let session = session_for_ada(&merchant).await;
    let mut eve = world.payer();
    let page = eve.ask_for_code(&session).await;
    let code = newest_code(&world).await;
    let token = page.field("csrf_token").expect("a form");
    let path = format!("{}/identity/confirm", eve.path_of(&session));
    let guesses_each = 10_000 / 64 + 1;
    let mut robots = tokio::task::JoinSet::new();
    for robot in 0..64_usize {
        let mut browser = eve.at(&world.replicas[robot % 2].base);
        let (path, token, code) = (path.clone(), token.clone(), code.clone());
        robots.spawn(async move {
            let mut judged = 0;
            for guess in 0..guesses_each {
                let wrong = format!(
                    "{:08}",
                    (code.parse::<usize>().expect("digits") + 1 + robot * guesses_each + guess) % 100_000_000
                );
                let answer = browser.send(Method::POST, &path, Some(&[("csrf_token", &token), ("code", &wrong)])).await;
                assert_ne!(answer.status, StatusCode::SEE_OTHER, "a wrong guess opened the gate");
                judged += usize::from(answer.html.contains("That is not the code."));
            }
            judged
        });
    }
    let judged: usize = robots.join_all().await.into_iter().sum();
    // The answer to the fifth one says that the code is dead; a judged guess may also have met a full pool.
    assert!(judged <= 5, "{judged} guesses were judged");
    assert_eq!(world.count("select guesses::int8 from payer_check").await, 5);
    eve.type_code(&session, &code).await.says("That code cannot be used here any more.");
    assert_eq!(world.count("select count(*) from payer_binding").await, 0);
    world.end().await;
}

#[tokio::test]
async fn the_right_code_typed_many_times_at_once_binds_once() {
    let world = World::with(WorldOptions { replicas: 2, ..WorldOptions::default() }).await;
    let merchant = world.merchant().await;
    let session = session_for_ada(&merchant).await;
    let mut ada = world.payer();
    let page = ada.ask_for_code(&session).await;
    let code = newest_code(&world).await;
    let token = page.field("csrf_token").expect("a form");
    let path = format!("{}/identity/confirm", ada.path_of(&session));
    let mut tabs = tokio::task::JoinSet::new();
    for tab in 0..16_usize {
        let mut browser = ada.at(&world.replicas[tab % 2].base);
        let (path, token, code) = (path.clone(), token.clone(), code.clone());
        tabs.spawn(async move {
            let answer = browser.send(Method::POST, &path, Some(&[("csrf_token", &token), ("code", &code)])).await;
            answer.status == StatusCode::SEE_OTHER
        });
    }
    let opened = tabs.join_all().await.into_iter().filter(|opened| *opened).count();
    assert_eq!(opened, 1, "a code is used once");
    assert_eq!(world.count("select count(*) from payer_binding").await, 1);
    world.end().await;
}

#[tokio::test]
async fn an_address_a_merchant_and_a_session_have_their_own_budgets() {
    for (setting, refused) in
        [("IDENTITY_CODES_PER_ADDRESS_HOUR", TARGET), ("IDENTITY_CODES_PER_MERCHANT_HOUR", "bob@example.com")]
    {
        let settings = vec![(setting, "2".to_owned())];
        let world = World::with(WorldOptions { settings, ..WorldOptions::default() }).await;
        let merchant = world.merchant().await;
        // Capitals are the same mailbox.
        for target in [TARGET, "ADA@Example.com"] {
            let session = merchant.session_with(&[("target_user_email", target)]).await;
            world.payer().ask_for_code(&session).await.says("Enter the code");
        }
        let session = merchant.session_with(&[("target_user_email", refused)]).await;
        let mut ada = world.payer();
        let busy = ada.ask_for_code(&session).await;
        assert_eq!(busy.status, StatusCode::TOO_MANY_REQUESTS);
        busy.says("Too many codes were asked for").says("no money was taken");
        assert_eq!(world.count("select count(*) from mail").await, 2);
        // Another address, or another merchant, is not in their way; and an hour later neither are they.
        let elsewhere = if refused == TARGET { merchant.clone() } else { world.merchant().await };
        let session_there = elsewhere.session_with(&[("target_user_email", "carol@example.com")]).await;
        world.payer().ask_for_code(&session_there).await.says("Enter the code");
        world.advance(Duration::minutes(61));
        let late = merchant.session_with(&[("target_user_email", refused)]).await;
        world.payer().ask_for_code(&late).await.says("Enter the code");
        world.end().await;
    }
}

#[tokio::test]
async fn a_network_has_a_budget_and_a_refusal_takes_nothing_from_the_others() {
    let settings = vec![("IDENTITY_CODES_PER_NETWORK_HOUR", "1".to_owned())];
    let world = World::with(WorldOptions { settings, ..WorldOptions::default() }).await;
    let merchant = world.merchant().await;
    let locale = Locale::default();
    let mut outcomes = Vec::new();
    for network in ["203.0.113.0/24", "203.0.113.0/24", "198.51.100.0/24"] {
        let session = session_for_ada(&merchant).await;
        let id = SessionId::parse(session["id"].as_str().expect("an id")).expect("an id");
        let sent = identity::send_code(world.app(), &id, None, "browser", Some(network), &locale).await;
        outcomes.push(sent.expect("the database answers"));
    }
    assert_eq!(outcomes, [Sent::Made, Sent::Busy, Sent::Made]);
    assert_eq!(world.count("select used::int8 from mail_budget where kind = 'address'").await, 2);
    world.end().await;
}

#[tokio::test]
async fn the_way_back_from_the_bank_needs_no_binding() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let session = session_for_ada(&merchant).await;
    let mut ada = world.payer();
    ada.ask_for_code(&session).await;
    let code = newest_code(&world).await;
    ada.type_code(&session, &code).await;
    let asked = ada.pay(&session, ASKED_CARD).await;
    asked.says("Your bank wants to know that it is you");
    // The link alone does not show the way to Ada's bank.
    world.payer().open(&session).await.says("Confirm that it is you");
    let hop = answer_the_bank(&asked, "approve").await;
    let back = path_at(&hop, world.base());
    // From another site a POST carries no cookie.
    let mut bare = Payer::new(world.base());
    assert_eq!(bare.send(Method::POST, &back, Some(&[("PaRes", "x")])).await.status, StatusCode::SEE_OTHER);
    ada.open(&session).await.says("Payment complete").says("Visa ending in");
    assert_eq!(merchant.read(&session).await["state"], "completed");
    world.end().await;
}

#[tokio::test]
async fn the_binding_is_out_of_reach_of_scripts_sibling_hosts_and_other_sites() {
    let settings = vec![("PUBLIC_URL", "https://pay.shop.example".to_owned())];
    let world = World::with(WorldOptions { settings, ..WorldOptions::default() }).await;
    let merchant = world.merchant().await;
    let session = session_for_ada(&merchant).await;
    let mut ada = world.payer();
    ada.ask_for_code(&session).await;
    let code = newest_code(&world).await;
    let token = ada.open(&session).await.field("csrf_token").expect("a form");
    let path = format!("{}/identity/confirm", ada.path_of(&session));
    let answer = ada.send(Method::POST, &path, Some(&[("csrf_token", &token), ("code", &code)])).await;
    let set: Vec<&str> = answer.headers.get_all("set-cookie").iter().filter_map(|value| value.to_str().ok()).collect();
    let binding = set.iter().find(|cookie| cookie.starts_with("__Host-pi-")).expect("a binding");
    for attribute in ["; Path=/", "; Secure", "; HttpOnly", "; SameSite=Lax", "; Max-Age="] {
        assert!(binding.contains(attribute), "{binding}");
    }
    assert!(ada.open(&session).await.has_card_form());
    // A form from another site asks for no code.
    let other = session_for_ada(&merchant).await;
    let token = ada.open(&other).await.field("csrf_token").expect("a form");
    let path = format!("{}/identity/send", ada.path_of(&other));
    let headers = [("sec-fetch-site", "cross-site")];
    let refused = ada.send_with(Method::POST, &path, &headers, Some(&[("csrf_token", &token)])).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert_eq!(world.count("select count(*) from mail").await, 1);
    world.end().await;
}

#[tokio::test]
async fn page_and_mail_speak_the_payers_language() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    for (locale, page_says, mail_says, amount) in [
        ("de-AT", "Bestätigen Sie, dass Sie es sind", "Ihr Code für Corner Coffee", "€\u{a0}25,98"),
        ("fr", "Confirmez que c’est bien vous", "Votre code pour Corner Coffee", "25,98\u{a0}€"),
        ("es", "Confirme que es usted", "Su código para Corner Coffee", "25,98\u{a0}€"),
        ("ja", "Confirm that it is you", "Your code for Corner Coffee", "€25.98"),
    ] {
        let session = merchant.session_with(&[("target_user_email", TARGET), ("locale", locale)]).await;
        let mut ada = world.payer();
        let page = ada.open(&session).await;
        page.says(page_says);
        let lang = if locale == "ja" { "en" } else { &locale[..2] };
        assert!(page.html.contains(&format!("<html lang=\"{lang}\"")), "{locale}");
        ada.ask_for_code(&session).await;
        let mail = &checkstand::ops::mails::newest(world.app(), 1).await.expect("the mailbox")[0];
        assert_eq!(mail.subject, mail_says);
        for body in [&mail.body_text, &mail.body_html] {
            assert!(body.contains(amount), "{locale}: {body}");
            assert!(!body.contains("http://") && !body.contains("https://") && !body.contains("<img"), "{body}");
        }
        world.advance(Duration::minutes(61));
    }
    world.end().await;
}

#[tokio::test]
async fn a_gateway_without_mail_refuses_sessions_for_one_person() {
    let world = World::without_mail().await;
    let merchant = world.merchant().await;
    let fields = crate::merchant::coffee_with(&[("target_user_email", TARGET)]);
    let refused = merchant.post("/v1/checkout/sessions", &fields).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    assert_eq!(refused.json["error"]["param"], "target_user_email", "{}", refused.text);
    assert!(refused.text.contains("smtp_host"), "{}", refused.text);
    let fields = crate::merchant::coffee_with(&[("target_user_email", "ada@example.com\r\nBcc: x@y.example")]);
    let refused = merchant.post("/v1/checkout/sessions", &fields).await;
    assert_eq!(refused.json["error"]["code"], "email_invalid", "{}", refused.text);
    world.end().await;
}
