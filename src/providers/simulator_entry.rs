//! What a row of the simulated company's books means: a charge as the company would tell of it, and
//! a challenge as its bank's pages need it.
//!
//! Rule: a word that this code does not know, from a later version perhaps, is never taken for a
//! success or a decline. Reading and writing the rows is left to `simulator_ledger`.

use super::simulator_cards::ended;
use super::{
    AuthenticationFlow, AuthenticationResult, CaptureReport, CardChecks, CheckResult, Facts, Report, RiskLevel,
};
use crate::domain::card::DeclineReason;
use crate::domain::money::{Currency, Money};

/// One charge as it stands in the books.
#[derive(Clone, Debug, Default, sqlx::FromRow)]
pub(super) struct Entry {
    pub(super) reference: String,
    /// Empty when the charge was refused in advance and never arrived.
    amount: Option<i64>,
    currency: Option<String>,
    pub(super) state: String,
    decline_code: Option<String>,
    pub(super) amount_captured: i64,
    network: Option<String>,
    risk: Option<String>,
    check_cvc: Option<String>,
    check_address_line1: Option<String>,
    check_postal_code: Option<String>,
    three_d_secure_flow: Option<String>,
    three_d_secure_result: Option<String>,
    pub(super) challenge_id: Option<String>,
    card_reference: Option<String>,
}

impl Entry {
    /// What the company answers when asked about it. A state that this code does not know, from a
    /// later version perhaps, is pending; so is a challenge that `challenge_url` has no place for.
    pub(super) fn report(&self, challenge_url: impl Fn(&str) -> Option<String>) -> Report {
        let reference = self.reference.clone();
        let facts = self.facts();
        match self.state.as_str() {
            "captured" => Report::Succeeded { reference, facts },
            "authorized" => Report::Authorized { reference, facts },
            "declined" => Report::Declined {
                reason: self
                    .decline_code
                    .as_deref()
                    .and_then(DeclineReason::from_word)
                    .unwrap_or(DeclineReason::GenericDecline),
                reference: Some(reference),
                facts,
            },
            "void" | "closed" | "refunded" | "refused" => Report::Reversed { reference },
            "challenge" => match self.challenge_id.as_deref().and_then(challenge_url) {
                Some(redirect_url) => Report::RequiresAction { reference, redirect_url },
                None => Report::Pending { reference: Some(reference) },
            },
            _ => Report::Pending { reference: Some(reference) },
        }
    }

    fn facts(&self) -> Facts {
        let check = |word: &Option<String>| word.as_deref().and_then(CheckResult::from_word);
        let flow = self.three_d_secure_flow.as_deref().and_then(AuthenticationFlow::from_word);
        let result = self.three_d_secure_result.as_deref().and_then(AuthenticationResult::from_word);
        Facts {
            checks: CardChecks {
                cvc: check(&self.check_cvc),
                address_line1: check(&self.check_address_line1),
                postal_code: check(&self.check_postal_code),
            },
            three_d_secure: result.and_then(|result| ended(flow, result)),
            network: self.network.clone(),
            risk: self.risk.as_deref().and_then(RiskLevel::from_word),
            // A card that was refused is not worth remembering.
            issuer_country: None,
            reusable_reference: self
                .card_reference
                .clone()
                .filter(|_| matches!(self.state.as_str(), "captured" | "authorized")),
            fee: None,
        }
    }

    /// Whether it was made for that money. A charge refused in advance fits any.
    pub(super) fn is_for(&self, money: Money) -> bool {
        match (self.amount, self.currency.as_deref()) {
            (Some(amount), Some(currency)) => amount == money.minor && currency == money.currency.code(),
            _ => true,
        }
    }

    /// What a capture hears that found no reservation to take from.
    pub(super) fn capture_report(self, money: Money) -> CaptureReport {
        let is_taken = matches!(self.state.as_str(), "captured" | "refunded")
            && self.currency.as_deref() == Some(money.currency.code());
        if is_taken && self.amount_captured == money.minor {
            return CaptureReport::Captured { reference: self.reference, fee: None };
        }
        if is_taken {
            let amount = self.amount_captured;
            return CaptureReport::TakenOtherwise { reference: self.reference, amount, fee: None };
        }
        let detail = match self.state.as_str() {
            "authorized" => "less money, or money of another currency, is reserved".to_owned(),
            "captured" | "refunded" => "money of another currency was captured already".to_owned(),
            state => format!("no money is reserved: the charge is `{state}`"),
        };
        CaptureReport::Refused { detail }
    }
}

/// What the payer may answer his bank. More words than a bank has, because a gateway must also stand
/// an answer that comes twice and a payer who never comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Approve,
    Fail,
    Cancel,
    ApproveTwice,
    ApproveAndStay,
}

impl Answer {
    pub(super) const ALL: [Answer; 5] =
        [Answer::Approve, Answer::Fail, Answer::Cancel, Answer::ApproveTwice, Answer::ApproveAndStay];

