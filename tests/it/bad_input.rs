//! What is wrong with a request is said by status, code and parameter; nothing is half written, and
//! the gateway goes on serving.

use reqwest::Method;
use serde_json::json;

use crate::merchant::{Answer, Merchant, Refused, coffee_with};
use crate::world::World;

const SESSIONS: &str = "/v1/checkout/sessions";
const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";
const CURRENCY: &str = "line_items[0][price_data][currency]";
const UNIT_AMOUNT: &str = "line_items[0][price_data][unit_amount]";
const DECIMAL: &str = "line_items[0][price_data][unit_amount_decimal]";
const NAME: &str = "line_items[0][price_data][product_data][name]";
const QUANTITY: &str = "line_items[0][quantity]";

async fn post_bytes(merchant: &Merchant, media_type: &str, body: impl Into<reqwest::Body>) -> Answer {
    let request = merchant.request(Method::POST, SESSIONS).header("Content-Type", media_type);
    merchant.send(request.header("Idempotency-Key", "bad-input").body(body)).await
}

/// Nothing was written since, and the gateway still makes sessions.
async fn unharmed(world: &World, merchant: &Merchant, rows: i64) {
    assert_eq!(world.rows().await, rows, "something was written");
    assert_eq!(merchant.session().await["status"], "open");
}

#[tokio::test]
async fn a_body_that_cannot_be_read_is_refused_as_a_whole() {
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    let rows = world.rows().await;
    let deep_json = format!("{}1{}", "{\"a\":".repeat(33), "}".repeat(33));
    let brackets = "[".repeat(200_000);
    let deep_form = format!("a{}=1", "[b]".repeat(20));
    let many = "a=1&".repeat(1001);
    let long_name = format!("{}=1", "a".repeat(300));
    let cases: [(&str, &[u8], &str); 27] = [
        (JSON, b"{", "parameters_malformed"),
        (JSON, b"{\"amount\":}", "parameters_malformed"),
        (JSON, b"{'amount':1}", "parameters_malformed"),
        (JSON, b"{\"amount\":1,}", "parameters_malformed"),
        (JSON, b"{\"amount\":1}{}", "parameters_malformed"),
        (JSON, b"[]", "parameters_malformed"),
        (JSON, b"null", "parameters_malformed"),
        (JSON, b"\"text\"", "parameters_malformed"),
        (JSON, b"NaN", "parameters_malformed"),
        (JSON, b"amount=1", "parameters_malformed"),
        (JSON, b"\xff\xfe", "parameters_malformed"),
        (JSON, b"{\"a\":\"\\ud800\"}", "parameters_malformed"),
        (JSON, b"{\"a\":\"\x01\"}", "parameters_malformed"),
        (JSON, deep_json.as_bytes(), "parameters_too_deep"),
        (JSON, brackets.as_bytes(), "parameters_too_deep"),
        (FORM, b"amount=%", "parameters_malformed"),
        (FORM, b"amount=%zz", "parameters_malformed"),
        (FORM, b"metadata[a]=%ff", "parameters_malformed"),
        (FORM, b"metadata[a=1", "parameters_malformed"),
        (FORM, b"metadata]a[=1", "parameters_malformed"),
        (FORM, b"metadata[a]b=1", "parameters_malformed"),
        (FORM, b"metadata=x&metadata[a]=1", "parameters_malformed"),
        (FORM, b"=1", "parameters_malformed"),
        (FORM, b"a[][]=1", "parameters_malformed"),
        (FORM, deep_form.as_bytes(), "parameters_too_deep"),
        (FORM, many.as_bytes(), "parameters_too_many"),
        (FORM, long_name.as_bytes(), "parameters_malformed"),
    ];
    for (media_type, body, code) in cases {
        let error = post_bytes(&merchant, media_type, body.to_vec()).await.refused(400);
        let shown = String::from_utf8_lossy(&body[..body.len().min(40)]).into_owned();
        assert_eq!([&error["type"], &error["code"]], [&json!("invalid_request_error"), &json!(code)], "{shown}");
        assert!(error["message"].as_str().is_some_and(|text| text.len() < 500), "{shown}");
    }
    unharmed(&world, &merchant, rows).await;
    world.end().await;
}

