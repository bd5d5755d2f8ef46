//! The life of an escrow as one table, and what the table cannot show: frozen clocks and sums.

use chrono::{DateTime, Duration, Utc};

use super::*;
use crate::domain::escrow::{AtBank, Contract, Times, Words};
use crate::domain::id::{ChargeId, EscrowId, MerchantId, PaymentId};
use crate::domain::money::{Currency, Money};
use crate::domain::session::Metadata;

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000 + second, 0).expect("in range")
}

fn money(minor: i64) -> Money {
    Money { minor, currency: Currency::parse("eur").expect("known") }
}

fn escrow(mode: Mode, status: Status) -> Escrow {
    let signed = (mode == Mode::Standard && status != Status::Pending).then(|| at(1));
    let mut escrow = Escrow {
        id: EscrowId::generate(at(0)),
        merchant_id: MerchantId::generate(at(0)),
        livemode: false,
        mode,
        title: "A canoe".to_owned(),
        total: money(10_000),
        fee_minor: if mode == Mode::Instant { 0 } else { 333 },
        buyer_email: "buyer@a.example".to_owned(),
        seller_email: (mode != Mode::Instant).then(|| "seller@b.example".to_owned()),
        estimated_delivery_days: Some(3),
        inspection_days: 7,
        contract: (mode == Mode::Standard).then(|| Contract {
            terms: "As seen.".to_owned(),
            text: "As seen.".to_owned(),
            sha256: [0; 32],
        }),
        metadata: Metadata::new(),
        state: State::Pending { paying: None },
        times: Times { buyer_signed: signed, seller_signed: signed, ..Times::default() },
        words: Words::default(),
        payment: None,
        returned_minor: 0,
        at_bank: AtBank::default(),
        event_count: 1,
        history_count: 1,
        history_head: [0; 32],
        created_at: at(0),
    };
    let settlement = escrow.settle(Resolution::Release).expect("it divides");
    escrow.state = match status {
        Status::Pending => State::Pending { paying: None },
        Status::Paid => State::Paid,
        Status::Delivered => State::Delivered { deadline: at(100) },
        Status::Disputed => State::Disputed { from: Suspended::Paid, during_cancellation: false },
        Status::CancellationRequested => {
            State::CancellationRequested { from: Suspended::Delivered { left: Duration::seconds(60) } }
        }
        Status::Refunding => State::Refunding { settlement },
        Status::RefundFailed => State::RefundFailed { settlement },
        Status::ReleaseHeld => State::ReleaseHeld { settlement },
        Status::Completed => State::Completed { settlement },
        Status::Cancelled => State::Cancelled { settlement: None },
    };
    escrow
}

fn request(act: Act) -> Option<Request> {
    let reason = || "why".to_owned();
    Some(match act {
        Act::SignContract => Request::SignContract,
        Act::AcceptPay => return None,
        Act::Complete => Request::Complete,
        Act::Dispute => Request::Dispute { reason: reason(), text: reason() },
        Act::RequestCancellation => Request::RequestCancellation { reason: reason() },
        Act::AcceptCancellation => Request::AcceptCancellation,
        Act::RejectCancellation => Request::RejectCancellation { reason: reason() },
        Act::CancelEscrow => Request::CancelEscrow,
        Act::Deliver => Request::Deliver { tracking_reference: None, note: None },
        Act::RejectDelivery => Request::RejectDelivery { reason: reason() },
        Act::Cancel => Request::Cancel,
        Act::Resolve => Request::Resolve(Resolution::Split { refund: 4_000, release: 6_000 }),
        Act::CompleteWhenDue => Request::CompleteWhenDue,
    })
}

fn payment(session: &SessionId) -> EscrowPayment {
    EscrowPayment {
        session_id: session.clone(),
        payment_id: PaymentId::generate(at(0)),
        charge_id: ChargeId::generate(at(0)),
    }
}

fn attempt(escrow: Escrow, act: Act, actor: Actor, now: DateTime<Utc>) -> Result<Step, Refusal> {
    match request(act) {
        Some(request) => escrow.perform(request, actor, now),
        None => {
            escrow.check(act, Some(actor), now)?;
            let session = SessionId::generate(now, false);
            escrow.start_payment(&session, now)?.payment_taken(payment(&session), now)
        }
    }
}

