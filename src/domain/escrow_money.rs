//! Who gets what of an escrow's money.
//!
//! The rule: what goes back, what the seller gets and what the merchant keeps are never negative and
//! sum to what was paid. Arithmetic is checked, and a share is rounded down in the seller's favour.

use super::escrow::{Escrow, Mode};
use super::refusal::Refusal;

/// Who gets what, in minor units.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settlement {
    /// Back to the buyer.
    pub buyer: i64,
    /// To the seller.
    pub seller: i64,
    /// To the merchant: his fee, or all that is released where he is the seller.
    pub merchant: i64,
    /// Of the buyer's part, what his bank has taken back for him: the provider is not asked for it.
    pub lost: i64,
}

impl Settlement {
    /// What the seller and the merchant get together.
    pub fn released(self) -> i64 {
        self.seller.saturating_add(self.merchant)
    }
}

/// How a dispute is decided.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resolution {
    /// All to the seller.
    Release,
    /// All back to the buyer.
    Refund,
    /// A part each.
    Split {
        /// Back to the buyer, in minor units.
        refund: i64,
        /// To the seller, before the merchant's fee.
        release: i64,
    },
}

impl Resolution {
    /// The word on the wire and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Refund => "refund",
            Self::Split { .. } => "split",
        }
    }
}

/// Reads the word that was stored for a resolution.
pub fn resolution_word(word: &str) -> Option<&'static str> {
    ["release", "refund", "split"].into_iter().find(|known| *known == word)
}

/// The merchant's share of a part of the money: as much of the fee as the part is of the whole, rounded down.
fn share(fee: i64, part: i64, whole: i64) -> Option<i64> {
    let share = i128::from(fee).checked_mul(i128::from(part))?.checked_div(i128::from(whole))?;
    i64::try_from(share).ok()
}

impl Escrow {
    /// Divides the money. What has gone back already, and what the buyer's bank took for good, is his; of the rest a
    /// refund gives him all and a split a part, which may then be none. A release leaves the seller all that has not gone
    /// back: what the bank took is then the merchant's loss.
    ///
    /// # Errors
    /// Refused when the parts of a split are not what is left, or one is zero that may not be.
    pub fn settle(&self, resolution: Resolution) -> Result<Settlement, Refusal> {
        let whole = self.total.minor;
        let returned = self.returned_minor;
        let lost = if resolution == Resolution::Release { 0 } else { self.lost_minor() };
        let gone = returned.saturating_add(lost);
        let left = whole.saturating_sub(gone);
        let wrong = Refusal::EscrowSplitNotWhole { whole: left };
        let released = match resolution {
            Resolution::Release => left,
            Resolution::Refund => 0,
            Resolution::Split { refund, release } => {
                let least = i64::from(gone == 0);
                if refund < least || release < 1 || refund.checked_add(release) != Some(left) {
                    return Err(wrong);
                }
                release
            }
        };
        let buyer = whole.saturating_sub(released);
        if self.mode == Mode::Instant {
            return Ok(Settlement { buyer, seller: 0, merchant: released, lost });
        }
        let merchant = share(self.fee_minor, released, whole).ok_or(wrong)?;
        let seller = released.checked_sub(merchant).ok_or(wrong)?;
        Ok(Settlement { buyer, seller, merchant, lost })
    }
}
