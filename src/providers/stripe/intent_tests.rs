//! What intents mean, case by case: Stripe's statuses, and answers that must not be believed.

use serde_json::{Value, json};

use super::*;
use crate::domain::decline::DeclineReason;
use crate::domain::money::{Currency, Money};

fn charge() -> ChargeRef {
    ChargeRef {
        charge_id: "ch_1".to_owned(),
        reference: Some("pi_1".to_owned()),
        money: Money { minor: 2_500, currency: Currency::parse("eur").expect("a known currency") },
        livemode: false,
    }
}

fn intent(changes: Value) -> Value {
    let mut object = json!({
        "object": "payment_intent", "id": "pi_1", "status": "succeeded", "amount": 2_500, "currency": "eur",
        "livemode": false, "metadata": {"checkstand_charge": "ch_1"}, "amount_received": 2_500,
        "amount_capturable": 0, "capture_method": "automatic", "next_action": null, "last_payment_error": null,
        "latest_charge": {
            "object": "charge", "id": "ch_stripe", "status": "succeeded", "amount": 2_500, "captured": true,
            "amount_refunded": 0, "refunded": false, "outcome": {"risk_level": "elevated"},
            "payment_method_details": {"card": {
                "country": "de",
                "network": "visa", "checks": {"cvc_check": "pass", "address_postal_code_check": null},
                "three_d_secure": {"authentication_flow": "challenge", "result": "authenticated", "version": "2.2.0"},
            }},
        },
    });
    merge(&mut object, changes);
    object
}

fn merge(into: &mut Value, changes: Value) {
    match (into, changes) {
        (Value::Object(into), Value::Object(changes)) => {
            for (key, change) in changes {
                merge(into.entry(key).or_insert(Value::Null), change);
            }
        }
        (into, change) => *into = change,
    }
}

fn standing(changes: Value) -> Result<Standing, String> {
    Intent::read(intent(changes), &charge()).and_then(|intent| intent.standing())
}

fn known(changes: Value) -> Report {
    match standing(changes) {
        Ok(Standing::Known(report)) => report,
        other => panic!("{other:?}"),
    }
}

#[test]
fn facts_are_read_from_the_charge() {
    let Report::Succeeded { reference, facts } = known(json!({})) else { panic!("it has succeeded") };
    assert_eq!(reference, "pi_1");
    assert_eq!((facts.checks.cvc, facts.checks.postal_code), (Some(CheckResult::Pass), None));
    assert_eq!(facts.issuer_country.as_deref(), Some("DE"));
    assert_eq!((facts.network.as_deref(), facts.risk), (Some("visa"), Some(RiskLevel::Elevated)));
    let ended = facts.three_d_secure.expect("an authentication");
    assert_eq!(ended.flow, Some(AuthenticationFlow::Challenge));
    assert_eq!((ended.result, ended.version.as_deref()), (AuthenticationResult::Authenticated, Some("2.2.0")));
}

#[test]
fn the_status_read_back_decides() {
    let reference = || Some("pi_1".to_owned());
    assert!(matches!(known(json!({"latest_charge": {"refunded": true}})), Report::Reversed { .. }));
    assert!(matches!(known(json!({"status": "canceled"})), Report::Reversed { .. }), "whatever else it claims");
    assert_eq!(known(json!({"status": "processing"})), Report::Pending { reference: reference() });
    assert_eq!(known(json!({"status": "a_word_of_next_year"})), Report::Pending { reference: reference() });
    let reserved = json!({"status": "requires_capture", "capture_method": "manual", "amount_received": 0,
        "amount_capturable": 2_500, "latest_charge": {"captured": false}});
    assert!(matches!(known(reserved), Report::Authorized { .. }));
    let declined = json!({"status": "requires_payment_method", "amount_received": 0,
        "last_payment_error": {"type": "card_error", "code": "card_declined", "decline_code": "insufficient_funds"}});
    let report = known(declined);
    assert!(matches!(report, Report::Declined { reason: DeclineReason::InsufficientFunds, .. }), "{report:?}");
    let asked = json!({"status": "requires_action", "latest_charge": null,
        "next_action": {"type": "redirect_to_url", "redirect_to_url": {"url": "https://hooks.stripe.com/x"}}});
    assert_eq!(
        known(asked),
        Report::RequiresAction { reference: "pi_1".to_owned(), redirect_url: "https://hooks.stripe.com/x".to_owned() }
    );
    let partly =
        json!({"capture_method": "manual", "amount_received": 1_000, "latest_charge": {"amount_refunded": 1_500}});
    assert!(matches!(known(partly), Report::Succeeded { .. }));
}

#[test]
fn what_was_not_confirmed_is_not_known() {
    for changes in [
        json!({"status": "requires_confirmation", "latest_charge": null}),
        json!({"status": "requires_payment_method", "latest_charge": null}),
    ] {
        assert_eq!(standing(changes), Ok(Standing::Unconfirmed));
    }
    for next_action in [
        json!({"type": "use_stripe_sdk", "use_stripe_sdk": {}}),
        json!({"type": "redirect_to_url", "redirect_to_url": {"url": "javascript:alert(1)"}}),
    ] {
        let asked = json!({"status": "requires_action", "latest_charge": null, "next_action": next_action});
        assert_eq!(standing(asked), Ok(Standing::CannotBeAsked));
    }
}

#[test]
fn what_is_not_ours_is_never_believed() {
    for changes in [
        json!({"amount": 2_501}),
        json!({"amount": 250}),
        json!({"currency": "usd"}),
        json!({"livemode": true}),
        json!({"metadata": {"checkstand_charge": "ch_2"}}),
        json!({"metadata": {"checkstand_charge": null}}),
        json!({"id": "pi_2"}),
        json!({"id": "pi_1/../x"}),
        json!({"object": "charge"}),
        json!({"status": null}),
    ] {
        assert!(Intent::read(intent(changes.clone()), &charge()).is_err(), "{changes}");
    }
    assert!(Intent::read(json!([]), &charge()).is_err());
}

#[test]
fn money_that_contradicts_itself_is_never_believed() {
    for changes in [
        json!({"amount_received": 0}),
        json!({"amount_received": 2_499}),
        json!({"amount_received": 2_501, "capture_method": "manual"}),
        json!({"amount_received": 0, "capture_method": "manual"}),
        json!({"latest_charge": {"captured": false}}),
        json!({"latest_charge": {"status": "failed"}}),
        json!({"amount_received": null, "latest_charge": "ch_stripe"}),
        json!({"status": "requires_capture", "amount_capturable": 2_500}),
        json!({"status": "requires_capture", "capture_method": "manual", "amount_capturable": 1_000}),
    ] {
        assert!(standing(changes.clone()).is_err(), "{changes}");
    }
}

#[test]
fn ids_fit_into_a_path() {
    assert!(is_id("pi_", "pi_3MtwBwLkdIwHu7ix28a3tqPa"));
    for wrong in ["pm_1", "pi_1/2", "pi_1?x", "pi_ ", "pi_é", &format!("pi_{}", "1".repeat(300))] {
        assert!(!is_id("pi_", wrong), "{wrong}");
    }
}
