//! What is made of a payment before and after its provider is asked: let it go on, have the payer
//! authenticated, hold it for the merchant to look at, or refuse it.
//!
//! The rule: an entry of a block list comes first, then one of an allow list, then the strictest rule
//! that matches; among equals the first by name. The same facts and counts give the same assessment
//! everywhere and always. Counting tries, asking providers and telling people are others' work.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;

use chrono::Duration;

use super::card::CardSummary;
use super::charge_facts::{self, AuthenticationResult, CheckResult, RiskLevel};
use super::id::ReviewId;
use super::money::{Currency, Money};
use super::network::Network;

/// What a rule does with a payment, from mild to strict.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Action {
    /// Goes on, whatever other rules say.
    Allow,
    /// The payer has to prove to his bank that it is he.
    Challenge,
    /// The money is reserved and the merchant decides.
    Review,
    /// Refused.
    Block,
}

impl Action {
    /// Every action.
    pub const ALL: [Action; 4] = [Action::Allow, Action::Challenge, Action::Review, Action::Block];

    /// The word in settings, metrics and the database.
    pub fn word(self) -> &'static str {
        match self {
            Action::Allow => "allow",
            Action::Challenge => "challenge",
            Action::Review => "review",
            Action::Block => "block",
        }
    }

    /// Reads the word.
    pub fn from_word(word: &str) -> Option<Action> {
        Self::ALL.into_iter().find(|action| action.word() == word)
    }

    /// How risky a payment is that got this action, where the provider has no opinion.
    fn risk(self) -> RiskLevel {
        match self {
            Action::Allow => RiskLevel::Normal,
            Action::Challenge | Action::Review => RiskLevel::Elevated,
            Action::Block => RiskLevel::Highest,
        }
    }
}

/// Whose tries are counted together.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Subject {
    /// One card number, whatever the shop.
    Card,
    /// One e-mail address, whatever the shop.
    Email,
    /// One IP network (/24 or /48), whatever the shop.
    Network,
    /// One merchant.
    Merchant,
}

impl Subject {
    /// Every subject.
    pub const ALL: [Subject; 4] = [Subject::Card, Subject::Email, Subject::Network, Subject::Merchant];

    /// The word in settings, and what keeps the keys of different subjects apart.
    pub fn word(self) -> &'static str {
        match self {
            Subject::Card => "card",
            Subject::Email => "email",
            Subject::Network => "network",
            Subject::Merchant => "merchant",
        }
    }
}

/// Which tries are counted. Tries that a rule refused were sent to nobody and count for nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Counted {
    /// All of them.
    Tries,
    /// Those that did not succeed. One that is still undecided counts too, else a hundred at once would
    /// each find none.
    Declines,
}

/// A count that rules need: the tries of one subject before the present one, within a time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Counter {
    /// Whose.
    pub subject: Subject,
    /// Which.
    pub counted: Counted,
    /// How far back.
    pub window: Duration,
}

/// What a list is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum List {
    /// Card fingerprints.
    Cards(HashSet<String>),
    /// E-mail addresses, as [`plain_email`] writes them.
    Emails(HashSet<String>),
    /// Hosts of e-mail addresses, each with all below it.
    EmailDomains(HashSet<String>),
    /// IP networks.
    Networks(Vec<Network>),
    /// Countries of issuers, ISO 3166-1 alpha-2 in upper case.
    Countries(HashSet<String>),
    /// The first six digits of cards.
    Bins(HashSet<String>),
}

/// Which of the provider's checks of what the payer typed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Check {
    /// The security code.
    Cvc,
    /// The postcode.
    Postcode,
    /// The first line of the address.
    Address,
}

/// When a rule matches.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Condition {
    /// So many tries came before this one.
    Velocity {
        /// What is counted.
        counter: Counter,
        /// From this many on.
        at_least: u32,
    },
    /// The amount is above or below a bound.
    Amount {
        /// Of payments in this currency.
        currency: Currency,
        /// Minor units; more than this matches.
        above: Option<i64>,
        /// Minor units; less than this matches.
        below: Option<i64>,
    },
    /// Something of the payment is on a list.
    Listed(List),
    /// The card's country and the billing address's are known and differ.
    CountryMismatch,
    /// The provider says that something typed is wrong.
    CheckFailed(Check),
    /// The provider's own opinion is this or worse.
    Risk(RiskLevel),
    /// A rule wanted the payer authenticated and his bank did not do it.
    NotAuthenticated,
}