    /// The word on the button and in the books.
    pub(super) fn word(self) -> &'static str {
        match self {
            Answer::Approve => "approve",
            Answer::Fail => "fail",
            Answer::Cancel => "cancel",
            Answer::ApproveTwice => "approve_twice",
            Answer::ApproveAndStay => "approve_and_stay",
        }
    }

    pub(super) fn from_word(word: &str) -> Option<Answer> {
        Self::ALL.into_iter().find(|answer| answer.word() == word)
    }

    /// Whether the bank now knows its customer.
    pub(super) fn passes(self) -> bool {
        !matches!(self, Answer::Fail | Answer::Cancel)
    }
}

/// A challenge as the bank's pages need it.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(super) struct Challenge {
    pub(super) charge_id: String,
    amount: Option<i64>,
    currency: Option<String>,
    pub(super) merchant: Option<String>,
    #[sqlx(rename = "challenge_return_url")]
    pub(super) return_url: String,
    #[sqlx(rename = "challenge_answer")]
    answer: Option<String>,
    is_open: bool,
}

impl Challenge {
    /// What is to be paid; `None` for a row that no version of this code writes.
    pub(super) fn money(&self) -> Option<Money> {
        Some(Money { minor: self.amount?, currency: Currency::parse(self.currency.as_deref()?)? })
    }

    /// Whether the bank still waits.
    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    /// What the payer said; `None` as well when he came too late to say anything.
    pub(super) fn answer(&self) -> Option<Answer> {
        self.answer.as_deref().and_then(Answer::from_word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(state: &str, decline_code: Option<&str>) -> Entry {
        Entry {
            reference: "sim_1".to_owned(),
            amount: Some(500),
            currency: Some("eur".to_owned()),
            state: state.to_owned(),
            decline_code: decline_code.map(str::to_owned),
            challenge_id: (state == "challenge").then(|| "c1".to_owned()),
            ..Entry::default()
        }
    }

    fn money(minor: i64, code: &str) -> Money {
        Money { minor, currency: Currency::parse(code).expect("a known currency") }
    }

    #[test]
    fn every_state_has_its_report_and_an_unknown_one_is_pending() {
        let reference = "sim_1".to_owned();
        let facts = Facts::default();
        let declined =
            |reason| Report::Declined { reason, reference: Some(reference.clone()), facts: Facts::default() };
        let reversed = Report::Reversed { reference: reference.clone() };
        let pending = Report::Pending { reference: Some(reference.clone()) };
        let asks = Report::RequiresAction { reference: reference.clone(), redirect_url: "https://bank/c1".to_owned() };
        let cases = [
            (entry("captured", None), Report::Succeeded { reference: reference.clone(), facts: facts.clone() }),
            (entry("authorized", None), Report::Authorized { reference: reference.clone(), facts }),
            (entry("challenge", None), asks),
            (entry("declined", Some("lost_card")), declined(DeclineReason::LostCard)),
            (entry("declined", Some("new_word")), declined(DeclineReason::GenericDecline)),
            (entry("void", None), reversed.clone()),
            (entry("closed", None), reversed.clone()),
            (entry("refunded", None), reversed.clone()),
            (entry("refused", None), reversed),
            (entry("frozen", None), pending.clone()),
        ];
        for (entry, report) in cases {
            assert_eq!(entry.report(|id| Some(format!("https://bank/{id}"))), report, "{entry:?}");
        }
        assert_eq!(entry("challenge", None).report(|_| None), pending);
    }

    #[test]
    fn facts_are_read_back() {
        let entry = Entry {
            network: Some("visa".to_owned()),
            risk: Some("elevated".to_owned()),
            check_cvc: Some("fail".to_owned()),
            three_d_secure_flow: Some("challenge".to_owned()),
            three_d_secure_result: Some("authenticated".to_owned()),
            card_reference: Some("simcard_1".to_owned()),
            ..entry("captured", None)
        };
        let expected = Facts {
            checks: CardChecks { cvc: Some(CheckResult::Fail), ..CardChecks::default() },
            three_d_secure: ended(Some(AuthenticationFlow::Challenge), AuthenticationResult::Authenticated),
            network: Some("visa".to_owned()),
            risk: Some(RiskLevel::Elevated),
            issuer_country: None,
            reusable_reference: Some("simcard_1".to_owned()),
            fee: None,
        };
        assert_eq!(entry.facts(), expected);
    }

    #[test]
    fn an_entry_knows_its_money() {
        let captured = entry("captured", None);
        assert!(captured.is_for(money(500, "eur")));
        assert!(!captured.is_for(money(501, "eur")));
        assert!(!captured.is_for(money(500, "usd")));
    }

    #[test]
    fn answers_read_back_and_only_approvals_pass() {
        for answer in Answer::ALL {
            assert_eq!(Answer::from_word(answer.word()), Some(answer));
            assert_eq!(answer.passes(), answer.word().starts_with("approve"));
        }
        assert_eq!(Answer::from_word("maybe"), None);
    }
}