#[tokio::test]
async fn only_forms_and_json_without_compression_are_read_and_only_so_much_of_them() {
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    let rows = world.rows().await;
    for media_type in
        ["text/plain", "application/xml", "multipart/form-data; boundary=x", "application/jsonx", "x", ","]
    {
        post_bytes(&merchant, media_type, "a=1").await.refused_with(415, "unsupported_media_type", "");
    }
    for encoding in ["gzip", "br", "deflate", "identity, gzip"] {
        let request = merchant.request(Method::POST, SESSIONS).header("Content-Type", JSON);
        let answer = merchant.send(request.header("Content-Encoding", encoding).body(vec![0x1f, 0x8b, 8, 0])).await;
        answer.refused_with(415, "unsupported_media_type", "");
    }
    for media_type in [FORM, JSON] {
        let body = format!("description={}", "a".repeat(1_000_000));
        post_bytes(&merchant, media_type, body).await.refused_with(413, "request_too_large", "");
    }
    for media_type in ["APPLICATION/JSON", "application/json; charset=utf-8", " application/json "] {
        post_bytes(&merchant, media_type, "{}").await.refused_with(400, "parameter_missing", "line_items");
    }
    for query in ["mode=payment", "foo", "idempotency_key=1"] {
        let answer = merchant.post(&format!("{SESSIONS}?{query}"), &coffee_with(&[])).await;
        answer.refused_with(400, "parameters_misplaced", "");
    }
    unharmed(&world, &merchant, rows).await;
    world.end().await;
}

