//! What a merchant may say about an escrow and about the acts of its two sides.
//!
//! The rule: each mode takes what it needs and refuses what it has no use for, so that nobody believes
//! in a contract that nobody signs. Texts are bounded in characters and keep no control characters
//! that a page or a mail would stumble over.

use serde::Deserialize;
use utoipa::ToSchema;

use super::checkout_session_params::{currency, way_back};
use super::fields::{email, metadata, moment, seen, seen_text};
use super::params::MetadataParam;
use crate::domain::escrow::{
    Act, CONTRACT_TERMS_CHARS_MAX, DELIVERY_DAYS_MAX, INSPECTION_DAYS_DEFAULT, INSPECTION_DAYS_MAX, Mode,
    REASON_CHARS_MAX, TITLE_CHARS_MAX, TRACKING_CHARS_MAX,
};
use crate::domain::escrow_acts::Request;
use crate::domain::escrow_money::Resolution;
use crate::domain::money::Money;
use crate::domain::redirect::AllowedRedirect;
use crate::domain::session::WaysBack;
use crate::domain::unseen::Lines;
use crate::error::{Error, Result};
use crate::i18n::{LOCALE_AUTO, Locale};
use crate::ops::escrows::{NewAct, NewEscrow};

/// Largest amount, as for every payment.
const AMOUNT_MAX: i64 = 999_999_999_999;

/// How much of a contract there is.
#[derive(Deserialize, ToSchema, Debug, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum ModeParam {
    /// Both sign a contract before the buyer pays.
    Standard,
    /// Two sides, no contract.
    Quick,
    /// The merchant is the seller, and delivery completes at once.
    Instant,
}

/// Parameters of a new escrow.
#[derive(Deserialize, ToSchema, Debug)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "`expand` only has to decode: there is nothing to expand")]
pub struct CreateEscrow {
    /// What it is about, 1 to 200 characters.
    pub title: String,
    /// What the buyer pays, in minor units.
    pub amount: i64,
    /// ISO 4217 code.
    pub currency: String,
    /// `standard` unless given.
    pub mode: Option<ModeParam>,
    /// Who pays.
    pub buyer_email: String,
    /// Who delivers. Required, but for `instant`, where the merchant does.
    pub seller_email: Option<String>,
    /// Days until delivery, at least 1. Required, but for `instant`.
    pub estimated_delivery_days: Option<i64>,
    /// Days for inspection after delivery, 1 to 90; 7 unless given.
    pub inspection_days: Option<i64>,
    /// With `standard`: the merchant's words in the contract, at most 10,000 characters.
    pub contract_terms: Option<String>,
    /// With `standard`: whether the seller signs by this.
    pub auto_sign: Option<bool>,
    /// What the merchant keeps when the money is released, in minor units.
    pub application_fee_amount: Option<i64>,
    /// The merchant's own data: at most 50 keys.
    #[serde(default)]
    #[schema(value_type = std::collections::BTreeMap<String, String>)]
    pub metadata: MetadataParam,
    /// Paths to expand; there is nothing to expand.
    pub expand: Option<Vec<String>>,
}

fn missing(param: &str) -> Error {
    Error::invalid("parameter_missing", param, format!("Missing required param: {param}."))
}

fn not_in_mode(param: &str, mode: Mode) -> Error {
    let message = format!("An escrow in {} mode takes no `{param}`.", mode.as_str());
    Error::invalid("parameter_invalid", param, message)
}

fn days(param: &str, value: Option<i64>, days_max: u16) -> Result<Option<u16>> {
    let Some(value) = value else { return Ok(None) };
    match u16::try_from(value) {
        Ok(days) if (1..=days_max).contains(&days) => Ok(Some(days)),
        _ => {
            let message = format!("`{param}` must be between 1 and {days_max}.");
            Err(Error::invalid("parameter_invalid_integer", param, message))
        }
    }
}

/// A text that must say something.
fn words(param: &str, value: Option<String>, chars_max: usize) -> Result<String> {
    let value = seen_text(param, value, chars_max)?.ok_or_else(|| missing(param))?;
    let value = value.trim();
    if value.is_empty() {
        let message = format!("`{param}` must not be blank.");
        return Err(Error::invalid("parameter_invalid_empty", param, message));
    }
    Ok(value.to_owned())
}

impl CreateEscrow {
    fn total(&self) -> Result<Money> {
        let currency = currency("currency", &self.currency)?;
        match self.amount {
            ..1 => Err(Error::invalid("amount_too_small", "amount", "`amount` must be at least 1 minor unit.")),
            1..=AMOUNT_MAX => Ok(Money { minor: self.amount, currency }),
            _ => Err(Error::invalid("amount_too_large", "amount", format!("`amount` must be at most {AMOUNT_MAX}."))),
        }
    }

