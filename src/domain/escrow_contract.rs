//! The text that both sides of an escrow sign.
//!
//! The rule: it is made once, when the escrow is made, and kept; what is shown, signed and hashed are
//! the same bytes. It says who, what and for how much above the merchant's own terms, so that a
//! signature cannot be moved under another deal.

use sha2::{Digest, Sha256};

use super::escrow::Contract;
use super::money::Money;

/// What a contract is about.
#[derive(Debug)]
pub struct Deal<'a> {
    /// The escrow's id.
    pub escrow: &'a str,
    /// What it is about.
    pub title: &'a str,
    /// Who pays.
    pub buyer_email: &'a str,
    /// Who delivers.
    pub seller_email: &'a str,
    /// What is paid.
    pub total: Money,
    /// What the merchant keeps of it, in minor units.
    pub fee_minor: i64,
    /// Days until delivery.
    pub delivery_days: u16,
    /// Days for inspection.
    pub inspection_days: u16,
    /// The merchant's words.
    pub terms: &'a str,
}

/// An amount that needs no locale: digits, a point and the currency's code.
pub fn plain_amount(money: Money) -> String {
    let places = usize::from(money.currency.exponent());
    let digits = format!("{:0>width$}", money.minor, width = places + 1);
    let (whole, fraction) = digits.split_at(digits.len() - places);
    let separator = if fraction.is_empty() { "" } else { "." };
    format!("{whole}{separator}{fraction} {}", money.currency.code().to_ascii_uppercase())
}

impl Contract {
    /// Writes the contract of a deal.
    pub fn new(deal: &Deal<'_>) -> Self {
        let fee = Money { minor: deal.fee_minor, currency: deal.total.currency };
        let terms = deal.terms.replace("\r\n", "\n");
        let text = format!(
            "Contract for escrow {}\n\nSubject: {}\nBuyer: {}\nSeller: {}\nPrice: {}\nFee kept out of the price: {}\n\
             Estimated delivery: {} days\nInspection after delivery: {} days\n\nTerms\n\n{}\n",
            deal.escrow,
            deal.title,
            deal.buyer_email,
            deal.seller_email,
            plain_amount(deal.total),
            plain_amount(fee),
            deal.delivery_days,
            deal.inspection_days,
            terms.trim_end(),
        );
        let sha256 = Sha256::digest(text.as_bytes()).into();
        Self { terms, text, sha256 }
    }
}