impl Condition {
    /// Whether only the provider's answer can tell.
    pub fn needs_answer(&self) -> bool {
        matches!(self, Condition::CheckFailed(_) | Condition::Risk(_) | Condition::NotAuthenticated)
    }
}

/// In which modes a rule holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Modes {
    /// Both.
    All,
    /// Where real money moves.
    Live,
    /// Where none does.
    Test,
}

impl Modes {
    fn contain(self, livemode: bool) -> bool {
        match self {
            Modes::All => true,
            Modes::Live => livemode,
            Modes::Test => !livemode,
        }
    }
}

/// A rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    /// What it does.
    pub action: Action,
    /// When.
    pub condition: Condition,
    /// In which modes.
    pub modes: Modes,
    /// For these merchants only; empty means for all.
    pub merchants: HashSet<String>,
}

/// What is known of a payment before its provider is asked.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// Whether real money is meant.
    pub livemode: bool,
    /// The merchant's id.
    pub merchant: &'a str,
    /// How much.
    pub total: Money,
    /// The card.
    pub card: &'a CardSummary,
    /// The first six digits, where they are known.
    pub bin: Option<&'a str>,
    /// The payer's address for mail.
    pub email: &'a str,
    /// Where the request came from, where that says something of the payer.
    pub address: Option<IpAddr>,
    /// Country of the billing address.
    pub billing_country: Option<&'a str>,
}

/// At which point a payment was assessed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Stage {
    /// Before the provider was asked.
    Before,
    /// By the provider's answer.
    Answer,
}

impl Stage {
    /// The word in the database.
    pub fn word(self) -> &'static str {
        match self {
            Stage::Before => "before",
            Stage::Answer => "answer",
        }
    }

    /// Reads the word.
    pub fn from_word(word: &str) -> Option<Stage> {
        [Stage::Before, Stage::Answer].into_iter().find(|stage| stage.word() == word)
    }
}

/// What was made of a payment, and by which rule. A payment that no rule matched has none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Assessment {
    /// What is done.
    pub action: Action,
    /// The rule's name.
    pub rule: String,
    /// When it was found.
    pub stage: Stage,
    /// What the rule asks for, where the payment took something stricter in its place.
    pub instead_of: Option<Action>,
    /// The review that the merchant decides, once the money is reserved.
    pub review: Option<ReviewId>,
}

impl Assessment {
    fn new(action: Action, rule: &str, stage: Stage) -> Self {
        Self { action, rule: rule.to_owned(), stage, instead_of: None, review: None }
    }

    /// The same for money that is to be held in escrow, before its provider is asked. Such money is taken at once and
    /// moves by the acts of the two sides only, so nobody can hold it back for a review: the payer's bank has to
    /// say that it is he, and where it cannot be asked the payment is refused.
    pub fn for_escrow(self, can_authenticate: bool) -> Self {
        match self.action {
            Action::Review if can_authenticate => self.stricter(Action::Challenge, Stage::Before),
            Action::Review => self.stricter(Action::Block, Stage::Before),
            _ => self,
        }
    }

    /// The same by the provider's answer: a review is met by an authentication that was carried out, and by nothing
    /// else.
    pub fn for_escrow_answered(self, answer: &charge_facts::Facts) -> Self {
        let asks_for_review = self.action == Action::Review
            || (self.action == Action::Challenge && self.instead_of == Some(Action::Review));
        let stage = self.stage;
        match (asks_for_review, is_authenticated(answer)) {
            (false, _) => self,
            (true, true) => self.stricter(Action::Challenge, stage),
            (true, false) => self.stricter(Action::Block, Stage::Answer),
        }
    }

    fn stricter(self, action: Action, stage: Stage) -> Self {
        Self { action, stage, instead_of: Some(Action::Review), review: None, ..self }
    }

    /// How risky the payment is, given what its provider says.
    pub fn risk(&self, provider: Option<RiskLevel>) -> RiskLevel {
        provider.map_or(self.action.risk(), |risk| risk.max(self.action.risk()))
    }

