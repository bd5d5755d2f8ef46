//! Checkout sessions over the API: made, read, changed, ended; what they cost and how long they live.

use checkstand::ops::doubts;
use checkstand::providers::simulator_faults::{Fault, Times};
use serde_json::{Value, json};

use crate::merchant::{Merchant, Refused, coffee, coffee_with};
use crate::payer::GOOD_CARD;
use crate::world::{World, WorldOptions};

const SESSIONS: &str = "/v1/checkout/sessions";

/// The keys that Stripe's own types call for, with the gateway's additions; the SDK stories use it too.
const SHAPES: &str = include_str!("../sdk/shapes.json");

/// The gateway's own keys, as documented.
const OWN_KEYS: [&str; 11] = [
    "state",
    "action",
    "escrow",
    "target_user_email",
    "return_url",
    "expired_url",
    "failed_url",
    "opened_at",
    "completed_at",
    "ended_at",
    "url",
];

/// The dotted keys of a shape that an object lacks; nothing is looked for below a null.
fn missing_keys(object: &Value, shape: &str) -> Vec<String> {
    let shapes: Value = serde_json::from_str(SHAPES).expect("the shapes are JSON");
    let keys = shapes[shape].as_array().expect("a shape is a list").iter().filter_map(Value::as_str);
    let lacks = |dotted: &&str| {
        let mut here = object;
        for step in dotted.split('.') {
            match here.get(step) {
                Some(next) => here = next,
                None => return !here.is_null(),
            }
        }
        false
    };
    keys.filter(lacks).map(str::to_owned).collect()
}

fn path(session: &Value) -> String {
    format!("{SESSIONS}/{}", session["id"].as_str().expect("an id"))
}

/// The total of a session with one line, or its refusal.
async fn priced(merchant: &Merchant, fields: &[(&str, &str)]) -> Result<i64, String> {
    let answer = merchant.post(SESSIONS, &coffee_with(fields)).await;
    match answer.status.as_u16() {
        200 => Ok(answer.json["amount_total"].as_i64().expect("an integer")),
        _ => {
            let error = answer.refused(400);
            Err(format!("{} {}", error["code"].as_str().unwrap_or("?"), error["param"].as_str().unwrap_or("?")))
        }
    }
}

#[tokio::test]
async fn a_session_has_every_documented_key_whether_made_by_form_or_by_json() {
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    let mut by_form = merchant.session_with(&[("metadata[order]", "42"), ("expand[]", "line_items")]).await;
    let body = json!({
        "mode": "payment",
        "line_items": [{
            "price_data": {"currency": "eur", "product_data": {"name": "House blend"}, "unit_amount": 1299},
            "quantity": 2,
        }],
        "success_url": "https://shop.example/thanks?id={CHECKOUT_SESSION_ID}",
        "cancel_url": "https://shop.example/cart",
        "metadata": {"order": "42"},
        "expand": ["line_items"],
    });
    let mut by_json = merchant.post_json(SESSIONS, &body).await.ok();
    for session in [&by_form, &by_json] {
        assert_eq!(missing_keys(session, "checkout.session"), Vec::<String>::new());
        assert_eq!(missing_keys(&session["line_items"]["data"][0], "item"), Vec::<String>::new());
        for key in OWN_KEYS {
            assert!(session.get(key).is_some(), "no `{key}`");
        }
        assert!(session["id"].as_str().is_some_and(|id| id.starts_with("cs_test_")));
        assert!(session["url"].as_str().is_some_and(|url| url.starts_with(&format!("{}/c/", world.base()))));
    }
    for session in [&mut by_form, &mut by_json] {
        let fields = session.as_object_mut().expect("an object");
        for own in ["id", "url", "created", "expires_at", "line_items"] {
            fields.remove(own);
        }
    }
    assert_eq!(by_form, by_json);
    world.end().await;
}