    /// Checks everything that can be checked without the database.
    ///
    /// # Errors
    /// `Invalid` with the first parameter at fault.
    pub fn check(self) -> Result<NewEscrow> {
        let mode = match self.mode {
            None | Some(ModeParam::Standard) => Mode::Standard,
            Some(ModeParam::Quick) => Mode::Quick,
            Some(ModeParam::Instant) => Mode::Instant,
        };
        let total = self.total()?;
        let fee_minor = self.application_fee_amount.unwrap_or(0);
        if !(0..=total.minor).contains(&fee_minor) {
            let message = "`application_fee_amount` must be between 0 and `amount`.";
            return Err(Error::invalid("parameter_invalid_integer", "application_fee_amount", message));
        }
        let title = words("title", Some(self.title), TITLE_CHARS_MAX)?;
        seen("title", &title, Lines::One)?;
        let buyer_email = email("buyer_email", Some(self.buyer_email))?.ok_or_else(|| missing("buyer_email"))?;
        let seller_email = email("seller_email", self.seller_email)?;
        let estimated_delivery_days = days("estimated_delivery_days", self.estimated_delivery_days, DELIVERY_DAYS_MAX)?;
        if seller_email.as_deref().is_some_and(|seller| seller.eq_ignore_ascii_case(&buyer_email)) {
            let message = "`seller_email` must not be the buyer's: nobody holds money for a deal with himself.";
            return Err(Error::invalid("parameter_invalid", "seller_email", message));
        }
        if mode == Mode::Instant {
            if seller_email.is_some() {
                return Err(not_in_mode("seller_email", mode));
            }
            if fee_minor > 0 {
                return Err(not_in_mode("application_fee_amount", mode));
            }
        } else if seller_email.is_none() {
            return Err(missing("seller_email"));
        } else if estimated_delivery_days.is_none() {
            return Err(missing("estimated_delivery_days"));
        }
        let contract_terms = if mode == Mode::Standard {
            Some(words("contract_terms", self.contract_terms, CONTRACT_TERMS_CHARS_MAX)?)
        } else if self.contract_terms.is_some() {
            return Err(not_in_mode("contract_terms", mode));
        } else if self.auto_sign == Some(true) {
            return Err(not_in_mode("auto_sign", mode));
        } else {
            None
        };
        Ok(NewEscrow {
            mode,
            title,
            total,
            fee_minor,
            buyer_email,
            seller_email,
            estimated_delivery_days,
            inspection_days: days("inspection_days", self.inspection_days, INSPECTION_DAYS_MAX)?
                .unwrap_or(INSPECTION_DAYS_DEFAULT),
            contract_terms,
            auto_sign: self.auto_sign.unwrap_or(false),
            metadata: metadata("metadata", self.metadata)?,
        })
    }
}

/// The acts that have a page.
#[derive(Deserialize, ToSchema, Debug, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum ActionParam {
    /// Buyer or seller, once each, `standard` only.
    SignContract,
    /// Buyer.
    AcceptPay,
    /// Buyer, not in `instant`.
    Complete,
    /// Buyer or seller.
    Dispute,
    /// Buyer.
    RequestCancellation,
    /// Seller.
    AcceptCancellation,
    /// Seller.
    RejectCancellation,
    /// Seller.
    CancelEscrow,
}

impl ActionParam {
    fn act(self) -> Act {
        match self {
            Self::SignContract => Act::SignContract,
            Self::AcceptPay => Act::AcceptPay,
            Self::Complete => Act::Complete,
            Self::Dispute => Act::Dispute,
            Self::RequestCancellation => Act::RequestCancellation,
            Self::AcceptCancellation => Act::AcceptCancellation,
            Self::RejectCancellation => Act::RejectCancellation,
            Self::CancelEscrow => Act::CancelEscrow,
        }
    }
}

/// Parameters of a session for one act.
#[derive(Deserialize, ToSchema, Debug, Clone)]
#[serde(deny_unknown_fields)]
pub struct CreateEscrowSession {
    /// The act.
    pub action: ActionParam,
    /// Who is to do it: the buyer's address, or the seller's.
    pub target_user_email: String,
    /// Where the user is sent whatever the outcome; the same as `return_url`.
    pub redirect_url: Option<String>,
    /// Where the user is sent when the outcome has no URL of its own.
    pub return_url: Option<String>,
    /// Where a user who did the act is sent.
    pub success_url: Option<String>,
    /// Where a user who gives up is sent.
    pub cancel_url: Option<String>,
    /// Where a user is sent after the deadline.
    pub expired_url: Option<String>,
    /// Where a user is sent when the act has become impossible.
    pub failed_url: Option<String>,
    /// The merchant's own data: at most 50 keys.
    #[serde(default)]
    #[schema(value_type = std::collections::BTreeMap<String, String>)]
    pub metadata: MetadataParam,
    /// The deadline in Unix seconds, 1 to 30 minutes from now; half an hour unless given.
    pub expires_at: Option<i64>,
    /// The user's language, or `auto`.
    pub locale: Option<String>,
    /// Paths to expand in the answer.
    pub expand: Option<Vec<String>>,
}