    /// For the merchant: what was done and why. Not to be shown to the payer.
    pub fn merchant_message(&self) -> String {
        let rule = &self.rule;
        const ESCROW: &str = "asks for a review, which money held in escrow cannot wait for";
        match (self.action, self.stage) {
            (Action::Challenge, _) if self.instead_of.is_some() => {
                format!("Payment complete. The rule `{rule}` {ESCROW}: the payer was authenticated instead.")
            }
            (Action::Block, Stage::Before) if self.instead_of.is_some() => format!(
                "The payment was blocked and was not sent to the bank: the rule `{rule}` {ESCROW}, and the provider cannot authenticate the payer instead. The customer was told only that the card was declined."
            ),
            (Action::Block, Stage::Answer) if self.instead_of.is_some() => format!(
                "The bank approved the payment without authenticating the payer; it was then blocked and reversed: the rule `{rule}` {ESCROW}. The customer was told only that the card was declined."
            ),
            (Action::Allow, _) => format!("Payment complete. The rule `{rule}` lets it pass."),
            (Action::Challenge, _) => format!("Payment complete. The rule `{rule}` asked for authentication."),
            (Action::Review, _) => {
                format!(
                    "The payment is held for review by the rule `{rule}`: approve the review, or cancel the payment."
                )
            }
            (Action::Block, Stage::Before) => format!(
                "The payment was blocked by the rule `{rule}` and was not sent to the bank. The customer was told only that the card was declined."
            ),
            (Action::Block, Stage::Answer) => format!(
                "The bank approved the payment; it was then blocked by the rule `{rule}` and reversed. The customer was told only that the card was declined."
            ),
        }
    }
}

/// An e-mail address as it is counted and listed: in lower case and without a `+` tag, because both lead to
/// the same mailbox nearly everywhere and cost nothing to vary.
pub fn plain_email(email: &str) -> String {
    let email = email.trim().to_ascii_lowercase();
    match email.rsplit_once('@') {
        Some((local, host)) => format!("{}@{host}", local.split('+').next().unwrap_or(local)),
        None => email,
    }
}

impl List {
    fn holds(&self, facts: &Facts<'_>) -> bool {
        match self {
            List::Cards(cards) => cards.contains(&facts.card.fingerprint),
            List::Emails(emails) => emails.contains(&plain_email(facts.email)),
            List::EmailDomains(hosts) => {
                let email = facts.email.to_ascii_lowercase();
                let mut host = email.rsplit_once('@').map(|(_, host)| host);
                while let Some(name) = host {
                    if hosts.contains(name) {
                        return true;
                    }
                    host = name.split_once('.').map(|(_, rest)| rest);
                }
                false
            }
            List::Networks(networks) => {
                facts.address.is_some_and(|address| networks.iter().any(|network| network.contains(address)))
            }
            List::Countries(countries) => {
                facts.card.country.as_ref().is_some_and(|country| countries.contains(country))
            }
            List::Bins(bins) => facts.bin.is_some_and(|bin| bins.contains(bin)),
        }
    }
}

/// The rules of an installation, by name.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Rules(BTreeMap<String, Rule>);

impl Rules {
    /// The rules.
    pub fn new(rules: BTreeMap<String, Rule>) -> Self {
        Self(rules)
    }