fn told(result: Result<Step, Refusal>) -> String {
    match result {
        Ok(step) => {
            let events: Vec<&str> =
                step.events.iter().map(|event| event.kind().rsplit('.').next().unwrap_or("")).collect();
            let refund = step.refund.map(|minor| format!(" refund {minor}")).unwrap_or_default();
            let lost = |lost: i64| if lost > 0 { format!(" lost {lost}") } else { String::new() };
            let release =
                step.release.map(|parts| format!(" release {}+{}{}", parts.seller, parts.merchant, lost(parts.lost)));
            let release = release.unwrap_or_default();
            format!("{} {}{refund}{release}", step.escrow.state.status().as_str(), events.join("+"))
        }
        Err(refusal) => refusal.code().trim_start_matches("escrow_").to_owned(),
    }
}

/// What a bank can say of a payment of 100.00.
const AT_BANKS: [(&str, AtBank); 2] = [
    ("disputed at the bank", AtBank { is_open: true, is_lost: false, taken_minor: 3_000, lost_minor: 0 }),
    ("lost at the bank", AtBank { is_open: false, is_lost: true, taken_minor: 0, lost_minor: 3_000 }),
];

/// All modes, statuses, acts and roles, with the buyer's bank and without, before the deadline of the inspection and, where there is one, at it.
#[test]
fn the_life_of_an_escrow_is_this_table() {
    let mut table = String::new();
    for mode in Mode::ALL {
        for status in Status::ALL {
            for act in Act::ALL {
                for actor in Actor::ALL {
                    for second in [99, 100] {
                        if second == 100 && status != Status::Delivered {
                            continue;
                        }
                        let late = if second == 100 { " at deadline" } else { "" };
                        let outcome = told(attempt(escrow(mode, status), act, actor, at(second)));
                        let (mode_is, status_is) = (mode.as_str(), status.as_str());
                        let who = format!("{late} {} {}", act.as_str(), actor.as_str());
                        table.push_str(&format!("{mode_is} {status_is}{who}: {outcome}\n"));
                        // With the bank, only where that makes a difference.
                        for (bank, at_bank) in AT_BANKS {
                            let disputed = Escrow { at_bank, ..escrow(mode, status) };
                            let then = told(attempt(disputed, act, actor, at(second)));
                            if status != Status::Pending && then != outcome {
                                table.push_str(&format!("{mode_is} {status_is}, {bank}{who}: {then}\n"));
                            }
                        }
                    }
                }
            }
            table.push_str(&format!(
                "{} {} refund reported: {}\n",
                mode.as_str(),
                status.as_str(),
                told(escrow(mode, status).refunded(at(99)))
            ));
            table.push_str(&format!(
                "{} {} refund refused: {}\n",
                mode.as_str(),
                status.as_str(),
                told(escrow(mode, status).refund_refused(at(99)))
            ));
        }
    }
    let expected = include_str!("escrow_lifecycle.txt");
    if std::env::var_os("CHECKSTAND_WRITE_REFERENCE").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/domain/escrow_lifecycle.txt");
        std::fs::write(path, &table).expect("the reference can be written");
        return;
    }
    let first = table.lines().zip(expected.lines()).find(|(is, was)| is != was);
    assert!(
        table == expected,
        "the lifecycle differs from src/domain/escrow_lifecycle.txt, first at {first:?}; if that is meant, write it \
         anew with CHECKSTAND_WRITE_REFERENCE=1 cargo test --lib the_life_of_an_escrow"
    );
}

#[test]
fn paying_needs_both_signatures_and_each_side_signs_once() {
    let fresh = || escrow(Mode::Standard, Status::Pending);
    let session = SessionId::generate(at(0), false);
    assert_eq!(fresh().start_payment(&session, at(1)), Err(Refusal::EscrowContractNotSigned));
    let sign = |escrow: Escrow, who| escrow.perform(Request::SignContract, who, at(2)).map(|step| step.escrow);
    let one = sign(fresh(), Actor::Seller).expect("the seller signs");
    assert_eq!(sign(one.clone(), Actor::Seller), Err(Refusal::EscrowAlreadySigned { party: "seller" }));
    assert_eq!(one.clone().start_payment(&session, at(3)), Err(Refusal::EscrowContractNotSigned));
    let both = sign(one, Actor::Buyer).expect("the buyer signs");
    assert!(both.start_payment(&session, at(3)).is_ok());
}