#[tokio::test]
async fn what_a_merchant_sends_comes_back_and_reading_gives_the_same_object() {
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    let expires_at = (world.now() + 600).to_string();
    let sent = [
        ("client_reference_id", "order-7"),
        ("customer_email", "ada@example.com"),
        ("return_url", "https://shop.example/back"),
        ("expired_url", "https://shop.example/late"),
        ("failed_url", "https://shop.example/sorry"),
        ("locale", "de"),
        ("submit_type", "book"),
        ("ui_mode", "hosted"),
        ("expires_at", expires_at.as_str()),
    ];
    let made = merchant.session_with(&sent).await;
    for (name, value) in sent {
        let shown = match &made[name] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        assert_eq!(shown, value, "{name}");
    }
    assert_eq!(made["customer_details"]["email"], "ada@example.com");
    assert_eq!(
        [&made["status"], &made["state"], &made["payment_status"], &made["livemode"]],
        [&json!("open"), &json!("pending"), &json!("unpaid"), &json!(false)]
    );
    assert_eq!(merchant.read(&made).await, made);
    world.end().await;
}

#[tokio::test]
async fn text_of_every_script_comes_back_as_it_was_sent() {
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    let name = "Ünï & <b>قهوة</b> 咖啡 ☕\u{200f} \"x\" 'y' %41 +";
    let note = &format!("{name}\u{202e}\u{200b}");
    let fields = [("metadata[note]", note.as_str()), ("line_items[0][price_data][product_data][name]", name)];
    let session = merchant.session_with(&[&fields[..], &[("expand[]", "line_items")]].concat()).await;
    assert_eq!(session["metadata"]["note"], note.as_str());
    assert_eq!(session["line_items"]["data"][0]["description"], name);
    assert_eq!(merchant.read(&session).await["metadata"]["note"], note.as_str());
    world.end().await;
}

#[tokio::test]
async fn what_a_payer_could_not_see_is_refused_wherever_he_reads_it() {
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    let product = "line_items[0][price_data][product_data]";
    for one in ["\u{202e}", "\u{2066}", "\u{200b}", "\u{ad}", "\u{feff}", "\u{3164}"] {
        let text = format!("Coffee{one}eeffoC");
        for param in [
            format!("{product}[name]"),
            format!("{product}[description]"),
            "payment_intent_data[description]".to_owned(),
        ] {
            let fields = crate::merchant::coffee_with(&[(param.as_str(), text.as_str())]);
            let refused = merchant.post("/v1/checkout/sessions", &fields).await;
            let message = refused.refused_with(400, "parameter_invalid_string", &param)["message"].to_string();
            let code = format!("U+{:04X}", u32::from(one.chars().next().expect("a character")));
            assert!(message.contains(&code), "{message}");
        }
        let plain = [
            ("amount", "100"),
            ("currency", "eur"),
            ("description", text.as_str()),
            ("success_url", "https://shop.example/ok"),
        ];
        merchant.post("/v1/checkout/sessions", &plain).await.refused_with(
            400,
            "parameter_invalid_string",
            "description",
        );
        for (param, mode) in [("title", "quick"), ("contract_terms", "standard")] {
            let mut fields = crate::deal::canoe(mode);
            fields.retain(|(name, _)| *name != param);
            fields.push((param, &text));
            merchant.post("/v1/escrows", &fields).await.refused_with(400, "parameter_invalid_string", param);
        }
    }
    let mut lines = crate::deal::canoe("quick");
    lines[0] = ("title", "A canoe\nand a paddle");
    merchant.post("/v1/escrows", &lines).await.refused_with(400, "parameter_invalid_string", "title");
    let new = checkstand::ops::merchants::NewMerchant {
        id: None,
        name: "Evil\u{202e}pohS".to_owned(),
        support_email: None,
        accent_color: None,
    };
    let error = checkstand::ops::merchants::create(world.app(), new).await.expect_err("a name that turns round");
    assert!(format!("{error:?}").contains("hides or turns"), "{error:?}");
    world.end().await;
}