impl CreateEscrowSession {
    /// Checks everything that can be checked without the database.
    ///
    /// # Errors
    /// `Invalid` with the first parameter at fault.
    pub fn check(self, allowed: &[AllowedRedirect], livemode: bool) -> Result<NewAct> {
        let way = |param: &str, value: Option<String>| way_back(param, value, allowed, livemode);
        if self.redirect_url.is_some() && self.return_url.is_some() {
            let message = "You may pass only one of `redirect_url` and `return_url`: they are the same.";
            return Err(Error::invalid("parameters_exclusive", "redirect_url", message));
        }
        let redirect = way("redirect_url", self.redirect_url)?;
        let ways_back = WaysBack {
            success_url: way("success_url", self.success_url)?,
            cancel_url: way("cancel_url", self.cancel_url)?,
            return_url: way("return_url", self.return_url)?.or(redirect),
            expired_url: way("expired_url", self.expired_url)?,
            failed_url: way("failed_url", self.failed_url)?,
        };
        if let Some(tag) = &self.locale
            && tag != LOCALE_AUTO
            && Locale::parse(tag).is_none()
        {
            let message = "Invalid locale: must be `auto` or a language tag such as `de` or `pt-BR`.";
            return Err(Error::invalid("parameter_invalid", "locale", message));
        }
        Ok(NewAct {
            act: self.action.act(),
            target_user_email: email("target_user_email", Some(self.target_user_email))?
                .ok_or_else(|| missing("target_user_email"))?,
            ways_back,
            metadata: metadata("metadata", self.metadata)?,
            locale: self.locale,
            expires_at: self.expires_at.map(|seconds| moment("expires_at", seconds)).transpose()?,
        })
    }
}

/// That it was delivered.
#[derive(Deserialize, ToSchema, Debug)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "`expand` only has to decode: there is nothing to expand")]
pub struct DeliverEscrow {
    /// Where the parcel can be followed, at most 200 characters.
    pub tracking_reference: Option<String>,
    /// The seller's note, at most 2,000 characters.
    pub note: Option<String>,
    /// Paths to expand; there is nothing to expand.
    pub expand: Option<Vec<String>>,
}

impl DeliverEscrow {
    /// What is asked for.
    ///
    /// # Errors
    /// `Invalid` with the parameter at fault.
    pub fn request(self) -> Result<Request> {
        Ok(Request::Deliver {
            tracking_reference: seen_text("tracking_reference", self.tracking_reference, TRACKING_CHARS_MAX)?,
            note: seen_text("note", self.note, REASON_CHARS_MAX)?,
        })
    }
}

/// That the delivery is not accepted.
#[derive(Deserialize, ToSchema, Debug)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "`expand` only has to decode: there is nothing to expand")]
pub struct RejectDelivery {
    /// Why, at most 2,000 characters.
    pub reason: String,
    /// Paths to expand; there is nothing to expand.
    pub expand: Option<Vec<String>>,
}

impl RejectDelivery {
    /// What is asked for.
    ///
    /// # Errors
    /// `Invalid` with the parameter at fault.
    pub fn request(self) -> Result<Request> {
        Ok(Request::RejectDelivery { reason: words("reason", Some(self.reason), REASON_CHARS_MAX)? })
    }
}

/// How a dispute is decided.
#[derive(Deserialize, ToSchema, Debug, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum ResolutionParam {
    /// All to the seller.
    Release,
    /// All back to the buyer.
    Refund,
    /// A part each.
    Split,
}

/// A decision.
#[derive(Deserialize, ToSchema, Debug)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "`expand` only has to decode: there is nothing to expand")]
pub struct ResolveEscrow {
    /// `release`, `refund` or `split`.
    pub resolution: ResolutionParam,
    /// With `split`: minor units back to the buyer; zero only where he has got a part already.
    pub refund_amount: Option<i64>,
    /// With `split`: minor units to the seller, before the merchant's fee. Together they are what is held of the escrow and
    /// was not lost in a dispute at the buyer's bank.
    pub release_amount: Option<i64>,
    /// Paths to expand; there is nothing to expand.
    pub expand: Option<Vec<String>>,
}

impl ResolveEscrow {
    /// What is asked for.
    ///
    /// # Errors
    /// `Invalid` with the parameter at fault.
    pub fn request(self) -> Result<Request> {
        let resolution = match self.resolution {
            ResolutionParam::Split => Resolution::Split {
                refund: self.refund_amount.ok_or_else(|| missing("refund_amount"))?,
                release: self.release_amount.ok_or_else(|| missing("release_amount"))?,
            },
            other => {
                for (param, amount) in [("refund_amount", self.refund_amount), ("release_amount", self.release_amount)]
                {
                    if amount.is_some() {
                        let message = format!("`{param}` goes with `resolution=split` only.");
                        return Err(Error::invalid("parameters_exclusive", param, message));
                    }
                }
                if other == ResolutionParam::Release { Resolution::Release } else { Resolution::Refund }
            }
        };
        Ok(Request::Resolve(resolution))
    }
}
