//! Cards that are kept: by whose word, after what, for whom, and how they are charged again, all of it
//! in a browser without JavaScript.

use reqwest::Method;
use serde_json::{Value, json};

use crate::customers_api::{customer, id};
use crate::merchant::{Merchant, ids};
use crate::payer::{Card, DECLINED_CARD, GOOD_CARD, Page, Payer};
use crate::three_d_secure::{ASKED_CARD, answer_the_bank, path_at};
use crate::world::World;

const SAVE: (&str, &str) = ("saved_payment_method_options[payment_method_save]", "enabled");
const KEEP: (&str, &str) = ("payment_intent_data[setup_future_usage]", "off_session");
const SHOW_LIMITED: (&str, &str) = ("saved_payment_method_options[allow_redisplay_filters][]", "limited");

/// One kept card as a page lists it.
#[derive(Debug, PartialEq, Eq)]
pub struct Listed {
    pub value: String,
    pub checked: bool,
    pub disabled: bool,
}

/// The kept cards that a page lists, "another card" left out.
pub fn listed(page: &Page) -> Vec<Listed> {
    let tags = page.html.split('<').filter(|tag| tag.starts_with("input type=\"radio\" name=\"payment_choice\""));
    let all = tags.map(|tag| Listed {
        value: tag.split("value=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default().to_owned(),
        checked: tag.contains(" checked"),
        disabled: tag.contains(" disabled"),
    });
    all.filter(|listed| listed.value != "new").collect()
}

/// A page's form with one further field.
pub fn with(mut form: Vec<(String, String)>, name: &str, value: &str) -> Vec<(String, String)> {
    form.push((name.to_owned(), value.to_owned()));
    form
}

/// The form of a page, sent with a kept card and empty card fields.
pub fn choose(page: &Page, value: &str) -> Vec<(String, String)> {
    let empty = Card { number: "", expiry: "", cvc: "" };
    let mut form = with(Payer::fill(page, empty), "payment_choice", value);
    form.retain(|(name, _)| name != "card_name");
    form
}

/// A session for a customer, with further fields.
pub async fn session_for(merchant: &Merchant, customer: &Value, fields: &[(&str, &str)]) -> Value {
    let mut all = vec![("customer", id(customer))];
    all.extend_from_slice(fields);
    merchant.session_with(&all).await
}

/// A customer with a card that he asked to have kept.
pub async fn customer_with_card(world: &World, merchant: &Merchant, card: Card) -> (Value, Value) {
    let customer = customer(merchant).await;
    let session = session_for(merchant, &customer, &[SAVE]).await;
    let mut payer = world.payer();
    let page = payer.open(&session).await;
    let form = with(Payer::fill(&page, card), "save_card", "yes");
    payer.submit(&page, &form).await.says("Payment complete");
    let methods = methods_of(merchant, &customer).await;
    assert_eq!(methods.len(), 1);
    (customer, methods[0].clone())
}

pub async fn methods_of(merchant: &Merchant, customer: &Value) -> Vec<Value> {
    let list = merchant.get(&format!("/v1/customers/{}/payment_methods", id(customer))).await.ok();
    assert_eq!(list["url"], format!("/v1/customers/{}/payment_methods", id(customer)));
    list["data"].as_array().expect("a list").clone()
}

#[tokio::test]
async fn a_payer_who_ticks_the_box_pays_with_one_click_the_next_time() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    let grace = customer(&merchant).await;
    let session = session_for(&merchant, &grace, &[SAVE]).await;
    let save =
        json!({"allow_redisplay_filters": null, "payment_method_remove": "disabled", "payment_method_save": "enabled"});
    assert_eq!(session["saved_payment_method_options"], save);
    let mut payer = world.payer();
    let page = payer.open(&session).await;
    page.says("Save my card for next time").says("The CVC is never kept.");
    let tick_box = page.html.split('<').find(|tag| tag.contains("name=\"save_card\"")).expect("a box");
    assert!(tick_box.contains("type=\"checkbox\"") && !tick_box.contains("checked"), "{tick_box}");
    assert_eq!(page.field("email").as_deref(), Some("g•••@navy.example"), "a link may be in anybody's hands");
    // Left as it is, nothing is kept.
    let form = Payer::fill(&page, GOOD_CARD);
    payer.submit(&page, &form).await.says("Payment complete");
    assert_eq!(world.count("select count(*) from payment_method").await, 0);

    let session = session_for(&merchant, &grace, &[SAVE]).await;
    let page = payer.open(&session).await;
    let form = with(Payer::fill(&page, GOOD_CARD), "save_card", "yes");
    payer.submit(&page, &form).await.says("Payment complete");
    let attached = receiver.wait_for("payment_method.attached").await;
    let methods = methods_of(&merchant, &grace).await;
    assert_eq!(ids(&json!({"data": methods})), [attached.object_id()]);
    let card = &methods[0]["card"];
    assert_eq!((&card["brand"], &card["last4"], &card["exp_year"]), (&"visa".into(), &"4242".into(), &2049.into()));
    assert_eq!((&methods[0]["customer"], &methods[0]["allow_redisplay"]), (&grace["id"], &"always".into()));
    let shown = methods[0].to_string();
    assert!(!shown.contains("4242424242") && !shown.contains("simcard_"), "{shown}");

    // The next session offers it, in any browser, and asks for nothing else.
    let next = session_for(&merchant, &grace, &[]).await;
    let mut elsewhere = world.payer();
    let page = elsewhere.open(&next).await;
    page.says("Visa ending in 4242 expires 12 / 49").says("Another card");
    assert!(!page.html.contains("Save my card"), "nobody asked for that");
    for private in ["grace@", "Hopper", "Lovelace", "ada@", id(&grace)] {
        assert!(!page.html.contains(private), "the page shows {private}");
    }
    let cards = listed(&page);
    let kept = Listed { value: attached.object_id().to_owned(), checked: true, disabled: false };
    assert_eq!(cards, [kept]);
    let paid = elsewhere.submit(&page, &choose(&page, &cards[0].value)).await;
    paid.says("Payment complete").says("Visa ending in 4242");
    let charges = merchant.get("/v1/charges?limit=1").await.ok();
    let charge = &charges["data"][0];
    assert_eq!((&charge["payment_method"], &charge["customer"]), (&methods[0]["id"], &grace["id"]));
    assert_eq!(charge["payment_method_details"]["card"]["fingerprint"], card["fingerprint"]);
    let checks = &charge["payment_method_details"]["card"]["checks"];
    assert_eq!(checks, &Value::Null, "nobody typed a security code");
    let details = merchant.read(&next).await["customer_details"].clone();
    assert_eq!((&details["email"], &details["name"]), (&"grace@navy.example".into(), &"Ada Lovelace".into()));
    assert_eq!(world.count("select count(*) from simulator.charge where state = 'captured'").await, 3);
    assert_eq!(methods_of(&merchant, &grace).await.len(), 1);
    world.end().await;
}

