//! Mail on its way to a real mail server in another process: over TLS, after a login, through refusals,
//! silence and restarts; once; and nothing of it readable afterwards.

use std::fmt::Write as _;

use chrono::Duration;
use serde_json::{Value, json};

use crate::mail_server::{MailServer, USER, header};
use crate::payer::GOOD_CARD;
use crate::payer_identity::{TARGET, code_in, session_for_ada};
use crate::world::{World, WorldOptions};

async fn world_with(server: &MailServer, replicas: usize) -> World {
    World::with(WorldOptions { replicas, settings: server.settings(), ..WorldOptions::default() }).await
}

fn code_of(mail: &Value) -> String {
    code_in(mail["text"].as_str().expect("a text part"))
}

const OWED: &str = "select count(*) from mail where state = 'owed'";
const SENT: &str = "select count(*) from mail where state = 'sent'";
const SENT_AT_ONCE: &str = "select count(*) from mail where state = 'sent' and attempts = 1";
const GIVEN_UP: &str = "select count(*) from mail where state = 'given_up'";
const READABLE: &str = "select count(*) from mail where body_sealed is not null";

#[tokio::test]
async fn a_code_arrives_over_starttls_and_receipts_go_the_same_road() {
    let server = MailServer::start().await;
    let world = world_with(&server, 2).await;
    let merchant = world.merchant().await;
    let session = session_for_ada(&merchant).await;
    let mut ada = world.payer();
    ada.ask_for_code(&session).await.says("Enter the code");
    let mail = &server.wait_for(1).await[0];
    assert_eq!(mail["recipients"], json!([TARGET]));
    assert_eq!((&mail["encrypted"], &mail["user"]), (&json!(true), &json!(USER)));
    assert_eq!(mail["sender"], "pay@gateway.example");
    assert_eq!(mail["parts"], json!(["multipart/alternative", "text/plain", "text/html"]));
    assert_eq!(header(mail, "From"), Some("Corner Coffee <pay@gateway.example>"));
    assert_eq!(header(mail, "Subject"), Some("Your code for Corner Coffee"));
    assert_eq!(header(mail, "Reply-To"), Some("help@corner-coffee.example"));
    assert_eq!(header(mail, "Auto-Submitted"), Some("auto-generated"));
    assert!(header(mail, "Date").is_some());
    assert!(header(mail, "Message-ID").is_some_and(|id| id.starts_with("<mail_") && id.ends_with("@gateway.example>")));
    let (text, html) = (mail["text"].as_str().expect("text"), mail["html"].as_str().expect("HTML"));
    for says in ["It confirms that it is you who pays €25.98.", "Corner Coffee", "without the code nothing happens"] {
        assert!(text.contains(says) && html.contains(says), "{says}: {text}");
    }
    assert!(ada.type_code(&session, &code_of(mail)).await.has_card_form());
    ada.pay(&session, GOOD_CARD).await.says("Payment complete");
    let receipt = &server.wait_for(2).await[1];
    assert_eq!(header(receipt, "Subject"), Some("Receipt from Corner Coffee"));
    world.count_becomes(SENT, 2).await;
    assert_eq!(world.count(READABLE).await, 0, "what was sent is wiped");
    // The mailbox of the tools says that it was sent, and no more.
    let kept = checkstand::ops::mails::newest(world.app(), 9).await.expect("the rows");
    assert!(kept.iter().all(|mail| mail.body_text.contains("It was sent.") && mail.body_html.is_empty()));
    world.end().await;
    assert_eq!(server.mails().len(), 2, "two replicas send each mail once");
}

#[tokio::test]
async fn tls_from_the_first_byte_and_a_server_on_the_same_machine_work_too() {
    for tls in ["implicit", "none"] {
        let server = MailServer::with(tls).await;
        let world = world_with(&server, 1).await;
        let merchant = world.merchant().await;
        let session = session_for_ada(&merchant).await;
        world.payer().ask_for_code(&session).await;
        let mail = &server.wait_for(1).await[0];
        assert_eq!(mail["recipients"], json!([TARGET]), "{tls}");
        world.end().await;
    }
}

#[tokio::test]
async fn a_server_with_an_unknown_certificate_or_without_tls_gets_nothing() {
    for tls in ["starttls", "none"] {
        let server = MailServer::with(tls).await;
        let mut settings = server.settings();
        settings.retain(|(name, _)| *name != "SMTP_CA_FILE" && *name != "SMTP_TLS");
        settings.push(("SMTP_TLS", "starttls".to_owned()));
        let world = World::with(WorldOptions { settings, ..WorldOptions::default() }).await;
        let merchant = world.merchant().await;
        let session = session_for_ada(&merchant).await;
        let mut ada = world.payer();
        ada.ask_for_code(&session).await;
        world.count_becomes("select count(*) from mail where server_trouble", 1).await;
        ada.open(&session).await.says("The mail server does not answer just now.");
        assert!(server.mails().is_empty(), "{tls}");
        world.end().await;
    }
}

#[tokio::test]
async fn a_server_that_is_away_loses_nothing_and_the_page_says_so() {
    let mut server = MailServer::start().await;
    server.tell(json!({ "listen": false })).await;
    let world = world_with(&server, 2).await;
    let merchant = world.merchant().await;
    let session = session_for_ada(&merchant).await;
    let mut ada = world.payer();
    ada.ask_for_code(&session).await.says("Enter the code");
    world.count_becomes("select count(*) from mail where server_trouble", 1).await;
    ada.open(&session).await.says("Your code is kept and sent as soon as it does.");
    server.tell(json!({ "listen": true })).await;
    world.advance(Duration::seconds(30));
    let mail = &server.wait_for(1).await[0];
    assert!(ada.type_code(&session, &code_of(mail)).await.has_card_form());
    world.count_becomes(SENT, 1).await;
    world.end().await;
}