#[tokio::test]
async fn metadata_is_set_deleted_key_by_key_and_cleared() {
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    let session = merchant.session_with(&[("metadata[a]", "1"), ("metadata[b]", "2")]).await;
    let steps = [
        (vec![("metadata[c]", "3")], json!({"a": "1", "b": "2", "c": "3"})),
        (vec![("metadata[a]", ""), ("metadata[b]", "two")], json!({"b": "two", "c": "3"})),
        (vec![], json!({"b": "two", "c": "3"})),
        (vec![("metadata", "")], json!({})),
    ];
    for (fields, expected) in steps {
        let changed = merchant.post(&path(&session), &fields).await.ok();
        assert_eq!(changed["metadata"], expected, "{fields:?}");
        assert_eq!(merchant.read(&session).await["metadata"], expected, "{fields:?}");
    }
    merchant.post_json(&path(&session), &json!({"metadata": {"x": "1", "y": "2"}})).await.ok();
    let changed = merchant.post_json(&path(&session), &json!({"metadata": {"x": null}})).await.ok();
    assert_eq!(changed["metadata"], json!({"y": "2"}));
    merchant.post(&format!("{}/expire", path(&session)), &[]).await.ok();
    let changed = merchant.post(&path(&session), &[("metadata[late]", "note")]).await.ok();
    assert_eq!(changed["metadata"], json!({"y": "2", "late": "note"}), "the merchant's note outlives the session");
    world.end().await;
}

#[tokio::test]
async fn amount_and_currency_make_a_session_of_one_line() {
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    let plain = [("amount", "4200"), ("currency", "USD"), ("description", "Deposit"), ("expand[]", "line_items")];
    let session = merchant.post(SESSIONS, &plain).await.ok();
    assert_eq!([&session["amount_total"], &session["currency"]], [&json!(4200), &json!("usd")]);
    let line = &session["line_items"]["data"][0];
    assert_eq!([&line["description"], &line["quantity"]], [&json!("Deposit"), &json!(1)]);
    assert_eq!([&session["success_url"], &session["cancel_url"]], [&Value::Null, &Value::Null]);
    let refusals: [Refused; 5] = [
        (&[("amount", "4200")], "parameter_missing", "currency"),
        (&[("currency", "usd")], "parameter_missing", "line_items"),
        (&[("amount", "0"), ("currency", "usd")], "amount_too_small", "amount"),
        (&[("amount", "-1"), ("currency", "usd")], "parameter_invalid_integer", "amount"),
        (&[("amount", "1000000000000"), ("currency", "usd")], "amount_too_large", "amount"),
    ];
    for (fields, code, param) in refusals {
        merchant.post(SESSIONS, fields).await.refused_with(400, code, param);
    }
    let both = coffee_with(&[("amount", "1"), ("currency", "eur")]);
    merchant.post(SESSIONS, &both).await.refused_with(400, "parameters_exclusive", "amount");
    world.end().await;
}

