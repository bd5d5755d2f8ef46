//! The three modes of an escrow, walked whole through their pages by two payers.

use crate::deal::{BUYER, GIVEN_BACK, HELD, MERCHANTS, SELLER, SELLERS, Story, TAKEN, UNBALANCED};
use crate::payer::{DECLINED_CARD, Page};
use crate::world::World;

#[tokio::test]
async fn in_instant_mode_delivery_completes_what_was_paid() {
    let world = World::start().await;
    let mut story = Story::begin(&world, "instant").await;
    let receiver = world.receiver(&story.merchant).await;
    let session = story.session("accept_pay", BUYER).await;
    assert_eq!((&session["mode"], &session["action"]), (&"escrow".into(), &"accept_pay".into()));
    assert_eq!(session["escrow"], story.id.as_str());
    assert_eq!(session["target_user_email"], BUYER);
    let form = story.buyer.open(&session).await;
    form.says("Accept and pay")
        .says("A canoe")
        .says("€250.00")
        .says("The money is held until")
        .says("This cannot be undone");
    let page = story.buyer.pay(&session, crate::payer::GOOD_CARD).await;
    page.says("Payment complete").says("€250.00: paid, held, and not yet released");
    let id = session["id"].as_str().expect("an id");
    let back = format!("https://shop.example/deal?session_id={id}&status=completed");
    assert_eq!(page.refresh_url().as_deref(), Some(back.as_str()));
    assert_eq!(story.status().await, "paid");
    assert_eq!((world.count(HELD).await, world.count(TAKEN).await), (25_000, 25_000));
    let read = story.merchant.read(&session).await;
    assert_eq!((&read["state"], &read["payment_status"]), (&"completed".into(), &"paid".into()));
    assert!(read["completed_at"].is_i64());

    let done = story.call("deliver", &[("note", "On your doorstep")]).await.ok();
    assert_eq!((&done["status"], &done["settlement"]["merchant"]), (&"completed".into(), &25_000.into()));
    assert_eq!((world.count(HELD).await, world.count(MERCHANTS).await), (0, 25_000));
    for kind in ["escrow.created", "escrow.paid", "escrow.delivered", "escrow.released", "escrow.completed"] {
        if kind != "escrow.created" {
            assert_eq!(receiver.wait_for(kind).await.object_id(), story.id);
        }
    }
    assert_eq!(world.count(UNBALANCED).await, 0);
    world.end().await;
}

#[tokio::test]
async fn a_link_shows_and_does_nothing_before_its_user_has_typed_the_code_from_his_mail() {
    let world = World::start().await;
    let story = Story::begin(&world, "standard").await;
    let session = story.session("sign_contract", SELLER).await;
    let mut stranger = world.payer();
    let page = stranger.open(&session).await;
    assert!(
        !page.html.contains("canoe") && !page.html.contains(SELLER) && !page.html.contains("250"),
        "{}",
        page.text()
    );
    let signed = [("name", "Eve Stranger"), ("consent", "yes")];
    crate::deal::press(&mut stranger, &session, &page, &signed).await;
    assert_eq!(story.merchant.read(&session).await["state"], "pending");
    assert!(story.escrow().await["seller_signed_at"].is_null());

    let mut seller = world.payer();
    seller.ask_for_code(&session).await;
    let code = crate::payer_identity::newest_code(&world).await;
    let page = seller.type_code(&session, &code).await;
    page.says("Sign the contract").says("It floats.");
    let signed = [("name", "Sam Seller"), ("consent", "yes")];
    crate::deal::press(&mut seller, &session, &page, &signed).await.says("Contract signed");
    let contract = story.merchant.get(&format!("/v1/escrows/{}/contract", story.id)).await.ok();
    let signature = &contract["signatures"][0];
    assert!(signature["email_proven_at"].as_str() <= signature["signed_at"].as_str(), "{signature}");
    assert!(signature["email_proven_at"].is_string());
    let end = stranger.open(&session).await;
    end.says("Contract signed");
    assert!(!end.html.contains("canoe"), "{}", end.text());
    world.end().await;
}