#[tokio::test]
async fn each_wrong_parameter_is_named_with_its_code() {
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    let rows = world.rows().await;
    let long = |length: usize| "a".repeat(length);
    let (c41, c201, c501, c1001, c5001, c40001) =
        (long(41), long(201), long(501), long(1001), long(5001), long(40_001));
    let (long_key, fine_key) = (format!("metadata[{c41}]"), "metadata[ünï]");
    let description = "line_items[0][price_data][product_data][description]";
    let image = "line_items[0][price_data][product_data][images][0]";
    let card = "payment_intent_data[statement_descriptor]";
    let second_line = "line_items[1][price_data][currency]";
    let cases: &[Refused] = &[
        // Types.
        (&[(UNIT_AMOUNT, "12.99")], "parameter_invalid_integer", UNIT_AMOUNT),
        (&[(UNIT_AMOUNT, "1e3")], "parameter_invalid_integer", UNIT_AMOUNT),
        (&[(UNIT_AMOUNT, "+1")], "parameter_invalid_integer", UNIT_AMOUNT),
        (&[(UNIT_AMOUNT, " 1")], "parameter_invalid_integer", UNIT_AMOUNT),
        (&[(UNIT_AMOUNT, "٣")], "parameter_invalid_integer", UNIT_AMOUNT),
        (&[(UNIT_AMOUNT, "0x10")], "parameter_invalid_integer", UNIT_AMOUNT),
        (&[(QUANTITY, "two")], "parameter_invalid_integer", QUANTITY),
        (&[("expires_at", "tomorrow")], "parameter_invalid_integer", "expires_at"),
        (&[("allow_promotion_codes", "1")], "parameter_invalid_boolean", "allow_promotion_codes"),
        (&[("success_url[x]", "https://shop.example")], "parameters_malformed", "success_url[x]"),
        (&[("expand", "line_items")], "parameter_invalid_array", "expand"),
        (&[("payment_intent_data", "x")], "parameter_invalid_object", "payment_intent_data"),
        (&[("line_items[1]", "x")], "parameter_invalid_object", "line_items[1]"),
        (&[("line_items[1000][quantity]", "1")], "parameters_too_many", "line_items[1000]"),
        (&[("line_items[x][quantity]", "1")], "parameter_invalid_array", "line_items"),
        (&[("mode", "subscription")], "parameter_invalid_value", "mode"),
        (&[("ui_mode", "embedded")], "parameter_invalid_value", "ui_mode"),
        (&[("submit_type", "subscribe")], "parameter_invalid_value", "submit_type"),
        (&[("payment_method_types[]", "ideal")], "parameter_invalid_value", "payment_method_types[0]"),
        (
            &[("payment_intent_data[capture_method]", "later")],
            "parameter_invalid_value",
            "payment_intent_data[capture_method]",
        ),
        // Amounts.
        (&[(UNIT_AMOUNT, "9223372036854775807")], "amount_too_large", UNIT_AMOUNT),
        (&[(UNIT_AMOUNT, "9223372036854775808")], "parameter_invalid_integer", UNIT_AMOUNT),
        (&[(UNIT_AMOUNT, "-9223372036854775809")], "parameter_invalid_integer", UNIT_AMOUNT),
        (&[(UNIT_AMOUNT, "999999999999"), (QUANTITY, "2")], "amount_too_large", UNIT_AMOUNT),
        (&[(UNIT_AMOUNT, "999999999999"), (QUANTITY, "999999")], "amount_too_large", UNIT_AMOUNT),
        (&[(UNIT_AMOUNT, "-1")], "parameter_invalid_integer", UNIT_AMOUNT),
        (&[(UNIT_AMOUNT, "0")], "amount_too_small", "line_items"),
        (&[(UNIT_AMOUNT, "")], "parameter_missing", UNIT_AMOUNT),
        (&[(DECIMAL, "5")], "parameters_exclusive", DECIMAL),
        (&[(QUANTITY, "0")], "parameter_invalid_integer", QUANTITY),
        (&[(QUANTITY, "-2")], "parameter_invalid_integer", QUANTITY),
        (&[(QUANTITY, "1000000")], "parameter_invalid_integer", QUANTITY),
        (&[(QUANTITY, "")], "parameter_missing", QUANTITY),
        // Currencies.
        (&[(CURRENCY, "xxx")], "parameter_invalid", CURRENCY),
        (&[(CURRENCY, "euro")], "parameter_invalid", CURRENCY),
        (&[(CURRENCY, "€")], "parameter_invalid", CURRENCY),
        (&[(CURRENCY, "")], "parameter_invalid_empty", CURRENCY),
        (&[("currency", "usd")], "parameter_invalid", "currency"),
        (
            &[
                (second_line, "usd"),
                ("line_items[1][price_data][product_data][name]", "x"),
                ("line_items[1][price_data][unit_amount]", "1"),
                ("line_items[1][quantity]", "1"),
            ],
            "parameter_invalid",
            second_line,
        ),
        // Texts.
        (&[(NAME, "")], "parameter_invalid_empty", NAME),
        (&[(NAME, " \t ")], "parameter_invalid_empty", NAME),
        (&[(NAME, &c5001)], "parameter_invalid", NAME),
        (&[(NAME, "a\u{0}b")], "parameter_nul_character", NAME),
        (&[(NAME, "a\u{1b}[31m")], "parameter_control_character", NAME),
        (&[("metadata[\u{0}]", "x")], "parameter_nul_character", ""),
        (&[("metadata[a\nb]", "x")], "parameter_control_character", ""),
        (&[(description, &c40001)], "parameter_invalid", description),
        (&[(image, "javascript:alert(1)")], "url_invalid", image),
        (&[("description", "x")], "parameters_exclusive", "description"),
        (&[("client_reference_id", &c201)], "parameter_invalid_string", "client_reference_id"),
        (&[("customer_email", "nobody")], "email_invalid", "customer_email"),
        (&[("customer_email", "a@b.example\r\nBcc: x@y.example")], "email_invalid", "customer_email"),
        (&[("payment_intent_data[receipt_email]", "@")], "email_invalid", "payment_intent_data[receipt_email]"),
        (
            &[("payment_intent_data[description]", &c1001)],
            "parameter_invalid_string",
            "payment_intent_data[description]",
        ),
        (&[(card, "TWENTY-THREE CHARACTERS")], "parameter_invalid_string", card),
        (&[("locale", "klingon!")], "parameter_invalid", "locale"),
        // Metadata.
        (&[(&long_key, "x")], "parameter_invalid", "metadata"),
        (&[(fine_key, &c501)], "parameter_invalid_string", fine_key),
        (&[("metadata[]", "x")], "parameter_invalid_object", "metadata"),
        (&[("metadata", "x")], "parameter_invalid_object", "metadata"),
        (&[("metadata[a][b]", "x")], "parameter_invalid_string", "metadata[a]"),
        // Names.
        (&[("sucess_url", "https://shop.example")], "parameter_unknown", "sucess_url"),
        (
            &[("line_items[0][price_data][unit_amont]", "1")],
            "parameter_unknown",
            "line_items[0][price_data][unit_amont]",
        ),
        (&[("__proto__[x]", "1")], "parameter_unknown", "__proto__"),
    ];
    for (fields, code, param) in cases {
        let answer = merchant.post_with_key(SESSIONS, &coffee_with(fields), "bad-input").await;
        answer.refused_with(400, code, param);
    }
    let error = merchant.post(SESSIONS, &coffee_with(&[("sucess_url", "x")])).await.refused(400);
    assert!(error["message"].as_str().is_some_and(|text| text.contains("Did you mean success_url?")), "{error}");
    unharmed(&world, &merchant, rows).await;
    world.end().await;
}