#[tokio::test]
async fn a_card_that_the_merchant_keeps_is_announced_and_shown_again_only_where_he_asks() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let grace = customer(&merchant).await;
    let session = session_for(&merchant, &grace, &[KEEP]).await;
    let mut payer = world.payer();
    let page = payer.open(&session).await;
    page.says("Corner Coffee keeps this card and may charge it later without asking again");
    assert!(!page.html.contains("name=\"save_card\""), "there is nothing to choose");
    let form = Payer::fill(&page, GOOD_CARD);
    payer.submit(&page, &form).await.says("Payment complete");
    let payment = merchant.read(&session).await["payment_intent"].as_str().expect("a payment").to_owned();
    let payment = merchant.get(&format!("/v1/payment_intents/{payment}")).await.ok();
    let methods = methods_of(&merchant, &grace).await;
    assert_eq!(
        (&payment["setup_future_usage"], &payment["payment_method"]),
        (&"off_session".into(), &methods[0]["id"])
    );
    assert_eq!(methods[0]["allow_redisplay"], "limited");

    for (fields, count) in [(vec![], 0), (vec![SHOW_LIMITED], 1)] {
        let next = session_for(&merchant, &grace, &fields).await;
        assert_eq!(listed(&payer.open(&next).await).len(), count, "{fields:?}");
    }
    // A form that chooses what the page did not offer chooses nothing.
    let next = session_for(&merchant, &grace, &[]).await;
    let page = payer.open(&next).await;
    let refused = payer.submit(&page, &choose(&page, id(&methods[0]))).await;
    refused.says("This card cannot be used any more");
    // What the payer agreed to elsewhere, the merchant notes.
    let path = format!("/v1/payment_methods/{}", id(&methods[0]));
    let noted = merchant.post(&path, &[("allow_redisplay", "always"), ("metadata[a]", "1")]).await.ok();
    assert_eq!((&noted["allow_redisplay"], &noted["metadata"]["a"]), (&"always".into(), &"1".into()));
    assert_eq!(listed(&payer.open(&next).await).len(), 1);
    world.end().await;
}

