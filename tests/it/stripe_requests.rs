//! Each request that the Stripe connector makes, held against Stripe's published OpenAPI document.
//!
//! Bad requests go through the same check, so that one which accepts everything is noticed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use checkstand::domain::customer::PostalAddress;
use checkstand::domain::dispute::EVIDENCE_FIELDS;
use checkstand::providers::{Authentication, BillingDetails, Capture, ChargeRequest, Evidence, Provider as _, Report};
use reqwest::Method;
use serde_json::json;

use crate::fault_proxy::Recorded;
use crate::localstripe::DECLINED_NUMBER;
use crate::outside::{python, run};
use crate::provider_conformance::{Notebook, Surroundings as _, money};
use crate::stripe_conformance::Rig;

/// Stripe's document.
fn document() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/openapi/stripe.com.json");
    let path = std::env::var_os("CHECKSTAND_STRIPE_OPENAPI").map_or(own, Into::into);
    assert!(path.is_file(), "{} is missing: run scripts/install-prerequisites test", path.display());
    path
}

/// The operation of each request, if it is one, and what the document has against it.
async fn judged(requests: &[Recorded]) -> Vec<(Option<String>, Vec<String>)> {
    let lines: String = requests
        .iter()
        .map(|sent| {
            format!("{}\n", json!({ "method": sent.method.as_str(), "target": sent.target, "form": sent.form }))
        })
        .collect();
    let mut validator = python("validate_requests.py");
    validator.arg(document());
    let facts = run(validator, lines).await;
    let verdicts = facts["verdicts"].as_array().expect("a list");
    assert_eq!(verdicts.len(), requests.len());
    verdicts
        .iter()
        .map(|verdict| {
            let complaints = verdict["complaints"].as_array().expect("a list").iter();
            let complaints = complaints.map(|text| text.as_str().expect("a text").to_owned()).collect();
            (verdict["operation"].as_str().map(str::to_owned), complaints)
        })
        .collect()
}

