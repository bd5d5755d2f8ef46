//! The one list of event types: what an endpoint may subscribe to, and what docs/webhooks.md tells.
//! A name that no event has is refused where it is asked for, with the nearest name that there is: a
//! merchant who mistypes one would otherwise wait for ever for what never comes. Tests hold the list
//! against the sources and against the page.

/// Characters in a name or a pattern.
pub const EVENT_NAME_CHARS_MAX: usize = 100;

/// The type of the event that a test send makes. It is not in the list: nobody subscribes to it, it goes
/// to the endpoint that is tested and nowhere else.
pub const TEST_EVENT: &str = "webhook_endpoint.test";

/// The type that tells that an endpoint is not delivered to any more.
pub const ENDPOINT_DISABLED: &str = "webhook_endpoint.disabled";

/// A type of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventType {
    /// As in `type`.
    pub name: &'static str,
    /// What has happened, for the page.
    pub when: &'static str,
}

const fn event(name: &'static str, when: &'static str) -> EventType {
    EventType { name, when }
}

/// Every type, by family.
pub const EVENT_TYPES: &[EventType] = &[
    event("checkout.session.created", "the session was made"),
    event("checkout.session.opened", "a browser showed its page for the first time"),
    event("checkout.session.payment_failed", "a try was declined; the payer may try again"),
    event(
        "checkout.session.completed",
        "paid; or ordered, with the money only reserved (`payment_status` is `unpaid`)",
    ),
    event("checkout.session.async_payment_succeeded", "reserved money was taken: the session is `paid` now"),
    event("checkout.session.async_payment_failed", "reserved money was let go"),
    event("checkout.session.cancelled", "the payer gave up"),
    event("checkout.session.expired", "the deadline passed, or the merchant ended it"),
    event("checkout.session.failed", "the tries were used up, or the act of an escrow has become impossible"),
    event("payment_intent.created", "the session's payment was begun"),
    event("payment_intent.processing", "the payment's outcome is not known yet"),
    event("payment_intent.requires_action", "the payer's bank asks him to authenticate"),
    event("payment_intent.payment_failed", "a try was declined"),
    event("payment_intent.amount_capturable_updated", "money is reserved and can be captured"),
    event("payment_intent.succeeded", "the money was taken"),
    event("payment_intent.canceled", "the payment was given up; nothing will be taken"),
    event("charge.succeeded", "the bank said yes, whether the money was taken or reserved"),
    event("charge.failed", "the bank said no"),
    event("charge.captured", "reserved money was taken"),
    event("charge.refunded", "money was given back, in part or in full"),
    event("charge.refund.updated", "a refund of the charge came back: the payer's bank did not take it"),
    event("charge.updated", "something else about the charge has changed"),
    event("charge.dispute.created", "the payer disputes the charge at the bank"),
    event("charge.dispute.updated", "the dispute has changed: evidence, deadline, status"),
    event("charge.dispute.closed", "the dispute was decided, or what a refused refund had left open"),
    event("charge.dispute.funds_withdrawn", "the disputed money was taken back"),
    event("charge.dispute.funds_reinstated", "the disputed money was given back to the merchant"),
    event("refund.created", "a refund was begun"),
    event("refund.updated", "the refund has changed, or has succeeded"),
    event(
        "refund.failed",
        "the provider could not give the money back, or it came back after the refund had succeeded",
    ),
    event("review.opened", "a fraud rule holds the payment ([fraud.md](fraud.md))"),
    event("review.closed", "the held payment was approved, given up or let go"),
    event("customer.created", "the customer was made, by API or by a paid session"),
    event("customer.updated", "the customer has changed"),
    event("customer.deleted", "the customer and the kept cards are gone"),
    event("payment_method.attached", "a card was kept for a customer"),
    event("payment_method.updated", "the kept card has changed"),
    event("payment_method.detached", "the kept card was removed"),
    event("product.created", "the product was made"),
    event("product.updated", "the product has changed"),
    event("product.deleted", "the product is gone"),
    event("price.created", "the price was made"),
    event("price.updated", "the price has changed"),
    event("price.deleted", "the price is gone"),
    event("coupon.created", "the coupon was made"),
    event("coupon.updated", "the coupon has changed"),
    event("coupon.deleted", "the coupon is gone"),
    event("promotion_code.created", "the code was made"),
    event("promotion_code.updated", "the code has changed"),
    event("payment_link.created", "the payment link was made"),
    event("payment_link.updated", "the payment link has changed"),
    event(
        "contract.signed",
        "one side signed the contract of an escrow; `signed_by` says which ([escrow.md](escrow.md))",
    ),
    event("escrow.created", "the escrow was made"),
    event("escrow.paid", "the buyer's money is held"),
    event("escrow.delivered", "the seller says that he delivered"),
    event("escrow.delivery_rejected", "the buyer does not accept the delivery"),
    event("escrow.completed", "the buyer accepted the delivery"),
    event("escrow.disputed", "a party asks for a decision"),
    event("escrow.dispute_resolved", "the dispute was decided"),
    event("escrow.cancellation_requested", "a party asks to call it off"),
    event("escrow.cancellation_accepted", "the other party agrees to call it off"),
    event("escrow.cancellation_rejected", "the other party does not agree"),
    event("escrow.cancelled", "it was called off"),
    event("escrow.refunding", "it is decided that money goes back; the provider is being asked"),
    event("escrow.refund_failed", "the provider refuses to give the money back: decide again with `resolve`"),
    event("escrow.refunded", "the buyer has the money back"),
    event("escrow.released", "the money went to the seller's balance"),
    event(ENDPOINT_DISABLED, "an endpoint of yours is not delivered to any more: see `disabled_reason`"),
];