#[tokio::test]
async fn amounts_are_whole_minor_units_of_their_currency() {
    const CURRENCY: &str = "line_items[0][price_data][currency]";
    const WHOLE: &str = "line_items[0][price_data][unit_amount]";
    const DECIMAL: &str = "line_items[0][price_data][unit_amount_decimal]";
    const QUANTITY: &str = "line_items[0][quantity]";
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    let indivisible = || Err("parameter_invalid_integer line_items".to_owned());
    for (currency, unit_amount, quantity, expected) in [
        ("eur", "1", "1", Ok(1)),
        ("EUR", "999999999999", "1", Ok(999_999_999_999)),
        ("jpy", "500", "3", Ok(1500)),
        ("kwd", "5120", "1", Ok(5120)),
        ("kwd", "5124", "1", indivisible()),
        ("kwd", "5125", "2", Ok(10_250)),
        ("isk", "500", "1", Ok(500)),
        ("isk", "550", "1", indivisible()),
    ] {
        let fields = [(CURRENCY, currency), (WHOLE, unit_amount), (QUANTITY, quantity)];
        assert_eq!(priced(&merchant, &fields).await, expected, "{fields:?}");
    }
    let not_decimal = || Err(format!("parameter_invalid_integer {DECIMAL}"));
    for (unit_amount_decimal, quantity, expected) in [
        ("12.5", "1", Ok(13)),
        ("12.5", "2", Ok(25)),
        ("0.4", "1", Err("amount_too_small line_items".to_owned())),
        ("0.333333333333", "3", Ok(1)),
        ("0.000000000001", "999999", Err("amount_too_small line_items".to_owned())),
        ("1250", "1", Ok(1250)),
        ("1e3", "1", not_decimal()),
        ("0.0000000000001", "1", not_decimal()),
        ("1,5", "1", not_decimal()),
        ("-1.5", "1", not_decimal()),
        (".5", "1", not_decimal()),
        ("NaN", "1", not_decimal()),
    ] {
        let mut fields = coffee_with(&[(DECIMAL, unit_amount_decimal), (QUANTITY, quantity)]);
        fields.retain(|(name, _)| *name != WHOLE);
        let answer = merchant.post(SESSIONS, &fields).await;
        match &expected {
            Ok(total) => assert_eq!(answer.ok()["amount_total"], *total, "{unit_amount_decimal} × {quantity}"),
            Err(expected) => {
                let (code, param) = expected.split_once(' ').expect("two words");
                answer.refused_with(400, code, param);
            }
        }
    }
    world.end().await;
}

#[tokio::test]
async fn a_session_lives_from_a_minute_up_to_the_ceiling() {
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    let now = world.now();
    let default = merchant.session().await["expires_at"].as_i64().expect("an integer");
    assert!((now + 1800..now + 1830).contains(&default), "half an hour unless told otherwise");
    let day = 24 * 60 * 60;
    // The bounds are a minute and a day, with ten seconds for two clocks that disagree and for the request's way.
    for (seconds, fine) in [
        (-day, false),
        (0, false),
        (45, false),
        (59, true),
        (60, true),
        (day, true),
        (day + 60, false),
        (7 * day, false),
    ] {
        let expires_at = world.now() + seconds;
        let answer = merchant.post(SESSIONS, &coffee_with(&[("expires_at", &expires_at.to_string())])).await;
        if fine {
            assert_eq!(answer.ok()["expires_at"], expires_at);
        } else {
            answer.refused_with(400, "parameter_invalid", "expires_at");
        }
    }
    for nonsense in ["9223372036854775807", "-9223372036854775808", "8000000000000", "-8000000000000"] {
        let error = merchant.post(SESSIONS, &coffee_with(&[("expires_at", nonsense)])).await.refused(400);
        assert_eq!(error["param"], "expires_at");
    }
    world.end().await;

    let settings = vec![("SESSION_LIFETIME_MAX_MINUTES", "20".to_owned())];
    let world = World::with(WorldOptions { worker: false, settings, ..WorldOptions::default() }).await;
    let merchant = world.merchant().await;
    let default = merchant.session().await["expires_at"].as_i64().expect("an integer");
    assert!((world.now() + 1170..=world.now() + 1200).contains(&default), "the operator's ceiling bounds the default");
    world.end().await;
}

