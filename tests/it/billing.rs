//! Where the bill goes: asked for, judged, sent to the bank, weighed by the rules, and told to the merchant.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::fraud::{charge_of, world_with};
use crate::merchant::Merchant;
use crate::payer::{Card, DECLINED_CARD, GOOD_CARD, Payer};
use crate::saved_cards::{choose, listed, methods_of, session_for, with};
use crate::storefront::{Storefront, confirmation, confirmation_with, token_of};
use crate::world::World;

const NOTHING_SENT: &str = "select count(*) from simulator.charge";
const REQUIRED: (&str, &str) = ("billing_address_collection", "required");
const SAVE: (&str, &str) = ("saved_payment_method_options[payment_method_save]", "enabled");
const ASKED_IF_TOLD: Card = Card { number: "4000 0000 0000 3055", ..GOOD_CARD };

/// The simulator's cards are American.
fn address(country: &str) -> Value {
    json!({ "line1": "1 Main Street", "line2": "Flat 2", "city": "Springfield", "postal_code": "97477", "country": country })
}

fn at(country: &str) -> [(&'static str, Value); 1] {
    [("/billing_details", json!({ "address": address(country) }))]
}

fn stored(country: &str) -> Value {
    let mut stored = address(country);
    stored["state"] = Value::Null;
    stored
}

async fn confirmed(merchant: &Merchant, card: Card, changes: &[(&str, Value)]) -> (Value, Value) {
    let session = merchant.session().await;
    let body = confirmation_with(card, "press", changes);
    let paid = Storefront::new(merchant).confirm(&token_of(&session), &body).await.ok();
    assert_eq!(paid["state"], "completed", "{paid}");
    let charge = charge_of(merchant, &session).await;
    (session, charge)
}

#[tokio::test]
async fn a_card_of_another_country_than_its_bill_is_stopped_where_a_rule_says_so() {
    let world = world_with("[fraud.rules.country_mismatch]\naction = 'block'", 1).await;
    let merchant = world.merchant().await;
    let (shop, session) = (Storefront::new(&merchant), merchant.session().await);
    let token = token_of(&session);
    shop.confirm(&token, &confirmation_with(GOOD_CARD, "abroad", &at("de"))).await.refused_with(
        402,
        "card_declined",
        "",
    );
    let charge = charge_of(&merchant, &session).await;
    assert_eq!(
        (&charge["outcome"]["rule"], &charge["outcome"]["type"], &charge["outcome"]["network_status"]),
        (&"country_mismatch".into(), &"blocked".into(), &"not_sent_to_network".into())
    );
    assert_eq!(world.count(NOTHING_SENT).await, 0);
    // The same country, or none that is known, is no mismatch.
    let paid = shop.confirm(&token, &confirmation_with(GOOD_CARD, "at home", &at("us"))).await.ok();
    assert_eq!(paid["state"], "completed");
    assert_eq!(charge_of(&merchant, &session).await["outcome"]["rule"], Value::Null);
    confirmed(&merchant, GOOD_CARD, &[]).await;
    // The hosted page asks the same question and gets the same answer.
    let session = merchant.session_with(&[REQUIRED]).await;
    let mut payer = world.payer();
    let page = payer.open(&session).await;
    let abroad = payer.submit(&page, &billed(Payer::fill(&page, GOOD_CARD), "FR")).await;
    abroad.says("Your card was declined. You were not charged.");
    assert_eq!(charge_of(&merchant, &session).await["outcome"]["rule"], "country_mismatch");
    world.end().await;
}

#[tokio::test]
async fn a_card_of_another_country_than_its_bill_is_challenged_where_a_rule_says_so() {
    let world = world_with("[fraud.rules.country_mismatch]\naction = 'challenge'", 1).await;
    let merchant = world.merchant().await;
    let (shop, session) = (Storefront::new(&merchant), merchant.session().await);
    let body = confirmation_with(ASKED_IF_TOLD, "abroad", &at("DE"));
    let asked = shop.confirm(&token_of(&session), &body).await.ok();
    assert_eq!(asked["next_action"]["type"], "redirect_to_url", "{asked}");
    let (_, charge) = confirmed(&merchant, ASKED_IF_TOLD, &at("US")).await;
    assert_eq!(charge["outcome"]["rule"], Value::Null);
    world.end().await;
}

#[tokio::test]
async fn what_the_bank_says_of_an_address_reaches_the_merchant_and_the_rules() {
    let world = world_with("[fraud.rules.postcode_fails]\naction = 'block'", 1).await;
    let merchant = world.merchant().await;
    let checks = |charge: &Value| {
        let checks = &charge["payment_method_details"]["card"]["checks"];
        (checks["address_line1_check"].clone(), checks["address_postal_code_check"].clone())
    };
    let (_, charge) = confirmed(&merchant, GOOD_CARD, &at("US")).await;
    assert_eq!(checks(&charge), ("pass".into(), "pass".into()));
    let only_postcode = [("/billing_details", json!({ "address": { "country": "US", "postal_code": "97477" } }))];
    let (_, charge) = confirmed(&merchant, GOOD_CARD, &only_postcode).await;
    assert_eq!(checks(&charge), (Value::Null, "pass".into()));
    let (_, charge) = confirmed(&merchant, GOOD_CARD, &[]).await;
    assert_eq!(checks(&charge), (Value::Null, Value::Null));
    for (number, line1) in [("4000000000000036", "pass"), ("4000000000000010", "fail")] {
        let (shop, session) = (Storefront::new(&merchant), merchant.session().await);
        let body = confirmation_with(Card { number, ..GOOD_CARD }, "press", &at("US"));
        shop.confirm(&token_of(&session), &body).await.refused_with(402, "card_declined", "");
        let charge = charge_of(&merchant, &session).await;
        assert_eq!(checks(&charge), (line1.into(), "fail".into()), "{number}");
        assert_eq!(charge["outcome"]["rule"], "postcode_fails", "{number}");
        assert_eq!(charge["outcome"]["network_status"], "reversed_after_approval", "{number}");
    }
    world.end().await;
}

#[tokio::test]
async fn a_charge_and_its_session_say_who_paid_and_where_the_bill_goes() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    let (session, charge) = confirmed(&merchant, GOOD_CARD, &at("us")).await;
    let expected = |address: Value| json!({ "address": address, "email": "ada@example.com", "name": "Ada Lovelace", "phone": null, "tax_id": null });
    assert_eq!(charge["billing_details"], expected(stored("US")));
    assert_eq!(merchant.read(&session).await["customer_details"]["address"], stored("US"));
    let told = receiver.wait_for("charge.succeeded").await;
    assert_eq!(told.json["data"]["object"]["billing_details"], expected(stored("US")));
    // Without an address as well, and of a try that failed.
    let plain = merchant.session().await;
    assert_eq!(plain["billing_address_collection"], Value::Null);
    world.payer().pay(&plain, DECLINED_CARD).await.says("Your card was declined");
    assert_eq!(charge_of(&merchant, &plain).await["billing_details"], expected(Value::Null));
    assert_eq!(merchant.read(&plain).await["customer_details"]["address"], Value::Null);
    // Stripe's names for payer and name do as well, and two names that differ do not.
    let changes = [
        ("/payer", Value::Null),
        ("/billing_details", json!({ "email": "grace@example.com", "name": "Grace Hopper", "address": address("GB") })),
    ];
    let (_, charge) = confirmed(&merchant, GOOD_CARD, &changes).await;
    assert_eq!(
        (&charge["billing_details"]["email"], &charge["billing_details"]["name"]),
        (&"grace@example.com".into(), &"Grace Hopper".into())
    );
    world.end().await;
}