#[tokio::test]
async fn a_server_that_is_silent_holds_up_nobody_but_the_mail() {
    let mut server = MailServer::start().await;
    server.tell(json!({ "hang": true })).await;
    let world = world_with(&server, 1).await;
    let merchant = world.merchant().await;
    let session = session_for_ada(&merchant).await;
    let mut ada = world.payer();
    ada.ask_for_code(&session).await.says("Enter the code");
    // Payments go on meanwhile, receipts and all.
    world.payer().pay(&merchant.session().await, GOOD_CARD).await.says("Payment complete");
    server.tell(json!({ "hang": false })).await;
    world.count_becomes("select count(*) from mail where attempts > 0", 2).await;
    world.advance(Duration::seconds(30));
    assert_eq!(server.wait_for(2).await.len(), 2);
    world.count_becomes(SENT, 2).await;
    world.end().await;
}

#[tokio::test]
async fn later_is_tried_again_and_never_is_the_end_and_the_page_tells_neither() {
    let mut server = MailServer::start().await;
    let world = world_with(&server, 1).await;
    let merchant = world.merchant().await;
    let mut shown = Vec::new();
    for (answers, state) in [
        (json!({ "rcpt": ["550 5.1.1 no such user"] }), GIVEN_UP),
        (
            json!({ "rcpt": ["451 4.7.1 greylisted"] }),
            "select count(*) from mail where state = 'owed' and attempts = 1",
        ),
        (json!({ "data": ["452 4.3.1 full"] }), "select count(*) from mail where state = 'owed' and attempts = 1"),
        (json!({}), SENT_AT_ONCE),
    ] {
        server.tell(answers).await;
        let session = session_for_ada(&merchant).await;
        let mut ada = world.payer();
        ada.ask_for_code(&session).await;
        world.count_becomes(state, 1).await;
        let page = ada.open(&session).await;
        shown.push(page.text().replace(session["id"].as_str().expect("an id"), ""));
        world.advance(Duration::seconds(20));
        world.count_becomes(OWED, 0).await;
    }
    for page in &shown {
        let words = |text: &str| text.split(|c: char| c.is_ascii_digit()).collect::<String>();
        assert_eq!(words(page), words(&shown[3]), "the page tells what became of the mail");
    }
    assert_eq!(server.mails().len(), 3);
    assert_eq!(world.count(READABLE).await, 0);
    world.end().await;
}

#[tokio::test]
async fn a_code_that_is_too_late_or_replaced_is_not_sent_any_more() {
    let mut server = MailServer::start().await;
    server.tell(json!({ "listen": false })).await;
    let world = world_with(&server, 1).await;
    let merchant = world.merchant().await;
    let session = session_for_ada(&merchant).await;
    let mut ada = world.payer();
    ada.ask_for_code(&session).await;
    world.count_becomes("select count(*) from mail where attempts > 0", 1).await;
    world.advance(Duration::seconds(31));
    ada.ask_for_code(&session).await;
    assert_eq!(world.count(GIVEN_UP).await, 1, "a newer code takes its place");
    world.advance(Duration::minutes(11));
    world.count_becomes(GIVEN_UP, 2).await;
    server.tell(json!({ "listen": true })).await;
    ada.ask_for_code(&session).await;
    let mails = server.wait_for(1).await;
    world.count_becomes(SENT, 1).await;
    assert_eq!((mails.len(), server.mails().len()), (1, 1));
    assert!(ada.type_code(&session, &code_of(&mails[0])).await.has_card_form());
    assert_eq!(world.count(READABLE).await, 0);
    world.end().await;
}

#[tokio::test]
async fn mail_that_one_process_owed_is_sent_by_another() {
    let server = MailServer::start().await;
    let options = WorldOptions { worker: false, settings: server.settings(), ..WorldOptions::default() };
    let mut world = World::with(options).await;
    let merchant = world.merchant().await;
    let session = session_for_ada(&merchant).await;
    let mut ada = world.payer();
    ada.ask_for_code(&session).await;
    world.advance(Duration::seconds(16));
    ada.open(&session).await.says("Your code is kept");
    world.add_replica_with(true).await;
    let mail = &server.wait_for(1).await[0];
    assert!(ada.type_code(&session, &code_of(mail)).await.has_card_form());
    world.end().await;
}

#[tokio::test]
async fn a_merchants_name_makes_no_header_and_no_markup() {
    let server = MailServer::start().await;
    let world = world_with(&server, 1).await;
    let merchant = world.merchant().await;
    let mut statement = String::new();
    let name = "Evil\r\nBcc: all@shop.example\r\n\r\n<b>\u{202e}x</b>";
    write!(statement, "update merchant set name = '{name}'").expect("a string");
    world.execute(&statement).await;
    let session = session_for_ada(&merchant).await;
    world.payer().ask_for_code(&session).await;
    let mail = &server.wait_for(1).await[0];
    assert_eq!(mail["recipients"], json!([TARGET]));
    assert_eq!((header(mail, "Bcc"), header(mail, "Cc")), (None, None));
    assert_eq!(header(mail, "Subject"), Some("Your code for Evil Bcc: all@shop.example <b>x</b>"));
    let html = mail["html"].as_str().expect("HTML");
    assert!(!html.contains("<b>") && html.contains("&#60;b&#62;"), "{html}");
    world.end().await;
}