/// Whether there is such a type.
pub fn is_listed(name: &str) -> bool {
    EVENT_TYPES.iter().any(|event| event.name == name)
}

/// Judges what an endpoint wants to hear of: `*`, a type, or a family such as `checkout.session.*`. The
/// error is a sentence for whoever asked.
///
/// # Errors
/// For what has another form, and for names and families without any event.
pub fn judge_pattern(pattern: &str) -> Result<(), String> {
    let stem = pattern.strip_suffix(".*").unwrap_or(pattern);
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    if pattern == "*" {
        return Ok(());
    }
    if pattern.len() > EVENT_NAME_CHARS_MAX || !stem.split('.').all(is_word) {
        return Err("An event name looks like `checkout.session.completed`, `checkout.session.*` or `*`.".to_owned());
    }
    let is_family = stem.len() < pattern.len();
    let known = |event: &&EventType| {
        if is_family {
            event.name.strip_prefix(stem).is_some_and(|rest| rest.starts_with('.'))
        } else {
            event.name == pattern
        }
    };
    if EVENT_TYPES.iter().any(|event| known(&event)) {
        return Ok(());
    }
    let nearest = nearest(pattern, is_family);
    Err(format!("No event is called `{pattern}`. Did you mean `{nearest}`? `*` stands for all of them."))
}

/// The name, or the family where one was asked for, that takes the fewest changed letters to reach.
fn nearest(pattern: &str, is_family: bool) -> String {
    let families = EVENT_TYPES.iter().flat_map(|event| {
        let cuts = event.name.match_indices('.').map(|(at, _)| format!("{}.*", &event.name[..at]));
        cuts.collect::<Vec<_>>()
    });
    let names = EVENT_TYPES.iter().map(|event| event.name.to_owned());
    let closest = |candidates: &mut dyn Iterator<Item = String>| {
        candidates.min_by_key(|candidate| changed_letters(pattern, candidate)).unwrap_or_else(|| "*".to_owned())
    };
    // Whoever forgot the asterisk behind a family's name wants the family.
    let family = format!("{pattern}.*");
    if is_family {
        closest(&mut families.into_iter())
    } else if families.clone().any(|known| known == family) {
        family
    } else {
        closest(&mut names.into_iter())
    }
}

/// Letters to insert, delete or change to make one text of the other (Levenshtein's distance).
fn changed_letters(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (line, letter) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (column, also) in other.iter().enumerate() {
            let changed = diagonal + usize::from(letter != *also);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_names_and_families_are_taken() {
        for event in EVENT_TYPES {
            assert_eq!(judge_pattern(event.name), Ok(()), "{}", event.name);
        }
        for pattern in ["*", "checkout.*", "checkout.session.*", "charge.*", "charge.dispute.*", "escrow.*"] {
            assert_eq!(judge_pattern(pattern), Ok(()), "{pattern}");
        }
    }

    #[test]
    fn a_name_that_no_event_has_is_answered_with_the_nearest() {
        for (asked, meant) in [
            ("checkout.session.complted", "checkout.session.completed"),
            ("checkout.session.canceled", "checkout.session.cancelled"),
            ("checkout.sesion.*", "checkout.session.*"),
            ("checkout.session", "checkout.session.*"),
            ("payment_intent.cancelled", "payment_intent.canceled"),
            ("charge.refundet", "charge.refunded"),
            ("charge.refund", "charge.refund.*"),
            ("payment_intents.*", "payment_intent.*"),
            // The family of nothing.
            ("checkout.session.completed.*", "checkout.session.*"),
        ] {
            let message = judge_pattern(asked).expect_err(asked);
            assert!(message.contains(&format!("`{asked}`")) && message.contains(&format!("`{meant}`")), "{message}");
        }
    }

    #[test]
    fn what_has_another_form_is_refused() {
        let long = "a".repeat(EVENT_NAME_CHARS_MAX + 1);
        for pattern in ["", "checkout..completed", "Checkout.session", "checkout.*.completed", ".*", "a b", &long] {
            assert!(judge_pattern(pattern).is_err_and(|message| message.contains("looks like")), "{pattern}");
        }
    }

    #[test]
    fn no_type_is_listed_twice() {
        let mut names: Vec<&str> = EVENT_TYPES.iter().map(|event| event.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), EVENT_TYPES.len());
    }
}

#[cfg(test)]
#[path = "event_types_tests.rs"]
mod reference_tests;
