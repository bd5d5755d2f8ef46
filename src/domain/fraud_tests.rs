//! Tables of facts and rules, and what is made of them.

use proptest::prelude::*;

use super::*;
use crate::domain::card::CardBrand;
use crate::domain::charge_facts::{CardChecks, ThreeDSecure};

fn card(country: Option<&str>) -> CardSummary {
    CardSummary {
        brand: CardBrand::Visa,
        last4: "4242".to_owned(),
        exp_month: 12,
        exp_year: 2034,
        funding: None,
        country: country.map(str::to_owned),
        fingerprint: "0123456789abcdEF".to_owned(),
    }
}

fn euros(minor: i64) -> Money {
    Money { minor, currency: Currency::parse("eur").expect("known") }
}

fn set(values: &[&str]) -> HashSet<String> {
    values.iter().map(|value| (*value).to_owned()).collect()
}

fn rule(action: Action, condition: Condition) -> Rule {
    Rule { action, condition, modes: Modes::All, merchants: HashSet::new() }
}

fn rules<const COUNT: usize>(rules: [(&str, Rule); COUNT]) -> Rules {
    Rules::new(rules.into_iter().map(|(name, rule)| (name.to_owned(), rule)).collect())
}

fn counter(subject: Subject, counted: Counted) -> Counter {
    Counter { subject, counted, window: Duration::minutes(60) }
}

fn facts(card: &CardSummary) -> Facts<'_> {
    Facts {
        livemode: true,
        merchant: "acct_1",
        total: euros(2598),
        card,
        bin: Some("424242"),
        email: "Ada+shop@mail.Corner.example",
        address: Some("203.0.113.9".parse().expect("an address")),
        billing_country: Some("DE"),
    }
}

fn by(assessment: Option<Assessment>) -> Option<(Action, String)> {
    assessment.map(|assessment| (assessment.action, assessment.rule))
}

#[test]
fn each_condition_matches_what_it_is_for() {
    let currency = euros(0).currency;
    let amount = |above, below| Condition::Amount { currency, above, below };
    let network = |text: &str| Network::parse(text).expect(text);
    let cases = [
        (amount(Some(2597), None), true),
        (amount(Some(2598), None), false),
        (amount(None, Some(2599)), true),
        (amount(None, Some(2598)), false),
        (Condition::Amount { currency: Currency::parse("usd").expect("known"), above: Some(1), below: None }, false),
        (Condition::Listed(List::Cards(set(&["0123456789abcdEF"]))), true),
        (Condition::Listed(List::Cards(set(&["0123456789abcdEf"]))), false),
        (Condition::Listed(List::Emails(set(&["ada@mail.corner.example"]))), true),
        (Condition::Listed(List::Emails(set(&["bob@mail.corner.example"]))), false),
        (Condition::Listed(List::EmailDomains(set(&["corner.example"]))), true),
        (Condition::Listed(List::EmailDomains(set(&["mail.corner.example"]))), true),
        (Condition::Listed(List::EmailDomains(set(&["orner.example"]))), false),
        (Condition::Listed(List::Networks(vec![network("203.0.113.0/24")])), true),
        (Condition::Listed(List::Networks(vec![network("203.0.112.0/24")])), false),
        (Condition::Listed(List::Countries(set(&["US"]))), true),
        (Condition::Listed(List::Countries(set(&["DE"]))), false),
        (Condition::Listed(List::Bins(set(&["424242"]))), true),
        (Condition::Listed(List::Bins(set(&["424243"]))), false),
        (Condition::CountryMismatch, true),
        (Condition::CheckFailed(Check::Cvc), false),
        (Condition::Risk(RiskLevel::Elevated), false),
        (Condition::NotAuthenticated, false),
    ];
    let card = card(Some("US"));
    for (condition, matches) in cases {
        let text = format!("{condition:?}");
        let found = rules([("mine", rule(Action::Block, condition))]).before(&facts(&card), &BTreeMap::new());
        assert_eq!(found.is_some(), matches, "{text}");
    }
}

