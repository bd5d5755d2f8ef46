//! Customers as a merchant keeps them: made, read, changed, listed, deleted, and named by sessions.

use serde_json::{Value, json};

use crate::merchant::{Merchant, coffee_with};
use crate::payer::GOOD_CARD;
use crate::world::World;

const CUSTOMERS: &str = "/v1/customers";
const SESSIONS: &str = "/v1/checkout/sessions";

pub fn id(object: &Value) -> &str {
    object["id"].as_str().expect("an id")
}

pub async fn customer(merchant: &Merchant) -> Value {
    merchant.post(CUSTOMERS, &[("email", "grace@navy.example"), ("name", "Grace Hopper")]).await.ok()
}

#[tokio::test]
async fn a_customer_is_made_read_changed_and_deleted() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    let made = merchant
        .post(
            CUSTOMERS,
            &[
                ("email", "grace@navy.example"),
                ("name", "Grace Hopper"),
                ("phone", "+1 202 555 0100"),
                ("description", "Admiral"),
                ("address[line1]", "1 Navy Way"),
                ("address[country]", "us"),
                ("shipping[name]", "G. Hopper"),
                ("shipping[address][city]", "Arlington"),
                ("preferred_locales[]", "en"),
                ("metadata[rank]", "1"),
            ],
        )
        .await
        .ok();
    assert!(id(&made).starts_with("cus_"));
    assert_eq!(made["object"], "customer");
    assert_eq!(
        made["address"],
        json!({"city": null, "country": "US", "line1": "1 Navy Way", "line2": null, "postal_code": null, "state": null})
    );
    assert_eq!(made["shipping"]["address"]["city"], "Arlington");
    for always in ["balance", "currency", "default_source", "delinquent", "discount", "invoice_settings", "tax_exempt"]
    {
        assert!(made.get(always).is_some(), "{always} is missing");
    }
    let path = format!("{CUSTOMERS}/{}", id(&made));
    assert_eq!(merchant.get(&path).await.ok(), made);
    assert_eq!(receiver.wait_for("customer.created").await.object_id(), id(&made));

    let fields = [("name", "Rear Admiral Hopper"), ("phone", ""), ("address", ""), ("metadata[rank]", "")];
    let changed = merchant.post(&path, &fields).await.ok();
    assert_eq!((&changed["name"], &changed["phone"]), (&"Rear Admiral Hopper".into(), &Value::Null));
    assert_eq!((&changed["address"], &changed["metadata"]), (&Value::Null, &json!({})));
    assert_eq!(changed["email"], "grace@navy.example", "what is not named stays");
    receiver.wait_for("customer.updated").await;

    let gone = json!({"id": id(&made), "object": "customer", "deleted": true});
    assert_eq!(merchant.delete(&path).await.ok(), gone);
    assert_eq!(merchant.get(&path).await.ok(), gone);
    receiver.wait_for("customer.deleted").await;
    merchant.delete(&path).await.refused_with(404, "resource_missing", "id");
    merchant.post(&path, &[("name", "x")]).await.refused_with(404, "resource_missing", "id");
    assert_eq!(merchant.get(CUSTOMERS).await.ok()["data"], json!([]));
    let kept = world.text("select to_jsonb(c)::text from customer c where id = $1", id(&made)).await;
    assert!(!kept.contains("navy") && !kept.contains("Hopper"), "the person is forgotten: {kept}");
    world.end().await;
}

#[tokio::test]
async fn customers_are_listed_by_page_and_by_address() {
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    let mut made = Vec::new();
    for name in ["a", "b", "c"] {
        let email = format!("{name}@shop.example");
        made.push(merchant.post(CUSTOMERS, &[("email", email.as_str())]).await.ok());
        world.advance(chrono::Duration::seconds(1));
    }
    let newest = merchant.get("/v1/customers?limit=2").await.ok();
    assert_eq!((id(&newest["data"][0]), &newest["has_more"]), (id(&made[2]), &true.into()));
    let rest = merchant.get(&format!("/v1/customers?limit=2&starting_after={}", id(&made[1]))).await.ok();
    assert_eq!((id(&rest["data"][0]), &rest["has_more"]), (id(&made[0]), &false.into()));
    let found = merchant.get("/v1/customers?email=b@shop.example").await.ok();
    assert_eq!((found["data"].as_array().map(Vec::len), id(&found["data"][0])), (Some(1), id(&made[1])));
    assert_eq!(merchant.get("/v1/customers?email=B@shop.example").await.ok()["data"], json!([]), "letter by letter");
    let since = made[1]["created"].as_i64().expect("seconds");
    let late = merchant.get(&format!("/v1/customers?created[gte]={since}")).await.ok();
    assert_eq!(late["data"].as_array().map(Vec::len), Some(2));
    merchant.get("/v1/customers?starting_after=pm_x").await.refused_with(400, "resource_missing", "starting_after");
    world.end().await;
}