#[tokio::test]
async fn in_standard_mode_both_sign_then_the_buyer_pays_inspects_and_releases() {
    let world = World::start().await;
    let mut story = Story::begin(&world, "standard").await;
    let receiver = world.receiver(&story.merchant).await;
    story.ask("accept_pay", BUYER).await.refused_with(400, "escrow_contract_not_signed", "action");
    let session = story.session("sign_contract", SELLER).await;
    let page = story.seller.open(&session).await;
    let sha256 = story.escrow().await["contract_sha256"].as_str().expect("a hash").to_owned();
    page.says("Sign the contract").says("It floats.").says(&sha256).says("cannot be taken back");
    story.press(&session, SELLER, &[("name", ""), ("consent", "")]).await.says("2 things need your attention");
    // Neither a name that nobody sees nor one that reads backwards is anybody's.
    for name in ["\u{200b}\u{200b}\u{200b}", "Sam\u{202e}relleS", "12"] {
        story.press(&session, SELLER, &[("name", name), ("consent", "yes")]).await.says("Enter your full name");
    }
    assert_eq!(story.merchant.read(&session).await["state"], "pending");
    let signed = [("name", "Sam Seller"), ("consent", "yes")];
    story.press(&session, SELLER, &signed).await.says("Contract signed").says("as soon as he has signed");
    assert_eq!(story.merchant.read(&session).await["payment_status"], "no_payment_required");
    story.ask("sign_contract", SELLER).await.refused(400);
    story.sign(BUYER, "Bea Buyer").await.says("Both sides have signed");
    let event = receiver.wait_for("contract.signed").await;
    assert_eq!(event.object_id(), story.id);

    story.pay_with(DECLINED_CARD).await.says("did not go through");
    assert_eq!(story.status().await, "pending");
    story.pay().await;
    story.ask("complete", BUYER).await.refused_with(400, "escrow_action_not_allowed_in_state", "action");
    story.call("deliver", &[("tracking_reference", "TRACK-7")]).await.ok();
    story.call("reject_delivery", &[("reason", "It leaks.")]).await.ok();
    assert_eq!(story.status().await, "paid");
    let delivered = story.call("deliver", &[("tracking_reference", "TRACK-8")]).await.ok();
    assert!(delivered["completion_deadline"].is_i64());
    let page = story.act("complete", BUYER, &[]).await;
    page.says("The deal is done").says("€250.00 was released");
    let done = story.escrow().await;
    assert_eq!(
        done["settlement"],
        serde_json::json!({"buyer": 0, "seller": 24_000, "merchant": 1_000, "lost_at_bank": 0})
    );
    assert_eq!((world.count(HELD).await, world.count(SELLERS).await), (0, 24_000));
    assert_eq!((world.count(MERCHANTS).await, world.count(UNBALANCED).await), (1_000, 0));

    let contract = story.merchant.get(&format!("/v1/escrows/{}/contract", story.id)).await.ok();
    assert_eq!((&contract["is_signed_by_both"], &contract["sha256"]), (&true.into(), &sha256.into()));
    let by_buyer = &contract["signatures"][1];
    assert_eq!((&by_buyer["name"], &by_buyer["party"]), (&"Bea Buyer".into(), &"buyer".into()));
    assert_eq!((&by_buyer["ip"], &by_buyer["email"]), (&"127.0.0.1".into(), &BUYER.into()));
    let path = format!("/v1/escrows/{}/contract", story.id);
    let request = story.merchant.request(reqwest::Method::GET, &path).header("Accept", "text/html");
    let page = story.merchant.send(request).await;
    assert!(page.header("content-type").is_some_and(|kind| kind.starts_with("text/html")));
    assert!(page.text.contains("It floats.") && page.text.contains("Sam Seller"), "{}", page.text);
    world.end().await;
}

#[tokio::test]
async fn in_quick_mode_a_cancellation_is_asked_for_rejected_asked_for_again_and_accepted() {
    let world = World::start().await;
    let mut story = Story::delivered(&world, "quick").await;
    let deadline = story.escrow().await["completion_deadline"].as_i64().expect("a deadline");
    let why = [("text", "I bought a kayak.")];
    story.act("request_cancellation", BUYER, &[]).await.says("Say why.");
    story.act("request_cancellation", BUYER, &why).await.says("Cancellation asked for");
    let asked = story.escrow().await;
    assert_eq!((&asked["status"], &asked["previous_status"]), (&"cancellation_requested".into(), &"delivered".into()));
    assert!(asked["completion_deadline"].is_null());
    world.advance(chrono::Duration::days(30));
    let session = story.session("reject_cancellation", SELLER).await;
    story.seller.open(&session).await.says("I bought a kayak.");
    story.press(&session, SELLER, &[("text", "A deal is a deal.")]).await.says("Cancellation rejected");
    let resumed = story.escrow().await["completion_deadline"].as_i64().expect("a deadline");
    assert!(resumed - deadline >= 30 * 86_400, "the clock ran on: {deadline} {resumed}");
    story.act("request_cancellation", BUYER, &why).await.says("Cancellation asked for");
    story.act("accept_cancellation", SELLER, &[]).await.says("Cancellation accepted").says("€250.00 went back");
    assert_eq!(story.status().await, "cancelled");
    assert_eq!((world.count(HELD).await, world.count(GIVEN_BACK).await), (0, 25_000));
    assert_eq!((world.count(SELLERS).await, world.count(UNBALANCED).await), (0, 0));
    world.end().await;
}