#[test]
fn what_is_not_known_matches_nothing() {
    let card = card(None);
    let unknown = Facts { bin: None, address: None, billing_country: None, ..facts(&card) };
    for condition in [
        Condition::CountryMismatch,
        Condition::Listed(List::Countries(set(&["US", ""]))),
        Condition::Listed(List::Bins(set(&["424242", ""]))),
        Condition::Listed(List::Networks(vec![Network::parse("0.0.0.0/0").expect("a network")])),
    ] {
        assert_eq!(rules([("mine", rule(Action::Block, condition))]).before(&unknown, &BTreeMap::new()), None);
    }
}

#[test]
fn tries_are_refused_from_the_limit_on() {
    let counter = counter(Subject::Card, Counted::Tries);
    let rules = rules([("mine", rule(Action::Block, Condition::Velocity { counter, at_least: 3 }))]);
    let card = card(None);
    for (count, refused) in [(None, false), (Some(0), false), (Some(2), false), (Some(3), true), (Some(9), true)] {
        let counts = count.map(|count| (counter, count)).into_iter().collect();
        assert_eq!(rules.before(&facts(&card), &counts).is_some(), refused, "{count:?}");
    }
}

#[test]
fn only_the_counts_that_rules_need_are_asked_for() {
    let velocity = |subject, at_least| Condition::Velocity { counter: counter(subject, Counted::Tries), at_least };
    let live_only = Rule { modes: Modes::Live, ..rule(Action::Block, velocity(Subject::Card, 3)) };
    let for_one = Rule { merchants: set(&["acct_2"]), ..rule(Action::Block, velocity(Subject::Email, 3)) };
    let rules = rules([
        ("a", live_only),
        ("b", rule(Action::Challenge, velocity(Subject::Card, 2))),
        ("c", for_one),
        ("d", rule(Action::Block, velocity(Subject::Network, 5))),
    ]);
    let asked = |livemode, merchant: &str, knows_network| {
        let counters = rules.counters(livemode, merchant, knows_network);
        counters.into_iter().map(|(counter, needed)| (counter.subject, needed)).collect::<Vec<_>>()
    };
    assert_eq!(asked(true, "acct_1", true), [(Subject::Card, 3), (Subject::Network, 5)]);
    assert_eq!(asked(false, "acct_1", false), [(Subject::Card, 2)]);
    assert_eq!(asked(false, "acct_2", false), [(Subject::Card, 2), (Subject::Email, 3)]);
}

#[test]
fn block_lists_come_before_allow_lists_and_those_before_the_strictest_rule() {
    let card = card(Some("US"));
    let always = || Condition::Listed(List::Countries(set(&["US"])));
    let dear = || Condition::Amount { currency: euros(0).currency, above: Some(1), below: None };
    let decided = |rules: Rules| by(rules.before(&facts(&card), &BTreeMap::new()));
    let found = |action, name: &str| Some((action, name.to_owned()));
    let all = rules([
        ("a_challenge", rule(Action::Challenge, dear())),
        ("b_review", rule(Action::Review, dear())),
        ("c_block", rule(Action::Block, dear())),
        ("d_block_too", rule(Action::Block, dear())),
    ]);
    assert_eq!(decided(all), found(Action::Block, "c_block"));
    let mild = rules([("a_challenge", rule(Action::Challenge, dear())), ("b_review", rule(Action::Review, always()))]);
    assert_eq!(decided(mild), found(Action::Review, "b_review"));
    let friends = rules([("a_block", rule(Action::Block, dear())), ("friends", rule(Action::Allow, always()))]);
    assert_eq!(decided(friends), found(Action::Allow, "friends"));
    let stolen = rules([("friends", rule(Action::Allow, always())), ("stolen", rule(Action::Block, always()))]);
    assert_eq!(decided(stolen), found(Action::Block, "stolen"));
}

