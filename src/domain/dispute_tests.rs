//! Holds disputes against lives told in any order, twice, and with gaps.

use proptest::prelude::*;

use super::super::ledger::Account;
use super::super::money::Currency;
use super::*;

const AMOUNT: i64 = 2_598;
const FEE: i64 = 1_500;

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).expect("in range")
}

fn money() -> Money {
    Money { minor: AMOUNT, currency: Currency::parse("eur").expect("a known currency") }
}

fn opened() -> Dispute {
    Dispute {
        id: DisputeId::generate(now()),
        merchant_id: MerchantId::generate(now()),
        livemode: false,
        charge_id: ChargeId::generate(now()),
        payment_id: PaymentId::generate(now()),
        provider: "simulator".to_owned(),
        provider_reference: "dp_1".to_owned(),
        total: money(),
        reason: "fraudulent".to_owned(),
        status: DisputeStatus::NeedsResponse,
        amount_withdrawn: 0,
        amount_reinstated: 0,
        fee: None,
        evidence: Evidence::new(),
        evidence_due_by: None,
        submission_count: 0,
        metadata: Metadata::new(),
        under_way: None,
        created_at: now(),
        closed_at: None,
        look_ups: 0,
    }
}

fn picture(status: DisputeStatus, withdrawn: i64, reinstated: i64, submissions: i32) -> DisputeNews {
    DisputeNews {
        money: money(),
        reason: "fraudulent".to_owned(),
        status: Some(status),
        withdrawn,
        reinstated,
        fee: (withdrawn > 0).then_some(FEE),
        evidence_due_by: None,
        submissions: Some(submissions),
    }
}

/// A whole life, in order.
fn life(won: bool) -> Vec<DisputeNews> {
    use DisputeStatus::{Lost, NeedsResponse, UnderReview, Won};
    let end = if won { Won } else { Lost };
    let mut life = vec![
        picture(NeedsResponse, 0, 0, 0),
        picture(NeedsResponse, AMOUNT, 0, 0),
        picture(UnderReview, AMOUNT, 0, 1),
        picture(end, AMOUNT, 0, 1),
    ];
    if won {
        life.push(picture(Won, AMOUNT, AMOUNT, 1));
    }
    life
}

fn balance(movements: &[Movement], account: Account) -> i64 {
    movements
        .iter()
        .flat_map(|movement| movement.entries())
        .filter(|entry| entry.account == account)
        .map(|entry| entry.amount)
        .sum()
}

proptest! {
    #[test]
    fn the_end_is_the_same_in_whatever_order_and_how_often_it_is_told(
        won in any::<bool>(),
        order in prop::collection::vec(0_usize..5, 0..30),
    ) {
        let life = life(won);
        let mut dispute = opened();
        let mut heard = Heard::default();
        for place in order.iter().map(|place| place % life.len()).chain([life.len() - 1]) {
            let more = dispute.hear(&life[place], now());
            prop_assert!(!more.contradicts);
            heard.movements.extend(more.movements);
            heard.events.extend(more.events);
        }
        let end = if won { DisputeStatus::Won } else { DisputeStatus::Lost };
        prop_assert_eq!((dispute.status, dispute.outstanding()), (end, if won { 0 } else { AMOUNT }));
        let booked = &heard.movements;
        prop_assert_eq!(booked.len(), 3, "{:?}", booked);
        let back = if won { 0 } else { AMOUNT };
        prop_assert_eq!(balance(booked, Account::Merchant), -back - FEE);
        prop_assert_eq!(balance(booked, Account::Payer), back);
        prop_assert_eq!(balance(booked, Account::Disputed), 0);
        for once in [FUNDS_WITHDRAWN, CLOSED] {
            prop_assert_eq!(heard.events.iter().filter(|event| **event == once).count(), 1);
        }
        prop_assert_eq!(heard.events.contains(&FUNDS_REINSTATED), won);
        let again = dispute.hear(life.last().expect("it has an end"), now());
        prop_assert_eq!(again, Heard::default());
    }
}

#[test]
fn an_inquiry_moves_nothing() {
    let mut dispute = Dispute { status: DisputeStatus::WarningNeedsResponse, ..opened() };
    let heard = dispute.hear(&picture(DisputeStatus::WarningClosed, 0, 0, 0), now());
    assert_eq!((heard.movements, heard.events), (Vec::new(), vec![CLOSED]));
    assert_eq!(dispute.closed_at, Some(now()));
}

#[test]
fn money_withdrawn_after_the_loss_was_told_goes_to_the_payer_all_the_same() {
    let mut dispute = opened();
    assert!(dispute.hear(&picture(DisputeStatus::Lost, 0, 0, 0), now()).movements.is_empty());
    let heard = dispute.hear(&picture(DisputeStatus::Lost, AMOUNT, 0, 0), now());
    assert_eq!(balance(&heard.movements, Account::Payer), AMOUNT);
    assert_eq!(heard.events, [FUNDS_WITHDRAWN]);
}

#[test]
fn an_end_that_is_taken_back_is_noticed_and_not_booked() {
    let mut dispute = opened();
    dispute.hear(&picture(DisputeStatus::Lost, AMOUNT, 0, 0), now());
    let heard = dispute.hear(&picture(DisputeStatus::Won, AMOUNT, AMOUNT, 0), now());
    assert!(heard.contradicts && heard.movements.is_empty() && heard.events.is_empty(), "{heard:?}");
    assert_eq!((dispute.status, dispute.outstanding()), (DisputeStatus::Lost, AMOUNT));
}

#[test]
fn a_status_that_nobody_knows_changes_nothing() {
    let mut dispute = opened();
    let news = DisputeNews { status: None, ..picture(DisputeStatus::Won, 0, 0, 0) };
    assert_eq!(dispute.hear(&news, now()), Heard::default());
}

#[test]
fn an_answer_is_taken_only_while_one_is_waited_for() {
    for status in DisputeStatus::ALL {
        assert_eq!(DisputeStatus::parse(status.as_str()), Some(status));
        let mut dispute = Dispute { status, ..opened() };
        let text = [("uncategorized_text".to_owned(), Some("He has it.".to_owned()))];
        assert_eq!(dispute.note_evidence(text).is_ok(), status.wants_answer(), "{status:?}");
        assert_eq!(dispute.answer(DisputeAnswer::Submit).is_ok(), status.wants_answer(), "{status:?}");
    }
    let mut dispute = opened();
    for under_way in [DisputeAnswer::Submit, DisputeAnswer::Close] {
        dispute.under_way = None;
        dispute.answer(under_way).expect("it is open");
        for other in [DisputeAnswer::Submit, DisputeAnswer::Close] {
            assert!(dispute.answer(other).is_err(), "{under_way:?} is on its way, and then comes {other:?}");
        }
        let text = [("customer_name".to_owned(), Some("Ada".to_owned()))];
        assert!(dispute.note_evidence(text).is_err(), "{under_way:?} is on its way");
    }
}