#[tokio::test]
async fn a_decline_keeps_nothing_and_the_payers_word_holds_for_his_own_try_only() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let grace = customer(&merchant).await;
    let session = session_for(&merchant, &grace, &[SAVE]).await;
    let mut payer = world.payer();
    for (card, words) in [
        (DECLINED_CARD, "The payment did not go through"),
        (Card { number: "4000 0084 0000 1629", ..GOOD_CARD }, "Your bank wants to know that it is you"),
    ] {
        let page = payer.open(&session).await;
        let form = with(Payer::fill(&page, card), "save_card", "yes");
        let answer = payer.submit(&page, &form).await;
        answer.says(words);
        if card.number != DECLINED_CARD.number {
            assert_eq!(world.count("select count(*) from payment_method where state = 'pending'").await, 1);
            assert_eq!(methods_of(&merchant, &grace).await.len(), 0, "nobody sees what is pending");
            let hop = answer_the_bank(&answer, "approve").await;
            payer.visit(&path_at(&hop, world.base())).await.says("The payment did not go through");
        }
        assert_eq!(world.count("select count(*) from payment_method").await, 0);
    }
    payer.pay(&session, GOOD_CARD).await.says("Payment complete");
    assert_eq!(world.count("select count(*) from payment_method").await, 0, "this time the box was not ticked");
    // Where nothing is offered, a form that ticks a box of its own keeps nothing.
    let plain = session_for(&merchant, &grace, &[]).await;
    let page = payer.open(&plain).await;
    payer.submit(&page, &with(Payer::fill(&page, GOOD_CARD), "save_card", "yes")).await.says("Payment complete");
    assert_eq!(world.count("select count(*) from payment_method").await, 0);
    world.end().await;
}

#[tokio::test]
async fn the_same_card_is_kept_once_with_its_newest_expiry() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    let (grace, first) = customer_with_card(&world, &merchant, GOOD_CARD).await;
    let session = session_for(&merchant, &grace, &[KEEP]).await;
    let page = world.payer().pay(&session, Card { expiry: "01 / 50", ..GOOD_CARD }).await;
    page.says("Payment complete");
    let updated = receiver.wait_for("payment_method.updated").await;
    assert_eq!(updated.object_id(), id(&first));
    let methods = methods_of(&merchant, &grace).await;
    assert_eq!(methods.len(), 1);
    assert_eq!((&methods[0]["id"], &methods[0]["card"]["exp_year"]), (&first["id"], &2050.into()));
    assert_eq!(methods[0]["allow_redisplay"], "always", "what the payer agreed to before still holds");
    let charges = merchant.get("/v1/charges?limit=1").await.ok();
    assert_eq!(charges["data"][0]["payment_method"], first["id"]);
    // Another card of the same payer is another.
    let session = session_for(&merchant, &grace, &[KEEP]).await;
    world.payer().pay(&session, Card { number: "5555 5555 5555 4444", ..GOOD_CARD }).await.says("Payment complete");
    assert_eq!(methods_of(&merchant, &grace).await.len(), 2);
    world.end().await;
}