#[tokio::test]
async fn json_types_are_taken_as_they_are() {
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    let rows = world.rows().await;
    let many: serde_json::Map<_, _> = (0..51).map(|number| (format!("k{number}"), json!("v"))).collect();
    for (body, code, param) in [
        (json!({"amount": "500", "currency": "eur"}), "parameter_invalid_integer", "amount"),
        (json!({"amount": 5.0, "currency": "eur"}), "parameter_invalid_integer", "amount"),
        (json!({"amount": 1e300, "currency": "eur"}), "parameter_invalid_integer", "amount"),
        (json!({"amount": true, "currency": "eur"}), "parameter_invalid_integer", "amount"),
        (json!({"amount": 18_446_744_073_709_551_615_u64, "currency": "eur"}), "parameter_invalid_integer", "amount"),
        (json!({"amount": 500, "currency": 978}), "parameter_invalid_string", "currency"),
        (json!({"amount": 500, "currency": ["eur"]}), "parameter_invalid_string", "currency"),
        (json!({"amount": 500, "currency": null}), "parameter_missing", "currency"),
        (json!({"line_items": {}}), "parameter_invalid_array", "line_items"),
        (json!({"line_items": []}), "parameter_invalid_empty", "line_items"),
        (json!({"line_items": [null]}), "parameter_invalid_empty", "line_items[0]"),
        (json!({"line_items": "x"}), "parameter_invalid_array", "line_items"),
        (json!({"amount": 5, "currency": "eur", "metadata": {"a": 5}}), "parameter_invalid_string", "metadata[a]"),
        (json!({"amount": 5, "currency": "eur", "metadata": []}), "parameter_invalid_object", "metadata"),
        (json!({"amount": 5, "currency": "eur", "metadata": {"a[b]": "x"}}), "parameter_invalid", "metadata"),
        (json!({"amount": 5, "currency": "eur", "metadata": {"": "x"}}), "parameter_invalid", "metadata"),
        (json!({"amount": 5, "currency": "eur", "metadata": many}), "parameter_invalid", "metadata"),
        (json!({"amount": 5, "currency": "eur", "description": "a\u{0}"}), "parameter_nul_character", "description"),
        (json!({"amount": 5, "currency": "eur", "mode": 1}), "parameter_invalid_value", "mode"),
    ] {
        let request = merchant.request(Method::POST, SESSIONS).header("Idempotency-Key", "bad-input").json(&body);
        let answer = merchant.send(request).await;
        answer.refused_with(400, code, param);
    }
    unharmed(&world, &merchant, rows).await;
    world.end().await;
}