#[tokio::test]
async fn expand_turns_references_into_objects() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let session = merchant.session().await;
    assert!(session.get("line_items").is_none() && session["total_details"].get("breakdown").is_none());
    world.payer().pay(&session, GOOD_CARD).await.says("Payment complete");
    let plain = merchant.read(&session).await;
    let payment_id = plain["payment_intent"].as_str().expect("an id");
    let asked =
        "expand[]=line_items.data.price.product&expand[]=payment_intent.latest_charge&expand[]=total_details.breakdown";
    for found in [
        merchant.get(&format!("{}?{asked}", path(&session))).await.ok(),
        merchant.get(&format!("{SESSIONS}?{}", asked.replace("[]=", "[]=data."))).await.ok()["data"][0].clone(),
        merchant
            .post(
                &path(&session),
                &[
                    ("expand[0]", "line_items.data.price.product"),
                    ("expand[1]", "payment_intent.latest_charge"),
                    ("expand[2]", "total_details.breakdown"),
                ],
            )
            .await
            .ok(),
    ] {
        assert_eq!(found["line_items"]["data"][0]["price"]["product"]["name"], "House blend");
        assert_eq!(found["payment_intent"]["id"], payment_id);
        assert_eq!(found["payment_intent"]["status"], "succeeded");
        assert_eq!(found["payment_intent"]["latest_charge"]["payment_method_details"]["card"]["last4"], "4242");
        assert_eq!(found["total_details"]["breakdown"], json!({"discounts": [], "taxes": []}));
    }
    let deep = format!("{}?expand[]=a.b.c.d.e", path(&session));
    merchant.get(&deep).await.refused_with(400, "parameter_invalid", "expand[0]");
    world.end().await;
}

#[tokio::test]
async fn only_an_open_session_can_be_expired_and_its_url_goes_with_it() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let expire = |session: &Value| {
        let (merchant, path) = (merchant.clone(), format!("{}/expire", path(session)));
        async move { merchant.post(&path, &[]).await }
    };

    let expired = expire(&merchant.session().await).await.ok();
    assert_eq!(
        [&expired["status"], &expired["state"], &expired["url"]],
        [&json!("expired"), &json!("expired"), &Value::Null]
    );
    assert!(expired["ended_at"].is_i64());
    let error = expire(&expired).await.refused_with(400, "session_not_open", "");
    assert!(error["message"].as_str().is_some_and(|text| text.contains("expired")), "{error}");

    let paid = merchant.session().await;
    world.payer().pay(&paid, GOOD_CARD).await.says("Payment complete");
    expire(&paid).await.refused_with(400, "session_not_open", "");
    let paid = merchant.read(&paid).await;
    assert_eq!(
        [&paid["status"], &paid["payment_status"], &paid["url"]],
        [&json!("complete"), &json!("paid"), &Value::Null]
    );

    // The charge is made, but neither its answer nor a look-up gets through: the outcome is unknown.
    let doubtful = merchant.session().await;
    let simulator = &world.replicas[0].simulator;
    simulator.set(Fault::FailAfter, Times::Next(1));
    simulator.set(Fault::RefuseLookUp, Times::Always);
    world.payer().pay(&doubtful, GOOD_CARD).await;
    assert_eq!(merchant.read(&doubtful).await["state"], "processing");
    expire(&doubtful).await.refused_with(400, "session_processing", "");
    simulator.calm();
    world.advance(chrono::Duration::hours(1));
    doubts::settle_due(world.app()).await.expect("the simulator answers");
    let settled = merchant.read(&doubtful).await;
    assert_eq!(settled["payment_status"], "paid", "{settled}");
    world.end().await;
}

#[tokio::test]
async fn an_empty_body_and_a_body_without_a_media_type_are_fine_where_nothing_is_needed() {
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    for session in [merchant.session().await, merchant.session().await] {
        let request = merchant.request(reqwest::Method::POST, &format!("{}/expire", path(&session)));
        assert_eq!(merchant.send(request).await.ok()["state"], "expired");
    }
    let error = merchant.send(merchant.request(reqwest::Method::POST, SESSIONS)).await;
    error.refused_with(400, "parameter_missing", "line_items");
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    let request = merchant.request(reqwest::Method::POST, SESSIONS).body(form.extend_pairs(coffee()).finish());
    assert_eq!(merchant.send(request).await.ok()["amount_total"], 2598);
    world.end().await;
}