#[tokio::test]
async fn what_is_no_customer_is_refused_by_its_parameter() {
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    let long = "x".repeat(400);
    for (fields, code, param) in [
        (("email", "nobody"), "email_invalid", "email"),
        (("address[country]", "Germany"), "country_code_invalid", "address[country]"),
        (("description", long.as_str()), "parameter_invalid_string", "description"),
        (("preferred_locales[]", "<de>"), "parameter_invalid", "preferred_locales"),
        (("balance", "-100"), "parameter_unknown", "balance"),
        (("payment_method", "pm_x"), "parameter_unknown", "payment_method"),
        (("source", "tok_visa"), "parameter_unknown", "source"),
    ] {
        merchant.post(CUSTOMERS, &[fields]).await.refused_with(400, code, param);
    }
    assert_eq!(world.count("select count(*) from customer").await, 0);
    world.end().await;
}

#[tokio::test]
async fn a_session_is_for_a_customer_of_its_own_merchant_and_mode() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let customer = customer(&merchant).await;
    let session = merchant.session_with(&[("customer", id(&customer))]).await;
    assert_eq!(session["customer"], customer["id"]);
    assert_eq!(session["customer_email"], Value::Null);
    let path = format!("{SESSIONS}/{}?expand[]=customer", id(&session));
    assert_eq!(merchant.get(&path).await.ok()["customer"], customer);
    let expanded = merchant.session_with(&[("customer", id(&customer)), ("expand[]", "customer")]).await;
    assert_eq!(expanded["customer"], customer);
    merchant.post(&format!("{SESSIONS}/{}/expire", id(&expanded)), &[]).await.ok();

    let strangers = world.merchant().await;
    let live = world.in_live_mode(&merchant).await;
    let deleted = merchant.post(CUSTOMERS, &[]).await.ok();
    merchant.delete(&format!("{CUSTOMERS}/{}", id(&deleted))).await.ok();
    for (who, whom) in
        [(&strangers, id(&customer)), (&live, id(&customer)), (&merchant, id(&deleted)), (&merchant, "cus_x")]
    {
        let refused = who.post(SESSIONS, &coffee_with(&[("customer", whom)])).await;
        refused.refused_with(400, "resource_missing", "customer");
    }
    for (fields, param) in [
        (vec![("customer", id(&customer)), ("customer_email", "a@b.example")], "customer_email"),
        (vec![("customer", id(&customer)), ("customer_creation", "always")], "customer_creation"),
    ] {
        merchant.post(SESSIONS, &coffee_with(&fields)).await.refused_with(400, "parameters_exclusive", param);
    }
    for fields in [
        ("payment_intent_data[setup_future_usage]", "off_session"),
        ("saved_payment_method_options[payment_method_save]", "enabled"),
        ("saved_payment_method_options[allow_redisplay_filters][]", "always"),
    ] {
        merchant.post(SESSIONS, &coffee_with(&[fields])).await.refused_with(400, "parameter_missing", "customer");
    }

    // The customer goes with everything that comes of the session, and finds it again.
    let page = world.payer().pay(&session, GOOD_CARD).await;
    page.says("Payment complete");
    let paid = merchant.read(&session).await;
    assert_eq!(paid["customer_details"]["email"], "grace@navy.example");
    let payment = merchant
        .get(&format!(
            "/v1/payment_intents/{}?expand[]=latest_charge",
            paid["payment_intent"].as_str().expect("a payment")
        ))
        .await
        .ok();
    assert_eq!((&payment["customer"], &payment["latest_charge"]["customer"]), (&customer["id"], &customer["id"]));
    world.payer().pay(&merchant.session().await, GOOD_CARD).await.says("Payment complete");
    for kind in ["checkout/sessions", "payment_intents", "charges"] {
        let listed = merchant.get(&format!("/v1/{kind}?customer={}", id(&customer))).await.ok();
        let of_customer = if kind == "checkout/sessions" { 2 } else { 1 };
        assert_eq!(listed["data"].as_array().map(Vec::len), Some(of_customer), "{kind}");
        assert_eq!(listed["data"][0]["customer"], customer["id"]);
        assert_eq!(merchant.get(&format!("/v1/{kind}?customer=cus_none")).await.ok()["data"], json!([]));
    }
    world.end().await;
}

#[tokio::test]
async fn a_paid_session_makes_its_customer_and_an_unpaid_one_does_not() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    let session = merchant.session_with(&[("customer_creation", "always")]).await;
    assert_eq!((&session["customer"], &session["customer_creation"]), (&Value::Null, &"always".into()));
    let mut payer = world.payer();
    payer.pay(&session, crate::payer::DECLINED_CARD).await.says("The payment did not go through");
    assert_eq!(world.count("select count(*) from customer").await, 0);
    payer.pay(&session, GOOD_CARD).await.says("Payment complete");
    let created = receiver.wait_for("customer.created").await;
    let completed = receiver.wait_for("checkout.session.completed").await;
    let paid = merchant.read(&session).await;
    assert_eq!(paid["customer"], created.object_id());
    assert_eq!(completed.json["data"]["object"]["customer"], created.object_id());
    let customer = merchant.get(&format!("{CUSTOMERS}/{}", created.object_id())).await.ok();
    assert_eq!((&customer["email"], &customer["name"]), (&"ada@example.com".into(), &"Ada Lovelace".into()));
    let charges = merchant.get(&format!("/v1/charges?customer={}", created.object_id())).await.ok();
    assert_eq!(charges["data"].as_array().map(Vec::len), Some(1), "the charge that succeeded");
    world.end().await;
}