#[tokio::test]
async fn each_request_is_valid_against_stripes_own_document() {
    let rig = Rig::start().await;
    let notebook = Notebook::default();
    // Everything that a request can carry, and every call.
    let full = ChargeRequest {
        authentication: Authentication::Always,
        capture: Capture::Manual,
        description: Some("Beans & more: ".repeat(200)),
        statement_descriptor: Some("The Corner Coffee Company of Basel".to_owned()),
        billing: BillingDetails {
            name: Some("Ada Lovelace".to_owned()),
            email: Some("ada@example.com".to_owned()),
            address: Some(PostalAddress {
                city: Some("Basel".to_owned()),
                country: Some("CH".to_owned()),
                line1: Some("Rheinsprung 1".to_owned()),
                line2: Some("2. Stock".to_owned()),
                postal_code: Some("4051".to_owned()),
                state: Some("BS".to_owned()),
            }),
        },
        ..rig.request("ch_full", "4242424242424242")
    };
    let report = rig.provider.charge(full, &notebook.page("ch_full")).await;
    assert!(matches!(report, Report::Authorized { .. }), "{report:?}");
    let _ = rig.provider.capture(&notebook.known("ch_full"), money(2_000)).await;
    let _ = rig.charge("ch_paid", "4242424242424242").await;
    let _ = rig.refund("re_part", "ch_paid", 500).await;
    let _ = rig.provider.void(&rig.known("ch_paid")).await;
    let _ = rig.charge("ch_declined", DECLINED_NUMBER).await;
    let _ = rig.reserve("ch_let_go").await;
    let _ = rig.provider.void(&rig.known("ch_let_go")).await;
    let asked = rig.charge("ch_asked", "4000002500003155").await;
    let Report::RequiresAction { redirect_url, .. } = asked else { panic!("{asked:?}") };
    rig.answer_challenge(&redirect_url, true).await;
    let _ = rig.look_up("ch_asked").await;

    let _ = rig.charge("ch_disputed", "4242424242424242").await;
    let disputed = rig.known("ch_disputed");
    let evidence: Evidence =
        EVIDENCE_FIELDS.iter().map(|(field, _)| ((*field).to_owned(), "1 Bean Street".to_owned())).collect();
    let dispute = rig.open_dispute(&disputed).await.expect("a dispute");
    let _ = rig.provider.submit_evidence(&disputed, &dispute, &evidence).await;
    let dispute = rig.open_dispute(&disputed).await.expect("another");
    let _ = rig.provider.close_dispute(&disputed, &dispute).await;

    let sent = rig.proxy.recorded();
    let mut operations = BTreeSet::new();
    for (request, (operation, complaints)) in sent.iter().zip(judged(&sent).await) {
        assert!(complaints.is_empty(), "{complaints:?}: {request:?}");
        operations.insert(operation.expect("it has no complaints"));
        assert!(request.header("stripe-version").is_some(), "{request:?}");
        assert_eq!(request.header("authorization"), Some("Bearer sk_test_localstripe"));
        if request.method == Method::POST {
            assert_eq!(request.header("content-type"), Some("application/x-www-form-urlencoded"));
            let key = request.header("idempotency-key").expect("each carries one");
            assert!(key.starts_with("ch_") || key.starts_with("re_") || key.starts_with("void-ch_"), "{key}");
            assert!(key.len() <= 255, "{key}");
        }
    }
    let expected = [
        "GET /v1/disputes/{dispute}",
        "GET /v1/payment_intents/{intent}",
        "GET /v1/refunds",
        "POST /v1/disputes/{dispute}",
        "POST /v1/disputes/{dispute}/close",
        "POST /v1/payment_intents",
        "POST /v1/payment_intents/{intent}/cancel",
        "POST /v1/payment_intents/{intent}/capture",
        "POST /v1/payment_intents/{intent}/confirm",
        "POST /v1/payment_methods",
        "POST /v1/refunds",
    ];
    assert_eq!(operations.iter().map(String::as_str).collect::<Vec<_>>(), expected);
    let fields: BTreeSet<&str> = sent.iter().flat_map(|sent| &sent.form).map(|(name, _)| name.as_str()).collect();
    for field in [
        "billing_details[name]",
        "billing_details[email]",
        "billing_details[address][city]",
        "billing_details[address][country]",
        "billing_details[address][line1]",
        "billing_details[address][line2]",
        "billing_details[address][postal_code]",
        "billing_details[address][state]",
        "return_url",
        "description",
        "statement_descriptor_suffix",
        "payment_method_options[card][request_three_d_secure]",
        "metadata[checkstand_charge]",
        "metadata[checkstand_refund]",
    ] {
        assert!(fields.contains(field), "{field} was never sent: {fields:?}");
    }
}

#[tokio::test]
async fn bad_requests_are_noticed() {
    let request = |target: &str, form: &[(&str, &str)]| Recorded {
        method: Method::POST,
        target: target.to_owned(),
        headers: Vec::new(),
        form: form.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
    };
    let path = "/v1/payment_intents";
    let good = [("amount", "100"), ("currency", "eur"), ("payment_method_types[]", "card"), ("metadata[a]", "b")];
    let with = |field: (&'static str, &'static str)| {
        let fields = good.iter().filter(|(name, _)| *name != field.0).copied().chain([field]);
        request(path, &fields.collect::<Vec<_>>())
    };
    let requests = [
        request(path, &good),
        with(("amount", "ten")),
        with(("capture_method", "by hand")),
        with(("capture_methods", "manual")),
        with(("statement_descriptor_suffix", "longer than twenty-two characters")),
        with(("payment_method_options[card][request_three_d_secure]", "always")),
        request(path, &good[1..]),
        request("/v1/payment_intent", &good),
        request("/v1/payment_intents?limit=1", &good),
    ];
    let verdicts = judged(&requests).await;
    assert_eq!(verdicts[0], (Some("POST /v1/payment_intents".to_owned()), Vec::new()));
    for (request, (_, complaints)) in requests.iter().zip(&verdicts).skip(1) {
        assert!(!complaints.is_empty(), "it was accepted: {request:?}");
    }
}