    fn of<'r>(&'r self, livemode: bool, merchant: &'r str) -> impl Iterator<Item = (&'r str, &'r Rule)> {
        self.0
            .iter()
            .filter(move |(_, rule)| {
                rule.modes.contain(livemode) && (rule.merchants.is_empty() || rule.merchants.contains(merchant))
            })
            .map(|(name, rule)| (name.as_str(), rule))
    }

    /// The counts that are needed for a merchant's payment, each with how far it has to be counted. A network is
    /// counted only where it is known.
    pub fn counters(&self, livemode: bool, merchant: &str, knows_network: bool) -> BTreeMap<Counter, u32> {
        let mut counters = BTreeMap::new();
        for (_, rule) in self.of(livemode, merchant) {
            if let Condition::Velocity { counter, at_least } = rule.condition
                && (knows_network || counter.subject != Subject::Network)
            {
                let needed: &mut u32 = counters.entry(counter).or_default();
                *needed = at_least.max(*needed);
            }
        }
        counters
    }

    /// Whether the provider's answer may lead to a review, so that the money is only to be reserved until the
    /// answer is there.
    ///
    /// `country_is_to_come` says that the bill's country is known and the card's is not yet.
    pub fn may_hold_by_answer(&self, livemode: bool, merchant: &str, country_is_to_come: bool) -> bool {
        self.of(livemode, merchant).any(|(_, rule)| {
            let by_answer = rule.condition.needs_answer()
                || (country_is_to_come && matches!(rule.condition, Condition::CountryMismatch));
            rule.action == Action::Review && by_answer
        })
    }

    /// The assessment before the provider is asked; `None` when no rule matches.
    pub fn before(&self, facts: &Facts<'_>, counts: &BTreeMap<Counter, u32>) -> Option<Assessment> {
        let matching = self.of(facts.livemode, facts.merchant).filter(|(_, rule)| match &rule.condition {
            Condition::Velocity { counter, at_least } => counts.get(counter).is_some_and(|count| count >= at_least),
            Condition::Amount { currency, above, below } => {
                *currency == facts.total.currency
                    && (above.is_some_and(|above| facts.total.minor > above)
                        || below.is_some_and(|below| facts.total.minor < below))
            }
            Condition::Listed(list) => list.holds(facts),
            Condition::CountryMismatch => countries_differ(facts.card.country.as_deref(), facts.billing_country),
            Condition::CheckFailed(_) | Condition::Risk(_) | Condition::NotAuthenticated => false,
        });
        decide(matching, Stage::Before)
    }

    /// The assessment by the provider's answer, for a payment that it approved; what was found before stands
    /// unless the answer is worse. `None` when no rule matched at either time.
    ///
    /// `countries_differ` says so of the card's country, where only the answer told it, and the bill's. A rule
    /// that would challenge for that comes too late.
    pub fn by_answer(
        &self,
        livemode: bool,
        merchant: &str,
        before: Option<&Assessment>,
        answer: &charge_facts::Facts,
        countries_differ: bool,
    ) -> Option<Assessment> {
        let found = before.map(|before| before.action);
        if found == Some(Action::Allow) {
            return before.cloned();
        }
        let matching = self.of(livemode, merchant).filter(|(_, rule)| match &rule.condition {
            Condition::CheckFailed(check) => {
                let result = match check {
                    Check::Cvc => answer.checks.cvc,
                    Check::Postcode => answer.checks.postal_code,
                    Check::Address => answer.checks.address_line1,
                };
                result == Some(CheckResult::Fail)
            }
            Condition::Risk(level) => answer.risk.is_some_and(|risk| risk >= *level),
            Condition::NotAuthenticated => found == Some(Action::Challenge) && !is_authenticated(answer),
            Condition::CountryMismatch => countries_differ && rule.action != Action::Challenge,
            Condition::Velocity { .. } | Condition::Amount { .. } | Condition::Listed(_) => false,
        });
        match decide(matching, Stage::Answer) {
            Some(worse) if found.is_none_or(|found| worse.action > found) => Some(worse),
            _ => before.cloned(),
        }
    }
}

/// Whether the payer's bank, or its network for it, vouches for the payer.
fn is_authenticated(answer: &charge_facts::Facts) -> bool {
    let satisfied = [AuthenticationResult::Authenticated, AuthenticationResult::AttemptAcknowledged];
    answer.three_d_secure.as_ref().is_some_and(|secure| satisfied.contains(&secure.result))
}

/// Whether both countries are known and are not the same.
pub fn countries_differ(card: Option<&str>, billing: Option<&str>) -> bool {
    card.zip(billing).is_some_and(|(card, billing)| !card.eq_ignore_ascii_case(billing))
}

fn decide<'r>(matching: impl Iterator<Item = (&'r str, &'r Rule)>, stage: Stage) -> Option<Assessment> {
    // Higher comes first; names come in order, and only a higher place replaces what was found.
    let place = |rule: &Rule| match (rule.action, &rule.condition) {
        (Action::Block, Condition::Listed(_)) => 5,
        (Action::Allow, _) => 4,
        (Action::Block, _) => 3,
        (Action::Review, _) => 2,
        (Action::Challenge, _) => 1,
    };
    let first = matching.fold(None, |best: Option<(&str, &Rule)>, next| match best {
        Some((_, rule)) if place(rule) >= place(next.1) => best,
        _ => Some(next),
    });
    first.map(|(name, rule)| Assessment::new(rule.action, name, stage))
}

#[cfg(test)]
#[path = "fraud_tests.rs"]
mod tests;