#[tokio::test]
async fn what_is_wrong_with_billing_details_is_named_and_nothing_is_charged() {
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    let shop = Storefront::new(&merchant);
    let (plain, asking) = (merchant.session().await, merchant.session_with(&[REQUIRED]).await);
    assert_eq!(asking["billing_address_collection"], "required");
    assert_eq!(shop.look(&token_of(&asking)).await.ok()["billing_address_collection"], "required");
    let path = |part: &str| format!("billing_details[address][{part}]");
    let long = "x".repeat(201);
    for (part, value, code) in [
        ("country", "UK", "country_code_invalid"),
        ("country", "Germany", "country_code_invalid"),
        ("line1", long.as_str(), "parameter_invalid_string"),
        ("line2", "a\u{7}b", "parameter_control_character"),
        ("line2", "a\nb", "parameter_invalid_string"),
        ("postal_code", "123456789012345678901", "parameter_invalid_string"),
        ("city", "4242 4242 4242 4242", "parameter_invalid_string"),
        ("state", long.as_str(), "parameter_invalid_string"),
        ("planet", "Earth", "parameter_unknown"),
    ] {
        let mut given = address("US");
        given[part] = value.into();
        let body = confirmation_with(GOOD_CARD, "press", &[("/billing_details", json!({ "address": given }))]);
        shop.confirm(&token_of(&plain), &body).await.refused_with(400, code, &path(part));
    }
    for part in ["country", "line1", "postal_code", "city"] {
        let mut given = address("US");
        given[part] = "  ".into();
        let body = confirmation_with(GOOD_CARD, "press", &[("/billing_details", json!({ "address": given }))]);
        shop.confirm(&token_of(&asking), &body).await.refused_with(400, "parameter_missing", &path(part));
    }
    let token = token_of(&asking);
    let refused = shop.confirm(&token, &confirmation(GOOD_CARD, "press")).await;
    refused.refused_with(400, "parameter_missing", "billing_details[address]");
    let details = |name: &str, value: Value| ("/billing_details", json!({ "address": address("US"), name: value }));
    for ((pointer, value), code, param) in [
        (details("phone", json!("+49 30 1")), "parameter_unsupported", "billing_details[phone]"),
        (details("name", json!("Grace Hopper")), "parameters_exclusive", "billing_details[name]"),
        (details("email", json!("grace@example.com")), "parameters_exclusive", "billing_details[email]"),
        (("/billing_details", json!("Berlin")), "parameter_invalid", "billing_details"),
    ] {
        let body = confirmation_with(GOOD_CARD, "press", &[(pointer, value)]);
        let error = shop.confirm(&token, &body).await.refused(400);
        assert_eq!(error["param"], param, "{error}");
        assert!(error["code"].as_str().is_some_and(|got| got.starts_with(code)), "{error}");
    }
    assert_eq!(world.count("select count(*) from charge").await, 0);
    let paid = shop.confirm(&token, &confirmation_with(GOOD_CARD, "press", &at("US"))).await.ok();
    assert_eq!(paid["state"], "completed");
    // A country without postcodes is asked for none.
    let dubai = json!({ "address": { "country": "AE", "line1": "Sheikh Zayed Road 1", "city": "Dubai" } });
    let session = merchant.session_with(&[REQUIRED]).await;
    let body = confirmation_with(GOOD_CARD, "press", &[("/billing_details", dubai)]);
    assert_eq!(shop.confirm(&token_of(&session), &body).await.ok()["state"], "completed");
    world.end().await;
}

