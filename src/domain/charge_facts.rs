//! What is learnt of a charge beside its outcome: checks of what the payer typed, authentication by
//! the payer's bank, network, risk.
//!
//! Rule: closed lists in Stripe's words. Absent means that nothing was said; it never stands for a
//! pass. What follows from a failed check or a raised risk is decided by the fraud rules.

/// What the bank made of one thing that the payer typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CheckResult {
    /// It is right.
    Pass,
    /// It is wrong.
    Fail,
    /// The bank does not check it, or could not just now.
    Unavailable,
    /// It was given and nobody has checked it yet.
    Unchecked,
}

impl CheckResult {
    /// Every result.
    pub const ALL: [CheckResult; 4] =
        [CheckResult::Pass, CheckResult::Fail, CheckResult::Unavailable, CheckResult::Unchecked];

    /// The word on the wire and in the database.
    pub fn word(self) -> &'static str {
        match self {
            CheckResult::Pass => "pass",
            CheckResult::Fail => "fail",
            CheckResult::Unavailable => "unavailable",
            CheckResult::Unchecked => "unchecked",
        }
    }

    /// The result behind a word; `None` for a word that is not ours.
    pub fn from_word(word: &str) -> Option<CheckResult> {
        Self::ALL.into_iter().find(|result| result.word() == word)
    }
}

/// The checks of one charge; `None` where the thing was not given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CardChecks {
    /// The security code.
    pub cvc: Option<CheckResult>,
    /// The first line of the billing address.
    pub address_line1: Option<CheckResult>,
    /// The postcode of the billing address.
    pub postal_code: Option<CheckResult>,
}

/// How the payer's bank satisfied itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AuthenticationFlow {
    /// It asked the payer nothing.
    Frictionless,
    /// It asked the payer.
    Challenge,
}

impl AuthenticationFlow {
    /// Both flows.
    pub const ALL: [AuthenticationFlow; 2] = [AuthenticationFlow::Frictionless, AuthenticationFlow::Challenge];

    /// The word on the wire and in the database.
    pub fn word(self) -> &'static str {
        match self {
            AuthenticationFlow::Frictionless => "frictionless",
            AuthenticationFlow::Challenge => "challenge",
        }
    }

    /// The flow behind a word; `None` for a word that is not ours.
    pub fn from_word(word: &str) -> Option<AuthenticationFlow> {
        Self::ALL.into_iter().find(|flow| flow.word() == word)
    }
}

/// How an authentication ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AuthenticationResult {
    /// The bank says that it is its customer.
    Authenticated,
    /// The bank takes no part, and its network vouches for the try.
    AttemptAcknowledged,
    /// The card knows no 3-D Secure; the charge went on without.
    NotSupported,
    /// The payer failed, gave up, or did not answer in time.
    Failed,
    /// Somebody's machinery broke.
    ProcessingError,
}

impl AuthenticationResult {
    /// Every result.
    pub const ALL: [AuthenticationResult; 5] = [
        AuthenticationResult::Authenticated,
        AuthenticationResult::AttemptAcknowledged,
        AuthenticationResult::NotSupported,
        AuthenticationResult::Failed,
        AuthenticationResult::ProcessingError,
    ];

    /// The word on the wire and in the database.
    pub fn word(self) -> &'static str {
        match self {
            AuthenticationResult::Authenticated => "authenticated",
            AuthenticationResult::AttemptAcknowledged => "attempt_acknowledged",
            AuthenticationResult::NotSupported => "not_supported",
            AuthenticationResult::Failed => "failed",
            AuthenticationResult::ProcessingError => "processing_error",
        }
    }

    /// The result behind a word; `None` for a word that is not ours.
    pub fn from_word(word: &str) -> Option<AuthenticationResult> {
        Self::ALL.into_iter().find(|result| result.word() == word)
    }
}

/// An authentication (3-D Secure) that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreeDSecure {
    /// How; `None` when it did not come that far.
    pub flow: Option<AuthenticationFlow>,
    /// How it ended.
    pub result: AuthenticationResult,
    /// Version of the protocol, such as `2.2.0`; `None` when none was spoken.
    pub version: Option<String>,
}

/// How likely a provider holds fraud to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RiskLevel {
    /// Nothing stands out.
    Normal,
    /// Worth a look.
    Elevated,
    /// Very likely fraud.
    Highest,
}

impl RiskLevel {
    /// Every level, rising.
    pub const ALL: [RiskLevel; 3] = [RiskLevel::Normal, RiskLevel::Elevated, RiskLevel::Highest];

    /// The word on the wire and in the database.
    pub fn word(self) -> &'static str {
        match self {
            RiskLevel::Normal => "normal",
            RiskLevel::Elevated => "elevated",
            RiskLevel::Highest => "highest",
        }
    }

    /// The level behind a word; `None` for a word that is not ours.
    pub fn from_word(word: &str) -> Option<RiskLevel> {
        Self::ALL.into_iter().find(|level| level.word() == word)
    }
}

/// All that a provider said of a charge beside its outcome.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Checks of what the payer typed.
    pub checks: CardChecks,
    /// The authentication; `None` when none was asked for.
    pub three_d_secure: Option<ThreeDSecure>,
    /// The network that carried the charge, in Stripe's words (`visa`, `mastercard`, …).
    pub network: Option<String>,
    /// Two-letter country of the card's issuer. Kept with the card, not with these facts.
    pub issuer_country: Option<String>,
    /// The provider's own opinion.
    pub risk: Option<RiskLevel>,
    /// A name under which this provider, and no other, can charge the same card again. Not kept with
    /// the charge: whoever settles it decides whether the card is kept.
    pub reusable_reference: Option<String>,
    /// Minor units that the provider keeps of what was taken, in the charge's currency. Not kept with the facts,
    /// but booked.
    pub fee: Option<i64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_read_back() {
        for result in CheckResult::ALL {
            assert_eq!(CheckResult::from_word(result.word()), Some(result));
        }
        for flow in AuthenticationFlow::ALL {
            assert_eq!(AuthenticationFlow::from_word(flow.word()), Some(flow));
        }
        for result in AuthenticationResult::ALL {
            assert_eq!(AuthenticationResult::from_word(result.word()), Some(result));
        }
        for level in RiskLevel::ALL {
            assert_eq!(RiskLevel::from_word(level.word()), Some(level));
        }
        assert_eq!(RiskLevel::from_word("not_assessed"), None);
    }

    #[test]
    fn saying_nothing_is_no_pass() {
        let silent = Facts::default();
        assert_eq!(silent.checks, CardChecks { cvc: None, address_line1: None, postal_code: None });
        assert_eq!((silent.three_d_secure, silent.risk), (None, None));
    }
}
