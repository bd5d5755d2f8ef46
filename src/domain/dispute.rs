//! A dispute: a payer asks his bank for his money back, and the bank decides.
//!
//! The rule: what a provider tells is a picture of some moment, and pictures come twice, late and in
//! any order. So what was withdrawn and what came back only ever grow, an end stays, and each of the
//! three movements is booked at most once, whatever the order. Reading and storing are others' work.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::id::{ChargeId, DisputeId, MerchantId, PaymentId};
use super::ledger::Movement;
use super::money::Money;
use super::refusal::Refusal;
use super::session::Metadata;

/// Why payers dispute, in Stripe's words.
pub const REASONS: [&str; 15] = [
    "bank_cannot_process",
    "check_returned",
    "credit_not_processed",
    "customer_initiated",
    "debit_not_authorized",
    "duplicate",
    "fraudulent",
    "general",
    "incorrect_account_details",
    "insufficient_funds",
    "noncompliant",
    "product_not_received",
    "product_unacceptable",
    "subscription_canceled",
    "unrecognized",
];

/// The texts that a merchant may hand in, with the characters that each may have, as at Stripe.
pub const EVIDENCE_FIELDS: [(&str, usize); 18] = [
    ("access_activity_log", 20_000),
    ("billing_address", 5_000),
    ("cancellation_policy_disclosure", 20_000),
    ("cancellation_rebuttal", 20_000),
    ("customer_email_address", 5_000),
    ("customer_name", 5_000),
    ("customer_purchase_ip", 5_000),
    ("duplicate_charge_explanation", 20_000),
    ("duplicate_charge_id", 5_000),
    ("product_description", 20_000),
    ("refund_policy_disclosure", 20_000),
    ("refund_refusal_explanation", 20_000),
    ("service_date", 5_000),
    ("shipping_address", 5_000),
    ("shipping_carrier", 5_000),
    ("shipping_date", 5_000),
    ("shipping_tracking_number", 5_000),
    ("uncategorized_text", 20_000),
];

/// Characters of all evidence together: what Stripe takes for one dispute.
pub const EVIDENCE_CHARS_MAX: usize = 150_000;

/// What a merchant says against a dispute: fields of [`EVIDENCE_FIELDS`] that have a text.
pub type Evidence = BTreeMap<String, String>;

/// Where a dispute stands. The `Warning` ones are inquiries: nothing has been withdrawn.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum DisputeStatus {
    /// An inquiry that wants an answer.
    WarningNeedsResponse,
    /// An inquiry that was answered.
    WarningUnderReview,
    /// An inquiry that came to nothing.
    WarningClosed,
    /// The merchant may answer.
    NeedsResponse,
    /// The bank has the answer.
    UnderReview,
    /// Decided for the merchant.
    Won,
    /// Decided for the payer.
    Lost,
}

impl DisputeStatus {
    /// Every status.
    pub const ALL: [Self; 7] = [
        Self::WarningNeedsResponse,
        Self::WarningUnderReview,
        Self::WarningClosed,
        Self::NeedsResponse,
        Self::UnderReview,
        Self::Won,
        Self::Lost,
    ];

    /// The word on the wire and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WarningNeedsResponse => "warning_needs_response",
            Self::WarningUnderReview => "warning_under_review",
            Self::WarningClosed => "warning_closed",
            Self::NeedsResponse => "needs_response",
            Self::UnderReview => "under_review",
            Self::Won => "won",
            Self::Lost => "lost",
        }
    }

    /// The status behind a word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == word)
    }

    /// Whether it is decided.
    pub fn is_closed(self) -> bool {
        matches!(self, Self::WarningClosed | Self::Won | Self::Lost)
    }

    /// Whether the bank waits for the merchant.
    pub fn wants_answer(self) -> bool {
        matches!(self, Self::WarningNeedsResponse | Self::NeedsResponse)
    }
}

/// What the merchant asked for and the provider has not answered yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DisputeAnswer {
    /// The evidence goes to the bank.
    Submit,
    /// The merchant accepts the dispute.
    Close,
}

impl DisputeAnswer {
    /// The word in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Submit => "submit",
            Self::Close => "close",
        }
    }

    /// The answer behind a word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Submit, Self::Close].into_iter().find(|answer| answer.as_str() == word)
    }
}

/// A dispute as its provider has it at some moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DisputeNews {
    /// How much is disputed.
    pub money: Money,
    /// One of [`REASONS`].
    pub reason: String,
    /// Where it stands; none for a word that we do not know.
    pub status: Option<DisputeStatus>,
    /// Minor units that were ever taken back for the payer.
    pub withdrawn: i64,
    /// Minor units of these that came back to the merchant.
    pub reinstated: i64,
    /// Minor units that the provider keeps for it; none where it does not say.
    pub fee: Option<i64>,
    /// Until when evidence is taken.
    pub evidence_due_by: Option<DateTime<Utc>>,
    /// How often the provider has sent evidence to the bank; none where it does not say.
    pub submissions: Option<i32>,
}

