//! Payers in Chromium whose banks ask them: they approve, fail, give up, close the window, come back in
//! another browser, with JavaScript and without. What is seen stands in `tests/sdk/bank.mjs`.

use serde_json::{Map, json};

use crate::browser::Scene;
use crate::payer::GOOD_CARD;
use crate::three_d_secure::ASKED_CARD;

/// What payers do at the bank, and how their sessions stand right after.
const WAYS: [(&str, &str); 6] = [
    ("approve", "completed"),
    ("fail", "completed"),
    ("cancel", "completed"),
    ("stay", "processing"),
    ("leave", "processing"),
    ("elsewhere", "completed"),
];

const TAKEN: &str = "select count(*) from simulator.charge where state = 'captured'";

async fn walk(java_script: bool) {
    let scene = Scene::start().await;
    let receiver = scene.world.receiver(&scene.merchant).await;
    let (mut sessions, mut links) = (Vec::new(), Map::new());
    for (way, _) in WAYS {
        let session = scene.session().await;
        links.insert(way.to_owned(), json!({ "url": session["url"], "id": session["id"] }));
        sessions.push(session);
    }
    let digits = |card: &str| card.replace(' ', "");
    let further = json!({
        "sessions": links,
        "bankOrigin": scene.world.replicas[0].bank,
        "card": digits(ASKED_CARD.number),
        "goodCard": digits(GOOD_CARD.number),
    });
    let facts = scene.tell("authenticate", &sessions[0], java_script, further).await;
    assert!(facts["waiting"].as_str().is_some_and(|words| words.contains("No money was taken yet")), "{facts}");
    for (session, (way, state)) in sessions.iter().zip(WAYS) {
        let read = scene.merchant.read(session).await;
        assert_eq!(read["state"], state, "{way}");
        let charges = "select string_agg(state, ' ' order by created_at, id) from charge where session_id = $1";
        let charges = scene.world.text(charges, session["id"].as_str().expect("an id")).await;
        let expected = match way {
            "fail" | "cancel" => "failed succeeded",
            "stay" | "leave" => "requires_action",
            _ => "succeeded",
        };
        assert_eq!(charges, expected, "{way}");
    }
    // Who never came back has paid or has not, as his bank says.
    scene.world.advance(chrono::Duration::minutes(2));
    let id_of = |place: usize| sessions[place]["id"].as_str().expect("an id");
    let completed = "select count(*) from checkout_session where state = 'completed'";
    scene.world.count_becomes(completed, 5).await;
    scene.world.advance(chrono::Duration::minutes(45));
    let expired = receiver.wait_for("checkout.session.expired").await;
    assert_eq!(expired.object_id(), id_of(4));
    assert_eq!(scene.merchant.read(&sessions[3]).await["payment_status"], "paid");
    assert_eq!(scene.world.count(TAKEN).await, 5);
    scene.world.books_are_right().await;
    scene.end().await;
}

#[tokio::test]
async fn payers_whose_banks_ask_them_have_paid_or_have_not_whatever_they_do() {
    walk(true).await;
}

#[tokio::test]
async fn payers_whose_banks_ask_them_need_no_java_script() {
    walk(false).await;
}