fn answer(cvc: CheckResult, risk: RiskLevel, secure: Option<AuthenticationResult>) -> charge_facts::Facts {
    charge_facts::Facts {
        checks: CardChecks { cvc: Some(cvc), ..CardChecks::default() },
        three_d_secure: secure.map(|result| ThreeDSecure { flow: None, result, version: None }),
        network: None,
        issuer_country: None,
        risk: Some(risk),
        reusable_reference: None,
        fee: None,
    }
}

#[test]
fn an_answer_can_make_it_worse_and_never_better() {
    let rules = rules([
        ("cvc", rule(Action::Block, Condition::CheckFailed(Check::Cvc))),
        ("risk", rule(Action::Review, Condition::Risk(RiskLevel::Elevated))),
        ("unproven", rule(Action::Block, Condition::NotAuthenticated)),
    ]);
    use AuthenticationResult::{Authenticated, NotSupported};
    use CheckResult::{Fail, Pass, Unavailable};
    use RiskLevel::{Elevated, Highest, Normal};
    let before = |action| Some(Assessment::new(action, "before", Stage::Before));
    let found = |action, name: &str| Some((action, name.to_owned()));
    let cases = [
        (None, answer(Pass, Normal, None), None),
        (None, answer(Unavailable, Normal, None), None),
        (None, answer(Fail, Normal, None), found(Action::Block, "cvc")),
        (None, answer(Pass, Elevated, None), found(Action::Review, "risk")),
        (None, answer(Pass, Highest, None), found(Action::Review, "risk")),
        (before(Action::Review), answer(Pass, Normal, None), found(Action::Review, "before")),
        (before(Action::Review), answer(Pass, Elevated, None), found(Action::Review, "before")),
        (before(Action::Review), answer(Fail, Normal, None), found(Action::Block, "cvc")),
        (before(Action::Challenge), answer(Pass, Normal, Some(Authenticated)), found(Action::Challenge, "before")),
        (before(Action::Challenge), answer(Pass, Normal, Some(NotSupported)), found(Action::Block, "unproven")),
        (before(Action::Challenge), answer(Pass, Normal, None), found(Action::Block, "unproven")),
        (before(Action::Allow), answer(Fail, Highest, None), found(Action::Allow, "before")),
    ];
    for (before, answer, expected) in cases {
        assert_eq!(
            by(rules.by_answer(true, "acct_1", before.as_ref(), &answer, true)),
            expected,
            "{before:?} {answer:?}"
        );
    }
    assert!(rules.may_hold_by_answer(true, "acct_1", false));
}

#[test]
fn a_country_that_comes_with_the_answer_is_compared_then() {
    let silent = charge_facts::Facts::default();
    for (action, expected) in
        [(Action::Block, Some(Action::Block)), (Action::Review, Some(Action::Review)), (Action::Challenge, None)]
    {
        let rules = rules([("abroad", rule(action, Condition::CountryMismatch))]);
        let found = |differ| rules.by_answer(true, "acct_1", None, &silent, differ).map(|found| found.action);
        assert_eq!((found(true), found(false)), (expected, None), "{action:?}");
        let holds = |to_come| rules.may_hold_by_answer(true, "acct_1", to_come);
        assert_eq!((holds(true), holds(false)), (action == Action::Review, false), "{action:?}");
    }
    assert!(countries_differ(Some("US"), Some("DE")) && !countries_differ(Some("US"), Some("us")));
    assert!(!countries_differ(None, Some("DE")) && !countries_differ(Some("US"), None));
}