#[test]
fn while_a_payment_is_in_flight_nobody_else_pays_and_nobody_cancels() {
    let (first, second) = (SessionId::generate(at(0), false), SessionId::generate(at(0), false));
    let paying = escrow(Mode::Quick, Status::Pending).start_payment(&first, at(1)).expect("it starts");
    assert_eq!(paying.clone().start_payment(&second, at(1)), Err(Refusal::EscrowPaymentProcessing));
    assert_eq!(paying.clone().perform(Request::Cancel, Actor::Merchant, at(1)), Err(Refusal::EscrowPaymentProcessing));
    assert!(paying.clone().payment_taken(payment(&second), at(2)).is_err());
    let declined = paying.clone().payment_declined(&first).expect("declined");
    assert!(declined.start_payment(&second, at(3)).is_ok());
    let paid = paying.payment_taken(payment(&first), at(2)).expect("taken").escrow;
    assert_eq!(paid.state, State::Paid);
    assert!(paid.payment_taken(payment(&first), at(2)).is_err());
}

#[test]
fn the_clock_of_the_inspection_stands_still_while_suspended() {
    let ask = Request::RequestCancellation { reason: "why".to_owned() };
    let asked = escrow(Mode::Quick, Status::Delivered).perform(ask, Actor::Buyer, at(40)).expect("asked").escrow;
    assert_eq!(asked.completion_deadline(), None);
    assert!(asked.clone().perform(Request::CompleteWhenDue, Actor::Time, at(5_000)).is_err());
    let no = Request::RejectCancellation { reason: "no".to_owned() };
    let resumed = asked.clone().perform(no, Actor::Seller, at(1_000)).expect("rejected").escrow;
    assert_eq!(resumed.completion_deadline(), Some(at(1_060)));
    assert!(resumed.clone().perform(Request::CompleteWhenDue, Actor::Time, at(1_059)).is_err());
    assert!(resumed.perform(Request::CompleteWhenDue, Actor::Time, at(1_060)).is_ok());

    let argue = Request::Dispute { reason: "other".to_owned(), text: "text".to_owned() };
    let disputed = asked.perform(argue, Actor::Seller, at(2_000)).expect("disputed").escrow;
    let from = Suspended::Delivered { left: Duration::seconds(60) };
    assert_eq!(disputed.state, State::Disputed { from, during_cancellation: true });
    assert_eq!(disputed.state.previous(), Some(Status::CancellationRequested));
}

#[test]
fn a_split_is_the_whole_and_nothing_else() {
    let escrow = escrow(Mode::Quick, Status::Disputed);
    for (refund, release) in [(0, 10_000), (10_000, 0), (-1, 10_001), (1, 1), (5_000, 5_001), (i64::MAX, 1)] {
        let refused = escrow.settle(Resolution::Split { refund, release });
        assert_eq!(refused, Err(Refusal::EscrowSplitNotWhole { whole: 10_000 }), "{refund} {release}");
    }
    let parts = escrow.settle(Resolution::Split { refund: 4_000, release: 6_000 }).expect("it divides");
    assert_eq!(parts, Settlement { buyer: 4_000, seller: 5_801, merchant: 199, lost: 0 });
}

proptest::proptest! {
    #[test]
    fn whatever_is_decided_the_parts_sum_to_what_was_paid(
        total in 2..=999_999_999_999_i64, fee in 0..=999_999_999_999_i64, cut in 1..=999_999_999_999_i64,
    ) {
        let mut escrow = escrow(Mode::Quick, Status::Disputed);
        escrow.total = money(total);
        escrow.fee_minor = fee.min(total);
        let refund = 1 + cut % (total - 1);
        for resolution in [
            Resolution::Release,
            Resolution::Refund,
            Resolution::Split { refund, release: total - refund },
        ] {
            let parts = escrow.settle(resolution).expect("it divides");
            proptest::prop_assert_eq!(parts.buyer + parts.seller + parts.merchant, total);
            proptest::prop_assert!(parts.buyer >= 0 && parts.seller >= 0 && parts.merchant >= 0);
        }
    }
}