/// A form with a billing address.
fn billed(form: Vec<(String, String)>, country: &str) -> Vec<(String, String)> {
    let typed = [("billing_country", country), ("billing_line1", "1 Main <Street>"), ("billing_postal_code", "97477")];
    let form = typed.into_iter().fold(form, |form, (name, value)| with(form, name, value));
    with(form, "billing_city", "Springfield")
}

#[tokio::test]
async fn the_form_asks_for_the_address_and_keeps_what_was_typed() {
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    let mut payer = world.payer();
    let plain = payer.open(&merchant.session_with(&[("billing_address_collection", "auto")]).await).await;
    assert!(!plain.html.contains("billing_"), "nobody asked for it");

    let session = merchant.session_with(&[REQUIRED]).await;
    let page = payer.open(&session).await;
    page.says("Billing address").says("Street and number").says("Postcode").says("Choose a country");
    for hint in ["billing country", "billing address-line1", "billing postal-code", "billing address-level2"] {
        assert!(page.html.contains(&format!("autocomplete=\"{hint}\"")), "{hint}");
    }
    let path = format!("{}/pay", page.path);
    // Left empty, each field is named.
    let refused = payer.send(Method::POST, &path, Some(&Payer::filled(&Payer::fill(&page, GOOD_CARD)))).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    refused.says("4 things need your attention").says("Choose the country of your billing address.");
    refused.says("Enter the postcode of your billing address.");
    assert!(refused.html.contains("href=\"#billing_line1\"") && refused.html.contains("id=\"billing_line1-error\""));
    // One of them wrong: the others are still there.
    let mut form = billed(Payer::fill(&refused, GOOD_CARD), "CH");
    form.retain(|(name, _)| name != "billing_postal_code");
    let refused = payer.send(Method::POST, &path, Some(&Payer::filled(&form))).await;
    refused.says("One thing needs your attention").says("Enter the postcode of your billing address.");
    assert_eq!(refused.field("billing_line1").as_deref(), Some("1 Main <Street>"));
    assert_eq!(refused.field("billing_city").as_deref(), Some("Springfield"));
    assert!(refused.html.contains("<option value=\"CH\" selected>"), "the country was chosen");
    assert_eq!(world.count("select count(*) from charge").await, 0);
    // A card number that strayed into a field is not put back.
    let mut form = billed(Payer::fill(&refused, GOOD_CARD), "CH");
    form.iter_mut().filter(|(name, _)| name == "billing_city").for_each(|(_, city)| *city = "4242424242424242".into());
    let refused = payer.send(Method::POST, &path, Some(&Payer::filled(&form))).await;
    refused.says("Enter your city, not a card number.");
    assert!(
        !refused
            .text()
            .split_once("total:")
            .map_or(refused.text().as_str(), |(_, form)| form)
            .contains("4242424242424242")
    );
    // A declined card leaves the address where it was.
    let declined = payer.submit(&refused, &billed(Payer::fill(&refused, DECLINED_CARD), "CH")).await;
    declined.says("The payment did not go through");
    assert_eq!(declined.field("billing_line1").as_deref(), Some("1 Main <Street>"));
    payer.submit(&declined, &billed(Payer::fill(&declined, GOOD_CARD), "CH")).await.says("Payment complete");
    let address = merchant.read(&session).await["customer_details"]["address"].clone();
    assert_eq!((&address["country"], &address["line1"]), (&"CH".into(), &"1 Main <Street>".into()));
    assert_eq!(charge_of(&merchant, &session).await["billing_details"]["address"], address);
    world.end().await;
}

