//! Payments, charges and refunds as objects of the API: lists, expansions, and what is refused with
//! which code and parameter.

use reqwest::Method;
use serde_json::Value;

use crate::merchant::ids;
use crate::world::World;

/// Method, path, fields, and the code and parameter of the refusal.
type Case<'c> = (Method, String, Vec<(&'c str, &'c str)>, &'c str, &'c str);

async fn paid(world: &World, merchant: &crate::merchant::Merchant, fields: &[(&str, &str)]) -> Value {
    assert!(!world.replicas.is_empty());
    let session = merchant.session_with(fields).await;
    let path = format!("/v1/test_helpers/checkout/sessions/{}/complete", session["id"].as_str().expect("an id"));
    merchant.post(&path, &[("expand[]", "payment_intent.latest_charge")]).await.ok()["payment_intent"].clone()
}

#[tokio::test]
async fn lists_of_payments_charges_and_refunds_page_filter_and_expand() {
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    let mut payments = Vec::new();
    let mut refunds = Vec::new();
    for _ in 0..3 {
        let payment = paid(&world, &merchant, &[]).await;
        let id = payment["id"].as_str().expect("an id").to_owned();
        for amount in ["1", "2"] {
            let refund = merchant.post("/v1/refunds", &[("payment_intent", &id), ("amount", amount)]).await.ok();
            refunds.push(refund["id"].as_str().expect("an id").to_owned());
        }
        payments.push(payment);
    }
    let newest_first = |wanted: &[String]| wanted.iter().rev().cloned().collect::<Vec<_>>();
    let of = |pointer: &str| -> Vec<String> {
        payments
            .iter()
            .map(|payment| payment.pointer(pointer).and_then(Value::as_str).expect("an id").to_owned())
            .collect()
    };
    let (stranger, live) = (world.merchant().await, world.in_live_mode(&merchant).await);
    for (path, all) in
        [("/v1/payment_intents", of("/id")), ("/v1/charges", of("/latest_charge/id")), ("/v1/refunds", refunds.clone())]
    {
        let expected = newest_first(&all);
        let whole = merchant.get(path).await.ok();
        assert_eq!(
            (&whole["object"], &whole["url"], &whole["has_more"]),
            (&"list".into(), &path.into(), &false.into())
        );
        assert_eq!(ids(&whole), expected);
        let first = merchant.get(&format!("{path}?limit=2")).await.ok();
        assert_eq!((ids(&first), &first["has_more"]), (expected[..2].to_vec(), &true.into()));
        let second = merchant.get(&format!("{path}?limit=2&starting_after={}", expected[1])).await.ok();
        assert_eq!(ids(&second)[0], expected[2]);
        let back = merchant.get(&format!("{path}?limit=2&ending_before={}", expected[2])).await.ok();
        assert_eq!(ids(&back), expected[..2]);
        assert!(ids(&merchant.get(&format!("{path}?created[lt]=1000")).await.ok()).is_empty());
        assert_eq!(ids(&merchant.get(&format!("{path}?created[gte]=1000")).await.ok()).len(), all.len());
        assert!(ids(&stranger.get(path).await.ok()).is_empty(), "{path} shows another's");
        assert!(ids(&live.get(path).await.ok()).is_empty(), "{path} shows the other mode's");
    }
    let payment = payments[1]["id"].as_str().expect("an id");
    let charge = payments[1]["latest_charge"]["id"].as_str().expect("an id");
    assert_eq!(ids(&merchant.get(&format!("/v1/charges?payment_intent={payment}")).await.ok()), [charge]);
    for filter in [format!("payment_intent={payment}"), format!("charge={charge}")] {
        assert_eq!(ids(&merchant.get(&format!("/v1/refunds?{filter}")).await.ok()), newest_first(&refunds[2..4]));
    }
    let plain = merchant.get("/v1/payment_intents").await.ok();
    let expanded = merchant.get("/v1/payment_intents?expand[]=data.latest_charge").await.ok();
    assert_eq!(plain["data"][0]["latest_charge"], expanded["data"][0]["latest_charge"]["id"]);
    assert_eq!(expanded["data"][0]["latest_charge"]["amount_refunded"], 3);
    world.end().await;
}