#[tokio::test]
async fn a_card_that_is_saved_in_two_sessions_at_once_is_kept_once() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let grace = customer(&merchant).await;
    let pay = async || {
        let session = session_for(&merchant, &grace, &[KEEP]).await;
        world.payer().pay(&session, GOOD_CARD).await.says("Payment complete");
    };
    tokio::join!(pay(), pay(), pay(), pay());
    let methods = methods_of(&merchant, &grace).await;
    assert_eq!(methods.len(), 1);
    let charges = merchant.get(&format!("/v1/charges?customer={}", id(&grace))).await.ok();
    let used: Vec<&Value> =
        charges["data"].as_array().expect("a list").iter().map(|one| &one["payment_method"]).collect();
    assert_eq!(used, [&methods[0]["id"]; 4], "each charge names the card that is kept");
    assert_eq!(world.count("select count(*) from payment_method where state = 'pending'").await, 0);
    world.end().await;
}

#[tokio::test]
async fn a_detached_card_can_neither_be_seen_nor_charged() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    let (grace, method) = customer_with_card(&world, &merchant, GOOD_CARD).await;
    let path = format!("/v1/payment_methods/{}", id(&method));
    assert_eq!(merchant.get(&path).await.ok(), method);
    let by_customer = merchant.get(&format!("/v1/payment_methods?customer={}&type=card", id(&grace))).await.ok();
    assert_eq!(by_customer["data"], json!([method]));
    let open = session_for(&merchant, &grace, &[]).await;
    let mut payer = world.payer();
    let page = payer.open(&open).await;

    let detached = merchant.post(&format!("{path}/detach"), &[]).await.ok();
    assert_eq!((&detached["customer"], &detached["billing_details"]["name"]), (&Value::Null, &Value::Null));
    assert_eq!(receiver.wait_for("payment_method.detached").await.object_id(), id(&method));
    assert_eq!(merchant.get(&path).await.ok()["customer"], Value::Null);
    assert_eq!(methods_of(&merchant, &grace).await.len(), 0);
    let row = world.text("select to_jsonb(m)::text from payment_method m where id = $1", id(&method)).await;
    assert!(!row.contains("simcard_") && !row.contains("Lovelace"), "{row}");
    merchant.post(&format!("{path}/detach"), &[]).await.refused_with(400, "payment_method_not_attached", "");
    merchant.post(&path, &[("metadata[a]", "1")]).await.refused_with(400, "payment_method_not_attached", "");

    // The page that was open before.
    let refused = payer.submit(&page, &choose(&page, id(&method))).await;
    refused.says("This card cannot be used any more");
    assert!(refused.has_card_form() && listed(&refused).is_empty());
    assert_eq!(world.count("select count(*) from charge").await, 1);
    world.end().await;
}

#[tokio::test]
async fn nobody_else_sees_or_charges_a_kept_card() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let (_, method) = customer_with_card(&world, &merchant, GOOD_CARD).await;
    let stranger = world.merchant().await;
    let live = world.another_key(&merchant, true, |_| ()).await;
    let path = format!("/v1/payment_methods/{}", id(&method));
    for intruder in [&stranger, &live] {
        intruder.get(&path).await.refused_with(404, "resource_missing", "id");
        intruder.post(&path, &[]).await.refused_with(404, "resource_missing", "id");
        intruder.post(&format!("{path}/detach"), &[]).await.refused_with(404, "resource_missing", "id");
        let customer = method["customer"].as_str().expect("a customer");
        let list = intruder.get(&format!("/v1/customers/{customer}/payment_methods")).await;
        list.refused_with(404, "resource_missing", "id");
        let list = intruder.get(&format!("/v1/payment_methods?customer={customer}")).await;
        list.refused_with(400, "resource_missing", "customer");
    }
    merchant.get("/v1/payment_methods").await.refused_with(400, "parameter_missing", "customer");
    // Another customer's page, a stranger's, and one without a customer: the id alone opens nothing.
    let other = session_for(&merchant, &customer(&merchant).await, &[]).await;
    let theirs = session_for(&stranger, &customer(&stranger).await, &[]).await;
    for session in [other, theirs, merchant.session().await] {
        let mut payer = world.payer();
        let page = payer.open(&session).await;
        assert!(listed(&page).is_empty());
        payer.submit(&page, &choose(&page, id(&method))).await.says("This card cannot be used any more");
    }
    assert_eq!(world.count("select count(*) from charge").await, 1);
    world.end().await;
}