#[tokio::test]
async fn the_address_that_a_card_was_kept_with_goes_with_it_and_is_shown_to_nobody() {
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    let grace = crate::customers_api::customer(&merchant).await;
    let session = session_for(&merchant, &grace, &[SAVE, REQUIRED]).await;
    let mut payer = world.payer();
    let page = payer.open(&session).await;
    let form = with(billed(Payer::fill(&page, GOOD_CARD), "US"), "save_card", "yes");
    payer.submit(&page, &form).await.says("Payment complete");
    let kept = methods_of(&merchant, &grace).await.remove(0);
    assert_eq!(kept["billing_details"]["address"]["line1"], "1 Main <Street>");

    let next = session_for(&merchant, &grace, &[REQUIRED]).await;
    let token = token_of(&next);
    let page = world.payer().open(&next).await;
    assert!(page.html.contains("data-address") && !page.html.contains("Springfield"), "it is used and not shown");
    let own = Storefront::new(&merchant).look(&token).await;
    assert!(!own.text.contains("Springfield") && !own.text.contains("Lovelace"), "{}", own.text);
    let own = own.ok();
    assert_eq!(own["saved_payment_methods"][0]["has_billing_address"], true);
    // A bank that says no makes nobody show what came with the card.
    world.replicas[0].simulator.set(
        checkstand::providers::simulator_faults::Fault::DeclineSoftly,
        checkstand::providers::simulator_faults::Times::Next(1),
    );
    let mut payer = world.payer();
    let page = payer.open(&next).await;
    let declined = payer.submit(&page, &choose(&page, &listed(&page)[0].value)).await;
    declined.says("The payment did not go through");
    let seen_elsewhere = Storefront::new(&merchant).look(&token).await.text;
    for private in ["Springfield", "Main", "Lovelace", "grace@"] {
        assert!(!declined.html.contains(private) && !seen_elsewhere.contains(private), "{private} is shown");
    }
    payer.submit(&declined, &choose(&declined, &listed(&declined)[0].value)).await.says("Payment complete");
    let charge = charge_of(&merchant, &next).await;
    assert_eq!(charge["billing_details"]["address"], kept["billing_details"]["address"]);
    assert_eq!(charge["payment_method_details"]["card"]["checks"]["address_postal_code_check"], "pass");
    // One that was kept without is asked for it.
    world.execute("update payment_method set holder_address = null").await;
    let third = session_for(&merchant, &grace, &[REQUIRED]).await;
    let page = payer.open(&third).await;
    let refused = payer.submit(&page, &choose(&page, &listed(&page)[0].value)).await;
    refused.says("4 things need your attention").says("Choose the country of your billing address.");
    payer.submit(&page, &billed(choose(&page, &listed(&page)[0].value), "US")).await.says("Payment complete");

    world.execute("update payment_method set holder_address = '{\"city\": \"Springfield\"}'").await;
    let path = format!("/v1/payment_methods/{}/detach", kept["id"].as_str().expect("an id"));
    assert_eq!(merchant.post(&path, &[]).await.ok()["billing_details"]["address"]["city"], Value::Null);
    assert_eq!(world.count("select count(*) from payment_method where holder_address is not null").await, 0);
    world.end().await;
}