/// A dispute.
#[derive(Clone, Debug)]
pub struct Dispute {
    /// Its id.
    pub id: DisputeId,
    /// Whose it is.
    pub merchant_id: MerchantId,
    /// Whether it is about real money.
    pub livemode: bool,
    /// The charge that is disputed.
    pub charge_id: ChargeId,
    /// The payment of that charge.
    pub payment_id: PaymentId,
    /// The provider of the charge.
    pub provider: String,
    /// The provider's own name for it.
    pub provider_reference: String,
    /// How much is disputed.
    pub total: Money,
    /// One of [`REASONS`].
    pub reason: String,
    /// Where it stands.
    pub status: DisputeStatus,
    /// Minor units that were taken back for the payer.
    pub amount_withdrawn: i64,
    /// Minor units of these that came back.
    pub amount_reinstated: i64,
    /// Minor units that the provider keeps for it, where it says so.
    pub fee: Option<i64>,
    /// What the merchant has to say.
    pub evidence: Evidence,
    /// Until when the bank takes it.
    pub evidence_due_by: Option<DateTime<Utc>>,
    /// How often it was sent.
    pub submission_count: i32,
    /// The merchant's own data.
    pub metadata: Metadata,
    /// What the provider was asked for and has not answered.
    pub under_way: Option<DisputeAnswer>,
    /// When it was heard of.
    pub created_at: DateTime<Utc>,
    /// When it was decided.
    pub closed_at: Option<DateTime<Utc>>,
    /// How often the sweep has repeated what is under way.
    pub look_ups: i32,
}

/// What news did to a dispute.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// To be booked, in this order.
    pub movements: Vec<Movement>,
    /// To be announced, in this order.
    pub events: Vec<&'static str>,
    /// Whether the provider takes back what it had told as the end; a person must look.
    pub contradicts: bool,
}

/// Announced of a dispute that was not known before.
pub const CREATED: &str = "charge.dispute.created";
/// Announced when something has changed.
pub const UPDATED: &str = "charge.dispute.updated";
/// Announced when it was decided.
pub const CLOSED: &str = "charge.dispute.closed";
/// Announced when money was taken back.
pub const FUNDS_WITHDRAWN: &str = "charge.dispute.funds_withdrawn";
/// Announced when it came back.
pub const FUNDS_REINSTATED: &str = "charge.dispute.funds_reinstated";

impl Dispute {
    /// Minor units that the merchant is without.
    pub fn outstanding(&self) -> i64 {
        self.amount_withdrawn.saturating_sub(self.amount_reinstated)
    }

    /// Takes news in. The same news again, or older ones, change nothing.
    ///
    /// Money is withdrawn and reinstated once each: a provider that did so in parts is believed in the first.
    pub fn hear(&mut self, news: &DisputeNews, now: DateTime<Utc>) -> Heard {
        let mut heard = Heard::default();
        let (was_closed, was_lost) = (self.status.is_closed(), self.has_lost_money());
        let known = (self.status, self.evidence_due_by, self.submission_count);
        self.submission_count = self.submission_count.max(news.submissions.unwrap_or(0));
        if !was_closed {
            self.evidence_due_by = news.evidence_due_by.or(self.evidence_due_by);
            self.status = match news.status {
                // It was answered; a picture that still waits for the answer is an older one.
                Some(status) if status.wants_answer() && self.submission_count > 0 => self.status,
                Some(status) => status,
                None => self.status,
            };
        }
        let closes = self.status.is_closed() && !was_closed;
        if !closes && known != (self.status, self.evidence_due_by, self.submission_count) {
            heard.events.push(UPDATED);
        }
        if self.amount_withdrawn == 0 && news.withdrawn > 0 {
            self.amount_withdrawn = news.withdrawn;
            heard.movements.push(Movement::Disputed { amount: news.withdrawn });
            heard.events.push(FUNDS_WITHDRAWN);
        }
        if let (None, Some(fee)) = (self.fee, news.fee) {
            self.fee = Some(fee.max(0));
            heard.movements.extend((fee > 0).then_some(Movement::Fee { amount: fee }));
        }
        let reinstated = news.reinstated.min(self.amount_withdrawn);
        if self.amount_reinstated == 0 && reinstated > 0 {
            if was_lost {
                heard.contradicts = true;
            } else {
                self.amount_reinstated = reinstated;
                heard.movements.push(Movement::DisputeWon { amount: reinstated });
                heard.events.push(FUNDS_REINSTATED);
            }
        }
        if closes {
            self.closed_at = Some(now);
            heard.events.push(CLOSED);
        }
        if self.has_lost_money() && !was_lost {
            heard.movements.push(Movement::DisputeLost { amount: self.outstanding() });
        }
        if self.status.is_closed() {
            self.under_way = None;
        }
        heard.contradicts |= was_closed && news.status.is_some_and(|told| told.is_closed() && told != self.status);
        heard
    }

    fn has_lost_money(&self) -> bool {
        self.status == DisputeStatus::Lost && self.outstanding() > 0
    }

    /// Writes evidence down: given texts are set, empty ones taken out.
    ///
    /// # Errors
    /// Refused once it is decided, and while an answer is on its way to the bank.
    pub fn note_evidence(&mut self, given: impl IntoIterator<Item = (String, Option<String>)>) -> Result<(), Refusal> {
        let mut given = given.into_iter().peekable();
        if given.peek().is_some() {
            self.answerable()?;
        }
        for (field, text) in given {
            match text {
                Some(text) => self.evidence.insert(field, text),
                None => self.evidence.remove(&field),
            };
        }
        Ok(())
    }

    /// Sets the merchant's answer under way.
    ///
    /// # Errors
    /// Refused unless the bank waits for one and none is on its way to it.
    pub fn answer(&mut self, answer: DisputeAnswer) -> Result<(), Refusal> {
        self.answerable()?;
        self.under_way = Some(answer);
        Ok(())
    }

    fn answerable(&self) -> Result<(), Refusal> {
        // What is on its way may have arrived: the bank would have one text, and the row another.
        if self.status.wants_answer() && self.under_way.is_none() {
            Ok(())
        } else {
            Err(Refusal::DisputeUnexpectedState(self.status))
        }
    }
}

#[cfg(test)]
#[path = "dispute_tests.rs"]
mod tests;