#[tokio::test]
async fn an_update_that_would_break_a_bound_changes_nothing() {
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    let full: serde_json::Map<_, _> = (0..50).map(|number| (format!("k{number}"), json!("v"))).collect();
    let body = json!({"amount": 5, "currency": "eur", "metadata": full});
    let session = merchant.post_json(SESSIONS, &body).await.ok();
    let path = format!("{SESSIONS}/{}", session["id"].as_str().expect("an id"));
    for (fields, code, param) in [
        (vec![("metadata[k0]", "changed"), ("metadata[one_more]", "x")], "parameter_invalid", "metadata"),
        (vec![("metadata[k0]", ""), ("amount", "1")], "parameter_unknown", "amount"),
        (vec![("metadata[k0]", ""), ("expand", "x")], "parameter_invalid_array", "expand"),
    ] {
        merchant.post_with_key(&path, &fields, "k").await.refused_with(400, code, param);
        assert_eq!(merchant.read(&session).await, session);
    }
    merchant.post(&path, &[("metadata[k0]", ""), ("metadata[one_more]", "x")]).await.ok();
    world.end().await;
}

#[tokio::test]
async fn what_stripe_has_and_this_gateway_does_not_do_is_refused_by_name() {
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    let rows = world.rows().await;
    for param in [
        "after_expiration[recovery][enabled]",
        "branding_settings[display_name]",
        "consent_collection[promotions]",
        "custom_fields[0][key]",
        "custom_text[submit][message]",
        "customer_account",
        "customer_update[name]",
        "discounts[0][coupon]",
        "excluded_payment_method_types[]",
        "line_items[0][dynamic_tax_rates][]",
        "line_items[0][metadata][a]",
        "line_items[0][price]",
        "line_items[0][price_data][product]",
        "line_items[0][price_data][product_data][tax_details][tax_code]",
        "line_items[0][price_data][product_data][unit_label]",
        "line_items[0][price_data][recurring][interval]",
        "line_items[0][tax_rates][]",
        "managed_payments[enabled]",
        "name_collection[business][enabled]",
        "optional_items[0][price]",
        "payment_intent_data[application_fee_amount]",
        "payment_intent_data[on_behalf_of]",
        "payment_intent_data[shipping][name]",
        "payment_intent_data[transfer_data][destination]",
        "payment_intent_data[transfer_group]",
        "payment_method_configuration",
        "payment_method_data[allow_redisplay]",
        "payment_method_options[card][installments][enabled]",
        "permissions[update_shipping_details]",
        "redirect_on_completion",
        "setup_intent_data[description]",
        "shipping_address_collection[allowed_countries][]",
        "shipping_options[0][shipping_rate]",
        "subscription_data[trial_period_days]",
        "wallet_options[link][display]",
    ] {
        let error = merchant.post_with_key(SESSIONS, &coffee_with(&[(param, "x")]), "k").await.refused(400);
        assert_eq!(error["code"], "parameter_unsupported", "{param}: {error}");
        assert!(error["param"].as_str().is_some_and(|named| param.starts_with(named)), "{param}: {error}");
    }
    for (param, value, named) in [
        ("automatic_tax[enabled]", "true", "automatic_tax[enabled]"),
        ("phone_number_collection[enabled]", "true", "phone_number_collection[enabled]"),
        ("tax_id_collection[enabled]", "true", "tax_id_collection[enabled]"),
        ("invoice_creation[enabled]", "true", "invoice_creation[enabled]"),
        ("adaptive_pricing[enabled]", "true", "adaptive_pricing[enabled]"),
        ("line_items[0][adjustable_quantity][enabled]", "true", "line_items[0][adjustable_quantity][enabled]"),
        ("allow_promotion_codes", "true", "allow_promotion_codes"),
    ] {
        let fields = coffee_with(&[(param, value)]);
        merchant.post_with_key(SESSIONS, &fields, "k").await.refused_with(400, "parameter_unsupported", named);
        // Switched off, the same parameter promises nothing.
        merchant.session_with(&[(param, "false")]).await;
    }
    for (param, value) in [
        ("billing_address_collection", "never"),
        ("customer_creation", "sometimes"),
        ("payment_intent_data[setup_future_usage]", "later"),
        ("saved_payment_method_options[payment_method_remove]", "enabled"),
        ("payment_method_collection", "always"),
        ("mode", "setup"),
    ] {
        let fields = coffee_with(&[(param, value)]);
        merchant.post_with_key(SESSIONS, &fields, "k").await.refused_with(400, "parameter_invalid_value", param);
    }
    assert_eq!(world.count("select count(*) from idempotency_key").await, 0);
    assert!(world.rows().await > rows, "those that were switched off made sessions");
    world.end().await;
}