#[tokio::test]
async fn a_seller_who_gives_up_pays_back_at_once_and_a_payer_who_leaves_does_nothing() {
    let world = World::start().await;
    let mut story = Story::paid(&world, "quick").await;
    let session = story.session("cancel_escrow", SELLER).await;
    let page = story.seller.cancel(&session).await;
    page.says("You left without doing it");
    let id = session["id"].as_str().expect("an id");
    let back = format!("https://shop.example/deal?session_id={id}&status=cancelled");
    assert_eq!(page.refresh_url().as_deref(), Some(back.as_str()));
    assert_eq!(story.status().await, "paid");
    story.act("cancel_escrow", SELLER, &[]).await.says("Deal cancelled").says("went back");
    assert_eq!((story.status().await.as_str(), world.count(GIVEN_BACK).await), ("cancelled", 25_000));
    world.end().await;
}

#[tokio::test]
async fn an_escrow_completes_by_itself_when_the_time_for_inspection_is_over() {
    let world = World::start().await;
    let story = Story::delivered(&world, "standard").await;
    let receiver = world.receiver(&story.merchant).await;
    world.advance(chrono::Duration::days(7) + chrono::Duration::seconds(1));
    assert_eq!(receiver.wait_for("escrow.completed").await.object_id(), story.id);
    assert_eq!((world.count(HELD).await, world.count(SELLERS).await), (0, 24_000));
    story.ask("dispute", BUYER).await.refused_with(400, "escrow_action_not_allowed_in_state", "action");
    world.end().await;
}

/// Fails unless the words stand on the page in this order.
fn says_in_order(page: &Page, words: &[&str]) {
    let text = page.text();
    let mut rest = text.as_str();
    for word in words {
        let Some((_, behind)) = rest.split_once(word) else { panic!("no “{word}” in its place: {text}") };
        rest = behind;
    }
}

#[tokio::test]
async fn an_acts_page_says_what_the_deal_is_where_it_stands_and_what_cannot_be_undone() {
    let world = World::start().await;
    let mut story = Story::begin(&world, "standard").await;
    // The buyer first: the timeline tells it as it was.
    story.sign(BUYER, "Bea Buyer").await.says("as soon as the seller has signed");
    world.advance(chrono::Duration::minutes(1));
    story.sign(SELLER, "Sam Seller").await.says("Both sides have signed");
    let session = story.session("accept_pay", BUYER).await;
    let other = story.session("accept_pay", BUYER).await;
    let page = story.buyer.open(&session).await;
    for words in ["An escrow", "A canoe", "€250.00", "€10.00", "3 days", "7 days", BUYER, SELLER, "not paid yet"] {
        page.says(words);
    }
    page.says("Read the contract").says("It floats.").says("This cannot be undone").says("Leave without paying");
    says_in_order(&page, &["Opened", "Signed by the buyer", "Signed by the seller", "Paid", "Delivered", "Completed"]);
    let path = story.buyer.path_of(&session);
    let asked = story.buyer.visit(&format!("{path}/cancel")).await;
    asked.says("Leave, and change nothing?").says("nothing was paid").says("The deal stays as it is");
    story.buyer.pay(&session, crate::payer::GOOD_CARD).await.says("Payment complete");
    let late = story.buyer.open(&other).await;
    late.says("This is not possible any more").says("It is now: paid").says("Close this link");
    world.advance(chrono::Duration::minutes(1));
    story.call("deliver", &[]).await.ok();
    world.advance(chrono::Duration::minutes(1));
    story.call("reject_delivery", &[("reason", "It leaks.")]).await.ok();
    let session = story.session("request_cancellation", BUYER).await;
    let page = story.buyer.open(&session).await;
    page.says("It leaks.").says("You cannot take the request back");
    says_in_order(&page, &["Paid, the money is held", "Delivered", "Delivery not accepted", "Delivered", "Completed"]);
    world.end().await;
}