#[tokio::test]
async fn a_deleted_customer_takes_his_cards_along_and_his_open_session_stays_payable() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    let (grace, method) = customer_with_card(&world, &merchant, GOOD_CARD).await;
    let open = session_for(&merchant, &grace, &[KEEP]).await;
    merchant.delete(&format!("/v1/customers/{}", id(&grace))).await.ok();
    receiver.wait_for("customer.deleted").await;
    assert_eq!(receiver.wait_for("payment_method.detached").await.object_id(), id(&method));
    let list = merchant.get(&format!("/v1/customers/{}/payment_methods", id(&grace))).await;
    list.refused_with(404, "resource_missing", "id");
    let mut payer = world.payer();
    let page = payer.open(&open).await;
    assert!(listed(&page).is_empty() && page.field("email").as_deref() == Some(""));
    let form = Payer::fill(&page, GOOD_CARD);
    payer.submit(&page, &form).await.says("Payment complete");
    assert_eq!(world.count("select count(*) from payment_method where state <> 'detached'").await, 0);
    assert_eq!(world.count("select count(*) from payment_method where provider_token is not null").await, 0);
    world.end().await;
}

#[tokio::test]
async fn a_card_that_has_expired_meanwhile_is_shown_and_not_taken() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let (grace, method) = customer_with_card(&world, &merchant, GOOD_CARD).await;
    world.execute("update payment_method set card_exp_year = 2020").await;
    let session = session_for(&merchant, &grace, &[]).await;
    let mut payer = world.payer();
    let page = payer.open(&session).await;
    page.says("Visa ending in 4242 expired 12 / 20");
    assert_eq!(listed(&page), [Listed { value: id(&method).to_owned(), checked: false, disabled: true }]);
    payer.submit(&page, &choose(&page, id(&method))).await.says("This card cannot be used any more");
    let page = payer.open(&session).await;
    let form = with(Payer::fill(&page, GOOD_CARD), "payment_choice", "new");
    payer.submit(&page, &form).await.says("Payment complete");
    world.end().await;
}

#[tokio::test]
async fn a_kept_card_whose_bank_asks_is_asked_about_again_and_its_form_counts_once() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let grace = customer(&merchant).await;
    let mut payer = world.payer();
    let session = session_for(&merchant, &grace, &[SAVE]).await;
    let page = payer.open(&session).await;
    let asked = payer.submit(&page, &with(Payer::fill(&page, ASKED_CARD), "save_card", "yes")).await;
    let hop = answer_the_bank(&asked, "approve").await;
    payer.visit(&path_at(&hop, world.base())).await.says("Payment complete");
    let methods = methods_of(&merchant, &grace).await;
    assert_eq!(methods[0]["card"]["last4"], "3220");

    let next = session_for(&merchant, &grace, &[]).await;
    let page = payer.open(&next).await;
    let form = choose(&page, id(&methods[0]));
    let asked = payer.submit(&page, &form).await;
    asked.says("Your bank wants to know that it is you");
    // The same form once more is the same try.
    let path = format!("{}/pay", page.path);
    payer.send(Method::POST, &path, Some(&Payer::filled(&form))).await;
    let hop = answer_the_bank(&asked, "approve").await;
    payer.visit(&path_at(&hop, world.base())).await.says("Payment complete");
    let charges = merchant.get("/v1/charges").await.ok();
    assert_eq!(charges["data"].as_array().map(Vec::len), Some(2));
    assert_eq!(charges["data"][0]["payment_method_details"]["card"]["three_d_secure"]["result"], "authenticated");
    assert_eq!(methods_of(&merchant, &grace).await.len(), 1);
    world.end().await;
}

#[tokio::test]
async fn a_paid_session_can_make_the_customer_and_keep_his_card_at_once() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let session = merchant.session_with(&[("customer_creation", "always"), KEEP]).await;
    world.payer().pay(&session, GOOD_CARD).await.says("Payment complete");
    let made = json!({ "id": merchant.read(&session).await["customer"] });
    let methods = methods_of(&merchant, &made).await;
    assert_eq!((methods.len(), &methods[0]["card"]["last4"]), (1, &"4242".into()));
    world.end().await;
}