#[tokio::test]
async fn wrong_parameters_of_payments_charges_and_refunds_are_named() {
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    let taken = paid(&world, &merchant, &[]).await;
    let reserved = paid(&world, &merchant, &[("payment_intent_data[capture_method]", "manual")]).await;
    let id = |payment: &Value| payment["id"].as_str().expect("an id").to_owned();
    let (taken, reserved) = (id(&taken), id(&reserved));
    let at = |path: &str, id: &str, verb: &str| format!("{path}/{id}{verb}");
    let intents = "/v1/payment_intents";
    let cases: Vec<Case<'_>> = vec![
        (Method::GET, format!("{intents}?limit=0"), vec![], "parameter_invalid_integer", "limit"),
        (Method::GET, format!("{intents}?limit=x"), vec![], "parameter_invalid_integer", "limit"),
        (Method::GET, format!("{intents}?starting_after=ch_x"), vec![], "resource_missing", "starting_after"),
        (Method::GET, format!("{intents}?colour=red"), vec![], "parameter_unknown", "colour"),
        (Method::GET, format!("{intents}?expand[]=a.b.c.d.e"), vec![], "parameter_invalid", "expand[0]"),
        (Method::GET, "/v1/charges?limit=101".into(), vec![], "parameter_invalid_integer", "limit"),
        (Method::GET, "/v1/charges?created[gte]=x".into(), vec![], "parameter_invalid_integer", "created[gte]"),
        (Method::GET, "/v1/refunds?colour=red".into(), vec![], "parameter_unknown", "colour"),
        (Method::POST, at(intents, &taken, ""), vec![("amount", "1")], "parameter_unknown", "amount"),
        (Method::POST, at(intents, &taken, ""), vec![("receipt_email", "nobody")], "email_invalid", "receipt_email"),
        (Method::POST, at(intents, &taken, "/capture"), vec![], "charge_already_captured", ""),
        (Method::POST, at(intents, &taken, "/cancel"), vec![], "payment_intent_unexpected_state", ""),
        (
            Method::POST,
            at(intents, &reserved, "/capture"),
            vec![("amount_to_capture", "0")],
            "amount_too_small",
            "amount_to_capture",
        ),
        (
            Method::POST,
            at(intents, &reserved, "/capture"),
            vec![("amount_to_capture", "2599")],
            "amount_too_large",
            "amount_to_capture",
        ),
        (
            Method::POST,
            at(intents, &reserved, "/capture"),
            vec![("amount_to_capture", "1.5")],
            "parameter_invalid_integer",
            "amount_to_capture",
        ),
        (Method::POST, at(intents, &reserved, "/capture"), vec![("amount", "1")], "parameter_unknown", "amount"),
        (
            Method::POST,
            at(intents, &reserved, "/cancel"),
            vec![("cancellation_reason", "bored")],
            "parameter_invalid",
            "cancellation_reason",
        ),
        (Method::POST, "/v1/refunds".into(), vec![], "parameter_missing", "payment_intent"),
        (
            Method::POST,
            "/v1/refunds".into(),
            vec![("payment_intent", &taken), ("charge", "ch_x")],
            "parameters_exclusive",
            "charge",
        ),
        (
            Method::POST,
            "/v1/refunds".into(),
            vec![("payment_intent", &taken), ("amount", "0")],
            "amount_too_small",
            "amount",
        ),
        (
            Method::POST,
            "/v1/refunds".into(),
            vec![("payment_intent", &taken), ("amount", "2599")],
            "amount_too_large",
            "amount",
        ),
        (
            Method::POST,
            "/v1/refunds".into(),
            vec![("payment_intent", &taken), ("reason", "bored")],
            "parameter_invalid",
            "reason",
        ),
        (Method::POST, "/v1/refunds".into(), vec![("payment_intent", &reserved)], "charge_not_refundable", ""),
    ];
    for (method, path, fields, code, param) in cases {
        let request =
            if method == Method::GET { merchant.request(method, &path) } else { merchant.form(&path, &fields) };
        let answer = merchant.send(request).await;
        assert_eq!(answer.status.as_u16(), 400, "{path} {fields:?}: {}", answer.text);
        let error = &answer.json["error"];
        let named = (error["code"].as_str().unwrap_or(""), error["param"].as_str().unwrap_or(""));
        assert_eq!(named, (code, param), "{path} {fields:?}: {}", answer.text);
        let explained = merchant.send(merchant.bare_request(Method::GET, "/docs/errors")).await;
        assert!(explained.text.contains(&format!("id=\"{code}\"")), "{code} is not explained");
    }
    assert_eq!(world.count("select count(*) from refund").await, 0);
    world.end().await;
}