#[test]
fn for_an_escrow_a_review_is_an_authentication_or_a_no() {
    use AuthenticationResult::{AttemptAcknowledged, Authenticated, Failed, NotSupported, ProcessingError};
    let found = |action, stage| Assessment::new(action, "dear", stage);
    for action in [Action::Allow, Action::Challenge, Action::Block] {
        let asked = found(action, Stage::Before);
        assert_eq!(asked.clone().for_escrow(true), asked);
        assert_eq!(asked.clone().for_escrow(false), asked);
        assert_eq!(asked.clone().for_escrow_answered(&charge_facts::Facts::default()), asked);
    }
    for (can, action) in [(true, Action::Challenge), (false, Action::Block)] {
        let made = found(Action::Review, Stage::Before).for_escrow(can);
        assert_eq!((made.action, made.stage, made.instead_of), (action, Stage::Before, Some(Action::Review)));
    }
    let before = found(Action::Review, Stage::Before).for_escrow(true);
    for (result, is_met) in [
        (Some(Authenticated), true),
        (Some(AttemptAcknowledged), true),
        (Some(NotSupported), false),
        (Some(Failed), false),
        (Some(ProcessingError), false),
        (None, false),
    ] {
        let answer = answer(CheckResult::Pass, RiskLevel::Elevated, result);
        for asked in [before.clone(), found(Action::Review, Stage::Answer)] {
            let made = asked.for_escrow_answered(&answer);
            let expected = if is_met { Action::Challenge } else { Action::Block };
            assert_eq!((made.action, made.instead_of), (expected, Some(Action::Review)), "{result:?}");
            assert!(is_met || made.stage == Stage::Answer, "what the bank granted is to be given back");
            assert!(made.merchant_message().contains("`dear` asks for a review"), "{}", made.merchant_message());
        }
    }
}

#[test]
fn the_risk_is_the_worse_of_two_opinions() {
    let assessed = |action| Assessment::new(action, "mine", Stage::Before);
    assert_eq!(assessed(Action::Allow).risk(None), RiskLevel::Normal);
    assert_eq!(assessed(Action::Review).risk(Some(RiskLevel::Normal)), RiskLevel::Elevated);
    assert_eq!(assessed(Action::Review).risk(Some(RiskLevel::Highest)), RiskLevel::Highest);
    assert_eq!(assessed(Action::Block).risk(None), RiskLevel::Highest);
}

#[test]
fn addresses_for_mail_are_counted_without_their_decoration() {
    for (written, plain) in [
        ("Ada@Example.COM", "ada@example.com"),
        (" ada+shop@example.com", "ada@example.com"),
        ("ada+a+b@example.com", "ada@example.com"),
        ("ada.l@example.com", "ada.l@example.com"),
        ("nothing", "nothing"),
    ] {
        assert_eq!(plain_email(written), plain);
    }
}

#[test]
fn words_read_back() {
    for action in Action::ALL {
        assert_eq!(Action::from_word(action.word()), Some(action));
    }
    for stage in [Stage::Before, Stage::Answer] {
        assert_eq!(Stage::from_word(stage.word()), Some(stage));
    }
}

proptest! {
    /// Whatever rules there are, the order in which they were written does not matter, and no rule that
    /// matched was stricter than the decision unless an allow list spoke.
    #[test]
    fn the_strictest_decides_in_any_order(actions in proptest::collection::vec(0..4usize, 1..8), shift in 0..8usize) {
        let card = card(Some("US"));
        let of = |place: usize, action: Action| {
            let condition = if action == Action::Allow {
                Condition::Listed(List::Countries(set(&["US"])))
            } else {
                Condition::CountryMismatch
            };
            (format!("rule_{place}"), rule(action, condition))
        };
        let mut written: Vec<_> =
            actions.iter().enumerate().map(|(place, action)| of(place, Action::ALL[*action])).collect();
        let first = Rules::new(written.iter().cloned().collect()).before(&facts(&card), &BTreeMap::new());
        let middle = shift % written.len();
        written.rotate_left(middle);
        let second = Rules::new(written.iter().cloned().collect()).before(&facts(&card), &BTreeMap::new());
        prop_assert_eq!(&first, &second);
        let decided = first.expect("something matched").action;
        let strictest = written.iter().map(|(_, rule)| rule.action).max().expect("not empty");
        let allowed = written.iter().any(|(_, rule)| rule.action == Action::Allow);
        prop_assert_eq!(decided, if allowed { Action::Allow } else { strictest });
    }
}
